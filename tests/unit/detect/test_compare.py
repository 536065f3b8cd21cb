"""Two frames against each other, whatever they look like."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from everfit.detect.compare import compare
from everfit.detect.options import Watching

CHANCE = np.random.default_rng(0)
THEN = pl.DataFrame(
    {
        "price": CHANCE.normal(100, 10, 5000),
        "size": CHANCE.integers(1, 20, 5000),
        "carrier": CHANCE.choice(["AA", "BB", "CC"], 5000),
        "cargo": CHANCE.random(5000) < 0.4,
    }
)
NOW = THEN.sample(1000, seed=1)

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
    }
    assert "sampling noise" in found["said"][-1]


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
