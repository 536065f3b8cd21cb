"""Faults that shares of nulls do not show: a frozen column, swapped codes, another unit, copies, a quiet source.

Takes portraits of a window and of its reference, and what is usual in healthy windows; gives readings and alarms of
kind "quality"; never calls a season a fault: each fault is a jump over everything that healthy windows reached, and
without enough of these there is a reading and no alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import exp, log, log10
from statistics import median

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from everfit.detect.signal import Alarm, NotEnough, Reading, Signal
from everfit.observe.window import Span
from everfit.profile.column import CategoryBins, ColumnProfile, NumberBins
from everfit.profile.table import ANSWERS, Profile

FEWEST = 5  # healthy windows; with fewer, what is usual is not known
SMALLEST = 50  # values of a column in a window; a handful may be alike by chance
LARGEST = 20  # categories that are told apart when codes are compared; the rest are one
SAME_SHAPE = 0.15  # distance of the sorted shares below which codes were swapped rather than frequencies changed
TAKEN_OVER = 0.9  # share of one category that was never so common
FACTOR = 8.0  # a busy day doubles amounts; metres for kilometres, cents for euros do more than this
MOVED = 0.4  # share of the rows that a new unit moves to other bins; one outlier moves none
AGREE = 0.25  # mean and deviation must have changed by the same factor, within this
EIGHT = 8  # windows of the same phase that say how many rows are usual: two months of Mondays
FOUR = 4  # of them; with fewer, the last windows of any phase are asked
FORTNIGHT = 14  # windows of any phase; so many have seen a weekend
DAY, WEEK = timedelta(days=1), timedelta(days=7)

# How far over what is usual a reading must jump, in its own unit.
LINES: Mapping[str, float] = {
    "quality.frozen": 0.5,  # share of the most frequent value; it must be all of them besides
    "quality.shifted": 0.2,  # distance of the shares of categories, 0..1
    "quality.unit": log10(FACTOR),  # powers of ten
    "quality.repeats": 0.3,  # share of rows that repeat another one
    "quality.duplicates": 0.3,  # share of rows that were sent again
    "quality.quiet": 0.8,  # share of the usual rows that did not come
}


@dataclass(frozen=True, slots=True)
class Reached:
    """What healthy windows reach: a fault is a jump over it."""

    windows: int = 0  # that it was read from
    highest: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # reading -> column -> highest value

    def of(self, name: str, column: str) -> float:
        """The highest value of a reading in any healthy window; 0 where none had any."""
        return self.highest.get(name, {}).get(column, 0.0)

    def joined(self, readings: Iterable[Reading]) -> Reached:
        """What is usual once another window, in which nothing was broken, counts as healthy too."""
        highest = {name: dict(columns) for name, columns in self.highest.items()}
        for reading in readings:
            if isinstance(reading, Signal) and reading.name in LINES:
                column = highest.setdefault(reading.name, {})
                column[reading.column] = max(column.get(reading.column, 0.0), reading.value)
        return Reached(self.windows + 1, highest)


def reached_by(windows: Iterable[Profile], reference: Profile) -> Reached:
    """What is usual, from portraits of the windows behind a champion on its reference's bins."""
    found = Reached()
    for window in windows:
        found = found.joined(read_faults(window, reference, Reached()))
    return found


@dataclass(frozen=True, slots=True)
class Arrived:
    """How many rows came in an earlier window."""

    span: Span
    rows: int
    faulty: bool = False  # an alarm said that the source was quiet


def read_faults(current: Profile, reference: Profile, usual: Reached) -> tuple[Signal, ...]:
    """Read frozen columns, shifted categories and changed units. What is near zero is left out.

    `quality.frozen` is the share of a number's most frequent value, `quality.shifted` the total variation distance of
    the shares of categories from the reference's, `quality.unit` the factor by which mean and deviation changed
    together, in powers of ten. The effect is the jump over what is usual; a reading that cannot be a fault (a column
    that is not all one value, frequencies that changed rather than codes) has a p-value of 1. For the score of rows
    that came without one nothing is read.
    """
    readings: list[Signal] = []
    for name, now in current.columns.items():
        then = reference.columns.get(name)
        if then is None or name in ANSWERS or min(now.present, then.present) < SMALLEST:
            continue
        if isinstance(now.bins, CategoryBins):
            readings += _shifted(name, now, then, usual)
        else:
            readings += [*_frozen(name, now, then, usual), *_unit(name, now, then, usual)]
    return tuple(readings)


