"""The list of roll-out stages: planned first (pure), then applied or explained from the same list.

Takes options and names; gives stages; never performs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, assert_never

from everfit.rollout.options import Rolling
from everfit.rollout.stages import AnalysisStep, BakeStep, MirrorStep, PauseStep, Step, WeightStep
from everfit.units import duration_text


@dataclass(frozen=True, slots=True)
class Approval:
    """Wait for a person's word."""

    candidate: str
    kind: Literal["approval"] = "approval"


@dataclass(frozen=True, slots=True)
class Publish:
    """Put the model's files where the server loads and warms them, before any traffic."""

    candidate: str
    kind: Literal["publish"] = "publish"


@dataclass(frozen=True, slots=True)
class Mirror:
    """Copies of the requests go to the challenger; nobody sees its answers; the guard looks."""

    candidate: str
    share: float  # of the requests
    hold: timedelta
    kind: Literal["mirror"] = "mirror"


@dataclass(frozen=True, slots=True)
class Weight:
    """The challenger answers this share of the keys."""

    candidate: str
    share: float  # below 1
    kind: Literal["weight"] = "weight"


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing changes for a while; the guard looks on."""

    hold: timedelta | None  # None: until a person promotes
    kind: Literal["pause"] = "pause"


@dataclass(frozen=True, slots=True)
class Analysis:
    """The guard looks; only its word leads on."""

    hold: timedelta  # at least
    kind: Literal["analysis"] = "analysis"


@dataclass(frozen=True, slots=True)
class GoLive:
    """Point all traffic to a published model at once; the old one stays warm."""

    to: str
    previous: str | None
    kind: Literal["live"] = "live"


@dataclass(frozen=True, slots=True)
class Alias:
    """Tell the registry who is champion and who is previous: after the traffic, so that it delays no way back."""

    champion: str
    previous: str | None
    kind: Literal["alias"] = "alias"


@dataclass(frozen=True, slots=True)
class Bake:
    """Watch the new champion for a while before the story ends; the guard looks on."""

    hold: timedelta
    kind: Literal["bake"] = "bake"


@dataclass(frozen=True, slots=True)
class Tidy:
    """Drop the oldest model versions beyond the number that is kept."""

    keep: int
    kind: Literal["tidy"] = "tidy"


Stage = Approval | Publish | Mirror | Weight | Pause | Analysis | GoLive | Alias | Bake | Tidy
Timed = Mirror | Pause | Analysis | Bake  # they take time, and the guard looks meanwhile


def plan_release(candidate: str, previous: str | None, options: Rolling) -> tuple[Stage, ...]:
    """The stages that bring a proven candidate live. A first champion has nothing to be tried beside.

    >>> [stage.kind for stage in plan_release("c2", "c1", Rolling(approve=True, weights=("5%",), bake="1d"))]
    ['approval', 'publish', 'weight', 'analysis', 'live', 'alias', 'bake', 'tidy']
    >>> [stage.kind for stage in plan_release("c1", None, Rolling(weights=("5%",)))]
    ['publish', 'live', 'alias', 'tidy']
    """
    steps = options.expanded()
    live = next(at for at, step in enumerate(steps) if isinstance(step, WeightStep) and step.weight == 1)
    asked: tuple[Stage, ...] = (Approval(candidate),) if options.approve else ()
    return (
        *asked,
        Publish(candidate),
        *(_stage(step, candidate) for step in steps[:live] if previous is not None),
        GoLive(candidate, previous),
        Alias(candidate, previous),
        *(_stage(step, candidate) for step in steps[live + 1 :]),
        Tidy(options.keep),
    )


def plan_rollback(live: str, previous: str) -> tuple[Stage, ...]:
    """The way back. It never trains, judges or asks: the shortest path in the code.

    >>> [stage.kind for stage in plan_rollback("c2", "c1")]
    ['live', 'alias']
    """
    return (GoLive(previous, live), Alias(previous, live))


def live_at(stages: Sequence[Stage]) -> int:
    """The place of the stage that points all traffic to the model.

    >>> live_at(plan_release("c2", "c1", Rolling()))
    1
    """
    return next(at for at, stage in enumerate(stages) if isinstance(stage, GoLive))


def traffic_at(stages: Sequence[Stage], index: int) -> Mirror | Weight | GoLive | None:
    """What the traffic does during a stage: the last stage up to it that pointed it somewhere; None before any.

    >>> stages = plan_release("c2", "c1", Rolling(weights=("5%",)))
    >>> traffic_at(stages, 2)
    Weight(candidate='c2', share=0.05, kind='weight')
    """
    pointed = [stage for stage in stages[: index + 1] if isinstance(stage, Mirror | Weight | GoLive)]
    return pointed[-1] if pointed else None


def lasting(stage: Stage) -> timedelta | None:
    """How long a stage is planned to take; None until a person says so.

    >>> lasting(Tidy(10)), lasting(Pause(None))
    (datetime.timedelta(0), None)
    """
    if isinstance(stage, Approval):
        return None
    return stage.hold if isinstance(stage, Timed) else timedelta(0)


def longest(stages: Sequence[Stage]) -> timedelta | None:
    """How long stages take if nothing is inconclusive; None if a person is waited for.

    >>> longest(plan_release("c2", "c1", Rolling(mirror="1d", weights=("5%",), interval="1h", bake="1d")))
    datetime.timedelta(days=2, seconds=3600)
    """
    total = timedelta(0)
    for stage in stages:
        held = lasting(stage)
        if held is None:
            return None
        total += held
    return total


def explain(stages: Sequence[Stage]) -> list[str]:
    """Say what the stages would do, one line each.

    >>> print(*explain(plan_release("v2", "v1", Rolling(weights=("5%",), bake="24h"))), sep="\\n")
    publish v2 to the servers and warm it
    answer 5% of the keys with v2; the same keys each time
    let the guard look for 1h; go on only if it finds nothing against the challenger
    point all traffic to v2; v1 stays warm to go back to
    name v2 champion in the registry
    let the guard look on for 1d; it goes back by itself if the new champion is worse
    keep the last 10 versions
    """
    first = any(isinstance(stage, GoLive) and stage.previous is None for stage in stages)
    return [_first_line(stage) if first else _line(stage) for stage in stages]


def _stage(step: Step, candidate: str) -> Stage:
    match step:
        case MirrorStep(mirror=held, share=share):
            return Mirror(candidate, share, held)
        case WeightStep(weight=weight):
            return Weight(candidate, weight)
        case PauseStep(pause=held):
            return Pause(held if isinstance(held, timedelta) else None)
        case AnalysisStep(analysis=held):
            return Analysis(held)
        case BakeStep(bake=held):
            return Bake(held)
        case _:
            assert_never(step)


def _first_line(stage: Stage) -> str:
    """A first champion has nobody beside it and nobody to go back to."""
    match stage:
        case Bake(hold):
            return f"wait for {duration_text(hold)}; nothing new is begun meanwhile"
        case Pause(hold):
            return f"wait {'until `everfit promote`' if hold is None else f'for {duration_text(hold)}'}"
        case _:
            return _line(stage)


def _line(stage: Stage) -> str:
    match stage:
        case Approval(candidate):
            return f"wait until a person approves {candidate}"
        case Publish(candidate):
            return f"publish {candidate} to the servers and warm it"
        case GoLive(to, None):
            return f"point all traffic to {to}"
        case GoLive(to, previous):
            return f"point all traffic to {to}; {previous} stays warm to go back to"
        case Alias(champion, _):
            return f"name {champion} champion in the registry"
        case Tidy(keep):
            return f"keep the last {keep} versions"
        case _:
            return _trial_line(stage)


def _trial_line(stage: Mirror | Weight | Pause | Analysis | Bake) -> str:
    match stage:
        case Mirror(candidate, share, hold):
            copied = "every request" if share == 1 else f"{share * 100:.10g}% of the requests"
            return f"mirror {copied} to {candidate} for {duration_text(hold)}; nobody sees its answers"
        case Weight(candidate, share):
            return f"answer {share * 100:.10g}% of the keys with {candidate}; the same keys each time"
        case Pause(hold):
            waits = "until `everfit promote`" if hold is None else f"for {duration_text(hold)}"
            return f"wait {waits}; the guard looks on"
        case Analysis(hold):
            return (
                f"let the guard look for {duration_text(hold)}; go on only if it finds nothing against the challenger"
            )
        case Bake(hold):
            return (
                f"let the guard look on for {duration_text(hold)}; it goes back by itself if the new champion is worse"
            )
