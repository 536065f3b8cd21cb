"""Labels meet their predictions, and what did not come is not made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from everfit.observe.labels import coverage, delays, join

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


def predictions(*ids: str) -> pl.DataFrame:
    return pl.DataFrame({
        "_id": list(ids), "_time": [NOON] * len(ids), "_arrived": [NOON + timedelta(hours=n) for n in range(len(ids))],
        "x": list(range(len(ids))),
    }, schema_overrides={"_time": pl.Datetime("us", "UTC"), "_arrived": pl.Datetime("us", "UTC")})  # fmt: skip


def labels(*rows: tuple[str, str | None, float]) -> pl.DataFrame:
    return pl.DataFrame({
        "_id": [r[0] for r in rows], "_label": [r[1] for r in rows], "_value": [None] * len(rows),
        "_arrived": [NOON + timedelta(hours=r[2]) for r in rows],
    }, schema_overrides={"_value": pl.Float64, "_arrived": pl.Datetime("us", "UTC")})  # fmt: skip


def test_a_label_that_never_comes_is_null_and_not_negative() -> None:
    joined = join(predictions("a", "b"), labels(("a", "1", 1), ("stranger", "0", 1)), as_of=None)
    assert joined.select("_id", "_label").rows() == [("a", "1"), ("b", None)]
    assert joined["_labelled_at"].to_list() == [NOON + timedelta(hours=1), None]
    assert (coverage(joined).rows, coverage(joined).labelled, coverage(joined).share) == (2, 1, 0.5)


def test_labels_that_arrived_later_are_not_seen() -> None:
    came = labels(("a", "1", 1), ("b", "1", 3))
    joined = join(predictions("a", "b"), came, as_of=NOON + timedelta(hours=2))
    assert joined["_label"].to_list() == ["1", None]


def test_the_first_arrival_counts() -> None:
    joined = join(predictions("a", "b", "a"), labels(("a", "late", 5), ("a", "first", 1), ("a", "also", 1)), as_of=None)
    assert joined.select("_id", "x", "_label").rows() == [("a", 0, "also"), ("b", 1, None)]


def test_values_of_a_regression_are_labels_too() -> None:
    came = labels(("a", None, 1)).with_columns(_value=pl.lit(2.5))
    assert coverage(join(predictions("a"), came, as_of=None)).labelled == 1


def test_nothing_is_nothing() -> None:
    joined = join(predictions(), labels(), as_of=None)
    assert coverage(joined).share is None
    assert delays(joined) is None


def test_delays_are_those_of_labels_that_came() -> None:
    joined = join(predictions("a", "b", "c"), labels(("a", "1", 1), ("b", "1", 3)), as_of=None)
    told = delays(joined)
    assert told is not None
    assert (told.rows, told.median, told.longest) == (2, timedelta(hours=1), timedelta(hours=3))