def repeated(rows: pl.DataFrame, features: Sequence[str]) -> int:
    """Rows that repeat an earlier row in every feature.

    >>> repeated(pl.DataFrame({"a": [1, 1, 2], "b": [0, 0, 0]}), ["a", "b"])
    1
    """
    known = [name for name in features if name in rows.columns]
    return rows.height - rows.select(known).n_unique() if known and rows.height else 0


def read_copies(name: str, part: int, whole: int, usual: Reached) -> tuple[Signal, ...]:
    """Read a share of copies: `quality.repeats` of rows that repeat another, `quality.duplicates` of rows sent again.

    >>> read_copies("quality.repeats", 60, 100, Reached(20))[0].effect
    0.6
    """
    if part == 0 or whole == 0:
        return ()
    before = usual.of(name, "*")
    chance = float(scipy.special.bdtrc(part - 1, whole, min(1.0, before + LINES[name])))
    return (Signal(name, "*", part / whole, whole, effect=part / whole - before, p_value=_known(chance, usual)),)


def read_quiet(span: Span, rows: int, before: Sequence[Arrived]) -> Reading:
    """Read which share of the usual rows came in a window of time. Not for windows of rows, which are never quiet.

    Usual is what came at the same phase (weekday and hour) of the last eight weeks, or, in the first weeks, in the last
    fortnight of windows. A source is quiet when it sends less than a fifth of the median and less than half of the
    lowest window that was not quiet; for windows of hours the hours beside count as well, for clocks change. A level
    that lasts for five weeks is the new usual.

    >>> from datetime import UTC, datetime
    >>> new_year = datetime(2013, 1, 1, tzinfo=UTC)
    >>> days = [Span(new_year + n * DAY, new_year + (n + 1) * DAY) for n in range(15)]
    >>> read_quiet(days[14], 10, [Arrived(each, 1000) for each in days[:14]]).value
    0.01
    """
    phase = [each for each in before if _same_phase(each.span, span)][-EIGHT:]
    known = phase if len(phase) >= FOUR else list(before[-FORTNIGHT:])
    needed = FOUR if len(phase) >= FOUR else FORTNIGHT
    if len(known) < needed:
        return NotEnough("quality.quiet", "*", len(known), needed, f"{len(known)} windows before, {needed} needed")
    whole = [each.rows for each in known if not each.faulty]  # a second quiet day is not held to the first
    level = median(each.rows for each in known) if known is phase else min(whole, default=0)
    lowest = min((each.rows for each in _beside(known, before, span) if not each.faulty), default=level)
    if level < SMALLEST:
        return NotEnough("quality.quiet", "*", rows, SMALLEST, f"{level:g} rows are usual here, {SMALLEST} needed")
    chance = 1.0 if rows >= 0.5 * lowest else float(scipy.special.pdtr(rows, 0.5 * lowest))
    return Signal("quality.quiet", "*", rows / level, rows, effect=1 - rows / level, p_value=chance)


def fault_alarms(readings: Iterable[Reading], rate: float) -> tuple[Alarm, ...]:
    """Which of these readings are alarms: over their line, and no accident at the rate of false alarms accepted.

    >>> copies = Signal("quality.repeats", "*", 0.6, 900, effect=0.6, p_value=1e-9)
    >>> fault_alarms([copies], 0.003)[0].said
    '60% of the rows repeat another row, usual is at most 0%'
    """
    signals = [r for r in readings if isinstance(r, Signal) and r.name in LINES and r.p_value is not None]
    return tuple(
        Alarm(s, LINES[s.name], "quality", _said(s))
        for s in signals
        if (s.effect or 0.0) >= LINES[s.name] and (s.p_value or 0.0) <= rate
    )


# ---- columns ---------------------------------------------------------------------------------------------------------
def _known(chance: float, usual: Reached) -> float:
    """A chance counts once it is known what is usual."""
    return chance if usual.windows >= FEWEST else 1.0


def _frozen(name: str, now: ColumnProfile, then: ColumnProfile, usual: Reached) -> list[Signal]:
    top = float(now.counts.max()) / now.present
    if top < 0.5 or not then.deviation:
        return []
    constant = now.moments is not None and now.moments.low == now.moments.high
    before = usual.of("quality.frozen", name)
    likely = min(1.0, max(before, float(then.counts.max()) / then.present))
    chance = _known(exp((now.present - 1) * log(likely)), usual) if constant else 1.0
    return [Signal("quality.frozen", name, top, now.present, effect=top - before, p_value=chance)]


