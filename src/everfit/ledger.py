"""The ledger: what happened, why and by whom, as append-only entries that are chained by their hashes.

Takes facts; gives entries, the chain's check, and JSON both ways; never stores anything itself (that is a port) and
never folds (that is `everfit.standing`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from hashlib import blake2b
from typing import Any

from pydantic import TypeAdapter

from everfit.decide.decision import Decision, Reason
from everfit.detect.healthy import Healthy
from everfit.detect.signal import Alarm, Reading
from everfit.errors import LedgerTampered
from everfit.ids import canonical
from everfit.judge.verdict import Verdict
from everfit.lifecycle import Move
from everfit.observe.schema import Schema
from everfit.observe.window import Span
from everfit.retrain.candidate import Candidate
from everfit.retrain.dataset import Dataset
from everfit.retrain.recipe import LakeVersion, Recipe
from everfit.retrain.validate import Finding
from everfit.rollout.plan import Stage

GENESIS = "0" * 40
HASHED = ("model", "number", "run", "step", "kind", "body", "at", "by")


# ---- facts of the watch ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SchemaLearned:
    """The columns are frozen from here on."""

    schema: Schema


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


@dataclass(frozen=True, slots=True)
class WindowMatured:
    """A window's labels have had the time to arrive; its performance is no longer provisional."""

    span: Span
    rows: int
    labelled: int
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Silence:
    """No row came in a span; the windows in it were skipped."""

    span: Span


@dataclass(frozen=True, slots=True)
class Decided:
    """What the policy said, and the facts it rests on."""

    decision: Decision
    window: Span | None


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
class CandidateTrained:
    """A model came out of the training child and lies on the shelf."""

    candidate: Candidate


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
    healthy: dict[str, Healthy] = field(default_factory=dict)  # column -> how windows of the rows behind it differ


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
    | Paused
    | Resumed
    | Told
    | RenewBegan
    | RecipeChosen
    | DatasetPinned
    | DataChecked
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


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger."""

    model: str
    number: int  # place in the model's chain, from 1
    run: str  # the story it belongs to: "watch", "people", "renew-…", "release-…"
    step: int  # place in that story, from 1; written once
    kind: str  # name of the fact
    body: dict[str, Any]  # the fact as JSON
    at: datetime  # in the model's clock
    by: str  # who wrote it: "control", "worker", "ada@laptop"
    previous: str  # hash of the entry before; GENESIS for the first
    hash: str

    @property
    def fact(self) -> Fact:
        """The fact itself."""
        return fact_of(self.kind, self.body)


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(FACTS[kind])


def body_of(fact: Fact) -> dict[str, Any]:
    """A fact as plain JSON values.

    >>> body_of(Paused("holiday"))
    {'why': 'holiday'}
    """
    body: dict[str, Any] = _adapter(type(fact).__name__).dump_python(fact, mode="json")
    return body


def fact_of(kind: str, body: dict[str, Any]) -> Fact:
    """The fact that JSON values tell.

    >>> fact_of("Paused", {"why": "holiday"})
    Paused(why='holiday')
    """
    fact: Fact = _adapter(kind).validate_python(body)
    return fact


def chain_hash(previous: str, entry: dict[str, Any]) -> str:
    """The hash of an entry: BLAKE2b over the hash before it and the entry's canonical JSON."""
    return blake2b(previous.encode() + canonical(entry), digest_size=20).hexdigest()


def sealed(previous: Entry | None, run_step: tuple[str, int], fact: Fact, at: datetime, who: tuple[str, str]) -> Entry:
    """Chain a fact to the entry before it. `who` is (model, by)."""
    (run, step), (model, by) = run_step, who
    number, before = (previous.number + 1, previous.hash) if previous else (1, GENESIS)
    kind, body = type(fact).__name__, body_of(fact)
    digest = chain_hash(before, _content(model, number, run, step, kind, body, at, by))
    return Entry(model, number, run, step, kind, body, at, by, before, digest)


def _content(*values: Any) -> dict[str, Any]:
    """What an entry's hash is taken of."""
    return dict(zip(HASHED, values, strict=True))


def verify(entries: list[Entry]) -> None:
    """Check that nothing was changed, removed or put in between.

    Raises:
        LedgerTampered: with the number of the first entry that does not hold.
    """
    before = GENESIS
    for number, entry in enumerate(entries, 1):
        content = _content(*(getattr(entry, name) for name in HASHED))
        if entry.number != number or entry.previous != before or entry.hash != chain_hash(before, content):
            raise LedgerTampered(
                f"entry {number} of {entry.model} does not hold: it was changed, or one before it was removed; "
                f"restore the ledger from a copy made before {entry.at:%Y-%m-%d %H:%M}"
            )
        before = entry.hash


def moves_of(fact: Fact) -> Move | None:
    """The move that a fact of a training run is for its candidate; releases move two models and say so in the fold."""
    match fact:
        case DatasetPinned():
            return Move.PIN
        case DataChecked(fit=fit):
            return Move.CHECK if fit else Move.BLOCK
        case CandidateTrained():
            return Move.TRAIN
        case CandidateRegistered():
            return Move.REGISTER
        case Judged(verdict=verdict):
            return Move.PROVE if verdict.kind == "better" else Move.KEEP_BACK
        case StepFailed():
            return Move.FAIL
        case _:
            return None
