"""The ledger, its leases and notes in SQL: SQLite in WAL by default, PostgreSQL by URL. The one door to SQLAlchemy.

Takes facts to append; gives entries; never folds or decides. Each append is one transaction that checks the lease, the
step and the chain, so whoever comes second, or back from the dead, writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, IntegrityError, SQLAlchemyError

from everfit.clock import BEGINNING, wall
from everfit.errors import Conflict, DiskFull, LeaseLost, LedgerTampered, Unavailable
from everfit.facts import FACTS
from everfit.ids import content_key, share_of
from everfit.ledger import Entry, sealed
from everfit.ports import Lease, Write

HEAD = "0001"  # the newest migration; `adapters/migrations/versions` holds the way there
BUSY = 30  # seconds that a SQLite writer waits for another

META = sa.MetaData()
ENTRIES = sa.Table(
    "entries", META,
    *(sa.Column(name, sa.Integer if name in ("number", "step") else sa.Text)
      for name in ("model", "number", "run", "step", "kind", "body", "at", "by", "previous", "hash", "written")),
)  # fmt: skip
RUNS = sa.Table(
    "runs",
    META,
    *(sa.Column(n, sa.Text) for n in ("model", "run", "wake_at")),
    sa.Column("ended", sa.Boolean),
)
LEASES = sa.Table(
    "leases", META, sa.Column("name", sa.Text), sa.Column("owner", sa.Text), sa.Column("token", sa.Integer),
    sa.Column("until", sa.Float),
)  # fmt: skip
NOTES = sa.Table("notes", META, sa.Column("key", sa.Text), sa.Column("content", sa.LargeBinary))
MARKS = sa.Table("marks", META, sa.Column("name", sa.Text), sa.Column("value", sa.Text))


class SqlStore:
    """Ledger, Leases and Notes of `everfit.ports` over one database. Thread-safe; cheap to open."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._sqlite = url.startswith("sqlite")
        if self._sqlite:
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self._engine = _engine(url)
        self._current = False

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    # ---- the ledger --------------------------------------------------------------------------------------------------
    def read(self, model: str, *, run: str | None = None, after: int = 0) -> list[Entry]:
        """Entries of a model in order, of one run or of all, after a number."""
        query = sa.select(ENTRIES).where(ENTRIES.c.model == model, ENTRIES.c.number > after).order_by(ENTRIES.c.number)
        if run is not None:
            query = query.where(ENTRIES.c.run == run)
        with self._transaction(writes=False) as connection:
            return [_entry(row._mapping) for row in connection.execute(query)]

    def append(self, write: Write) -> Entry:
        """Write one fact, or raise `Conflict` or `LeaseLost` and write nothing."""
        with self._transaction() as connection:
            self._one_at_a_time(connection, write.model)
            if write.lease is not None:
                self._check_lease(connection, write.lease)
            _check_step(connection, write)
            entry = sealed(
                _last(connection, write.model),
                (write.run, write.step),
                write.fact,
                write.at,
                (write.model, write.by),
            )
            connection.execute(sa.insert(ENTRIES).values(_row(entry)))
            _note_run(connection, write)
            return entry

    def due(self, model: str, now: datetime) -> list[str]:
        """Runs that have not ended and whose moment has come, oldest first."""
        return [run for run, wake in self.sleepers(model).items() if wake <= now]

    def sleepers(self, model: str) -> dict[str, datetime]:
        """Runs that have not ended, with the moment at which each wakes, the earliest first."""
        query = sa.select(RUNS.c.run, RUNS.c.wake_at).where(RUNS.c.model == model, RUNS.c.ended.is_(sa.false()))
        with self._transaction(writes=False) as connection:
            rows = connection.execute(query.order_by(RUNS.c.wake_at, RUNS.c.run)).all()
        return {run: datetime.fromisoformat(wake) for run, wake in rows}

    def models(self) -> list[str]:
        """Every model that the ledger knows."""
        with self._transaction(writes=False) as connection:
            return [
                name for (name,) in connection.execute(sa.select(ENTRIES.c.model).distinct().order_by(ENTRIES.c.model))
            ]

    # ---- leases ------------------------------------------------------------------------------------------------------
    def take(self, name: str, owner: str, hold: timedelta) -> Lease | None:
        """Take a free or expired lease; None if somebody holds it."""
        with self._transaction() as connection:
            self._one_at_a_time(connection, name)
            now = self._now(connection)
            held = connection.execute(sa.select(LEASES).where(LEASES.c.name == name)).mappings().first()
            if held and held["until"] > now:
                return None
            token = held["token"] + 1 if held else 1
            value = {"name": name, "owner": owner, "token": token, "until": now + hold.total_seconds()}
            if held:
                connection.execute(sa.update(LEASES).where(LEASES.c.name == name).values(value))
            else:
                connection.execute(sa.insert(LEASES).values(value))
            return Lease(name, owner, token)

    def beat(self, lease: Lease, hold: timedelta) -> bool:
        """Hold on; False if it was lost."""
        with self._transaction() as connection:
            now = self._now(connection)
            mine = (LEASES.c.name == lease.name) & (LEASES.c.token == lease.token) & (LEASES.c.until > now)
            done = connection.execute(sa.update(LEASES).where(mine).values(until=now + hold.total_seconds()))
            return done.rowcount == 1

    def drop(self, lease: Lease) -> None:
        """Give it back; a no-op if it was lost."""
        with self._transaction() as connection:
            mine = (LEASES.c.name == lease.name) & (LEASES.c.token == lease.token)
            connection.execute(sa.update(LEASES).where(mine).values(until=0.0))

    # ---- notes and marks ---------------------------------------------------------------------------------------------
    def put(self, content: bytes) -> str:
        """Keep bytes; their content key."""
        key = content_key(content.hex())
        with self._transaction() as connection:
            if connection.execute(sa.select(NOTES.c.key).where(NOTES.c.key == key)).first() is None:
                connection.execute(sa.insert(NOTES).values(key=key, content=content))
        return key

    def get(self, key: str) -> bytes:
        """Bytes that were put."""
        with self._transaction(writes=False) as connection:
            found = connection.execute(sa.select(NOTES.c.content).where(NOTES.c.key == key)).scalar()
        if found is None:
            raise LedgerTampered(f"note {key} is missing beside the ledger; restore the database from a copy")
        return bytes(found)

    def mark(self, name: str, value: str) -> None:
        """Set a mark."""
        with self._transaction() as connection:
            done = connection.execute(sa.update(MARKS).where(MARKS.c.name == name).values(value=value))
            if done.rowcount == 0:
                connection.execute(sa.insert(MARKS).values(name=name, value=value))

    def marked(self, name: str) -> str | None:
        """Read a mark; None if it was never set."""
        with self._transaction(writes=False) as connection:
            return connection.execute(sa.select(MARKS.c.value).where(MARKS.c.name == name)).scalar()

    # ---- the database ------------------------------------------------------------------------------------------------
    @contextmanager
    def _transaction(self, *, writes: bool = True) -> Iterator[sa.Connection]:
        try:
            self._make_current()
            with self._engine.connect() as connection:
                if self._sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
                yield connection
                connection.commit()
        except IntegrityError as error:
            raise Conflict("somebody else wrote this first; nothing was written") from error
        except DatabaseError as error:
            raise _outage(error, self.url) from error
        except SQLAlchemyError as error:
            raise Unavailable(f"the ledger's database does not answer: {error}") from error

    def _make_current(self) -> None:
        """Bring the schema up to date. Alembic is imported only where there is something to do: it takes time."""
        if self._current:
            return
        with self._engine.connect() as connection:
            known = sa.inspect(connection).has_table("alembic_version")
            version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if known else None
        if version != HEAD:
            self._migrate()
        self._current = True

    def _migrate(self) -> None:
        from alembic import command  # noqa: PLC0415 - takes time, and is needed once in a database's life
        from alembic.config import Config  # noqa: PLC0415 - as above

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._engine.connect() as connection:
            if self._sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7301)")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()

    def _one_at_a_time(self, connection: sa.Connection, name: str) -> None:
        """Writers of one chain or lease queue up. SQLite has one writer anyway."""
        if not self._sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7302, :key)"), {"key": share_of(name, 2**31)})

    def _now(self, connection: sa.Connection) -> float:
        """Seconds by the database's clock, so that machines need not agree on the hour."""
        if self._sqlite:
            return wall().timestamp()
        return float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())

    def _check_lease(self, connection: sa.Connection, lease: Lease) -> None:
        held = connection.execute(
            sa.select(LEASES).where(LEASES.c.name == lease.name).with_for_update()
        ).mappings().first()  # fmt: skip
        if held is None or held["token"] != lease.token or held["until"] <= self._now(connection):
            raise LeaseLost(f"{lease.owner} no longer holds {lease.name}; somebody else goes on")


