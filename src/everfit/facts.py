"""Facts: what can happen to a model, one record each. They are what the ledger is made of.

Takes nothing; gives records that are plain JSON values inside; never changes the meaning of one that was ever written:
a new field has a default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from everfit.decide.decision import BenchRun, Decision, Reason
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
from everfit.rollout.checks import Guarding
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
class BenchScored:
    """All labels of a window of the bench have matured: every kept model was scored on its rows, beside the champion.

    The first model's rows are windows 0 to `number` - 1 of the first such fact; from there on windows of the bench are
    groups of `every` closed windows.
    """

    number: int  # of the bench window
    now: int  # the last bench window that had ended when the labels had matured
    every: int  # windows of the watch in one window of the bench
    span: Span
    rows: int
    labelled: int
    metric: str
    greater_is_better: bool
    levels: dict[str, tuple[float | None, float | None, float | None]]  # candidate -> on all, even and odd rows in time
    failed: dict[str, str]  # candidate -> why it could not be scored
    unit: float | None = None  # the first that has labels: loss of the best constant, in which losses become points


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
    bench: BenchRun | None = None  # what the bench asks of it; None: rows are held out and its model is judged on them


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

    outcome: str  # proven, kept_back, benched, blocked, failed
    said: str


# ---- facts of a recall -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class RecallBegan:
    """A kept model is to serve: by a person's word, or because the bench finds it better; then it is judged."""

    candidate: str
    against: str  # candidate that serves; empty: none does
    window: int  # bench window whose labels came last when it was decided
    windows: int  # of the bench that were scored for both; their rows prove it
    gain: float  # points a window that it is believed to be better by
    margin: float  # points that are needed
    because: tuple[Reason, ...]
    by: str = ""  # the person whose word it is; empty: the bench's


@dataclass(frozen=True, slots=True)
class RecallEnded:
    """The recall is over; where it was proven, its release has begun."""

    outcome: str  # planned, kept_back, failed
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
    guard: Guarding | None = None  # what may stop it; None: nothing is compared on the way
    usual: dict[str, float] = field(default_factory=dict)  # check -> the champion's level before
    by: str = ""  # the person who recalls this version, whatever its verdict was; empty: it was proven


@dataclass(frozen=True, slots=True)
class ApprovalAsked:
    """A person's word is awaited."""

    question: str
    candidate: str


@dataclass(frozen=True, slots=True)
class StageBegan:
    """A stage that takes time began; traffic goes where it says."""

    index: int
    stage: str
    until: datetime | None  # planned; None: until a person promotes
    pointed: str | None = None  # key of the route that every server confirmed; None: traffic stayed as it was


@dataclass(frozen=True, slots=True)
class StageDone:
    """A stage had its effect."""

    index: int
    stage: str
    pointed: str | None = None  # key of the route from here on; None: as before
    said: str = ""  # why a stage that takes time is over; the share of a weight


@dataclass(frozen=True, slots=True)
class GuardLooked:
    """The guard compared champion and challenger on rows that were new, or came to another verdict."""

    index: int  # of the stage
    verdict: str  # proceed, hold, ask, roll_back
    said: str
    state: str  # key of what the guard knows from here on, among the notes; empty where a server spoke for it
    requests: tuple[int, int] = (0, 0)  # new ones, of the champion and of the challenger
    shown: dict[str, float] = field(default_factory=dict)  # of new rows: disagreement, score shift and the like


@dataclass(frozen=True, slots=True)
class Steered:
    """A person's word to a release under way."""

    index: int  # of the stage that it was said in
    word: str  # promote: go on to the next stage; full: to all traffic; abort: back to the champion alone
    why: str
    by: str


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

    outcome: str  # live, refused, failed, rolled_back, aborted
    said: str


Fact = (
    SchemaLearned
    | WindowClosed
    | WindowMatured
    | BenchScored
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
    | RecallBegan
    | RecallEnded
    | ReleasePlanned
    | ApprovalAsked
    | StageBegan
    | StageDone
    | GuardLooked
    | Steered
    | WentLive
    | ReleaseEnded
)

FACTS: dict[str, type[Fact]] = {kind.__name__: kind for kind in Fact.__args__}
