"""A real server process with real models and the real journal: swaps under load, ends, and kills."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pytest

from everfit.adapters.boosting import gradient_boosting
from everfit.adapters.frames import Framing, Meta, categories_in
from everfit.adapters.gateway import FolderGateway
from everfit.adapters.journal import SqliteJournal
from everfit.adapters.models import write_model
from everfit.errors import UsageError
from everfit.ports import Route, Table, Trial
from everfit.serve.server import bind
from tests.unit.serve.fakes import MODEL, ROW, SCHEMA, candidate, until

WAIT = 30.0


class Server:
    """A child process and how to ask it."""

    def __init__(self, root: Path, log: str = "async", *more: str) -> None:
        command = [sys.executable, "-m", "tests.ports.serving_process", str(root), log, *more]
        self.said = (root / "server.log").open("w+b")
        self.process = subprocess.Popen(command, stderr=self.said, stdout=self.said)
        self.file = root / "serving" / MODEL / "servers" / f"{self.process.pid}.json"
        until(lambda: self.file.exists() or self.process.poll() is not None, WAIT)
        assert self.process.poll() is None, (root / "server.log").read_text()
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{json.loads(self.file.read_bytes())['port']}", timeout=WAIT
        )

    def ask(self, name: str) -> httpx.Response:
        return self.client.post("/invocations", json={"dataframe_records": [{**ROW, "flight": name}]})

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT)

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT)
        self.said.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def begin(log: str = "async") -> Server:
        started.append(Server(tmp_path, log))
        return started[-1]

    yield begin
    for server in started:
        server.close()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained models of different rows, and one whose bytes are broken."""
    home = tmp_path_factory.mktemp("shelf")
    write_trained(home / "1", seed=1)
    write_trained(home / "2", seed=2)
    write_trained(home / "broken", seed=3)
    (home / "broken" / "model.skops").write_bytes(b"nonsense")
    return home


def write_trained(folder: Path, *, seed: int) -> None:
    chance = np.random.default_rng(seed)
    distance, carrier = chance.normal(size=200), chance.choice(["UA", "AA"], 200)
    rows = pl.DataFrame({"distance": distance, "carrier": carrier, "night": chance.random(200) > 0.5})
    meta = Meta("binary", SCHEMA.features, ("false", "true"), "true")
    frame = Framing(meta, categories_in(rows, SCHEMA.features)).build(rows)
    assert isinstance(frame, pd.DataFrame)
    frame["late"] = distance > 0
    model = gradient_boosting(frame, target="late", seed=seed, task="binary", max_iter=5)
    write_model(model, folder, meta, rows)


def release(root: Path, folder: Path, version: int) -> None:
    gateway = FolderGateway(root / "serving")
    made = candidate(folder.name)
    gateway.publish(made, version, folder)
    gateway.point(MODEL, Route(made.id, version, f"cause-{version}"))


def logged(root: Path, table: Table) -> list[str]:
    journal = SqliteJournal(root / "journal.db")
    try:
        frames = [batch.rows for batch in journal.waiting(10**9) if batch.table is table]
    finally:
        journal.close()
    return [name for frame in frames for name in frame["_id"].to_list()]


class Load:
    """Callers that ask without a pause until they are told to stop."""

    def __init__(self, server: Server, callers: int = 3) -> None:
        self.answers: list[list[tuple[str, int]]] = [[] for _ in range(callers)]
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(server, place)) for place in range(callers)]
        for thread in self._threads:
            thread.start()

    def _call(self, server: Server, place: int) -> None:
        while not self._stop.is_set():
            name = f"{place}-{len(self.answers[place])}"
            try:
                answer = server.ask(name)
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
                return
            if answer.status_code != 200:
                self.failures.append(answer.text)
                return
            self.answers[place].append((name, answer.json()["model"]["version"]))

    def wait_for(self, version: int) -> None:
        """Until every caller was answered by this version, or somebody failed."""
        until(lambda: all(each and each[-1][1] == version for each in self.answers) or bool(self.failures), WAIT)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WAIT)


