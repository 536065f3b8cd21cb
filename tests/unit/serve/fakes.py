"""What the tests of serving share: a small model, a journal in memory, and a server around them.

Takes folders; gives ready servings; never sleeps.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from starlette.testclient import TestClient

from everfit.adapters.gateway import FolderGateway
from everfit.clock import rest, ticks
from everfit.errors import DiskFull
from everfit.observe.intake import Rules
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.ports import Batch, Route, Table
from everfit.retrain.candidate import Candidate, ModelFile
from everfit.serve.app import build_app
from everfit.serve.serving import LogMode, Serving

NOW = datetime(2013, 2, 1, 12, tzinfo=UTC)
MODEL = "flights"
SCHEMA = Schema(
    (Column("distance", Kind.NUMBER), Column("carrier", Kind.CATEGORY), Column("night", Kind.FLAG)),
    ("false", "true"),
)
RULES = Rules("binary", target="late", time="scheduled", id="flight")
ROW = {"distance": 3.0, "carrier": "UA", "night": False}


class FrozenClock:
    """A clock that stands still."""

    def now(self) -> datetime:
        return NOW


class ListJournal:
    """A journal in memory. `full` makes it refuse."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.commits = 0
        self.full = False
        self._lock = threading.Lock()

    def append(self, batches: Sequence[Batch]) -> int:
        with self._lock:
            if self.full:
                raise DiskFull("no space left for the journal; free some")
            self.batches += batches
            self.commits += 1
            return len(self.batches)

    def waiting(self, most_rows: int) -> list[Batch]:
        return self.batches[:most_rows]

    def known(self, table: Table, ids: Sequence[str]) -> dict[str, str]:
        return {}

    def forget(self, upto: int, taken: Mapping[Table, Mapping[str, str]]) -> None:
        raise AssertionError("a server never forgets")

    def last(self) -> int:
        return len(self.batches)

    def rows(self, table: Table) -> pl.DataFrame:
        """Everything that was taken for a table."""
        frames = [batch.rows for batch in self.batches if batch.table is table]
        return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


class Line:
    """Scores by one number: the distance, against a limit of the model's folder."""

    def __init__(self, folder: Path) -> None:
        self.limit = float((folder / "limit").read_text())

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        late = 1 / (1 + np.exp(self.limit - rows["distance"].fill_null(0.0).to_numpy()))
        return np.column_stack([1 - late, late])


def candidate(name: str) -> Candidate:
    """A candidate whose id follows from its name."""
    file = ModelFile(name, "skops", 1)
    return Candidate(name, file, "binary", SCHEMA, SCHEMA.classes, "true", NOW, 100)


def write_folder(folder: Path, limit: float, **changes: object) -> Path:
    """A model's folder as the shelf would keep it."""
    folder.mkdir(parents=True)
    features = [{"name": column.name, "kind": column.kind.value} for column in SCHEMA.features]
    meta = {
        "format": "fake",
        "task": "binary",
        "features": features,
        "classes": ["false", "true"],
        "positive": "true",
    }
    (folder / "model.json").write_text(json.dumps(meta | changes))
    (folder / "limit").write_text(str(limit))
    return folder


def release(root: Path, version: int, *, limit: float = 0.0, name: str = "", key: str = "", **changes: object) -> Route:
    """Publish a model and point to it."""
    gateway = FolderGateway(root / "serving")
    made = candidate(name or f"model-{version}")
    folder = root / "shelf" / made.id
    if not folder.exists():
        write_folder(folder, limit, **changes)
    gateway.publish(made, version, folder)
    route = Route(made.id, version, key or f"cause-{version}")
    gateway.point(MODEL, route)
    return route


def serving(root: Path, journal: ListJournal, *, log: LogMode = LogMode.ASYNC, rules: Rules = RULES) -> Serving:
    """A serving of `root/serving`."""
    return Serving(
        model=MODEL,
        task="binary",
        rules=rules,
        gateway=root / "serving",
        journal=journal,
        loader=Line,
        clock=FrozenClock(),
        clock_file=root / "clock.json",
        log=log,
    )


@contextmanager
def client_of(told: Serving) -> Iterator[TestClient]:
    """A client of a server that runs."""
    with TestClient(build_app(told), raise_server_exceptions=False) as client:
        yield client


def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for what a thread is about to do; a failure, and not a flake, when it does not."""
    end = ticks() + seconds
    while not true():
        assert ticks() < end, "it did not happen in time"
        rest(0.005)
