"""Laws of the ports, for whoever plugs in an adapter of their own.

Takes a function that makes a fresh adapter; gives laws, each a callable with a sentence; never knows an adapter. Run
them with `@pytest.mark.parametrize("law", check_lake(make), ids=str)` and `law()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import polars as pl

from everfit.detect.stream import Method
from everfit.detector_checks import DUTIES
from everfit.errors import Conflict, EverfitError, LeaseLost
from everfit.facts import Paused
from everfit.gateway_checks import GATEWAY_DUTIES, MODEL
from everfit.ledger import verify
from everfit.observe.intake import LABEL_COLUMNS, PREDICTION_COLUMNS, REFUSED_COLUMNS, SHADOW_COLUMNS
from everfit.ports import (
    Batch,
    Gateway,
    Journal,
    Lake,
    Leases,
    Ledger,
    Registration,
    Registry,
    Table,
    Write,
)
from everfit.retrain.candidate import Candidate
from everfit.trainer_checks import TRAINER_DUTIES, Bout

START = datetime(2013, 1, 1, tzinfo=UTC)
LONG, NONE = timedelta(minutes=1), timedelta(0)
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Law:
    """One duty of a port. Calling it raises AssertionError when it is not kept."""

    said: str
    keep: Callable[[], None]

    def __call__(self) -> None:
        """Check it on a fresh adapter."""
        self.keep()

    def __str__(self) -> str:
        return self.said


def _laws(make: Callable[[], A], keeps: Sequence[Callable[[A], None]]) -> Iterator[Law]:
    """Laws whose sentence is the first line of their function's docstring."""
    for keep in keeps:
        said = (keep.__doc__ or keep.__name__).strip().splitlines()[0].rstrip(".")
        yield Law(said, lambda keep=keep: keep(make()))  # type: ignore[misc]  # a default binds the loop's variable


def _must(holds: bool, said: str) -> None:
    if not holds:
        raise AssertionError(said)


def _refuses(kind: type[EverfitError], do: Callable[[], object]) -> None:
    try:
        do()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected, and nothing was raised")


# ---- detectors -------------------------------------------------------------------------------------------------------
def check_detector(method: Method) -> list[Law]:
    """The duties of `detect.stream.Detector`, and the promise of those that take a rate of false alarms.

    >>> from everfit.detect.stream import DETECTORS
    >>> for law in check_detector(DETECTORS["everfit"]):
    ...     law()
    """
    return list(_laws(lambda: method, DUTIES))


# ---- trainers --------------------------------------------------------------------------------------------------------
def check_trainer(make: Callable[[], Bout]) -> list[Law]:
    """The duties of `ports.Trainer`, save surviving what a model can do to a process: that takes a model that does it.

    `make` gives a fresh trainer and a job of `trainer_checks.Bout`; each law trains once or twice.
    """
    return list(_laws(make, TRAINER_DUTIES))


# ---- the ledger ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Book:
    """A ledger with the leases that its writes are held to."""

    ledger: Ledger
    leases: Leases


def check_ledger(make: Callable[[], Book]) -> list[Law]:
    """The duties of `ports.Ledger` and `ports.Leases`.

    >>> from everfit.testing import MemoryLedger
    >>> for law in check_ledger(lambda: Book((ledger := MemoryLedger()), ledger.leases)):
    ...     law()
    """
    return list(_laws(make, (_chained, _once_a_step, _own_chains, _held_to_leases, _sleeping, _one_holds, _runs_out)))


def _write(step: int, run: str = "renew-a", model: str = MODEL, **rest: object) -> Write:
    return Write(model, run, step, Paused(f"{run} {step}"), START, "law", **rest)  # type: ignore[arg-type]  # a builder


def _chained(book: Book) -> None:
    """Entries are numbered from 1, read back as they were written, and their chain holds."""
    wrote = [book.ledger.append(_write(step)) for step in (1, 2)] + [book.ledger.append(_write(1, "people"))]
    entries = book.ledger.read(MODEL)
    verify(entries)
    _must(entries == wrote, f"{entries} were read, {wrote} were written")
    _must([entry.number for entry in entries] == [1, 2, 3], "numbers do not begin at 1")
    _must(book.ledger.read(MODEL, after=1) == wrote[1:], "`after` leaves out the wrong entries")
    _must(book.ledger.read(MODEL, run="people") == wrote[2:], "`run` gives another run's entries")


