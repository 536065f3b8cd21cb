"""What a model was made from, and frames that look like the ones it was trained on.

Takes feature rows in the lake's types and a `Meta`; gives pandas or polars frames with the same columns and
types every time; never learns anything at prediction time: a category that training did not see becomes
missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from everfit.errors import ModelUnusable
from everfit.observe.options import Kind
from everfit.observe.schema import DTYPES, Column

if TYPE_CHECKING:
    import pandas as pd

KINDS: dict[type[pl.DataType], Kind] = {
    pl.String: Kind.CATEGORY,
    pl.Boolean: Kind.FLAG,
    pl.Datetime: Kind.MOMENT,
    pl.Float64: Kind.NUMBER,
    pl.List: Kind.VECTOR,
}
_WHOLE = re.compile(r"0|-?[1-9]\d*")


@dataclass(frozen=True, slots=True)
class Meta:
    """What one must know of a model to ask it: written as `model.json` beside the model."""

    task: str
    features: tuple[Column, ...]
    classes: tuple[str, ...] = ()  # the order of its scores; empty for regression
    positive: str | None = None  # which class a single column of scores means
    frame: str = "pandas"  # what it was trained on: "pandas" or "polars"
    format: str = ""  # "skops", "cloudpickle", "onnx" or "mlflow"; known once it is written
    note: str = ""  # why it is in this format
    sample: Mapping[str, Any] = field(default_factory=dict)  # one row it can predict, to warm it with

    def to_json(self) -> str:
        """Write it."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Meta:
        """Read what `to_json` wrote.

        >>> meta = Meta("binary", (Column("price", Kind.NUMBER),), ("0", "1"), "1")
        >>> Meta.from_json(meta.to_json()) == meta
        True
        """
        told = json.loads(text)
        features = tuple(Column(each["name"], Kind(each["kind"])) for each in told.pop("features"))
        return cls(features=features, classes=tuple(told.pop("classes")), **told)

    def sample_rows(self) -> pl.DataFrame:
        """The sample as one row in the lake's types; nulls where none was kept."""
        columns = [_sample_column(each, self.sample.get(each.name)) for each in self.features]
        return pl.DataFrame(columns)


def features_in(rows: pl.DataFrame) -> tuple[Column, ...]:
    """Read the kinds of features off the types of a frame in the lake's types.

    >>> [column.kind.value for column in features_in(pl.DataFrame({"price": [1.0], "shop": ["x"]}))]
    ['number', 'category']
    """
    return tuple(Column(name, KINDS.get(dtype.base_type(), Kind.NUMBER)) for name, dtype in rows.schema.items())


def natural(classes: Sequence[str]) -> list[Any]:
    """Turn classes as text into the values a person would train with: whole numbers, truth values, else text.

    >>> natural(["0", "1"]), natural(["false", "true"]), natural(["1", "one"])
    ([0, 1], [False, True], ['1', 'one'])
    """
    if classes and set(classes) <= {"false", "true"}:
        return [each == "true" for each in classes]
    if classes and all(_WHOLE.fullmatch(each) for each in classes):
        return [int(each) for each in classes]
    return list(classes)


def class_text(value: Any) -> str:
    """Write a class as the lake does.

    >>> class_text(1.0), class_text(np.True_), class_text("a")
    ('1', 'true', 'a')
    """
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


class Framing:
    """Builds the frames of one model. `categories` are those that training saw, per column."""

    def __init__(self, meta: Meta, categories: Mapping[str, Sequence[str]]) -> None:
        self.categories = categories
        self._meta = meta
        self._dtypes = {column.name: DTYPES[column.kind] for column in meta.features}

    def typed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The features of these rows, in the lake's types.

        Raises:
            ModelUnusable: a feature is not there, or holds something else than the model was trained on.
        """
        there = rows.schema
        if all(there.get(name) == dtype for name, dtype in self._dtypes.items()):
            return rows.select(list(self._dtypes))
        missing = [name for name in self._dtypes if name not in there]
        if missing:
            raise ModelUnusable(f"the rows have no column {', '.join(missing)}, on which the model was trained")
        try:
            return rows.select(pl.col(name).cast(dtype) for name, dtype in self._dtypes.items())
        except pl.exceptions.PolarsError as error:
            raise ModelUnusable(f"the rows are not of the types the model was trained on: {error}") from error

    def build(self, rows: pl.DataFrame) -> pd.DataFrame | pl.DataFrame:
        """The frame that the model takes, of these rows.

        Raises:
            ModelUnusable: a feature is not there, or holds something else than the model was trained on.
        """
        typed = self.typed(rows)
        if self._meta.frame == "polars":
            return typed
        import pandas as pd  # noqa: PLC0415 - half a second of imports that only models of pandas frames need

        return pd.DataFrame(
            {column.name: self._column(typed[column.name], column.kind) for column in self._meta.features}
        )

    def _column(self, values: pl.Series, kind: Kind) -> Any:
        match kind:
            case Kind.CATEGORY:
                enum, categorical = self._seen[values.name]
                return categorical(
                    values.cast(enum, strict=False).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
                )
            case Kind.MOMENT:  # without zone, in UTC: what has a zone, numpy cannot hold
                return values.dt.replace_time_zone(None).to_numpy()
            case Kind.TEXT | Kind.VECTOR:
                return values.to_numpy()
            case _:  # a flag is 0.0, 1.0 or missing: so its type does not depend on whether any is missing
                return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()

    @cached_property
    def _seen(self) -> dict[str, tuple[pl.Enum, Callable[[Any], Any]]]:
        import pandas as pd  # noqa: PLC0415 - see build

        return {
            name: (pl.Enum(list(seen)), partial(pd.Categorical.from_codes, dtype=pd.CategoricalDtype(list(seen))))
            for name, seen in self.categories.items()
        }


def categories_in(rows: pl.DataFrame, features: Sequence[Column]) -> dict[str, list[str]]:
    """The categories of each category column, sorted.

    >>> categories_in(pl.DataFrame({"shop": ["b", None, "a", "b"]}), (Column("shop", Kind.CATEGORY),))
    {'shop': ['a', 'b']}
    """
    return {
        column.name: rows[column.name].cast(pl.String).drop_nulls().unique().sort().to_list()
        for column in features
        if column.kind is Kind.CATEGORY
    }


def _sample_column(column: Column, value: Any) -> pl.Series:
    kept = pl.Series(column.name, [None if value is None else value])
    if column.kind is Kind.MOMENT and value is not None:
        return kept.str.to_datetime(time_unit="us", time_zone="UTC")
    return kept.cast(DTYPES[column.kind])
