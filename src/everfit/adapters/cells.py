"""The child process of a backtest: trains models on spans of windows and scores them on everything that came later.

Takes a task file and, line by line on its standard input, spans of windows; gives one file of scores per span and one
line per span on its standard output; never outlives the process that started it, and never trains a span twice.

Unlike the child of a live run (`adapters/child.py`) it keeps the rows in memory from one model to the next, writes no
model, and answers a trainer's failure in words instead of ending.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO
from zipfile import BadZipFile

import numpy as np
import polars as pl
from numpy.typing import NDArray

from everfit.adapters.fitting import Task, arguments_for, find_trainer, takes_polars, with_target
from everfit.adapters.frames import Framing, Meta, categories_in, features_in
from everfit.adapters.scores import scores_of
from everfit.clock import ticks
from everfit.detect.performance import METRICS, Outcomes, level
from everfit.errors import DiskFull, EverfitError, TrainingFailed

Floats = NDArray[np.float64]
Halves = NDArray[np.float64]

SLAB = 50_000  # rows scored at a time, so that memory does not grow with the rows


@dataclass(frozen=True, slots=True)
class CellTask:
    """What every model of one backtest has in common."""

    rows: str  # Parquet file in time order: features in the lake's types, and the target
    folder: str  # where files of scores are written
    project: str  # where the trainer's module is
    trainer: str  # module:function
    parameters: Mapping[str, Any]
    seed: int
    task: str  # binary, multiclass, regression
    target: str
    features: list[str]
    categories: list[str]  # features that are categories whatever type they have
    classes: list[str]  # in the order of scores; empty for regression
    positive: str | None
    metric: str  # how scores are read; a name of detect.performance.METRICS
    edges: list[int]  # row at which each window begins, and the number of rows
    unit: float  # regression: an absolute error of this size is a whole miss
    most: int  # rows scored in a window, evenly spaced and the same for every model; 0: all

    def to_json(self) -> str:
        """Write it."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What became of one model."""

    levels: Floats  # (windows, 3): the metric on all, even and odd rows of each later window; NaN where undefined
    misses: NDArray[np.float32]  # per scored row after the training rows: 0 right, 1 wrong; between for regression
    seconds: float  # spent training
    rows: int  # rows trained on
    scoring: float = 0.0  # seconds spent predicting and reading the metric on all later windows
    failed: str = ""  # why there is no model, in the trainer's words


