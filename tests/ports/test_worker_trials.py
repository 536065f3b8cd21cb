"""`everfit serve --workers 2` while a challenger is tried: each worker has its own, and all agree on whose a key is."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import psutil
import pytest

from everfit.adapters.frames import Meta
from everfit.adapters.journal import SqliteJournal
from everfit.adapters.models import write_model
from everfit.ports import Route, Table, Trial
from everfit.rollout.split import key_of, variant_of
from tests.ports.test_server import write_trained
from tests.ports.test_workers import SPEC, WAIT, Serve, counted, release
from tests.unit.serve.fakes import ROW, SCHEMA, candidate, until

MODEL, SALT, WEIGHT = "flights", "release-2", 0.5
KEYS = [f"c{number}" for number in range(40)]
THEIRS = {key for key in KEYS if variant_of(key_of(key, ""), SALT, [("challenger", WEIGHT)]) == "challenger"}
MEMORY = "500MB"
MOODS = {"crash": 1001.0, "eat": 1002.0, "hang": 1003.0}


class Moody:
    """A challenger that does what a row's distance says, as `MOODS` names it."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def predict_proba(self, rows: pd.DataFrame) -> Any:
        import os  # noqa: PLC0415 - it is pickled by value, without this module
        import signal  # noqa: PLC0415
        import time  # noqa: PLC0415

        for distance in rows["distance"]:
            if distance == 1001:
                os.kill(os.getpid(), signal.SIGSEGV)
            if distance == 1002:
                self.kept.append(np.ones(2**27))
            if distance in {1002, 1003}:
                time.sleep(3600)
        return np.full((len(rows), 2), 0.5)

    def predict(self, rows: pd.DataFrame) -> Any:
        return np.zeros(len(rows), dtype=bool)


@dataclass
class Callers:
    """Callers on connections of their own, so that the system chooses the worker; one that breaks asks again."""

    server: Serve
    answered: dict[str, int] = field(default_factory=dict)  # version by id
    of_key: dict[str, set[int]] = field(default_factory=dict)
    broken: int = 0
    refused: list[str] = field(default_factory=list)
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, key: str, distance: float = 3.0) -> int:
        """The version that answered."""
        with self._lock:
            self._count += 1
            name = f"r{self._count}"
        row = {**ROW, "distance": distance, "flight": name, "customer": key}
        answer = httpx.post(
            f"{self.url}/endpoints/{MODEL}/invocations", json={"dataframe_records": [row]}, timeout=WAIT
        )
        if answer.status_code != 200:
            self.refused.append(answer.text)
            return 0
        version = int(answer.json()["model"]["version"])
        with self._lock:
            self.answered[name] = version
            self.of_key.setdefault(key, set()).add(version)
        return version

    def all_keys(self) -> dict[str, int]:
        """Each key twice: the versions."""
        return {key: self.ask(key) for key in [*KEYS, *KEYS]}

    def keep_asking(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for key in KEYS:
                try:
                    self.ask(key)
                except httpx.HTTPError:
                    self.broken += 1

    def __post_init__(self) -> None:
        self.url = self.server.url()


def children(server: Serve) -> dict[int, list[int]]:
    """The challengers' processes of each worker."""
    found: dict[int, list[int]] = {}
    for pid in server.pids():
        started = psutil.Process(pid).children()
        found[pid] = [each.pid for each in started if "everfit.serve.child" in " ".join(each.cmdline())]
    return found


def have_one_each(server: Serve, *, but: int = 0) -> bool:
    """Whether two workers have one challenger each, and none of them is `but`."""
    try:
        found = children(server)
    except psutil.Error:
        return False
    return len(found) == 2 and all(len(each) == 1 and but not in each for each in found.values())


def expected(*, challenger: int, champion: int = 1) -> dict[str, int]:
    return {key: challenger if key in THEIRS else champion for key in KEYS}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serve]:
    write_trained(tmp_path / "shelf" / "1", seed=1)
    sample = pl.DataFrame({"distance": [1.0, 2.0], "carrier": ["UA", "AA"], "night": [True, False]})
    write_model(Moody(), tmp_path / "shelf" / "2", Meta("binary", SCHEMA.features, ("false", "true"), "true"), sample)
    (tmp_path / MODEL).mkdir()
    (tmp_path / MODEL / "everfit.yaml").write_text(SPEC.format(name=MODEL) + "rollout: {key: customer}\n")
    release(tmp_path, MODEL, 1)
    environ = {"EVERFIT_PREDICTION_LOG": "held", "EVERFIT_CHALLENGER_MEMORY": MEMORY}
    made = Serve(tmp_path, "--workers", "2", models=(MODEL,), **environ)
    made.wait_for(2)
    yield made
    if made.process.poll() is None:
        os.killpg(made.process.pid, signal.SIGTERM)
        made.process.wait(WAIT)
    made.said.close()


