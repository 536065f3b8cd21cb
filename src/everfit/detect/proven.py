"""What a champion has proven: how good it is on rows it never saw, how sure that is, and how much its windows differ.

Takes outcomes of windows on which the champion was not trained; gives a `Baseline` that windows to come are held
against; never looks at a window that is judged.

A baseline has two parts. The first is about rows: the mean loss with an upper bound for it, because a champion's own
level is known only as well as the rows behind it allow, and `phi`, by how much the windows' means differ more than
independent rows would. The second is about windows: the spread of one window's level about the mean, for a test of one
window alone. A metric that is no mean of rows (the area under a curve, F1, R squared) has the second part only.

Sources: quasi-likelihood for overdispersed counts (McCullagh and Nelder, Generalized Linear Models, 1989, section 4.5);
the window as unit, prediction t (Geisser, Predictive Inference, 1993); the arcsine scale keeps the upper tail of a
share below the normal's (Anscombe 1948). Constants were chosen by simulation: benchmarks/soundness_performance.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from everfit.detect.catalogue import Metric, metric_named
from everfit.detect.outcomes import Floats, Ints, Outcomes
from everfit.detect.performance import level
from everfit.detect.signal import NotEnough

FEWEST = 5  # windows; with fewer nothing is known of how they differ
FULL = 30  # windows; where days hang together (AR .7) 1 promised became 2.8 with 10 and 1.5 with 20
FEWEST_ROWS = 100  # that count, in all windows together; a bound for the mean of fewer skewed losses is no bound
# One-sided confidence of the bounds, of the mean loss and of phi. 0.95 costs a quarter more delay at +1 point.
SURE = 0.90
# Quantile of the held-out losses that counts as the greatest, for losses without one. A tail that grows tenfold in 2 %
# of rows is found after 4 windows of 1,000; with 0.99 after 7, with 0.9 after 31. What moves all losses: 4 with each.
CAPPED = 0.999
GROWN = 0.9  # strongest correlation of neighbouring windows that is believed: more, and nothing can be learned
CYCLES = 3  # a season is used when this many of its cycles were seen
SMALLEST = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Losses of the rows of one window, equal ones counted together."""

    values: Floats  # in [0, 1], where the baseline's scale is 1
    times: Floats  # how many rows had this loss

    @property
    def rows(self) -> float:
        """How many rows there are."""
        return float(self.times.sum())

    @property
    def mean(self) -> float:
        """Mean loss."""
        return float(self.values @ self.times / max(self.rows, 1))


