"""The story of a roll-out: one planned stage after the other.

Takes the facts so far; gives the next one through a step; never plans (that is `rollout.plan`) and never judges.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from everfit.errors import ModelUnusable, UsageError
from everfit.facts import (
    Answered,
    ApprovalAsked,
    GuardLooked,
    ReleaseEnded,
    ReleasePlanned,
    StageBegan,
    StageDone,
    Steered,
    StepFailed,
    WentLive,
)
from everfit.flows.durable import Alive, Desk, Next, NotYet, Worker, begin
from everfit.flows.looks import Place, began, first_look, watch
from everfit.flows.steps import Steps
from everfit.flows.traffic import alone, end_trial, last_key, mirror_old, try_beside
from everfit.ids import content_key
from everfit.rollout.plan import (
    Alias,
    Analysis,
    Approval,
    Bake,
    GoLive,
    Mirror,
    Pause,
    Publish,
    Stage,
    Tidy,
    Weight,
    lasting,
    live_at,
    plan_rollback,
)
from everfit.standing import Kept, Standing, Story


def release(steps: Steps, now: Standing, story: Story, alive: Alive) -> Next | NotYet:
    """The next fact of a roll-out."""
    plan = story.find(ReleasePlanned)
    if plan is None or story.find(ReleaseEnded) is not None:
        return NotYet()
    if over := _over(now, story, plan):
        return _taken_back(steps, now, story, plan, over)
    index = place_of(story, plan)
    if index == len(plan.stages):
        return Next(ReleaseEnded("live", f"version {plan.version} serves"), ends=True)
    try:
        return _stage(steps, now, story, (plan, index), alive)
    except (ModelUnusable, UsageError) as error:
        return Next(StepFailed(plan.stages[index].kind, type(error).__name__, str(error)))


def place_of(story: Story, plan: ReleasePlanned) -> int:
    """The stage that a release is at, by what is done and by what a person said; past the last one it is through.

    A person's `full` passes over everything before all traffic moves.
    """
    done = 0
    for fact in story.facts:
        match fact:
            case StageDone(index=index):
                done = max(done, index + 1)
            case Answered():
                done = max(done, 1)
            case WentLive():
                done = max(done, live_at(plan.stages) + 1)
            case Steered(word="full"):
                done = max(done, live_at(plan.stages))
            case _:
                continue
    return done


# ---- the way on ------------------------------------------------------------------------------------------------------
def _stage(steps: Steps, now: Standing, story: Story, place: tuple[ReleasePlanned, int], alive: Alive) -> Next | NotYet:
    plan, index = place
    stage: Stage = plan.stages[index]
    match stage:
        case Approval(candidate):
            asked = story.find(ApprovalAsked)
            return NotYet() if asked else Next(ApprovalAsked(story.run, candidate), wake_at=steps.never)
        case Publish(candidate):
            return Next(StageDone(index, stage.kind, pointed=steps.publish(now.bench[candidate])))
        case Weight():
            key = try_beside(steps, now, story, (index, stage), alive)
            return Next(StageDone(index, stage.kind, pointed=key, said=f"{stage.share * 100:.10g}% of the keys"))
        case Mirror() | Pause() | Analysis() | Bake():
            return _timed(steps, now, story, Place(plan, index, stage), alive)
        case GoLive() | Alias() | Tidy():
            return _to_all(steps, now, story, (plan, index, stage), alive)
        case _:
            assert_never(stage)


def _to_all(
    steps: Steps, now: Standing, story: Story, place: tuple[ReleasePlanned, int, GoLive | Alias | Tidy], alive: Alive
) -> Next:
    """Stages of every release, and of the way back."""
    plan, index, stage = place
    match stage:
        case GoLive(to, previous):
            before = now.bench[previous] if previous else None
            steps.go_live(now.bench[to], before, story.run, alive, after=None if plan.back else last_key(story))
            return Next(WentLive(to, now.bench[to].version, previous, plan.back, plan.cause))
        case Alias(champion, _):
            steps.alias(now, champion)
        case Tidy(keep):
            steps.tidy(now, keep)
    return Next(StageDone(index, stage.kind))


def _timed(steps: Steps, now: Standing, story: Story, place: Place, alive: Alive) -> Next | NotYet:
    """A stage that takes time: begin it, watch it, and after a bake take the copies from the old champion."""
    if began(story, place.index) is None:
        return _begun(steps, now, story, place, alive)
    found = watch(steps, now, story, place)
    fact = found.fact if isinstance(found, Next) else None
    begun = began(story, place.index)
    if isinstance(fact, StageDone) and isinstance(place.stage, Bake) and begun is not None and begun[0].pointed:
        key = alone(steps, now.bench[place.plan.candidate], f"{story.run}-{place.index}-alone")
        return Next(StageDone(fact.index, fact.stage, pointed=key, said=fact.said))
    return found


def _begun(steps: Steps, now: Standing, story: Story, place: Place, alive: Alive) -> Next:
    key: str | None = None
    match place.stage:
        case Mirror() as stage:
            key = try_beside(steps, now, story, (place.index, stage), alive)
        case Bake() as stage:
            key = mirror_old(steps, now, story, (place.index, stage), alive)
        case _:
            pass
    moment, held = steps.now(), lasting(place.stage)
    until = moment + held if held is not None else None
    fact = StageBegan(place.index, place.stage.kind, until, key)
    return Next(fact, wake_at=_first_wake(steps, place, moment, until))


def _first_wake(steps: Steps, place: Place, moment: datetime, until: datetime | None) -> datetime:
    if place.plan.guard is None:  # nobody looks: nothing to do before its end
        return until or steps.never
    return first_look(steps, place.stage, moment)


# ---- the way back ----------------------------------------------------------------------------------------------------
def _over(now: Standing, story: Story, plan: ReleasePlanned) -> ReleaseEnded | None:
    """What ends a release before its last stage."""
    looked, failed, answer = story.find(GuardLooked), story.find(StepFailed), story.find(Answered)
    aborts = [fact for fact in story.facts if isinstance(fact, Steered) and fact.word == "abort"]
    if aborts:
        return ReleaseEnded("aborted", f"{aborts[-1].by} aborted it: {aborts[-1].why}")
    if looked is not None and looked.verdict == "roll_back":
        return ReleaseEnded("rolled_back", looked.said)
    if failed is not None:
        tried = story.find(WentLive) is None and (has_tried(story) or failed.step in TRIES)
        return ReleaseEnded("rolled_back" if tried else "failed", failed.said)
    if answer is not None and not answer.approved:
        return ReleaseEnded("refused", f"a person refused it: {answer.why}")
    if not plan.back and (left := _ground_lost(now, story, plan)):
        return ReleaseEnded("rolled_back" if story.find(WentLive) else "aborted", left)
    return None


TRIES = ("mirror", "weight")  # stages that give a challenger traffic, also where they fail


def has_tried(story: Story) -> bool:
    """Whether the candidate had requests before it went live."""
    return any(isinstance(fact, StageBegan | StageDone) and fact.stage in TRIES for fact in story.facts)


def _ground_lost(now: Standing, story: Story, plan: ReleasePlanned) -> str:
    """Why a release has nothing to go on from: another model serves by now."""
    champion = now.history.champion
    expected = plan.candidate if story.find(WentLive) else plan.previous
    if (champion.candidate if champion else None) == expected:
        return ""
    return f"{f'version {champion.version}' if champion else 'no version'} serves meanwhile, by another release"


def _taken_back(steps: Steps, now: Standing, story: Story, plan: ReleasePlanned, over: ReleaseEnded) -> Next:
    """Undo what the release did to the traffic, then end it. After going live that is a roll-back of its own."""
    live = story.find(WentLive) is not None
    ours = not _ground_lost(now, story, plan)
    if live and ours and not plan.back and plan.previous is not None and over.outcome in ("aborted", "rolled_back"):
        way = way_back(now.bench[plan.candidate], now.bench[plan.previous], f"{over.outcome}: {over.said}")
        desk = Desk(steps.ports.ledger, steps.ports.leases, steps.now, Worker("worker"))
        begin(desk, steps.spec.model, f"release-back-{content_key(story.run, over.outcome)}", way)
    elif not live and over.outcome in ("aborted", "rolled_back"):
        try:
            if ours:
                end_trial(steps, now, story)
        except ModelUnusable as error:
            said = f"{over.said}; and traffic could not be pointed back: {error}"
            return Next(ReleaseEnded("failed", said), ends=True)
        steps.disown()
    return Next(over, ends=True)


def way_back(live: Kept, to: Kept, cause: str) -> ReleasePlanned:
    """The plan of a roll-back, whoever wants it."""
    stages = plan_rollback(live.candidate.id, to.candidate.id)
    return ReleasePlanned(to.candidate.id, to.version, live.candidate.id, stages, cause, back=True)
