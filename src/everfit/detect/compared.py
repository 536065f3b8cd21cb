"""What two sets of rows say about each other, as a fact that a person, a page or a machine reads.

Takes profiles and readings of both sides; gives `Comparison`; never decides what an alarm is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from everfit.detect.distribution import merged, number_groups
from everfit.detect.signal import Alarm
from everfit.observe.options import Kind
from everfit.profile.column import CategoryBins, ColumnProfile, NumberBins

MOST_BARS = 10  # categories that a picture shows by name


@dataclass(frozen=True, slots=True)
class Bar:
    """One group of values in a picture of a column."""

    name: str
    reference: float  # share of the present values
    current: float


@dataclass(frozen=True, slots=True)
class ColumnComparison:
    """One column on both sides."""

    name: str
    kind: Kind
    psi: float | None  # None where there were too few values, or the column is not on both sides
    ks: float | None
    js: float | None
    wasserstein: float | None
    p_value: float | None
    effect: float | None
    alarm: bool
    nulls: Mapping[str, float | None]  # share without a usable value, by side; None where the column is missing
    distinct: Mapping[str, int | None]  # distinct values by side, about; None where they were not counted
    smallest_shift: float | None = None  # found with 80 %, where the reference's own windows were used
    unit: str | None = None  # of it: "sd" of the column, or "share" of its rows
    verdict: str = "none"  # drift, none, not_enough, broken
    said: str = ""  # in words
    bars: tuple[Bar, ...] = ()  # for a picture; not in `to_dict`

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "psi": self.psi,
            "ks": self.ks,
            "js": self.js,
            "wasserstein": self.wasserstein,
            "p_value": self.p_value,
            "effect": self.effect,
            "alarm": self.alarm,
            "nulls": dict(self.nulls),
            "distinct": dict(self.distinct),
            "smallest_shift": self.smallest_shift,
            "unit": self.unit,
            "verdict": self.verdict,
            "said": self.said,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two sets of rows say about each other."""

    rows: Mapping[str, int]
    verdict: str  # drift, none, not_enough
    alarms: tuple[Alarm, ...]
    columns: tuple[ColumnComparison, ...]
    said: tuple[str, ...]
    windows: int = 0  # of the reference, that told how healthy windows differ; 0: only sampling noise was counted
    by: str | None = None  # the column by whose values the rows were compared once more
    groups: tuple[tuple[str, Comparison], ...] = ()  # its values, and the comparison within each

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        told: dict[str, Any] = {
            "rows": dict(self.rows),
            "verdict": self.verdict,
            "windows": self.windows,
            "alarms": [
                {
                    "name": a.signal.name,
                    "column": a.signal.column,
                    "kind": a.kind,
                    "value": a.signal.value,
                    "line": a.line,
                    "p_value": a.signal.p_value,
                    "said": a.said,
                }
                for a in self.alarms
            ],
            "columns": [column.to_dict() for column in self.columns],
            "said": list(self.said),
        }
        if self.by is not None:
            groups = [{"value": value, **found.to_dict()} for value, found in self.groups]
            told["by"] = {"column": self.by, "groups": groups}
        return told


def bars(then: ColumnProfile | None, now: ColumnProfile | None) -> tuple[Bar, ...]:
    """A picture of a column: about 16 neighbourhoods of equal mass of numbers, or the most frequent categories.

    A side without values has no shares, and there is no picture.
    """
    if then is None or now is None or not then.present or not now.present:
        return ()
    if isinstance(then.bins, CategoryBins):
        return _category_bars(then, now, then.bins)
    groups = number_groups(then.counts)
    e, a = merged(then.counts, groups) / then.present, merged(now.counts, groups) / now.present
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    names = [_from(then, then.bins, int(start)) for start in starts]
    return tuple(Bar(name, float(x), float(y)) for name, x, y in zip(names, e, a, strict=True))


def _category_bars(then: ColumnProfile, now: ColumnProfile, bins: CategoryBins) -> tuple[Bar, ...]:
    e, a = then.counts / then.present, now.counts / now.present
    names = [name for name, place in bins.places.items() if place < bins.top]
    ranked = sorted(range(len(names)), key=lambda place: -max(e[place], a[place]))[:MOST_BARS]
    shown = [Bar(names[place], float(e[place]), float(a[place])) for place in sorted(ranked)]
    rest = Bar(
        "other",
        1 - sum(bar.reference for bar in shown) - float(e[-1]),
        float(a[:-1].sum() - sum(bar.current for bar in shown)),
    )
    unseen = Bar("not seen before", float(e[-1]), float(a[-1]))
    return (*shown, *(bar for bar in (rest, unseen) if max(bar.reference, bar.current) > 1e-9))


def _from(column: ColumnProfile, bins: NumberBins, place: int) -> str:
    """Where a neighbourhood begins, as a person reads it."""
    if place == 0 or not len(bins.edges):
        return "below" if len(bins.edges) else "all"
    return worded(float(bins.edges[place - 1]), column.kind)


def worded(value: float, kind: Kind) -> str:
    """Write a value of a column shortly; moments as dates.

    >>> worded(1357020000.0, Kind.MOMENT), worded(0.123456, Kind.NUMBER)
    ('2013-01-01 06:00', '0.1235')
    """
    if kind is not Kind.MOMENT:
        return f"{value:.4g}"
    try:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return f"{value:.4g}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Name a few things.

    >>> listed(["a", "b"]), listed(list("abcdefg"))
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
