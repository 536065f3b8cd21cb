"""Bins learned from a reference that may come in pieces: number bins from a sample, category bins from all names.

Takes pieces of a column with the place of their first row; gives `ColumnBins`; never holds more than 262,144 values
or names of a column.

The sample is the rows with the smallest hashes of their number, so that the same rows give the same bins in whatever
pieces they come. Up to 262,144 rows it is all of them. The range is that of all values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from everfit.observe.options import Kind
from everfit.profile import kernels
from everfit.profile.column import CategoryBins, ColumnBins, NumberBins
from everfit.profile.hashes import Hashes, mixed
from everfit.profile.kernels import Floats
from everfit.profile.values import NUMBERS, dimension_of, names, numbers, pieces

SAMPLE = 262_144  # rows that number bins are learned from: a bin of 1/256 is then within 3 % of its share (one sigma)
TOP = 1000  # categories with a count of their own
MOST_KNOWN = 100_000  # above this many categories they are like ids: "not seen before" would say nothing
MOST_NAMES = 262_144  # distinct names held while learning; beyond it the rarest are given up


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What pieces of a column taught so far."""

    kind: Kind
    rows: Hashes  # numbers: hashes of the sampled rows' numbers
    values: Floats  # numbers: the sampled rows' values, NaN for null
    low: float
    high: float
    dimension: int | None
    many: pl.DataFrame | None  # names: `name` and `many`
    lost: bool = False  # whether names were given up

    def bins(self) -> ColumnBins:
        """The bins."""
        if self.many is None:
            finite = self.values[np.isfinite(self.values)]
            ends = [end for end in (self.low, self.high) if isfinite(end)]
            edges = kernels.learn_edges(finite, ends=np.array(ends))
            return NumberBins(edges, _middle(finite), self.dimension)
        found = self.many.sort(["many", "name"], descending=[True, False])
        listed, counts = found["name"].to_list(), found["many"]
        # Equal counts stay together, so that the names of categories never decide which of them get a count.
        cut = int(counts[TOP]) if len(listed) > TOP else 0
        top = int((counts.head(TOP) > cut).sum())
        closed = len(listed) <= MOST_KNOWN and not self.lost
        kept = listed if closed else listed[:top]
        return CategoryBins({name: place for place, name in enumerate(kept)}, top, closed)


def learn_column(values: pl.Series, kind: Kind) -> ColumnBins:
    """Learn a column's bins from the reference's values.

    >>> learn_column(pl.Series(["b", "a", "b", None]), Kind.CATEGORY).places
    {'b': 0, 'a': 1}
    """
    taught, row = nothing_learned(kind), 0
    for piece in pieces(values):
        taught = learn_more(taught, learn_piece(piece, kind, values.name, row))
        row += len(piece)
    return taught.bins()


def nothing_learned(kind: Kind) -> Learned:
    """Before the first piece."""
    many = None if kind in NUMBERS else pl.DataFrame(schema={"name": pl.String, "many": pl.Int64})
    none = np.zeros(0, dtype=np.uint64)
    return Learned(kind, none, np.zeros(0), np.inf, -np.inf, None, many)


def learn_piece(piece: pa.Array, kind: Kind, name: str, row: int) -> Learned:
    """Learn from one piece, whose first row has this number in the reference."""
    if kind not in NUMBERS:
        return _names_of(piece, kind, name)
    values = numbers(piece, kind, name).values
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (np.inf, -np.inf)
    dimension = dimension_of(piece) if kind is Kind.VECTOR else None  # that of the first piece with vectors counts
    hashes, at = _sampled(row, len(values))
    return Learned(kind, hashes, values if at is None else values[at], low, high, dimension, None)


def learn_more(a: Learned, b: Learned) -> Learned:
    """What both taught."""
    dimension = a.dimension or b.dimension
    if a.many is not None and b.many is not None:
        many = pl.concat([a.many, b.many]).group_by("name").agg(pl.col("many").sum())
        lost = a.lost or b.lost or many.height > MOST_NAMES
        if many.height > MOST_NAMES:
            many = many.sort(["many", "name"], descending=[True, False]).head(MOST_NAMES // 2)
        return Learned(a.kind, a.rows, a.values, a.low, a.high, dimension, many, lost)
    rows, values = np.concatenate([a.rows, b.rows]), np.concatenate([a.values, b.values])
    if len(rows) > SAMPLE:
        at = np.argpartition(rows, SAMPLE - 1)[:SAMPLE]
        rows, values = rows[at], values[at]
    return Learned(a.kind, rows, values, min(a.low, b.low), max(a.high, b.high), dimension, None)


@lru_cache(maxsize=8)
def _sampled(row: int, size: int) -> tuple[Hashes, NDArray[np.intp] | None]:
    """Hashes of the row numbers that a sample may need, and where they are; None: all."""
    hashes = mixed(np.arange(row, row + size, dtype=np.uint64))
    if size <= SAMPLE:
        return hashes, None
    at = np.argpartition(hashes, SAMPLE - 1)[:SAMPLE]
    return hashes[at], at


def _names_of(piece: pa.Array, kind: Kind, name: str) -> Learned:
    empty = nothing_learned(kind)
    if piece.null_count == len(piece):
        return empty
    read = names(piece, name)
    many = np.bincount(read.codes, minlength=len(read.names))
    told = pl.DataFrame({"name": pl.Series(read.names, dtype=pl.String), "many": many}).filter(pl.col("many") > 0)
    return Learned(kind, empty.rows, empty.values, np.inf, -np.inf, None, told)


def _middle(finite: Floats) -> float:
    """The mean, or 0 where there is none or it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        middle = float(finite.mean()) if finite.size else 0.0
    return middle if isfinite(middle) else 0.0
