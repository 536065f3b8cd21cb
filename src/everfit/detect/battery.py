"""Readings of a window against its reference: how unlike, and how broken.

Takes profiles, the counts of intake and the user's lines; gives readings, and alarms where sampling noise or a line of
quality is all there is to count; never decides what to do. How healthy windows differ from each other, and so what a
drift alarm is in the watch, is counted by `usual` and `promise`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from everfit.detect.distribution import (
    Floats,
    category_groups,
    chi_square,
    holm,
    jensen_shannon,
    ks,
    merged,
    number_groups,
    psi,
    psi_noise,
    wasserstein,
)
from everfit.detect.options import Quality, Watching
from everfit.detect.signal import Alarm, NotEnough, Reading, Signal
from everfit.detect.tails import binomial_tail
from everfit.errors import UsageError
from everfit.profile.column import CategoryBins, ColumnProfile, NumberBins
from everfit.profile.table import ANSWERS, PREDICTION, SCORE, Profile

NOTHING_USUAL: Mapping[tuple[str, str], float] = MappingProxyType({})
FAR = 0.5  # widths of the reference's range beyond which a mean is no longer a matter of season


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What intake counted in a window, besides the rows it took."""

    refused: int = 0
    refused_columns: Mapping[str, int] = field(default_factory=dict)  # rows refused because of this column
    late: int = 0  # taken, after their window had closed
    missing: tuple[str, ...] = ()  # features that none of the rows brought


def read_drift(current: Profile, reference: Profile, options: Watching) -> tuple[Reading, ...]:
    """Read how unlike the reference each column is, over the values that are present.

    `drift.psi` carries the PSI as value, the PSI less its noise as effect, and a p-value: Kolmogorov-Smirnov
    for numbers, chi-square for categories. `drift.ks` and `drift.wasserstein` are for numbers, `drift.js` for
    all. A column with fewer than `options.at_least` values on either side gives `NotEnough`. The score is
    read like a number, as column `_score`.

    Raises:
        UsageError: the profiles stand on different bins.
    """
    if current.bins.key != reference.bins.key:
        raise UsageError("the window was portrayed on other bins than its reference; portray it on the reference's")
    readings: list[Reading] = []
    for name, then in reference.columns.items():
        now = current.columns[name]
        rows = min(now.present, then.present)
        if rows < options.at_least:
            said = f"{rows} values of {called(name)}, {options.at_least} needed"
            readings.append(NotEnough("drift.psi", name, rows, options.at_least, said))
        elif isinstance(then.bins, NumberBins):
            readings += _drift_of_number(name, now, then, then.bins)
        else:
            readings += _drift_of_category(name, now, then)
    return tuple(readings)


def read_quality(
    current: Profile,
    reference: Profile | None,
    arrivals: Arrivals,
    options: Watching,
    usual: Mapping[tuple[str, str], float] = NOTHING_USUAL,
) -> tuple[Reading, ...]:
    """Read how broken the rows are. What is zero is left out, save the number of rows.

    `usual` is the share of a reading and column, such as ("quality.range", "price"), that healthy windows reach as
    well: a fault is a jump over it. A season that warms up day by day is drift, a sensor that fails at noon is a fault.

    The value is a share of the window's rows, the effect its rise over the reference, and the p-value bounds
    the chance of so large a share while the true one lies at the line of `options.quality`.
    """
    quality, readings = options.quality, [Signal("quality.rows", "*", float(current.rows), current.rows)]
    came = current.rows + arrivals.refused
    readings += _share("quality.refused", "*", arrivals.refused, came, quality.refused)
    for name, refused in arrivals.refused_columns.items():
        readings += _share("quality.refused", name, refused, came, quality.refused)
    readings += _share("quality.late", "*", arrivals.late, current.rows, None)
    readings += [Signal("quality.missing", name, 1.0, current.rows, effect=1.0) for name in arrivals.missing]
    for name, now in current.columns.items():
        if reference is not None and name not in arrivals.missing and name not in ANSWERS:  # files have none
            readings += _quality_of(now, reference.columns[name], quality, _Usual(name, usual))
    return tuple(readings)


def drift_alarms(readings: Iterable[Reading], *, alpha: float, effect: float) -> tuple[Alarm, ...]:
    """Drift alarms with a chance of any false one of at most `alpha` over all columns of a window.

    >>> steady = Signal("drift.psi", "price", 0.33, 1000, effect=0.31, p_value=0.2)
    >>> drift_alarms([steady], alpha=0.01, effect=0.1)
    ()
    """
    tested = [r for r in readings if isinstance(r, Signal) and r.name == "drift.psi" and r.p_value is not None]
    sure = holm([1.0 if r.p_value is None else r.p_value for r in tested], alpha)
    return tuple(
        Alarm(r, effect, "drift", _said_drift(r, effect))
        for r, rejected in zip(tested, sure, strict=True)
        if rejected and r.effect is not None and r.effect >= effect
    )


def _drift_of_number(name: str, now: ColumnProfile, then: ColumnProfile, bins: NumberBins) -> list[Reading]:
    groups = number_groups(then.counts)
    e, a = merged(then.counts, groups), merged(now.counts, groups)
    value, apart = psi(e, a), ks(then.counts, now.counts)
    moved = wasserstein(then.counts, now.counts, _bin_values(bins, now, then), then.deviation or 0.0)
    return [
        Signal("drift.psi", name, value, now.present, effect=value - psi_noise(e, a), p_value=apart.p_value),
        Signal("drift.ks", name, apart.value, now.present, p_value=apart.p_value),
        Signal("drift.js", name, jensen_shannon(e, a), now.present),
        Signal("drift.wasserstein", name, moved, now.present),
    ]


