"""`everfit serve`: several models and several processes behind one port, as a user starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.journal import SqliteJournal
from everfit.ports import Route, Table
from tests.ports.test_server import write_trained
from tests.unit.serve.fakes import ROW, candidate, until

SPEC = "model: {name}\ntask: binary\ntarget: late\ntime: scheduled\nid: flight\n"
MODELS = ("flights", "trains")
WAIT = 150.0  # seconds until a process is up, on a machine that does much else


class Serve:
    """A running `everfit serve`, and how to ask it."""

    def __init__(
        self, root: Path, *options: str, command: str = "serve", models: tuple[str, ...] = MODELS, **environ: str
    ) -> None:
        self.root, self.models = root, models
        folders = [str(root / name) for name in models]
        told = [sys.executable, "-m", "everfit", command, *folders, *options]
        self.said = (root / "said.txt").open("w+b")
        self.process = subprocess.Popen(
            told, stdout=self.said, stderr=self.said, env={**os.environ, "EVERFIT_PORT": "0", **environ},
            start_new_session=True,
        )  # fmt: skip

    def text(self) -> str:
        return (self.root / "said.txt").read_text()

    def gateway(self, model: str) -> FolderGateway:
        return FolderGateway(self.root / model / ".everfit" / "serving")

    def wait_for(self, many: int) -> None:
        """Until so many processes serve every model."""

        def up() -> bool:
            assert self.process.poll() is None, self.text()
            found = [self.gateway(model).servers(model) for model in self.models]
            return all(len(each) == many and all(server["key"] for server in each) for each in found)

        until(up, WAIT)

    def pids(self) -> list[int]:
        return [int(server["pid"]) for server in self.gateway(self.models[0]).servers(self.models[0])]

    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway(self.models[0]).servers(self.models[0])[0]['port']}"

    def ask(self, model: str, name: str) -> Any:
        """On a connection of its own, so that the system chooses the process."""
        body = {"dataframe_records": [{**ROW, "flight": name}]}
        return httpx.post(f"{self.url()}/endpoints/{model}/invocations", json=body, timeout=WAIT)

    def logged(self, model: str, table: Table = Table.PREDICTIONS) -> list[str]:
        journal = SqliteJournal(self.root / model / ".everfit" / "journal.db")
        try:
            frames = [batch.rows for batch in journal.waiting(10**9) if batch.table is table]
        finally:
            journal.close()
        return sorted(name for frame in frames for name in frame["_id"].to_list())

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serve]]:
    started: list[Serve] = []
    write_trained(tmp_path / "shelf" / "1", seed=1)
    for name in MODELS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "everfit.yaml").write_text(SPEC.format(name=name))
        release(tmp_path, name, 1)

    def begin(*options: str, **told: Any) -> Serve:
        started.append(Serve(tmp_path, *options, **told))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            os.killpg(each.process.pid, signal.SIGTERM)
            each.process.wait(WAIT)
        each.said.close()


def release(root: Path, model: str, version: int) -> None:
    gateway = FolderGateway(root / model / ".everfit" / "serving")
    made = candidate(f"{model}-1")
    gateway.publish(made, version, root / "shelf" / "1")
    gateway.point(model, Route(made.id, version, f"cause-{version}"))


def counted(serve: Serve, metric: str) -> float:
    """The sum of a counter over its labels, as one scrape says it."""
    text = httpx.get(f"{serve.url()}/metrics", timeout=WAIT).text
    return sum(float(value) for value in re.findall(rf"^{metric}{{.*}} (\S+)$", text, re.MULTILINE))


def test_workers_share_a_port_the_counters_and_the_journal(serve: Callable[..., Serve], tmp_path: Path) -> None:
    server = serve("--workers", "2")
    server.wait_for(2)
    first = server.pids()
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda n: server.ask(MODELS[n % 2], f"a{n}"), range(40)))
        labels = [{"flight": f"a{number}", "late": True} for number in range(20)]
        taken = list(
            callers.map(lambda row: httpx.post(f"{server.url()}/v1/models/flights/labels", json=[row]), labels)
        )
    assert [answer.status_code for answer in answers + taken] == [200] * 60
    assert {counted(server, "everfit_predictions_total") for _ in range(6)} == {40.0}, "whoever is asked says all"
    # A worker that is killed takes nothing with it but what it had in hand, and another comes in its place.
    os.kill(first[0], signal.SIGKILL)
    until(lambda: len(server.pids()) == 2 and first[0] not in server.pids(), WAIT)
    server.wait_for(2)
    assert [server.ask("flights", f"b{number}").status_code for number in range(20)] == [200] * 20
    assert counted(server, "everfit_predictions_total") == 60.0
    # A release is confirmed when every worker follows it.
    release(tmp_path, "flights", 2)
    until(lambda: server.gateway("flights").confirmed("flights"), WAIT)
    versions = [server.ask("flights", f"c{number}").json()["model"]["version"] for number in range(20)]
    assert set(versions) == {2}
    assert server.ask("trains", "c20").json()["model"]["version"] == 1
    assert server.end() == 0, server.text()
    flights = [f"a{number}" for number in range(0, 40, 2)] + [f"{kind}{n}" for kind in "bc" for n in range(20)]
    assert server.logged("flights", Table.LABELS) == sorted(f"a{number}" for number in range(20))
    lost = set(flights) - set(server.logged("flights"))
    assert lost <= {f"a{number}" for number in range(40)}, "only the killed worker's unheld rows may be missing"
    assert Counter(server.logged("trains"))["c20"] == 1
    assert [server.gateway(model).servers(model) for model in MODELS] == [[], []]


def test_one_process_serves_several_models(serve: Callable[..., Serve]) -> None:
    server = serve()
    server.wait_for(1)
    assert server.ask("flights", "a").json()["predictions"] == [True]
    assert server.ask("trains", "b").json()["predictions"] == [True]
    refused = httpx.post(f"{server.url()}/invocations", json={"dataframe_records": [ROW]})
    assert refused.status_code == 400
    assert "'flights', 'trains'" in refused.json()["error"]
    assert server.end() == 0, server.text()
    assert (server.logged("flights"), server.logged("trains")) == (["a"], ["b"])


def test_a_server_begins_while_its_database_is_away(serve: Callable[..., Serve]) -> None:
    server = serve(models=("flights",))
    server.wait_for(1)
    assert server.end() == 0
    (server.root / "flights" / ".everfit" / "ledger.db").write_bytes(b"no database")
    again = serve(models=("flights",))
    again.wait_for(1)
    assert again.ask("flights", "d").status_code == 200
    assert again.end() == 0


def test_a_second_server_in_a_folder_is_refused(serve: Callable[..., Serve]) -> None:
    server = serve(models=("flights",))
    server.wait_for(1)
    second = subprocess.run(
        [sys.executable, "-m", "everfit", "serve", str(server.root / "flights"), "--port", "0"],
        capture_output=True, text=True, check=False, timeout=WAIT,
    )  # fmt: skip
    assert second.returncode == 2
    assert "already runs" in second.stderr


def test_two_models_of_one_name_are_refused(serve: Callable[..., Serve]) -> None:
    server = serve(models=("flights", "flights"))
    assert server.process.wait(WAIT) == 2
    assert "different names" in server.text()


def test_up_starts_workers_too(serve: Callable[..., Serve]) -> None:
    server = serve("--role", "server", "--workers", "2", command="up", models=("flights",))
    server.wait_for(2)
    assert [server.ask("flights", f"u{number}").status_code for number in range(8)] == [200] * 8
    assert counted(server, "everfit_predictions_total") == 8.0
    assert server.end() == 0, server.text()
    assert server.logged("flights") == [f"u{number}" for number in range(8)]


def test_at_the_end_what_was_taken_is_answered_and_who_comes_is_refused_at_once(serve: Callable[..., Serve]) -> None:
    server = serve("--workers", "2", models=("flights",))
    server.wait_for(2)
    address = ("127.0.0.1", int(server.url().rpartition(":")[2]))
    body = json.dumps({"dataframe_records": [{**ROW, "flight": "last"}]}).encode()
    head = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    def is_refused() -> bool:
        try:
            socket.create_connection(address, WAIT).close()
        except ConnectionRefusedError:
            return True
        return False

    with socket.create_connection(address, WAIT) as taken:
        taken.sendall(head % len(body) + body[:10])
        until(lambda: server.ask("flights", "first").status_code == 200, WAIT)  # by then it is taken
        server.process.send_signal(signal.SIGTERM)
        until(is_refused, 8.0)
        assert server.process.poll() is None, "it waits for what it took"
        taken.sendall(body[10:])
        answer = taken.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert server.process.wait(WAIT) == 0, server.text()
    assert server.logged("flights") == ["first", "last"]
