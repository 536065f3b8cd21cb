"""The interval of a mean difference: how often it holds the truth, and what it does with little."""

from __future__ import annotations

import numpy as np
import pytest

from everfit.replay.apart import apart, hundred, unit_of


@pytest.mark.parametrize("many", [8, 24, 60])
def test_it_holds_the_truth_as_often_as_it_says(many: int) -> None:
    chance = np.random.default_rng(many)
    held = 0
    for _ in range(100):
        steps = chance.normal(size=many + 1)
        found = apart(steps[1:] + 0.3 * steps[:-1])  # neighbours hang together
        held += found.low <= 0 <= found.high
    assert held >= 83  # 90 are promised; 2.3 standard deviations below


def test_undefined_windows_are_left_out() -> None:
    values = np.random.default_rng(0).normal(size=40)
    holes = np.insert(values, [3, 9], np.nan)
    assert apart(holes) == apart(values)


def test_little_tells_little() -> None:
    for few in ([], [np.nan], [0.4], [5.0]):
        found = apart(np.array(few))
        assert not found.told
        assert found.low <= found.mean <= found.high
    two = apart(np.array([0.2, 0.3]))
    assert two.low < 0 < two.high


def test_a_side_of_four_fifths_is_narrower() -> None:
    values = np.random.default_rng(0).normal(size=40)
    narrow, wide = apart(values, 0.8), apart(values)
    assert wide.low < narrow.low < narrow.mean == wide.mean < narrow.high < wide.high


def test_units_and_small_amounts() -> None:
    assert unit_of("accuracy") == "points of accuracy"
    assert unit_of("rmse") == "% of the best constant's rmse"
    assert hundred(-0.0004, "points") == "-0.04 points"
    assert hundred(-0.00001) == "0.0"
