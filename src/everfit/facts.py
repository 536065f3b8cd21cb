"""Facts: what can happen to a model, one record each. They are what the ledger is made of.

Takes nothing; gives records that are plain JSON values inside; never changes the meaning of one that was ever written:
a new field has a default.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from everfit.decide.decision import Decision, Reason
from everfit.detect.backdrop import Backdrop
from everfit.detect.decay import Baseline, Decay
from everfit.detect.signal import Alarm, Reading
from everfit.judge.verdict import Verdict
from everfit.observe.schema import Schema
from everfit.observe.window import Span
from everfit.retrain.candidate import Candidate
from everfit.retrain.dataset import Dataset
from everfit.retrain.recipe import LakeVersion, Recipe
from everfit.retrain.validate import Finding
from everfit.rollout.plan import Stage


# ---- facts of the watch ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SchemaLearned:
    """The columns are frozen from here on."""

    schema: Schema


@dataclass(frozen=True, slots=True)
class Guarded:
    """What a drift monitor of a champion holds windows to after one of them, as keys among the notes."""

    usual: str  # what healthy windows are like: while learning, windows join them
    state: str  # evidence so far, and what was spent of the false alarms that are allowed


@dataclass(frozen=True, slots=True)
class WindowClosed:
    """A window ended and was measured without waiting for labels."""

    span: Span
    rows: int
    lake: LakeVersion
    champion: str | None
    readings: tuple[Reading, ...]
    alarms: tuple[Alarm, ...]
    profile: str | None  # key of its profile among the notes
    guarded: dict[str, Guarded] = field(default_factory=dict)  # drift monitors: "features" and "score"
    learning: str = ""  # why the promise of false alarms does not hold yet; empty once it does


@dataclass(frozen=True, slots=True)
class WindowMatured:
    """A window's labels have had the time to arrive; its performance is no longer provisional."""

    span: Span
    rows: int
    labelled: int
    readings: tuple[Reading, ...]
    alarms: tuple[Alarm, ...] = ()  # performance that decayed, at the rate of false alarms that was promised
    decay: Decay | None = None  # the champion's evidence of decay after this window; None: it says nothing of it
    baseline: Baseline | None = None  # what it is held to from here on: while learning, healthy windows join it


@dataclass(frozen=True, slots=True)
class Silence:
    """No row came in a span; the windows in it were skipped."""

    span: Span


@dataclass(frozen=True, slots=True)
class Decided:
    """What the policy said, and the facts it rests on."""

    decision: Decision
    window: Span | None
    rules: str = ""  # key of the rules that it was taken by among the notes; empty in old ledgers


# ---- facts that people and other systems bring -----------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class EventHeard:
    """Something happened outside."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class RetrainAsked:
    """A person asked for a training run."""

    why: str
    key: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A person answered a question."""

    question: str
    approved: bool
    why: str


@dataclass(frozen=True, slots=True)
class Dismissed:
    """A person looked at a window that alarmed for drift and found it benign: it is usual from here on."""

    window: Span
    why: str


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing is started until somebody resumes; what runs goes on."""

    why: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """Decisions count again."""

    why: str


@dataclass(frozen=True, slots=True)
class Told:
    """An alert went out, or did not, channel by channel."""

    key: str
    severity: str
    title: str
    outcome: dict[str, str]


# ---- facts of a training run -----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class RenewBegan:
    """A training run was started."""

    because: tuple[Reason, ...]
    first: bool  # there is no champion yet
    probe: bool = False  # few rows are tried first, and all of them only if that looks worth it


@dataclass(frozen=True, slots=True)
class RecipeChosen:
    """Everything that determines the run is fixed."""

    recipe: Recipe


@dataclass(frozen=True, slots=True)
class DatasetPinned:
    """The rows are named for ever."""

    dataset: Dataset


@dataclass(frozen=True, slots=True)
class DataChecked:
    """The rows were inspected before training."""

    findings: tuple[Finding, ...]
    fit: bool


@dataclass(frozen=True, slots=True)
class Probed:
    """A model of few rows was held to the champion, to see whether training on all of them would be worth it."""

    gain: (
        tuple[float, float, float] | None
    )  # over the champion on the held-out rows, with its interval; None: undefined
    go_on: bool
    said: str


@dataclass(frozen=True, slots=True)
class CandidateTrained:
    """A model came out of the training child and lies on the shelf."""

    candidate: Candidate
    seconds: float = 0.0  # that training took, on the machine where it ran; what the next run is expected to cost


@dataclass(frozen=True, slots=True)
class CandidateRegistered:
    """People can look the candidate up."""

    candidate: str
    version: int


@dataclass(frozen=True, slots=True)
class Judged:
    """The candidate was compared on rows that nobody trained on."""

    verdict: Verdict
    reference: str | None  # key of the profile of these rows among the notes
    per_window: dict[str, float] = field(default_factory=dict)  # metric -> mean of its levels in windows of these rows
    backdrop: Backdrop = field(default_factory=Backdrop)  # what windows of the live model are held to


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step of a run could not be done for good; the run ends."""

    step: str
    error: str  # name of the error
    said: str


@dataclass(frozen=True, slots=True)
class RenewEnded:
    """The training run is over."""

    outcome: str  # promoted, kept_back, blocked, failed
    said: str


# ---- facts of a release ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ReleasePlanned:
    """The stages are fixed before anything happens."""

    candidate: str
    version: int
    previous: str | None
    stages: tuple[Stage, ...]
    cause: str  # run of the proof, or who asked for the roll-back
    back: bool  # this is a roll-back


@dataclass(frozen=True, slots=True)
class ApprovalAsked:
    """A person's word is awaited."""

    question: str
    candidate: str


@dataclass(frozen=True, slots=True)
class StageDone:
    """A stage had its effect."""

    index: int
    stage: str


@dataclass(frozen=True, slots=True)
class WentLive:
    """All traffic was pointed to a model."""

    candidate: str
    version: int
    previous: str | None
    back: bool
    why: str


@dataclass(frozen=True, slots=True)
class ReleaseEnded:
    """The roll-out is over."""

    outcome: str  # live, refused, failed
    said: str


Fact = (
    SchemaLearned
    | WindowClosed
    | WindowMatured
    | Silence
    | Decided
    | EventHeard
    | RetrainAsked
    | Answered
    | Dismissed
    | Paused
    | Resumed
    | Told
    | RenewBegan
    | RecipeChosen
    | DatasetPinned
    | DataChecked
    | Probed
    | CandidateTrained
    | CandidateRegistered
    | Judged
    | StepFailed
    | RenewEnded
    | ReleasePlanned
    | ApprovalAsked
    | StageDone
    | WentLive
    | ReleaseEnded
)

FACTS: dict[str, type[Fact]] = {kind.__name__: kind for kind in Fact.__args__}
