"""The portrait of a window: one column profile per feature, one for the score, and one for the predicted class.

Takes frames and a schema; gives `Bins`, learned once from a reference, and `Profile`s, which add up; never
keeps a row.

Counts are integers, so they are equal over any partition and order of the rows; sums of floats agree within
1e-9 of their size.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import polars as pl

from everfit.errors import Refused, UsageError
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile import packing
from everfit.profile.column import (
    ColumnBins,
    ColumnProfile,
    absent_column,
    merge_columns,
    portray_column,
)
from everfit.profile.learning import learn_column

SCORE = "_score"  # portrayed beside the features when the frame has it: its drift is prediction drift
PREDICTION = "_prediction"  # so is the predicted class where it is asked for: of two classes the score tells as much
ANSWERS = (SCORE, PREDICTION)
MAGIC = b"everfit profile 2\n"
OLD = b"everfit profile "


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
    past: bytes = b""  # counts of consecutive pieces of these rows, packed; `profile.past` reads them

    def to_bytes(self, *, with_bins: bool = True) -> bytes:
        """Write the portrait compactly.

        Without bins it is a fifth of the size and `from_bytes` needs them beside it; the hashes that tell how many
        values are distinct and the past are then left out as well.
        """
        packed, past = (self.bins.packed, self.past) if with_bins else (b"", b"")
        body = packing.pack_columns(self.rows, self.bins.key, self.columns, with_hashes=with_bins)
        sizes = len(packed).to_bytes(4, "little") + len(past).to_bytes(4, "little")
        return MAGIC + sizes + packed + past + body

    @classmethod
    def from_bytes(cls, data: bytes, bins: Bins | None = None) -> Profile:
        """Read what `to_bytes` wrote.

        Raises:
            Refused: these are not the bytes of a profile, or damaged, or of an older version, or the bins are missing.
        """
        if not data.startswith(MAGIC):
            if data.startswith(OLD):
                raise Refused(
                    "this profile was written by an older Everfit; make it again: `everfit profile FILE -o FILE`"
                )
            raise Refused("these bytes are not a profile; write one with `everfit profile FILE -o FILE`")
        at = len(MAGIC) + 8
        end = at + int.from_bytes(data[at - 8 : at - 4], "little")
        upto = end + int.from_bytes(data[at - 4 : at], "little")
        if end > at and (bins is None or bins.packed != data[at:end]):  # reading the same bins again takes the longest
            columns, key = packing.unpack_bins(data[at:end])
            bins = Bins(columns, data[at:end], key)
        rows, key, counted = packing.unpack_columns(data[upto:], None if bins is None else bins.columns)
        if bins is None or bins.key != key:
            raise Refused("the bins of this profile are not beside it; read it together with its reference's bins")
        return cls(rows, counted, bins, data[end:upto])


def learn_bins(rows: pl.DataFrame, schema: Schema, *, predictions: bool = False) -> Bins:
    """Learn the bins of every feature and of `_score`, if the frame has it. A missing column counts as null.

    With `predictions` the predicted class `_prediction` is portrayed as a category, too, where the frame has it and the
    schema knows classes: which of many classes is predicted, the highest score does not tell.

    >>> from everfit.observe.schema import Column
    >>> schema = Schema((Column("price", Kind.NUMBER),), ())
    >>> learn_bins(pl.DataFrame({"price": [1.0, 2.0, 3.0]}), schema).columns["price"][1].shift
    2.0
    """
    wanted = watched(schema, rows.columns, predictions=predictions)
    return bins_of({c.name: (c.kind, learn_column(_values(rows, c.name), c.kind)) for c in wanted})


def watched(schema: Schema, there: Sequence[str], *, predictions: bool = False) -> list[Column]:
    """The columns that a portrait of these rows has."""
    wanted = list(schema.features)
    if SCORE in there:
        wanted.append(Column(SCORE, Kind.NUMBER))
    if predictions and PREDICTION in there and schema.classes:
        wanted.append(Column(PREDICTION, Kind.CATEGORY))
    return wanted


def bins_of(columns: Mapping[str, tuple[Kind, ColumnBins]]) -> Bins:
    """Name the bins of columns by their content."""
    packed = packing.pack_bins(columns)
    return Bins(dict(columns), packed, packing.key_of(packed))


def portray(rows: pl.DataFrame, bins: Bins, *, of: Collection[str] | None = None) -> Profile:
    """Portray a window on the reference's bins. A column that the frame lacks is portrayed as all null.

    With `of` only these columns are counted, on the same bins.

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
        if of is None or name in of
    }
    return Profile(rows.height, columns, bins)


def merge(a: Profile, b: Profile) -> Profile:
    """Add two portraits, as if their rows had been portrayed together. Their pasts are left out.

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
