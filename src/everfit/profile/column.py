"""The portrait of one column: its bins, learned from a reference, and what fell into them.

Takes pieces of a column; gives `ColumnProfile`s on `ColumnBins`, which add up; never keeps a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import isfinite, sqrt

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everfit.observe.options import Kind
from everfit.profile import hashes, kernels, sketch
from everfit.profile.hashes import Hashes
from everfit.profile.kernels import Counts, Floats, Span
from everfit.profile.sketch import Frequent
from everfit.profile.values import Names, Numbers, names, numbers, pieces

NO_HASHES: Hashes = np.zeros(0, dtype=np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class NumberBins:
    """Bins of a number or moment column."""

    edges: Floats  # left-closed bins between neighbours; empty when the reference had no finite value
    shift: float  # moments are summed about this: the reference's mean, so that nothing cancels
    dimension: int | None = None  # numbers in a vector; None for other kinds

    @property
    def size(self) -> int:
        """How many counts there are: below, the bins, above."""
        return len(self.edges) + 1


@dataclass(frozen=True, slots=True, eq=False)
class CategoryBins:
    """Bins of a category or flag column."""

    places: Mapping[str, int]  # every known category; those with a place below `top` have a count of their own
    top: int
    closed: bool  # whether all categories of the reference are known, so that an unknown one was not seen before

    @property
    def size(self) -> int:
        """How many counts there are: the top categories, then other, then unseen."""
        return self.top + 2


ColumnBins = NumberBins | CategoryBins


@dataclass(frozen=True, slots=True)
class Moments:
    """What a number column has besides counts. Sums agree over any partition within 1e-9 of their size."""

    nan: int
    minus_inf: int
    plus_inf: int
    total: float  # sum of (value - shift) over finite values
    squares: float  # sum of (value - shift)^2 over finite values
    low: float  # smallest finite value; +inf if there is none
    high: float  # largest finite value; -inf if there is none


@dataclass(frozen=True, slots=True, eq=False)
class ColumnProfile:
    """What is known about one column of a window."""

    kind: Kind
    bins: ColumnBins
    count: int  # rows, nulls included
    nulls: int
    counts: Counts  # numbers: below, bins, above; categories: top ones, other, unseen
    moments: Moments | None  # None for categories and flags
    buckets: Counts | None = None  # categories only: all present values, by a hash of their text that never changes
    hashes: Hashes | None = None  # the smallest hashes of the values; None where the portrait was stored without
    rest: Frequent | None = None  # categories and flags: frequent names among those without a count of their own

    @property
    def present(self) -> int:
        """Values that are in the counts: not null, not NaN, not infinite."""
        return int(self.counts.sum())

    @property
    def absent(self) -> int:
        """Rows without a usable value: null, NaN or infinite."""
        return self.count - self.present

    @property
    def null_share(self) -> float:
        """Share of rows without a usable value; 0 without rows."""
        return self.absent / self.count if self.count else 0.0

    @property
    def mean(self) -> float | None:
        """Mean of the finite values; None without any, or when it overflows."""
        if self.moments is None or not isinstance(self.bins, NumberBins) or not self.present:
            return None
        mean = self.bins.shift + self.moments.total / self.present
        return mean if isfinite(mean) else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the finite values; None without any, or when it overflows."""
        if self.moments is None or not self.present:
            return None
        mean_square, shifted = self.moments.squares / self.present, self.moments.total / self.present
        spread = mean_square - shifted * shifted
        return sqrt(max(0.0, spread)) if isfinite(spread) else None

    @property
    def distinct(self) -> int | None:
        """Distinct values: exact below 1,024, else within 3.1 % (one sigma); None when it was not kept."""
        return None if self.hashes is None else sketch.distinct(self.hashes)

    @property
    def outside(self) -> int:
        """Values below or above everything that the reference held; 0 where that is no question."""
        if not isinstance(self.bins, NumberBins) or not len(self.bins.edges):
            return 0
        return int(self.counts[0] + self.counts[-1])

    @property
    def unseen(self) -> int:
        """Values of categories that the reference did not have."""
        return int(self.counts[-1]) if isinstance(self.bins, CategoryBins) else 0


