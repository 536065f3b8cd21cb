"""The promise "at most N false alarms in a period": budgets of the monitors, what spent them, and when to keep quiet.

Takes a window, what is usual and the state of a champion's monitor; gives what alarms and the next state; never reads
the clock.

All monitors share one rate of false alarms per window, and their shares add up to it: with any dependence between them
the alarms in T windows are at most T times the rate on average (union bound). The per-window test (`usual.py`) is cut
off by two rules where windows do not behave as it assumes: where healthy windows themselves show one-window shocks, and
where its alarms went away by themselves as often as the user allowed in the period. Then it only informs, and the slow
detector (`slow.py`), which one window cannot drive, goes on alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil
from types import MappingProxyType

from everfit.detect.distribution import holm
from everfit.detect.options import FalseAlarms
from everfit.detect.slow import Advanced, Slow, advance, begin
from everfit.detect.usual import FEWEST, FULL, ColumnTest, Usual, read_window
from everfit.errors import Refused
from everfit.profile.table import Profile

DAY = timedelta(days=1)
SUREST = 0.05  # however many false alarms the user allows, one window is never tested more loosely than this
LASTING = 3  # windows in a row: an alarm that lasted as long was no accident, though it went away
MAGIC = b"everfit monitor 1\n"

# Quality has a small share: its lines lie far beyond chance. Performance gets half: it is what hurts.
SHARES: Mapping[str, Fraction] = MappingProxyType(
    {
        "performance": Fraction(1, 2),
        "drift": Fraction(9, 40),
        "slow": Fraction(9, 40),
        "quality": Fraction(1, 20),
    }
)


@dataclass(frozen=True, slots=True)
class Rates:
    """False alarms per window that each monitor may raise, on average."""

    performance: float
    drift: float  # one window's columns
    slow: float  # drift over windows
    quality: float
    per: timedelta  # the period of the promise
    at_most: float  # false alarms in a period

    @property
    def total(self) -> float:
        """The rate of all monitors together."""
        return self.performance + self.drift + self.slow + self.quality


def shares(others: Mapping[str, Fraction] = MappingProxyType({})) -> dict[str, Fraction]:
    """Each monitor's share of the false alarms. Shares add up to one, whoever is added.

    Args:
        others: Monitors besides the built-in ones and their shares, taken evenly from all built-in ones.

    >>> from fractions import Fraction
    >>> shares()["performance"], sum(shares({"embedding": Fraction(1, 10)}).values())
    (Fraction(1, 2), Fraction(1, 1))
    """
    left = 1 - sum(others.values(), Fraction(0))
    return {**{name: share * left for name, share in SHARES.items()}, **others}


def rates(false_alarms: FalseAlarms, window: timedelta | None, split: Mapping[str, Fraction] = SHARES) -> Rates:
    """Rates per window from what the user allows. A window of rows (None) counts as a day.

    >>> daily = rates(FalseAlarms(), timedelta(days=1))
    >>> round(1 / daily.total), round(daily.total / rates(FalseAlarms(), timedelta(hours=12)).total)
    (365, 2)
    """
    rate = min(SUREST, false_alarms.at_most * ((window or DAY) / false_alarms.per))
    each = {name: rate * float(split[name]) for name in SHARES}
    return Rates(**each, per=false_alarms.per, at_most=false_alarms.at_most)


@dataclass(frozen=True, slots=True)
class Spent:
    """The account of the per-window test in the running period."""

    since: datetime | None = None  # when the period began; None before the first window
    resolved: int = 0  # alarms that went away by themselves or were acknowledged as benign
    lasting: int = 0  # windows that the running alarm has lasted; 0 = none

    def after(self, at: datetime, *, fired: bool, per: timedelta) -> Spent:
        """The account after a window that did, or did not, look like an alarm."""
        spent = self if self.since is not None and at - self.since < per else Spent(at, 0, self.lasting)
        if fired:
            return replace(spent, lasting=spent.lasting + 1)
        accident = 0 < spent.lasting < LASTING
        return replace(spent, resolved=spent.resolved + accident, lasting=0)

    def used_up(self, at_most: float) -> bool:
        """Whether the period's false alarms are spent."""
        return self.resolved >= ceil(at_most)


