"""What the scores of the kept models say: whether a run paid, whether the level fell, how models age, who is best.

Takes scores of models by window; gives readings with their numbers; never decides, and never looks at a window whose
labels had not matured at the time it is told.

Scores are in points of [0, 1], larger is better (`as_points`). A window without labels is NaN and counts nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from everfit.decide.bench_options import BenchOptions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TO_SD = 1.4826  # median absolute deviation -> standard deviation of a normal
RANGE_RIDGE = 0.5  # pulls the ranges together as half a window of belief would: 2 models and 2 windows decide nothing
AGE_RIDGE = 50.0  # in windows squared: a model of age 7 in one window; with BenchOptions.newer as its centre
OLDEST = 30  # windows: beyond this age a model is as stale as it gets, and a straight line would mislead
CLIP = 10  # windows of age difference beyond which newer is not believed to be better still


class Rows(StrEnum):
    """Which rows a model is trained on."""

    RECENT = "recent"  # the last `recent` windows
    ALL = "all"  # everything so far
    CHANGE = "change"  # those since the level fell


@dataclass(frozen=True, slots=True)
class Member:
    """A model on the bench."""

    key: str  # its candidate
    first: int  # first window of its training rows
    last: int  # last window of them
    rows: Rows | None = None  # None: the first training set, which is recent and all at once
    name: str = ""  # how people call it, such as "version 4"

    @property
    def called(self) -> str:
        """Its name in sentences."""
        return self.name or f"model {self.key}"


@dataclass(frozen=True, slots=True)
class Gain:
    """What a run brought: its model against the one that served when it was trained, on the same windows."""

    mean: float  # points of score a window
    error: float  # standard error of the mean, from the noise of the rows
    windows: int  # labelled windows behind it


@dataclass(frozen=True, slots=True)
class Fall:
    """How far the served score has fallen below its level."""

    lost: float  # sum of what was lost beyond the slack, in score times windows
    line: float  # an alarm at this sum
    level: float  # the level it is held against
    change: int | None  # the last window before the fall began


@dataclass(frozen=True, slots=True)
class Ageing:
    """What the bench says about ranges and age."""

    leader: Rows | None  # RECENT or ALL; None before two models were seen together
    all_over_recent: float  # what training on all rows gains over recent rows at equal age
    per_window: float  # what a window of age costs


def as_points(level: float, *, greater_is_better: bool, unit: float = 1.0) -> float:
    """Turn a metric's value into a score: gains stay, a loss becomes its share saved of `unit`.

    `unit` is the loss of the best constant prediction on the first training rows (for absolute errors: the mean
    absolute deviation from the median), so that 0 is as good as no model and 1 is perfect.

    >>> as_points(0.8, greater_is_better=True), as_points(5.0, greater_is_better=False, unit=20.0)
    (0.8, 0.75)
    """
    return level if greater_is_better else 1.0 - level / unit


def gain(scores: Floats, halves: Floats | None, new: int, old: int, span: tuple[int, int]) -> Gain | None:
    """What the model at place `new` gained over `old` in windows `span[0] <= w < span[1]`; None below two windows.

    The error is that of the rows: the two halves of a window (even and odd rows) differ by noise alone. Without
    halves it is taken from the differences between windows, which drift makes larger.

    >>> found = gain(np.array([[0.5, 0.5, 0.5], [0.6, 0.7, 0.8]]), None, 1, 0, (0, 3))
    >>> round(found.mean, 3), round(found.error, 3), found.windows
    (0.2, 0.058, 3)
    """
    apart = (scores[new] - scores[old])[span[0] : span[1]]
    there = np.isfinite(apart)
    many = int(there.sum())
    if many < 2:
        return None
    apart = apart[there]
    if halves is None:
        noise = float(apart.var(ddof=1))
    else:
        two = (halves[new] - halves[old])[span[0] : span[1]][there]
        off = (two[:, 0] - two[:, 1]) / 2
        off = off[np.isfinite(off)]
        noise = float(off @ off) / max(1, len(off))
    return Gain(float(apart.sum()) / many, float(np.sqrt(noise / many)), many)


def fall(served: Floats, halves: Floats | None, starts: Sequence[int], options: BenchOptions) -> Fall | None:
    """CUSUM of the served score below its level since the last alarm; None while there is no level yet.

    `served` is the served model's score by window, NaN where unknown; `starts` are the window of the last alarm's run
    (or the last of the first training rows) and those of the runs since. The level is the best mean of three windows
    that followed one of them, less its own standard error: a run that came just after a change must not make the
    fallen score the new level. Page 1954 for the sum; sd is robust, the larger of the noise of rows (from halves) and
    of windows (from differences), so that windows of changing difficulty do not alarm.

    >>> falling = np.r_[np.full(10, 0.9), np.full(3, 0.7)] + 0.001 * (-1.0) ** np.arange(13)
    >>> found = fall(falling, None, [-1], BenchOptions())
    >>> bool(found.lost > found.line), found.change
    (True, 9)
    """
    known = np.flatnonzero(np.isfinite(served))
    if len(known) < 4:
        return None
    sd = _noise(served[known], None if halves is None else halves[known])
    since = known[known > starts[0]]
    levels: dict[int, float] = {}
    for start in starts:
        three = since[since > start][:3]
        if len(three) == 3:
            levels[int(three[-1])] = float(served[three].mean()) - sd / np.sqrt(3)
    if not levels:
        return None
    lost, level, change = 0.0, -np.inf, None
    for window in since.tolist():
        if np.isfinite(level):
            change = window - 1 if lost <= 0 else change
            lost = max(0.0, lost + level - options.slack * sd - float(served[window]))
        level = max(level, levels.get(window, level))
    return Fall(lost, max(options.alarm, options.alarm_sd * sd), level, change if lost > 0 else None)


def _noise(served: Floats, halves: Floats | None) -> float:
    between = float(TO_SD * np.median(np.abs(np.diff(served))) / np.sqrt(2))
    if halves is None:
        return between
    half = (halves[:, 0] - halves[:, 1]) / 2
    half = half[np.isfinite(half)]
    if not len(half):
        return between
    # The median of fewer than six is too rough.
    rows = np.sqrt((half**2).mean()) if len(half) < 6 else TO_SD * np.median(np.abs(half))
    return max(between, float(rows))


def ageing(scores: Floats, members: Sequence[Member], now: int, options: BenchOptions) -> Ageing:
    """Weighted ridge fit of the last windows: score = window + range + slope * age.

    Args:
        scores: (members, windows), NaN where unknown or not later than a member's rows.
        members: in the order of their training.
        now: the last window whose labels have matured.
        options: for `memory`, `decay`, and `newer`, which is believed until the rows say otherwise.
    """
    start = max(0, now - options.memory + 1)
    if len(members) < 2 or now < start:
        return Ageing(None, 0.0, options.newer)
    seen = scores[:, start : now + 1]
    there = np.isfinite(seen)
    windows = np.arange(start, now + 1)
    weight = np.where(there, options.decay ** (now - windows)[None, :], 0.0)
    age = np.minimum(windows[None, :] - np.array([[member.last] for member in members]), OLDEST).astype(np.float64)
    of_all = np.broadcast_to(np.array([[_share_of_all(member)] for member in members]), seen.shape)
    whole = np.maximum(weight.sum(axis=0), 1e-12)

    def centred(values: Floats) -> Floats:
        given = np.where(there, values, 0.0)
        return np.where(there, given - (weight * given).sum(axis=0) / whole, 0.0)

    y, a, b = centred(seen), centred(of_all), centred(age)
    cross = float((weight * a * b).sum())
    left = np.array(
        [[float((weight * a * a).sum()) + RANGE_RIDGE, cross], [cross, float((weight * b * b).sum()) + AGE_RIDGE]]
    )
    right = np.array([float((weight * a * y).sum()), float((weight * b * y).sum()) - AGE_RIDGE * options.newer])
    over, slope = np.linalg.solve(left, right)
    return Ageing(Rows.ALL if over > 0 else Rows.RECENT, float(over), float(-slope))


def _share_of_all(member: Member) -> float:
    """1 for all rows, 0 for recent ones; the first training set is both."""
    return 0.5 if member.rows is None else float(member.rows is Rows.ALL)


def values(
    scores: Floats, members: Sequence[Member], serving: int, now: int, read: tuple[Ageing, BenchOptions]
) -> Floats:
    """By how much each member is believed to be better than the one that serves, (members,); NaN: without proof.

    The mean of the differences on the windows that came after both were trained, recent ones weighing more, drawn
    towards what age and range let expect with the weight of `prior` windows.
    """
    known, options = read
    start = max(0, now - options.look + 1)
    windows = np.arange(start, now + 1)
    apart = (scores - scores[serving])[:, start : now + 1]
    weight = np.where(np.isfinite(apart), options.decay ** (now - windows)[None, :], 0.0)
    younger = np.array([member.last for member in members]) - members[serving].last
    of_all = np.array([_share_of_all(member) for member in members])
    hoped = options.newer * np.clip(younger, -CLIP, CLIP)
    hoped = hoped + known.all_over_recent * (of_all - of_all[serving])
    total = weight.sum(axis=1)
    mean = ((weight * np.nan_to_num(apart)).sum(axis=1) + options.prior * hoped) / np.maximum(
        total + options.prior, 1e-12
    )
    unproven = (younger > 0) & ((weight > 0).sum(axis=1) < options.proof)
    found: Floats = np.where(unproven, np.nan, mean)
    found[serving] = 0.0
    return found
