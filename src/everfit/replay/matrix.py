"""The matrix of a backtest: every model that a policy may ask for, trained once, and its scores in later windows.

Takes a source of trained models and how history is cut; gives scores in points by window; never trains or scores what
nobody asks for, and never holds row losses in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from everfit.adapters.cell_files import Scored, Trained
from everfit.errors import UsageError

Floats = NDArray[np.float64]
Cell = tuple[int, int]  # first and last window of a model's training rows


LARGE = 1000  # rows of a window beyond which not every model is looked at


class Cells(Protocol):
    """Where trained models come from: `adapters.pool.CellPool`, or a function in a test. Asked from several threads."""

    def want(self, cells: Iterable[Cell]) -> None:
        """Have these trained some time, without waiting."""
        ...

    def take(self, cell: Cell, *, whole: bool = False) -> Trained:
        """What became of one, now; with `whole` it is scored in all later windows too, before others."""
        ...

    def scored(self, cell: Cell, span: Cell) -> Scored:
        """Its scores in a span of later windows."""
        ...

    def misses(self, cell: Cell, window: int) -> NDArray[np.float32]:
        """The miss of each scored row of one later window."""
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """How history is cut and read."""

    edges: tuple[int, ...]  # row at which each window begins, and the number of rows
    start: int  # windows of the first training set
    greater_is_better: bool  # of the metric
    unit: float = 1.0  # a loss of this size is no better than a constant: see decide.bench_reads.as_points
    most: int = 0  # rows scored in a window, the same for every model; 0: all
    few: int = 256  # rows of a window in the first look, on which hindsight and ageing are read

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self.edges) - 1

    @property
    def stride(self) -> int:
        """Windows between two models that hindsight may choose.

        A look costs as much as training on 2,000 rows: where windows are large it is worth having, but not for all.
        """
        return 1 if self.edges[-1] <= LARGE * self.windows else 3

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
    few: Floats  # (windows, 2): points on even and odd rows of a few of the windows looked at; NaN else, or undefined
    seconds: float  # spent training
    rows: int  # trained on
    failed: str = ""  # why there is no model


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """One model's scores, as far as they were asked for; NaN elsewhere."""

    levels: Floats  # (windows, 3): points on all, even and odd rows
    missed: Floats  # (windows,): mean miss of the rows
    there: NDArray[np.bool_]  # (windows,): asked for


class Matrix:
    """The models of one history. Reading a row trains its model first, if it must; reading a score has it scored."""

    def __init__(self, cells: Cells, cut: Cut) -> None:
        self.cut = cut
        self._cells = cells
        self._rows: dict[Cell, Row] = {}
        self._scores: dict[Cell, Scores] = {}
        self._scoring: dict[tuple[Cell, int], float] = {}  # seconds, by what was asked
        self._silent: dict[Cell, str] = {}  # models that could not predict some rows, and why

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
        """One model."""
        return self._rows.get(cell) or self._kept(cell, self._cells.take(cell))

    def whole(self, cell: Cell) -> tuple[Row, Scores]:
        """One model with its scores in all later windows."""
        row = self._kept(cell, self._cells.take(cell, whole=True))
        return row, self._known(cell) if row.failed else self._read(cell, (cell[1] + 1, self.cut.windows - 1))

    def score(self, cell: Cell, window: int) -> float:
        """One model's points in one later window; NaN: undefined, or it could not predict."""
        return float(self._at(cell, window).levels[window, 0])

    def missed(self, cell: Cell, window: int) -> float:
        """The mean miss of its rows there."""
        return float(self._at(cell, window).missed[window])

    def misses(self, cell: Cell, window: int) -> NDArray[np.float32]:
        """The miss in [0, 1] of each scored row of one later window."""
        self._at(cell, window)
        return self._cells.misses(cell, window)

    def looks(self) -> dict[Cell, Floats]:
        """The first look at recent models on hindsight's grid, (windows, 2); windows in between by their neighbours.

        There an old model stands as far from the freshest one as it does between the windows before and after.
        """
        rows = [row for cell in self.every() if not (row := self.row(cell)).failed]
        fresh = np.full((self.cut.windows, 2), np.nan)
        for row in rows:
            fresh[row.cell[1] + 1] = row.few[row.cell[1] + 1]
        grid = [row for row in rows if (row.cell[1] - self.cut.start + 1) % self.cut.stride == 0]
        return {row.cell: between(row.few, fresh, row.cell[1] + 1) for row in grid}

    def spent(self) -> tuple[float, float]:
        """Seconds of training and of scoring behind all that was asked for, in whatever run it was made."""
        return sum(row.seconds for row in self._rows.values()), sum(self._scoring.values())

    def failures(self) -> dict[Cell, str]:
        """Models that could not be trained, or could not predict, in their own words."""
        return {cell: row.failed for cell, row in list(self._rows.items()) if row.failed} | self._silent

    def _kept(self, cell: Cell, made: Trained) -> Row:
        few = self._points(made.few)
        row = Row(cell, few, made.seconds, made.rows or self.cut.rows(cell), made.failed)
        self._scoring[cell, -1] = made.scoring
        return self._rows.setdefault(cell, row)

    def _at(self, cell: Cell, window: int) -> Scores:
        """Have a window scored, with the others of its block: of age 1, 2 to 5, 6 to 13, 14 to 29 and so on.

        What has served long will serve longer, and a question costs as much as five windows (10 ms).
        """
        known = self._known(cell)
        if known.there[window]:
            return known
        age = window - cell[1]
        size = 2 ** int(np.log2(age + 2))  # 2 for age 1, 4 for 2 to 5, 8 for 6 to 13
        first, end = max(1, size - 2), 2 * size - 2
        return self._read(cell, (cell[1] + first, min(cell[1] + end, self.cut.windows) - 1))

    def _read(self, cell: Cell, span: Cell) -> Scores:
        known = self._known(cell)
        if span[0] > span[1] or known.there[span[0] : span[1] + 1].all():
            return known
        found = self._cells.scored(cell, span)
        at = slice(span[0], span[1] + 1)
        # Several threads may do this at once: they write the same values, and `there` comes last.
        known.levels[at], known.missed[at] = self._points(found.levels), found.missed
        self._scoring[cell, span[0]] = found.scoring
        if found.failed:
            self._silent[cell] = found.failed
        known.there[at] = True
        return known

    def _known(self, cell: Cell) -> Scores:
        if cell not in self._scores:
            many = self.cut.windows
            fresh = Scores(np.full((many, 3), np.nan), np.full(many, np.nan), np.zeros(many, dtype=np.bool_))
            return self._scores.setdefault(cell, fresh)
        return self._scores[cell]

    def _points(self, levels: Floats) -> Floats:
        return levels if self.cut.greater_is_better else 1.0 - levels / self.cut.unit


def between(few: Floats, fresh: Floats, first: int) -> Floats:
    """What was not looked at: the freshest model's points, and the distance from it, which changes slowly."""
    filled = few.copy()
    windows = np.arange(len(few))
    for half in (0, 1):
        apart = few[:, half] - fresh[:, half]
        known = np.isfinite(apart)
        if known.any():
            at = np.isnan(few[:, half]) & (windows >= first)
            filled[at, half] = fresh[at, half] + np.interp(windows[at], windows[known], apart[known])
    return filled
