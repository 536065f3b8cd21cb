"""The columns of a model: learned from its first rows, then frozen.

Takes a frame and the user's choices; gives a `Schema` and frames that fit it; never changes a value
silently: what does not fit is refused with the column named.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import polars as pl

from everfit.errors import Refused
from everfit.observe.moments import as_moments
from everfit.observe.options import FeatureOptions, Kind

RESERVED = "_"  # columns of ours in the lake begin so; a feature must not

DTYPES: dict[Kind, pl.DataType] = {
    Kind.NUMBER: pl.Float64(),
    Kind.CATEGORY: pl.String(),
    Kind.FLAG: pl.Boolean(),
    Kind.MOMENT: pl.Datetime("us", "UTC"),
    Kind.TEXT: pl.String(),
    Kind.VECTOR: pl.List(pl.Float64()),
}
_UNFIT = {
    Kind.NUMBER: "not a number",
    Kind.CATEGORY: "not text",
    Kind.FLAG: "not true or false",
    Kind.MOMENT: "not a time; write it as ISO text such as 2026-01-31T05:00:00Z",
    Kind.TEXT: "not text",
    Kind.VECTOR: "not a list of numbers",
}
LONG = 50  # characters: text that is longer on average is prose rather than names, if
MOSTLY = 0.5  # more than this share of it is distinct. A column of long names that repeat stays a category
LOOKED_AT = 10_000  # rows from which that is told
_FLAGS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Column:
    """One feature."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Schema:
    """What a row of this model looks like. Frozen once learned: a change upstream is seen, not absorbed."""

    features: tuple[Column, ...]
    classes: tuple[str, ...]  # classes of the target as text, sorted; empty for regression and until labels were seen

    def names(self) -> list[str]:
        """The features' names, in order."""
        return [column.name for column in self.features]


@dataclass(frozen=True, slots=True)
class Conformed:
    """Rows that fit a schema, and what was found on the way."""

    rows: pl.DataFrame  # columns of ours that were there, then the features in order with the schema's types
    refused: pl.DataFrame  # `_index` of the row as it came, `_reason`, `_column`: one line per refused row
    missing: tuple[str, ...]  # features that did not come; their values are null
    extra: tuple[str, ...]  # columns that came and are no features; they are left out


def learn(rows: pl.DataFrame, *, reserved: Collection[str], options: FeatureOptions) -> Schema:
    """Learn the features and their kinds from the first rows; classes are learned later, from labels.

    `reserved` columns (target, id, time) are never features.

    >>> first = pl.DataFrame({"id": ["a"], "price": [2], "shop": ["x"], "open": [True]})
    >>> [f"{c.name}: {c.kind}" for c in learn(first, reserved={"id"}, options=FeatureOptions()).features]
    ['price: number', 'shop: category', 'open: flag']

    Raises:
        Refused: a column cannot be a feature, or a column that the options name is not there.
    """
    free = [name for name in rows.columns if name not in reserved]
    _must_exist("features.include", options.include, free)
    _must_exist("features.types", options.types, free)
    chosen = [name for name in free if name not in options.exclude and (not options.include or name in options.include)]
    if not chosen:
        raise Refused("no column is left to be a feature; send at least one besides the target, id and time columns")
    return Schema(tuple(Column(n, options.types.get(n) or _kind(rows[n])) for n in chosen), ())


def kind_of(name: str, dtype: pl.DataType) -> Kind:
    """The kind that a column of this type holds; an all-null column counts as a number.

    >>> kind_of("price", pl.Int32()).value
    'number'

    Raises:
        Refused: no kind fits, or the name is one of ours.
    """
    if name.startswith(RESERVED):
        raise Refused(f"column {name!r}: names that begin with {RESERVED!r} are Everfit's own; rename it or exclude it")
    if dtype.is_numeric() or dtype in (pl.Null, pl.Duration, pl.Time):
        return Kind.NUMBER
    if dtype == pl.Boolean:
        return Kind.FLAG
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return Kind.CATEGORY
    if dtype in (pl.Date, pl.Datetime):
        return Kind.MOMENT
    if isinstance(dtype, pl.List | pl.Array) and _is_number(dtype.inner):
        return Kind.VECTOR
    raise Refused(
        f"column {name!r} holds {dtype}, which cannot be a feature; "
        "split it into columns of numbers, text, flags, times or lists of numbers, or name it under features.exclude"
    )


