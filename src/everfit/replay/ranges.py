"""What other training rows would have brought: all so far, or those since a change, instead of the last windows.

Takes a matrix and the models that policies trained; gives the gain over the recent model of the same age; never trains
one for this.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from everfit.replay.matrix import Cell, Matrix
from everfit.replay.record import RangeGain

YOUNG = 5  # windows of age: what an older model scores says more about its age than about its rows


def range_gains(matrix: Matrix, trained: Iterable[Cell]) -> tuple[RangeGain, ...]:
    """What training on all rows, and on those since a change, gained over the recent rows.

    Each model is compared with the recent one whose rows end with the same window, so at equal age, in the windows
    after. The error is that of the mean over models.

    Args:
        matrix: with the recent models.
        trained: what policies trained, recent models among them or not.
    """
    apart: dict[str, list[float]] = {"all": [], "change": []}
    for cell in sorted(set(trained)):
        recent = matrix.recent(cell[1])
        if cell == recent:
            continue
        lost = _apart(matrix, cell, recent)
        if lost is not None:
            apart["all" if cell[0] == 0 else "change"].append(lost)
    return tuple(RangeGain(rows, len(each), float(np.mean(each)), _error(each)) for rows, each in apart.items() if each)


def _apart(matrix: Matrix, cell: Cell, recent: Cell) -> float | None:
    ours, theirs = matrix.row(cell), matrix.row(recent)
    if ours.failed or theirs.failed:
        return None
    windows = range(cell[1] + 1, min(cell[1] + 1 + YOUNG, matrix.cut.windows))
    apart = np.array([matrix.score(cell, window) - matrix.score(recent, window) for window in windows])
    return float(np.nanmean(apart)) if np.isfinite(apart).any() else None


def _error(each: list[float]) -> float | None:
    return float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else None
