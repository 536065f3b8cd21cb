"""How much healthy windows differ."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from everfit.detect.spread import _trigamma_inverse, learn_spread, left_out

FAMILY = np.zeros(40, dtype=np.intp)


def apart(rng: np.random.Generator, windows: int, scale: float = 1.0, r: float = 0.0) -> np.ndarray:
    found = rng.normal(size=(windows, 40))
    for t in range(1, windows):
        found[t] = r * found[t - 1] + np.sqrt(1 - r * r) * found[t]
    found *= scale
    centred: np.ndarray = found - found.mean(axis=0)
    return centred


def every(windows: int) -> np.ndarray:
    return np.arange(1, windows)


def test_with_few_windows_each_score_speaks_for_itself() -> None:
    rows = apart(np.random.default_rng(1), 10, scale=2.0)
    spread = learn_spread(rows, every(10), 1, FAMILY, full=False)
    assert spread.variance == pytest.approx(np.maximum(1, (rows**2).sum(axis=0) / 9))
    assert (spread.freedom == 9).all()
    assert spread.memory == 1.0


def test_the_variance_is_never_below_that_of_chance() -> None:
    spread = learn_spread(apart(np.random.default_rng(2), 30, scale=0.1), every(30), 1, FAMILY, full=True)
    assert (spread.variance == 1).all()


def test_columns_speak_for_each_other_upwards_only() -> None:
    rows = apart(np.random.default_rng(3), 30, scale=2.0)
    own = (rows**2).sum(axis=0) / 29
    spread = learn_spread(rows, every(30), 1, FAMILY, full=True)
    assert (spread.variance >= np.maximum(1, own) - 1e-9).all()
    up = spread.variance <= own + 1e-9
    assert up.any()
    assert not up.all()
    assert (spread.freedom[up] == 29).all(), "a score that is noisier than its family has its own freedom alone"
    assert (spread.freedom[~up] > 29).all()


def test_memory_between_windows_is_found_where_there_is_one() -> None:
    rng = np.random.default_rng(4)
    remembers = learn_spread(apart(rng, 60, r=0.7), every(60), 1, FAMILY, full=True)
    forgets = learn_spread(apart(rng, 60), every(60), 1, FAMILY, full=True)
    assert 4 < remembers.memory < 8
    assert forgets.memory == 1.0


def test_windows_across_a_gap_are_not_neighbours() -> None:
    rows = apart(np.random.default_rng(5), 60, r=0.7)
    assert learn_spread(rows, np.array([], dtype=np.intp), 1, FAMILY, full=True).memory == 1.0


def test_strong_memory_and_few_windows_trust_no_pooled_freedom() -> None:
    rows = apart(np.random.default_rng(6), 24, r=0.8)
    spread = learn_spread(rows, every(24), 1, FAMILY, full=True)
    assert spread.memory > 1.3
    assert (spread.freedom < 12).all()


def test_a_score_of_no_family_counts_for_none() -> None:
    rows = apart(np.random.default_rng(7), 30)
    rows[:, 0] *= 30
    outside = FAMILY.copy()
    outside[0] = -1
    alone = learn_spread(rows, every(30), 1, outside, full=True)
    assert alone.prior[0] == 0
    assert alone.prior_freedom[1] > learn_spread(rows, every(30), 1, FAMILY, full=True).prior_freedom[1]


def test_leaving_a_window_out_equals_learning_without_it() -> None:
    rng = np.random.default_rng(8)
    raw = rng.normal(0, 3, (30, 40))
    spread = learn_spread(raw - raw.mean(axis=0), every(30), 1, FAMILY, full=False)
    t, _ = left_out(raw - raw.mean(axis=0), np.full(30, 1 / 30), spread, 1)
    others = raw[1:]
    by_hand = (raw[0] - others.mean(axis=0)) / np.sqrt(np.maximum(1, others.var(axis=0, ddof=1)) * (1 + 1 / 29))
    assert t[0] == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize("value", [1e-8, 1e-3, 0.5, 3.0, 1e8])
def test_the_inverse_of_trigamma(value: float) -> None:
    assert float(scipy.special.polygamma(1, _trigamma_inverse(value))) == pytest.approx(value, rel=1e-4)