def _engine(url: str) -> sa.Engine:
    if not url.startswith("sqlite"):
        try:
            return sa.create_engine(url, pool_pre_ping=True, pool_size=4)
        except ModuleNotFoundError as error:
            scheme = url.split(":", maxsplit=1)[0]
            raise Unavailable(f"{scheme} needs a driver: pip install 'everfit[postgres]'") from error
    engine = sa.create_engine(url, connect_args={"timeout": BUSY})

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun by us, with IMMEDIATE where they write
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _outage(error: DatabaseError, url: str) -> Unavailable:
    reason = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
    where = url.rsplit("@", maxsplit=1)[-1]  # never the password
    if "disk is full" in reason:
        return DiskFull(f"the disk of the ledger {where} is full; free some space, nothing was lost")
    return Unavailable(f"the ledger's database {where} does not answer: {reason}")


def _check_step(connection: sa.Connection, write: Write) -> None:
    of_run = (ENTRIES.c.model == write.model) & (ENTRIES.c.run == write.run)
    last = connection.execute(sa.select(sa.func.max(ENTRIES.c.step)).where(of_run)).scalar() or 0
    if write.step != last + 1:
        raise Conflict(
            f"{write.run} is at step {last}, not {write.step - 1}: somebody else went on; nothing was written"
        )


