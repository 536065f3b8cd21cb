"""What the scoring child does: score rows with saved models, one question after another.

Takes lines of JSON on a socket, each with a model's folder and a Parquet file; gives a file of scores and a line for
each; never holds more between two questions than it was allowed, and ends when it was asked nothing for a while.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import socket
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from everfit.adapters.frames import Meta
from everfit.adapters.models import FramePredictor, load
from everfit.adapters.process import resident
from everfit.adapters.scores import Floats
from everfit.clock import ticks
from everfit.errors import EverfitError

SLAB = 100_000  # rows scored at a time, so that memory does not grow with the rows
State = tuple[tuple[str, int, int, int], ...]  # of each file: its name, size, time of change and number


def scored(predictor: FramePredictor, rows: pl.DataFrame) -> Floats:
    """Scores of many rows, shape (rows, classes) or (rows, 1); columns that the model does not know are left out."""
    there = _there(predictor, rows)
    slabs = [predictor.score(there[start : start + SLAB]) for start in range(0, rows.height, SLAB)]
    return np.concatenate(slabs) if slabs else predictor.score(there)


def answers(scores: Floats, meta: Meta, timed: list[float | None]) -> pl.DataFrame:
    """Scores as columns: `_score`, `_prediction` (null for regression), `_latency_ms`."""
    return pl.DataFrame(
        {
            "_score": pl.Series(scores.tolist(), dtype=pl.List(pl.Float64)),
            "_prediction": pl.Series(_predicted(scores, meta), dtype=pl.String),
            "_latency_ms": pl.Series(timed, dtype=pl.Float64),
        }
    )


def failure(error: BaseException, project: str) -> dict[str, Any]:
    """What is told of an error: our own words, or the last line of its traceback with the place in the user's code."""
    if isinstance(error, EverfitError):
        return {"ok": False, "said": str(error)}
    what = traceback.format_exception_only(error)[-1].strip()
    places = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith(project)]
    where = f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    return {"ok": False, "full": full, "said": f"{what}{where}"}


@dataclass(slots=True)
class Shelved:
    """Models and rows that were read before, known by the state of their files; the least used are forgotten first."""

    bound: int  # bytes that this process may hold before it forgets
    _models: dict[Path, tuple[State, FramePredictor]] = field(default_factory=dict)
    _rows: tuple[State, pl.DataFrame] | None = None

    def model(self, folder: Path) -> FramePredictor:
        """A model, loaded when it is not there as its files are now."""
        state, known = _state(folder), self._models.pop(folder, None)
        if known is None or known[0] != state:
            while self._models and not self.light:
                del self._models[next(iter(self._models))]
                gc.collect()
            known = (state, load(folder))
        self._models[folder] = known
        return known[1]

    def rows(self, file: Path) -> pl.DataFrame:
        """The rows of a file; the last ones asked for are kept."""
        state = _state(file)
        if self._rows is None or self._rows[0] != state:
            self._rows = None
            self._rows = (state, pl.read_parquet(file, memory_map=False))
        return self._rows[1]

    @property
    def light(self) -> bool:
        """Whether this process holds no more than it may."""
        return resident(os.getpid()) <= self.bound


def stay(number: int, bound: int, idle: float) -> int:
    """Say that it is ready, then answer questions on the socket of this number.

    Ends when the other end closes, or when nothing was asked for `idle` seconds.
    """
    shelved, heard = Shelved(bound), b""
    with socket.socket(fileno=number) as line:
        line.sendall(b'{"ready": true}\n')
        line.settimeout(idle)
        while True:
            try:
                piece = line.recv(2**16)
            except TimeoutError:
                return 0
            if not piece:
                return 0
            heard += piece
            if heard.endswith(b"\n"):
                told, heard = json.loads(heard), b""
                said = _answered(shelved, told)
                said["stays"] = shelved.light
                line.settimeout(None)
                line.sendall(json.dumps(said).encode() + b"\n")
                line.settimeout(idle)


def _answered(shelved: Shelved, told: dict[str, Any]) -> dict[str, Any]:
    """Score what one question names into its file; what is said about it."""
    try:
        _speak_into(told["log"])
        predictor, rows = shelved.model(Path(told["model"])), shelved.rows(Path(told["rows"]))
        made = answers(scored(predictor, rows), predictor.meta, _timed(predictor, rows, told["timed_rows"]))
        made.write_parquet(told["scores"])
    except BaseException as error:  # a model is the user's code: it may raise anything, SystemExit and MemoryError too
        traceback.print_exc()
        return failure(error, told["project"])
    finally:
        _speak_into(os.devnull)
    return {"ok": True}


def _speak_into(log: str) -> None:
    """Let output go to a question's log, in which it is looked for, and to none between two questions."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def _timed(predictor: FramePredictor, rows: pl.DataFrame, many: int) -> list[float | None]:
    """How long so many single rows take, in milliseconds; None for the others."""
    there = _there(predictor, rows)
    timed: list[float | None] = [None] * rows.height
    for row in range(min(many, rows.height)):
        since = ticks()
        predictor.score(there[row : row + 1])
        timed[row] = 1000 * (ticks() - since)
    return timed


def _there(predictor: FramePredictor, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(column.name for column in predictor.meta.features if column.name in rows.columns)


def _predicted(scores: Floats, meta: Meta) -> list[str | None]:
    if meta.task == "regression":
        return [None] * len(scores)
    return [meta.classes[place] for place in scores.argmax(axis=1)]


def _state(place: Path) -> State:
    """What changes when a file, or one of a folder's, is written anew."""
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    looks = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((str(file), look.st_size, look.st_mtime_ns, look.st_ino) for file, look in looks)
