"""The portrait of one column: its bins, learned from a reference, and what fell into them.

Takes series; gives `ColumnBins` and `ColumnProfile`, which add up; never keeps a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite, sqrt

import numpy as np
import polars as pl

from everfit.errors import Refused
from everfit.observe.options import Kind
from everfit.profile import kernels
from everfit.profile.kernels import Counts, Floats

TOP = 1000  # categories with a count of their own
MOST_KNOWN = 100_000  # above this many categories they are like ids: "not seen before" would say nothing
LONGEST = 200  # characters of a category that are kept as they are; longer ones by their beginning and a digest


@dataclass(frozen=True, slots=True, eq=False)
class NumberBins:
    """Bins of a number or moment column."""

    edges: Floats  # left-closed bins between neighbours; empty when the reference had no finite value
    shift: float  # moments are summed about this: the reference's mean, so that nothing cancels

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
    moments: Moments | None  # numbers and moments of time only

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
    def outside(self) -> int:
        """Values below or above everything that the reference held; 0 where that is no question."""
        if not isinstance(self.bins, NumberBins) or not len(self.bins.edges):
            return 0
        return int(self.counts[0] + self.counts[-1])

    @property
    def unseen(self) -> int:
        """Values of categories that the reference did not have."""
        return int(self.counts[-1]) if isinstance(self.bins, CategoryBins) else 0


def learn_column(values: pl.Series, kind: Kind) -> ColumnBins:
    """Learn a column's bins from the reference's values.

    >>> learn_column(pl.Series(["b", "a", "b", None]), Kind.CATEGORY).places
    {'b': 0, 'a': 1}
    """
    if kind in (Kind.NUMBER, Kind.MOMENT):
        numbers = _numbers(values, kind)
        finite = numbers[np.isfinite(numbers)]
        return NumberBins(kernels.learn_edges(finite), _middle(finite))
    names, counts = _counted(values)
    # Equal counts stay together, so that the names of categories never decide which of them get a count.
    cut = counts[TOP] if len(names) > TOP else 0
    top = sum(1 for count in counts[:TOP] if count > cut)
    closed = len(names) <= MOST_KNOWN
    kept = names if closed else names[:top]
    return CategoryBins({name: place for place, name in enumerate(kept)}, top, closed)


def portray_column(values: pl.Series, kind: Kind, bins: ColumnBins) -> ColumnProfile:
    """Count a column into bins that were learned before.

    >>> seen = portray_column(pl.Series(["a", "c", None]), Kind.CATEGORY, CategoryBins({"a": 0}, 1, True))
    >>> seen.counts.tolist(), seen.nulls
    ([1, 0, 1], 1)
    """
    if isinstance(bins, NumberBins):
        numbers = _numbers(values, kind)
        seen = kernels.tally(numbers, bins.edges, bins.shift)
        moments = Moments(seen.nan, seen.minus_inf, seen.plus_inf, seen.total, seen.squares, seen.low, seen.high)
        return ColumnProfile(kind, bins, len(values), len(values) - len(numbers), seen.counts, moments)
    counts = np.zeros(bins.size, dtype=np.int64)
    unknown = bins.top + 1 if bins.closed else bins.top
    present = 0
    for name, many in zip(*_counted(values), strict=True):
        place = bins.places.get(name)
        counts[unknown if place is None else min(place, bins.top)] += many
        present += many
    return ColumnProfile(kind, bins, len(values), len(values) - present, counts, None)


def absent_column(rows: int, kind: Kind, bins: ColumnBins) -> ColumnProfile:
    """The portrait of a column that the rows do not have: all null.

    >>> absent_column(3, Kind.FLAG, CategoryBins({}, 0, True)).null_share
    1.0
    """
    return portray_column(pl.Series([None] * rows, dtype=pl.Null), kind, bins)


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
    return ColumnProfile(a.kind, a.bins, a.count + b.count, a.nulls + b.nulls, a.counts + b.counts, moments)


def _numbers(values: pl.Series, kind: Kind) -> Floats:
    """The values that are not null, as floats; moments of time as seconds since 1970."""
    if kind is Kind.MOMENT and values.dtype != pl.Null:
        if not values.dtype.is_temporal():
            raise Refused(f"column {values.name!r} was learned as moments of time and now holds {values.dtype}")
        present = values.drop_nulls().cast(pl.Datetime("us"), strict=False)
        seconds: Floats = present.to_physical().to_numpy() / 1e6
        return seconds
    if values.dtype.is_nested():
        raise Refused(f"column {values.name!r} holds {values.dtype}; a profile needs numbers, text, flags or times")
    numbers: Floats = values.drop_nulls().cast(pl.Float64, strict=False).drop_nulls().to_numpy()
    return numbers


def _counted(values: pl.Series) -> tuple[list[str], list[int]]:
    """The categories, the most frequent first and equals by name, and how often each occurs."""
    if values.dtype.is_nested():
        raise Refused(f"column {values.name!r} holds {values.dtype}; it needs numbers, text, flags or times")
    found = values.drop_nulls().cast(pl.String).alias("name").value_counts(name="many")
    found = found.sort(["many", "name"], descending=[True, False])
    names: list[str] = found["name"].to_list()
    if any(len(name) > LONGEST for name in names):
        names = [_short(name) for name in names]
    return names, found["many"].to_list()


def _middle(finite: Floats) -> float:
    """The mean, or 0 where there is none or it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        middle = float(finite.mean()) if finite.size else 0.0
    return middle if isfinite(middle) else 0.0


def _short(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    return f"{name[:40]}… {blake2b(name.encode(), digest_size=12).hexdigest()}"
