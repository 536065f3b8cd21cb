"""A baseline grows window by window while it learns, as if all had been known at once."""

from __future__ import annotations

import numpy as np
import pytest

from everfit.detect.decay import Decay, advance
from everfit.detect.outcomes import Outcomes
from everfit.detect.proven import Baseline, Seasons, learn, with_window


def window(seed: int, rows: int = 300, skill: float = 2.0) -> Outcomes:
    chance = np.random.default_rng(seed)
    signal = chance.normal(size=rows)
    truth = (chance.random(rows) < 1 / (1 + np.exp(-skill * signal))).astype(np.int64)
    positive = 1 / (1 + np.exp(-2 * signal))
    return Outcomes(truth, np.stack([1 - positive, positive], axis=1), ("0", "1"), "1", "binary", np.arange(rows))


@pytest.mark.parametrize("metric", ["accuracy", "brier", "roc_auc", "f1"])
@pytest.mark.parametrize("length", [1, 7])
def test_windows_that_join_count_as_if_they_had_been_there_from_the_start(metric: str, length: int) -> None:
    windows = [window(seed) for seed in range(24)]
    grown = learn(metric, windows[:6], seasons=Seasons(length))
    whole = learn(metric, windows, seasons=Seasons(length))
    assert isinstance(grown, Baseline)
    assert isinstance(whole, Baseline)
    for more in windows[6:]:
        grown = with_window(grown, metric, more)
    assert grown.windows == whole.windows == 24
    assert (grown.mean, grown.phi, grown.usual) == pytest.approx((whole.mean, whole.phi, whole.usual))
    assert (grown.limit, grown.between.mean) == pytest.approx((whole.limit, whole.between.mean))
    assert grown.between.deviation == pytest.approx(whole.between.deviation)
    assert grown.offsets == pytest.approx(whole.offsets)


def test_what_counts_as_the_greatest_loss_stays_as_the_first_windows_told() -> None:
    windows = [window(seed) for seed in range(12)]
    known = learn("log_loss", windows[:6])
    assert isinstance(known, Baseline)
    grown = with_window(known, "log_loss", windows[6])
    assert grown.scale == known.scale
    assert grown.mean * grown.scale == pytest.approx(known.mean * known.scale, rel=0.2)


def test_a_lucky_start_is_forgotten_while_the_baseline_learns() -> None:
    """Five held-out windows of a stream that never changes were too good; held to them alone it alarms for ever."""
    lucky = sorted((window(seed) for seed in range(40)), key=lambda w: -float((w.scores.argmax(1) == w.truth).mean()))
    fixed = grown = learn("accuracy", lucky[:5])
    assert isinstance(fixed, Baseline)
    assert isinstance(grown, Baseline)
    alarms = {"fixed": 0, "grown": 0}
    states = {"fixed": Decay(), "grown": Decay()}
    for seed in range(100, 300):
        states["fixed"], found = advance(states["fixed"], fixed, "accuracy", window(seed), 1 / 100)
        alarms["fixed"] += found.alarm
        states["grown"], found = advance(states["grown"], grown, "accuracy", window(seed), 1 / 100)
        alarms["grown"] += found.alarm
        if grown.learning and not found.alarm:
            grown = with_window(grown, "accuracy", window(seed))
    assert alarms["fixed"] > 5
    assert alarms["grown"] <= 2
    assert grown.learning is None


def test_a_window_that_does_not_define_the_metric_leaves_the_baseline_as_it_was() -> None:
    known = learn("roc_auc", [window(seed) for seed in range(6)])
    assert isinstance(known, Baseline)
    one_class = Outcomes(np.zeros(50, dtype=np.int64), np.full((50, 2), 0.5), ("0", "1"), "1", "binary", np.arange(50))
    assert with_window(known, "roc_auc", one_class) == known
