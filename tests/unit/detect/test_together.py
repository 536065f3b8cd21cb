"""Whole rows and vectors against the usual ones: what is found, what is blamed, and what is no error."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from everfit.detect.signal import NotEnough, Signal
from everfit.detect.together import Crowd, Together, learn_crowd, test_together
from everfit.errors import Refused, UsageError
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema

SCHEMA = Schema(
    (
        Column("a", Kind.NUMBER),
        Column("b", Kind.NUMBER),
        Column("idle", Kind.NUMBER),
        Column("shop", Kind.CATEGORY),
        Column("arrow", Kind.VECTOR),
    ),
    (),
)


def day(seed: int, rows: int = 600, *, bound: float = 0.7, moved: float = 0.0, shops: str = "xyz") -> pl.DataFrame:
    """Columns a and b hang together; vectors of 8 numbers live on a plane, near enough."""
    chance = np.random.default_rng(seed)
    a, on_plane = chance.normal(size=rows), chance.normal(size=(rows, 2))
    arrows = on_plane @ np.stack([np.arange(8.0), np.ones(8)]) + 0.1 * chance.normal(size=(rows, 8))
    return pl.DataFrame(
        {
            "a": a + moved,
            "b": bound * a + np.sqrt(1 - bound**2) * chance.normal(size=rows),
            "idle": chance.normal(size=rows),
            "shop": chance.choice(list(shops), rows),
            "arrow": arrows.tolist(),
        }
    )


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return learn_crowd([day(seed) for _, seed in zip(range(14), range(100, 200), strict=False)], SCHEMA)


def read(found: Together) -> Signal:
    assert isinstance(found.reading, Signal)
    return found.reading


FOUND = [
    pytest.param(day(1, moved=0.7), "a", id="a column that moves"),
    pytest.param(day(1, bound=-0.7), "a", id="a correlation that breaks while no column moves"),
    pytest.param(day(1, shops="xxxyz"), "shop", id="shares of a category"),
    pytest.param(day(1).with_columns(idle=pl.lit(None, dtype=pl.Float64)), "idle", id="a column that goes missing"),
]


@pytest.mark.parametrize(("now", "column"), FOUND)
def test_it_finds_and_names(crowd: Crowd, now: pl.DataFrame, column: str) -> None:
    found = test_together(crowd, now)
    reading = read(found)
    assert (reading.name, reading.column) == ("drift.together", "*")
    assert reading.p_value is not None
    assert reading.p_value < 0.001
    assert reading.effect is not None
    assert reading.effect > 0.05
    assert column in {name for name, _ in found.blame[:2]}
    assert sum(share for _, share in found.blame) == pytest.approx(1)
    assert f"{found.blame[0][0]} (" in found.said


def test_a_usual_day_is_nothing_new(crowd: Crowd) -> None:
    reading = read(test_together(crowd, day(2)))
    assert reading.p_value is not None
    assert reading.p_value > 0.05
    assert reading.value == pytest.approx(0.5, abs=0.06)


def test_days_that_differ_anyway_are_usual() -> None:
    """A shift that is certain by its rows is none among days that all shift."""
    steps = np.random.default_rng(0).normal(0, 0.5, 20)
    moving = learn_crowd([day(seed, moved=step) for seed, step in enumerate(steps)], SCHEMA)
    still = learn_crowd([day(seed) for seed in range(20)], SCHEMA)
    usual, odd = (read(test_together(crowd, day(99, moved=0.5))).p_value for crowd in (moving, still))
    assert usual is not None
    assert odd is not None
    assert usual > 0.05
    assert odd < 0.001


def test_vectors_that_leave_their_plane_are_found() -> None:
    crowd = learn_crowd([day(seed) for seed in range(10)], SCHEMA, column="arrow")
    chance = np.random.default_rng(5)
    usual = day(50)
    bent = np.array(usual["arrow"].to_list()) + 0.3 * chance.normal(size=(600, 8))
    off = read(test_together(crowd, usual.with_columns(arrow=pl.Series(bent.tolist()))))
    assert off.column == "arrow"
    assert off.p_value is not None
    assert off.p_value < 1e-4
    calm = read(test_together(crowd, usual))
    assert calm.p_value is not None
    assert calm.p_value > 0.05
    fixed = usual.with_columns(pl.col("arrow").cast(pl.Array(pl.Float64, 8)))
    assert read(test_together(crowd, fixed)).value == calm.value


BROKEN = [
    pytest.param([None] * 600, id="none comes"),
    pytest.param([[1.0, 2.0]] * 600, id="another length comes"),
    pytest.param([[float("nan")] * 8] * 600, id="NaN comes"),
]


@pytest.mark.parametrize("arrows", BROKEN)
def test_vectors_that_do_not_fit_are_absent(arrows: list[list[float] | None]) -> None:
    crowd = learn_crowd([day(seed) for seed in range(6)], SCHEMA, column="arrow")
    reading = read(test_together(crowd, pl.DataFrame({"arrow": pl.Series(arrows, dtype=pl.List(pl.Float64))})))
    assert reading.value > 0.99
    assert reading.p_value is not None
    assert reading.p_value < 0.001


@pytest.mark.parametrize("value", [None, 3.0], ids=["all null", "constant"])
def test_columns_that_say_nothing_give_a_half(value: float | None) -> None:
    frame = pl.DataFrame({"a": pl.Series([value] * 300, dtype=pl.Float64)})
    crowd = learn_crowd([frame] * 6, Schema((Column("a", Kind.NUMBER),), ()))
    found = test_together(crowd, frame)
    assert read(found).value == 0.5
    assert read(found).p_value == pytest.approx(0.5)
    assert found.blame == ()


def test_few_healthy_windows_are_said() -> None:
    found = test_together(learn_crowd([day(1, 3000)], SCHEMA), day(2))
    assert "only 0 healthy windows" in found.said
    assert read(found).p_value is not None


def test_few_rows_are_not_enough(crowd: Crowd) -> None:
    found = test_together(crowd, day(1, 50))
    assert isinstance(found.reading, NotEnough)
    assert found.said == "50 rows to tell apart, 100 needed"


def test_a_crowd_survives_being_written(crowd: Crowd) -> None:
    assert test_together(Crowd.from_bytes(crowd.to_bytes()), day(3)) == test_together(crowd, day(3))
    vectors = learn_crowd([day(seed) for seed in range(6)], SCHEMA, column="arrow")
    assert test_together(Crowd.from_bytes(vectors.to_bytes()), day(3)) == test_together(vectors, day(3))
    assert len(crowd.to_bytes()) < 100_000
    with pytest.raises(Refused, match="damaged"):
        Crowd.from_bytes(b"")


def test_no_rows_are_no_crowd() -> None:
    with pytest.raises(UsageError, match="no healthy window has a row"):
        learn_crowd([day(0).clear()], SCHEMA)