@dataclass(frozen=True, slots=True)
class Between:
    """How the levels of healthy windows differ, on a scale where they are about normal and greater is worse."""

    mean: float
    deviation: float  # of one window; the correlation of neighbours is counted
    freedom: float  # degrees of freedom of the deviation
    serial: float  # by how much the correlation of neighbours widens a mean's variance
    offsets: tuple[float, ...]  # of each phase of the season; (0.0,) without one

    def error(self, windows: int) -> float:
        """Standard error of the mean (of a phase's mean, with a season)."""
        return self.deviation * float(np.sqrt(self.serial * len(self.offsets) / windows))


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the champion proved, for one metric. Small, and plain JSON."""

    metric: str
    unit: str  # "rows": the metric is a mean of rows; "windows": it is not
    windows: int  # how many are behind it
    rows: int  # labelled rows in them that count
    usual: float  # rows in a healthy window, mean
    between: Between
    scale: float = 1.0  # the loss that counts as 1; greater ones count as 1 too
    mean: float = 0.0  # mean loss, in [0, 1]
    deviation: float = 1.0  # of one row's loss
    limit: float = 1.0  # mean loss that the champion cannot be held to be better than: upper bound plus tolerance
    phi: float = 1.0  # variance of the windows' means by that of independent rows, upper bound
    offsets: tuple[float, ...] = (0.0,)  # of the mean loss in each phase of the season
    cushion: float = 0.0  # the tolerance: mean loss (rows; part of the limit) or worse level that is never an alarm
    proved: bool = False  # bet on window means only: valid whatever hangs together inside a window, and slow
    cycle: int = 1  # windows in a season that was looked for
    seen: tuple[tuple[int, float, float, float], ...] = ()  # place, rows, mean loss or level, mean square of the loss

    @property
    def learning(self) -> str | None:
        """What is still missing for the full promise, in words."""
        return f"{self.windows} of {FULL} healthy windows" if self.windows < FULL else None


@dataclass(frozen=True, slots=True)
class Seasons:
    """Where windows lie in a season."""

    length: int = 1  # windows in a cycle; 1: none
    places: tuple[int, ...] = ()  # number of each healthy window on the grid of event time; (): one after the other


def learn(
    metric: Metric | str,
    windows: Sequence[Outcomes],
    *,
    tolerance: float = 0.0,
    seasons: Seasons = Seasons(),
    proved: bool = False,
) -> Baseline | NotEnough:
    """Learn from windows of rows that the champion was not trained on, in the order of time.

    Args:
        metric: By which the champion is watched.
        windows: Outcomes of healthy windows, as long as those that will be judged.
        tolerance: Loss of the metric that is never an alarm, in its own unit.
        seasons: A cycle of windows, used when three of them were seen.
        proved: Bet on window means alone (see `decay`).

    >>> truth = np.arange(200) % 2
    >>> scores = np.stack([1 - truth, truth], axis=1) * 0.8 + 0.1
    >>> window = Outcomes(truth, scores, ("0", "1"), "1", "binary", np.arange(200))
    >>> learn("accuracy", [window] * 3).said
    'decay of accuracy: 3 held-out windows with labels, 5 needed'
    >>> learn("accuracy", [window] * 6).windows
    6
    """
    metric = metric_named(metric) if isinstance(metric, str) else metric
    if metric.losses is not None and windows and windows[0].task in metric.losses.tasks:
        each = [metric.losses.each(outcomes) for outcomes in windows]
        scale = metric.losses.most or _cap(each)
        found = learn_losses(metric.name, [counted(rows, scale) for rows in each], seasons=seasons, proved=proved)
        if isinstance(found, NotEnough):
            return found
        mean = metric.losses.level(found.mean * scale)
        cushion = metric.losses.loss(_less(metric, mean, tolerance)) / scale - found.mean if tolerance else 0.0
        return replace(found, scale=scale, limit=found.limit + cushion, cushion=cushion)
    levels = [level(metric, outcomes) for outcomes in windows]
    kept = [(place, value) for place, value in enumerate(levels) if value is not None]
    rows = np.array([windows[place].rows for place, _ in kept], dtype=np.float64)
    values = np.array([worse_upward(metric, value) for _, value in kept])
    places = _places(seasons, len(windows))[[place for place, _ in kept]]
    if isinstance(told := learn_levels(metric.name, values, rows, Seasons(seasons.length, tuple(places))), NotEnough):
        return told
    proven = level_of(metric, told.between.mean)
    return replace(told, cushion=worse_upward(metric, _less(metric, proven, tolerance)) - told.between.mean)


def with_window(baseline: Baseline, metric: Metric | str, outcomes: Outcomes, place: int | None = None) -> Baseline:
    """The baseline once another healthy window counts as well.

    For the time of learning only: a handful of held-out windows may have been lucky, and a champion must not be called
    decayed for what it never could. Afterwards the baseline is fixed, for one that follows its champion hides decay.

    >>> truth = np.arange(200) % 2
    >>> scores = np.stack([1 - truth, truth], axis=1) * 0.8 + 0.1
    >>> window = Outcomes(truth, scores, ("0", "1"), "1", "binary", np.arange(200))
    >>> with_window(learn("accuracy", [window] * 6), "accuracy", window).windows
    7
    """
    metric = metric_named(metric) if isinstance(metric, str) else metric
    at = (baseline.seen[-1][0] + 1 if baseline.seen else 0) if place is None else place
    if baseline.unit == "rows" and metric.losses is not None:
        its = counted(metric.losses.each(outcomes), baseline.scale)
        seen = (*baseline.seen, _summary(at, its))
        seasons = Seasons(baseline.cycle, tuple(each[0] for each in seen))
        found = learn_losses(baseline.metric, [_like(each) for each in seen], seasons=seasons, proved=baseline.proved)
        if not its.rows or isinstance(found, NotEnough):
            return baseline
        limit = found.limit + baseline.cushion
        return replace(found, scale=baseline.scale, limit=limit, cushion=baseline.cushion)
    value = level(metric, outcomes)
    if value is None:
        return baseline
    seen = (*baseline.seen, (at, float(outcomes.rows), worse_upward(metric, value), 0.0))
    places, rows, levels, _ = (np.array(each) for each in zip(*seen, strict=True))
    told = learn_levels(baseline.metric, levels, rows, Seasons(baseline.cycle, tuple(places.astype(int).tolist())))
    return baseline if isinstance(told, NotEnough) else replace(told, cushion=baseline.cushion)


def _summary(place: int, window: Counted) -> tuple[int, float, float, float]:
    squares = float(window.values**2 @ window.times) / max(window.rows, 1)
    return place, window.rows, window.mean, squares


def _like(summary: tuple[int, float, float, float]) -> Counted:
    """Losses with the same number, mean and mean square: nothing else is asked of them."""
    _, rows, mean, squares = summary
    wide = float(np.sqrt(max(0.0, squares - mean**2)))
    return Counted(np.array([mean - wide, mean + wide]), np.array([rows / 2, rows / 2]))


def counted(losses: Floats, scale: float = 1.0) -> Counted:
    """Losses of rows in units of `scale`, none above 1, equal ones together.

    >>> counted(np.array([0.0, 3.0, 0.0]), 2.0).values.tolist(), counted(np.array([0.0, 3.0, 0.0]), 2.0).times.tolist()
    ([0.0, 1.0], [2.0, 1.0])
    """
    values, times = np.unique(np.clip(losses / scale, 0, 1), return_counts=True)
    return Counted(values, times.astype(np.float64))


def learn_losses(
    name: str, windows: Sequence[Counted], *, seasons: Seasons = Seasons(), proved: bool = False
) -> Baseline | NotEnough:
    """Learn from losses in [0, 1]; the same numbers as from rows, without a metric's names and units."""
    placed = [(p, w) for p, w in zip(_places(seasons, len(windows)).tolist(), windows, strict=True) if w.rows]
    kept, places = [w for _, w in placed], np.array([p for p, _ in placed], dtype=np.int64)
    rows = np.array([w.rows for w in kept])
    if len(kept) < FEWEST or rows.sum() < FEWEST_ROWS:
        return _too_few(name, len(kept), int(rows.sum()))
    # One row of the greatest loss is added: a champion without errors so far is not held to never err.
    many = rows.sum() + 1
    mean = float((sum(w.values @ w.times for w in kept) + 1) / many)
    variance = float((sum(w.values**2 @ w.times for w in kept) + 1) / many) - mean**2
    deviation = float(np.sqrt(max(variance, SMALLEST)))
    means = np.array([w.mean for w in kept])
    phases = _phases(seasons.length, places)
    offsets = _offsets(means, rows, phases)
    left = (means - np.average(means, weights=rows) - offsets[phases]) * np.sqrt(rows)
    freedom, cycle = len(kept) - len(offsets), len(offsets)
    raw = float(left @ left) / freedom / deviation**2 * _serial(left)
    # Only what windows add to the variance of independent rows is uncertain: its upper bound is taken.
    phi = (1 + max(0.0, raw - 1) * _upper(freedom)) * (1 + (cycle / len(kept) if cycle > 1 else 0))
    bound = mean + _student(freedom, SURE) * deviation * float(np.sqrt(phi / many))
    usual = float(rows.mean())
    floor = deviation**2 / (usual * max(mean * (1 - mean), SMALLEST))  # of the arcsine scale, for independent rows
    between = _between(arcsine(means), rows, phases, floor)
    return Baseline(
        name, "rows", len(kept), int(rows.sum()), usual, between, 1.0, mean, deviation, bound, phi,
        tuple(offsets.tolist()), proved=proved, cycle=seasons.length,
        seen=tuple(_summary(int(p), w) for p, w in placed),
    )  # fmt: skip