def scored_rows(edges: Sequence[int], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which rows are scored: their places, and where each window begins among them (and their number).

    >>> rows, begins = scored_rows([0, 2, 8], 3)
    >>> rows.tolist(), begins.tolist()
    ([0, 1, 2, 4, 6], [0, 2, 5])
    """
    chosen = [
        np.arange(start, end) if not most or end - start <= most else start + (end - start) * np.arange(most) // most
        for start, end in pairwise(edges)
    ]
    begins = np.cumsum([0, *(len(rows) for rows in chosen)])
    return np.concatenate(chosen).astype(np.int64), begins.astype(np.int64)


def cell_file(folder: Path, first: int, last: int) -> Path:
    """Where the scores of the model of windows `first` to `last` lie.

    >>> cell_file(Path("kept"), 0, 9).name
    '0-9.npz'
    """
    return folder / f"{first}-{last}.npz"


def read_cell(file: Path) -> Trained | None:
    """Read what a child wrote; None when it is not there or was cut off by a full disk."""
    try:
        # Opened here: of a torn file numpy would leave its own handle open.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
            levels, misses = kept["levels"], kept["misses"].astype(np.float32)
            return Trained(levels, misses, float(kept["seconds"]), int(kept["rows"]), float(kept["scoring"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


class Desk:
    """The rows of one backtest in memory, and the trainer."""

    def __init__(self, told: CellTask) -> None:
        self.told = told
        self._frame = pl.read_parquet(told.rows)
        self._features = self._frame.select(
            pl.col(name).cast(pl.String) if name in told.categories else pl.col(name) for name in told.features
        )
        self._scored, self._begins = scored_rows(told.edges, told.most)
        self._fit = find_trainer(told.trainer, Path(told.project))
        if not takes_polars(self._fit):
            import_module("pandas")  # now: its seconds are not the first model's
        truth = self._frame[told.target]
        places = {name: place for place, name in enumerate(told.classes)}
        self._truth: NDArray[Any] = (
            truth.cast(pl.Float64).to_numpy()
            if told.task == "regression"
            else np.array([places[name] for name in truth.cast(pl.String).to_list()], dtype=np.int64)
        )

    def train(self, first: int, last: int) -> Trained:
        """Train on the rows of windows `first` to `last` and score every later window.

        Raises:
            TrainingFailed: the trainer returned nothing.
            ModelUnusable: the model cannot predict.
        """
        told = self.told
        start, end = told.edges[first], told.edges[last + 1]
        rows, features = self._frame[start:end], self._features[start:end]
        of_fit = Task("train", "", told.project, told.trainer, told.parameters, told.seed, told.task, told.target,
                      told.features, told.categories, told.classes, told.positive)  # fmt: skip
        kind = "polars" if takes_polars(self._fit) else "pandas"
        meta = Meta(told.task, features_in(features), tuple(told.classes), told.positive, kind)
        framing = Framing(meta, categories_in(features, meta.features))
        frame = with_target(framing.build(features), rows, of_fit)
        random.seed(told.seed)
        np.random.seed(told.seed % 2**32)  # the user's code reads it
        since = ticks()
        model = self._fit(frame, **arguments_for(self._fit, of_fit))
        spent = ticks() - since
        if model is None:
            raise TrainingFailed(f"{told.trainer} returned nothing; it must return a model that can predict")
        since, scored = ticks(), self._scored[self._begins[last + 1] :]
        later = self._features[scored] if told.most else self._features[end:]
        slabs = [
            scores_of(model, framing.build(later[at : at + SLAB]), meta) for at in range(0, max(1, later.height), SLAB)
        ]
        scores = np.concatenate(slabs)
        levels, misses = self._levels(scores, last), self._misses(scores, scored)
        return Trained(levels, misses, spent, end - start, ticks() - since)

    def _misses(self, scores: Floats, scored: NDArray[np.int64]) -> NDArray[np.float32]:
        truth = self._truth[scored]
        if self.told.task == "regression":
            off: NDArray[np.float32] = np.clip(np.abs(scores[:, 0] - truth) / self.told.unit, 0, 1).astype(np.float32)
            return off
        wrong: NDArray[np.float32] = (scores.argmax(axis=1) != truth).astype(np.float32)
        return wrong

    def _levels(self, scores: Floats, last: int) -> Floats:
        told, first = self.told, self._begins[last + 1]
        levels = np.full((len(told.edges) - 1, 3), np.nan)
        for window in range(last + 1, len(told.edges) - 1):
            rows = np.arange(self._begins[window], self._begins[window + 1])
            for place, chosen in enumerate((rows, rows[rows % 2 == 0], rows[rows % 2 == 1])):
                truth, blocks = self._truth[self._scored[chosen]], np.zeros(len(chosen), dtype=np.int64)
                given = scores[chosen - first]
                outcomes = Outcomes(truth, given, tuple(told.classes), told.positive, told.task, blocks)
                found = level(METRICS[told.metric], outcomes)
                levels[window, place] = np.nan if found is None else found
        return levels


def answer(desk: Desk, first: int, last: int) -> dict[str, Any]:
    """Train one cell unless its file is there; what is said about it on one line."""
    file = cell_file(Path(desk.told.folder), first, last)
    if read_cell(file) is not None:
        return {"ok": True}
    try:
        _leave(desk.train(first, last), file)
    except DiskFull as error:
        return {"ok": False, "full": True, "said": str(error)}
    except EverfitError as error:
        return {"ok": False, "said": str(error)}
    except BaseException as error:  # the user's code may raise anything, SystemExit and MemoryError too
        traceback.print_exc()
        return {"ok": False, "said": traceback.format_exception_only(error)[-1].strip()}
    return {"ok": True}


def _leave(made: Trained, file: Path) -> None:
    """Write under another name first: a reader sees a whole file or none."""
    arriving = file.with_name(f".{file.stem}.{os.getpid()}.npz")
    kind = np.uint8 if np.isin(made.misses, (0, 1)).all() else np.float16
    try:
        np.savez(
            arriving,
            levels=made.levels,
            misses=made.misses.astype(kind),
            seconds=made.seconds,
            rows=made.rows,
            scoring=made.scoring,
        )
        arriving.rename(file)
    except OSError as error:
        arriving.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"no space left under {file.parent}; free some, and run the backtest again") from error
        raise


def main() -> None:
    """Answer spans until the standard input ends, which the parent's death also does."""
    if sys.platform == "linux":
        death_of_parent = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_of_parent, signal.SIGKILL)
    out = _own_output()
    desk, said = None, ""
    try:
        desk = Desk(CellTask(**json.loads(Path(sys.argv[1]).read_text())))
    except Exception as error:  # a trainer's module that cannot be imported is every cell's failure
        said = traceback.format_exception_only(error)[-1].strip()
    _tell(out, {"ready": True})
    for line in sys.stdin:
        first, last = json.loads(line)
        _tell(out, {"ok": False, "said": said} if desk is None else answer(desk, first, last))


def _tell(out: TextIO, told: dict[str, Any]) -> None:
    out.write(json.dumps(told) + "\n")
    out.flush()


def _own_output() -> TextIO:
    """Keep the pipe for answers; whatever a trainer prints goes where errors go."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w")


if __name__ == "__main__":
    main()
