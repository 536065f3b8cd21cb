"""The portrait of a window: one column profile per feature, and one for the score.

Takes frames and a schema; gives `Bins`, learned once from a reference, and `Profile`s, which add up; never
keeps a row.

Counts are integers, so they are equal over any partition and order of the rows; sums of floats agree within
1e-9 of their size.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl

from everfit.errors import Refused, UsageError
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile.column import (
    CategoryBins,
    ColumnBins,
    ColumnProfile,
    Moments,
    NumberBins,
    absent_column,
    learn_column,
    merge_columns,
    portray_column,
)

SCORE = "_score"  # portrayed beside the features when the frame has it: its drift is prediction drift
MAGIC = b"everfit profile 1\n"


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """The bins of every column, learned from the reference and fixed until it is renewed."""

    columns: Mapping[str, tuple[Kind, ColumnBins]]
    packed: bytes  # as they are stored
    key: str  # names their content: profiles add up when these are equal


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A small mergeable portrait of a window."""

    rows: int
    columns: Mapping[str, ColumnProfile]
    bins: Bins

    def to_bytes(self, *, with_bins: bool = True) -> bytes:
        """Write the portrait compactly. Without bins it is smaller, and `from_bytes` needs them beside it."""
        packed = self.bins.packed if with_bins else b""
        head = {
            "rows": self.rows,
            "bins": self.bins.key,
            "columns": {n: _facts(c) for n, c in self.columns.items()},
        }
        arrays = [column.counts for column in self.columns.values()]
        body = _pack(head, arrays)
        return MAGIC + len(packed).to_bytes(4, "little") + packed + body

    @classmethod
    def from_bytes(cls, data: bytes, bins: Bins | None = None) -> Profile:
        """Read what `to_bytes` wrote.

        Raises:
            Refused: these are not the bytes of a profile, or its bins are missing.
        """
        if not data.startswith(MAGIC):
            raise Refused("these bytes are not a profile; write one with `everfit profile FILE -o FILE`")
        start = len(MAGIC) + 4
        end = start + int.from_bytes(data[len(MAGIC) : start], "little")
        bins = _unpack_bins(data[start:end]) if end > start else bins
        head, buffer = _unpack(data[end:])
        if bins is None or bins.key != head["bins"]:
            raise Refused("the bins of this profile are not beside it; read it together with its reference's bins")
        columns, at = {}, 0
        for name, facts in head["columns"].items():
            kind, its = bins.columns[name]
            counts = np.frombuffer(buffer, dtype="<i8", count=its.size, offset=at).astype(np.int64)
            at += counts.nbytes
            moments = Moments(**facts["moments"]) if facts["moments"] else None
            columns[name] = ColumnProfile(kind, its, facts["count"], facts["nulls"], counts, moments)
        return cls(head["rows"], columns, bins)


def learn_bins(rows: pl.DataFrame, schema: Schema) -> Bins:
    """Learn the bins of every feature, and of `_score` if the frame has it. A missing column counts as null.

    >>> from everfit.observe.schema import Column
    >>> schema = Schema((Column("price", Kind.NUMBER),), ())
    >>> learn_bins(pl.DataFrame({"price": [1.0, 2.0, 3.0]}), schema).columns["price"][1].shift
    2.0
    """
    wanted = [*schema.features, *([Column(SCORE, Kind.NUMBER)] if SCORE in rows.columns else [])]
    columns = {c.name: (c.kind, learn_column(_values(rows, c.name), c.kind)) for c in wanted}
    return _bins(columns)


def portray(rows: pl.DataFrame, bins: Bins) -> Profile:
    """Portray a window on the reference's bins. A column that the frame lacks is portrayed as all null.

    >>> from everfit.observe.schema import Column
    >>> frame = pl.DataFrame({"price": [1.0, 2.0, None, 9.0]})
    >>> seen = portray(frame, learn_bins(frame[:2], Schema((Column("price", Kind.NUMBER),), ())))
    >>> seen.rows, seen.columns["price"].nulls, seen.columns["price"].outside
    (4, 1, 1)
    """
    columns = {
        name: portray_column(_values(rows, name), kind, its)
        if name in rows.columns
        else absent_column(rows.height, kind, its)
        for name, (kind, its) in bins.columns.items()
    }
    return Profile(rows.height, columns, bins)