def test_models_are_swapped_under_load_without_a_failed_request(
    tmp_path: Path, shelf: Path, start: Callable[..., Server]
) -> None:
    gateway = FolderGateway(tmp_path / "serving")
    release(tmp_path, shelf / "1", 1)
    server = start()
    until(lambda: gateway.confirmed(MODEL), WAIT)
    load = Load(server)
    for version in range(2, 8):
        release(tmp_path, shelf / str(version % 2 + 1), version)
        until(lambda: gateway.confirmed(MODEL), WAIT)
        load.wait_for(version)
    release(tmp_path, shelf / "broken", 8)
    until(lambda: bool(gateway.servers(MODEL)[0]["error"]), WAIT)
    assert not gateway.confirmed(MODEL)
    release(tmp_path, shelf / "1", 9)
    load.wait_for(9)
    load.stop()
    assert load.failures == []
    for answers in load.answers:
        seen = [version for _, version in answers]
        assert seen == sorted(seen)
        assert set(seen) <= {*range(1, 8), 9}
    assert server.end(signal.SIGTERM) == 0
    assert gateway.servers(MODEL) == []
    assert sorted(logged(tmp_path, Table.PREDICTIONS)) == sorted(name for each in load.answers for name, _ in each)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ending_server_writes_down_all_that_it_answered(
    tmp_path: Path, shelf: Path, start: Callable[..., Server], number: signal.Signals
) -> None:
    release(tmp_path, shelf / "1", 1)
    server = start()
    until(lambda: server.client.get("/ping").status_code == 200, WAIT)
    names = [f"f{place}" for place in range(100)]
    for name in names:
        assert server.ask(name).status_code == 200
    assert server.end(number) == 0
    assert not server.file.exists()
    assert logged(tmp_path, Table.PREDICTIONS) == names


@pytest.mark.parametrize(
    ("after", "weight"),
    [
        pytest.param(5, 0.0, id="after 5"),
        pytest.param(90, 0.0, id="after 90"),
        pytest.param(40, 0.5, id="after 40, while a challenger is tried"),
    ],
)
def test_a_killed_server_loses_nothing_that_it_acknowledged(
    tmp_path: Path, shelf: Path, start: Callable[..., Server], after: int, weight: float
) -> None:
    release(tmp_path, shelf / "1", 1)
    server = start("held")
    until(lambda: server.client.get("/ping").status_code == 200, WAIT)
    if weight:
        gateway, other = FolderGateway(tmp_path / "serving"), candidate("2")
        gateway.publish(other, 2, shelf / "2")
        gateway.point(MODEL, Route(candidate("1").id, 1, "trial", Trial(other.id, 2, weight, 1.0, "release-2")))
        until(lambda: gateway.confirmed(MODEL), WAIT)
    answered: list[str] = []
    taken: list[str] = []

    def repeat(send: Callable[[str], httpx.Response], kind: str, done: list[str]) -> None:
        for place in range(10_000):
            try:
                answer = send(f"{kind}{place}")
            except httpx.HTTPError:
                return
            assert answer.status_code == 200
            done.append(f"{kind}{place}")

    def label(name: str) -> httpx.Response:
        return server.client.post("/v1/labels", json=[{"flight": name, "late": True}])

    work: list[Any] = [(server.ask, "p", answered), (label, "l", taken), (label, "m", taken)]
    threads = [threading.Thread(target=repeat, args=each) for each in work]
    for thread in threads:
        thread.start()
    until(lambda: len(answered) + len(taken) >= after, WAIT)
    os.kill(server.process.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(WAIT)
    assert set(answered) <= set(logged(tmp_path, Table.PREDICTIONS))
    assert set(taken) <= set(logged(tmp_path, Table.LABELS))
    assert FolderGateway(tmp_path / "serving").confirmed(MODEL), "a dead server holds nothing up"


def test_an_address_that_is_taken_is_said_with_a_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="choose another"):
            bind("127.0.0.1", taken.getsockname()[1])


def test_a_host_that_is_not_ours_is_said() -> None:
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1"):
        bind("192.0.2.1", 0)
