"""The list of roll-out steps: planned first (pure), then applied or explained from the same list.

Takes options and names; gives stages; never performs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from everfit.rollout.options import Rolling
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
    """Watch the new champion for a while before the story ends."""

    hold: timedelta
    kind: Literal["bake"] = "bake"


@dataclass(frozen=True, slots=True)
class Tidy:
    """Drop the oldest model versions beyond the number that is kept."""

    keep: int
    kind: Literal["tidy"] = "tidy"


Stage = Approval | Publish | GoLive | Alias | Bake | Tidy


def plan_release(candidate: str, previous: str | None, options: Rolling) -> tuple[Stage, ...]:
    """The stages that bring a proven candidate live.

    >>> [stage.kind for stage in plan_release("c2", "c1", Rolling(approve=True))]
    ['approval', 'publish', 'live', 'alias', 'tidy']
    """
    asked: tuple[Stage, ...] = (Approval(candidate),) if options.approve else ()
    baked: tuple[Stage, ...] = (Bake(options.bake),) if options.bake else ()
    return (
        *asked,
        Publish(candidate),
        GoLive(candidate, previous),
        Alias(candidate, previous),
        *baked,
        Tidy(options.keep),
    )


def plan_rollback(live: str, previous: str) -> tuple[Stage, ...]:
    """The way back. It never trains, judges or asks: the shortest path in the code.

    >>> [stage.kind for stage in plan_rollback("c2", "c1")]
    ['live', 'alias']
    """
    return (GoLive(previous, live), Alias(previous, live))


def explain(stages: tuple[Stage, ...]) -> list[str]:
    """Say what the stages would do, one line each."""
    return [_line(stage) for stage in stages]


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
        case Bake(hold):
            return f"watch it for {duration_text(hold)}"
        case Tidy(keep):
            return f"keep the last {keep} versions"
