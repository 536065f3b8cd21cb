"""Where a model stands: the fold of its ledger.

Takes entries in order; gives a `Standing`; never reads a ledger. Everything that Everfit knows about a model beside
its rows is here, and all of it follows from the entries alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from everfit.decide.decision import AskHuman, Decision, Retrain, RollBack
from everfit.decide.history import Champion, Heard, History, Question, RunRecord, WindowRecord
from everfit.detect.backdrop import Backdrop
from everfit.detect.decay import Baseline, Decay
from everfit.facts import (
    Answered,
    ApprovalAsked,
    CandidateRegistered,
    CandidateTrained,
    DatasetPinned,
    Decided,
    Dismissed,
    EventHeard,
    Fact,
    Guarded,
    Judged,
    Paused,
    RecipeChosen,
    ReleaseEnded,
    ReleasePlanned,
    RenewBegan,
    RenewEnded,
    Resumed,
    RetrainAsked,
    SchemaLearned,
    Silence,
    Told,
    WentLive,
    WindowClosed,
    WindowMatured,
)
from everfit.ids import content_key
from everfit.judge.verdict import Verdict
from everfit.ledger import Entry, moves_of
from everfit.lifecycle import Move, State, after
from everfit.observe.schema import Schema
from everfit.observe.window import Span
from everfit.retrain.candidate import Candidate
from everfit.retrain.dataset import Dataset
from everfit.retrain.recipe import Recipe

WATCH, PEOPLE = "watch", "people"
F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Story:
    """One training run or release: its facts so far."""

    run: str
    facts: tuple[Fact, ...]
    times: tuple[datetime, ...]

    def find(self, kind: type[F]) -> F | None:
        """The last fact of a kind."""
        return next((fact for fact in reversed(self.facts) if isinstance(fact, kind)), None)

    def when(self, kind: type) -> datetime | None:
        """When the last fact of a kind was written, in the model's clock."""
        pairs = zip(reversed(self.facts), reversed(self.times), strict=True)
        return next((at for fact, at in pairs if isinstance(fact, kind)), None)


@dataclass(frozen=True, slots=True)
class Kept:
    """A model that was trained, with all that is known about it."""

    candidate: Candidate
    run: str
    version: int  # 0 until registered
    state: State
    verdict: Verdict | None
    reference: str | None  # key of the profile of its proving rows
    recipe: Recipe
    dataset: Dataset | None
    per_window: Mapping[str, float] = field(default_factory=dict)  # what a window of the live model is held against
    backdrop: Backdrop = field(default_factory=Backdrop)  # what windows of the live model are held to
    live_since: datetime | None = None  # last time it went live


@dataclass(frozen=True, slots=True)
class Standing:
    """All that follows from a model's ledger."""

    history: History
    schema: Schema | None = None
    stories: Mapping[str, Story] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)  # run -> state of its candidate
    bench: Mapping[str, Kept] = field(default_factory=dict)  # candidate -> what is known
    decisions: tuple[tuple[datetime, Span | None, Decision], ...] = ()
    releases: tuple[tuple[datetime, WentLive], ...] = ()
    told: Mapping[str, datetime] = field(default_factory=dict)
    closed_until: datetime | None = None  # end of the last window that was closed or skipped
    undecided: Span | None = None  # a window that was measured and on which nothing was decided yet
    watch_step: int = 0  # facts of the watch so far
    people_step: int = 0
    decay: Decay = field(default_factory=Decay)  # the champion's evidence of decay
    grown: Baseline | None = None  # what the champion is held to, where windows joined what its proof knew
    guarded: Mapping[str, Guarded] = field(default_factory=dict)  # drift monitors; none before its first window
    former: Mapping[str, Guarded] = field(default_factory=dict)  # of champions before: what was spent counts on
    learning: str = ""  # why the promise of false alarms does not hold yet
    dismissed: tuple[Span, ...] = ()  # windows that a person found benign since the last one was closed
    number: int = 0  # entries folded
    at: datetime | None = None  # time of the last entry

    @property
    def champion(self) -> Kept | None:
        """The model that serves, if any."""
        live = self.history.champion
        return self.bench.get(live.candidate) if live else None

    @property
    def baseline(self) -> Baseline | None:
        """What the champion's performance is held to; None where its proof knew too little."""
        return self.grown or (self.champion.backdrop.baseline if self.champion else None)

    @property
    def immature(self) -> list[WindowRecord]:
        """Windows that were closed and whose labels had not matured yet, oldest first."""
        return [window for window in self.history.windows if window.mature is None]

    @property
    def unstarted(self) -> Retrain | RollBack | None:
        """The last decision, if its run was not begun: a crash came between."""
        if not self.decisions or not isinstance(decision := self.decisions[-1][2], Retrain | RollBack):
            return None
        return None if run_of(decision) in self.stories else decision