def merge(a: Profile, b: Profile) -> Profile:
    """Add two portraits, as if their rows had been portrayed together.

    >>> from everfit.observe.schema import Column
    >>> frame = pl.DataFrame({"price": [1.0, 2.0, 3.0]})
    >>> bins = learn_bins(frame, Schema((Column("price", Kind.NUMBER),), ()))
    >>> merge(portray(frame[:1], bins), portray(frame[1:], bins)).columns["price"].mean
    2.0

    Raises:
        UsageError: they were portrayed on the bins of different references.
    """
    if a.bins.key != b.bins.key:
        raise UsageError(
            "these two profiles stand on the bins of different references and cannot be added; "
            "portray both windows on the bins of one reference"
        )
    columns = {name: merge_columns(column, b.columns[name]) for name, column in a.columns.items()}
    return Profile(a.rows + b.rows, columns, a.bins)


def merge_all(profiles: list[Profile]) -> Profile:
    """Add one or more portraits.

    >>> from everfit.observe.schema import Column
    >>> frame = pl.DataFrame({"price": [1.0, 2.0, 3.0]})
    >>> bins = learn_bins(frame, Schema((Column("price", Kind.NUMBER),), ()))
    >>> merge_all([portray(frame, bins)] * 3).rows
    9
    """
    return reduce(merge, profiles)


def _values(rows: pl.DataFrame, name: str) -> pl.Series:
    if name not in rows.columns:
        return pl.Series(name, [None] * rows.height, dtype=pl.Null)
    values = rows[name]
    if name != SCORE or not isinstance(values.dtype, pl.List):
        return values
    # One number per row: the value; of two classes the second; of more the highest. Drift is the same for p
    # and 1 - p.
    scores = values.cast(pl.List(pl.Float64)).list
    return scores.max() if (scores.len() > 2).any() else scores.last()


def _bins(columns: Mapping[str, tuple[Kind, ColumnBins]]) -> Bins:
    head: dict[str, dict[str, Any]] = {}
    arrays: list[np.ndarray] = []
    for name, (kind, its) in columns.items():
        if isinstance(its, NumberBins):
            head[name] = {"kind": kind.value, "shift": its.shift, "edges": len(its.edges)}
            arrays.append(its.edges)
        else:
            head[name] = {
                "kind": kind.value,
                "top": its.top,
                "closed": its.closed,
                "places": list(its.places),
            }
    packed = _pack(head, arrays)
    key = blake2b(zlib.decompress(packed), digest_size=10).hexdigest()  # not of `packed`: zlib builds differ
    return Bins(dict(columns), packed, key)


def _unpack_bins(packed: bytes) -> Bins:
    head, buffer = _unpack(packed)
    columns: dict[str, tuple[Kind, ColumnBins]] = {}
    at = 0
    for name, facts in head.items():
        if "edges" in facts:
            edges = np.frombuffer(buffer, dtype="<f8", count=facts["edges"], offset=at).astype(np.float64)
            at += edges.nbytes
            columns[name] = (Kind(facts["kind"]), NumberBins(edges, facts["shift"]))
        else:
            places = {category: place for place, category in enumerate(facts["places"])}
            columns[name] = (Kind(facts["kind"]), CategoryBins(places, facts["top"], facts["closed"]))
    return _bins(columns)


def _facts(column: ColumnProfile) -> dict[str, object]:
    moments = None if column.moments is None else asdict(column.moments)
    return {"count": column.count, "nulls": column.nulls, "moments": moments}


def _pack(head: object, arrays: list[np.ndarray]) -> bytes:
    """JSON, then the arrays, little-endian. Python writes floats so that they read back equal."""
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    raw = [np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes() for array in arrays]
    return zlib.compress(len(text).to_bytes(4, "little") + text + b"".join(raw), level=6)


def _unpack(packed: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        data = zlib.decompress(packed)
        size = int.from_bytes(data[:4], "little")
        return json.loads(data[4 : 4 + size]), data[4 + size :]
    except (zlib.error, ValueError) as error:
        raise Refused(f"this profile is damaged ({error}); make it again from its rows") from error
