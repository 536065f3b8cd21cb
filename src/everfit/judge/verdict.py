"""The paired comparison on the same rows, as a verdict with every gate reported.

Takes nothing; gives the records; the union `Verdict` is told apart by `kind`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everfit.observe.window import Span


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the interval it lies in."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Gate:
    """A question that a candidate must pass. A gate that could not be asked says so and fails closed if it decides."""

    name: str  # "primary", "slice origin=JFK", "flips", "size", "latency_p99"
    passed: bool
    value: float | None
    limit: float | None
    said: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was compared on which rows."""

    candidate: str
    against: str  # candidate id of the champion, or "baseline"
    rows: int  # rows that neither trained on
    span: Span | None  # event time of these rows
    metric: str
    gain: Interval | None  # positive: the candidate is better; None when there were too few rows
    candidate_levels: dict[str, float]  # metric -> level of the candidate on these rows
    against_levels: dict[str, float]


@dataclass(frozen=True, slots=True)
class Better:
    """Proven better: it may go live."""

    evidence: Evidence
    gates: tuple[Gate, ...]
    said: str
    kind: Literal["better"] = "better"


@dataclass(frozen=True, slots=True)
class NotBetter:
    """Proven worse, or a gate was not passed: it is kept back."""

    evidence: Evidence
    gates: tuple[Gate, ...]
    said: str
    kind: Literal["not_better"] = "not_better"


@dataclass(frozen=True, slots=True)
class Unproven:
    """Neither better nor worse by these rows: it is kept back, and more rows may tell."""

    evidence: Evidence
    gates: tuple[Gate, ...]
    said: str
    kind: Literal["unproven"] = "unproven"


Verdict = Better | NotBetter | Unproven