def run_of(decision: Retrain | RollBack) -> str:
    """The run that a decision causes: named by its evidence, so that the same evidence never causes two.

    >>> from everfit.decide.decision import Reason
    >>> one, other = Reason("weekly", None, None, "it is Sunday", "k1"), Reason("weekly", 1, 2, "", "k1")
    >>> run_of(Retrain((one,))) == run_of(Retrain((other,)))
    True
    """
    kind = "renew" if isinstance(decision, Retrain) else "release-back"
    return f"{kind}-{content_key(sorted({reason.evidence for reason in decision.because}))}"


def fold(entries: Iterable[Entry], standing: Standing | None = None, model: str = "") -> Standing:
    """Fold entries onto a standing."""
    for entry in entries:
        standing = step(standing or Standing(History(entry.model)), entry)
    return standing or Standing(History(model))


def step(now: Standing, entry: Entry) -> Standing:
    """The standing after one more entry.

    Raises:
        IllegalMove: the entry moves a candidate along a path that the lifecycle does not have.
    """
    fact = entry.fact
    now = replace(
        now, number=entry.number, at=entry.at,
        watch_step=now.watch_step + (entry.run == WATCH), people_step=now.people_step + (entry.run == PEOPLE),
    )  # fmt: skip
    if entry.run.startswith(("renew-", "release-")):
        now = _story(now, entry, fact)
    match fact:
        case SchemaLearned(schema):
            return replace(now, schema=schema)
        case WindowClosed() | WindowMatured() | Silence():
            return _windows(now, fact, entry.at)
        case Decided(decision, window):
            return _decided(now, entry.at, window, decision)
        case EventHeard() | RetrainAsked() | Answered() | Dismissed() | Paused() | Resumed():
            return _said(now, fact, entry)
        case Told(key=key):
            return replace(now, told={**now.told, key: entry.at})
        case WentLive():
            return _live(now, fact, entry)
        case _:
            return _run(now, fact, entry)


def next_state(now: Standing, run: str, fact: Fact) -> State | None:
    """The state of a run's candidate after a fact; None if the fact moves none.

    Raises:
        IllegalMove: the lifecycle has no such move.
    """
    move = moves_of(fact) if run.startswith("renew-") else None  # a release that fails leaves its candidate where it is
    if isinstance(fact, ApprovalAsked):
        move = Move.ASK
    if isinstance(fact, Answered):
        move = Move.APPROVE if fact.approved else Move.REFUSE
    subject = _subject(now, run)
    return after(now.states.get(subject, State.PLANNED), move) if move and subject else None


def _subject(now: Standing, run: str) -> str | None:
    """The training run whose candidate a run moves: itself, or that of the candidate being released."""
    if run.startswith("renew-"):
        return run
    planned = now.stories[run].find(ReleasePlanned) if run in now.stories else None
    kept = now.bench.get(planned.candidate) if planned else None
    return kept.run if kept else None


