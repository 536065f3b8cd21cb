"""What the checks of a guard can see in the stages of a release.

Takes the user's checks and the planned stages; gives checks that ask only for what will be there; never weakens the
promise: a manner of comparison that no stage has gives its part of it to the other.

A mirrored request is answered by both models, so errors and losses are compared on the same rows. Under a weight some
keys are answered by each, so everything is compared on different rows. In the bake all traffic has moved, and the old
champion gets the copies: losses are compared on the same rows, errors on different ones (the copies of requests on
which the new champion failed are not asked for), and latencies not at all, for a copy waits in another queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from everfit.rollout.checks import Check, Guarding
from everfit.rollout.plan import Bake, GoLive, Mirror, Stage, Weight, traffic_at

SEEN: dict[type[Stage], dict[str, set[str]]] = {
    Mirror: {"errors": {"same"}, "loss": {"same"}, "latency": set()},
    Weight: {"errors": {"different"}, "loss": {"different"}, "latency": {"different"}},
    GoLive: {"errors": {"different"}, "loss": {"same"}, "latency": set()},
}


def is_guarded(stages: Sequence[Stage]) -> bool:
    """Whether the guard has two models to compare in any of the stages.

    >>> from everfit.rollout.options import Rolling
    >>> from everfit.rollout.plan import plan_release
    >>> is_guarded(plan_release("c2", "c1", Rolling())), is_guarded(plan_release("c2", "c1", Rolling(bake="1d")))
    (False, True)
    """
    return any(isinstance(stage, Mirror | Weight) for stage in stages) or any(
        isinstance(stage, Bake) for stage in stages if _previous(stages)
    )


def suited(guard: Guarding, stages: Sequence[Stage], matures: timedelta) -> Guarding:
    """The guard of a release: each check with the manner in which these stages can show it.

    Args:
        guard: As the spec has it.
        stages: Of the release.
        matures: How long labels take, unless the spec's guard says so itself.

    >>> from everfit.rollout.options import Rolling
    >>> from everfit.rollout.plan import plan_release
    >>> canary = plan_release("c2", "c1", Rolling(weights=("5%",)))
    >>> [(check.of, check.on) for check in suited(Guarding(), canary, timedelta(0)).checks]
    [('errors', 'different'), ('latency', 'both'), ('loss', 'different')]
    """
    found = {of: _manners(stages, of) for of in ("errors", "loss")}
    checks = tuple(_narrowed(check, found.get(check.of, set())) for check in guard.checks)
    late = {} if "labels_mature_after" in guard.model_fields_set else {"labels_mature_after": matures}
    return guard.model_copy(update={"checks": checks, **late})


def asked_in(guard: Guarding, stages: Sequence[Stage], index: int) -> Guarding:
    """The guard of one stage: it waits for no row of a check that the stage cannot show.

    >>> from everfit.rollout.options import Rolling
    >>> from everfit.rollout.plan import plan_release
    >>> shadow = plan_release("c2", "c1", Rolling(mirror="1d"))
    >>> [(check.of, check.at_least) for check in asked_in(Guarding(), shadow, 1).checks]
    [('errors', 200), ('latency', 0), ('loss', 200)]
    """
    traffic = traffic_at(stages, index)
    shown = SEEN[type(traffic)] if traffic is not None else {}
    checks = tuple(
        check if _sees(check, shown.get(check.of, set())) else check.model_copy(update={"at_least": 0, "prove": False})
        for check in guard.checks
    )
    return guard.model_copy(update={"checks": checks})


def takes(check: Check, *, paired: bool) -> bool:
    """Whether a check looks at rows of this manner.

    >>> takes(Check(of="errors", on="same"), paired=False)
    False
    """
    return check.on in ("both", "same" if paired else "different") and not (paired and check.of == "latency")


def _sees(check: Check, manners: set[str]) -> bool:
    return bool(manners) and (check.on == "both" or check.on in manners)


def _manners(stages: Sequence[Stage], of: str) -> set[str]:
    kinds: set[type[Stage]] = {type(stage) for stage in stages if isinstance(stage, Mirror | Weight)}
    if _previous(stages) and any(isinstance(stage, Bake) for stage in stages):
        kinds.add(GoLive)
    return {manner for kind in kinds for manner in SEEN[kind][of]}


def _previous(stages: Sequence[Stage]) -> bool:
    return any(isinstance(stage, GoLive) and stage.previous is not None for stage in stages)


def _narrowed(check: Check, manners: set[str]) -> Check:
    """`both` becomes the one manner that there is: then that has the whole part of the promise."""
    on: Literal["same", "different"]
    if check.on != "both" or len(manners) != 1:
        return check
    on = "same" if manners == {"same"} else "different"
    return check.model_copy(update={"on": on})