def is_prose(values: pl.Series) -> bool:
    """Whether a column of text is prose rather than names: longer than 50 characters on average, and mostly distinct.

    >>> is_prose(pl.Series(["Dear Sir or Madam, " * 4 + str(number) for number in range(9)]))
    True
    >>> is_prose(pl.Series(["JFK", "LGA"])), is_prose(pl.Series(["a long name that comes again and again " * 2] * 9))
    (False, False)
    """
    present = values.head(LOOKED_AT).drop_nulls()
    if present.dtype != pl.String or not len(present) or present.str.len_bytes().sum() <= LONG * len(present):
        return False
    return int(present.str.len_chars().sum()) > LONG * len(present) and present.n_unique() > MOSTLY * len(present)


def with_classes(schema: Schema, labels: pl.Series) -> Schema:
    """The same schema that also knows the classes of these labels; nulls say nothing.

    >>> with_classes(Schema((), ()), pl.Series([1.0, 0.0, None])).classes
    ('0', '1')
    """
    seen = class_text(labels).drop_nulls().unique().to_list()
    return Schema(schema.features, tuple(sorted({*schema.classes, *seen})))


def class_text(labels: pl.Series) -> pl.Series:
    """Write classes (or ids, or categories) as text: flags as true and false, whole numbers without a point.

    >>> class_text(pl.Series([1.0, 2.5, None, float("nan")])).to_list()
    ['1', '2.5', None, None]
    >>> class_text(pl.Series([True, False])).to_list()
    ['true', 'false']
    """
    if labels.dtype.is_float():
        labels = labels.cast(pl.Float64).fill_nan(None)
        # Above 2^53 a float no longer tells neighbours apart, so it is written as it is.
        whole = (labels == labels.floor()) & (labels.abs() < 2**53)
        return (
            labels.cast(pl.Int64, strict=False).cast(pl.String).zip_with(whole.fill_null(False), labels.cast(pl.String))
        )
    if labels.dtype.is_decimal():
        return class_text(labels.cast(pl.Float64))
    return labels.cast(pl.String)


def conform(rows: pl.DataFrame, schema: Schema) -> Conformed:
    """Give rows the schema's columns and types; refuse those that do not fit, naming the column.

    Missing features become null, whole numbers become numbers, NaN becomes null, numbers in a category
    become text. Text that is not a number, infinities and other misfits refuse the row.

    >>> known = Schema((Column("price", Kind.NUMBER), Column("shop", Kind.CATEGORY)), ())
    >>> done = conform(pl.DataFrame({"price": ["2", "two"], "_id": ["a", "b"]}), known)
    >>> done.rows.to_dicts(), done.missing
    ([{'_id': 'a', 'price': 2.0, 'shop': None}], ('shop',))
    >>> done.refused.to_dicts()
    [{'_index': 1, '_reason': 'not a number', '_column': 'price'}]
    """
    features: list[pl.Series] = []
    faults: list[pl.DataFrame] = []
    for column in schema.features:
        if column.name not in rows.columns:
            features.append(_nulls(column.name, DTYPES[column.kind], rows.height))
            continue
        came = rows[column.name]
        came = came.fill_nan(None) if came.dtype.is_float() else came
        values = _values(came, column.kind)
        faults.append(_faults(column.name, values.is_null() & came.is_not_null(), _UNFIT[column.kind]))
        if column.kind is Kind.NUMBER:
            values = values.fill_nan(None)
            faults.append(_faults(column.name, values.is_infinite().fill_null(False), "infinite"))
        features.append(values)
    refused = pl.concat([_NO_FAULTS, *faults]).unique("_index", keep="first", maintain_order=True).sort("_index")
    ours = [name for name in rows.columns if name.startswith(RESERVED)]
    fitting = pl.DataFrame([*(rows[name] for name in ours), *features])
    if refused.height:
        fitting = fitting.filter(~pl.int_range(rows.height, eager=True).is_in(refused["_index"].to_list()))
    names = schema.names()
    return Conformed(
        rows=fitting,
        refused=refused,
        missing=tuple(name for name in names if name not in rows.columns),
        extra=tuple(name for name in rows.columns if name not in names and name not in ours),
    )