def _story(now: Standing, entry: Entry, fact: Fact) -> Standing:
    old = now.stories.get(entry.run, Story(entry.run, (), ()))
    state = next_state(now, entry.run, fact)
    stories = {**now.stories, entry.run: Story(entry.run, (*old.facts, fact), (*old.times, entry.at))}
    now = replace(now, stories=stories)
    return _in_state(now, _subject(now, entry.run), state) if state else now


def _in_state(now: Standing, run: str | None, state: State) -> Standing:
    if run is None:
        return now
    bench = {key: replace(kept, state=state) if kept.run == run else kept for key, kept in now.bench.items()}
    return replace(now, states={**now.states, run: state}, bench=bench)


def _windows(now: Standing, fact: WindowClosed | WindowMatured | Silence, at: datetime) -> Standing:
    past = now.history
    match fact:
        case Silence(span):
            return replace(now, closed_until=span.end)
        case WindowClosed(span=span, rows=rows, alarms=alarms, champion=champion, readings=readings):
            record = WindowRecord(span, rows, alarms, champion, readings, profile=fact.profile)
            past = replace(past, windows=(*past.windows, record), rows=past.rows + rows)
            if past.champion is not None and champion == past.champion.candidate:  # not one that left meanwhile
                now = replace(now, guarded=fact.guarded, learning=fact.learning, dismissed=())
            return replace(now, history=past, closed_until=span.end, undecided=span)
        case WindowMatured(span=span, labelled=labelled, readings=readings, rows=rows, alarms=alarms):
            windows = tuple(
                replace(w, mature=readings, labelled=labelled, rows=rows, mature_alarms=alarms, matured_at=at)
                if w.span == span else w
                for w in past.windows
            )  # fmt: skip
            past = replace(past, windows=windows, labels=past.labels + labelled)
            return replace(
                now, history=past, undecided=span, decay=fact.decay or now.decay, grown=fact.baseline or now.grown
            )


def _decided(now: Standing, at: datetime, window: Span | None, decision: Decision) -> Standing:
    past = now.history
    if isinstance(decision, AskHuman):
        evidence = frozenset(reason.evidence for reason in decision.because)
        triggers = tuple(dict.fromkeys(reason.trigger for reason in decision.because))
        past = replace(past, question=Question(decision.question, evidence, triggers))
    if isinstance(decision, RollBack):
        past = replace(past, rollbacks=past.rollbacks | {reason.evidence for reason in decision.because})
    undecided = None if window is not None else now.undecided
    return replace(now, decisions=(*now.decisions, (at, window, decision)), history=past, undecided=undecided)


def _said(
    now: Standing, fact: EventHeard | RetrainAsked | Answered | Dismissed | Paused | Resumed, entry: Entry
) -> Standing:
    past = now.history
    match fact:
        case EventHeard(name, key):
            past = replace(past, heard=(*past.heard, Heard(name, key, entry.at, entry.by)))
        case RetrainAsked(why, key):
            past = replace(past, asked=(*past.asked, Heard(why, key, entry.at, entry.by)))
        case Answered(question, approved, _):
            past = replace(past, answered={**past.answered, question: approved})
            if not approved and past.question and past.question.key == question:
                past = replace(past, refused=past.refused | past.question.evidence)
        case Dismissed(window):
            return replace(now, dismissed=(*now.dismissed, window))
        case Paused():
            past = replace(past, paused=True)
        case Resumed():
            past = replace(past, paused=False)
    return replace(now, history=past)


def _run(now: Standing, fact: Fact, entry: Entry) -> Standing:
    match fact:
        case RenewBegan(because=because):
            evidence = frozenset(reason.evidence for reason in because)
            triggers = tuple(dict.fromkeys(reason.trigger for reason in because))
            record = RunRecord(entry.run, entry.at, evidence, triggers=triggers)
            past = now.history
            past = replace(past, runs=(*past.runs, record), rows_at_last_run=past.rows, labels_at_last_run=past.labels)
            return replace(now, history=past, states={**now.states, entry.run: State.PLANNED})
        case CandidateTrained(candidate, seconds):
            return _trained(now, candidate, entry.run, seconds)
        case CandidateRegistered(candidate, version):
            return _kept(now, candidate, version=version)
        case Judged(verdict, reference, levels):
            found = {"verdict": verdict, "reference": reference, "per_window": levels, "backdrop": fact.backdrop}
            return _kept(now, verdict.evidence.candidate, **found)
        case RenewEnded(outcome=outcome) if outcome != "proven":
            return _ended(now, entry.run, entry.at, outcome)
        case ReleasePlanned() | ReleaseEnded():
            return _release(now, fact, entry)
        case _:
            return now


