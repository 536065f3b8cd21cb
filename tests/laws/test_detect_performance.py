"""Laws of performance: intervals cover as often as they say, and resampling is arithmetic on blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from everfit.detect.metrics import Values
from everfit.detect.performance import METRICS, Outcomes, level, measure, paired_gain
from everfit.detect.signal import Signal
from tests.examples import examples

RUNS, DAY = 300, 0.5  # simulations; standard deviation of the effect that the rows of a block share
BLOCKS = np.repeat(np.arange(20), 50)


def binary(scores: np.ndarray, truth: np.ndarray) -> Outcomes:
    return Outcomes(truth, np.stack([-scores, scores], axis=1), ("0", "1"), "1", "binary", BLOCKS)


def ranked(seed: int) -> tuple[Outcomes, Outcomes, float, float]:
    """Scores of one class lie 1 (a) or 0.7 (b) higher; days shift them all."""
    chance = np.random.default_rng(seed)
    day = chance.normal(0, DAY, 20)[BLOCKS]
    truth = (chance.random(1000) < 0.3).astype(np.int64)
    a, b = (binary(chance.normal(truth * apart + day), truth) for apart in (1.0, 0.7))
    spread = np.sqrt(2 + 2 * DAY**2)
    return a, b, float(stats.norm.cdf(1 / spread)), float(stats.norm.cdf(0.7 / spread))


def missed(seed: int) -> tuple[Outcomes, Outcomes, float, float]:
    """Errors whose size differs from day to day; those of b are 1.1 times as large."""
    chance = np.random.default_rng(seed)
    day = chance.normal(0, DAY, 20)[BLOCKS]
    truth = chance.normal(size=1000)
    a, b = (
        Outcomes(
            truth, (truth + more * chance.normal(size=1000) * np.exp(day))[:, None], (), None, "regression", BLOCKS
        )
        for more in (1.0, 1.1)
    )
    mean = float(np.sqrt(2 / np.pi) * np.exp(DAY**2 / 2))
    return a, b, mean, 1.1 * mean


CASES = [
    pytest.param("roc_auc", ranked, id="ROC AUC with day effects", marks=pytest.mark.simulation),
    pytest.param("mae", missed, id="MAE with day effects"),
]


@pytest.mark.parametrize(("name", "draw"), CASES)
def test_intervals_cover_the_truth(name: str, draw: Callable[[int], tuple[Outcomes, Outcomes, float, float]]) -> None:
    """Nominal 95 %; the standard error of 300 runs is 1.3 points, and 20 skewed blocks cost one or two more."""
    level_covered = gain_covered = 0
    for seed in range(RUNS):
        a, b, true_a, true_b = draw(seed)
        reading, gain = measure(name, a, needed=200), paired_gain(name, a, b)
        assert isinstance(reading, Signal)
        assert gain is not None
        assert reading.low is not None
        assert reading.high is not None
        level_covered += reading.low <= true_a <= reading.high
        apart = true_a - true_b if METRICS[name].greater_is_better else true_b - true_a
        gain_covered += gain[1] <= apart <= gain[2]
    assert 0.90 <= level_covered / RUNS <= 0.985
    assert 0.90 <= gain_covered / RUNS <= 0.985


@examples(40)
@given(st.integers(0, 10_000), st.sampled_from(sorted(set(METRICS) - {"calibration_error"})), st.integers(1, 12))
def test_weights_on_blocks_are_repeated_rows(seed: int, name: str, blocks: int) -> None:
    """The tally of a metric at any multiplicity of blocks is its level on rows repeated as often.

    Save the calibration error: it knows that a repeated row tells nothing twice, and its bins stay.
    """
    chance = np.random.default_rng(seed)
    metric = METRICS[name]
    task = str(chance.choice(metric.tasks))
    classes = {"binary": 2, "multiclass": 4, "regression": 0}[task]
    rows = int(chance.integers(1, 60))
    truth = chance.integers(0, classes, rows) if classes else chance.normal(3, 1, rows)
    scores = chance.dirichlet(np.ones(classes), rows).round(1) if classes else chance.normal(3, 1, (rows, 1))
    at = chance.integers(0, blocks, rows)
    given_rows = Outcomes(truth, scores, tuple("abcd"[:classes]), None, task, at)
    values: Values = metric.tally(given_rows, at, blocks)
    often = chance.integers(0, 3, blocks)
    again = np.repeat(np.arange(rows), often[at])
    repeated = Outcomes(truth[again], scores[again], given_rows.classes, None, task, at[again])
    found, plain = float(values(often[None, :].astype(float))[0]), level(name, repeated)
    assert (plain is None and not np.isfinite(found)) or found == pytest.approx(plain, abs=1e-9)


@examples(40)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_plays_no_role_for_levels(seed: int) -> None:
    chance = np.random.default_rng(seed)
    truth, scores = chance.integers(0, 2, 50), chance.random(50).round(1)
    order = chance.permutation(50)
    one = Outcomes(truth, np.stack([1 - scores, scores], axis=1), ("0", "1"), "1", "binary", np.arange(50))
    other = Outcomes(truth[order], one.scores[order], one.classes, "1", "binary", one.blocks)
    for name, metric in METRICS.items():
        if "binary" in metric.tasks:
            assert level(name, one) == pytest.approx(level(name, other))
