"""The files of a backtest: what its models are made from, and what was found out about each.

Takes a folder and spans of windows; gives names, and what was written under them; never takes a torn file for a whole
one.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from everfit.errors import DiskFull

Floats = NDArray[np.float64]
Span = tuple[int, int]  # first and last window

YOUNG = 16  # windows of age in which a model is looked at in every window
SPARSE = 4  # and then in every so many
NAME = re.compile(r"(\d+)-(\d+)(?:\.(\d+)-(\d+))?\.npz")  # the windows that it learned from, and those it is scored in


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
    few: int  # the same for the first look at later windows, which hindsight and ageing rest on
    start: int  # windows of the first training set, and of every recent one
    stride: int  # windows between two models that hindsight may choose

    def to_json(self) -> str:
        """Write it."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What became of one model."""

    few: Floats  # (windows, 2): the metric on even and odd rows of the few of each later window; NaN where undefined
    seconds: float  # spent training: the frame and the fit
    rows: int  # rows trained on
    scoring: float = 0.0  # seconds spent on `few`
    failed: str = ""  # why there is no model, in the trainer's words


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A model's scores in a span of later windows."""

    levels: Floats  # (windows of the span, 3): the metric on all, even and odd rows; NaN where undefined
    missed: Floats  # (windows of the span,): mean miss of the rows
    scoring: float = 0.0  # seconds spent predicting and reading the metric
    failed: str = ""  # why there are none, in the model's words


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


def looked_at(cell: Span, told: CellTask) -> NDArray[np.int64]:
    """The windows of the first look at a model.

    Of recent models on the grid of hindsight all windows while they are young; then every fourth, the same for all:
    how far an old model lies behind changes slowly. Of all others the next window only.
    """
    later = np.arange(cell[1] + 1, len(told.edges) - 1)
    recent = cell[1] - cell[0] == told.start - 1 and (cell[1] - told.start + 1) % told.stride == 0
    return later[(later - cell[1] <= YOUNG) | (later % SPARSE == 0)] if recent else later[:1]


def cell_file(folder: Path, cell: Span) -> Path:
    """Where a model of the windows from the first to the last of `cell` is known to have been trained.

    >>> cell_file(Path("kept"), (0, 9)).name
    '0-9.npz'
    """
    return folder / f"{cell[0]}-{cell[1]}.npz"


def span_file(folder: Path, cell: Span, span: Span) -> Path:
    """Where its scores in a span of later windows lie.

    >>> span_file(Path("kept"), (0, 9), (10, 12)).name
    '0-9.10-12.npz'
    """
    return folder / f"{cell[0]}-{cell[1]}.{span[0]}-{span[1]}.npz"


def read_cell(file: Path) -> Trained | None:
    """Read what a child wrote; None when it is not there or was cut off by a full disk."""
    kept = _read(file, ("few", "seconds", "rows", "scoring"))
    return (
        None
        if kept is None
        else Trained(kept["few"], float(kept["seconds"]), int(kept["rows"]), float(kept["scoring"]))
    )


def read_span(file: Path) -> Scored | None:
    """Read the scores of a span; None as above."""
    kept = _read(file, ("levels", "missed", "scoring"))
    return None if kept is None else Scored(kept["levels"], kept["missed"], float(kept["scoring"]))


def read_misses(file: Path) -> NDArray[np.float32] | None:
    """Read the misses of a span's scored rows: 0 right, 1 wrong; between for regression; None as above."""
    kept = _read(file, ("misses",))
    return None if kept is None else kept["misses"].astype(np.float32)


def spans_in(folder: Path) -> tuple[set[Span], dict[Span, list[Span]]]:
    """Which models a folder holds, and in which spans of windows each is scored."""
    trained: set[Span] = set()
    spans: dict[Span, list[Span]] = {}
    for name in os.listdir(folder):
        found = NAME.fullmatch(name)
        if found is None:
            continue
        cell = (int(found[1]), int(found[2]))
        if found[3] is None:
            trained.add(cell)
        else:
            spans.setdefault(cell, []).append((int(found[3]), int(found[4])))
    return trained, spans


def _read(file: Path, names: Sequence[str]) -> dict[str, NDArray[Any]] | None:
    try:
        # Opened here: of a torn file numpy would leave its own handle open.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
            return {name: kept[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def model_file(folder: Path, cell: Span) -> Path:
    """Where the model itself lies, if it could be kept."""
    return folder / f"{cell[0]}-{cell[1]}.model"


def leave(file: Path, **arrays: Any) -> None:
    """Write arrays.

    Raises:
        DiskFull: there is no space.
    """
    write_whole(file, lambda path: np.savez(path, **arrays))


def write_whole(file: Path, write: Callable[[Path], Any]) -> None:
    """Write under another name first: a reader sees a whole file or none.

    Raises:
        DiskFull: there is no space.
    """
    arriving = file.with_name(f".{file.stem}.{os.getpid()}{file.suffix}")
    try:
        write(arriving)
        arriving.rename(file)
    except OSError as error:
        arriving.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"no space left under {file.parent}; free some, and run the backtest again") from error
        raise