def _drift_of_category(name: str, now: ColumnProfile, then: ColumnProfile) -> list[Reading]:
    e, a = category_groups(then.counts, now.counts)
    value, apart = psi(e, a), chi_square(e, a)
    return [
        Signal("drift.psi", name, value, now.present, effect=value - psi_noise(e, a), p_value=apart.p_value),
        Signal("drift.js", name, jensen_shannon(e, a), now.present),
    ]


def _bin_values(bins: NumberBins, now: ColumnProfile, then: ColumnProfile) -> Floats:
    """A value for each bin: its middle; outside, the middle between the edge and the furthest value."""
    lows = [c.moments.low for c in (now, then) if c.moments is not None]
    highs = [c.moments.high for c in (now, then) if c.moments is not None]
    ends = np.concatenate([[min(lows)], bins.edges, [max(highs)]])
    largest = np.finfo(np.float64).max
    ends = np.clip(ends, -largest, largest)
    middles: Floats = np.maximum.accumulate(ends[:-1] / 2 + ends[1:] / 2)
    return middles


@dataclass(frozen=True, slots=True)
class _Usual:
    """What is usual for one column."""

    name: str
    shares: Mapping[tuple[str, str], float]

    def of(self, reading: str) -> float:
        return self.shares.get((reading, self.name), 0.0)


def _quality_of(now: ColumnProfile, then: ColumnProfile, lines: Quality, usual: _Usual) -> list[Signal]:
    if then.count == 0:
        return []
    name, nulls = usual.name, max(then.null_share, usual.of("quality.nulls"))
    readings = _share("quality.nulls", name, now.absent, now.count, lines.nulls_rise, before=nulls)
    if then.present == 0:
        return readings  # a reference without values knows no range and no categories
    if isinstance(now.bins, CategoryBins):
        unseen = usual.of("quality.unseen")
        return [*readings, *_share("quality.unseen", name, now.unseen, now.present, lines.unseen, before=unseen)]
    if not _far(now):  # beyond the edge, but not far: weather, prices and people do that
        return readings
    outside = usual.of("quality.range")
    return [*readings, *_share("quality.range", name, now.outside, now.present, lines.out_of_range, before=outside)]


def _far(now: ColumnProfile) -> bool:
    """Whether the mean lies beyond the reference's range by more than half its width: another unit, not a warm day."""
    if not isinstance(now.bins, NumberBins) or now.mean is None or not len(now.bins.edges):
        return False
    low, high = float(now.bins.edges[0]), float(now.bins.edges[-1])
    beyond = FAR * (high - low)
    return not low - beyond <= now.mean <= high + beyond


def _share(name: str, column: str, part: int, whole: int, line: float | None, before: float = 0.0) -> list[Signal]:
    """A share as a reading, unless it is nothing now and was nothing before."""
    if whole == 0 or (part == 0 and before == 0):
        return []
    chance = None if line is None else binomial_tail(part, whole, min(1.0, before + line))
    return [Signal(name, column, part / whole, whole, effect=part / whole - before, p_value=chance)]


def quality_alarms(readings: Iterable[Reading], lines: Quality, rate: float) -> tuple[Alarm, ...]:
    """What of the quality is an alarm: a share over its line, and no accident of few rows at a rate per window.

    No rows at all is a reading and no alarm: nights are quiet.

    >>> half = Signal("quality.nulls", "price", 0.5, 1000, effect=0.48, p_value=1e-9)
    >>> quality_alarms([half], Quality(), 1e-4)[0].said
    'price is 50% null, usual is at most 2%'
    """
    limits = {
        "quality.nulls": lines.nulls_rise,
        "quality.unseen": lines.unseen,
        "quality.range": lines.out_of_range,
        "quality.refused": lines.refused,
        "quality.missing": 0.0,
    }
    signals = [reading for reading in readings if isinstance(reading, Signal) and reading.name in limits]
    return tuple(
        Alarm(signal, limits[signal.name], "quality", _said_quality(signal))
        for signal in signals
        if (signal.effect or 0.0) > limits[signal.name] and (signal.p_value or 0.0) <= rate
    )


def _said_drift(signal: Signal, line: float) -> str:
    chance = f" (p = {short_p(signal.p_value)})" if signal.p_value is not None else ""
    return f"{called(signal.column)} moved: PSI {signal.effect:.2f} over {line:g}{chance}"


def _said_quality(signal: Signal) -> str:
    name, share = called(signal.column), _percent(signal.value)
    match signal.name:
        case "quality.nulls":
            before = _percent(signal.value - (signal.effect or 0.0))
            return f"{name} is {share} null, usual is at most {before}"
        case "quality.unseen":
            return f"{share} of {name} are categories that the reference does not have"
        case "quality.range":
            return f"{share} of {name} lie outside the range of the reference"
        case "quality.missing":
            return f"column {name} is missing"
        case _:
            because = "" if signal.column == "*" else f" because of {name}"
            return f"{share} of the rows were refused{because}"


def short_p(value: float) -> str:
    """Write a p-value in few characters.

    >>> short_p(2e-9), short_p(0.0321), short_p(0.0)
    ('2e-9', '0.03', '0')
    """
    if value >= 0.01:
        return f"{value:.2f}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return "0" if value == 0 else f"{mantissa}e{int(exponent)}"


def _percent(share: float) -> str:
    return f"{max(0.0, share):.0%}"


def called(column: str) -> str:
    """What a person calls a column.

    >>> called("_score"), called("price")
    ('the score', 'price')
    """
    return {SCORE: "the score", PREDICTION: "the predicted class"}.get(column, column)
