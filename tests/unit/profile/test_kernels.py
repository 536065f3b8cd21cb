"""Edges and counts against numpy's plain ways."""

from __future__ import annotations

import numpy as np
import pytest

from everfit.profile.kernels import BLOCK, learn_edges, tally

CHANCE = np.random.default_rng(0)
TIED = np.concatenate([np.zeros(3000), CHANCE.normal(size=5000)])


@pytest.mark.parametrize(
    ("values", "bins"),
    [
        pytest.param(np.array([]), 0, id="nothing has no bins"),
        pytest.param(np.array([np.nan, np.inf, -np.inf]), 0, id="nothing finite has no bins"),
        pytest.param(np.full(100, 7.0), 1, id="a constant has one bin"),
        pytest.param(np.array([0.0, -0.0, 1.0]), 3, id="two values have a bin each and a gap between"),
        pytest.param(CHANCE.normal(size=100_000), 256, id="continuous values have 256 bins"),
        pytest.param(np.array([1.0, np.finfo(float).max]), 3, id="the largest float has a bin"),
    ],
)
def test_edges(values: np.ndarray, bins: int) -> None:
    edges = learn_edges(values)
    assert max(0, len(edges) - 1) == bins
    assert (np.diff(edges) > 0).all()
    counts = tally(values, edges, 0.0).counts
    assert counts.sum() == np.isfinite(values).sum()
    if bins:
        assert counts[0] == counts[-1] == 0, "nothing that was learned lies outside"


def test_bins_of_continuous_values_are_equally_deep() -> None:
    values = CHANCE.normal(size=100_000)
    counts = tally(values, learn_edges(values), 0.0).counts[1:-1]
    assert counts.min() >= 100_000 // 256 - 1
    assert counts.max() <= 100_000 // 256 + 2


def test_a_tied_value_has_a_bin_of_its_own() -> None:
    edges = learn_edges(TIED)
    at = int(np.searchsorted(edges, 0.0, side="right"))
    assert edges[at - 1] == 0.0
    assert tally(TIED, edges, 0.0).counts[at] == 3000


@pytest.mark.parametrize("size", [0, 1, 1000, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_counts_and_moments(size: int) -> None:
    edges = learn_edges(TIED)
    values = CHANCE.normal(2, 3, size=size)
    values[::50] = np.nan
    values[1::97] = np.inf
    values[2::89] = -np.inf
    seen = tally(values, edges, shift=1.5)
    finite = values[np.isfinite(values)]
    places = np.searchsorted(edges, finite, side="right")
    assert seen.counts.tolist() == np.bincount(places, minlength=len(edges) + 1).tolist()
    assert (seen.nan, seen.plus_inf, seen.minus_inf) == (
        np.isnan(values).sum(),
        (values == np.inf).sum(),
        (values == -np.inf).sum(),
    )
    assert seen.total == pytest.approx((finite - 1.5).sum())
    assert seen.squares == pytest.approx(((finite - 1.5) ** 2).sum())
    assert (seen.low, seen.high) == ((finite.min(), finite.max()) if finite.size else (np.inf, -np.inf))