def frame_dtypes(schema: Schema) -> dict[str, pl.DataType]:
    """The types of the features' columns in a frame.

    >>> frame_dtypes(Schema((Column("price", Kind.NUMBER),), ()))
    {'price': Float64}
    """
    return {column.name: DTYPES[column.kind] for column in schema.features}


def to_json(schema: Schema) -> str:
    """Write a schema as JSON.

    >>> to_json(Schema((Column("price", Kind.NUMBER),), ("0", "1")))
    '{"features": [{"name": "price", "kind": "number"}], "classes": ["0", "1"]}'
    """
    features = [{"name": column.name, "kind": column.kind.value} for column in schema.features]
    return json.dumps({"features": features, "classes": list(schema.classes)}, ensure_ascii=False)


def from_json(text: str) -> Schema:
    """Read what `to_json` wrote.

    >>> from_json('{"features": [{"name": "price", "kind": "number"}], "classes": []}').names()
    ['price']
    """
    told = json.loads(text)
    features = tuple(Column(str(item["name"]), Kind(item["kind"])) for item in told["features"])
    return Schema(features, tuple(map(str, told["classes"])))


def _must_exist(where: str, named: Iterable[str], there: list[str]) -> None:
    for name in named:
        if name not in there:
            near = get_close_matches(name, there, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(there[:12])}"
            raise Refused(f"{where}: column {name!r} is not in the rows{hint}")


def _values(came: pl.Series, kind: Kind) -> pl.Series:
    """Values of a kind; null where a value does not fit it."""
    if kind is Kind.VECTOR and isinstance(came.dtype, pl.List | pl.Array):
        return _vectors(came)
    if came.dtype.is_nested() or came.dtype in (pl.Binary, pl.Object):
        return _nulls(came.name, DTYPES[kind], len(came))
    match kind:
        case Kind.NUMBER:
            return _numbers(came)
        case Kind.CATEGORY | Kind.TEXT:
            return class_text(came)
        case Kind.VECTOR:  # a list was taken above
            return _nulls(came.name, DTYPES[kind], len(came))
        case Kind.FLAG:
            return class_text(came).str.to_lowercase().replace_strict(_FLAGS, default=None, return_dtype=pl.Boolean)
        case Kind.MOMENT:
            return as_moments(came)


def _vectors(came: pl.Series) -> pl.Series:
    """Lists of numbers; one with anything else in it is null."""
    lists = came if isinstance(came.dtype, pl.List) else came.arr.to_list()
    inner = lists.dtype.inner if isinstance(lists.dtype, pl.List) else None
    if inner is None or not (_is_number(inner) or inner == pl.Null):
        return _nulls(came.name, DTYPES[Kind.VECTOR], len(came))
    return lists.cast(DTYPES[Kind.VECTOR])


def _is_number(dtype: Any) -> bool:  # polars tells the inner type as a class or as an instance
    return bool(dtype.is_numeric())


def _kind(values: pl.Series) -> Kind:
    kind = kind_of(values.name, values.dtype)
    return Kind.TEXT if kind is Kind.CATEGORY and is_prose(values) else kind


def _numbers(came: pl.Series) -> pl.Series:
    if came.dtype == pl.Duration:
        return came.dt.total_microseconds() / 1e6
    if came.dtype == pl.Time:  # seconds since midnight
        return came.cast(pl.Int64) / 1e9
    if came.dtype in (pl.String, pl.Categorical, pl.Enum):
        return came.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    if came.dtype.is_numeric() or came.dtype in (pl.Boolean, pl.Null):
        return came.cast(pl.Float64)
    return _nulls(came.name, DTYPES[Kind.NUMBER], len(came))


def _nulls(name: str, dtype: pl.DataType, rows: int) -> pl.Series:
    return pl.Series(name, [None], dtype=dtype).new_from_index(0, rows)


def _faults(column: str, at: pl.Series, reason: str) -> pl.DataFrame:
    index = at.arg_true().cast(pl.Int64)
    return pl.DataFrame({"_index": index}).with_columns(_reason=pl.lit(reason), _column=pl.lit(column))


_NO_FAULTS = pl.DataFrame(schema={"_index": pl.Int64, "_reason": pl.String, "_column": pl.String})
