"""Decay: has the champion become worse than it proved? One window at a time, for ever, at a promised rate.

Takes the state, what was proven and a window's outcomes; gives the next state and the evidence with its threshold;
never acts, and never forgets without an alarm.

Two looks share the rate of false alarms. Seven eighths go to an e-detector over windows, which adds up what is too
little in any one of them (Shiryaev-Roberts on betting scores: Shin, Ramdas and Rinaldo 2022, "E-detectors"; the bets
are those of Waudby-Smith and Ramdas 2023). One eighth goes to a test of this window alone, a prediction t: it finds a
great loss at once even where days differ, and costs the other look 2 % of its delay. By the union bound both together
raise at most `rate * windows` alarms on average, whatever depends on what.

For a metric that is a mean of rows with losses x in [0, 1], each of six bets l multiplies, over the rows of a window,

    M <- (M + 1) * exp(sum log(1 + l (x - limit)) / phi),    alarm if the mean of M reaches 1 / rate; then M <- 0.

With phi = 1 and a mean loss of at most `limit`, whatever came before, the mean number of alarms in T windows is at most
T * rate for every T: rate^-1 * alarms + M - t is a supermartingale. Dividing the exponent by phi, for rows of a window
that hang together, is a quasi-likelihood step that was measured and not proved; `proved=True` bets on the window's mean
as one number, which is valid there too and takes several times as long.

For any other metric the window is the unit: its level becomes a normal score by the healthy windows' spread, with an
allowance for the error of their mean, clipped so that one shocked window adds little to the evidence over windows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy

from everfit.detect.catalogue import Metric, metric_named
from everfit.detect.outcomes import Floats, Outcomes
from everfit.detect.performance import level
from everfit.detect.proven import (
    Baseline,
    Between,
    Counted,
    Seasons,
    arcsine,
    counted,
    learn,
    learn_levels,
    learn_losses,
    level_of,
    worse_upward,
)

__all__ = [
    "Baseline",
    "Counted",
    "Decay",
    "Evidence",
    "Seasons",
    "advance",
    "advance_level",
    "advance_losses",
    "counted",
    "learn",
    "learn_levels",
    "learn_losses",
    "smallest_drop",
]

# Bets in units of the rows' deviation, which is the shift they are best at. The weights favour 2 to 10 points of a 10 %
# error rate: with equal ones 90 % of +5 are found a tenth later. A change of half a point is limited by the baseline.
BETS = np.array([0.016, 0.033, 0.067, 0.13, 0.27, 0.53])
WEIGHTS = np.array([0.05, 0.12, 0.23, 0.30, 0.20, 0.10])
MEAN_BETS = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 0.9])  # of a window's mean, in units of 1 / limit
SCORE_BETS = np.array([0.25, 0.5, 1.0, 2.0])  # shifts of a normal score
STRONGEST = 0.9  # a bet never stakes more of what it has, so no row takes all of it
ONE_WINDOW = 1 / 8  # of the rate, for the test of this window alone
# Standard errors of the healthy mean that a score is held back by, where windows are many; with few, as many as a t
# distribution has for the same confidence (2.9 at five windows). 1.3 alarms a third more where windows hang together.
ALLOWANCE = 2.0
TAILS = 12.0
MOST_SCORE = 3.0  # one window multiplies M + 1 by at most exp(4)
FURTHEST = 500.0  # exponents beyond are cut: exp(700) is not a number
POWER = 0.84  # normal quantile of 80 %


@dataclass(frozen=True, slots=True)
class Decay:
    """What is remembered from window to window: a few numbers."""

    bets: tuple[float, ...] = ()  # M of each bet; () before the first window
    windows: int = 0  # since the champion began, or since the last alarm


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one window says about decay."""

    metric: str
    value: float  # evidence over windows; comparable with the threshold alone
    threshold: float  # at which it is an alarm
    p_value: float  # chance of a window this bad, were the champion as good as it proved
    alarm: bool
    level: float | None  # the metric in this window (losses capped at the baseline's scale); None: not defined
    rows: int  # that counted
    said: str  # in words


