"""How good predictions were where the truth is known: levels, intervals, and the gain of one over another.

Takes outcomes; gives readings named `performance.<metric>`; never compares different rows, and never alarms.

Intervals resample blocks of time (`blocks_of`), because rows of one hour or day hang together: the percentile
interval of the block bootstrap, widened about the estimate by `t(blocks - 1) / z * sqrt(blocks / (blocks -
1))` because blocks are few (Efron and Tibshirani 1993 for the percentiles; the factor is that of the expanded
percentile interval of Hesterberg 2015, "What teachers should know about the bootstrap", used on the metric's
scale instead of on the tail). Chance is seeded by the truth and the blocks, so the same rows give the same
interval.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import scipy

from everfit.detect.catalogue import (
    DEFAULTS,
    METRICS,
    Metric,
    check_metric,
    default_metric,
    metric_from,
    metric_named,
    positive_is_better,
)
from everfit.detect.metrics import UserFailed
from everfit.detect.outcomes import Floats, Ints, Outcomes, blocks_of, outcomes_from
from everfit.detect.signal import NotEnough, Reading, Signal

__all__ = [
    "DEFAULTS",
    "METRICS",
    "Metric",
    "Outcomes",
    "blocks_of",
    "check_metric",
    "default_metric",
    "level",
    "measure",
    "metric_from",
    "metric_named",
    "outcomes_from",
    "paired_gain",
    "positive_is_better",
]

SLOW_RESAMPLES = 200  # of a user's function: the bounds scatter by 10 % of the width, for a fifth of the calls
ANY_UNDEFINED = 0.05  # more undefined resamples than this share and the rows are too few to give an interval


def level(metric: Metric | str, outcomes: Outcomes) -> float | None:
    """The metric on these rows; None when it is undefined there, and `metric.needs` says what is missing.

    >>> scores = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])
    >>> given = Outcomes(np.array([0, 1, 1]), scores, ("0", "1"), "1", "binary", np.arange(3))
    >>> level("roc_auc", given), round(level("accuracy", given), 3)
    (1.0, 0.667)
    """
    if outcomes.rows == 0:
        return None
    values = _metric(metric).tally(outcomes, np.zeros(outcomes.rows, dtype=np.int64), 1)
    try:
        return _number(values(np.ones((1, 1)))[0])
    except UserFailed:
        return None


def measure(
    metric: Metric | str,
    outcomes: Outcomes,
    *,
    needed: int,
    confidence: float = 0.95,
    column: str = "*",
    resamples: int = 1000,
) -> Reading:
    """Read a metric with its interval; `NotEnough` below `needed` rows, or where the rows do not define it.

    >>> truth = np.arange(400) % 2
    >>> right = np.where(np.arange(400) % 5 == 0, 1 - truth, truth)
    >>> scores = np.stack([1 - right, right], axis=1) * 1.0
    >>> given = Outcomes(truth, scores, ("0", "1"), "1", "binary", np.arange(400) // 8)
    >>> reading = measure("accuracy", given, needed=200)
    >>> reading.value, reading.low < 0.8 < reading.high
    (0.8, True)
    >>> measure("accuracy", given, needed=500).said
    '400 labelled rows, 500 needed'
    """
    metric, name = _metric(metric), f"performance.{_metric(metric).name}"
    if outcomes.rows < max(1, needed):
        said = f"{outcomes.rows} labelled rows, {needed} needed"
        return NotEnough(name, column, outcomes.rows, needed, said)
    blocks, many = _blocks(outcomes)
    values = metric.tally(outcomes, blocks, many)
    try:
        value = _number(values(np.ones((1, many)))[0])
    except UserFailed as failed:
        return NotEnough(name, column, outcomes.rows, needed, f"{metric.name} failed: {failed}")
    if value is None:
        return NotEnough(name, column, outcomes.rows, needed, f"{metric.name} needs {metric.needs}")
    bounds = _interval(value, values(_draws(outcomes, blocks, many, _resamples(metric, resamples))), many, confidence)
    if bounds is None:
        return NotEnough(
            name, column, outcomes.rows, needed, f"{metric.name} needs more {metric.needs.removeprefix('a ')}"
        )
    return Signal(name, column, value, outcomes.rows, low=_clip(bounds[0], metric), high=_clip(bounds[1], metric))


def paired_gain(
    metric: Metric | str, a: Outcomes, b: Outcomes, *, confidence: float = 0.95, resamples: int = 1000
) -> tuple[float, float, float] | None:
    """By how much `a` is better than `b` on the same rows: (gain, low, high), positive when `a` is better.

    Both are read on the same draws of blocks, so what is hard for both cancels. None when the rows are too
    few to define the metric in 95 % of the draws.

    >>> truth = np.arange(400) % 2
    >>> sure, wrong = np.stack([1 - truth, truth], axis=1) * 1.0, np.stack([truth, 1 - truth], axis=1) * 1.0
    >>> a = Outcomes(truth, sure, ("0", "1"), "1", "binary", np.arange(400) // 8)
    >>> b = Outcomes(truth, wrong, ("0", "1"), "1", "binary", np.arange(400) // 8)
    >>> paired_gain("accuracy", a, b)
    (1.0, 1.0, 1.0)
    """
    if a.rows == 0 or not np.array_equal(a.truth, b.truth):
        return None
    metric = _metric(metric)
    blocks, many = _blocks(a)
    of_a, of_b = metric.tally(a, blocks, many), metric.tally(b, blocks, many)
    sign = 1.0 if metric.greater_is_better else -1.0
    once = np.ones((1, many))
    try:
        value = _number(sign * (of_a(once)[0] - of_b(once)[0]))
    except UserFailed:
        return None
    if value is None:
        return None
    draws = _draws(a, blocks, many, _resamples(metric, resamples))
    bounds = _interval(value, sign * (of_a(draws) - of_b(draws)), many, confidence)
    return None if bounds is None else (value, *bounds)


def _metric(metric: Metric | str) -> Metric:
    return metric_named(metric) if isinstance(metric, str) else metric


def _resamples(metric: Metric, wanted: int) -> int:
    return min(wanted, SLOW_RESAMPLES) if metric.slow else wanted


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _clip(value: float, metric: Metric) -> float:
    return float(np.clip(value, metric.low, metric.high))


def _blocks(outcomes: Outcomes) -> tuple[Ints, int]:
    """Blocks numbered without gaps; a single block tells nothing, so its rows stand for themselves."""
    blocks = np.unique(outcomes.blocks, return_inverse=True)[1].reshape(-1).astype(np.int64)
    if outcomes.rows and blocks.max() == 0:
        blocks = np.arange(outcomes.rows, dtype=np.int64) * min(outcomes.rows, 100) // outcomes.rows
    return blocks, int(blocks.max()) + 1


def _draws(outcomes: Outcomes, blocks: Ints, many: int, resamples: int) -> Floats:
    """How often each block is drawn in each resample, (resamples, blocks)."""
    seed = blake2b(outcomes.truth.tobytes() + blocks.tobytes(), digest_size=8).digest()
    drawn = np.random.default_rng(int.from_bytes(seed)).integers(0, many, size=(resamples, many))
    drawn += np.arange(resamples)[:, None] * many
    return np.bincount(drawn.ravel(), minlength=resamples * many).reshape(resamples, many).astype(np.float64)


def _interval(value: float, drawn: Floats, many: int, confidence: float) -> tuple[float, float] | None:
    defined = drawn[np.isfinite(drawn)]
    if many < 2 or len(defined) < (1 - ANY_UNDEFINED) * len(drawn):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    wider = scipy.special.stdtrit(many - 1, 1 - tail) / scipy.special.ndtri(1 - tail) * np.sqrt(many / (many - 1))
    return float(value - wider * max(0.0, value - low)), float(value + wider * max(0.0, high - value))
