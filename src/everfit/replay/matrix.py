"""The matrix of a backtest: every model that a policy may ask for, trained once, and its scores on all later windows.

Takes a source of trained models and how history is cut; gives scores in points by window; never trains what nobody
asks for, and never holds more than a few models' row losses in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from everfit.adapters.cells import Trained, scored_rows
from everfit.errors import UsageError

Floats = NDArray[np.float64]
Cell = tuple[int, int]  # first and last window of a model's training rows


class Cells(Protocol):
    """Where trained models come from: `adapters.pool.CellPool`, or a function in a test."""

    def want(self, cells: Iterable[Cell]) -> None:
        """Have these trained some time, without waiting."""
        ...

    def take(self, cell: Cell) -> Trained:
        """What became of one, now."""
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """How history is cut and read."""

    edges: tuple[int, ...]  # row at which each window begins, and the number of rows
    start: int  # windows of the first training set
    greater_is_better: bool  # of the metric
    unit: float = 1.0  # a loss of this size is no better than a constant: see decide.bench_reads.as_points
    most: int = 0  # rows scored in a window, the same for every model; 0: all

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self.edges) - 1

    @property
    def scored(self) -> range:
        """Windows that a policy is scored on."""
        return range(self.start, self.windows)

    def rows(self, cell: Cell) -> int:
        """Rows that a model is trained on.

        >>> Cut((0, 10, 20, 30), 1, True).rows((0, 1))
        20
        """
        return self.edges[cell[1] + 1] - self.edges[cell[0]]


def even_cut(rows: int, windows: int, start: int, *, greater_is_better: bool, unit: float = 1.0) -> Cut:
    """Cut into windows of equal rows.

    >>> even_cut(103, 10, 2, greater_is_better=True).edges[:3]
    (0, 10, 20)

    Raises:
        UsageError: there are fewer rows than windows, or nothing is left to score.
    """
    if windows < start + 2:
        raise UsageError(f"{windows} windows leave nothing to score after the first {start}: take at least {start + 2}")
    if rows < 2 * windows:
        raise UsageError(f"{rows} rows are too few for {windows} windows; use --windows {max(start + 2, rows // 50)}")
    edges = tuple(int(edge) for edge in np.linspace(0, rows, windows + 1))
    return Cut(edges, start, greater_is_better, unit)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One model in the matrix."""

    cell: Cell
    scores: Floats  # (windows,): points; NaN up to its last training window, and where undefined
    halves: Floats  # (windows, 2): the same on even and on odd rows
    seconds: float  # spent training
    scoring: float  # seconds spent on its scores
    rows: int  # trained on
    failed: str = ""  # why there is no model


class Matrix:
    """The models of one history. Reading a row trains its model first, if it must."""

    def __init__(self, cells: Cells, cut: Cut) -> None:
        self.cut = cut
        self._cells = cells
        self._rows: dict[Cell, Row] = {}
        self._last: tuple[Cell, NDArray[np.float32]] | None = None
        self._begins = scored_rows(cut.edges, cut.most)[1]

    def want(self, cells: Iterable[Cell]) -> None:
        """Have these trained in the background."""
        self._cells.want(cells)

    def recent(self, last: int) -> Cell:
        """The model of the `start` windows up to `last`."""
        return (max(0, last - self.cut.start + 1), last)

    def every(self) -> list[Cell]:
        """The recent model of every window that one can serve after."""
        return [self.recent(last) for last in range(self.cut.start - 1, self.cut.windows - 1)]

    def row(self, cell: Cell) -> Row:
        """One model's scores."""
        if cell not in self._rows:
            made = self._cells.take(cell)
            self._last = (cell, made.misses)
            points = self._points(made.levels)
            rows = made.rows or self.cut.rows(cell)
            self._rows[cell] = Row(cell, points[:, 0], points[:, 1:], made.seconds, made.scoring, rows, made.failed)
        return self._rows[cell]

    def misses(self, cell: Cell, window: int) -> NDArray[np.float32]:
        """Losses in [0, 1] of each scored row of one later window."""
        if self._last is None or self._last[0] != cell:
            self._last = (cell, self._cells.take(cell).misses)
        begin = self._begins[cell[1] + 1]
        return self._last[1][self._begins[window] - begin : self._begins[window + 1] - begin]

    def spent(self) -> tuple[float, float]:
        """Seconds of training and of scoring behind all models that were asked for, in whatever run they were made."""
        rows = self._rows.values()
        return sum(row.seconds for row in rows), sum(row.scoring for row in rows)

    def failures(self) -> dict[Cell, str]:
        """Models that could not be trained, with the trainer's words."""
        return {cell: row.failed for cell, row in self._rows.items() if row.failed}

    def _points(self, levels: Floats) -> Floats:
        return levels if self.cut.greater_is_better else 1.0 - levels / self.cut.unit