def _release(now: Standing, fact: ReleasePlanned | ReleaseEnded, entry: Entry) -> Standing:
    """A way back is under way from its plan until the version before serves, or until it ended without that."""
    past = now.history
    if isinstance(fact, ReleasePlanned):
        return replace(now, history=replace(past, going_back=entry.run)) if fact.back else now
    if past.going_back == entry.run:
        now = replace(now, history=replace(past, going_back=None))
    run = _subject(now, entry.run)
    return _ended(now, run, entry.at, "promoted" if fact.outcome == "live" else fact.outcome) if run else now


def _trained(now: Standing, candidate: Candidate, run: str, seconds: float) -> Standing:
    runs = tuple(replace(r, seconds=seconds) if r.run == run else r for r in now.history.runs)
    now = replace(now, history=replace(now.history, runs=runs))
    story = now.stories[run]
    recipe = story.find(RecipeChosen)
    pinned = story.find(DatasetPinned)
    if recipe is None:
        return now
    kept = Kept(candidate, run, 0, State.TRAINED, None, None, recipe.recipe, pinned.dataset if pinned else None)
    return replace(now, bench={**now.bench, candidate.id: kept})


def _kept(now: Standing, candidate: str, **changes: object) -> Standing:
    if candidate not in now.bench:
        return now
    return replace(now, bench={**now.bench, candidate: replace(now.bench[candidate], **changes)})  # type: ignore[arg-type]


def _ended(now: Standing, run: str, at: datetime, outcome: str) -> Standing:
    runs = tuple(
        replace(r, ended=at, outcome=outcome) if r.run == run and r.ended is None else r for r in now.history.runs
    )
    return replace(now, history=replace(now.history, runs=runs))


def _live(now: Standing, fact: WentLive, entry: Entry) -> Standing:
    kept = now.bench[fact.candidate]
    leaving = now.bench.get(fact.previous) if fact.previous else None
    if leaving is not None:
        move = Move.ROLL_BACK if fact.back else Move.RETIRE
        now = _in_state(now, leaving.run, after(leaving.state, move))
    now = _in_state(now, kept.run, after(kept.state, Move.SERVE))
    now = _kept(now, fact.candidate, live_since=entry.at)
    evidence = kept.verdict.evidence if kept.verdict else None
    span = evidence.span if evidence else None
    champion = Champion(
        candidate=fact.candidate,
        version=fact.version,
        live_since=entry.at,
        proven=evidence.candidate_levels if evidence else {},
        per_window=kept.per_window,
        proven_until=span.end if span else kept.candidate.trained_until,
        trained_until=kept.candidate.trained_until,
        rows=kept.candidate.train_rows,
        made=kept.recipe.as_of,
        importance=kept.backdrop.importance,
        back=fact.back,
    )
    past = replace(now.history, champion=champion, previous=_behind(now, fact), going_back=None)
    former = {**now.former, **now.guarded}  # another reference: watched afresh
    now = replace(now, decay=Decay(), grown=None, former=former, guarded={}, learning="", dismissed=())
    return replace(now, history=past, releases=(*now.releases, (entry.at, fact)))


def _behind(now: Standing, fact: WentLive) -> str | None:
    """The model to go back to: after a roll-back not the one that was left, but the one before that serves again."""
    if not fact.back:
        return fact.previous
    before = next((past for _, past in reversed(now.releases) if past.candidate == fact.candidate), None)
    return before.previous if before else None
