"""How rows of one key hang together: what a look adds to the evidence, in rows that count as one.

Takes how many rows each key has, and how many of them are new; gives a design effect of at least 1; never knows whose
keys they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def effect_of(rows: ArrayLike, fresh: ArrayLike) -> float:
    """How many of the new rows count as one, if all rows of a key were one answer.

    Kish (1965): rows in groups that agree throughout are worth sum(n)^2 / sum(n^2) of them, so their mean sways
    sum(n^2) / sum(n) times as much. A look sees only some rows of a key, and the next look more of the same: so what
    counts is by how much the new rows raise sum(n^2), over all rows of the release so far. The first row of a key
    counts whole, the twentieth as a 39th.

    Args:
        rows: of each key in the release so far, shape (keys,).
        fresh: those of them that are weighed now, shape (keys,).

    Returns:
        The design effect of the new rows: 1 where every key has one row, or nothing is new.

    >>> effect_of([20, 20], [20, 20]), effect_of([20, 20], [1, 1]), effect_of([1, 1, 1], [1, 0, 1])
    (20.0, 39.0, 1.0)
    """
    now, new = np.asarray(rows, dtype=np.float64), np.asarray(fresh, dtype=np.float64)
    many = float(new.sum())
    raised = float((now**2 - (now - new) ** 2).sum())
    return max(1.0, raised / many) if many else 1.0
