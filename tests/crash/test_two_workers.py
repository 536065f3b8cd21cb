"""Two workers on PostgreSQL: one is killed or paused in the middle of a step, the other takes over; nothing differs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from everfit.adapters.store import SqlStore
from everfit.ledger import verify
from tests.crash.flows_child import FileRegistry, ports_in
from tests.ports import postgres
from tests.world import FIRST, World, facts_of, spec_of

pytestmark = pytest.mark.postgres
HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres.server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@dataclass
class Site:
    """A project whose workers are processes."""

    folder: Path
    database: str
    stack: ExitStack

    def begin(self) -> None:
        """Begin a run that is to bring the first champion."""
        (self.folder / "parameters.json").write_text(json.dumps(FIRST))
        ports = ports_in(self.folder, database=self.database)
        world = World(ports, self.folder, spec_of(FIRST))
        world.learn()
        world.begin("renew-1")
        ports.ledger.close()  # type: ignore[attr-defined]  # the real one

    def start(self, name: str, how: str = "listens") -> subprocess.Popen[str]:
        """Start a worker; it is ended with the test."""
        command = [sys.executable, "-m", "tests.crash.worker_child", str(self.folder), self.database, name, how]
        environment = {**os.environ, "EVERFIT_LEASE": "2s", "OMP_NUM_THREADS": "1"}
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE, env=environment)
        self.stack.callback(worker.communicate)
        self.stack.callback(worker.kill)
        assert worker.stdout is not None
        return worker

    def may_end(self, name: str) -> None:
        """Let a worker's training come to its end."""
        (self.folder / f"go-{name}").touch()

    def found(self) -> dict[str, Any]:
        """What the ledger says, who wrote it, and how often traffic was pointed."""
        store = SqlStore(self.database)
        entries = store.read("m")
        verify(entries)
        store.close()
        routing = json.loads((self.folder / "serving" / "m" / "routing.json").read_text())
        versions = FileRegistry(self.folder / "registry.json").read()["versions"]
        return {"facts": facts_of(entries), "pointed": routing["keys"], "versions": versions}

    def writers(self) -> list[str]:
        """Who wrote each fact of the training run, in order."""
        store = SqlStore(self.database)
        by = [entry.by for entry in store.read("m", run="renew-1")]
        store.close()
        return by


@pytest.fixture
def site(server: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with ExitStack() as stack:
        yield make_site(server, tmp_path / "project", stack)


def make_site(server: str, folder: Path, stack: ExitStack) -> Site:
    """A project with a database of its own, in which a run was begun."""
    folder.mkdir()
    name = f"d{abs(hash(folder))}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    made = Site(folder, server.replace("/postgres?", f"/{name}?"), stack)
    made.begin()
    return made


@pytest.fixture(scope="module")
def unbroken(server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one worker brings that nothing happens to."""
    with ExitStack() as stack:
        site = make_site(server, tmp_path_factory.mktemp("unbroken") / "project", stack)
        site.may_end("one")
        assert site.start("one").wait(60) == 0
        return site.found()


def line(worker: subprocess.Popen[str]) -> str:
    """The next thing that a worker says."""
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def test_when_a_worker_is_killed_another_takes_over_after_its_lease(site: Site, unbroken: dict[str, Any]) -> None:
    dead = site.start("dead")
    assert line(dead) == "training"
    dead.send_signal(signal.SIGKILL)
    site.may_end("other")
    other = site.start("other")
    assert other.wait(60) == 0
    assert site.found() == unbroken
    assert site.writers() == ["worker", *["dead"] * 3, *["other"] * 4]


@pytest.mark.parametrize(
    "how, said",
    [
        pytest.param("listens", ["refused LeaseLost by the heart"], id="its trainer is stopped when it wakes"),
        pytest.param("deaf", ["refused LeaseLost CandidateTrained"], id="its trainer ends and the ledger refuses"),
        pytest.param("stumbles", [], id="its trainer fails because the other one cleared up and the run does not fail"),
    ],
)
def test_a_worker_that_slept_beyond_its_lease_writes_nothing(
    site: Site, unbroken: dict[str, Any], how: str, said: list[str]
) -> None:
    zombie = site.start("zombie", how)
    assert line(zombie) == "training"
    zombie.send_signal(signal.SIGSTOP)
    site.may_end("other")
    other = site.start("other")
    assert other.wait(60) == 0
    before = site.found()
    if how != "listens":
        site.may_end("zombie")
    zombie.send_signal(signal.SIGCONT)
    assert [line(zombie) for _ in [*said, "ended"]] == [*said, "ended"]
    assert zombie.wait(60) == 0
    assert before == site.found() == unbroken
    assert site.writers() == ["worker", *["zombie"] * 3, *["other"] * 4]
