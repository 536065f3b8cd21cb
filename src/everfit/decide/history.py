"""What happened so far to one model, as far as a decision needs it.

Takes nothing; gives records that the ledger folds into; never reads the ledger itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from everfit.detect.signal import Alarm, Reading
from everfit.observe.window import Span


@dataclass(frozen=True, slots=True)
class Champion:
    """The model that serves."""

    candidate: str
    version: int
    live_since: datetime  # in the model's clock
    proven: Mapping[str, float]  # metric -> level on the rows it was proven on
    per_window: Mapping[str, float]  # metric -> mean level in windows of these rows
    proven_until: datetime  # end of those rows
    trained_until: datetime  # end of the rows it was trained on


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """One window as it was measured: at its close, and again when its labels had matured."""

    span: Span
    rows: int
    alarms: tuple[Alarm, ...]
    champion: str | None  # the candidate that served at its end
    readings: tuple[Reading, ...] = ()
    mature: tuple[Reading, ...] | None = None  # performance readings; None while immature
    labelled: int = 0


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One training run, whatever became of it."""

    run: str
    started: datetime
    evidence: frozenset[str]  # keys of the facts that caused it
    ended: datetime | None = None
    outcome: str = "running"  # promoted, kept_back, failed, blocked, refused


@dataclass(frozen=True, slots=True)
class Heard:
    """An event from outside, or a person's wish."""

    name: str
    key: str
    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class Question:
    """A run is due and a person is asked first."""

    key: str
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class History:
    """Everything that a decision may rest on, in event order."""

    model: str
    champion: Champion | None = None
    previous: str | None = None
    windows: tuple[WindowRecord, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    heard: tuple[Heard, ...] = ()  # outside events
    asked: tuple[Heard, ...] = ()  # `everfit retrain`
    rows: int = 0  # prediction rows in the lake
    labels: int = 0  # label rows in the lake
    rows_at_last_run: int = 0
    labels_at_last_run: int = 0
    question: Question | None = None  # the last one to a person; open until its answer is known
    answered: Mapping[str, bool] = field(default_factory=dict)  # question -> approved
    refused: frozenset[str] = frozenset()  # evidence of questions that a person answered with no
    paused: bool = False

    @property
    def running(self) -> RunRecord | None:
        """The run that has not ended, if any."""
        return next((run for run in self.runs if run.ended is None), None)
