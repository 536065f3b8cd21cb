"""A policy played over the matrix: window by window, with labels as late as they were, and what it cost.

Takes a matrix, a rule or the bench's options, and the label delay; gives what was served, the score of each window
and every training run with its reason; never trains twice, and never lets a policy see a label before its time.

At the end of window t the labels of windows up to t - delay are there; a model trained then has rows up to there, and
serves from t + 1 on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from everfit.decide.bench import Bench, Move, Run, Train, next_move
from everfit.decide.bench_options import BenchOptions
from everfit.decide.bench_reads import Member
from everfit.errors import TrainingFailed
from everfit.replay.matrix import Cell, Floats, Matrix, Row


@dataclass(frozen=True, slots=True)
class Decision:
    """One training run of a policy."""

    window: int  # at whose end
    trained_on: Cell
    why: str
    failed: str = ""  # the trainer's words, when there is no model


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What a policy did and what it got."""

    name: str
    first_window: int  # of those that are scored
    scores: Floats  # (scored windows,) in points
    missed: Floats  # (scored windows,): mean miss of the rows, 0 right and 1 wrong; between for regression
    served: tuple[Cell, ...]  # the model of each scored window
    decisions: tuple[Decision, ...]
    rows: int  # trained on in all
    seconds: float  # spent training in all

    @property
    def score(self) -> float:
        """The mean over windows."""
        return float(np.nanmean(self.scores))

    @property
    def runs(self) -> int:
        """Training runs, whatever became of them."""
        return len(self.decisions)

    @property
    def changes(self) -> int:
        """How often another model began to serve."""
        return sum(a != b for a, b in pairwise(self.served))


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a rule sees at the end of a window."""

    now: int
    labelled: int  # last window whose labels are there; below `deployed` none since
    deployed: int  # window at whose end the serving model was trained
    model: Cell
    scores: Floats  # served score of the labelled windows since then, oldest first
    misses: Callable[[int], NDArray[np.float32]]  # row losses of the serving model in a labelled window


class Rule(Protocol):
    """When to retrain on recent rows; the new model serves at once. A rule may keep state: one rule, one play."""

    def ask(self, seen: Seen) -> str | None:
        """Why to retrain now, or None."""
        ...


def play(name: str, rule: Rule, matrix: Matrix, delay: int = 0) -> Played:
    """Play a rule that retrains on the last windows and serves its newest model.

    Raises:
        TrainingFailed: there is no first model.
    """
    cut = matrix.cut
    row, deployed = matrix.row(matrix.recent(cut.start - 1)), cut.start - 1
    _check(row)
    served, decisions, spent = [], [], []
    since: list[float] = []
    for now in range(cut.start - 1, cut.windows - 1):
        labelled = now - delay
        if labelled > deployed:
            since.append(matrix.score(row.cell, labelled))
        seen = Seen(now, labelled, deployed, row.cell, np.array(since), _misses(matrix, row.cell))
        why = rule.ask(seen) if now >= cut.start and labelled > row.cell[1] else None
        if why is not None:
            made = matrix.row(matrix.recent(labelled))
            decisions.append(Decision(now, made.cell, why, made.failed))
            spent.append(made)
            if not made.failed:
                row, deployed, since = made, now, []
        served.append(row.cell)
    return _played(name, matrix, tuple(served), decisions, spent)


def play_bench(matrix: Matrix, delay: int = 0, options: BenchOptions | None = None, name: str = "everfit") -> Played:
    """Play the default policy: the very function that decides live (`decide.bench.next_move`)."""
    options = options or BenchOptions(recent=matrix.cut.start)
    stage = _Stage(matrix, delay)
    for now in range(matrix.cut.start - 1, matrix.cut.windows - 1):
        if now >= matrix.cut.start and now >= delay:  # before, no label has come: there is nothing to decide on
            stage.act(now, next_move(stage.bench(now), options))
        stage.serve(now)
    return _played(name, matrix, tuple(stage.cells), stage.decisions, stage.spent)


class _Stage:
    """The bench as it grows."""

    def __init__(self, matrix: Matrix, delay: int) -> None:
        self._matrix, self._delay = matrix, delay
        first, scores = matrix.whole(matrix.recent(matrix.cut.start - 1))
        _check(first)
        self._scores = [scores]
        self._members, self._runs = [Member("1", *first.cell)], list[Run]()
        self._served = np.full(matrix.cut.windows + 1, -1, dtype=np.int64)
        self._serving = 0
        self.cells: list[Cell] = []
        self.decisions: list[Decision] = []
        self.spent: list[Row] = []

    def bench(self, now: int) -> Bench:
        """The facts at the end of a window."""
        there = np.arange(now + 1) <= now - self._delay
        scores = np.where(there, np.stack([each.levels[: now + 1, 0] for each in self._scores]), np.nan)
        halves = np.where(there[:, None], np.stack([each.levels[: now + 1, 1:] for each in self._scores]), np.nan)
        served = np.append(self._served[: now + 1], self._serving)
        matured = np.arange(now + 1, dtype=np.int64) - self._delay
        return Bench(tuple(self._members), tuple(self._runs), served, scores, halves, matured, now)

    def act(self, now: int, move: Move) -> None:
        """Do what the policy says."""
        if move.train is not None:
            self._train(now, move.train)
        self._serving = move.serve.place

    def serve(self, now: int) -> None:
        """The next window comes."""
        self._served[now + 1] = self._serving
        serving = self._members[self._serving]
        self.cells.append((serving.first, serving.last))

    def _train(self, now: int, told: Train) -> None:
        made, scores = self._matrix.whole((told.first, told.last))
        place = None
        if not made.failed:
            place = len(self._members)
            self._members.append(Member(str(place + 1), told.first, told.last, told.rows))
            self._scores.append(scores)
        self._runs.append(Run(now, told.why, told.rows, self._serving, place, told.change, told.leader))
        self.decisions.append(Decision(now, made.cell, told.said, made.failed))
        self.spent.append(made)


def _check(first: Row) -> None:
    """Without the model that everybody begins with there is nothing to play."""
    if first.failed:
        windows = f"windows {first.cell[0]} to {first.cell[1]}"
        raise TrainingFailed(f"the first model, on {windows}, cannot be trained: {first.failed}")


def _misses(matrix: Matrix, cell: Cell) -> Callable[[int], NDArray[np.float32]]:
    return lambda window: matrix.misses(cell, window)


def _played(name: str, matrix: Matrix, served: tuple[Cell, ...], decisions: list[Decision], spent: list[Row]) -> Played:
    windows = list(enumerate(served, matrix.cut.start))
    scores = np.array([matrix.score(cell, window) for window, cell in windows])
    missed = np.array([matrix.missed(cell, window) for window, cell in windows])
    rows, seconds = sum(row.rows for row in spent), sum(row.seconds for row in spent)
    return Played(name, matrix.cut.start, scores, missed, served, tuple(decisions), rows, seconds)
