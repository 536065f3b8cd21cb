"""Drift judged by harm: how much a column matters to the champion, and how much of a loss its drift explains.

Takes scores of permuted rows, drift readings, held-out rows and attributions; gives importances and signals; never
calls a model: whoever has one scores the frame that `permuted` makes, in one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import scipy

from everfit.detect.catalogue import Metric, metric_named
from everfit.detect.estimate import LOSSES, Estimator, Window, estimate
from everfit.detect.estimate_metrics import EXPECTED, Chances, expect
from everfit.detect.outcomes import Floats, Ints, Outcomes
from everfit.detect.performance import positive_is_better
from everfit.detect.signal import NotEnough, Reading, Signal
from everfit.detect.weights import column_ratio
from everfit.errors import UsageError

ROWS = 1000  # rows that are permuted: with 50 columns one call scores 51,000
BLOCKS = 20  # of rows, left out one at a time for the standard error of a metric's fall
Z = 1.959964  # 95 %
SAME_ORDER = 0.9  # NDCG below which SageMaker Clarify calls attributions drifted


@dataclass(frozen=True, slots=True, eq=False)
class Permuted:
    """Rows to be scored so that importances can be read off."""

    frame: pl.DataFrame  # the rows as they are, then once for each column with that column permuted
    columns: tuple[str, ...]
    rows: Ints  # which of the given rows stand in each part, (rows,)


@dataclass(frozen=True, slots=True)
class Explained:
    """What drift explains of the metric, on the scale of the metric."""

    total: Reading  # "harm.<metric>": estimated change of the metric, below 0 when a greater metric is better and falls
    columns: tuple[Signal, ...]  # the same for the drift of one column alone, the most harmful first
    said: str  # the sentence a person reads


def permuted(rows: pl.DataFrame, columns: Sequence[str], *, seed: int = 0) -> Permuted:
    """One long frame to score: at most 1,000 rows, once as they are and once with each column permuted.

    Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019) on rows that the champion was not trained on.

    >>> made = permuted(pl.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]}), ["a"])
    >>> made.frame.height, made.frame["b"].to_list()
    (6, [4, 5, 6, 4, 5, 6])

    Raises:
        UsageError: a column is not in the rows.
    """
    for name in columns:
        if name not in rows.columns:
            raise UsageError(f"column {name!r} is not among the rows; name columns of the schema")
    kept = np.linspace(0, rows.height - 1, min(ROWS, rows.height)).astype(np.int64)
    here = rows[kept]
    chance = np.random.default_rng(seed)
    parts = [here, *(here.with_columns(here[name][chance.permutation(here.height)]) for name in columns)]
    return Permuted(pl.concat(parts), tuple(columns), kept)


def importance_from(made: Permuted, scores: Floats, outcomes: Outcomes, metric: Metric | str) -> dict[str, float]:
    """Shares of the columns in what permuting them costs the metric; not negative, summing to 1.

    `scores` are those of `made.frame`, in its order; `outcomes` those of all rows that `permuted` was given. A fall
    counts as far as it exceeds its own standard error (jackknife over 20 blocks of rows), so a column that the model
    does not use gets 0. Where no column is above its noise all get the same share: nothing is known.

    Raises:
        UsageError: there are not as many scores as rows of the frame.
    """
    many = len(made.rows)
    if len(scores) != made.frame.height:
        raise UsageError(f"{len(scores)} scores for {made.frame.height} rows; score the frame as it is, in its order")
    blocks = np.arange(many, dtype=np.int64) * min(BLOCKS, many) // max(1, many)
    width = int(blocks.max()) + 1 if many else 1
    weights = np.concatenate([np.ones((1, width)), 1 - np.eye(width)])
    chosen = metric_named(metric) if isinstance(metric, str) else metric
    levels = []
    for part in range(len(made.columns) + 1):
        its = scores[part * many : (part + 1) * many].reshape(many, -1)
        given = replace(outcomes, truth=outcomes.truth[made.rows], scores=its, blocks=blocks)
        levels.append(chosen.tally(given, blocks, width)(weights))
    falls = {}
    for name, values in zip(made.columns, levels[1:], strict=True):
        fall = positive_is_better(chosen, 1.0) * (levels[0] - values)
        error = float(np.sqrt((width - 1) / width * ((fall[1:] - fall[1:].mean()) ** 2).sum()))
        sure = float(fall[0]) - error
        falls[name] = sure if np.isfinite(sure) and sure > 0 else 0.0
    total = sum(falls.values())
    return {name: fall / total if total > 0 else 1 / len(falls) for name, fall in falls.items()}


def harmful(readings: Iterable[Reading], importances: Mapping[str, float]) -> Reading:
    """Drift of the columns, each as heavy as it matters to the champion: `drift.harm`.

    The value is the mean debiased PSI weighted by importance. The p-value is that of a weighted Bonferroni test, the
    smallest p / importance (Genovese, Roeder and Wasserman 2006): valid under any dependence, for importances sum to 1.

    >>> idle = Signal("drift.psi", "idle", 0.9, 1000, effect=0.9, p_value=1e-9)
    >>> used = Signal("drift.psi", "used", 0.1, 1000, effect=0.1, p_value=0.2)
    >>> found = harmful([idle, used], {"used": 1.0, "idle": 0.0})
    >>> found.value, found.p_value
    (0.1, 0.2)
    """
    drift = [r for r in readings if isinstance(r, Signal) and r.name == "drift.psi" and r.column in importances]
    known = sum(importances[r.column] for r in drift)
    if known <= 0:
        return NotEnough("drift.harm", "*", 0, 1, "no drift reading of a column that matters")
    value = sum(importances[r.column] * max(0.0, r.effect or 0.0) for r in drift) / known
    tested = [
        r.p_value * known / importances[r.column] for r in drift if importances[r.column] > 0 and r.p_value is not None
    ]
    p_value = min(1.0, *tested, 1.0) if tested else None
    return Signal("drift.harm", "*", value, min(r.rows for r in drift), effect=value, p_value=p_value)


def explained_loss(estimator: Estimator, metric: str, window: Window) -> Explained:
    """How much of the metric the window's drift explains: its estimate less that of the held-out rows.

    The total is `estimate` on the window less the metric of the held-out rows, with an interval that counts both. The
    part of a column is the metric of the held-out rows reweighted so that this column alone lies as in the window,
    less the plain one: parts of columns that move together overlap, so they need not add up.
    """
    name = f"harm.{metric}"
    usual = _reweighted(estimator, metric, np.ones(len(estimator.scores)))
    now = estimate(estimator, metric, window)
    if usual is None or isinstance(now, NotEnough):
        said = now.said if isinstance(now, NotEnough) else f"{metric} is not defined on the held-out rows"
        lost = NotEnough(name, "*", len(window.scores), len(window.scores), said)
        return Explained(lost, (), f"nothing is known of what drift costs: {said}")
    before, error = usual.value, float(np.sqrt((usual.parts**2).sum()))
    half = (now.high - now.low) / 2 if now.high is not None and now.low is not None else 0.0
    wide = float(np.hypot(half, Z * error))
    change = now.value - before
    total = Signal(name, "*", change, now.rows, low=change - wide, high=change + wide, effect=change)
    columns = _by_column(estimator, metric, window, usual)
    return Explained(total, columns, _say(metric, total, columns))


def attribution_drift(reference: Floats, now: Floats, columns: Sequence[str]) -> tuple[Reading, ...]:
    """Drift of what the model bases its scores on, from attributions (rows, columns) of the reference and now.

    For each column `drift.attribution`: its share in the mean absolute attribution, with the change as effect and a
    p-value (normal, by the variance of the share over rows). For "*": 1 - NDCG of the order of the columns, as Vertex
    AI and SageMaker Clarify compare attributions; Clarify alerts above 0.1 (NDCG below 0.9).

    >>> flat = np.ones((50, 2)) + np.arange(50)[:, None] / 100
    >>> whole, a, b = attribution_drift(flat * [3, 1], flat * [1, 3], ["a", "b"])
    >>> round(a.value, 2), round(a.effect, 2), whole.value > 0.1
    (0.25, -0.5, True)
    """
    if min(len(reference), len(now)) < 2 or reference.shape[1] != len(columns):
        said = f"attributions of {min(len(reference), len(now))} rows, 2 needed"
        return (NotEnough("drift.attribution", "*", min(len(reference), len(now)), 2, said),)
    then_share, then_error = _shares(reference)
    share, error = _shares(now)
    rows = len(now)
    gain = 1 - _ndcg(then_share, share)
    found: list[Reading] = [Signal("drift.attribution", "*", gain, rows, effect=gain)]
    for at, name in enumerate(columns):
        change, spread = float(share[at] - then_share[at]), float(np.hypot(error[at], then_error[at]))
        p_value = float(2 * scipy.special.ndtr(-abs(change) / spread)) if spread > 0 else float(abs(change) < 1e-12)
        half = Z * float(error[at])
        bounds = (float(share[at]) - half, float(share[at]) + half)
        found.append(Signal("drift.attribution", name, float(share[at]), rows, *bounds, change, p_value))
    return tuple(found)


def linear_attributions(coefficients: Floats, rows: Floats, means: Floats) -> Floats:
    """Attributions of a linear model, (rows, columns): coefficient times distance from the mean.

    They are the Shapley values of a linear model with independent columns (Lundberg and Lee 2017).

    >>> linear_attributions(np.array([2.0, 0.0]), np.array([[1.0, 5.0]]), np.array([0.5, 4.0])).tolist()
    [[1.0, 0.0]]
    """
    attributions: Floats = (rows - means) * coefficients
    return attributions


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    value: float
    parts: Floats  # of each held-out row in how the level varies: the delta method; the error is the root of squares


def _reweighted(estimator: Estimator, metric: str, weights: Floats) -> _Level | None:
    """The metric of the held-out rows under weights."""
    scores = estimator.scores.astype(np.float64)
    if estimator.task == "regression":
        return _reweighted_errors(metric, scores[:, 0], estimator.truth.astype(np.float64), weights)
    if metric not in EXPECTED:
        return None
    width = len(estimator.classes)
    truth = np.where(estimator.truth < 0, width, estimator.truth)
    mass = weights[:, None] * (np.arange(width + 1) == truth[:, None])
    found = expect(metric, Chances(scores, mass, estimator.place))
    return None if found is None else _Level(found.value, (mass * found.slopes).sum(axis=1))


def _reweighted_errors(metric: str, scores: Floats, truth: Floats, weights: Floats) -> _Level | None:
    if metric not in LOSSES:
        return None
    losses = LOSSES[metric](scores, truth)
    weights = np.where(np.isfinite(losses), weights, 0.0)  # a truth of zero has no relative error
    losses = np.where(np.isfinite(losses), losses, 0.0)
    if not weights.sum() > 0:
        return None
    mean = float(weights @ losses / weights.sum())
    parts = weights * (losses - mean) / weights.sum()
    if metric != "rmse":
        return _Level(mean, parts)
    root = float(np.sqrt(mean))
    return _Level(root, parts / (2 * max(root, 1e-300)))


def _by_column(estimator: Estimator, metric: str, window: Window, before: _Level) -> tuple[Signal, ...]:
    if estimator.encoder is None or estimator.codes is None or window.codes is None:
        return ()
    found = []
    for at, name in enumerate(estimator.encoder.names):
        weights = column_ratio(estimator.codes, window.codes, at)
        its = _reweighted(estimator, metric, weights.values)
        if its is None or not weights.enough:
            continue
        change = its.value - before.value
        # Both levels rest on the same rows: only what differs in a row's part is uncertain.
        wide = Z * float(np.sqrt(((its.parts - before.parts) ** 2).sum()))
        found.append(Signal(f"harm.{metric}", name, change, len(window.scores), change - wide, change + wide, change))
    return tuple(sorted(found, key=lambda signal: positive_is_better(metric, signal.value)))


def _say(metric: str, total: Signal, columns: Sequence[Signal]) -> str:
    worse = -positive_is_better(metric, total.value)
    verb = "costs" if worse > 0 else "gains"
    said = f"drift {verb} an estimated {abs(total.value):.3g} of {metric} ({total.low:.3g} to {total.high:.3g})"
    harmful_ones = [s for s in columns if -positive_is_better(metric, s.value) > 0][:3]
    if worse > 0 and harmful_ones:
        said += ", most by " + ", ".join(f"{s.column} ({s.value:+.3g})" for s in harmful_ones)
    return said


def _shares(attributions: Floats) -> tuple[Floats, Floats]:
    """Share of each column in the mean absolute attribution, and its standard error by the delta method."""
    size = np.abs(attributions)
    mean = size.mean(axis=0)
    total = float(mean.sum())
    if total <= 0:
        return np.full(len(mean), 1 / len(mean)), np.zeros(len(mean))
    share = mean / total
    leaning = (size - share * size.sum(axis=1, keepdims=True)) / total
    return share, leaning.std(axis=0, ddof=1) / np.sqrt(len(size))


def _ndcg(then: Floats, now: Floats) -> float:
    """Normalised discounted cumulative gain of the present order under the shares of the reference."""
    discount = 1 / np.log2(np.arange(len(then)) + 2)
    ideal = float(np.sort(then)[::-1] @ discount)
    return float(then[np.argsort(-now, kind="stable")] @ discount) / ideal if ideal > 0 else 1.0
