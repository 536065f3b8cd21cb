"""The child process of a backtest: trains models on spans of windows and scores them on everything that came later.

Takes a task file and, line by line on its standard input, the windows that a model is trained on and those that it is
scored in; gives files, and one line each on its standard output; never outlives the process that started it, and never
trains a model twice that it could keep.

Unlike the child of a live run (`adapters/child.py`) it keeps the rows in memory from one model to the next, and answers
a trainer's failure in words instead of ending. Scoring every model on every later window costs more than half of a
quick trainer's time, and policies read a tenth of it: models are kept, and scored where somebody asks.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import random
import signal
import sys
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from everfit.adapters.cell_files import (
    CellTask,
    Floats,
    Scored,
    Span,
    cell_file,
    leave,
    looked_at,
    model_file,
    read_cell,
    scored_rows,
    span_file,
    write_whole,
)
from everfit.adapters.fitting import Task, arguments_for, find_trainer, takes_polars, with_target
from everfit.adapters.folding import fold
from everfit.adapters.frames import Framing, Meta, categories_in, features_in
from everfit.adapters.matrix import Folded
from everfit.adapters.scores import scores_of
from everfit.clock import ticks
from everfit.detect.performance import Metric, Outcomes, level, metric_named
from everfit.errors import DiskFull, EverfitError, ModelUnusable, TrainingFailed

SLAB = 50_000  # rows scored at a time, so that memory does not grow with the rows
QUICK_SLAB = 4_000  # of the shorter way: what it holds between two trees stays in the processor's cache
GROUP = 6000  # rows whose metric is read in one go: quicker than window by window, and quicker than all together
HEAVY = 8 * 2**20  # bytes; a hundred models of this size fill a gigabyte: larger ones are scored at once and not kept
MOST, FEW = 0, 1  # all rows that are scored of a window, and those of the first look
PROBED = 200  # rows on which the shorter way is compared with the model
ALONE = {"calibration_error"}  # its bins are made from the rows at hand: every window is read by itself


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A model in memory, with what its frames need."""

    model: Any
    framing: Framing
    meta: Meta


@dataclass(frozen=True, slots=True, eq=False)
class Kept(Made):
    """A model that can be asked."""

    quick: Folded | None  # the shorter way to ask it, where there is one


