"""Which readings a window gives, and which of them are alarms."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from scipy import stats

from everfit.detect.battery import Arrivals, drift_alarms, quality_alarms, read_drift, read_quality
from everfit.detect.options import Watching
from everfit.detect.signal import Alarm, NotEnough, Reading, Signal
from everfit.errors import UsageError
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile.table import Profile, learn_bins, portray

DAY, OPTIONS = timedelta(days=1), Watching()
SCHEMA = Schema((Column("price", Kind.NUMBER), Column("carrier", Kind.CATEGORY), Column("cargo", Kind.FLAG)), ())


def rows(many: int, seed: int = 0) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "price": chance.normal(100, 10, many),
            "carrier": chance.choice(["AA", "BB", "CC", "DD"], many, p=[0.4, 0.3, 0.2, 0.1]),
            "cargo": chance.random(many) < 0.3,
            "_score": chance.random(many),
        }
    )


REFERENCE = rows(20_000)
BINS = learn_bins(REFERENCE, SCHEMA)
THEN = portray(REFERENCE, BINS)


def alarms_in(readings: tuple[Reading, ...]) -> tuple[Alarm, ...]:
    """Alarms at one false one in a year of days."""
    return (
        *drift_alarms(readings, alpha=1 / 365, effect=OPTIONS.effect),
        *quality_alarms(readings, OPTIONS.quality, 1 / 365),
    )


def alarms_of(frame: pl.DataFrame, arrivals: Arrivals | None = None) -> tuple[Alarm, ...]:
    now = portray(frame, BINS)
    readings: tuple[Reading, ...] = (
        *read_drift(now, THEN, OPTIONS),
        *read_quality(now, THEN, arrivals or Arrivals(), OPTIONS),
    )
    return alarms_in(readings)


NOW = rows(1000, seed=1)
CASES = [
    pytest.param(NOW, [], id="a healthy window is quiet"),
    pytest.param(NOW.with_columns(pl.col("price") + 8), [("drift", "price")], id="a shifted number drifts"),
    pytest.param(NOW.with_columns(pl.col("price") + 0.1), [], id="a small shift is not material"),
    pytest.param(
        NOW.with_columns(carrier=pl.lit("AA")),
        [("drift", "carrier")],
        id="a category that takes all rows drifts",
    ),
    pytest.param(NOW.with_columns(~pl.col("cargo")), [("drift", "cargo")], id="a flag that turns round drifts"),
    pytest.param(NOW.with_columns(pl.col("_score") ** 3), [("drift", "_score")], id="predictions that sink drift"),
    pytest.param(NOW[:150].with_columns(pl.col("price") + 8), [], id="150 rows are not enough to drift"),
    pytest.param(
        NOW.with_columns(carrier=pl.when(pl.int_range(1000) < 960).then(None).otherwise("carrier")),
        [("quality", "carrier")],
        id="a null spike is broken data",
    ),
    pytest.param(
        NOW.with_columns(pl.col("price") * 1000),
        [("drift", "price"), ("quality", "price")],
        id="a changed unit is broken data",
    ),
    pytest.param(
        NOW.with_columns(carrier="x-" + pl.col("carrier")),
        [("drift", "carrier"), ("quality", "carrier")],
        id="renamed categories are broken data",
    ),
    pytest.param(NOW.drop("cargo"), [("quality", "cargo")], id="a column that vanished is all null"),
    pytest.param(
        NOW.with_columns(price=pl.lit(float("nan"))),
        [("quality", "price")],
        id="NaN everywhere is as good as null",
    ),
    pytest.param(
        NOW[:3].with_columns(price=pl.when(pl.int_range(3) < 1).then(None).otherwise("price")),
        [],
        id="one null of three rows is no spike",
    ),
    pytest.param(NOW[:0], [], id="no rows are no alarm"),
]


@pytest.mark.parametrize(("frame", "expected"), CASES)
def test_alarms(frame: pl.DataFrame, expected: list[tuple[str, str]]) -> None:
    assert [(alarm.kind, alarm.signal.column) for alarm in alarms_of(frame)] == expected


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [
        pytest.param(Arrivals(refused=500), ["33% of the rows were refused"], id="a third was refused"),
        pytest.param(
            Arrivals(refused=500, refused_columns={"price": 480}),
            ["33% of the rows were refused", "32% of the rows were refused because of price"],
            id="by one column",
        ),
        pytest.param(Arrivals(refused=20), [], id="two percent refused is under the line"),
        pytest.param(
            Arrivals(missing=("carrier",)),
            ["column carrier is missing"],
            id="intake says that a column is missing",
        ),
        pytest.param(Arrivals(late=900), [], id="late rows have no line"),
    ],
)
def test_alarms_of_intake(arrivals: Arrivals, said: list[str]) -> None:
    assert [alarm.said for alarm in alarms_of(NOW, arrivals)] == said


def test_a_tiny_window_is_not_broken_by_one_refused_row() -> None:
    assert alarms_of(NOW[:2], Arrivals(refused=1)) == ()
    assert len(alarms_of(NOW[:0], Arrivals(refused=50))) == 1


def test_sentences() -> None:
    broken = NOW.with_columns(carrier=pl.when(pl.int_range(1000) < 960).then(None).otherwise("carrier"))
    assert [a.said for a in alarms_of(broken)] == ["carrier is 96% null, usual is at most 0%"]
    said = alarms_of(NOW.with_columns(pl.col("price") * 1000, pl.col("_score") / 9, carrier="x-" + pl.col("carrier")))
    texts = " | ".join(a.said for a in said)
    assert "100% of carrier are categories that the reference does not have" in texts
    assert "100% of price lie outside the range of the reference" in texts
    assert "the score moved: PSI " in texts


def names(readings: tuple[Reading, ...], column: str) -> list[str]:
    return [reading.name for reading in readings if reading.column == column]


def test_readings_of_each_kind() -> None:
    readings = read_drift(portray(NOW, BINS), THEN, OPTIONS)
    assert names(readings, "price") == ["drift.psi", "drift.ks", "drift.js", "drift.wasserstein"]
    assert names(readings, "_score") == names(readings, "price")
    assert names(readings, "carrier") == ["drift.psi", "drift.js"]
    assert all(isinstance(r, Signal) and np.isfinite(r.value) and r.rows == 1000 for r in readings)
    shifted = read_drift(portray(NOW.with_columns(pl.col("price") + 5), BINS), THEN, OPTIONS)
    moved = next(r for r in shifted if r.name == "drift.wasserstein" and r.column == "price")
    assert isinstance(moved, Signal)
    raw = stats.wasserstein_distance(REFERENCE["price"], NOW["price"] + 5) / np.std(REFERENCE["price"].to_numpy())
    assert moved.value == pytest.approx(raw, abs=0.01)


def test_few_values_are_not_enough() -> None:
    few = NOW.with_columns(price=pl.when(pl.int_range(1000) < 41).then("price"))
    reading = next(r for r in read_drift(portray(few, BINS), THEN, OPTIONS) if r.column == "price")
    assert reading == NotEnough("drift.psi", "price", 41, 200, "41 values of price, 200 needed")
    nothing = read_drift(portray(NOW[:0], BINS), THEN, OPTIONS)
    assert all(isinstance(r, NotEnough) for r in nothing)


def test_a_small_reference_is_not_enough_either() -> None:
    bins = learn_bins(REFERENCE[:50], SCHEMA)
    readings = read_drift(portray(NOW, bins), portray(REFERENCE[:50], bins), OPTIONS)
    assert {type(r) for r in readings} == {NotEnough}


def test_quality_without_a_reference_reads_intake_only() -> None:
    readings = read_quality(portray(NOW, BINS), None, Arrivals(refused=3, late=1), OPTIONS)
    assert [(r.name, round(r.value, 4)) for r in readings if isinstance(r, Signal)] == [
        ("quality.rows", 1000),
        ("quality.refused", 0.003),
        ("quality.late", 0.001),
    ]


def test_profiles_on_different_bins_are_not_compared() -> None:
    with pytest.raises(UsageError, match="other bins"):
        read_drift(portray(NOW, learn_bins(NOW, SCHEMA)), THEN, OPTIONS)


def test_a_constant_that_changes_its_value_is_seen() -> None:
    schema = Schema((Column("x", Kind.NUMBER),), ())
    frame = pl.DataFrame({"x": [5.0] * 1000})
    bins = learn_bins(frame, schema)

    def read(now: Profile) -> tuple[Alarm, ...]:
        return alarms_in(read_drift(now, portray(frame, bins), OPTIONS))

    assert read(portray(frame, bins)) == ()
    assert len(read(portray(frame + 1, bins))) == 1
