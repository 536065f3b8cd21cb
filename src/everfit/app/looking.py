"""Looking at files that belong to no project: their profile, and how unlike two of them are.

Takes names of files, globs, Delta tables and stored profiles; gives a `Profile` or a `Comparison`; never keeps more of
the rows than a few parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import polars as pl

from everfit.adapters.columns import Rows, open_rows
from everfit.detect.compare import ALPHA, Sides, hold, past_piece, shared
from everfit.detect.compared import Comparison, listed, worded
from everfit.errors import Refused, UsageError
from everfit.observe.options import FeatureOptions, Kind
from everfit.observe.schema import RESERVED, Column, Schema, kind_of, learn
from everfit.profile.column import heavy_hitters
from everfit.profile.past import piece_rows
from everfit.profile.stream import learn_parts, portray_groups, portray_parts
from everfit.profile.table import OLD, Bins, Profile

Held = Callable[[Sides], Comparison]
MOST_GROUPS = 50  # values of the column of `--by`, the most frequent ones


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a comparison, opened but not read."""

    rows: Rows
    schema: Schema
    left_out: tuple[str, ...]  # columns that cannot be portrayed, with what they hold


def profile_file(where: str, like: Profile | None = None) -> Profile:
    """The profile of a file, on bins of its own or on those of another profile. On its own, it has a past.

    Raises:
        Refused: the file cannot be read or has no column that can be portrayed.
    """
    side = _open(where)
    if like is None:
        names = side.schema.names()
        lesson = learn_parts(side.rows.parts(names), side.schema.features)
        return portray_parts(side.rows.parts(names), lesson.bins, piece=piece_rows(lesson.rows))
    names = [name for name in side.schema.names() if name in like.bins.columns]
    return portray_parts(side.rows.parts(names), like.bins)


def stored_profile(where: str, like: Profile | None = None) -> Profile | None:
    """The profile that was written into a file; None if it holds something else.

    Raises:
        Refused: it is a profile, and damaged or too old.
    """
    path = Path(where)
    if not path.is_file():
        return None
    with path.open("rb") as content:
        if content.read(len(OLD)) != OLD:
            return None
    return Profile.from_bytes(path.read_bytes(), None if like is None else like.bins)


def told_profile(profile: Profile) -> dict[str, Any]:
    """A profile as plain values: what people and JSON are told of each column."""
    columns = []
    for name, column in profile.columns.items():
        low, high = (column.moments.low, column.moments.high) if column.moments else (None, None)
        most = heavy_hitters(column, 5)
        columns.append(
            {
                "name": name,
                "kind": column.kind.value,
                "count": column.count,
                "nulls": column.null_share,
                # Of text the lengths are portrayed, of vectors the norms: how many of those differ tells nothing.
                "distinct": None if column.kind in (Kind.TEXT, Kind.VECTOR) else column.distinct,
                "low": _worded(low, column.kind),
                "mean": _worded(column.mean, column.kind),
                "high": _worded(high, column.kind),
                "deviation": column.deviation,
                "most": ", ".join(f"{category} {many:,}" for category, many in most) or None,
                "frequent": [{"value": category, "count": many} for category, many in most],
            }
        )
    return {"rows": profile.rows, "columns": columns}


def _worded(value: float | None, kind: Kind) -> float | str | None:
    if value is None or not isfinite(value):
        return None
    return worded(value, kind) if kind is Kind.MOMENT else value


