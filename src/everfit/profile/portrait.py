"""A portrait that grows: pieces of columns go in, in any order of the columns, and a profile comes out.

Takes tables with the number of their first row; gives `Profile`s with their past; never keeps a row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pyarrow as pa

from everfit.profile.column import ColumnProfile, Counter, Piece, absent_column, empty_column, merge_columns
from everfit.profile.past import pack_past
from everfit.profile.table import Bins, Profile

# Per column, with its pieces of the past by number.
Counted = dict[str, tuple[ColumnProfile, list[tuple[int, Piece]]]]


class Portrait:
    """Rows on the bins of a reference, added up. `count` may run in any thread, `add` in one.

    >>> from everfit.observe.options import Kind
    >>> from everfit.profile.column import CategoryBins
    >>> from everfit.profile.table import bins_of
    >>> grows = Portrait(bins_of({"open": (Kind.FLAG, CategoryBins({"true": 0}, 1, True))}))
    >>> rows = pa.table({"open": [True, True, None]})
    >>> grows.add(0, rows.num_rows, grows.count(0, rows))
    >>> grows.profile().columns["open"].counts.tolist()
    [2, 0, 0]
    """

    def __init__(self, bins: Bins, *, piece: int | None = None, distinct: bool = True) -> None:
        """Begin.

        Args:
            bins: of the reference.
            piece: keep the counts of every so many rows as the profile's past.
            distinct: count distinct values too; takes a quarter of the time.
        """
        self._bins, self._piece = bins, piece
        self._counters = {n: Counter(n, kind, its, distinct=distinct) for n, (kind, its) in bins.columns.items()}
        self._whole: dict[str, ColumnProfile] = {}
        self._past: dict[str, dict[int, Piece]] = defaultdict(dict)
        self._rows = 0

    def count(self, row: int, table: pa.Table) -> Counted:
        """Count a table whose first row has this number; changes nothing."""
        its = [name for name in table.column_names if name in self._counters]
        return {name: _counted(table[name], self._counters[name], row, self._piece) for name in its}

    def add(self, row: int, rows: int, counted: Counted) -> None:
        """Add what was counted in so many rows from this one on."""
        self._rows = max(self._rows, row + rows)
        for name, (more, pieces) in counted.items():
            self._whole[name] = merge_columns(self._whole[name], more) if name in self._whole else more
            past = self._past[name]
            for place, counts in pieces:
                past[place] = _added(past.get(place), counts)

    def profile(self) -> Profile:
        """The portrait of all rows so far. A column that was not in every table is null in the others."""
        columns = {}
        for name, (kind, its) in self._bins.columns.items():
            seen = self._whole.get(name) or empty_column(kind, its)
            missing = self._rows - seen.count
            columns[name] = merge_columns(seen, absent_column(missing, kind, its)) if missing else seen
        return Profile(self._rows, columns, self._bins, _past(self._past, columns, self._rows, self._piece))


def _past(
    past: Mapping[str, Mapping[int, Piece]], columns: Mapping[str, ColumnProfile], rows: int, piece: int | None
) -> bytes:
    if piece is None or not rows:
        return b""
    sizes = [min(piece, rows - row) for row in range(0, rows, piece)]
    told: dict[str, list[Piece]] = {}
    for name, column in columns.items():
        bare = empty_column(column.kind, column.bins)
        nothing = Piece(bare.counts, 0, 0, bare.buckets)
        its = [past[name].get(place, nothing) if name in past else nothing for place in range(len(sizes))]
        told[name] = [replace(each, nulls=each.nulls + size - each.rows) for each, size in zip(its, sizes, strict=True)]
    return pack_past(sizes, told)


def _added(a: Piece | None, b: Piece) -> Piece:
    if a is None:
        return b
    buckets = None if a.buckets is None or b.buckets is None else a.buckets + b.buckets
    return Piece(a.counts + b.counts, a.rows + b.rows, a.nulls + b.nulls, buckets)


def _counted(
    column: pa.ChunkedArray, counter: Counter, row: int, piece: int | None
) -> tuple[ColumnProfile, list[tuple[int, Piece]]]:
    whole, past = empty_column(counter.kind, counter.bins), []
    for array in column.chunks:
        spans = [] if piece is None else list(_spans(row, len(array), piece))
        more, pieces = counter.count(array, [(start - row, stop - row) for start, stop in spans])
        past += [(start // (piece or 1), each) for (start, _), each in zip(spans, pieces, strict=True)]
        whole = merge_columns(whole, more) if whole.count else more
        row += len(array)
    return whole, past


def _spans(row: int, size: int, piece: int) -> Iterator[tuple[int, int]]:
    """Rows from `row` on, cut where a piece of the past ends."""
    start, end = row, row + size
    while start < end:
        stop = min(end, (start // piece + 1) * piece)
        yield start, stop
        start = stop