def _once_a_step(book: Book) -> None:
    """Each step of a run is written once, in order; who comes second writes nothing."""
    book.ledger.append(_write(1))
    for step in (0, 1, 3):
        _refuses(Conflict, lambda step=step: book.ledger.append(_write(step)))  # type: ignore[misc]  # binds the variable
    _must(len(book.ledger.read(MODEL)) == 1, "a refused write left an entry")


def _own_chains(book: Book) -> None:
    """Models have chains of their own."""
    book.ledger.append(_write(1))
    other = book.ledger.append(_write(1, model="everfit-other-law"))
    _must(other.number == 1, "the second model's chain does not begin at 1")
    _must(len(book.ledger.read(MODEL)) == 1, "one model's entries are read as another's")
    _must({MODEL, "everfit-other-law"} <= set(book.ledger.models()), "a model that has entries is not named")


def _held_to_leases(book: Book) -> None:
    """Who no longer holds the lease of a write writes nothing."""
    dead = book.leases.take("law", "one", NONE)
    alive = book.leases.take("law", "two", LONG)
    _refuses(LeaseLost, lambda: book.ledger.append(_write(1, lease=dead)))
    book.ledger.append(_write(1, lease=alive))
    _must(len(book.ledger.read(MODEL)) == 1, "a zombie wrote")


def _sleeping(book: Book) -> None:
    """Runs are due from the moment at which they wake until they end, the earliest first."""
    book.ledger.append(_write(1, "renew-late", wake_at=START + LONG))
    book.ledger.append(_write(1, "renew-soon"))
    book.ledger.append(_write(1, "renew-over", ends=True))
    _must(book.ledger.due(MODEL, START) == ["renew-soon"], "what is due before its time, or ended")
    _must(book.ledger.due(MODEL, START + LONG) == ["renew-soon", "renew-late"], "what is due is not in order")
    _must(set(book.ledger.sleepers(MODEL)) == {"renew-soon", "renew-late"}, "a run that ended sleeps")
    book.ledger.append(_write(2, "renew-soon", ends=True))
    _must(book.ledger.due(MODEL, START) == [], "a run that ended is due")


def _one_holds(book: Book) -> None:
    """A lease is held by one; given back, it is another's with a higher token."""
    first = book.leases.take("law", "one", LONG)
    if first is None:
        raise AssertionError("a free lease was not given")
    _must(book.leases.take("law", "two", LONG) is None, "two hold one lease")
    _must(book.leases.beat(first, LONG), "the holder's heartbeat was refused")
    book.leases.drop(first)
    second = book.leases.take("law", "two", LONG)
    _must(second is not None and second.token > first.token, "the token does not rise with a change of hands")
    book.leases.drop(first)
    _must(book.leases.take("law", "three", LONG) is None, "who lost a lease gave back another's")


def _runs_out(book: Book) -> None:
    """A lease that ran out is lost, even if nobody took it."""
    lost = book.leases.take("law", "one", NONE)
    if lost is None:
        raise AssertionError("a free lease was not given")
    _must(not book.leases.beat(lost, LONG), "a lease that ran out beats on")


# ---- the lake --------------------------------------------------------------------------------------------------------
def check_lake(make: Callable[[], Lake]) -> list[Law]:
    """The duties of `ports.Lake`.

    >>> from everfit.testing import MemoryLake
    >>> for law in check_lake(MemoryLake):
    ...     law()
    """
    return list(_laws(make, (_empty_tables, _batch_once, _half_open, _pinned, _tidied)))


def lake_rows(name: str, hours: int = 3) -> pl.DataFrame:
    """Predictions in the lake's columns, one an hour."""
    times = [START + timedelta(hours=hour) for hour in range(hours)]
    told = {"_id": [f"{name}-{hour}" for hour in range(hours)], "_time": times, "_arrived": times,
            "_late": [False] * hours, "_day": [time.date() for time in times]}  # fmt: skip
    rest: dict[str, list[None]] = {column: [None] * hours for column in PREDICTION_COLUMNS if column not in told}
    whole = pl.DataFrame({**told, **rest}, schema_overrides=PREDICTION_COLUMNS)
    return whole.select(*PREDICTION_COLUMNS, pl.lit(1.5).alias("price"))


