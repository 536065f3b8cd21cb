"""Where traffic goes during a release: each function is one effect on the gateway, keyed, so that twice is once.

Takes the steps, the plan and the keys that went before; gives the key that is in force; never decides where to point.

A step that slept must not point after a person has: each of them says which key must be live still (`after`), so what
came in between stands. The way back has no such fence and always points.
"""

from __future__ import annotations

from everfit.clock import rest, ticks
from everfit.errors import Conflict, LeaseLost, ModelUnusable
from everfit.facts import ReleasePlanned, StageBegan, StageDone, WentLive
from everfit.flows.durable import Alive
from everfit.flows.steps import Steps
from everfit.ports import Can, Route, Trial
from everfit.rollout.plan import Bake, Mirror, Weight
from everfit.standing import Kept, Standing, Story


def last_key(story: Story) -> str | None:
    """The key that this release pointed with last, or found in force when it began; None in old ledgers."""
    for fact in reversed(story.facts):
        if isinstance(fact, WentLive):
            return story.run
        if isinstance(fact, StageBegan | StageDone) and fact.pointed is not None:
            return fact.pointed
    return None


def tries(steps: Steps, plan: ReleasePlanned) -> bool:
    """Whether traffic goes to the candidate in any share, or copies of it do."""
    live = steps.ports.gateway.live(steps.spec.model)
    return live is not None and plan.candidate in (live.candidate, live.trial.candidate if live.trial else "")


def try_beside(steps: Steps, now: Standing, story: Story, place: tuple[int, Mirror | Weight], alive: Alive) -> str:
    """Let the challenger answer a share of the keys, or get copies; the key, once every server has it.

    Raises:
        ModelUnusable: a server cannot load it or keep it up, or traffic was pointed elsewhere meanwhile.
        LeaseLost: somebody else goes on.
    """
    index, stage = place
    plan = _planned(story)
    champion, tried = now.bench[plan.previous or ""], now.bench[plan.candidate]
    mirror, weight = (stage.share, 0.0) if isinstance(stage, Mirror) else (0.0, stage.share)
    trial = Trial(tried.candidate.id, tried.version, weight=weight, mirror=mirror, salt=story.run)
    route = Route(champion.candidate.id, champion.version, f"{story.run}-{index}", trial)
    return _point(steps, route, last_key(story), alive)


def mirror_old(steps: Steps, now: Standing, story: Story, place: tuple[int, Bake], alive: Alive) -> str | None:
    """In the bake the old champion gets the copies, so that both are still compared on the same rows.

    Where a server cannot have it, traffic goes on without; None where there is no old champion.
    """
    index, _ = place
    plan = _planned(story)
    if plan.previous is None or plan.guard is None or Can.MIRROR not in steps.ports.gateway.can:
        return None
    live, old = now.bench[plan.candidate], now.bench[plan.previous]
    key = f"{story.run}-{index}"
    trial = Trial(old.candidate.id, old.version, mirror=1.0, salt=story.run)
    try:
        return _point(steps, Route(live.candidate.id, live.version, key, trial), last_key(story), alive)
    except ModelUnusable:
        return alone(steps, live, f"{key}-alone")


def alone(steps: Steps, kept: Kept, key: str) -> str:
    """All traffic to one model and no copies to any other."""
    steps.ports.gateway.point(steps.spec.model, Route(kept.candidate.id, kept.version, key))
    return key


def end_trial(steps: Steps, now: Standing, story: Story) -> None:
    """Back to the champion alone: it is in force at the servers' next look, and nobody is waited for.

    Raises:
        ModelUnusable: the champion cannot be pointed to, and the candidate is still being tried.
    """
    plan = _planned(story)
    if plan.previous is None:
        return
    champion = now.bench[plan.previous]
    try:
        steps.ports.gateway.point(steps.spec.model, Route(champion.candidate.id, champion.version, f"{story.run}-back"))
    except ModelUnusable:  # this was repeated, and others have pointed since
        if tries(steps, plan):
            raise


def _point(steps: Steps, route: Route, after: str | None, alive: Alive) -> str:
    gateway, model = steps.ports.gateway, steps.spec.model
    try:
        gateway.point(model, route, after=after)
    except Conflict as error:
        raise ModelUnusable(f"traffic was pointed elsewhere meanwhile: {error}") from error
    since = ticks()
    while not gateway.confirmed(model):
        if not alive():
            raise LeaseLost(f"the lease of {route.key} was lost while servers followed; whoever took it goes on")
        if ticks() > since + steps.swap_at_most:
            tried = f"version {route.trial.version}" if route.trial else f"version {route.version}"
            raise ModelUnusable(
                f"{tried} was not taken up by every server within {steps.swap_at_most:g} s; see the servers' log"
            )
        rest(0.01)
    return route.key


def _planned(story: Story) -> ReleasePlanned:
    plan = story.find(ReleasePlanned)
    if plan is None:
        raise ModelUnusable(f"{story.run} has no plan; it cannot point anywhere")
    return plan
