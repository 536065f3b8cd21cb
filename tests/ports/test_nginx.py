"""The gateway script that the guide shows, with a real nginx and a real server for each model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.hooks import hook_at
from everfit.adapters.outside import OutsideGateway
from everfit.adapters.published import Published
from everfit.errors import ModelUnusable
from everfit.ports import Can, Route, Trial
from tests.ports.test_server import Server, write_trained
from tests.unit.serve.fakes import MODEL, ROW, RULES, candidate, until

SCRIPT = Path(__file__).parents[2] / "docs" / "how-to" / "nginx_gate.py"
WAIT = 60.0
A, B = (candidate(name).id for name in "ab")
LIVE_A = Route(A, 1, "k1")
HALF = Route(A, 1, "k2", Trial(B, 2, weight=0.5, salt="release-2"))


@dataclass
class Place:
    """A project's server, the gateway, and nginx's address."""

    gateway: OutsideGateway
    home: Path
    url: str

    def go(self, route: Route) -> None:
        self.gateway.point(MODEL, route)
        until(lambda: self.gateway.confirmed(MODEL), WAIT)

    def ask(self, customer: str) -> int:
        """Which version answers a customer."""
        row = {**ROW, "flight": f"f-{customer}", "scheduled": "2013-02-01T10:00:00Z"}
        headers = {"x-customer": customer}
        body = {"dataframe_records": [row]}
        answer = httpx.post(f"{self.url}/invocations", json=body, headers=headers, timeout=WAIT)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["model"]["version"])

    def shares(self) -> Counter[int]:
        return Counter(self.ask(f"c{number}") for number in range(60))


def _record(home: Path, name: str) -> dict[str, int]:
    told: dict[str, int] = json.loads((home / "servers" / f"{name}.json").read_text())
    return told


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("nginx is missing in CI: .ci/run installs it")
        pytest.skip("nginx is not on this machine: apt-get install nginx")
    (tmp_path / "project").mkdir()
    project, home, listen = Server(tmp_path / "project"), tmp_path / "gate", f"127.0.0.1:{free_port()}"
    environment = {"GATE_HOME": home, "GATE_LISTEN": listen, "GATE_PORTS": free_port(),
                   "EVERFIT_EVENTS": project.client.base_url, "OMP_NUM_THREADS": 1,
                   "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"}  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    hook = hook_at(f"command:{sys.executable} {SCRIPT}", frozenset({Can.SPLIT}), "")
    hook.pace = 0.0
    words, near = FolderGateway(tmp_path / "words"), FolderGateway(tmp_path / "near")
    gateway = OutsideGateway(words, near, hook, Published(MODEL, RULES))
    for version, name in enumerate("ab", 1):
        write_trained(tmp_path / name, seed=version)
        gateway.publish(candidate(name), version, tmp_path / name)
    made = Place(gateway, home, f"http://{listen}")
    yield made
    for file in (home / "servers").glob("*.json"):
        end(_record(home, file.stem)["pid"], "serve-model")
    if (home / "nginx.pid").exists():
        end(int((home / "nginx.pid").read_text()), "nginx")
    project.close()


def end(pid: int, name: str) -> None:
    """End a process of ours, if it is there still."""
    command = Path(f"/proc/{pid}/cmdline")
    if pid and command.exists() and name in command.read_text():
        os.kill(pid, signal.SIGTERM)


def test_a_release_by_shares_and_the_way_back(place: Place) -> None:
    place.go(LIVE_A)
    assert place.shares() == {1: 60}
    place.go(HALF)
    halves = place.shares()
    assert 15 < halves[2] < 45
    assert place.shares() == halves  # a customer stays
    more = [number for number in range(60) if place.ask(f"c{number}") == 2]
    place.go(Route(A, 1, "k3", Trial(B, 2, weight=0.75, salt="release-2")))
    assert {place.ask(f"c{number}") for number in more} == {2}
    place.go(Route(A, 1, "k4"))
    assert place.shares() == {1: 60}
    place.gateway.withdraw(MODEL, B)
    with pytest.raises(ModelUnusable, match="not published"):
        place.gateway.point(MODEL, Route(A, 1, "k5", Trial(B, 2, weight=0.5)))


def test_a_challenger_that_dies_is_said_and_the_champion_answers(place: Place) -> None:
    place.go(LIVE_A)
    place.go(HALF)
    os.kill(_record(place.home, B)["pid"], signal.SIGKILL)
    assert place.shares() == {1: 60}
    with pytest.raises(ModelUnusable, match="the server of version 2 ended"):
        place.gateway.confirmed(MODEL)
