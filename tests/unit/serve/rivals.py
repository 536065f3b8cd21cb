"""Models that misbehave on demand, for the challenger's process: what a row's carrier says happens.

Takes published folders with a `limit`; gives scores, a crash, an endless loop, a bite of memory or an error; never
imports more than a process needs to start fast.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl

from everfit.errors import ModelUnusable
from everfit.retrain.candidate import Candidate

BITE = 600 * 2**20  # bytes


class Rival:
    """Scores by the distance against a limit, unless a carrier says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.limit = float((folder / "limit").read_text())
        if (folder / "broken").exists():
            raise ModelUnusable("its file is broken")
        self.kept: list[np.ndarray] = []

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        for carrier in rows["carrier"].to_list():
            self._behave(carrier)
        late = 1 / (1 + np.exp(self.limit - rows["distance"].fill_null(0.0).to_numpy()))
        return np.column_stack([1 - late, late])

    def _behave(self, carrier: str | None) -> None:
        match carrier:
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                threading.Event().wait()
            case "slow":
                threading.Event().wait(1.0)
            case "eat":
                self.kept.append(np.ones(BITE // 8))
                threading.Event().wait()
            case "brood":
                eater = f"import threading; eaten = bytearray({BITE}); threading.Event().wait()"
                self.brood = subprocess.Popen([sys.executable, "-c", eater])
                threading.Event().wait()
            case "error":
                raise ValueError("no such carrier")
            case _:
                pass


def described(candidate: Candidate) -> dict[str, object]:
    """What `model.json` says of a candidate."""
    features = [{"name": column.name, "kind": column.kind.value} for column in candidate.schema.features]
    return {"task": candidate.task, "features": features, "classes": list(candidate.classes), "positive": "true"}


def write_rival(folder: Path, candidate: Candidate, limit: float = 1.0, *, broken: bool = False) -> Path:
    """A model's folder as the shelf would keep it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(described(candidate)))
    (folder / "limit").write_text(str(limit))
    if broken:
        (folder / "broken").touch()
    return folder
