"""The intake journal on SQLite: rows are durable here before anybody is told so.

Takes batches from many threads and processes; gives them back in order until they are forgotten; never
acknowledges a batch before its commit reached the disk.
"""

from __future__ import annotations

import errno
import io
import queue
import sqlite3
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from everfit.errors import DiskFull, Unavailable, UsageError
from everfit.ports import Batch, Table

if sys.platform != "win32":
    import fcntl

_OURS = 0x45764A31  # "EvJ1": the file says whose it is
_PATIENCE = 60.0  # seconds to wait for another process's transaction
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC})
_AT_ONCE = 900  # ids asked for in one query: below SQLite's oldest limit on variables
_SHAPE = """
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, height INTEGER NOT NULL, rows BLOB NOT
    NULL); CREATE TABLE IF NOT EXISTS taken (kind TEXT, id TEXT, said TEXT NOT NULL, PRIMARY KEY (kind, id))
    WITHOUT ROWID; CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT
    ROWID;
"""


@dataclass(frozen=True, slots=True)
class _Ask:
    """Batches of one caller on their way to the disk."""

    batches: tuple[tuple[str, int, bytes], ...]
    done: Future[int]


class SqliteJournal:
    """`ports.Journal` in one file. Several processes may open it; one of them moves.

    Appends that wait together are committed together (SQLite in WAL mode, synchronous FULL), so that a
    hundred callers cost one flush of the disk.
    """

    def __init__(self, path: Path, *, most_bytes: int | None = None) -> None:
        """Open or create the file.

        Args:
            path: the file; its folder is made.
            most_bytes: how large it may grow; beyond, appends raise DiskFull until something was moved on.

        Raises:
            UsageError: the file is there and is not a journal.
        """
        self._path, self._most_bytes = path, most_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._reading = threading.Lock()
        self._connection = self._open()
        self.key = self._about()
        self._asks: queue.SimpleQueue[_Ask | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._writer: threading.Thread | None = None
        self._closed = False

    def append(self, batches: Sequence[Batch]) -> int:
        """Make batches durable in one commit; the number of the last.

        Raises:
            DiskFull: no space; nothing of these batches was kept.
        """
        packed = tuple(
            (batch.table.value, batch.rows.height, _pack(batch.rows)) for batch in batches if batch.rows.height
        )
        if not packed:
            return self.last()
        ask = _Ask(packed, Future())
        with self._starting:
            if self._closed:
                raise Unavailable(f"the journal {self._path} is closed; nothing was taken")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_on, name="everfit-journal", daemon=True)
                self._writer.start()
            self._asks.put(ask)
        return ask.done.result()

    def waiting(self, most_rows: int) -> list[Batch]:
        """The oldest batches not yet forgotten, in order; whole batches, at least one if any is there."""
        found: list[Batch] = []
        rows = 0
        with self._ready() as connection:
            for number, kind, height, packed in connection.execute(
                "SELECT number, kind, height, rows FROM waiting ORDER BY number"
            ):
                if found and rows + height > most_rows:
                    break
                found.append(Batch(Table(kind), _unpack(packed), number))
                rows += height
        return found

    def known(self, table: Table, ids: Sequence[str]) -> dict[str, str]:
        """Which of these ids were taken before, with the fingerprint of what they said."""
        found: dict[str, str] = {}
        with self._ready() as connection:
            for at in range(0, len(ids), _AT_ONCE):
                some = ids[at : at + _AT_ONCE]
                marks = ",".join("?" * len(some))
                # Only question marks are put into the text.
                ask = f"SELECT id, said FROM taken WHERE kind = ? AND id IN ({marks})"
                found.update(connection.execute(ask, (table.value, *some)))
        return found

    def forget(self, upto: int, taken: Mapping[Table, Mapping[str, str]]) -> None:
        """Drop batches up to a number, safe elsewhere by now, and remember the ids they brought, in one commit."""
        with self._ready() as connection, _unhurried(connection), _commit(connection):
            connection.execute("DELETE FROM waiting WHERE number <= ?", (upto,))
            for table, ids in taken.items():
                # In order of the key, so that the tree is filled from one side of a page to the other.
                connection.executemany(
                    "INSERT OR IGNORE INTO taken VALUES (?, ?, ?)",
                    ((table.value, id_, said) for id_, said in sorted(ids.items())),
                )

    def last(self) -> int:
        """The number of the last acknowledged batch; 0 if none ever was."""
        with self._ready() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'waiting'").fetchone()
        return int(row[0]) if row else 0

    def pending(self) -> int:
        """How many rows wait to be moved."""
        with self._ready() as connection:
            return int(connection.execute("SELECT coalesce(sum(height), 0) FROM waiting").fetchone()[0])

    def close(self) -> None:
        """Commit what is under way and let the file go; a second time is a no-op."""
        with self._starting:
            if self._closed:
                return
            self._closed = True
            self._asks.put(None)
        if self._writer is not None:
            self._writer.join()
        with self._reading:
            self._connection.close()

    def _about(self) -> str:
        """The journal's own key: numbers are only comparable within one journal."""
        with self._ready() as connection, _commit(connection):
            connection.execute("INSERT OR IGNORE INTO about VALUES ('key', ?)", (uuid.uuid4().hex,))
            return str(connection.execute("SELECT value FROM about WHERE name = 'key'").fetchone()[0])

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise _meant(error, self._path) from error
            raise UsageError(
                f"{self._path} is not a journal of Everfit, or it is damaged ({error}); "
                "move it away, and keep it if it held rows that are not in the lake yet"
            ) from error
        except UsageError:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
        tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        if tables and owner != _OURS:
            raise UsageError(f"{self._path} belongs to another program; name another place for the journal")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        if self._most_bytes is not None:
            page = int(connection.execute("PRAGMA page_size").fetchone()[0])
            connection.execute(f"PRAGMA max_page_count = {max(1, self._most_bytes // page)}")
        if not tables:
            with _commit(connection):
                connection.execute(f"PRAGMA application_id = {_OURS}")
                for statement in filter(str.strip, _SHAPE.split(";")):
                    connection.execute(statement)

    @contextmanager
    def _ready(self) -> Iterator[sqlite3.Connection]:
        """The connection for everything but appends, one caller at a time."""
        with self._reading:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise _meant(error, self._path) from error

    def _write_on(self) -> None:
        """The writer's life: commit all that waits, tell the callers, begin again."""
        connection: sqlite3.Connection | None = None
        closing = False
        while not closing:
            asks = self._gathered()
            told = [ask for ask in asks if ask is not None]
            closing = len(told) < len(asks)
            try:
                connection = connection or self._open()
                with self._turn():
                    numbers = _insert(connection, told)
            except Exception as error:  # whatever it was, each caller must hear that nothing was kept
                for ask in told:
                    ask.done.set_exception(_meant(error, self._path))
            else:
                for ask, number in zip(told, numbers, strict=True):
                    ask.done.set_result(number)
        if connection is not None:
            connection.close()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for other processes that append. SQLite itself sleeps between looks at its lock, and one may starve."""
        if sys.platform == "win32":
            yield
            return
        with self._path.with_name(f"{self._path.name}-turn").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)  # ends with the process that holds it
            yield

    def _gathered(self) -> list[_Ask | None]:
        asks = [self._asks.get()]
        with suppress(queue.Empty):
            while True:
                asks.append(self._asks.get_nowait())
        return asks


def _insert(connection: sqlite3.Connection, asks: Sequence[_Ask]) -> list[int]:
    """All batches in one commit; the last number of each ask."""
    numbers: list[int] = []
    with _commit(connection):
        for ask in asks:
            number = 0
            for batch in ask.batches:
                number = connection.execute("INSERT INTO waiting VALUES (NULL, ?, ?, ?)", batch).lastrowid or 0
            numbers.append(number)
    return numbers


@contextmanager
def _unhurried(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits that need not wait for the disk: forgetting that a power cut undoes is only done again."""
    connection.execute("PRAGMA synchronous=NORMAL")
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous=FULL")


@contextmanager
def _commit(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction that takes the file's write lock at once, so that numbers rise with the commits."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _meant(error: Exception, path: Path) -> Unavailable:
    """What an error of SQLite means to the caller."""
    code = getattr(error, "sqlite_errorcode", None)
    full = code in _FULL or (isinstance(error, OSError) and error.errno == errno.ENOSPC)
    told = (
        DiskFull(f"no space is left for {path}; nothing was kept: make room, or wait until rows are moved on")
        if full
        else Unavailable(f"the journal {path} does not answer ({error}); nothing was kept, try again")
    )
    told.__cause__ = error
    return told


def _pack(rows: pl.DataFrame) -> bytes:
    packed = io.BytesIO()
    # A clone, for polars locks a frame while it writes it and waits for Python meanwhile: two threads that
    # write or read one frame would wait for each other for ever (seen with polars 2.1).
    rows.clone().write_ipc_stream(packed, compression="lz4")
    return packed.getvalue()


def _unpack(packed: bytes) -> pl.DataFrame:
    return pl.read_ipc_stream(io.BytesIO(packed))
