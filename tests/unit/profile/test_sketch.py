"""How many distinct values, and which are frequent, within the stated errors."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile.column import heavy_hitters
from everfit.profile.kernels import tally
from everfit.profile.sketch import FREQUENT, KEPT, Frequent, distinct, frequent
from everfit.profile.table import learn_bins, merge_all, portray

CHANCE = np.random.default_rng(5)
SIGMA = 1 / np.sqrt(KEPT - 2)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(CHANCE.normal(size=300_000), id="continuous"),
        pytest.param(np.arange(300_000.0), id="whole numbers"),
        pytest.param(np.arange(200_000) * 0.001, id="a grid"),
        pytest.param(1.7e9 + np.arange(200_000) * 60.0, id="minutes"),
        pytest.param(np.round(CHANCE.normal(0, 1e4, 300_000), 1), id="rounded, with ties"),
        pytest.param(CHANCE.integers(0, 10**9, 300_000).astype(float), id="ids"),
        pytest.param(CHANCE.random(200_000).astype(np.float32).astype(float), id="single precision"),
    ],
)
def test_many_distinct_values_are_estimated(values: np.ndarray) -> None:
    found = distinct(tally(values, np.array([0.0]), 0.0).hashes)
    assert found == pytest.approx(len(np.unique(values)), rel=4 * SIGMA)


@pytest.mark.parametrize("many", [0, 1, 50, KEPT - 1])
def test_few_distinct_values_are_exact(many: int) -> None:
    values = np.concatenate([np.repeat(np.arange(many) * 1.5, 30), [np.nan, np.inf]])
    assert distinct(tally(values, np.array([0.0]), 0.0).hashes) == many


def test_categories_are_counted_like_numbers() -> None:
    frame = pl.DataFrame({"c": pl.Series(CHANCE.integers(0, 50_000, 200_000)).cast(pl.String)})
    bins = learn_bins(frame, Schema((Column("c", Kind.CATEGORY),), ()))
    whole = portray(frame, bins).columns["c"].distinct
    assert whole == pytest.approx(frame["c"].n_unique(), rel=4 * SIGMA)
    assert (
        merge_all([portray(frame[i : i + 70_000], bins) for i in (140_000, 0, 70_000)]).columns["c"].distinct == whole
    )


def test_frequent_names_are_off_by_no_more_than_they_say() -> None:
    names = [f"n{i}" for i in CHANCE.zipf(1.3, 60_000)]
    truth = {name: names.count(name) for name in {*names[:2000]}}
    summary = Frequent()
    for start in range(0, len(names), 5000):
        part = pl.Series(names[start : start + 5000]).value_counts()
        summary = frequent(summary, dict(part.iter_rows()))
    assert len(summary.counts) <= FREQUENT
    assert summary.missed <= len(names) / (FREQUENT + 1)
    for name, many in truth.items():
        assert summary.counts.get(name, 0) <= many <= summary.counts.get(name, 0) + summary.missed


def test_new_frequent_categories_are_named() -> None:
    bins = learn_bins(pl.DataFrame({"c": ["a", "b"]}), Schema((Column("c", Kind.CATEGORY),), ()))
    now = pl.DataFrame({"c": ["new"] * 500 + ["a"] * 20 + [f"rare {i}" for i in range(3000)]})
    found = merge_all([portray(now[i::3], bins) for i in range(3)]).columns["c"]
    assert heavy_hitters(found, 2) == [("new", 500), ("a", 20)] or heavy_hitters(found, 1)[0][1] >= 500 - 3520 // 65
    assert heavy_hitters(found, 1)[0][0] == "new"
    assert found.unseen == 3500
