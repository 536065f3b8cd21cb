"""What happened so far to one model, as far as a decision needs it.

Takes nothing; gives records that the ledger folds into; never reads the ledger itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from everfit.decide.bench import Bench
from everfit.decide.decision import BenchRun
from everfit.detect.signal import Alarm, Reading, Signal
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
    rows: int = 0  # rows it was trained on; 0: not known
    made: datetime | None = None  # when its rows were cut; None: not known, and `live_since` counts
    importance: Mapping[str, float] = field(default_factory=dict)  # column -> how much the model rests on it
    back: bool = False  # it came by a roll-back

    @property
    def release(self) -> str:
        """Names the release by which it came, so that nothing is done twice about one."""
        return f"{self.candidate}@{self.live_since.isoformat()}"


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
    mature_alarms: tuple[Alarm, ...] = ()  # raised when the labels had matured
    matured_at: datetime | None = None  # when that was; None: immature, or written before this was kept
    profile: str | None = None  # key of its profile among the notes

    @property
    def decay(self) -> Alarm | None:
        """The calibrated alarm of performance that it raised, if any."""
        return next((a for a in (*self.mature_alarms, *self.alarms) if a.kind == "performance"), None)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Columns that raised a drift alarm, each once."""
        return tuple(dict.fromkeys(a.signal.column for a in self.alarms if a.kind == "drift"))

    def find(self, name: str, column: str = "*") -> Signal | None:
        """What was read at the close, if there was enough to read."""
        return _find(self.readings, name, column)

    def find_mature(self, name: str, column: str = "*") -> Signal | None:
        """What was read when the labels had matured, if there was enough to read."""
        return _find(self.mature or (), name, column)


def _find(readings: tuple[Reading, ...], name: str, column: str) -> Signal | None:
    found = (r for r in readings if isinstance(r, Signal) and r.name == name and r.column == column)
    return next(found, None)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One training run, whatever became of it."""

    run: str
    started: datetime
    evidence: frozenset[str]  # keys of the facts that caused it
    ended: datetime | None = None
    outcome: str = "running"  # promoted, kept_back, benched, failed, blocked, refused
    triggers: tuple[str, ...] = ()  # names of the triggers that caused it
    seconds: float | None = None  # how long its training took; None: not known
    bench: BenchRun | None = None  # what the bench asked of it; None: its model is judged on held-out rows


@dataclass(frozen=True, slots=True)
class RecallRecord:
    """One recall of a kept model, whatever became of it."""

    run: str
    started: datetime
    candidate: str
    window: int  # bench window whose labels came last when it was decided
    windows: int  # of the bench that were to prove it
    evidence: frozenset[str]  # keys of the facts that caused it
    ended: datetime | None = None
    outcome: str = "running"  # planned, kept_back, failed


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
    triggers: tuple[str, ...] = ()  # names of the triggers that made it due
    bench: BenchRun | None = None  # what the bench asks of it


@dataclass(frozen=True, slots=True)
class FleetRecord:
    """What the other models of this database did and want."""

    runs_in_period: int  # training runs of all models, this one's included, within `decide.fleet.per`
    wishes: tuple[tuple[str, float], ...] = ()  # other models that wait for the fleet's budget, with their runs' value


@dataclass(frozen=True, slots=True)
class History:
    """Everything that a decision may rest on, in event order."""

    model: str
    champion: Champion | None = None
    previous: str | None = None
    windows: tuple[WindowRecord, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    recalls: tuple[RecallRecord, ...] = ()
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
    rollbacks: frozenset[str] = frozenset()  # evidence of roll-backs that were decided
    going_back: str | None = None  # the run of a roll-back that is under way
    releasing: str | None = None  # the run of a release that is under way and is no roll-back
    bench: Bench | None = None  # as of its last scored window; None: there is none yet, or nobody asked for it
    fleet: FleetRecord | None = None  # None: not known, and nobody is waited for

    @property
    def running(self) -> RunRecord | None:
        """The run that has not ended, if any."""
        return next((run for run in self.runs if run.ended is None), None)

    @property
    def recalling(self) -> RecallRecord | None:
        """The recall that has not ended, if any."""
        return next((recall for recall in self.recalls if recall.ended is None), None)

    @property
    def used(self) -> frozenset[str]:
        """Evidence that caused a run already, or that a person did not want to count."""
        caused: tuple[RunRecord | RecallRecord, ...] = (*self.runs, *self.recalls)
        return frozenset(key for run in caused for key in run.evidence) | self.refused

    @property
    def served(self) -> tuple[WindowRecord, ...]:
        """Windows that the present champion served from their start to their end."""
        live = self.champion
        if live is None:
            return ()
        return tuple(w for w in self.windows if w.champion == live.candidate and w.span.start >= live.live_since)