def _unit(name: str, now: ColumnProfile, then: ColumnProfile, usual: Reached) -> list[Signal]:
    was, spread_was, mean, spread = then.mean, then.deviation, now.mean, now.deviation
    if not spread or not spread_was or was is None or mean is None:
        return []
    factor = spread / spread_was
    if 0.5 < factor < 2 or not isinstance(now.bins, NumberBins):
        return []
    value, before = abs(log10(factor)), usual.of("quality.unit", name)
    together = abs(mean - factor * was) <= AGREE * factor * max(abs(was), spread_was)
    moved = 0.5 * float(np.abs(now.counts / now.present - then.counts / then.present).sum())
    fault = together and moved >= MOVED
    return [
        Signal(
            "quality.unit",
            name,
            value,
            now.present,
            effect=value - before,
            p_value=_known(0.0, usual) if fault else 1.0,
        )
    ]


def _shifted(name: str, now: ColumnProfile, then: ColumnProfile, usual: Reached) -> list[Signal]:
    order = np.argsort(-then.counts[:-2], kind="stable")[:LARGEST]
    seen, was = _shares(now, order), _shares(then, order)
    apart = 0.5 * float(np.abs(seen - was).sum())
    if apart < 0.05 or now.unseen * 2 > now.present:  # new names are `quality.unseen`
        return []
    before = usual.of("quality.shifted", name)
    shape = 0.5 * float(np.abs(np.sort(seen) - np.sort(was)).sum())
    took = int(seen.argmax())
    fault = shape <= SAME_SHAPE or (float(seen[took]) >= TAKEN_OVER and took < len(order))
    excess = apart - before - LINES["quality.shifted"] / 2  # the bound is a wide one: half of the jump must be sure
    chance = _known(_far(excess, len(seen), now.present), usual) if fault else 1.0
    return [Signal("quality.shifted", name, apart, now.present, effect=apart - before, p_value=chance)]


def _shares(column: ColumnProfile, order: NDArray[np.intp]) -> NDArray[np.float64]:
    """Shares of the reference's most frequent categories, then of all others that it knew."""
    known = column.counts[:-1].astype(np.float64)
    named = known[order]
    shares: NDArray[np.float64] = np.concatenate([named, [known.sum() - named.sum()]]) / max(1.0, known.sum())
    return shares


def _far(excess: float, groups: int, rows: int) -> float:
    """Chance that shares of so many rows lie so far from the true ones (Weissman et al. 2003, L1 deviation)."""
    if excess <= 0:
        return 1.0
    return min(1.0, exp(groups * log(2) - 2 * rows * excess * excess))


# ---- rows ------------------------------------------------------------------------------------------------------------
def _same_phase(one: Span, other: Span) -> bool:
    """Whether two windows of equal length lie whole weeks apart."""
    return one.end - one.start == other.end - other.start and (other.start - one.start) % WEEK == timedelta(0)


def _beside(known: Sequence[Arrived], before: Sequence[Arrived], span: Span) -> list[Arrived]:
    """The windows that say what is usual; shorter than a day, those beside them too."""
    if span.end - span.start >= DAY:
        return list(known)
    edges = {each.span.start for each in known} | {each.span.end for each in known}
    return [each for each in before if {each.span.start, each.span.end} & edges]


def _said(signal: Signal) -> str:
    before = signal.value - (signal.effect or 0.0)
    match signal.name:
        case "quality.frozen":
            return f"{signal.column} is one and the same value in all {signal.rows:,} rows"
        case "quality.shifted":
            share = f"{signal.value:.0%} of the rows, usual is {before:.0%}"
            return f"the categories of {signal.column} changed places: {share}"
        case "quality.unit":
            return (
                f"{signal.column} changed by a factor of {10**signal.value:.3g}, mean and deviation alike: another unit"
            )
        case "quality.repeats":
            return f"{signal.value:.0%} of the rows repeat another row, usual is at most {max(0.0, before):.0%}"
        case "quality.duplicates":
            return f"{signal.value:.0%} of the rows were sent before, usual is at most {max(0.0, before):.0%}"
        case _:
            return f"the source went quiet: {signal.rows:,} rows, {signal.value:.0%} of what is usual"
