"""What a report tells, as plain facts.

Takes nothing; gives the nouns of `ReportStory`; never computes a number and never draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a reader takes away."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """The metric of one day, as it was measured on matured labels."""

    day: date
    value: float
    low: float | None = None
    high: float | None = None
    rows: int | None = None  # how many labelled rows stood behind it


@dataclass(frozen=True, slots=True)
class ChampionLine:
    """One model's time as champion."""

    version: int
    since: datetime
    until: datetime | None  # None: it still serves
    reason: str  # why it was trained, or why it came back
    proven: float | None  # a day of its held-out rows, on average
    live: float | None  # mean of its days in service
    days: int  # how many days that is
    rows: int | None  # trained on
    verdict: str  # the judge's sentence


@dataclass(frozen=True, slots=True)
class DecisionLine:
    """One decision, or several waits in a row for the same reasons."""

    at: datetime
    kind: str
    said: str
    details: tuple[str, ...] = ()
    times: int = 1  # so many in a row


@dataclass(frozen=True, slots=True)
class CandidateLine:
    """One candidate against the champion of its time, on the same rows."""

    version: int
    at: datetime
    against: str  # "v3", or "baseline"
    gain: float | None  # positive: the candidate is better
    low: float | None
    high: float | None
    verdict: str  # better, not_better, unproven
    said: str
    promoted: bool


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A release that ended before its model served, or took it back after."""

    version: int
    at: datetime
    outcome: str  # rolled_back, aborted, refused, failed
    wanted: str  # by whose word it was released
    said: str


@dataclass(frozen=True, slots=True)
class DriftMap:
    """Debiased PSI of columns against the reference of the champion of the day."""

    days: tuple[date, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]  # a row a column; None: not enough rows
    alarms: frozenset[tuple[str, date]]


@dataclass(frozen=True, slots=True)
class Compared:
    """One policy's whole time, on the rows that all policies answered."""

    name: str
    pooled: float  # the metric over all rows at once
    mean_of_days: float  # the mean of the days' metric
    trainings: int | None


@dataclass(frozen=True, slots=True)
class ReportStory:
    """Everything that a report shows."""

    title: str
    subtitle: str
    metric: str
    facts: tuple[Figure, ...] = ()
    daily: tuple[Point, ...] = ()
    rivals: Mapping[str, Mapping[date, float]] = field(default_factory=dict)
    champions: tuple[ChampionLine, ...] = ()
    taken_back: tuple[TakenBack, ...] = ()
    decisions: tuple[DecisionLine, ...] = ()
    drift: DriftMap | None = None
    candidates: tuple[CandidateLine, ...] = ()
    comparison: tuple[Compared, ...] = ()
    notes: tuple[str, ...] = ()  # how to read it, and what it does not show
