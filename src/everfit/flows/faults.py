"""Faults in the rows of a window, read beside what is usual for the champion.

Takes the rows, what was put aside, portraits and the history; gives readings and alarms of kind "quality"; never calls
a fault what healthy windows reach as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from everfit.detect.battery import Arrivals, quality_alarms, read_quality
from everfit.detect.faults import Arrived, Reached, fault_alarms, read_copies, read_faults, read_quiet, repeated
from everfit.detect.options import Watching
from everfit.detect.signal import Alarm, Reading, Signal
from everfit.flows.collect import DUPLICATE
from everfit.observe.intake import FAILED
from everfit.observe.window import Span
from everfit.profile.table import Profile
from everfit.standing import Standing

RECENT = 60  # windows in which the last unbroken one of a column is looked for


@dataclass(frozen=True, slots=True)
class Came:
    """What came in a window."""

    span: Span
    joined: pl.DataFrame  # rows that were taken, with their labels
    refused: pl.DataFrame  # rows that were put aside, with their reason
    current: Profile
    reference: Profile


def failed_rows(refused: pl.DataFrame) -> int:
    """Rows that a model failed on: its fault, and not theirs."""
    return refused.filter(pl.col("_reason") == FAILED).height


def read_rows(
    standing: Standing, came: Came, options: Watching, length: timedelta | None, rate: float
) -> tuple[tuple[Reading, ...], tuple[Alarm, ...]]:
    """Read what is broken in a window, and what of it is an alarm.

    Args:
        standing: Where the model stands; it has a champion.
        came: The window.
        options: The lines.
        length: Of a window in time; None for windows of rows, which are never quiet.
        rate: Of false alarms per window.
    """
    shares = usual(standing)
    twice = came.refused.filter(pl.col("_reason") == DUPLICATE).height
    named = came.refused["_column"].drop_nulls().value_counts()
    arrivals = Arrivals(
        refused=came.refused.height - twice - failed_rows(came.refused), refused_columns=dict(named.iter_rows())
    )
    readings = read_quality(came.current, came.reference, arrivals, options, shares)
    known = _reached(standing, shares)
    features = [name for name in came.current.columns if not name.startswith("_")]
    height = came.joined.height
    more: tuple[Reading, ...] = (
        *read_faults(came.current, came.reference, known),
        *read_copies("quality.repeats", repeated(came.joined, features), height, known),
        *read_copies("quality.duplicates", twice, height + twice, known),
        *([] if length is None else [read_quiet(came.span, height, _arrived(standing))]),
    )
    return (*readings, *more), (*quality_alarms(readings, options.quality, rate), *fault_alarms(more, rate))


def usual(standing: Standing) -> dict[tuple[str, str], float]:
    """Shares that healthy windows reach as well: those of the rows behind the champion, and the last unbroken window.

    The last one makes a fault a jump: what comes slowly is drift, and must not stop the retraining that it calls for.
    """
    backdrop = standing.champion.backdrop if standing.champion else None
    known = [backdrop.worst, backdrop.reached.highest] if backdrop else []
    found = {
        (name, column): share for each in known for name, columns in each.items() for column, share in columns.items()
    }
    settled: set[str] = set()  # columns whose last unbroken window was found
    for window in reversed(standing.history.windows[-RECENT:]):
        broken = {alarm.signal.column for alarm in window.alarms if alarm.kind == "quality"}
        shares = {(r.name, r.column): r.value for r in window.readings if isinstance(r, Signal)}
        for (name, column), value in shares.items():
            if name.startswith("quality.") and column not in broken | settled:
                found[name, column] = max(found.get((name, column), 0.0), value)
        settled |= {column for _, column in shares} - broken
    return found


def _reached(standing: Standing, shares: dict[tuple[str, str], float]) -> Reached:
    """What healthy windows reach of other faults, those since the proof that were unbroken among them."""
    highest: dict[str, dict[str, float]] = {}
    for (name, column), share in shares.items():
        highest.setdefault(name, {})[column] = share
    champion = standing.champion
    behind = champion.backdrop.reached.windows if champion else 0
    unbroken = sum(1 for w in standing.history.windows if not any(alarm.kind == "quality" for alarm in w.alarms))
    return Reached(behind + unbroken, highest)


def _arrived(standing: Standing) -> Sequence[Arrived]:
    return [
        Arrived(w.span, w.rows, any(alarm.signal.name == "quality.quiet" for alarm in w.alarms))
        for w in standing.history.windows
    ]