def learn_levels(name: str, levels: Floats, rows: Floats, seasons: Seasons = Seasons()) -> Baseline | NotEnough:
    """Learn from one number a window, on a scale where greater is worse (`worse_upward`)."""
    if len(levels) < FEWEST or rows.sum() < FEWEST_ROWS:
        return _too_few(name, len(levels), int(rows.sum()))
    phases = _phases(seasons.length, _places(seasons, len(levels)))
    between = _between(levels, rows, phases, SMALLEST)
    known = zip(_places(seasons, len(levels)).tolist(), rows.tolist(), levels.tolist(), strict=True)
    return Baseline(
        name, "windows", len(levels), int(rows.sum()), float(rows.mean()), between, cycle=seasons.length,
        seen=tuple((place, many, value, 0.0) for place, many, value in known),
    )  # fmt: skip


def worse_upward(metric: Metric, value: float) -> float:
    """A level on a scale where windows are about normal and greater is worse; see `level_of` for the way back."""
    if metric.low is not None and metric.high is not None:
        angle = float(arcsine(np.array((value - metric.low) / (metric.high - metric.low))))
        return -angle if metric.greater_is_better else angle
    if metric.high is not None and metric.greater_is_better:
        return float(np.log(max(metric.high - value, SMALLEST)))
    return -value if metric.greater_is_better else value


