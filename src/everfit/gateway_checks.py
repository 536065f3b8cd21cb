"""What every gateway owes; `everfit.checks.check_gateway` makes laws of it.

Takes a gateway to which two models were published; gives nothing, or raises AssertionError when it does not keep a
duty; never knows a gateway by name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from everfit.errors import Conflict, EverfitError, ModelUnusable, UsageError
from everfit.ports import Can, Gateway, Route, Trial
from everfit.retrain.candidate import Candidate

MODEL = "everfit-law"
WRITERS = 4


def _must(holds: bool, said: str) -> None:
    if not holds:
        raise AssertionError(said)


def _refuses(kind: type[EverfitError], do: Callable[[], object]) -> None:
    try:
        do()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected, and nothing was raised")


def pointed(gateway: Gateway, two: Sequence[tuple[Candidate, Path]]) -> None:
    """Publishing sends no traffic; pointing does, and only to what was published."""
    _must(gateway.live(MODEL) is None, "publishing sent traffic")
    _must(gateway.confirmed(MODEL), "nothing to confirm was not confirmed")
    _refuses(ModelUnusable, lambda: gateway.point(MODEL, Route("nobody", 9, "k0")))
    route = Route(two[0][0].id, 1, "k1")
    gateway.point(MODEL, route)
    _must(gateway.live(MODEL) == route, f"live: {gateway.live(MODEL)}")


def keyed(gateway: Gateway, two: Sequence[tuple[Candidate, Path]]) -> None:
    """A cause that is live already changes nothing, and cannot mean another model."""
    route = Route(two[0][0].id, 1, "k1")
    gateway.point(MODEL, route)
    gateway.point(MODEL, route)
    _refuses(Conflict, lambda: gateway.point(MODEL, Route(two[1][0].id, 2, "k1")))
    _must(gateway.live(MODEL) == route, "a cause was used twice")


def late_repeat(gateway: Gateway, two: Sequence[tuple[Candidate, Path]]) -> None:
    """A cause that is repeated late, when another came after it, undoes nothing."""
    first, second = Route(two[0][0].id, 1, "k1"), Route(two[1][0].id, 2, "k2")
    gateway.point(MODEL, first)
    gateway.point(MODEL, second)
    _refuses(ModelUnusable, lambda: gateway.point(MODEL, first))
    _must(gateway.live(MODEL) == second, "a late repeat took the traffic")


def fenced(gateway: Gateway, two: Sequence[tuple[Candidate, Path]]) -> None:
    """A step that slept does not point when another key went live meanwhile; one without a fence does."""
    first, second = Route(two[0][0].id, 1, "k1"), Route(two[1][0].id, 2, "k2")
    gateway.point(MODEL, first, after="")
    gateway.point(MODEL, second)
    for after in ("", "k1"):
        _refuses(Conflict, lambda after=after: gateway.point(MODEL, Route(first.candidate, 1, "k3"), after=after))  # type: ignore[misc]  # binds the variable
    _must(gateway.live(MODEL) == second, "a step that slept took the traffic")
    gateway.point(MODEL, second, after="k1")  # its own key is live: done before, whatever came in between
    gateway.point(MODEL, Route(first.candidate, 1, "k4"), after="k2")


def raced(gateway: Gateway, two: Sequence[tuple[Candidate, Path]]) -> None:
    """Of steps that saw the same key live, one points, whatever they do at the same moment."""
    live, other = two[0][0].id, two[1][0].id
    gateway.point(MODEL, Route(live, 1, "k1"))
    ready, won = threading.Barrier(WRITERS), list[Route]()

    def write(place: int) -> None:
        route = Route(other, 2, f"k2-{place}")
        ready.wait()
        with suppress(Conflict):
            gateway.point(MODEL, route, after="k1")
            won.append(route)

    writers = [threading.Thread(target=write, args=(place,)) for place in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    _must(won == [gateway.live(MODEL)], f"pointed: {won}, live: {gateway.live(MODEL)}")


def tried(gateway: Gateway, two: Sequence[tuple[Candidate, Path]]) -> None:
    """A challenger is tried beside the live model by keys of its own, within bounds, and pointing back ends it."""
    live, other = two[0][0].id, two[1][0].id
    gateway.point(MODEL, Route(live, 1, "k1"))
    for wrong in (Trial(other, 2, weight=1.0), Trial(other, 2, mirror=1.5), Trial(live, 1, weight=0.1)):
        _refuses(UsageError, lambda wrong=wrong: gateway.point(MODEL, Route(live, 1, "k2", wrong)))  # type: ignore[misc]  # binds the variable
    weight, mirror = 0.25 * (Can.SPLIT in gateway.can), 1.0 * (Can.MIRROR in gateway.can)
    for share, trial in ((weight, Trial(other, 2, weight=0.25)), (mirror, Trial(other, 2, mirror=1.0))):
        if not share:  # what it cannot do it says
            _refuses(UsageError, lambda trial=trial: gateway.point(MODEL, Route(live, 1, "k2", trial)))  # type: ignore[misc]  # binds the variable
    if not weight and not mirror:
        return
    nobody = Route(live, 1, "k2", Trial("nobody", 9, weight, mirror))
    _refuses(ModelUnusable, lambda: gateway.point(MODEL, nobody))
    tried = Route(live, 1, "k2", Trial(other, 2, weight, mirror, salt="release-1"))
    gateway.point(MODEL, tried)
    _must(gateway.live(MODEL) == tried, f"live: {gateway.live(MODEL)}")
    _refuses(Conflict, lambda: gateway.point(MODEL, Route(live, 1, "k2", Trial(other, 2, weight / 2, mirror / 2))))
    gateway.withdraw(MODEL, other)
    _must(gateway.live(MODEL) == tried, "the challenger was withdrawn while it is tried")
    gateway.point(MODEL, Route(live, 1, "k3"))
    _must(gateway.live(MODEL) == Route(live, 1, "k3"), "pointing back left the challenger")


def withdrawn(gateway: Gateway, two: Sequence[tuple[Candidate, Path]]) -> None:
    """The live model is not withdrawn; another is, and then cannot be pointed to."""
    live, other = two[0][0].id, two[1][0].id
    gateway.point(MODEL, Route(live, 1, "k1"))
    for name in (live, other, "nobody"):
        gateway.withdraw(MODEL, name)
    _must(gateway.live(MODEL) == Route(live, 1, "k1"), "the live model was withdrawn")
    _refuses(ModelUnusable, lambda: gateway.point(MODEL, Route(other, 2, "k2")))


GATEWAY_DUTIES = (pointed, keyed, late_repeat, fenced, raced, tried, withdrawn)
