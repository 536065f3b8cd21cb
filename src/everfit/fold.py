"""The fold of a model's ledger: where it stands after one more entry.

Takes entries in order; gives a `Standing`; never reads a ledger. Everything that Everfit knows about a model beside
its rows follows from the entries alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from everfit.decide.decision import AskHuman, Decision, RollBack
from everfit.decide.history import Champion, Heard, History, Question, RecallRecord, RunRecord, WindowRecord
from everfit.detect.decay import Decay
from everfit.facts import (
    Answered,
    ApprovalAsked,
    BenchScored,
    CandidateRegistered,
    CandidateTrained,
    DatasetPinned,
    Decided,
    Dismissed,
    EventHeard,
    Fact,
    Judged,
    Paused,
    RecallBegan,
    RecallEnded,
    RecipeChosen,
    ReleaseEnded,
    ReleasePlanned,
    RenewBegan,
    RenewEnded,
    Resumed,
    RetrainAsked,
    SchemaLearned,
    Silence,
    StageBegan,
    StageDone,
    Told,
    WentLive,
    WindowClosed,
    WindowMatured,
)
from everfit.ledger import Entry, moves_of
from everfit.lifecycle import Move, State, after
from everfit.observe.window import Span
from everfit.retrain.candidate import Candidate
from everfit.standing import PEOPLE, WATCH, Kept, Standing, Story


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
    if entry.run.startswith(("renew-", "recall-", "release-")):
        now = _story(now, entry, fact)
    match fact:
        case SchemaLearned(schema):
            return replace(now, schema=schema)
        case WindowClosed() | WindowMatured() | BenchScored() | Silence():
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
    subject = _subject(now, run, fact)
    if subject is None:
        return None
    state = now.states.get(subject, State.PLANNED)
    trained = run.startswith("renew-") or isinstance(fact, Judged)  # a recall judges, and leaves it there if it fails
    move = moves_of(fact) if trained else _released_by(fact, state)
    return after(state, move) if move else None


def _released_by(fact: Fact, state: State) -> Move | None:
    """The move of a release; one that fails before any traffic leaves its candidate where it is."""
    match fact:
        case ReleasePlanned(by=by) if by:
            return Move.RECALL
        case ApprovalAsked():
            return Move.ASK
        case Answered(approved=approved):
            return Move.APPROVE if approved else Move.REFUSE
        case StageBegan(stage="mirror"):
            return Move.MIRROR
        case StageDone(stage="weight"):
            return Move.SHARE
        case ReleaseEnded() if state in (State.SHADOW, State.CANARY):
            return Move.ROLL_BACK
        case ReleaseEnded() if state is State.AWAITING:  # aborted instead of answered: nobody waits for a word any more
            return Move.REFUSE
        case _:
            return None


def _subject(now: Standing, run: str, fact: Fact | None = None) -> str | None:
    """The training run whose candidate a run moves: itself, or that of the candidate being recalled or released."""
    if run.startswith("renew-"):
        return run
    story = now.stories.get(run)
    told = (story.find(ReleasePlanned) or story.find(RecallBegan)) if story else None
    told = fact if isinstance(fact, ReleasePlanned) else told  # the plan is the first of its story
    kept = now.bench.get(told.candidate) if told else None
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


def _windows(now: Standing, fact: WindowClosed | WindowMatured | BenchScored | Silence, at: datetime) -> Standing:
    past = now.history
    match fact:
        case BenchScored(span=span):
            champion = past.champion.candidate if past.champion else None
            return replace(now, scored=(*now.scored, (fact, champion)), undecided=span)
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
        past = replace(past, question=Question(decision.question, evidence, triggers, decision.bench))
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
            record = RunRecord(entry.run, entry.at, evidence, triggers=triggers, bench=fact.bench)
            past = now.history
            past = replace(past, runs=(*past.runs, record), rows_at_last_run=past.rows, labels_at_last_run=past.labels)
            return replace(now, history=past, states={**now.states, entry.run: State.PLANNED})
        case CandidateTrained(candidate, seconds):
            return _trained(now, candidate, entry.run, seconds)
        case CandidateRegistered(candidate, version):
            return _kept(now, candidate, version=version)
        case Judged():
            return _judged(now, fact)
        case RenewEnded(outcome=outcome) if outcome != "proven":
            return _ended(now, entry.run, entry.at, outcome)
        case RecallBegan() | RecallEnded():
            return _recall(now, fact, entry)
        case ReleasePlanned() | ReleaseEnded():
            return _release(now, fact, entry)
        case _:
            return now


def _judged(now: Standing, fact: Judged) -> Standing:
    """A model that was proven once and is not anew keeps what it was proven on: it may be gone back to."""
    verdict = fact.verdict
    kept = now.bench.get(verdict.evidence.candidate)
    if kept is not None and kept.verdict is not None and kept.verdict.kind == "better" and verdict.kind != "better":
        return now
    found = {"verdict": verdict, "reference": fact.reference, "per_window": fact.per_window, "backdrop": fact.backdrop}
    return _kept(now, verdict.evidence.candidate, **found)


def _recall(now: Standing, fact: RecallBegan | RecallEnded, entry: Entry) -> Standing:
    past = now.history
    if isinstance(fact, RecallBegan):
        evidence = frozenset(reason.evidence for reason in fact.because)
        record = RecallRecord(entry.run, entry.at, fact.candidate, fact.window, fact.windows, evidence)
        return replace(now, history=replace(past, recalls=(*past.recalls, record)))
    recalls = tuple(replace(r, ended=entry.at, outcome=fact.outcome) if r.run == entry.run else r for r in past.recalls)
    return replace(now, history=replace(past, recalls=recalls))


def _release(now: Standing, fact: ReleasePlanned | ReleaseEnded, entry: Entry) -> Standing:
    """A way back is under way from its plan until the version before serves, or until it ended without that."""
    past = now.history
    if isinstance(fact, ReleasePlanned):
        past = replace(past, going_back=entry.run) if fact.back else replace(past, releasing=entry.run)
        return replace(now, history=past)
    if past.going_back == entry.run:
        past = replace(past, going_back=None)
    if past.releasing == entry.run:
        past = replace(past, releasing=None)
    now = replace(now, history=past)
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
        replace(r, ended=r.ended or at, outcome=outcome)
        if r.run == run and (r.ended is None or (r.outcome == "benched" and outcome == "promoted"))
        else r
        for r in now.history.runs
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
