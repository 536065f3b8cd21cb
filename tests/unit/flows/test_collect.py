"""Moving from the journal to the lake: each event once, whatever comes twice, late, wrong or killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import polars as pl
import pytest

from everfit.errors import Refused
from everfit.flows.collect import DUPLICATE, LEARN_FROM, OTHER_LABEL, Collected, Collecting, collect
from everfit.observe.intake import SHADOW_COLUMNS, Rules, take_labels, take_predictions
from everfit.observe.options import FeatureOptions, Kind
from everfit.observe.schema import Column, Schema
from everfit.ports import Batch, Journal, Lake, Table
from everfit.retrain.recipe import LakeVersion
from everfit.testing import MemoryJournal, MemoryLake

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
RULES = Rules("binary", target="late", time="at", id="flight")
HOW = Collecting(RULES, source="journal")
SCHEMA = Schema((Column("hour", Kind.NUMBER), Column("origin", Kind.CATEGORY)), ())


def predictions(*ids: str, hour: object = 5, when: datetime = NOON, **more: object) -> Batch:
    rows = pl.DataFrame({"flight": ids, "at": [when] * len(ids), "hour": [hour] * len(ids)})
    rows = rows.with_columns(**{name: pl.lit(value) for name, value in more.items()})
    numbers = count()
    return Batch(Table.PREDICTIONS, take_predictions(rows, RULES, None, lambda: f"issued-{next(numbers)}").rows)


def labels(said: Mapping[str, object]) -> Batch:
    rows = pl.DataFrame({"flight": list(said), "late": list(said.values()), "time": [NOON] * len(said)})
    return Batch(Table.LABELS, take_labels(rows, RULES, None).rows)


def move(journal: Journal, lake: Lake, **what: Any) -> Collected:
    return collect(journal, lake, HOW, **{"schema": SCHEMA, "closed_until": None, **what})


def table(lake: Lake, which: Table) -> pl.DataFrame:
    return lake.read(which, since=None, until=None).collect()


def test_rows_of_any_shape_become_rows_of_one_shape() -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    journal.append([predictions("a", origin="JFK"), predictions("b", hour="6"), predictions("c", extra=1)])
    done = move(journal, lake)
    rows = table(lake, Table.PREDICTIONS).sort("_id")
    assert rows.select("_id", "hour", "origin", "_late", "_day").rows() == [
        ("a", 5.0, "JFK", False, NOON.date()),
        ("b", 6.0, None, False, NOON.date()),
        ("c", 5.0, None, False, NOON.date()),
    ]
    assert (done.rows, done.missing, done.extra, done.newest) == (3, ("origin",), ("extra",), NOON)
    assert (done.upto, done.settled, journal.pending()) == (3, 3, 0)


def test_an_event_that_comes_twice_is_one_event() -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    journal.append([predictions("a", "a"), predictions("a", hour=9), labels({"a": 1})])
    first = move(journal, lake)
    journal.append([predictions("a"), labels({"a": 1, "b": 0})])
    second = move(journal, lake)
    assert (first.duplicates, second.duplicates, second.labels) == (2, 2, 1)
    assert table(lake, Table.PREDICTIONS)["hour"].to_list() == [5.0]
    assert table(lake, Table.LABELS).select("_id", "_label").rows() == [("a", "1"), ("b", "0")]


@pytest.mark.parametrize(
    "apart", [pytest.param(False, id="together"), pytest.param(True, id="after the first was moved")]
)
def test_a_label_that_contradicts_the_first_is_kept_aside(apart: bool) -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    journal.append([labels({"a": 1})])
    if apart:
        move(journal, lake)
    journal.append([labels({"a": 0})])
    done = move(journal, lake)
    assert (done.conflicts, done.refused, done.duplicates) == (1, 1, 0)
    assert table(lake, Table.LABELS)["_label"].to_list() == ["1"]
    assert table(lake, Table.REFUSED).select("_table", "_reason", "_column").rows() == [("labels", OTHER_LABEL, "late")]


def test_a_row_that_does_not_fit_is_kept_aside_and_may_come_again_mended() -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    journal.append([predictions("a", hour="five")])
    assert move(journal, lake).refused == 1
    journal.append([predictions("a", hour=5)])
    assert move(journal, lake).rows == 1
    refused = table(lake, Table.REFUSED).row(0, named=True)
    assert (refused["_reason"], refused["_column"], refused["_day"]) == ("not a number", "hour", NOON.date())
    assert '"hour": "five"' in refused["_payload"]


def test_refused_rows_of_the_intake_go_aside_too() -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    took = take_predictions(pl.DataFrame({"flight": ["a"], "at": ["soon"]}), RULES, None, str)
    journal.append([Batch(Table.REFUSED, took.refused)])
    assert move(journal, lake).refused == 1
    assert table(lake, Table.REFUSED)["_day"].is_not_null().all()


def shadow(*ids: str) -> Batch:
    rows = pl.DataFrame({"_id": ids, "_failed": [None] * (len(ids) - 1) + ["crash"]}).with_columns(
        pl.lit(NOON).alias("_time"),
        pl.lit(NOON + timedelta(days=1)).alias("_arrived"),
        pl.lit("c2").alias("_model"),
        pl.lit(2, dtype=pl.Int64).alias("_version"),
    )
    return Batch(Table.SHADOW, rows)


def test_what_a_challenger_said_is_moved_once_whatever_the_features_are() -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    journal.append([predictions("a", "b"), shadow("a", "b"), shadow("a")])
    done = move(journal, lake)
    rows = table(lake, Table.SHADOW)
    assert rows.schema == SHADOW_COLUMNS
    assert rows.select("_id", "_failed", "_day", "_version").rows() == [
        ("a", None, NOON.date(), 2),
        ("b", "crash", NOON.date(), 2),
        ("a", "crash", NOON.date(), 2),
    ]
    assert (done.shadow, done.rows, journal.pending()) == (3, 2, 0)
    lake.add(Table.SHADOW, rows, source=HOW.source, batch=done.upto)
    assert table(lake, Table.SHADOW).height == 3, "a mover that was killed before it could forget moves nothing twice"


def test_events_before_the_last_closed_window_are_late() -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    journal.append([predictions("a", when=NOON - timedelta(days=1)), predictions("b")])
    assert move(journal, lake, closed_until=NOON).late == 1
    assert table(lake, Table.PREDICTIONS).sort("_id")["_late"].to_list() == [True, False]


def test_the_schema_is_learned_from_enough_rows_and_nothing_moves_before_it_is_written_down() -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    journal.append([labels({"a": 1}), predictions(*(f"a{n}" for n in range(LEARN_FROM - 1)))])
    assert move(journal, lake, schema=None) == Collected(None)
    journal.append([predictions("b", origin="JFK")])
    done = move(journal, lake, schema=None)
    assert (done.learned, done.schema, done.upto) == (True, SCHEMA, 0)
    assert journal.pending() == LEARN_FROM + 1
    assert move(journal, lake, schema=done.schema).rows == LEARN_FROM


def test_the_schema_may_be_learned_at_once() -> None:
    journal = MemoryJournal()
    journal.append([predictions("b", origin="JFK")])
    assert move(journal, MemoryLake(), schema=None, learn_now=True).schema == SCHEMA


def test_first_rows_that_contradict_each_other_are_told_with_a_remedy() -> None:
    journal = MemoryJournal()
    journal.append([predictions("a", hour=[1]), predictions("b", hour="x")])
    how = Collecting(RULES, source="journal", features=FeatureOptions())
    with pytest.raises(Refused, match="exclude"):
        collect(journal, MemoryLake(), how, schema=None, closed_until=None, learn_now=True)


def test_when_nothing_waits_everything_is_settled() -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    journal.append([predictions("a")])
    move(journal, lake)
    assert move(journal, lake) == Collected(SCHEMA, settled=1)


class Killed(BaseException):
    """The process ends here."""


class Frail:
    """Ports whose n-th effect is the last one: before it, or just after it."""

    def __init__(self, journal: MemoryJournal, lake: MemoryLake, die_at: int, *, after: bool) -> None:
        self.journal, self.lake = journal, lake
        self.left, self.after = die_at, after

    def _effect(self, do: Any) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Killed
        do()
        if self.left == 0:
            raise Killed

    def append(self, batches: Sequence[Batch]) -> int:
        return self.journal.append(batches)

    def waiting(self, most_rows: int) -> list[Batch]:
        return self.journal.waiting(most_rows)

    def known(self, table: Table, ids: Sequence[str]) -> dict[str, str]:
        return self.journal.known(table, ids)

    def forget(self, upto: int, taken: Mapping[Table, Mapping[str, str]]) -> None:
        self._effect(lambda: self.journal.forget(upto, taken))

    def last(self) -> int:
        return self.journal.last()

    def add(self, table: Table, rows: pl.DataFrame, *, source: str, batch: int) -> None:
        self._effect(lambda: self.lake.add(table, rows, source=source, batch=batch))

    def added(self, table: Table, source: str) -> int:
        return self.lake.added(table, source)

    def read(
        self, table: Table, *, since: datetime | None, until: datetime | None, version: int | None = None
    ) -> pl.LazyFrame:
        return self.lake.read(table, since=since, until=until, version=version)

    def version(self) -> LakeVersion:
        return self.lake.version()

    def tidy(self, before: datetime) -> int:
        return self.lake.tidy(before)


@pytest.mark.parametrize("after", [False, True], ids=["before the effect", "after the effect"])
@pytest.mark.parametrize("die_at", [1, 2, 3, 4], ids=["refused", "labels", "predictions", "forget"])
def test_a_kill_between_any_two_steps_changes_nothing(die_at: int, after: bool) -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    journal.append([predictions("a", hour="five"), predictions("a", "b"), labels({"a": 1}), labels({"a": 0})])
    frail = Frail(journal, lake, die_at, after=after)
    with pytest.raises(Killed):
        move(frail, frail)
    # Meanwhile more came: repeats, contradictions, and news.
    journal.append([predictions("b", "c"), labels({"a": 0, "c": 1}), predictions("d", hour="six")])
    while move(journal, lake).upto:
        pass
    assert sorted(table(lake, Table.PREDICTIONS)["_id"]) == ["a", "b", "c"]
    assert sorted(table(lake, Table.LABELS).select("_id", "_label").rows()) == [("a", "1"), ("c", "1")]
    assert table(lake, Table.REFUSED)["_reason"].to_list().count(OTHER_LABEL) == 2
    assert table(lake, Table.REFUSED)["_reason"].to_list().count(DUPLICATE) == 1
    assert table(lake, Table.REFUSED).height == 5
