"""How the main policies did for each value of a column that the user chose.

Takes a matrix, the column of all rows and what was played; gives the share of misses per value; never tells more than
twenty values apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from everfit.adapters.cell_files import scored_rows
from everfit.replay.matrix import Matrix
from everfit.replay.play import Played
from everfit.replay.record import Slice

MOST = 20  # values, the most frequent; the rest is told together
PARTS = 4  # a column of numbers is told by quarters


def slice_scores(matrix: Matrix, column: pl.Series, played: Sequence[Played]) -> tuple[Slice, ...]:
    """The mean miss of each policy per value, over all scored rows of all scored windows, frequent values first.

    Args:
        matrix: where the misses are.
        column: (rows,) in time order.
        played: the policies to tell of.
    """
    cut = matrix.cut
    rows, begins = scored_rows(cut.edges, cut.most)
    values, places = _values(column[rows])
    places = places[begins[cut.start] :]
    counts = np.bincount(places, minlength=len(values))
    found = {}
    for each in played:
        missed = [matrix.misses(cell, window) for window, cell in enumerate(each.served, each.first_window)]
        if sum(len(part) for part in missed) == len(places):  # else a model could not predict some window
            sums = np.bincount(places, weights=np.concatenate(missed), minlength=len(values))
            found[each.name] = sums / np.maximum(counts, 1)
    return tuple(
        Slice(value, int(counts[at]), {name: float(shares[at]) for name, shares in found.items()})
        for at, value in enumerate(values)
        if counts[at]
    )


def _values(column: pl.Series) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the values, and which of them each row has."""
    if column.dtype.is_numeric() and column.n_unique() > MOST:
        number = column.cast(pl.Float64).fill_nan(None)
        found = [number.quantile(part / PARTS, "nearest") for part in range(1, PARTS)]
        cuts = sorted({cut for cut in found if cut is not None})
        named = [f"up to {cuts[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(cuts))]
        named = [*named, f"above {cuts[-1]:g}", "missing"]
        filled = number.fill_null(0.0).to_numpy()
        places = np.where(number.is_null().to_numpy(), len(named) - 1, np.searchsorted(np.array(cuts), filled))
        return named, places.astype(np.int64)
    texts = column.cast(pl.String).fill_null("missing")
    ranked = texts.value_counts(sort=True).sort("count", texts.name, descending=[True, False])[texts.name].to_list()
    named = [*ranked[:MOST], *(["all others"] if len(ranked) > MOST else [])]
    at = {name: place for place, name in enumerate(named)}
    return named, np.array([at.get(text, len(named) - 1) for text in texts.to_list()], dtype=np.int64)
