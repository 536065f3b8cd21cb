"""Whether windows follow a season."""

from __future__ import annotations

import numpy as np
import pytest

from everfit.detect.season import find_season, phase_means

WEEK, DAY = 7, 24


def noise(windows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(windows, 100))


def wave(windows: int, period: int, size: float) -> np.ndarray:
    found: np.ndarray = size * np.sin(2 * np.pi * np.arange(windows) / period)[:, None] * (np.arange(100) < 20)
    return found


@pytest.mark.parametrize(
    "scores, periods, expected",
    [
        pytest.param(noise(60), (WEEK, DAY), 1, id="noise has none"),
        pytest.param(noise(60) + wave(60, WEEK, 3), (WEEK,), WEEK, id="a week is found"),
        pytest.param(noise(60) + wave(60, WEEK, 3), (), 1, id="what is not looked for is not found"),
        pytest.param(noise(20) + wave(20, WEEK, 9), (WEEK,), 1, id="fewer than three cycles prove nothing"),
        pytest.param(noise(80) + wave(80, DAY, 3), (WEEK, DAY), DAY, id="hours of the day are found"),
        pytest.param(noise(99) + wave(99, 4, 3), (4, 8, 12), 4, id="a multiple of the season explains no more"),
        pytest.param(
            noise(99) + wave(99, 4, 3) + wave(99, 12, 3), (4, 12), 12, id="a longer season inside a short one"
        ),
        pytest.param(np.cumsum(noise(90), axis=0), (WEEK, DAY), 1, id="a walk is no season"),
        pytest.param(np.zeros((60, 100)), (WEEK,), 1, id="constants have none"),
    ],
)
def test_find_season(scores: np.ndarray, periods: tuple[int, ...], expected: int) -> None:
    assert find_season(scores, np.arange(len(scores)), periods) == expected


def test_gaps_do_not_move_the_phase() -> None:
    kept = np.delete(np.arange(70), [3, 17, 18, 40])
    scores = (noise(70) + wave(70, WEEK, 3))[kept]
    assert find_season(scores, kept, (WEEK,)) == WEEK
    assert find_season(scores, np.arange(len(kept)), (WEEK,), chance=1e-6) == 1


def test_a_phase_that_was_never_seen_gets_the_mean_of_all() -> None:
    means, seen = phase_means(np.array([[1.0], [3.0]]), np.array([0, 1]), 3)
    assert means.tolist() == [[1.0], [3.0], [2.0]]
    assert seen.tolist() == [1.0, 1.0, 1.0]
