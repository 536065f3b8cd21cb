"""Requests a second and latency of Everfit's server beside MLflow's and MLServer's, in one run.

Takes seconds, rounds and connections; gives a table in Markdown and `--json FILE`; never leaves a server running. The
model is one: scikit-learn's histogram gradient boosting, 100 trees, 30 features, one row a request. Everfit logs every
prediction to its journal on disk and counts every request; the peers log nothing. Each peer lives in an environment of
its own, which this script makes (`--venvs DIR`).

    python benchmarks/serving.py --seconds 5 --rounds 3 --json serving.json

Load comes from another process over raw keep-alive sockets: each connection asks again when its answer is complete.
The three servers are asked in turn, round by round, so that whatever else the machine does meets all of them; the
table has the median of rounds. CPU is the server's own, all its processes, per request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import psutil
import sklearn
import uvloop
from sklearn.ensemble import HistGradientBoostingClassifier

from everfit.adapters.frames import Meta
from everfit.adapters.gateway import FolderGateway
from everfit.adapters.journal import SqliteJournal
from everfit.adapters.models import load as load_model
from everfit.adapters.models import write_model
from everfit.adapters.telemetry import configure
from everfit.clock import WallClock
from everfit.observe.intake import Rules
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.ports import Route
from everfit.retrain.candidate import Candidate, ModelFile
from everfit.serve.server import bind, run_server
from everfit.serve.serving import Serving

FEATURES, BODIES = 30, 256
PEERS = {
    "mlflow": ("mlflow==3.17.2",),
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop<0.22", "setuptools<80"),
}
# One thread for each model: threads of OpenMP only fight over the cores. Given to all servers.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
INVOCATIONS, INFER = "/invocations", "/v2/models/bench/infer"


@dataclass(frozen=True)
class Shot:
    """What one round of one server gave."""

    server: str
    protocol: str
    connections: int
    requests: float  # a second
    p50: float  # milliseconds
    p99: float
    cpu: float  # microseconds of the server's processor a request
    failed: int


# ---- load, in a process of its own -----------------------------------------------------------------------------------
class Connection(asyncio.Protocol):
    """Asks, reads the whole answer, asks again."""

    def __init__(self, requests: list[bytes], at: int, until: float, ended: asyncio.Future[None]) -> None:
        self.requests, self.at, self.until, self.ended = requests, at, until, ended
        self.latencies: list[float] = []
        self.failed = 0
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.at = (self.at + 1) % len(self.requests)
        self.began = time.perf_counter()
        self.transport.write(self.requests[self.at])

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        place = head.find(b"content-length:")
        length = int(head[place + 15 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return
        now = time.perf_counter()
        self.latencies.append(now - self.began)
        self.failed += b" 200 " not in head[:20]
        self.buffer = b""
        if now < self.until:
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.failed += error is not None
        if not self.ended.done():
            self.ended.set_result(None)


async def press(port: int, requests: list[bytes], connections: int, seconds: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    until, made, ends = time.perf_counter() + seconds, [], []
    for place in range(connections):
        ends.append(loop.create_future())
        made.append(Connection(requests, place * 7, until, ends[-1]))
        await loop.create_connection(lambda one=made[-1]: one, "127.0.0.1", port)
    began = time.perf_counter()
    await asyncio.gather(*ends)
    latencies = sorted(each for connection in made for each in connection.latencies)
    took = time.perf_counter() - began
    return {
        "requests": len(latencies) / took,
        "count": len(latencies),
        "p50": latencies[len(latencies) // 2] * 1e3,
        "p99": latencies[int(len(latencies) * 0.99)] * 1e3,
        "failed": sum(connection.failed for connection in made),
    }


def load(port: int, path: str, bodies: Path, connections: int, seconds: float) -> None:

    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: "
    requests = [f"{head}{len(body)}\r\n\r\n{body}".encode() for body in json.loads(bodies.read_text())]
    print(json.dumps(uvloop.run(press(port, requests, connections, seconds))))


# ---- the model, for every server -------------------------------------------------------------------------------------
def train(folder: Path) -> tuple[Any, list[list[float]]]:
    """The model, saved for each server, and rows to ask it."""

    chance = np.random.default_rng(7)
    names = [f"x{number}" for number in range(FEATURES)]
    values = chance.normal(size=(10_000, FEATURES)).round(6)
    said = values[:, :6].sum(axis=1) + values[:, 6] * values[:, 7] + chance.normal(size=len(values)) > 0
    model = HistGradientBoostingClassifier(random_state=0).fit(pd.DataFrame(values, columns=names), said.astype(int))
    meta = Meta("binary", tuple(Column(name, Kind.NUMBER) for name in names), ("0", "1"), "1")
    write_model(model, folder / "shelf", meta, pl.DataFrame(values, schema=names, orient="row"))
    plain = HistGradientBoostingClassifier(random_state=0).fit(values, said.astype(int))
    (folder / "mlserver").mkdir()
    joblib.dump(plain, folder / "mlserver" / "model.joblib")
    joblib.dump(model, folder / "model.joblib")
    rows = values[:BODIES].tolist()
    split = [json.dumps({"dataframe_split": {"columns": names, "data": [row]}}) for row in rows]
    tensor = {"name": "x", "shape": [1, FEATURES], "datatype": "FP64"}
    v2 = [json.dumps({"inputs": [{**tensor, "data": row}]}) for row in rows]
    (folder / "invocations.json").write_text(json.dumps(split))
    (folder / "infer.json").write_text(json.dumps(v2))
    expected: list[int] = plain.predict(values[:BODIES]).tolist()
    return expected, rows


def everfit_server(root: Path) -> None:
    """The server as `everfit up` runs it: the journal on disk, metrics on."""

    configure("info", json=True)
    journal = SqliteJournal(root / "journal.db")
    rules = Rules("binary", target="y", time="at")
    clock = WallClock()
    serving = Serving("bench", "binary", rules, root / "serving", journal, load_model, clock, root / "clock.json")
    run_server([serving], bind("127.0.0.1", 0))
    journal.close()


def publish(root: Path) -> None:

    schema = Schema(tuple(Column(f"x{number}", Kind.NUMBER) for number in range(FEATURES)), ("0", "1"))
    made = Candidate("c1", ModelFile("c1", "skops", 1), "binary", schema, ("0", "1"), "1", datetime.now(UTC), 10_000)
    gateway = FolderGateway(root / "serving")
    gateway.publish(made, 1, root / "shelf")
    gateway.point("bench", Route(made.id, 1, "cause"))


# ---- servers ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    port: int
    pid: int


def environment(venvs: Path, name: str) -> Path:
    """The peer's own environment; made once."""

    python = venvs / name / "bin" / "python"
    wanted = [*PEERS[name], f"scikit-learn=={sklearn.__version__}"]
    note = venvs / name / "wanted.json"
    if not note.exists() or json.loads(note.read_text()) != wanted:
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, venvs / name], check=True)
        subprocess.run([uv, "pip", "install", "-q", "-p", python, *wanted], check=True)
        note.write_text(json.dumps(wanted))
    return python


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(name: str, command: list[str | Path], port: Callable[[], int | None], log: Path) -> Iterator[Server]:
    environ = {**os.environ, **THREADS, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=environ, cwd=log.parent, start_new_session=True
        )
    try:
        end = time.monotonic() + 120
        while (found := port()) is None or not answers(found):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{name} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield Server(name, found, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def answers(port: int) -> bool:
    return any(is_well(f"http://127.0.0.1:{port}{path}") for path in ("/v2/health/ready", "/ping"))


def is_well(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def start_everfit(root: Path) -> Any:
    publish(root)

    def port() -> int | None:
        files = list((root / "serving" / "bench" / "servers").glob("*.json"))
        return int(json.loads(files[0].read_bytes())["port"]) if files else None

    return running("everfit", [sys.executable, __file__, "--serve", root], port, root / "everfit.log")


def start_mlflow(root: Path, python: Path) -> Any:
    saving = (
        "import joblib, mlflow, sys; "
        "mlflow.sklearn.save_model(joblib.load(sys.argv[1]), sys.argv[2], serialization_format='cloudpickle')"
    )
    subprocess.run(
        [python, "-c", saving, root / "model.joblib", root / "mlflow"], check=True, stderr=subprocess.DEVNULL
    )
    port = free_port()
    command = [
        python,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        root / "mlflow",
        "-p",
        str(port),
        "--env-manager",
        "local",
    ]
    # It starts its web server by name: that of its own environment must be found first.
    command = ["env", f"PATH={python.parent}:{os.environ['PATH']}", *command]
    return running("mlflow", command, lambda: port, root / "mlflow.log")


def start_mlserver(root: Path, python: Path, workers: int) -> Any:
    ports = [free_port() for _ in range(3)]
    folder = root / "mlserver"
    settings = {"http_port": ports[0], "grpc_port": ports[1], "metrics_port": ports[2], "parallel_workers": workers}
    model = {
        "name": "bench",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
        "max_batch_size": 64,
        "max_batch_time": 0.002,
    }
    (folder / "settings.json").write_text(json.dumps(settings | {"debug": False, "host": "127.0.0.1"}))
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [python.with_name("mlserver"), "start", folder]
    return running("mlserver", command, lambda: ports[0], root / "mlserver.log")


# ---- measuring -------------------------------------------------------------------------------------------------------
def cpu_of(pid: int) -> float:
    """Seconds of processor that a server and its children used."""

    top = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:2]) for each in [top, *top.children(recursive=True)])