def portray_column(values: pl.Series, kind: Kind, bins: ColumnBins) -> ColumnProfile:
    """Count a column into bins that were learned before.

    >>> seen = portray_column(pl.Series(["a", "c", None]), Kind.CATEGORY, CategoryBins({"a": 0}, 1, True))
    >>> seen.counts.tolist(), seen.nulls, seen.distinct
    ([1, 0, 1], 1, 2)
    """
    counter = Counter(values.name, kind, bins)
    found = [counter.count(piece)[0] for piece in pieces(values)]
    return reduce(merge_columns, found) if found else empty_column(kind, bins)


def empty_column(kind: Kind, bins: ColumnBins) -> ColumnProfile:
    """The portrait of no rows."""
    nothing = np.zeros(bins.size, dtype=np.int64)
    if isinstance(bins, NumberBins):
        return ColumnProfile(kind, bins, 0, 0, nothing, Moments(0, 0, 0, 0.0, 0.0, np.inf, -np.inf), None, NO_HASHES)
    buckets = np.zeros(hashes.BUCKETS, dtype=np.int64) if kind is Kind.CATEGORY else None
    return ColumnProfile(kind, bins, 0, 0, nothing, None, buckets, NO_HASHES, Frequent())


def absent_column(rows: int, kind: Kind, bins: ColumnBins) -> ColumnProfile:
    """The portrait of a column that the rows do not have: all null.

    >>> absent_column(3, Kind.FLAG, CategoryBins({}, 0, True)).null_share
    1.0
    """
    return replace(empty_column(kind, bins), count=rows, nulls=rows)


def merge_columns(a: ColumnProfile, b: ColumnProfile) -> ColumnProfile:
    """Add two portraits on the same bins; the caller has checked that the bins are equal."""
    moments = None
    if a.moments is not None and b.moments is not None:
        x, y = a.moments, b.moments
        moments = Moments(
            x.nan + y.nan,
            x.minus_inf + y.minus_inf,
            x.plus_inf + y.plus_inf,
            x.total + y.total,
            x.squares + y.squares,
            min(x.low, y.low),
            max(x.high, y.high),
        )
    return ColumnProfile(
        a.kind,
        a.bins,
        a.count + b.count,
        a.nulls + b.nulls,
        a.counts + b.counts,
        moments,
        None if a.buckets is None or b.buckets is None else a.buckets + b.buckets,
        None if a.hashes is None or b.hashes is None else sketch.smallest(a.hashes, b.hashes),
        None if a.rest is None or b.rest is None else sketch.frequent(a.rest, b.rest.counts, b.rest.missed),
    )


def heavy_hitters(column: ColumnProfile, most: int = 10) -> list[tuple[str, int]]:
    """The most frequent categories and about how often they occur; see `Frequent` for how far off that may be.

    >>> shops = portray_column(pl.Series(list("abbn")), Kind.CATEGORY, CategoryBins({"a": 0, "b": 1}, 2, True))
    >>> heavy_hitters(shops, 2)
    [('b', 2), ('a', 1)]
    """
    if not isinstance(column.bins, CategoryBins):
        return []
    found = {name: int(column.counts[place]) for name, place in column.bins.places.items() if place < column.bins.top}
    found.update(column.rest.counts if column.rest else {})
    ranked = sorted(((name, many) for name, many in found.items() if many), key=lambda each: (-each[1], each[0]))
    return ranked[:most]