def _ids(lake: Lake, *, since: int | None = None, until: int | None = None, version: int | None = None) -> list[str]:
    span = [None if hour is None else START + timedelta(hours=hour) for hour in (since, until)]
    found = lake.read(Table.PREDICTIONS, since=span[0], until=span[1], version=version).collect()
    return sorted(found["_id"])


def _empty_tables(lake: Lake) -> None:
    """A table without rows reads as an empty frame with the columns of its table."""
    columns = {
        Table.PREDICTIONS: PREDICTION_COLUMNS,
        Table.LABELS: LABEL_COLUMNS,
        Table.REFUSED: REFUSED_COLUMNS,
        Table.SHADOW: SHADOW_COLUMNS,
    }
    for table, wanted in columns.items():
        found = lake.read(table, since=None, until=None).collect()
        _must(found.is_empty() and set(wanted) <= set(found.columns), f"{table} has {found.columns}")
        _must(lake.added(table, "law") == 0, f"{table} has batches before any was added")


def _batch_once(lake: Lake) -> None:
    """A batch of a source is added once, and none that is older than its last."""
    lake.add(Table.PREDICTIONS, lake_rows("a"), source="law", batch=2)
    for batch, name in ((2, "again"), (1, "older")):
        lake.add(Table.PREDICTIONS, lake_rows(name), source="law", batch=batch)
    _must(_ids(lake) == ["a-0", "a-1", "a-2"], f"the lake holds {_ids(lake)}")
    lake.add(Table.PREDICTIONS, lake_rows("b", 1), source="another", batch=1)
    _must("b-0" in _ids(lake), "one source's batches hide another's")
    _must(lake.added(Table.PREDICTIONS, "law") == 2, "the last batch is not known")


def _half_open(lake: Lake) -> None:
    """A span has its start and not its end."""
    lake.add(Table.PREDICTIONS, lake_rows("a", 4), source="law", batch=1)
    _must(_ids(lake, since=1, until=3) == ["a-1", "a-2"], f"{_ids(lake, since=1, until=3)}")


def _pinned(lake: Lake) -> None:
    """A version, once read, stays as it was."""
    lake.add(Table.PREDICTIONS, lake_rows("a"), source="law", batch=1)
    before = lake.version()
    lake.add(Table.PREDICTIONS, lake_rows("b"), source="law", batch=2)
    _must(lake.version().predictions > before.predictions, "rows came and the version is the same")
    _must(_ids(lake, version=before.predictions) == ["a-0", "a-1", "a-2"], "a pinned version changed")
    _must(len(_ids(lake)) == 6, "the newest version lacks rows")


def _tidied(lake: Lake) -> None:
    """Tidying changes no rows, pinned or newest."""
    for batch in range(1, 4):
        lake.add(Table.PREDICTIONS, lake_rows(f"r{batch}"), source="law", batch=batch)
    pinned, rows = lake.version(), _ids(lake)
    lake.tidy(START + timedelta(days=9))
    _must(_ids(lake) == rows == _ids(lake, version=pinned.predictions), "tidying changed rows")


# ---- the journal -----------------------------------------------------------------------------------------------------
def check_journal(make: Callable[[], Journal]) -> list[Law]:
    """The duties of `ports.Journal`, save surviving a power cut: that takes a kill.

    >>> from everfit.testing import MemoryJournal
    >>> for law in check_journal(MemoryJournal):
    ...     law()
    """
    return list(_laws(make, (_in_order, _whole_batches, _forgotten, _first_word)))


def _batch(*ids: str, table: Table = Table.PREDICTIONS) -> Batch:
    return Batch(table, pl.DataFrame({"_id": ids}))


