"""A stage of a release that takes time: the guard looks at regular moments, and says when the stage is over.

Takes the release's story and the rows that came; gives the next fact, or until when there is nothing to do; never
points traffic (that follows from the fact), and never takes silence for success.

The guard's state lies in a note that the last look names. Rows that came after that look are weighed by the next one,
so a look that was lost in a crash is simply looked again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from everfit.errors import ModelUnusable
from everfit.facts import GuardLooked, ReleasePlanned, StageBegan, StageDone, Steered, WentLive
from everfit.flows.arrivals import Pair, Stretch
from everfit.flows.durable import Next, NotYet
from everfit.flows.steps import Steps
from everfit.flows.trial import FAILED_BY, Sight, Trial
from everfit.observe.window import Span, window_of
from everfit.rollout import guard as rules
from everfit.rollout.checks import Guarding
from everfit.rollout.findings import said_of
from everfit.rollout.plan import Analysis, Bake, Mirror, Pause, Timed, Weight, lasting
from everfit.rollout.suited import asked_in
from everfit.standing import Standing, Story

OFTEN = timedelta(minutes=1)  # live: bad news waits no longer
QUICK = timedelta(seconds=1)
LOOKS = 20  # in a stage, at least
SETTLED = timedelta(seconds=5)  # live: rows gather two seconds before they are moved to the lake


@dataclass(frozen=True, slots=True)
class Place:
    """Where a release is."""

    plan: ReleasePlanned
    index: int
    stage: Timed


def began(story: Story, index: int) -> tuple[StageBegan, datetime] | None:
    """When the present stage began; None if it has not."""
    pairs = zip(story.facts, story.times, strict=True)
    return next(((f, at) for f, at in pairs if isinstance(f, StageBegan) and f.index == index), None)


def first_look(steps: Steps, stage: Timed, now: datetime) -> datetime:
    """When to look for the first time, or to go on."""
    held = lasting(stage)
    return next_look(steps, stage, now) if held is None else min(next_look(steps, stage, now), now + held)


def next_look(steps: Steps, stage: Timed, now: datetime) -> datetime:
    """When to look again: live a twentieth of the stage later, at most a minute; in a replay when the window ends."""
    window = steps.spec.observe.window
    if steps.replay and isinstance(window, timedelta):
        return window_of(now, steps.spec.observe).end + steps.spec.observe.late_by
    held = lasting(stage)
    part = OFTEN if held is None else held / LOOKS
    return now + (max(part, QUICK) if steps.replay else min(OFTEN, max(part, QUICK)))


def watch(steps: Steps, now: Standing, story: Story, place: Place) -> Next | NotYet:
    """The next fact of a stage that has begun."""
    found = began(story, place.index)
    if found is None:
        return NotYet()
    fact, since = found
    moment = steps.now()
    if said := _steered(story, place.index):
        return Next(StageDone(place.index, place.stage.kind, said=said))
    looked = _last(story, place.index)
    if place.plan.guard is None:  # nothing is tried
        over = fact.until is not None and moment >= fact.until
        return Next(StageDone(place.index, place.stage.kind)) if over else NotYet()
    if not now.history.paused and _may_leave(place.stage, fact, looked):
        return Next(StageDone(place.index, place.stage.kind, said=looked[0].said if looked else ""))
    try:
        steps.ports.gateway.confirmed(steps.spec.model)
    except ModelUnusable as error:
        if not isinstance(place.stage, Bake):  # there it is about the old champion's copies, which nobody waits for
            return Next(GuardLooked(place.index, "roll_back", f"rolled back: {error}", ""))
    return _looked(steps, now, story, place, (since, looked[0] if looked else None))


def _looked(
    steps: Steps, now: Standing, story: Story, place: Place, before: tuple[datetime, GuardLooked | None]
) -> Next | NotYet:
    """Look once."""
    since, looked = before
    moment, plan = steps.now(), place.plan
    guard = asked_in(plan.guard or Guarding(), plan.stages, place.index)
    state = _state(steps, story, place, since)
    if looked is not None and state.looked is not None and moment <= state.looked:
        # In a replay time stands still for a run that is due: it must sleep until the next look.
        return Next(looked, wake_at=next_look(steps, place.stage, moment)) if steps.replay else NotYet(rest=1.0)
    sight = _sight(steps, now, story, plan, (state.looked or state.began, moment))
    after, found = rules.look(state, sight.seen, guard, moment)
    verdict, said = _word(place.stage, found)
    said += _how(sight.shown) if verdict == "roll_back" else ""
    again, paused = next_look(steps, place.stage, moment), now.history.paused
    ends = _ends(place.stage, since, moment) and not paused
    known = looked is not None and looked.verdict == verdict
    if known and not sight.is_new and not steps.replay and not ends:
        return NotYet(rest=(again - moment).total_seconds())
    note = steps.ports.notes.put(json.dumps(rules.as_facts(after), sort_keys=True).encode())
    fact = GuardLooked(place.index, verdict, said, note, sight.seen.requests, sight.shown)
    at_once = ends or verdict == "roll_back" or (verdict == "proceed" and not paused)
    return Next(fact, wake_at=None if at_once else _wake(again, since, place.stage, moment))


def _word(stage: Timed, found: rules.Verdict) -> tuple[str, str]:
    """The verdict; a pause and a bake have their time, so there the guard only says whether it is worse."""
    if isinstance(stage, Mirror | Analysis) or (isinstance(found, rules.RollBack) and found.why == "worse"):
        return found.kind, found.said
    seen = said_of(found.findings)
    return "hold", f"nothing stands against it so far: {seen}" if seen else "no rows of both models yet"


def _how(shown: Mapping[str, float]) -> str:
    """In what ways the challenger failed in the last rows."""
    ways = {name.removeprefix(FAILED_BY): many for name, many in shown.items() if name.startswith(FAILED_BY)}
    return f"; it failed by {', '.join(f'{way} ({many:.0f} times)' for way, many in ways.items())}" if ways else ""


def _sight(
    steps: Steps, now: Standing, story: Story, plan: ReleasePlanned, between: tuple[datetime, datetime]
) -> Sight:
    """The rows that arrived between two looks; live a little earlier, for rows take a moment to the lake."""
    late = timedelta(0) if steps.replay else SETTLED
    pair = Pair(now.bench[plan.previous or ""], now.bench[plan.candidate], stretches(story, plan))
    span = Span(*(moment - late for moment in between))
    return Trial(steps.spec, steps.ports.lake).look(pair, plan.guard or Guarding(), span)


def stretches(story: Story, plan: ReleasePlanned) -> tuple[Stretch, ...]:
    """How traffic went since the release began, by what every server confirmed."""
    found = []
    for fact, at in zip(story.facts, story.times, strict=True):
        match fact:
            case StageBegan(stage="mirror"):
                found.append(Stretch(at, 0.0))
            case StageDone(index=index, stage="weight"):
                stage = plan.stages[index]
                found.append(Stretch(at, stage.share if isinstance(stage, Weight) else 0.0))
            case WentLive():
                found.append(Stretch(at, 1.0))
            case _:
                continue
    return tuple(found)


def _state(steps: Steps, story: Story, place: Place, since: datetime) -> rules.Guarded:
    """What the guard knows: from the last look of the release, as of the beginning of the present stage."""
    held = lasting(place.stage) or timedelta(0)
    last = next((f for f in reversed(story.facts) if isinstance(f, GuardLooked) and f.state), None)
    if last is None:
        return rules.begin(since, held, place.plan.usual)
    state = rules.from_facts(json.loads(steps.ports.notes.get(last.state)))
    return state if last.index == place.index else rules.next_step(state, since, held)


def _steered(story: Story, index: int) -> str:
    """A person's word that the stage is over."""
    words = [f for f in story.facts if isinstance(f, Steered) and f.index == index and f.word == "promote"]
    return f"{words[-1].by} promoted it: {words[-1].why}" if words else ""


def _last(story: Story, index: int) -> tuple[GuardLooked, datetime] | None:
    pairs = zip(reversed(story.facts), reversed(story.times), strict=True)
    return next(((f, at) for f, at in pairs if isinstance(f, GuardLooked) and f.index == index), None)


def _may_leave(stage: Timed, began_: StageBegan, looked: tuple[GuardLooked, datetime] | None) -> bool:
    """A mirror and an analysis are left on the guard's word; a pause and a bake when their time is up and it looked."""
    if looked is None:
        return False
    if isinstance(stage, Pause | Bake):
        return began_.until is not None and looked[1] >= began_.until
    return looked[0].verdict == "proceed"


def _ends(stage: Timed, since: datetime, moment: datetime) -> bool:
    held = lasting(stage)
    return isinstance(stage, Pause | Bake) and held is not None and moment >= since + held


def _wake(again: datetime, since: datetime, stage: Timed, moment: datetime) -> datetime:
    """The next look, or the planned end if that comes first."""
    held = lasting(stage)
    end = since + held if held is not None else again
    return min(again, end) if end > moment else again