def level_of(metric: Metric, worse: float) -> float:
    """The level that `worse_upward` put there.

    >>> from everfit.detect.catalogue import METRICS
    >>> [round(level_of(METRICS[name], worse_upward(METRICS[name], 0.7)), 9) for name in ("roc_auc", "r2", "brier")]
    [0.7, 0.7, 0.7]
    """
    if metric.low is not None and metric.high is not None:
        angle = float(np.clip(-worse if metric.greater_is_better else worse, 0, np.pi))
        return metric.low + (metric.high - metric.low) * float(np.sin(angle / 2)) ** 2
    if metric.high is not None and metric.greater_is_better:
        return metric.high - float(np.exp(worse))
    return -worse if metric.greater_is_better else worse


def _less(metric: Metric, proven: float, tolerance: float) -> float:
    """A level that is worse by the tolerance."""
    return proven - tolerance if metric.greater_is_better else proven + tolerance


def _between(levels: Floats, rows: Floats, phases: Ints, floor: float) -> Between:
    """Spread of healthy windows; windows smaller than usual count less, for they scatter more."""
    weights = np.minimum(1, rows / rows.mean())
    offsets = _offsets(levels, weights, phases)
    mean = float(np.average(levels, weights=weights))
    left = (levels - mean - offsets[phases]) * np.sqrt(weights)
    freedom, serial = len(levels) - len(offsets), _serial(left)
    # Neighbours that are alike make the spread within a short history too small.
    variance = float(left @ left) / freedom * (1 + (serial - 1) * len(offsets) / len(levels))
    return Between(
        mean, float(np.sqrt(max(variance, floor))), max(2.0, freedom / serial), serial, tuple(offsets.tolist())
    )


def _offsets(levels: Floats, weights: Floats, phases: Ints) -> Floats:
    """Each phase's mean less the whole mean; of a phase that was not seen, the greatest: nothing is claimed of it."""
    cycle = int(phases.max()) + 1
    if cycle == 1:
        return np.zeros(1)
    seen = np.bincount(phases, weights=weights, minlength=cycle)
    sums = np.bincount(phases, weights=weights * levels, minlength=cycle)
    offsets = sums / np.where(seen > 0, seen, np.nan) - np.average(levels, weights=weights)
    return np.where(np.isnan(offsets), np.nanmax(offsets), offsets)


def _serial(left: Floats) -> float:
    """By how much the correlation of neighbouring windows widens the variance of a mean: (1 + r) / (1 - r).

    r is the lag-one autocorrelation, its downward bias of (1 + 3r)/h added; one that exceeds its own standard error
    gets that error added. Below it, it is as good as none. Days that hang together are recognised too late otherwise.
    """
    windows = len(left)
    r = float(left[1:] @ left[:-1]) / max(float(left @ left), SMALLEST)
    r += (1 + 3 * max(0.0, r)) / windows
    if (error := windows**-0.5) < r:
        r += error
    r = float(np.clip(r, 0, GROWN))
    return (1 + r) / (1 - r)


def _upper(freedom: int) -> float:
    """What turns an estimated variance into its upper bound."""
    return float(freedom / (2 * scipy.special.gammaincinv(freedom / 2, 1 - SURE)))


def _student(freedom: float, sure: float) -> float:
    return float(scipy.special.stdtrit(freedom, sure))


def _phases(cycle: int, places: Ints) -> Ints:
    """Phase of each window; all the same without a season, or when too few cycles were seen."""
    if cycle <= 1 or len(places) < CYCLES * cycle:
        return np.zeros(len(places), dtype=np.int64)
    phases: Ints = places % cycle
    # The last phase must be there, so that the number of phases can be read off.
    return phases if phases.max() == cycle - 1 else np.zeros(len(places), dtype=np.int64)


def _places(seasons: Seasons, windows: int) -> Ints:
    return np.array(seasons.places, dtype=np.int64) if seasons.places else np.arange(windows, dtype=np.int64)


def _cap(each: Sequence[Floats]) -> float:
    """The greatest loss that counts. A few outliers must not decide what a whole window's evidence is."""
    every = np.concatenate(each)
    return max(float(np.quantile(every, CAPPED)), SMALLEST) if len(every) else 1.0


def arcsine(shares: Floats) -> Floats:
    """Shares on a scale where their scatter hardly depends on them: twice the arcsine of the root.

    >>> float(arcsine(np.array(1.0))) == np.pi
    True
    """
    angles: Floats = 2 * np.arcsin(np.sqrt(np.clip(shares, 0, 1)))
    return angles


def _too_few(name: str, windows: int, rows: int) -> NotEnough:
    if windows < FEWEST:
        said = f"decay of {name}: {windows} held-out windows with labels, {FEWEST} needed"
    else:
        said = f"decay of {name}: {rows} held-out rows that count, {FEWEST_ROWS} needed"
    return NotEnough(f"decay.{name}", "*", rows, FEWEST_ROWS, said)