class Desk:
    """The rows of one backtest in memory, and the trainer."""

    def __init__(self, told: CellTask) -> None:
        self.told = told
        self._frame = pl.read_parquet(told.rows)
        self._features = self._frame.select(
            pl.col(name).cast(pl.String) if name in told.categories else pl.col(name) for name in told.features
        )
        # Gathered once: of large windows every model is asked about the same rows.
        self._views = [
            (rows, begins, self._features if len(rows) == self._frame.height else self._features[rows])
            for rows, begins in (scored_rows(told.edges, most) for most in (told.most, told.few))
        ]
        self._folds: bool | None = None  # whether the shorter way answers as the model does; None: not tried yet
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

    def train(self, cell: Span) -> Made:
        """Train on the rows of the windows of `cell`.

        Raises:
            TrainingFailed: there are no rows, or the trainer returned nothing.
        """
        told = self.told
        start, end = told.edges[cell[0]], told.edges[cell[1] + 1]
        if start == end:
            raise TrainingFailed("there are no rows in these windows")
        rows, features = self._frame[start:end], self._features[start:end]
        of_fit = Task("", told.project, told.trainer, told.parameters, told.seed, told.task, told.target,
                      told.features, told.categories, told.classes, told.positive)  # fmt: skip
        kind = "polars" if takes_polars(self._fit) else "pandas"
        meta = Meta(told.task, features_in(features), tuple(told.classes), told.positive, kind)
        framing = Framing(meta, categories_in(features, meta.features))
        frame = with_target(framing.build(features), rows, of_fit)
        random.seed(told.seed)
        np.random.seed(told.seed % 2**32)  # the user's code reads it
        model = self._fit(frame, **arguments_for(self._fit, of_fit))
        if model is None:
            raise TrainingFailed(f"{told.trainer} returned nothing; it must return a model that can predict")
        return Made(model, framing, meta)

    def look(self, kept: Kept, cell: Span) -> Floats:
        """The first look at later windows: the metric on even and odd rows of a few, (windows, 2).

        Raises:
            ModelUnusable: the model cannot predict the next window.
        """
        few = np.full((len(self.told.edges) - 1, 2), np.nan)
        looked = looked_at(cell, self.told)
        if not len(looked):
            return few
        try:
            few[looked] = self._read(kept, looked, FEW)[0][:, 1:]
        except ModelUnusable:  # what it cannot predict later may never be asked; the next window will be
            few[looked[:1]] = self._read(kept, looked[:1], FEW)[0][:, 1:]
        return few

    def score(self, kept: Kept, span: Span) -> tuple[Scored, NDArray[np.float32]]:
        """Scores in a span of windows, and the miss of each scored row.

        Raises:
            ModelUnusable: the model cannot predict these rows.
        """
        since = ticks()
        levels, misses = self._read(kept, np.arange(span[0], span[1] + 1), MOST)
        begins = self._views[MOST][1][span[0] : span[1] + 2]
        begins = begins - begins[0]
        sums = np.add.reduceat(np.append(misses, 0.0), begins[:-1]) if len(misses) else np.zeros(len(begins) - 1)
        many = np.diff(begins)
        missed = np.where(many > 0, sums / np.maximum(many, 1), np.nan)
        return Scored(levels, missed, ticks() - since), misses

    def ready(self, made: Made) -> Kept:
        """A model to be asked: by the shorter way of the server, once that gave the scores that the model gave."""
        model, framing, meta = made.model, made.framing, made.meta
        quick = None if self._folds is False or meta.frame != "pandas" else fold(model, meta, framing.categories)
        if quick is not None and self._folds is None:
            probe = self._features.gather_every(max(1, self._features.height // PROBED))
            told, found = scores_of(model, framing.build(probe), meta), quick.score(framing.typed(probe))
            self._folds = bool((np.abs(told - found) <= quick.same * np.maximum(1, np.abs(told))).all())
        return Kept(model, framing, meta, quick if self._folds else None)

    def _read(self, kept: Kept, windows: NDArray[np.int64], view: int) -> tuple[Floats, NDArray[np.float32]]:
        """The metric in each of some windows, (windows, 3), and the miss of each of their scored rows."""
        rows, begins, features = self._views[view]
        first, last = int(begins[windows[0]]), int(begins[windows[-1] + 1])
        places = np.arange(first, last)
        if len(windows) <= windows[-1] - windows[0]:
            places = np.concatenate([np.arange(begins[window], begins[window + 1]) for window in windows])
        asked = features[first:last] if len(places) == last - first else features[places]
        slab = SLAB if kept.quick is None else QUICK_SLAB
        slabs = [_asked(kept, asked[at : at + slab]) for at in range(0, asked.height, slab)]
        scores = np.concatenate(slabs) if slabs else np.zeros((0, max(1, len(self.told.classes))))
        of = np.repeat(np.arange(len(windows)), np.diff(begins)[windows])
        return self._levels(scores, rows[places], of, len(windows)), self._misses(scores, rows[places])

    def _misses(self, scores: Floats, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        truth = self._truth[rows]
        if self.told.task == "regression":
            off: NDArray[np.float32] = np.clip(np.abs(scores[:, 0] - truth) / self.told.unit, 0, 1).astype(np.float32)
            return off
        wrong: NDArray[np.float32] = (scores.argmax(axis=1) != truth).astype(np.float32)
        return wrong

    def _levels(self, scores: Floats, rows: NDArray[np.int64], windows: NDArray[np.int64], many: int) -> Floats:
        """The metric on all, even and odd rows of each window: as blocks of one tally, some windows at a time."""
        told = self.told
        group = 1 if told.metric in ALONE else max(1, min(many, GROUP * many // max(1, len(rows))))
        begins = np.searchsorted(windows, np.arange(many + 1))
        half = (np.arange(len(rows)) - begins[windows]) % 2
        levels = np.full((many, 3), np.nan)
        for first in range(0, many, group):
            last = min(first + group, many)
            at = slice(begins[first], begins[last])
            if at.start < at.stop:
                blocks = 2 * (windows[at] - first) + half[at]
                given = Outcomes(
                    self._truth[rows[at]], scores[at], tuple(told.classes), told.positive, told.task, blocks
                )
                levels[first:last] = by_halves(metric_named(told.metric), given, last - first)
        return levels


def _asked(kept: Kept, rows: pl.DataFrame) -> Floats:
    if kept.quick is not None:
        return kept.quick.score(kept.framing.typed(rows))
    return scores_of(kept.model, kept.framing.build(rows), kept.meta)


def by_halves(metric: Metric, given: Outcomes, windows: int) -> Floats:
    """A metric on all, even and odd rows of each of some windows, (windows, 3); NaN where undefined.

    The blocks of the outcomes are 2 x window + half. Reading blocks by weight 0 or 1 is the metric on these rows, save
    for `ALONE`, which are read row by row.

    >>> truth, sure = np.array([1, 0, 1, 0]), np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.9, 0.1]])
    >>> given = Outcomes(truth, sure, ("0", "1"), "1", "binary", np.array([0, 1, 0, 1]))
    >>> by_halves(metric_named("accuracy"), given, 1).tolist()
    [[0.75, 1.0, 0.5]]
    """
    if metric.name in ALONE:
        halves = [np.ones(given.rows, dtype=np.bool_), given.blocks == 0, given.blocks == 1]
        found = [level(metric, _rows_of(given, chosen)) for chosen in halves]
        return np.array([[np.nan if each is None else each for each in found]])
    own = np.eye(2 * windows)
    weights = np.stack([own[0::2] + own[1::2], own[0::2], own[1::2]], axis=1).reshape(-1, 2 * windows)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.asarray(metric.tally(given, given.blocks, 2 * windows)(weights), dtype=np.float64)
    counts = np.bincount(given.blocks, minlength=2 * windows)
    return np.where((weights @ counts > 0) & np.isfinite(values), values, np.nan).reshape(windows, 3)


def _rows_of(given: Outcomes, chosen: NDArray[np.bool_]) -> Outcomes:
    kept = np.zeros(int(chosen.sum()), dtype=np.int64)
    return Outcomes(given.truth[chosen], given.scores[chosen], given.classes, given.positive, given.task, kept)


class Answers:
    """Has a model trained, and scored in a span of windows, if its files are not there; says so on one line."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._folder = desk, Path(desk.told.folder)

    def answer(self, cell: Span, span: Span) -> dict[str, Any]:
        """What became of it. A model that cannot be kept is scored on all later windows while it is there."""
        try:
            file = cell_file(self._folder, cell)
            kept = self._loaded(cell) if read_cell(file) is not None else None
            if kept is None:
                kept, lost = self._trained(cell, file)
                later = self._at_once(kept, cell) if lost else None
                if later is not None:
                    return {"ok": True, "span": later}
            if span[0] <= span[1]:
                self._scored(kept, cell, span)
        except DiskFull as error:
            return {"ok": False, "full": True, "said": str(error)}
        except EverfitError as error:
            return {"ok": False, "said": str(error)}
        except BaseException as error:  # the user's code may raise anything, SystemExit and MemoryError too
            traceback.print_exc()
            return {"ok": False, "said": traceback.format_exception_only(error)[-1].strip()}
        return {"ok": True, "span": span}

    def _trained(self, cell: Span, file: Path) -> tuple[Kept, bool]:
        """A new model, and whether it cannot be kept."""
        since = ticks()
        made = self._desk.train(cell)
        lost = not self._keep(made, cell)
        spent, since = ticks() - since, ticks()
        kept = self._desk.ready(made)
        few = self._desk.look(kept, cell)
        edges = self._desk.told.edges
        rows = edges[cell[1] + 1] - edges[cell[0]]
        leave(file, few=few, seconds=spent, rows=rows, scoring=ticks() - since)
        return kept, lost

    def _at_once(self, kept: Kept, cell: Span) -> Span | None:
        """Score a model in all later windows; None when it cannot predict them all."""
        later = (cell[1] + 1, len(self._desk.told.edges) - 2)
        try:
            self._scored(kept, cell, later)
        except ModelUnusable:
            return None
        return later

    def _scored(self, kept: Kept, cell: Span, span: Span) -> None:
        scored, misses = self._desk.score(kept, span)
        kind = np.uint8 if np.isin(misses, (0, 1)).all() else np.float16
        file = span_file(self._folder, cell, span)
        leave(file, levels=scored.levels, missed=scored.missed, misses=misses.astype(kind), scoring=scored.scoring)

    def _keep(self, made: Made, cell: Span) -> bool:
        """Leave the model for later questions; whether that worked."""
        try:
            content = pickle.dumps((made.model, dict(made.framing.categories), made.meta))
        except Exception:  # what a user's model does when it is pickled, nobody knows; it is scored at once instead
            return False
        if len(content) > HEAVY:
            return False
        write_whole(model_file(self._folder, cell), lambda path: path.write_bytes(content))
        return True

    def _loaded(self, cell: Span) -> Kept | None:
        """The model that this program's child left; None when it is not there, or torn: then it is trained again."""
        try:
            model, categories, meta = pickle.loads(model_file(self._folder, cell).read_bytes())
        except Exception:  # a torn file raises whatever its bytes happen to mean
            return None
        return self._desk.ready(Made(model, Framing(meta, categories), meta))


def main() -> None:
    """Answer spans until the standard input ends, which the parent's death also does."""
    if sys.platform == "linux":
        death_of_parent = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_of_parent, signal.SIGKILL)
    out = _own_output()
    answers, said = None, ""
    try:
        answers = Answers(Desk(CellTask(**json.loads(Path(sys.argv[1]).read_text()))))
    except Exception as error:  # a trainer's module that cannot be imported is every cell's failure
        said = traceback.format_exception_only(error)[-1].strip()
    _tell(out, {"ready": True})
    for line in sys.stdin:
        cell, span = json.loads(line)
        _tell(out, {"ok": False, "said": said} if answers is None else answers.answer(tuple(cell), tuple(span)))


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