def advance(
    state: Decay, baseline: Baseline, metric: Metric | str, outcomes: Outcomes, rate: float, *, place: int | None = None
) -> tuple[Decay, Evidence]:
    """Take in one more window.

    Args:
        state: After the window before; `Decay()` when the champion goes live.
        baseline: What the champion proved by this metric (`learn`).
        metric: The same metric.
        outcomes: Rows of the window whose labels have matured.
        rate: False alarms per window that are allowed, on average, for this metric alone.
        place: Number of the window on the grid of event time, for the season's phase.

    >>> truth = np.arange(200) % 2
    >>> good, bad = (np.stack([1 - said, said], axis=1) for said in (truth * 0.8 + 0.1, 0.9 - truth * 0.8))
    >>> windows = [Outcomes(truth, each, ("0", "1"), "1", "binary", np.arange(200)) for each in (good, bad)]
    >>> baseline = learn("accuracy", [windows[0]] * 20)
    >>> state, evidence = advance(Decay(), baseline, "accuracy", windows[0], 1 / 365)
    >>> evidence.alarm, advance(state, baseline, "accuracy", windows[1], 1 / 365)[1].alarm
    (False, True)
    """
    metric = metric_named(metric) if isinstance(metric, str) else metric
    if baseline.unit == "rows" and metric.losses is not None:
        losses = counted(metric.losses.each(outcomes), baseline.scale)
        if not losses.rows:
            return state, _undefined(baseline, metric, rate, 0)
        after, found = advance_losses(state, baseline, losses, rate, place)
        return after, _told(found, metric, baseline, metric.losses.level(losses.mean * baseline.scale), rate)
    value = level(metric, outcomes)
    if value is None:
        return state, _undefined(baseline, metric, rate, outcomes.rows)
    worse = worse_upward(metric, value)
    after, found = advance_level(state, baseline, worse, outcomes.rows, rate, place)
    return after, _told(found, metric, baseline, value, rate)


def advance_losses(
    state: Decay, baseline: Baseline, losses: Counted, rate: float, place: int | None = None
) -> tuple[Decay, Evidence]:
    """Take in a window of losses in [0, 1]; how its rows are ordered or grouped plays no role."""
    rows, phase = losses.rows, (place or 0) % len(baseline.offsets)
    limit = max(baseline.limit + baseline.offsets[phase], 1e-9)
    if baseline.proved:
        grown, weights = np.log1p(MEAN_BETS / limit * (losses.mean - limit)), np.full(6, 1 / 6)
    else:
        highest = max(limit, baseline.limit + max(baseline.offsets))
        bets = np.minimum(BETS / max(baseline.deviation, 1e-12), STRONGEST / highest)
        grown = np.log1p(np.outer(bets, losses.values - limit)) @ losses.times / _phi(baseline, rows)
        weights = WEIGHTS
    threshold = 1 / (rate * (1 if baseline.proved else 1 - ONE_WINDOW))
    bets_now, value = _grow(state, grown, weights)
    held = np.array(losses.mean - baseline.cushion)
    p_value = 1.0 if baseline.proved else _one_window(baseline, float(arcsine(held)), rows, phase)
    alarm = value >= threshold or p_value <= rate * ONE_WINDOW
    after = Decay((), 0) if alarm else Decay(bets_now, state.windows + 1)
    return after, Evidence(baseline.metric, value, threshold, p_value, alarm, losses.mean, int(rows), "")


def advance_level(
    state: Decay, baseline: Baseline, worse: float, rows: float, rate: float, place: int | None = None
) -> tuple[Decay, Evidence]:
    """Take in a window's level on the scale of `worse_upward`."""
    between = baseline.between
    phase, worse = (place or 0) % len(between.offsets), worse - baseline.cushion
    away = worse - between.mean - between.offsets[phase] - _allowance(between) * between.error(baseline.windows)
    wide = _deviation(baseline, rows) * between.serial**0.5
    chance = float(scipy.special.stdtr(between.freedom, away / wide))
    score = float(np.clip(scipy.special.ndtri(chance), -FURTHEST, MOST_SCORE))
    bets, value = _grow(state, SCORE_BETS * score - SCORE_BETS**2 / 2, np.full(4, 1 / 4))
    p_value = _one_window(baseline, worse, rows, phase)
    threshold = 1 / (rate * (1 - ONE_WINDOW))
    alarm = value >= threshold or p_value <= rate * ONE_WINDOW
    after = Decay((), 0) if alarm else Decay(bets, state.windows + 1)
    return after, Evidence(baseline.metric, value, threshold, p_value, alarm, None, int(rows), "")


