"""The lake on real Delta tables: exactly once, pinned versions, few files read, days merged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from everfit.adapters.lake import NO_TABLE, DeltaLake
from everfit.errors import Refused, Unavailable
from everfit.observe.intake import LABEL_COLUMNS, PREDICTION_COLUMNS
from everfit.ports import Table
from everfit.retrain.recipe import LakeVersion

DAY0 = datetime(2013, 1, 1, tzinfo=UTC)


def predictions(name: str, *, day: int = 0, rows: int = 3, **features: object) -> pl.DataFrame:
    times = [DAY0 + timedelta(days=day, hours=n) for n in range(rows)]
    known = pl.DataFrame({
        "_id": [f"{name}-{n}" for n in range(rows)], "_time": times, "_score": [[0.1, 0.9]] * rows,
        "_prediction": ["1"] * rows, "_model": [None] * rows, "_version": [1] * rows,
        "_variant": ["champion"] * rows, "_latency_ms": [0.5] * rows,
        "_arrived": times, "_late": [False] * rows, "_day": [time.date() for time in times],
    }, schema_overrides=PREDICTION_COLUMNS)  # fmt: skip
    return known.with_columns(**{name: pl.lit(value) for name, value in (features or {"hour": 1.0}).items()})


def labels(*ids: str, day: int = 0) -> pl.DataFrame:
    at = DAY0 + timedelta(days=day)
    said = {"_id": ids, "_label": ["1"] * len(ids), "_value": [None] * len(ids)}
    return pl.DataFrame(
        {**said, "_arrived": [at] * len(ids), "_day": [at.date()] * len(ids)}, schema_overrides=LABEL_COLUMNS
    )


def ids(lake: DeltaLake, table: Table = Table.PREDICTIONS, version: int | None = None) -> list[str]:
    return sorted(lake.read(table, since=None, until=None, version=version).collect()["_id"])


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    return DeltaLake(str(tmp_path / "lake"))


@pytest.mark.parametrize("table", list(Table))
def test_a_table_without_rows_reads_as_an_empty_frame(lake: DeltaLake, table: Table) -> None:
    rows = lake.read(table, since=DAY0, until=None).collect()
    assert rows.is_empty()
    assert {"_arrived", "_day"} < set(rows.columns)
    assert lake.version() == LakeVersion(NO_TABLE, NO_TABLE)
    assert lake.read(table, since=None, until=None, version=NO_TABLE).collect().is_empty()
    assert (lake.added(table, "journal"), lake.tidy(DAY0)) == (0, 0)


def test_what_was_added_is_read_with_the_same_columns_and_types(lake: DeltaLake) -> None:
    sent = predictions("a", hour=1.0, origin="JFK", open=True, seen=DAY0)
    lake.add(Table.PREDICTIONS, sent, source="journal", batch=1)
    read = lake.read(Table.PREDICTIONS, since=None, until=None).collect()
    assert read.columns == [*PREDICTION_COLUMNS, "hour", "origin", "open", "seen"]
    assert read.sort("_id").equals(sent.cast({"seen": pl.Datetime("us", "UTC")}).sort("_id"))


def test_a_batch_is_added_once_whoever_asks(lake: DeltaLake, tmp_path: Path) -> None:
    again = DeltaLake(str(tmp_path / "lake"))
    lake.add(Table.PREDICTIONS, predictions("a"), source="journal", batch=5)
    for batch in (3, 5):
        again.add(Table.PREDICTIONS, predictions("b"), source="journal", batch=batch)
    again.add(Table.PREDICTIONS, predictions("c"), source="another", batch=1)
    again.add(Table.LABELS, labels("a-0"), source="journal", batch=5)
    lake.add(Table.PREDICTIONS, predictions("d"), source="journal", batch=6)
    assert {id_[0] for id_ in ids(lake)} == {"a", "c", "d"}
    assert (lake.added(Table.PREDICTIONS, "journal"), lake.added(Table.LABELS, "journal")) == (6, 5)
    assert lake.version() == LakeVersion(3, 1)  # the first version made the empty table


def test_writers_that_race_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    def write(worker: int) -> None:
        own = DeltaLake(str(tmp_path / "lake"))
        for batch in range(1, 6):
            own.add(Table.PREDICTIONS, predictions(f"own{worker}.{batch}", rows=1), source=f"own{worker}", batch=batch)
            own.add(Table.PREDICTIONS, predictions(f"shared.{batch}", rows=1), source="shared", batch=batch)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    expected = [f"own{worker}.{batch}-0" for worker in range(3) for batch in range(1, 6)]
    found = ids(DeltaLake(str(tmp_path / "lake")))
    assert [id_ for id_ in found if id_.startswith("own")] == sorted(expected)
    shared = [id_ for id_ in found if id_.startswith("shared")]
    assert len(shared) == len(set(shared))
    assert "shared.5-0" in shared


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [
        pytest.param(24, 48, range(24, 48), id="one day"),
        pytest.param(25, 27, [25, 26], id="the end is not in it"),
        pytest.param(None, 2, [0, 1], id="from the beginning"),
        pytest.param(70, None, [70, 71], id="to the end"),
        pytest.param(23, 25, [23, 24], id="across midnight"),
        pytest.param(90, 99, [], id="nothing there"),
    ],
)
def test_a_span_is_half_open(lake: DeltaLake, since: int | None, until: int | None, hours: range | list[int]) -> None:
    for day in range(3):
        lake.add(Table.PREDICTIONS, predictions(str(day), day=day, rows=24), source="journal", batch=day + 1)
    at = [None if hour is None else DAY0 + timedelta(hours=hour) for hour in (since, until)]
    read = lake.read(Table.PREDICTIONS, since=at[0], until=at[1]).collect()
    assert sorted(read["_time"]) == [DAY0 + timedelta(hours=hour) for hour in hours]
    assert "hour" in read.columns


def test_a_pinned_version_stays_as_it_was_through_growth_and_merging(lake: DeltaLake, tmp_path: Path) -> None:
    for batch in range(1, 7):
        lake.add(Table.PREDICTIONS, predictions(f"b{batch}", rows=1), source="journal", batch=batch)
    pinned = lake.version().predictions
    before = ids(lake)
    lake.add(Table.PREDICTIONS, predictions("new", rows=1, hour=1.0, origin="JFK"), source="journal", batch=7)
    assert lake.tidy(DAY0) == 0  # the day itself may still grow
    assert lake.tidy(DAY0 + timedelta(days=1)) == 6
    assert lake.tidy(DAY0 + timedelta(days=1)) == 0
    for reader in (lake, DeltaLake(str(tmp_path / "lake"))):
        assert ids(reader, version=pinned) == before
        assert ids(reader) == [*before, "new-0"]
        newest = reader.read(Table.PREDICTIONS, since=None, until=None).collect()
        assert newest["origin"].null_count() == 6
    lake.add(Table.PREDICTIONS, predictions("more", rows=1), source="journal", batch=7)
    assert lake.added(Table.PREDICTIONS, "journal") == 7  # merging forgets no batch


def test_a_column_of_another_type_is_refused(lake: DeltaLake) -> None:
    lake.add(Table.PREDICTIONS, predictions("a", hour=1.0), source="journal", batch=1)
    with pytest.raises(Refused, match="holds Float64 in 'hour', these rows hold String"):
        lake.add(Table.PREDICTIONS, predictions("b", hour="1"), source="journal", batch=2)
    assert lake.added(Table.PREDICTIONS, "journal") == 1


def test_a_version_that_never_was_is_named(lake: DeltaLake) -> None:
    with pytest.raises(Unavailable, match="version 3 of the labels table is gone"):
        lake.read(Table.LABELS, since=None, until=None, version=3)
    lake.add(Table.LABELS, labels("a"), source="journal", batch=1)
    with pytest.raises(Unavailable, match="labels"):
        lake.read(Table.LABELS, since=None, until=None, version=3)


def test_a_lake_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(Unavailable, match="labels"):
        DeltaLake(str(tmp_path / "file")).add(Table.LABELS, labels("a"), source="journal", batch=1)


def test_a_writer_killed_after_it_made_the_table_leaves_an_empty_one(lake: DeltaLake, tmp_path: Path) -> None:
    lake._made(Table.LABELS, labels("a"))
    again = DeltaLake(str(tmp_path / "lake"))
    assert again.read(Table.LABELS, since=DAY0, until=None).collect().is_empty()
    assert again.read(Table.LABELS, since=DAY0, until=None, version=0).collect().is_empty()
    assert (again.added(Table.LABELS, "journal"), again.tidy(DAY0)) == (0, 0)
    again.add(Table.LABELS, labels("a"), source="journal", batch=1)
    assert ids(again, Table.LABELS) == ["a"]


def test_one_day_of_many_is_read_from_its_own_files(lake: DeltaLake) -> None:
    for day in range(30):
        lake.add(Table.PREDICTIONS, predictions(str(day), day=day, rows=2), source="journal", batch=day + 1)
    plan = lake.read(Table.PREDICTIONS, since=DAY0, until=DAY0 + timedelta(days=1)).explain(optimized=False)
    assert "_day=2013-01-01" in plan
    assert "_day=2013-01-03" not in plan
    assert "other sources" not in plan  # a plan that reads many files says so instead of naming them