def begin_trial(server: Serve) -> None:
    gateway = server.gateway(MODEL)
    made = candidate("other")
    gateway.publish(made, 2, server.root / "shelf" / "2")
    trial = Trial(made.id, 2, WEIGHT, 1.0, SALT)
    gateway.point(MODEL, Route(candidate(f"{MODEL}-1").id, 1, "trial", trial))
    until(lambda: gateway.confirmed(MODEL), WAIT)


def under_load(callers: Callers, story: Callable[[], None]) -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=callers.keep_asking, args=(stop,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        story()
    finally:
        stop.set()
        for thread in threads:
            thread.join(WAIT)


@pytest.mark.timeout(600)
def test_every_worker_tries_the_challenger_and_no_key_changes_sides(server: Serve) -> None:
    begin_trial(server)
    assert have_one_each(server)
    callers = Callers(server)
    until(
        lambda: callers.all_keys() == expected(challenger=2), WAIT
    )  # whichever is asked; a slow answer is the champion's

    # A worker killed under load: its successor registers before its challenger is warm, so nothing is confirmed yet.
    killed = server.pids()[0]

    def kill_a_worker() -> None:
        until(lambda: len(callers.answered) > 200, WAIT)
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(server.pids()) == 2 and killed not in server.pids(), WAIT)
        until(lambda: server.gateway(MODEL).confirmed(MODEL), WAIT)

    under_load(callers, kill_a_worker)
    assert callers.refused == []
    assert callers.broken <= 8, "only what the killed worker had in hand may break"
    assert {key: versions for key, versions in callers.of_key.items() if key not in THEIRS} == {
        key: {1} for key in KEYS if key not in THEIRS
    }, "no key of the champion's ever goes to the challenger"
    assert have_one_each(server)
    until(lambda: callers.all_keys() == expected(challenger=2), WAIT)

    # A roll-back reaches both; the processes go.
    gone = [pid for pids in children(server).values() for pid in pids]
    server.gateway(MODEL).point(MODEL, Route(candidate(f"{MODEL}-1").id, 1, "back"))
    until(lambda: server.gateway(MODEL).confirmed(MODEL), WAIT)
    assert set(callers.all_keys().values()) == {1}
    until(lambda: not any(map(psutil.pid_exists, gone)), WAIT)
    assert server.end() == 0, server.text()
    check_log(server, callers)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mood", MOODS)
def test_a_challenger_that_misbehaves_in_one_worker_is_started_again_there_alone(server: Serve, mood: str) -> None:
    begin_trial(server)
    before = {pid for pids in children(server).values() for pid in pids}
    callers = Callers(server)
    key = min(THEIRS)

    def misbehave() -> None:
        assert callers.ask(key, MOODS[mood]) == 1, "the champion answers"
        until(lambda: counted(server, "everfit_challenger_deaths_total") == 1, WAIT)
        until(lambda: have_one_each(server) and not {p for ps in children(server).values() for p in ps} <= before, WAIT)

    under_load(callers, misbehave)
    assert (callers.refused, callers.broken) == ([], 0), "nobody sees an error for a model that is only tried"
    assert len(before & {pid for pids in children(server).values() for pid in pids}) == 1
    until(lambda: callers.all_keys() == expected(challenger=2), WAIT)
    assert counted(server, "everfit_challenger_deaths_total") == 1
    assert server.end() == 0, server.text()
    check_log(server, callers)


def check_log(server: Serve, callers: Callers) -> None:
    """Every answer is logged once, as that of the version that the client was told."""
    journal = SqliteJournal(server.root / MODEL / ".everfit" / "journal.db")
    try:
        frames = [batch.rows for batch in journal.waiting(10**9) if batch.table is Table.PREDICTIONS]
    finally:
        journal.close()
    rows = [row for frame in frames for row in frame.select("_id", "_version").iter_rows()]
    assert max(Counter(name for name, _ in rows).values()) == 1
    logged = dict(rows)
    assert {name: logged.get(name) for name in callers.answered} == callers.answered