def smallest_drop(metric: Metric | str, baseline: Baseline, rate: float, windows: int = 7) -> float:
    """The smallest loss of the metric that is found with 80 % power within some windows, in the metric's own unit.

    The evidence of the best bet after `windows` windows is about normal with mean a^2/2 and deviation a, where a is the
    loss in standard errors of those windows; a is solved for. Simulation agrees (tests/laws/test_decay.py).
    """
    metric = metric_named(metric) if isinstance(metric, str) else metric
    threshold = 1 / (rate * (1 - ONE_WINDOW))
    if baseline.unit == "rows" and metric.losses is not None:
        errors = POWER + float(np.sqrt(POWER**2 + 2 * np.log(threshold / WEIGHTS.max())))
        off = errors * baseline.deviation * float(np.sqrt(baseline.phi / (windows * baseline.usual)))
        worst = min(1.0, baseline.limit + off) * baseline.scale
        return abs(metric.losses.level(worst) - metric.losses.level(baseline.mean * baseline.scale))
    between = baseline.between
    errors = POWER + float(np.sqrt(POWER**2 + 2 * np.log(threshold * 4)))
    off = errors * between.deviation * float(np.sqrt(between.serial / windows))
    off += _allowance(between) * between.error(baseline.windows) + baseline.cushion
    return abs(level_of(metric, between.mean + off) - level_of(metric, between.mean))


def _allowance(between: Between) -> float:
    """Standard errors of the healthy mean that are forgiven."""
    return float(scipy.special.stdtrit(between.freedom, float(scipy.special.ndtr(ALLOWANCE))))


def _grow(state: Decay, grown: Floats, weights: Floats) -> tuple[tuple[float, ...], float]:
    """Each bet's M after this window, and their weighted mean."""
    before = np.array(state.bets) if state.bets else np.zeros(len(grown))
    after = (before + 1) * np.exp(np.clip(grown, -FURTHEST, FURTHEST))
    return tuple(after.tolist()), float(after @ weights)


def _phi(baseline: Baseline, rows: float) -> float:
    """Overdispersion of a window of so many rows: what days add grows with the rows, and is not hoped to shrink."""
    return 1 + (baseline.phi - 1) * max(1.0, rows / baseline.usual)


def _deviation(baseline: Baseline, rows: float) -> float:
    """Spread of one window's level; a window smaller than usual scatters more, a greater one is not hoped to less."""
    return baseline.between.deviation * float(np.sqrt(max(1.0, baseline.usual / max(rows, 1))))


def _one_window(baseline: Baseline, worse: float, rows: float, phase: int) -> float:
    """Chance of a window this bad: prediction t, the healthy mean's own error inside."""
    between: Between = baseline.between
    away = worse - between.mean - between.offsets[phase % len(between.offsets)]
    wide = float(np.hypot(_deviation(baseline, rows), between.error(baseline.windows)))
    return float(scipy.special.stdtr(min(TAILS, between.freedom), -away / wide))


def _undefined(baseline: Baseline, metric: Metric, rate: float, rows: int) -> Evidence:
    said = f"{metric.name} is not defined on this window's {rows:,} rows (it needs {metric.needs}): the evidence stays"
    return Evidence(baseline.metric, 0.0, 1 / (rate * (1 - ONE_WINDOW)), 1.0, False, None, rows, said)


def _told(found: Evidence, metric: Metric, baseline: Baseline, value: float, rate: float) -> Evidence:
    """The same evidence with the metric's level and the sentence a person reads."""
    if baseline.unit == "rows" and metric.losses is not None:
        proven = metric.losses.level(baseline.mean * baseline.scale)
    else:
        proven = level_of(metric, baseline.between.mean)
    levels = f"{metric.name} {value:.4g} in this window, {proven:.4g} proven"
    if not found.alarm:
        least = smallest_drop(metric, baseline, rate)
        said = f"{levels}: no decay proven (evidence {found.value:.3g} of {found.threshold:.3g}); a loss of {least:.2g}"
        said += " would be found within 7 windows in 4 of 5 cases"
    elif found.value >= found.threshold:
        said = f"{levels}: decay, by the evidence of the windows so far ({found.value:.3g} over {found.threshold:.3g})"
    else:
        said = f"{levels}: decay, too far for one window (chance {found.p_value:.1g})"
    learning = f"; learning: {baseline.learning}" if baseline.learning else ""
    return replace(found, level=value, said=said + learning)
