"""Roll-outs under load: a real server process, real clients, and challengers that crash, hang and eat memory.

Takes how many requests, swaps and roll-backs; gives what failed, what the log lacks or has twice, and how long a
roll-back takes; never leaves a process running. The prediction log is held: an answer goes out when it is on disk.

    python benchmarks/rollout.py --requests 200000 --swaps 50 --rollbacks 20 --json rollout.json

Clients are processes with keep-alive connections that ask again when they are answered; every tenth request has three
rows, which a canary may split. Every swap mirrors and tries the next model before it goes live. A roll-back is timed
from the moment before `gateway.point` is called to the last answer that any client got from the model that was taken
back. Every route has a version of its own, so that each answer, and each row of the log, names its route.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import pandas as pd
import polars as pl
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
from everfit.ports import Route, Table, Trial
from everfit.retrain.candidate import Candidate, ModelFile
from everfit.serve.server import bind, run_server
from everfit.serve.serving import LogMode, Serving, Trying

MODEL, FEATURES = "bench", 8
NAMES = [f"x{number}" for number in range(FEATURES)]
CLIENT = Path(__file__).with_name("rollout_client.py")
COLUMNS = tuple(Column(name, Kind.NUMBER) for name in NAMES)
GOOD, MOODS = ("a", "b"), ("crash", "hang", "eat", "error", "slow")
ODDS = 0.02  # of a row that a bad challenger misbehaves on
MEMORY = 500 * 2**20  # bytes that a challenger may have here
FATAL = ("crash", "hang", "eat")
TRYING = Trying(hang=3.0, memory=MEMORY, pauses=(0.05, 0.2))
PATIENCE = 120.0  # seconds until something that must happen is taken for broken
DWELL = 0.25  # seconds that a route is under load before the next one


class Moody:
    """A challenger that misbehaves on some rows."""

    def __init__(self, mood: str) -> None:
        self.mood = mood
        self.kept: list[Any] = []

    def predict_proba(self, rows: pd.DataFrame) -> Any:
        import os  # noqa: PLC0415 - it is pickled by value, without this module
        import signal  # noqa: PLC0415
        import time  # noqa: PLC0415

        if (rows["x0"] > 2.05).any():  # 2 % of normal values
            match self.mood:
                case "crash":
                    os.kill(os.getpid(), signal.SIGSEGV)
                case "hang":
                    time.sleep(3600)
                case "eat":
                    self.kept.append(np.ones(2**27))
                    time.sleep(3600)
                case "slow":
                    time.sleep(0.3)
                case _:
                    raise ValueError("not today")
        return np.full((len(rows), 2), 0.5)

    def predict(self, rows: pd.DataFrame) -> Any:
        return np.zeros(len(rows), dtype=int)


# ---- the server ------------------------------------------------------------------------------------------------------
def serve(root: Path) -> None:
    configure("warning", json=True)
    journal = SqliteJournal(root / "journal.db")
    rules = Rules("binary", target="y", time="at", id="id")
    clock_file = root / "clock.json"
    told = Serving(
        MODEL, "binary", rules, root / "serving", journal, load_model, WallClock(), clock_file,
        log=LogMode.HELD, key="customer", trying=TRYING,
    )  # fmt: skip
    run_server([told], bind("127.0.0.1", 0))
    journal.close()


@dataclass
class World:
    """A server under load, and the routes that it was given."""

    root: Path
    gateway: FolderGateway
    process: subprocess.Popen[bytes]
    step: int = 0
    live: str = "a"
    troubles: list[str] = field(default_factory=list)
    taken_back: dict[int, tuple[str, float]] = field(default_factory=dict)  # version: how, and when

    def point(self, live: str, trial: tuple[str, float, float] | None = None) -> int:
        """Send a route of its own version; the version of the model that is new in it."""
        self.step += 1
        route = Route(candidate(live).id, self.step, f"step-{self.step}")
        if trial is not None:
            name, weight, mirror = trial
            tried = Trial(candidate(name).id, self.step + 1, weight, mirror, f"r-{self.step}")
            route = Route(route.candidate, self.step, route.key, tried)
            self.step += 1
        self.gateway.point(MODEL, route)
        return self.step

    def confirm(self) -> None:
        until(lambda: self.gateway.confirmed(MODEL), "a route was not confirmed")


def until(true: Callable[[], bool], said: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise SystemExit(said)
        time.sleep(0.005)


def candidate(name: str) -> Candidate:
    schema, classes = Schema(COLUMNS, ("0", "1")), ("0", "1")
    return Candidate(name, ModelFile(name, "skops", 1), "binary", schema, classes, "1", datetime.now(UTC), 4_000)


def train(root: Path) -> None:
    chance = np.random.default_rng(7)
    values = chance.normal(size=(4_000, FEATURES)).round(6)
    frame = pd.DataFrame(values, columns=NAMES)
    sample = pl.DataFrame(values, schema=NAMES, orient="row")
    meta = Meta("binary", COLUMNS, ("0", "1"), "1")
    for number, name in enumerate(GOOD):
        said = (values[:, number] + chance.normal(size=len(values)) > 0).astype(int)
        model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(frame, said)
        write_model(model, root / "shelf" / name, meta, sample)
    for mood in MOODS:
        write_model(Moody(mood), root / "shelf" / mood, meta, sample.filter(pl.col("x0") < 2))
    gateway = FolderGateway(root / "serving")
    for name in (*GOOD, *MOODS):
        gateway.publish(candidate(name), 1, root / "shelf" / name)
    (root / "bodies.json").write_text(json.dumps(values[:1000].tolist()))


@contextmanager
def running(root: Path) -> Iterator[World]:
    gateway = FolderGateway(root / "serving")
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    with (root / "server.log").open("ab") as said:
        process = subprocess.Popen([sys.executable, __file__, "--serve", root], stdout=said, stderr=said, env=environ)
    world = World(root, gateway, process, step=1000 * len(list(root.glob("told-*"))))
    try:
        world.point(world.live)
        until(lambda: bool(gateway.servers(MODEL)) or process.poll() is not None, "no server came up")
        if process.poll() is not None:
            raise SystemExit((root / "server.log").read_text()[-2000:])
        world.confirm()
        yield world
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


@contextmanager
def loaded(world: World, name: str, clients: int, connections: int) -> Iterator[Callable[[], int]]:
    """Clients that ask until the end of the block; how many requests were answered so far."""
    root, port = world.root, str(world.gateway.servers(MODEL)[0]["port"])
    names = [f"{name}{number}" for number in range(clients)]
    started = [subprocess.Popen([sys.executable, CLIENT, root, port, each, str(connections)]) for each in names]

    def count() -> int:
        files = [root / f"count-{each}" for each in names]
        return sum(int(file.read_text()) for file in files if file.exists())

    until(lambda: count() > 0, "no client was answered")
    yield count
    for each in names:
        (root / f"stop-{each}").touch()
    for process in started:
        process.wait(PATIENCE)


# ---- the story -------------------------------------------------------------------------------------------------------
def swap(world: World) -> None:
    """The next good model: mirrored, tried, live."""
    following = GOOD[1 - GOOD.index(world.live)]
    for weight, mirror in ((0.0, 1.0), (0.1, 0.5), (0.5, 0.0)):
        world.point(world.live, (following, weight, mirror))
        world.confirm()
        time.sleep(DWELL / 2)
    world.point(following)
    world.live = following
    world.confirm()
    time.sleep(DWELL)


def roll_back(world: World, how: str) -> None:
    """Try something bad, or go live and regret it, and go back."""
    following = GOOD[1 - GOOD.index(world.live)]
    if how == "live":
        version = world.point(following)
        world.confirm()
    elif how == "under way":
        version = world.point(following)  # and back before anybody can have followed
    else:
        version = world.point(world.live, (following if how == "canary" else how, 0.5, 0.2))
        before = deaths_in(world.root).total()
        world.confirm()
        if how in FATAL:
            until(lambda: deaths_in(world.root).total() > before, f"the challenger that {how}s lives on")
    if how != "under way":
        time.sleep(DWELL)
    world.taken_back[version] = how, time.monotonic()
    world.point(world.live)
    time.sleep(DWELL)


def play(world: World, swaps: int, rollbacks: int) -> None:
    ways = ("canary", "crash", "live", "hang", "under way", "eat", "error", "slow")
    for number in range(max(swaps, rollbacks)):
        if number < swaps:
            swap(world)
        if number < rollbacks:
            roll_back(world, ways[number % len(ways)])


def judged(world: World) -> dict[str, Any]:
    """What the clients were told, beside what the log says."""
    told = [orjson.loads(file.read_bytes()) for file in sorted(world.root.glob("told-*.json"))]
    rows = [tuple(row) for each in told for row in each["rows"]]
    failures = [said for each in told for said in each["failures"]]
    answered = pl.DataFrame(
        rows, schema={"_id": pl.String, "version": pl.Int64, "score": pl.Float64, "when": pl.Float64}, orient="row"
    )
    logged, shadow = (log_of(world.root, table) for table in (Table.PREDICTIONS, Table.SHADOW))
    paired = answered.join(logged, on="_id", how="left")
    same = (pl.col("version") == pl.col("_version")) & (pl.col("score") == pl.col("_score").list.get(1))
    back = {
        version: max(0.0, (answered.filter(version=version)["when"].max() or 0.0) - when) * 1000  # type: ignore[operator]
        for version, (_, when) in world.taken_back.items()
    }
    found = sorted(back.values())
    return {
        "requests": sum(each["requests"] for each in told),
        "rows": answered.height,
        "failed": len(failures),
        "failures": failures[:3],
        "routes": world.step,
        "logged_twice": logged.height - logged["_id"].n_unique(),
        "answered_not_logged": paired["_version"].null_count(),
        "logged_not_answered": logged.join(answered, on="_id", how="anti").height,
        "logged_otherwise": paired.filter(pl.col("_version").is_not_null() & ~same).height,
        "by_variant": dict(logged["_variant"].value_counts().iter_rows()),
        "rollback_ms": {
            "count": len(found), "p50": quantile(found, 0.5), "p99": quantile(found, 0.99),
            "by_way": {how: round(back[version], 1) for version, (how, _) in world.taken_back.items()},
        },
        "shadow": {str(why): count for why, count in counts_of(shadow)},
    }  # fmt: skip


def counts_of(shadow: pl.DataFrame) -> list[tuple[str | None, int]]:
    return list(shadow["_failed"].value_counts().iter_rows()) if shadow.height else []


def quantile(values: Sequence[float], share: float) -> float:
    return round(float(np.quantile(values, share, method="higher")), 1) if values else 0.0


def log_of(root: Path, table: Table) -> pl.DataFrame:
    wanted = {
        Table.PREDICTIONS: ["_id", "_version", "_variant", "_score"],
        Table.SHADOW: ["_id", "_version", "_failed"],
    }[table]
    journal = SqliteJournal(root / "journal.db")
    try:
        frames = [batch.rows.select(wanted) for batch in journal.waiting(10**9) if batch.table is table]
    finally:
        journal.close()
    return pl.concat(frames) if frames else pl.DataFrame()


def killed(root: Path, clients: int, connections: int) -> dict[str, int]:
    """Kill the server under load; what was acknowledged must be in the log."""
    with running(root) as world, loaded(world, "k", clients, connections) as count:
        world.point(world.live, (GOOD[1], 0.3, 0.5))
        world.confirm()
        before = count()
        until(lambda: count() > before + 500, "no load")
        world.process.send_signal(signal.SIGKILL)
        world.process.wait(60)
        for number in range(clients):
            (root / f"stop-k{number}").touch()
    told = [orjson.loads(file.read_bytes()) for file in root.glob("told-k*.json")]
    ids = pl.DataFrame({"_id": [row[0] for each in told for row in each["rows"]]})
    logged = log_of(root, Table.PREDICTIONS)
    return {"acknowledged": ids.height, "lost": ids.join(logged, on="_id", how="anti").height}


def main() -> None:
    """Run it all, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000, help="at least so many")
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--rollbacks", type=int, default=20)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--connections", type=int, default=8, help="of each client")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.serve:
        serve(told.serve)
        return
    with TemporaryDirectory() as folder:
        root = Path(folder)
        train(root)
        began = time.monotonic()
        with running(root) as world, loaded(world, "c", told.clients, told.connections) as count:
            play(world, told.swaps, told.rollbacks)
            while count() < told.requests:
                time.sleep(0.2)
            took = time.monotonic() - began
        result = judged(world) | {"seconds": round(took, 1), "deaths": deaths_in(root)}
        result["kill_9"] = killed(root, told.clients, told.connections)
    print(json.dumps(result, indent=1))
    if told.json:
        told.json.write_text(json.dumps(result))


def deaths_in(root: Path) -> Counter[str]:
    """How the challengers' processes ended, from the server's log."""
    lines = (root / "server.log").read_text().splitlines(keepends=True)
    found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]
    return Counter(each["reason"] for each in found if "process ended" in each.get("event", ""))


if __name__ == "__main__":
    main()