@dataclass(frozen=True, slots=True, eq=False)
class Monitor:
    """The state of one champion's drift monitor between windows."""

    slow: Slow | None = None  # None while there is too little history
    spent: Spent = Spent()

    def renewed(self) -> Monitor:
        """For a new champion: other evidence, the same account."""
        return Monitor(None, replace(self.spent, lasting=0))

    def to_bytes(self) -> bytes:
        """Write the state compactly."""
        since = None if self.spent.since is None else self.spent.since.isoformat()
        head = json.dumps([since, self.spent.resolved, self.spent.lasting]).encode()
        return MAGIC + len(head).to_bytes(2, "little") + head + (b"" if self.slow is None else self.slow.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Monitor:
        """Read what `to_bytes` wrote.

        Raises:
            Refused: these are not such bytes.
        """
        if not data.startswith(MAGIC):
            raise Refused("these bytes are not the state of a monitor; begin with a new one")
        start = len(MAGIC) + 2
        end = start + int.from_bytes(data[len(MAGIC) : start], "little")
        since, resolved, lasting = json.loads(data[start:end])
        spent = Spent(None if since is None else datetime.fromisoformat(since), resolved, lasting)
        return cls(Slow.from_bytes(data[end:]) if end < len(data) else None, spent)


@dataclass(frozen=True, slots=True)
class When:
    """Where a window lies in time."""

    at: datetime  # its start
    place: int | None = None  # its number on the grid of event time; needed where there is a season
    expected: bool = False  # in a declared event (a holiday, a campaign): it is tested and told, and changes nothing


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What one window said."""

    tests: tuple[ColumnTest, ...]  # empty while nothing can be said
    unusual: tuple[str, ...]  # columns that no healthy window explains, at the rate of the per-window test
    alarms: tuple[str, ...]  # those of them that are an alarm
    informs: str | None  # why unusual columns are no alarm in this window, or None
    slow: Advanced | None  # the slow detector; None where it was not advanced
    learning: str | None  # "12 of 20 healthy windows", or None
    monitor: Monitor
    usual: Usual


def watch_window(
    current: Profile, when: When, usual: Usual, monitor: Monitor, rates: Rates, immaterial: Collection[str] = ()
) -> Watched:
    """Test one window, and say what is an alarm.

    While the history is short (`learning`), windows that are not unusual join it, and only the per-window test alarms,
    each score by its own variance.

    >>> import numpy as np
    >>> import polars as pl
    >>> from everfit.detect.usual import learn_usual
    >>> from everfit.observe.options import Kind
    >>> from everfit.observe.schema import Column, Schema
    >>> from everfit.profile.table import learn_bins, portray
    >>> days = [pl.DataFrame({"x": np.random.default_rng(i).normal(size=300)}) for i in range(21)]
    >>> bins = learn_bins(pl.concat(days), Schema((Column("x", Kind.NUMBER),), ()))
    >>> usual = learn_usual([portray(day, bins) for day in days[:20]])
    >>> when, allowed = When(datetime(2026, 3, 1)), rates(FalseAlarms(), timedelta(days=1))
    >>> watch_window(portray(days[20] + 1, bins), when, usual, Monitor(), allowed).alarms
    ('x',)

    Args:
        current: The window's profile, on the bins of `usual`.
        when: Where the window lies in time.
        usual: What healthy windows are like.
        monitor: The state before it; `Monitor()` for a new champion.
        rates: What `rates` gave.
        immaterial: Columns whose change is too small to matter, however certain it is. The slow detector, which is
            there for small changes, does not ask.

    Raises:
        UsageError: other bins, or no place where there is a season.
    """
    if current.rows == 0:
        return Watched((), (), (), "the window has no rows", None, usual.learning, monitor, usual)
    place = int(usual.places[-1]) + 1 if when.place is None and usual.period == 1 else when.place
    if usual.windows < FEWEST:
        grown = usual if when.expected else usual.joined(current, place)
        return Watched((), (), (), None, None, usual.learning, monitor, grown)
    tests = read_window(current, usual, place=place, rate=rates.drift)
    sure = holm([test.p_value for test in tests], rates.drift)
    found = tuple(t.column for t, is_sure in zip(tests, sure, strict=True) if is_sure and t.column not in immaterial)
    if when.expected:
        said = "the window lies in a declared event"
        return Watched(tests, found, (), said, None, usual.learning, monitor, usual)
    informs, slow_rate = why_informs(usual, monitor.spent, rates, when.at)
    slow = None
    if usual.windows >= FULL:
        slow = advance(monitor.slow or begin(usual), current, usual, slow_rate, place)
    alarms = () if informs else found
    after = Monitor(slow.slow if slow else None, monitor.spent.after(when.at, fired=bool(alarms), per=rates.per))
    joins = usual.learning is not None and not found
    return Watched(
        tests, found, alarms, informs, slow, usual.learning, after, usual.joined(current, place) if joins else usual
    )


def acknowledged(window: Profile, usual: Usual, monitor: Monitor, place: int | None = None) -> tuple[Usual, Monitor]:
    """A person says that an alarmed window was benign: it counts as false, and joins the history.

    Returns:
        What is usual from now on, and the monitor's state.
    """
    spent = replace(monitor.spent, resolved=monitor.spent.resolved + (monitor.spent.lasting > 0), lasting=0)
    return usual.joined(window, place), replace(monitor, spent=spent)


def why_informs(usual: Usual, spent: Spent, rates: Rates, at: datetime) -> tuple[str | None, float]:
    """Why the per-window test only informs, and the rate of the slow detector: it takes over what the other leaves."""
    if usual.shocked(rates.drift):
        many = usual.shocks(rates.drift)
        said = f"{many} of {usual.windows} healthy windows were as unusual: one window proves nothing here"
        return said, rates.drift + rates.slow
    spent = spent.after(at, fired=spent.lasting > 0, per=rates.per)
    if spent.used_up(rates.at_most):
        days = _days(rates.per)
        said = f"{spent.resolved} of {rates.at_most:g} false alarms in {days} are spent: one window only informs"
        return said, rates.slow
    return None, rates.slow


def _days(span: timedelta) -> str:
    return f"{span / DAY:g} days"