def _last(connection: sa.Connection, model: str) -> Entry | None:
    query = sa.select(ENTRIES).where(ENTRIES.c.model == model).order_by(ENTRIES.c.number.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return _entry(row) if row else None


def _note_run(connection: sa.Connection, write: Write) -> None:
    values = {"wake_at": _iso(write.wake_at or BEGINNING), "ended": write.ends}
    this = (RUNS.c.model == write.model) & (RUNS.c.run == write.run)
    if connection.execute(sa.update(RUNS).where(this).values(values)).rowcount == 0:
        connection.execute(sa.insert(RUNS).values(model=write.model, run=write.run, **values))


def _row(entry: Entry) -> dict[str, Any]:
    names = ("model", "number", "run", "step", "kind", "by", "previous", "hash")
    plain = {name: getattr(entry, name) for name in names}
    return plain | {"body": json.dumps(entry.body), "at": _iso(entry.at), "written": _iso(wall())}


def _entry(row: Any) -> Entry:
    names = ("model", "number", "run", "step", "kind", "by", "previous", "hash")
    if row["kind"] not in FACTS:
        raise LedgerTampered(
            f"entry {row['number']} is a {row['kind']!r}, which this version of Everfit does not know; update it"
        )
    return Entry(**{n: row[n] for n in names}, body=json.loads(row["body"]), at=datetime.fromisoformat(row["at"]))


def _iso(moment: datetime) -> str:
    """Fixed width, so that text sorts as time does."""
    return (
        moment.astimezone(UTC).isoformat(timespec="microseconds")
        if moment > BEGINNING
        else "0001-01-01T00:00:00.000000+00:00"
    )
