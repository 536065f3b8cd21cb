"""A trial as a server follows it: a real challenger's process, the folder gateway, and what `confirmed` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from everfit.adapters.gateway import FolderGateway
from everfit.errors import ModelUnusable
from everfit.ports import Route, Trial
from everfit.serve.counts import Counts
from everfit.serve.routing import Live
from everfit.serve.serving import Trying
from tests.ports.test_challenger import rows
from tests.unit.serve.fakes import MODEL, candidate, until
from tests.unit.serve.rivals import Rival, write_rival

WAIT = 30.0
C1, C2 = candidate("c1").id, candidate("c2").id
ALONE = Route(C1, 1, "k1")


@pytest.fixture
def gateway(tmp_path: Path) -> FolderGateway:
    made = FolderGateway(tmp_path / "serving")
    for name in ("c1", "c2"):
        made.publish(candidate(name), 1, write_rival(tmp_path / "shelf" / name, candidate(name)))
    made.publish(candidate("c3"), 3, write_rival(tmp_path / "shelf" / "c3", candidate("c3"), broken=True))
    made.point(MODEL, ALONE)
    return made


@pytest.fixture
def live(tmp_path: Path, gateway: FolderGateway) -> Iterator[Live]:
    trying = Trying(deaths=2, pauses=(0.01, 0.02))
    made = Live(tmp_path / "serving" / MODEL, Rival, Counts(MODEL), trying=trying)
    made.start()
    until(lambda: made.current is not None and gateway.confirmed(MODEL), WAIT)
    yield made
    made.stop()


def tried(key: str, weight: float = 0.0, mirror: float = 1.0) -> Route:
    return Route(C1, 1, key, Trial(C2, 2, weight, mirror, "release-1"))


def pid_of(live: Live) -> int:
    served = live.current
    assert served is not None
    assert served.challenger is not None
    pid = served.challenger.pid
    assert pid is not None
    return pid


def test_a_trial_is_confirmed_when_its_challenger_is_warm_and_its_end_at_once(
    gateway: FolderGateway, live: Live
) -> None:
    gateway.point(MODEL, tried("k2"))
    until(lambda: live.current is not None and live.current.route.key == "k2", WAIT)
    assert not gateway.confirmed(MODEL), "it is still loading"
    until(lambda: gateway.confirmed(MODEL), WAIT)
    pid = pid_of(live)
    gateway.point(MODEL, Route(C1, 1, "k3"))
    until(lambda: gateway.confirmed(MODEL), WAIT)
    assert live.current is not None
    assert (live.current.route.trial, live.current.challenger) == (None, None)
    until(lambda: not psutil.pid_exists(pid), WAIT)


def test_another_share_keeps_the_process(gateway: FolderGateway, live: Live) -> None:
    gateway.point(MODEL, tried("k2"))
    until(lambda: gateway.confirmed(MODEL), WAIT)
    pid = pid_of(live)
    gateway.point(MODEL, tried("k3", weight=0.25))
    until(lambda: gateway.confirmed(MODEL), WAIT)
    assert live.current is not None
    assert (live.current.route, pid_of(live)) == (tried("k3", weight=0.25), pid)


def test_a_challenger_goes_live_in_the_server_itself(gateway: FolderGateway, live: Live) -> None:
    gateway.point(MODEL, tried("k2", weight=0.25))
    until(lambda: gateway.confirmed(MODEL), WAIT)
    pid = pid_of(live)
    gateway.point(MODEL, Route(C2, 2, "k3"))
    until(lambda: gateway.confirmed(MODEL), WAIT)
    assert live.current is not None
    assert (live.current.model.candidate, live.current.challenger) == (C2, None)
    until(lambda: not psutil.pid_exists(pid), WAIT)


def test_a_challenger_that_cannot_be_loaded_is_told_and_the_champion_serves_on(
    gateway: FolderGateway, live: Live
) -> None:
    gateway.point(MODEL, Route(C1, 1, "k2", Trial(candidate("c3").id, 3, 0.5)))
    until(lambda: bool(gateway.servers(MODEL)[0]["trouble"]), WAIT)
    with pytest.raises(ModelUnusable, match=r"cannot try version 3: .*its file is broken"):
        gateway.confirmed(MODEL)
    assert live.current is not None
    assert live.current.model.candidate == C1
    gateway.point(MODEL, Route(C1, 1, "k3"))
    until(lambda: gateway.confirmed(MODEL), WAIT)


def test_a_challenger_that_dies_again_and_again_is_told_until_another_route_comes(
    gateway: FolderGateway, live: Live
) -> None:
    gateway.point(MODEL, tried("k2", weight=0.5))
    until(lambda: gateway.confirmed(MODEL), WAIT)
    assert live.current is not None
    challenger = live.current.challenger
    assert challenger is not None
    for _ in range(2):
        until(lambda: challenger.is_warm, WAIT)
        psutil.Process(pid_of(live)).kill()
        until(lambda: not challenger.is_warm, WAIT)
    until(lambda: bool(gateway.servers(MODEL)[0]["trouble"]), WAIT)
    with pytest.raises(ModelUnusable, match="ended 2 times"):
        gateway.confirmed(MODEL)
    gateway.point(MODEL, tried("k3", weight=0.5))
    until(lambda: gateway.servers(MODEL)[0]["key"] == "k3", WAIT)
    assert gateway.confirmed(MODEL), "another route begins anew"
    assert live.current.challenger is not None
    assert live.current.challenger.ask(rows("UA"), WAIT).failed == ()


def test_the_process_ends_with_the_server(gateway: FolderGateway, live: Live) -> None:
    gateway.point(MODEL, tried("k2"))
    until(lambda: gateway.confirmed(MODEL), WAIT)
    pid = pid_of(live)
    live.stop()
    assert not psutil.pid_exists(pid)
