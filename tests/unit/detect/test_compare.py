"""Two frames against each other, whatever they look like."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from everfit.detect.compare import compare
from everfit.detect.options import Watching
from everfit.observe.options import Kind

CHANCE = np.random.default_rng(0)
THEN = pl.DataFrame(
    {
        "price": CHANCE.normal(100, 10, 5000),
        "size": CHANCE.integers(1, 20, 5000),
        "carrier": CHANCE.choice(["AA", "BB", "CC"], 5000),
        "cargo": CHANCE.random(5000) < 0.4,
    }
)
NOW = THEN.sample(1200, seed=1)

# Too short for five windows of the current's size: only sampling noise is counted.
CASES = [
    pytest.param(NOW, "none", [], id="rows of the same kind"),
    pytest.param(NOW.with_columns(pl.col("price") + 10), "drift", ["price"], id="a shifted column"),
    pytest.param(NOW.drop("carrier"), "drift", ["carrier"], id="a column that is missing"),
    pytest.param(NOW.with_columns(new=1), "drift", ["new"], id="a column that is new"),
    pytest.param(
        NOW.with_columns(pl.col("size").cast(pl.String) + " kg"),
        "drift",
        ["size"],
        id="a column of another type",
    ),
    pytest.param(NOW.with_columns(carrier=pl.lit(None)), "drift", ["carrier"], id="a column without values"),
    pytest.param(
        NOW.with_columns(price=pl.lit(None, dtype=pl.Float64)),
        "drift",
        ["price"],
        id="a number without values",
    ),
    pytest.param(NOW[:41], "not_enough", [], id="few rows"),
    pytest.param(NOW[:0], "not_enough", [], id="no rows"),
]


@pytest.mark.parametrize(("now", "verdict", "alarmed"), CASES)
def test_comparison(now: pl.DataFrame, verdict: str, alarmed: list[str]) -> None:
    found = json.loads(json.dumps(compare(THEN, now).to_dict(), allow_nan=False))
    assert found["rows"] == {"reference": 5000, "current": now.height}
    assert found["verdict"] == verdict
    assert [alarm["column"] for alarm in found["alarms"]] == alarmed
    assert [column["name"] for column in found["columns"] if column["alarm"]] == alarmed
    assert {column["name"] for column in found["columns"]} == set(THEN.columns) | set(now.columns)
    assert set(found["columns"][0]) == {
        "name",
        "kind",
        "psi",
        "ks",
        "js",
        "wasserstein",
        "p_value",
        "effect",
        "alarm",
        "nulls",
        "distinct",
        "smallest_shift",
        "unit",
        "verdict",
        "said",
    }
    assert all(column["said"] for column in found["columns"]), "every column is told in words"
    assert found["windows"] == 0
    assert "sampling noise" in found["said"][-1]


def test_a_long_reference_tells_how_its_windows_differ() -> None:
    """Every window of the reference has a day effect of half a deviation: one more such window is no drift."""
    chance = np.random.default_rng(3)
    effects = np.repeat(chance.normal(0, 0.5, 31), 500)
    days = pl.DataFrame({"x": chance.normal(effects, 1.0), "calm": chance.normal(size=len(effects))})
    reference, day = days[: 30 * 500], days[30 * 500 :].with_columns(x=chance.normal(0.8, 1.0, 500))
    found = compare(reference, day)
    assert found.windows == 30
    assert "30 windows of 500 rows" in found.said[-1]
    assert found.verdict == "none"
    assert compare(reference[:2000], day).verdict == "drift", "without its windows the reference knows only rows"
    moved = compare(reference, day.with_columns(pl.col("x", "calm") + 0.6))
    assert [column.name for column in moved.columns if column.alarm] == ["calm"]
    calm = moved.columns[1]
    assert calm.unit == "sd"
    assert calm.smallest_shift is not None
    assert 0.1 < calm.smallest_shift < 0.6


def test_whether_text_is_prose_is_for_the_reference_to_say() -> None:
    prose = pl.DataFrame(
        {"note": [f"Dear Sir or Madam, this is my letter number {i}, and it is long" for i in range(900)]}
    )
    names = pl.DataFrame({"note": [f"note {i % 9}" for i in range(900)]})
    found = compare(prose, names)
    assert [(c.kind, c.verdict) for c in found.columns] == [(Kind.TEXT, "broken")], "far from any length before"
    assert compare(prose, prose.sample(500, seed=1)).verdict == "none"


def test_vectors_of_another_dimension_are_broken() -> None:
    chance = np.random.default_rng(0)
    vectors = pl.DataFrame({"face": pl.Series(chance.normal(size=(1000, 4)).tolist())})
    shorter = vectors.with_columns(pl.col("face").list.head(3))
    assert compare(vectors, vectors.sample(500, seed=1)).verdict == "none"
    found = compare(vectors, shorter)
    assert [column.verdict for column in found.columns] == ["broken"]
    assert found.columns[0].nulls == {"reference": 0.0, "current": 1.0}


def test_the_picture_has_all_shares_of_both_sides() -> None:
    for column in compare(THEN, NOW.with_columns(carrier=pl.lit("ZZ"))).columns:
        assert sum(bar.reference for bar in column.bars) == pytest.approx(1)
        assert sum(bar.current for bar in column.bars) == pytest.approx(1)
    assert column.bars


def test_what_each_column_says() -> None:
    found = {c.name: c for c in compare(THEN, NOW).columns}
    assert found["price"].ks is not None
    assert found["carrier"].ks is None
    assert found["carrier"].psi is not None
    assert found["price"].nulls == {"reference": 0.0, "current": 0.0}
    gone = {c.name: c for c in compare(THEN, NOW.drop("price")).columns}["price"]
    assert gone.psi is None
    assert gone.nulls == {"reference": None, "current": None}


def test_an_empty_reference_tells_nothing() -> None:
    assert compare(THEN[:0], NOW).verdict == "not_enough"


def test_the_users_lines_hold() -> None:
    shifted = NOW.with_columns(pl.col("price") + 10)
    assert compare(THEN, shifted, Watching(effect=9)).verdict == "none"
    assert compare(THEN, NOW[:41].with_columns(pl.col("price") + 30), Watching(at_least=30)).verdict == "drift"
