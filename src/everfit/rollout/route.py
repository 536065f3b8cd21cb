"""Where traffic goes: the model that answers, and the one that is tried beside it.

Takes candidates, shares and what a gateway can do; gives records that gateways follow, or an error that names the
share; never sends anything anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from everfit.errors import UsageError


@dataclass(frozen=True, slots=True)
class Trial:
    """A challenger beside the model that answers."""

    candidate: str
    version: int
    weight: float = 0.0  # share of the keys that it answers, below 1
    mirror: float = 0.0  # share of the requests that it gets copies of; nobody sees its answers
    salt: str = ""  # names the release: keys are placed anew for each


@dataclass(frozen=True, slots=True)
class Route:
    """Which model answers, and which is tried beside it."""

    candidate: str
    version: int
    key: str  # the cause: pointing twice with one key is once; every state of a trial has a key of its own
    trial: Trial | None = None


def check_trial(route: Route) -> None:
    """Hold a route's trial to its bounds, for every gateway alike.

    >>> check_trial(Route("c1", 1, "k", Trial("c2", 2, weight=0.05)))

    Raises:
        UsageError: a share lies outside its bounds, or the challenger is the champion.
    """
    trial = route.trial
    if trial is None:
        return
    if not 0 <= trial.weight < 1 or not 0 <= trial.mirror <= 1:
        raise UsageError(
            f"a trial's weight must lie in [0, 1) and its mirror in [0, 1]; these are {trial.weight:g} and "
            f"{trial.mirror:g}; to give a model all traffic, point to it without a trial"
        )
    if trial.candidate == route.candidate:
        raise UsageError(f"{route.candidate} cannot be tried beside itself; name another challenger")


class Can(StrEnum):
    """What a gateway can do beside sending all traffic to one model."""

    SPLIT = "split"  # give a challenger a share of the keys
    MIRROR = "mirror"  # give it copies of requests, whose answers nobody sees


ALL_OF_IT = frozenset(Can)


def check_can(can: frozenset[Can], *, weight: float, mirror: float) -> None:
    """Hold a trial to what a gateway can do, before it is planned and when it is pointed to.

    >>> check_can(frozenset({Can.SPLIT}), weight=0.05, mirror=0.0)

    Raises:
        UsageError: the gateway cannot mirror, or not split.
    """
    wanted = {Can.MIRROR: mirror > 0, Can.SPLIT: weight > 0}
    lacking = [each.value for each in Can if wanted[each] and each not in can]
    if lacking:
        instead = "the built-in gateway can; without it leave `mirror` and `weights` out and go live all at once"
        if can:
            instead = f"it can {' and '.join(sorted(can))}: leave the other out of the spec's `rollout`"
        raise UsageError(f"the gateway of this project (EVERFIT_GATEWAY) cannot {' or '.join(lacking)}; {instead}")
