"""The story of a roll-out: one planned stage after the other.

Takes the facts so far; gives the next one through a step; never plans (that is `rollout.plan`) and never judges.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

from everfit.errors import ModelUnusable
from everfit.facts import Answered, ApprovalAsked, ReleaseEnded, ReleasePlanned, StageDone, StepFailed, WentLive
from everfit.flows.durable import Alive, Next, NotYet
from everfit.flows.steps import Steps
from everfit.rollout.plan import Alias, Approval, Bake, GoLive, Publish, Stage, Tidy, plan_rollback
from everfit.standing import Kept, Standing, Story


def release(steps: Steps, now: Standing, story: Story, alive: Alive) -> Next | NotYet:
    """The next fact of a roll-out."""
    plan = story.find(ReleasePlanned)
    if plan is None or story.find(ReleaseEnded) is not None:
        return NotYet()
    if failed := story.find(StepFailed):
        return Next(ReleaseEnded("failed", failed.said), ends=True)
    answer = story.find(Answered)
    if answer is not None and not answer.approved:
        return Next(ReleaseEnded("refused", f"a person refused it: {answer.why}"), ends=True)
    index = sum(1 for fact in story.facts if isinstance(fact, StageDone | WentLive | Answered))
    if index == len(plan.stages):
        return Next(ReleaseEnded("live", f"version {plan.version} serves"), ends=True)
    try:
        return _stage(steps, now, story, (plan, index), alive)
    except ModelUnusable as error:
        return Next(StepFailed(plan.stages[index].kind, type(error).__name__, str(error)))


def _stage(steps: Steps, now: Standing, story: Story, place: tuple[ReleasePlanned, int], alive: Alive) -> Next | NotYet:
    plan, index = place
    stage: Stage = plan.stages[index]
    match stage:
        case Approval(candidate):
            asked = story.find(ApprovalAsked)
            return NotYet() if asked else Next(ApprovalAsked(story.run, candidate), wake_at=steps.never)
        case Publish(candidate):
            steps.publish(now.bench[candidate])
        case GoLive(to, previous):
            steps.go_live(now.bench[to], now.bench[previous] if previous else None, story.run, alive)
            return Next(WentLive(to, now.bench[to].version, previous, plan.back, plan.cause))
        case Alias(champion, _):
            steps.alias(now, champion)
        case Bake(hold):
            return _bake(steps.now(), story.when(WentLive), hold, StageDone(index, stage.kind))
        case Tidy(keep):
            steps.tidy(now, keep)
        case _:
            assert_never(stage)
    return Next(StageDone(index, stage.kind), wake_at=_wake_for(plan, index + 1, story, steps.now()))


def _bake(now: datetime, since: datetime | None, hold: timedelta, done: StageDone) -> Next | NotYet:
    return Next(done) if since is None or now >= since + hold else NotYet()


def _wake_for(plan: ReleasePlanned, index: int, story: Story, now: datetime) -> datetime | None:
    """When the next stage is due: a bake has its end, everything else goes on at once."""
    if index < len(plan.stages) and isinstance(stage := plan.stages[index], Bake):
        return (story.when(WentLive) or now) + stage.hold
    return None


def way_back(live: Kept, to: Kept, cause: str) -> ReleasePlanned:
    """The plan of a roll-back, whoever wants it."""
    stages = plan_rollback(live.candidate.id, to.candidate.id)
    return ReleasePlanned(to.candidate.id, to.version, live.candidate.id, stages, cause, back=True)