def shoot(server: Server, protocol: str, root: Path, connections: int, seconds: float) -> Shot:
    path = {"invocations": INVOCATIONS, "infer": INFER}[protocol]
    before = cpu_of(server.pid)
    told = subprocess.run(
        [
            sys.executable,
            __file__,
            "--load",
            str(server.port),
            path,
            root / f"{protocol}.json",
            *map(str, (connections, seconds)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    result = json.loads(told.stdout)
    cpu = (cpu_of(server.pid) - before) / result["count"] * 1e6
    return Shot(
        server.name, protocol, connections, result["requests"], result["p50"], result["p99"], cpu, result["failed"]
    )


def check(server: Server, protocol: str, root: Path, expected: list[int]) -> None:
    """All servers must give the model's own answers, or nothing is compared."""
    path = {"invocations": INVOCATIONS, "infer": INFER}[protocol]
    for place, body in enumerate(json.loads((root / f"{protocol}.json").read_text())[:20]):
        asked = urllib.request.Request(
            f"http://127.0.0.1:{server.port}{path}", body.encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked) as answer:
            told = json.loads(answer.read())
        found = told["predictions"][0] if protocol == "invocations" else told["outputs"][0]["data"][0]
        assert int(found) == expected[place], f"{server.name} answered {found}, the model says {expected[place]}"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def client_limit(seconds: float, root: Path) -> float:
    """Requests a second of the load itself against a server that does nothing."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    code = (
        "import asyncio, uvloop, sys\n"
        "class P(asyncio.Protocol):\n"
        "    def connection_made(self, t): self.t = t\n"
        f"    def data_received(self, d): self.t.write({answer!r})\n"
        "async def main():\n"
        "    s = await asyncio.get_running_loop().create_server(P, '127.0.0.1', int(sys.argv[1]))\n"
        "    await s.serve_forever()\n"
        "uvloop.run(main())\n"
    )
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", code, str(port)], stderr=subprocess.DEVNULL)
    try:
        while not listens(port):
            time.sleep(0.1)
        return shoot(Server("nothing", port, process.pid), "invocations", root, 64, seconds).requests
    finally:
        process.kill()
        process.wait()


def measure(arguments: argparse.Namespace, root: Path) -> tuple[list[Shot], float]:
    expected, _ = train(root)
    pythons = {name: environment(arguments.venvs.resolve(), name) for name in PEERS}
    shots: list[Shot] = []
    limit = client_limit(min(arguments.seconds, 2), root)
    with (
        start_everfit(root) as ours,
        start_mlflow(root, pythons["mlflow"]) as mlflow,
        start_mlserver(root, pythons["mlserver"], arguments.mlserver_workers) as mlserver,
    ):
        pairs = [(ours, "invocations"), (mlflow, "invocations"), (ours, "infer"), (mlserver, "infer")]
        for server, protocol in pairs:
            check(server, protocol, root, expected)
            shoot(server, protocol, root, 16, 1)  # warm
        for connections, _, (server, protocol) in product(arguments.connections, range(arguments.rounds), pairs):
            shots.append(shoot(server, protocol, root, connections, arguments.seconds))
            print(shots[-1], file=sys.stderr, flush=True)
    return shots, limit


def middle(shots: list[Shot]) -> list[Shot]:
    kinds = dict.fromkeys((each.server, each.protocol, each.connections) for each in shots)
    found = []
    for kind in kinds:
        some = [each for each in shots if (each.server, each.protocol, each.connections) == kind]
        figures = [median(getattr(each, name) for each in some) for name in ("requests", "p50", "p99", "cpu")]
        found.append(Shot(*kind, *figures, sum(each.failed for each in some)))
    return found


def ratios(shots: list[Shot], peer: str, protocol: str) -> dict[str, float]:
    rates = {(each.server, each.protocol, each.connections): each.requests for each in shots}
    counts = sorted({each.connections for each in shots})
    return {str(n): round(rates["everfit", protocol, n] / rates[peer, protocol, n], 2) for n in counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--mlserver-workers", type=int, default=0, help="0 scores in the server's own process")
    parser.add_argument("--venvs", type=Path, default=Path(".cache/benchmarks"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return everfit_server(arguments.serve)
    if arguments.load:
        port, path, bodies, connections, seconds = arguments.load
        return load(int(port), path, Path(bodies), int(connections), float(seconds))
    with TemporaryDirectory() as folder:
        shots, limit = measure(arguments, Path(folder))
    rows = middle(shots)
    told = {
        "vs_mlflow": ratios(rows, "mlflow", "invocations"),
        "vs_mlserver": ratios(rows, "mlserver", "infer"),
        "rows": [asdict(each) for each in rows],
        "client_limit": limit,
    }
    print("| server | protocol | connections | requests/s | p50 ms | p99 ms | CPU us a request | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for each in rows:
        print(
            f"| {each.server} | {each.protocol} | {each.connections} | {each.requests:,.0f} | {each.p50:.1f} "
            f"| {each.p99:.1f} | {each.cpu:.0f} | {each.failed} |"
        )
    print(f"\nEverfit over MLflow: {told['vs_mlflow']}; over MLServer: {told['vs_mlserver']}. "
          f"The load alone reaches {limit:,.0f} requests a second.")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
