"""Bins and portraits of rows that do not fit into memory: they come in parts, each some columns of some rows.

Takes parts that know how to fetch themselves; gives `Bins` and `Profile`s; never holds more than a few parts.

Two threads count, each a part of its own; their counts are added up in the order of the parts, so that the same parts
give the same bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from everfit.observe.options import Kind
from everfit.observe.schema import Column
from everfit.profile.learning import Learned, learn_more, learn_piece, nothing_learned
from everfit.profile.portrait import Counted, Portrait
from everfit.profile.table import Bins, Profile, bins_of
from everfit.profile.values import names

THREADS = 2
AHEAD = 4  # parts that are under way at once: two being counted, two waiting to be added up

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Part:
    """Some columns of some consecutive rows. Every column of a row is in one part."""

    row: int  # number of its first row
    rows: int
    read: Callable[[], pa.Table]  # called once, in any thread


def as_parts(batches: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[Part]:
    """Parts of batches that hold all columns, in the order of their rows.

    >>> [part.row for part in as_parts([pa.table({"x": [1, 2]}), pa.table({"x": [3]})])]
    [0, 2]
    """
    row = 0
    for batch in batches:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        yield Part(row, table.num_rows, lambda table=table: table)  # type: ignore[misc]  # mypy: a default binds it now
        row += table.num_rows


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a first reading of a reference taught."""

    bins: Bins
    rows: int


def learn_parts(parts: Iterable[Part], columns: Sequence[Column]) -> Lesson:
    """Learn the bins of columns from a reference, and how many rows it has. A column that does not come is null.

    >>> parts = as_parts([pa.table({"x": [1.0, 2.0]}), pa.table({"x": [3.0]})])
    >>> learn_parts(parts, [Column("x", Kind.NUMBER)]).bins.columns["x"][1].edges.round().tolist()
    [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    """
    kinds = {column.name: column.kind for column in columns}
    taught = {name: nothing_learned(kind) for name, kind in kinds.items()}

    def learn(part: Part) -> dict[str, Learned]:
        table = part.read()
        return {
            name: _learned(table[name], kinds[name], name, part.row) for name in table.column_names if name in kinds
        }

    rows = 0
    for part, found in _with_parts(learn, parts):
        rows = max(rows, part.row + part.rows)
        for name, more in found.items():
            taught[name] = learn_more(taught[name], more)
    return Lesson(bins_of({name: (kinds[name], each.bins()) for name, each in taught.items()}), rows)


def portray_parts(parts: Iterable[Part], bins: Bins, *, piece: int | None = None, distinct: bool = True) -> Profile:
    """Portray rows on the reference's bins; with `piece`, keep the counts of every so many rows as the profile's past.

    >>> parts = list(as_parts([pa.table({"x": [1.0, 2.0]}), pa.table({"x": [None, 3.0]})]))
    >>> portray_parts(parts, learn_parts(parts, [Column("x", Kind.NUMBER)]).bins).columns["x"].nulls
    1
    """
    portrait = Portrait(bins, piece=piece, distinct=distinct)

    def count(part: Part) -> Counted:
        return portrait.count(part.row, part.read())

    for part, counted in _with_parts(count, parts):
        portrait.add(part.row, part.rows, counted)
    return portrait.profile()


def portray_groups(
    parts: Iterable[Part], bins: Bins, by: str, groups: Mapping[str, int | None], *, distinct: bool = True
) -> dict[str, Profile]:
    """Portray the rows of each value of a column for itself, in one reading.

    Args:
        parts: Parts that hold all columns, `by` among them.
        bins: Of the reference, without a column `by`.
        by: The column whose values make the groups.
        groups: The values as text, and how many rows a piece of a group's past has; None keeps no past.
        distinct: Count distinct values too.

    >>> parts = list(as_parts([pa.table({"x": [1.0, 2.0, 3.0], "shop": ["a", "b", "a"]})]))
    >>> bins = learn_parts(parts, [Column("x", Kind.NUMBER)]).bins
    >>> {value: group.rows for value, group in portray_groups(parts, bins, "shop", {"a": None, "c": None}).items()}
    {'a': 2, 'c': 0}
    """
    portraits = {value: Portrait(bins, piece=piece, distinct=distinct) for value, piece in groups.items()}
    rows = dict.fromkeys(groups, 0)

    def split() -> Iterator[_Group]:
        for part in parts:
            table = part.read()
            for value, mine in _split(table, by, groups):
                yield _Group(value, rows[value], mine)
                rows[value] += mine.num_rows

    def count(group: _Group) -> Counted:
        return portraits[group.value].count(group.row, group.table)

    for group, counted in _with_parts(count, split()):
        portraits[group.value].add(group.row, group.table.num_rows, counted)
    return {value: portrait.profile() for value, portrait in portraits.items()}


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of one group in one part."""

    value: str
    row: int  # number of their first row within the group
    table: pa.Table


def _split(table: pa.Table, by: str, groups: Mapping[str, int | None]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each group, without the column that makes the groups."""
    column = table[by].combine_chunks()
    read = names(column, by)
    places = np.full(len(column), -1, dtype=np.intp)
    places[np.asarray(column.is_valid())] = read.codes
    rest = table.drop_columns([by])
    for code, value in enumerate(read.names.to_pylist()):
        if value in groups and (mine := np.flatnonzero(places == code)).size:
            yield value, rest.take(pa.array(mine))


def _learned(column: pa.ChunkedArray, kind: Kind, name: str, row: int) -> Learned:
    taught = nothing_learned(kind)
    for array in column.chunks:
        taught = learn_more(taught, learn_piece(array, kind, name, row))
        row += len(array)
    return taught


def _with_parts(work: Callable[[Item], Done], parts: Iterable[Item]) -> Iterator[tuple[Item, Done]]:
    """Work on parts in two threads; hand on what was done in the parts' order."""
    waiting: deque[tuple[Item, Future[Done]]] = deque()
    with ThreadPoolExecutor(THREADS) as threads:
        for part in parts:
            waiting.append((part, threads.submit(work, part)))
            if len(waiting) >= AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
