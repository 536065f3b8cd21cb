"""Histories whose models' scores are known by formula: a backtest without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from everfit.adapters.cell_files import Scored, Trained
from everfit.replay.matrix import Cell, Cut, Matrix, even_cut

ROWS = 20  # a window


class Formula:
    """Models trained by a formula: score(first, last, window). What was asked for is remembered."""

    def __init__(
        self, score: Callable[[int, int, int], float], windows: int, noise: float = 0.0, seed: int = 0
    ) -> None:
        self.asked: list[Cell] = []
        self.looked: list[tuple[Cell, Cell]] = []
        self.failing: set[Cell] = set()
        self._score, self._windows, self._noise, self._seed = score, windows, noise, seed

    def want(self, cells: Iterable[Cell]) -> None:
        """Nothing is in the background here."""

    def take(self, cell: Cell, *, whole: bool = False) -> Trained:
        self.asked.append(cell)
        if cell in self.failing:
            return Trained(np.full((self._windows, 2), np.nan), 0.0, 0, failed="the rows are odd")
        return Trained(self._levels(cell)[:, 1:], 1.5, (cell[1] - cell[0] + 1) * ROWS)

    def scored(self, cell: Cell, span: Cell) -> Scored:
        self.looked.append((cell, span))
        levels = self._levels(cell)[span[0] : span[1] + 1]
        return Scored(levels, 1 - levels[:, 0], 0.25)

    def misses(self, cell: Cell, window: int) -> NDArray[np.float32]:
        return np.repeat(1 - self._levels(cell)[window, 0], ROWS).astype(np.float32)

    def _levels(self, cell: Cell) -> NDArray[np.float64]:
        first, last = cell
        levels: NDArray[np.float64] = np.full((self._windows, 3), np.nan)
        rng = np.random.default_rng((self._seed, first, last))
        for window in range(last + 1, self._windows):
            halves = self._noise * np.sqrt(2) * rng.normal(size=2)
            levels[window] = self._score(first, last, window) + np.array([halves.mean(), *halves])
        return levels


def matrix_of(
    score: Callable[[int, int, int], float], windows: int = 60, noise: float = 0.0, seed: int = 0
) -> tuple[Matrix, Formula]:
    """A matrix over such models; the first is trained on ten windows."""
    cells = Formula(score, windows, noise, seed)
    return Matrix(cells, cut_of(windows)), cells


def cut_of(windows: int) -> Cut:
    return even_cut(windows * ROWS, windows, 10, greater_is_better=True)


def steady(first: int, last: int, window: int) -> float:
    """Nothing ever changes."""
    return 0.8


def stale(first: int, last: int, window: int) -> float:
    """A model loses a point for every window of its age, and old rows harm."""
    return 0.9 - 0.01 * (window - last) - 0.005 * (last - first)


def flip_at(change: int) -> Callable[[int, int, int], float]:
    """Another concept from a window on: a model is as good as its share of rows of the concept."""

    def score(first: int, last: int, window: int) -> float:
        new = max(0, last - max(first, change) + 1) / (last - first + 1)
        return 0.4 + 0.5 * (new if window >= change else 1 - new)

    return score


def returning(period: int) -> Callable[[int, int, int], float]:
    """Two concepts by turns."""

    def score(first: int, last: int, window: int) -> float:
        of = [(row // period) % 2 for row in range(first, last + 1)]
        share = float(np.mean([each == (window // period) % 2 for each in of]))
        return 0.4 + 0.5 * share

    return score