class Counter:
    """Counts pieces of one column into its bins. Made once for a column and used for all its pieces, by any thread."""

    def __init__(self, name: str, kind: Kind, bins: ColumnBins, *, distinct: bool = True) -> None:
        self.name, self.kind, self.bins, self.distinct = name, kind, bins, distinct
        known = list(bins.places) if isinstance(bins, CategoryBins) else []
        self._known = pa.array(known, type=pa.large_string())
        places = bins.places.values() if isinstance(bins, CategoryBins) else []
        self._places: NDArray[np.int64] = np.array([*places, 0], dtype=np.int64)

    def count(self, piece: pa.Array, spans: Sequence[Span] = ()) -> tuple[ColumnProfile, list[Piece]]:
        """The portrait of a piece, and the mere counts of each of some consecutive spans of its rows."""
        bins, rows = self.bins, len(piece)
        if isinstance(bins, NumberBins):
            return self._numbers(numbers(piece, self.kind, self.name, bins.dimension), bins, rows, spans)
        if piece.null_count == rows:  # of whatever type
            nothing = absent_column(rows, self.kind, bins)
            return nothing, [
                Piece(nothing.counts, stop - start, stop - start, nothing.buckets) for start, stop in spans
            ]
        named = names(piece, self.name)
        coded = _Coded(named, self._places_of(named, bins), hashes.text_hashes(named.names))
        counted = [self._category(coded, bins, start, stop)[0] for start, stop in spans]
        return self._named(coded, bins, rows), counted

    def _numbers(
        self, seen: Numbers, bins: NumberBins, rows: int, spans: Sequence[Span]
    ) -> tuple[ColumnProfile, list[Piece]]:
        told, by_span = kernels.tally_spans(
            seen.values, bins.edges, bins.shift, spans or [(0, rows)], distinct=self.distinct
        )
        nulls = seen.nulls(0, rows)  # a null is NaN among the values
        moments = Moments(
            told.nan - nulls, told.minus_inf, told.plus_inf, told.total, told.squares, told.low, told.high
        )
        whole = ColumnProfile(
            self.kind, bins, rows, nulls, told.counts, moments, None, told.hashes if self.distinct else None
        )
        pieces_ = zip(spans, by_span, strict=False)
        return whole, [Piece(counts, stop - start, seen.nulls(start, stop), None) for (start, stop), counts in pieces_]

    def _places_of(self, named: Names, bins: CategoryBins) -> NDArray[np.int64]:
        """Which count each name goes to."""
        unknown = bins.top + 1 if bins.closed else bins.top
        at = pc.fill_null(pc.index_in(named.names, value_set=self._known), -1).to_numpy(zero_copy_only=False)
        return np.where(at < 0, unknown, np.minimum(self._places[at], bins.top))

    def _named(self, coded: _Coded, bins: CategoryBins, rows: int) -> ColumnProfile:
        found, many = self._category(coded, bins, 0, rows)
        kept = sketch.smallest(NO_HASHES, coded.text[many > 0]) if self.distinct else None
        rest = self._rest(coded, many, np.flatnonzero((coded.places >= bins.top) & (many > 0)))
        return ColumnProfile(self.kind, bins, rows, found.nulls, found.counts, None, found.buckets, kept, rest)

    def _category(self, coded: _Coded, bins: CategoryBins, start: int, stop: int) -> tuple[Piece, Counts]:
        codes, nulls = coded.named.span(start, stop)
        many: Counts = np.bincount(codes, minlength=len(coded.places))
        counts = np.bincount(coded.places, weights=many, minlength=bins.size).astype(np.int64)
        buckets = hashes.bucket_counts(coded.text, many) if self.kind is Kind.CATEGORY else None
        return Piece(counts, stop - start, nulls, buckets), many

    def _rest(self, coded: _Coded, many: Counts, unplaced: NDArray[np.intp]) -> Frequent:
        """The frequent ones among the names that have no count of their own."""
        if len(unplaced) > 4 * sketch.FREQUENT:  # names that come twice are few; the next ones down are kept for them
            first = np.argpartition(-many[unplaced], 4 * sketch.FREQUENT - 1)[: 4 * sketch.FREQUENT]
            missed = int(np.delete(many[unplaced], first).max())
            unplaced = unplaced[first]
        else:
            missed = 0
        found: dict[str, int] = {}
        for name, times in zip(coded.named.names.take(pa.array(unplaced)).to_pylist(), many[unplaced], strict=True):
            found[name] = found.get(name, 0) + int(times)
        reduced = sketch.frequent(Frequent(), found)
        return Frequent(reduced.counts, max(reduced.missed, missed))


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The mere counts of some rows of a column."""

    counts: Counts
    rows: int
    nulls: int
    buckets: Counts | None


@dataclass(frozen=True, slots=True)
class _Coded:
    """A piece of a category column with what is known of its names."""

    named: Names
    places: NDArray[np.int64]  # of each name: the count it goes to
    text: Hashes  # of each name