def _in_order(journal: Journal) -> None:
    """Batches wait in the order in which they came, under rising numbers; an empty one is none."""
    _must(journal.last() == 0 and journal.waiting(9) == [], "a fresh journal holds something")
    last = journal.append([_batch("a"), _batch("b", table=Table.LABELS)])
    _must(last == 2 == journal.last(), f"the last of two batches is {last}")
    journal.append([Batch(Table.LABELS, pl.DataFrame({"_id": []}, schema={"_id": pl.String}))])
    found = [(batch.number, batch.table, batch.rows["_id"].to_list()) for batch in journal.waiting(9)]
    _must(found == [(1, Table.PREDICTIONS, ["a"]), (2, Table.LABELS, ["b"])], f"waiting: {found}")


def _whole_batches(journal: Journal) -> None:
    """Batches are handed out whole, up to so many rows, and at least one."""
    journal.append([_batch("a", "b", "c")])
    journal.append([_batch("d")])
    _must([batch.number for batch in journal.waiting(1)] == [1], "not the one batch that waits longest")
    _must([batch.number for batch in journal.waiting(4)] == [1, 2], "fewer batches than fit")


def _forgotten(journal: Journal) -> None:
    """What was forgotten waits no longer, and numbers go on."""
    journal.append([_batch("a"), _batch("b")])
    journal.forget(1, {})
    _must([batch.number for batch in journal.waiting(9)] == [2], "the wrong batches were forgotten")
    journal.forget(2, {})
    _must(journal.append([_batch("c")]) == 3, "a number was given twice")


def _first_word(journal: Journal) -> None:
    """Ids that were taken are known with what was said of them first, each table for itself."""
    journal.append([_batch("a")])
    journal.forget(1, {Table.LABELS: {"a": "1"}})
    journal.append([_batch("a")])
    journal.forget(2, {Table.LABELS: {"a": "0"}})
    _must(journal.known(Table.LABELS, ["a", "b"]) == {"a": "1"}, "the first word does not stand")
    _must(journal.known(Table.PREDICTIONS, ["a"]) == {}, "one table's ids are known in another")


# ---- registry and gateway --------------------------------------------------------------------------------------------
def check_registry(make: Callable[[], Registry], registrations: Callable[[], Sequence[Registration]]) -> list[Law]:
    """The duties of `ports.Registry`; `registrations` gives two, of different candidates."""

    def with_two(keep: Callable[[Registry, Sequence[Registration]], None]) -> Callable[[Registry], None]:
        def kept(registry: Registry) -> None:
            keep(registry, registrations())

        kept.__doc__ = keep.__doc__
        return kept

    return list(_laws(make, [with_two(keep) for keep in (_registered_once, _aliased)]))


def _registered_once(registry: Registry, two: Sequence[Registration]) -> None:
    """A candidate has one version, however often it is registered; another has another."""
    first, second = (registry.add(MODEL, each) for each in two[:2])
    _must(first != second, "two candidates share a version")
    _must(registry.add(MODEL, two[0]) == first, "a known candidate got a second version")
    registry.describe(MODEL, first, {"gain": 0.1}, {"everfit.law": "yes"})


def _aliased(registry: Registry, two: Sequence[Registration]) -> None:
    """Aliases point to versions, move, and are removed; others stay."""
    first, second = (registry.add(MODEL, each) for each in two[:2])
    registry.alias(MODEL, {"champion": first, "challenger": second})
    registry.alias(MODEL, {"champion": second, "previous": first, "challenger": None})
    for _ in range(2):
        found = registry.aliases(MODEL)
        _must(found == {"champion": second, "previous": first}, f"aliases: {found}")
        registry.alias(MODEL, {"challenger": None})


def check_gateway(make: Callable[[], Gateway], models: Callable[[], Sequence[tuple[Candidate, Path]]]) -> list[Law]:
    """The duties of `ports.Gateway`; `models` gives two candidates with their folders."""

    def with_two(keep: Callable[[Gateway, Sequence[tuple[Candidate, Path]]], None]) -> Callable[[Gateway], None]:
        def kept(gateway: Gateway) -> None:
            two = models()
            for version, (candidate, folder) in enumerate(two, 1):
                for _ in range(2):  # twice is once
                    gateway.publish(candidate, version, folder)
            keep(gateway, two)

        kept.__doc__ = keep.__doc__
        return kept

    return list(_laws(make, [with_two(keep) for keep in GATEWAY_DUTIES]))
