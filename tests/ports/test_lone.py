"""A published model served alone by a real process, and the project's server that its rows are brought to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from everfit.adapters.journal import SqliteJournal
from everfit.adapters.published import Published, write_published
from everfit.app.lone import Bringer, failures_of
from everfit.client import connect
from everfit.errors import Unavailable
from everfit.ports import Batch, Table
from everfit.testing import MemoryJournal
from tests.ports.test_server import Server, write_trained
from tests.unit.serve.fakes import MODEL, ROW, RULES, until

WAIT = 30.0
TOLD = Published(MODEL, RULES, None, "c1", 3)
NOW = datetime(2013, 2, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as a gateway publishes it."""
    made = tmp_path_factory.mktemp("published") / "c1"
    write_trained(made, seed=1)
    write_published(made, TOLD)
    return made


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "project").mkdir()
    made = Server(tmp_path / "project")
    yield made
    made.close()


class Lone:
    """`everfit serve-model`, and how to ask it."""

    def __init__(self, home: Path, folder: Path, events: str) -> None:
        command = [sys.executable, "-m", "everfit", "serve-model", str(folder), "--events", events, "--port", "0"]
        self.said = (home / "lone.log").open("w+b")
        ours = {"EVERFIT_STATE": str(home / "state"), "EVERFIT_PREDICTION_LOG": "held", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stderr=self.said, stdout=self.said, env={**os.environ, **ours})
        servers = home / "state" / "lone" / "c1" / "serving" / MODEL / "servers"
        self.file = servers / f"{self.process.pid}.json"
        until(lambda: self.process.poll() is not None or self._answers(), WAIT)
        assert self.process.poll() is None, (home / "lone.log").read_text()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self._told['port']}", timeout=WAIT)

    @property
    def _told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.file.read_bytes()) if self.file.exists() else {}
        return told

    def _answers(self) -> bool:
        return bool(self._told.get("key"))

    def ask(self, *names: str) -> dict[str, Any]:
        rows = [{**ROW, "flight": name, "scheduled": "2013-02-01T10:00:00Z"} for name in names]
        answer = self.client.post("/invocations", json={"dataframe_records": rows})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def end(self, number: signal.Signals) -> int:
        self.client.close()
        self.process.send_signal(number)
        code = self.process.wait(WAIT)
        self.said.close()
        return code


def brought(root: Path, table: Table) -> pl.DataFrame:
    """What the project's server has taken."""
    journal = SqliteJournal(root / "project" / "journal.db")
    try:
        frames = [batch.rows for batch in journal.waiting(10**9) if batch.table is table]
    finally:
        journal.close()
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame(schema={"_id": pl.String})


def test_what_it_answers_and_is_told_comes_to_the_project(tmp_path: Path, folder: Path, project: Server) -> None:
    lone = Lone(tmp_path, folder, str(project.client.base_url))
    answer = lone.ask("f1", "f2")
    assert (answer["model"]["version"], answer["model"]["candidate"]) == (3, "c1")
    assert lone.client.get(f"/v2/models/{MODEL}/ready").status_code == 200
    lone.client.post("/v1/labels", json=[{"flight": "f1", "late": True, "time": "2013-02-01T11:00:00Z"}])
    until(lambda: brought(tmp_path, Table.LABELS).height == 1, WAIT)
    lone.ask("f3")
    assert lone.end(signal.SIGTERM) == 0  # what was answered last is brought before it ends
    rows = brought(tmp_path, Table.PREDICTIONS)
    assert sorted(rows["_id"]) == ["f1", "f2", "f3"]
    assert set(rows["_model"]) == {"c1"}
    assert rows["_latency_ms"].min() > 0  # type: ignore[operator]  # numbers
    assert rows["_score"].list.len().to_list() == [2, 2, 2]
    assert {"distance", "carrier", "night"} <= set(rows.columns)
    label = brought(tmp_path, Table.LABELS).select("_id", "_label", "_arrived").row(0)
    assert label == ("f1", "true", datetime(2013, 2, 1, 11, tzinfo=UTC))


def test_it_answers_without_the_project_and_loses_nothing_that_it_held_when_killed(
    tmp_path: Path, folder: Path, project: Server
) -> None:
    alone = Lone(tmp_path, folder, "http://127.0.0.1:9")
    for name in ("f1", "f2"):
        alone.ask(name)
    alone.end(signal.SIGKILL)
    again = Lone(tmp_path, folder, str(project.client.base_url))
    until(lambda: brought(tmp_path, Table.PREDICTIONS).height == 2, WAIT)
    again.end(signal.SIGTERM)
    assert sorted(brought(tmp_path, Table.PREDICTIONS)["_id"]) == ["f1", "f2"]


@pytest.mark.parametrize(
    ("events", "published", "said"),
    [
        pytest.param("", True, "--events http://HOST:PORT", id="nobody gets the rows"),
        pytest.param("everfit:8080", True, "is not an address", id="no address"),
        pytest.param("http://127.0.0.1:9", False, "give the folder that Everfit published", id="another folder"),
    ],
)
def test_wrong_use_says_what_to_do(tmp_path: Path, folder: Path, events: str, *, published: bool, said: str) -> None:
    command = [sys.executable, "-m", "everfit", "serve-model", str(folder if published else tmp_path)]
    done = subprocess.run(
        [*command, *(["--events", events] if events else [])], capture_output=True, text=True, check=False,
        env={**os.environ, "EVERFIT_STATE": str(tmp_path), "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode in {1, 2}
    assert said in done.stderr


def test_a_request_on_which_the_model_failed_is_brought_as_a_failure(project: Server, tmp_path: Path) -> None:
    journal = MemoryJournal()
    payloads = ['{"flight": "f7", "distance": 1.0}', '{"distance": 2.0}', '{"distance": "far"}']
    reasons = ["the model failed to score this row"] * 2 + ["not a number"]
    refused = pl.DataFrame({"_table": ["predictions"] * 3, "_reason": reasons, "_column": [None] * 3,
                            "_payload": payloads, "_time": [NOW] * 3, "_arrived": [NOW] * 3})  # fmt: skip
    journal.append([Batch(Table.REFUSED, refused)])
    assert failures_of(journal.waiting(10), TOLD).height == 2  # the third was its client's fault
    with connect(str(project.client.base_url), model=MODEL) as client:
        assert Bringer(TOLD, journal, client).bring() == 1
        assert Bringer(TOLD, journal, client).bring() == 0
    failed = brought(tmp_path, Table.SHADOW)
    assert failed["_id"][0] == "f7"
    assert set(failed.select("_model", "_failed").rows()) == {("c1", "error")}


def test_rows_stay_until_the_project_has_them() -> None:
    journal = MemoryJournal()
    journal.append([Batch(Table.PREDICTIONS, pl.DataFrame({"_id": ["a"], "_time": [NOW]}))])
    with connect("http://127.0.0.1:9", model=MODEL) as client, pytest.raises(Unavailable):
        Bringer(TOLD, journal, client).bring()
    assert len(journal.waiting(10)) == 1