def compare_files(
    reference: str, current: str, *, alpha: float = ALPHA, by: str | None = None, pictures: bool = True
) -> Comparison:
    """Hold two files, globs, Delta tables or stored profiles against each other.

    Args:
        reference: What is usual.
        current: What is looked at.
        alpha: Chance of any false drift alarm in the whole answer; with `by`, half of it is for the groups.
        by: A column within whose values the rows are compared once more.
        pictures: Whether the answer is to be drawn.

    Raises:
        Refused: a side cannot be read, or a stored profile does not fit the other side.
        UsageError: `by` and a stored profile do not go together, or there is no such column.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"--alpha {alpha:g}: the chance of a false alarm lies between 0 and 1, such as 0.01")
    then = stored_profile(reference)
    now = stored_profile(current, then)
    if by is not None:
        if then is not None or now is not None:
            raise UsageError("--by needs the rows: give files and not stored profiles")
        return _compared_by(_open(reference, by), _open(current, by), alpha, by)
    if now is not None:
        return _of_profiles(then, now, reference, partial(hold, alpha=alpha, pictures=pictures))
    side = _open(current)
    if then is not None:
        return _said(_against(then, side, partial(hold, alpha=alpha, pictures=pictures)), side)
    first = _open(reference)
    return _said(_of_rows(first, side, partial(hold, alpha=alpha, pictures=pictures)), first, side)


def _open(where: str, by: str | None = None) -> _Side:
    """Open rows and learn their columns; what cannot be portrayed is left out and named."""
    rows = open_rows(where)
    if rows.head.is_empty():
        raise Refused(f"{where}: there is no row in it; write at least one")
    unfit = [name for name, dtype in rows.head.schema.items() if not _fits(name, dtype)]
    if by is not None and by not in rows.head.columns:
        raise UsageError(f"--by {by}: {where} has no such column; it has {listed(rows.head.columns, 12)}")
    types = {} if by is None or rows.head.schema[by] == pl.Boolean else {by: Kind.CATEGORY}
    schema = learn(rows.head, reserved=unfit, options=FeatureOptions(types=types))
    return _Side(rows, schema, tuple(f"{name} ({rows.head.schema[name]})" for name in unfit))


def _fits(name: str, dtype: pl.DataType) -> bool:
    try:
        kind_of(name, dtype)
    except Refused:
        return False
    return not name.startswith(RESERVED)


def _of_rows(first: _Side, side: _Side, held: Held) -> Comparison:
    empty = first.rows.empty | side.rows.empty
    both = shared(first.schema, side.schema, empty)
    names = [column.name for column in both]
    lesson = learn_parts(first.rows.parts(names), both)
    seen = portray_parts(side.rows.parts(names), lesson.bins)
    was = portray_parts(first.rows.parts(names), lesson.bins, piece=past_piece(lesson.rows, seen.rows))
    return held(Sides(was, seen, first.schema, side.schema, empty))


def _against(then: Profile, side: _Side, held: Held) -> Comparison:
    """A file against a stored profile: one reading of the file."""
    known = _schema_of(then.bins)
    empty = side.rows.empty | {name for name, column in then.columns.items() if not column.present}
    names = [column.name for column in shared(known, side.schema, empty)]
    seen = portray_parts(side.rows.parts(names), then.bins, distinct=False)
    return held(Sides(then, seen, known, side.schema, empty))


def _of_profiles(then: Profile | None, now: Profile, reference: str, held: Held) -> Comparison:
    if then is None or then.bins.key != now.bins.key:
        raise Refused(
            f"two profiles are compared on the same bins: everfit profile CURRENT --like {reference} -o FILE, "
            "with a reference that is a profile"
        )
    known = _schema_of(then.bins)
    return held(Sides(then, now, known, known))


def _compared_by(first: _Side, side: _Side, alpha: float, by: str) -> Comparison:
    whole = _of_rows(first, side, partial(hold, alpha=alpha / 2))
    empty = first.rows.empty | side.rows.empty
    both = [column for column in shared(first.schema, side.schema, empty) if column.name != by]
    every = [*(column.name for column in both), by]
    lesson = learn_parts(first.rows.parts(every[:-1]), both)
    sizes = _sizes(first, by), _sizes(side, by)
    chosen = sorted(sizes[0], key=lambda value: (-sizes[0][value], value))[:MOST_GROUPS]
    pieces = {value: past_piece(sizes[0][value], sizes[1].get(value, 0)) for value in chosen}
    then = portray_groups(first.rows.batches(every), lesson.bins, by, pieces)
    now = portray_groups(side.rows.batches(every), lesson.bins, by, dict.fromkeys(chosen))
    schemas = _without(first.schema, by), _without(side.schema, by)
    share = alpha / 2 / max(1, len(chosen))
    groups = tuple((v, hold(Sides(then[v], now[v], *schemas, empty), alpha=share, pictures=False)) for v in chosen)
    new = sorted(set(sizes[1]) - set(sizes[0]))
    drifted = [value for value, found in groups if found.verdict == "drift"]
    said = [f"within {by}: {len(groups)} values, drift in {listed(drifted)}" if drifted else f"within {by}: no drift"]
    said += [f"not in the reference: {by} = {listed(new)}"] if new else []
    verdict = "drift" if drifted else whole.verdict
    whole = replace(whole, verdict=verdict, said=(*whole.said, *said), by=by, groups=groups)
    return _said(whole, first, side)


def _sizes(side: _Side, by: str) -> dict[str, int]:
    """How many rows each value has."""
    kind = next(column.kind for column in side.schema.features if column.name == by)
    lesson = learn_parts(side.rows.parts([by]), [Column(by, kind)])
    column = portray_parts(side.rows.parts([by]), lesson.bins).columns[by]
    places = getattr(column.bins, "places", {})
    return {value: int(column.counts[place]) for value, place in places.items() if place < len(column.counts) - 2}


def _without(schema: Schema, by: str) -> Schema:
    return Schema(tuple(column for column in schema.features if column.name != by), ())


def _schema_of(bins: Bins) -> Schema:
    return Schema(tuple(Column(name, kind) for name, (kind, _) in bins.columns.items()), ())


def _said(found: Comparison, *sides: _Side) -> Comparison:
    """The answer with what was left out of it, before the last line, which says what was counted."""
    left = sorted({name for side in sides for name in side.left_out})
    if not left:
        return found
    return replace(found, said=(*found.said[:-1], f"not looked at: {listed(left)}", found.said[-1]))
