"""Rows that a model is judged on, kept beside it with the scores that the original gave them.

Takes a trained model and feature rows; gives `judged.parquet` in the model's folder, and the rows of such a file; never
keeps a label, an id or a time, and never more rows than loading can ask a model about in some milliseconds.

A shorter way to ask a model (`folding`) is held against these scores whenever the model is loaded, without asking the
original again. So the rows are those on which two ways differ first: extremes, missing values and rare categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from everfit.adapters.frames import Framing, Meta
from everfit.adapters.scores import scores_of
from everfit.errors import ModelUnusable
from everfit.observe.options import Kind
from everfit.observe.schema import Column

JUDGED = "judged.parquet"
OLDER = "probe.parquet"  # what it was called while it held at most 50 training rows
MOST = 1000  # rows: scored in some 10 ms by the slowest library, 0.2 MB with 30 features
NEWEST = 20_000  # training rows that are chosen from where none are held out
RARE = 0.01  # of the rows: a category that is seldom is one that two ways may know differently
_ORDERED = (Kind.NUMBER, Kind.MOMENT)


def write_judged(model: Any, folder: Path, meta: Meta, framing: Framing, rows: pl.DataFrame) -> None:
    """Leave rows and the original's scores beside a model. The last row has no value at all, if the model takes that.

    Raises:
        ModelUnusable: the model cannot predict these rows.
    """
    typed = framing.typed(rows)
    kept = typed[chosen(typed, meta.features, framing.categories, MOST - 1)]
    scores = scores_of(model, framing.build(kept), meta)
    nothing = typed.clear(1)
    try:
        scores = np.concatenate([scores, scores_of(model, framing.build(nothing), meta)])
        kept = pl.concat([kept, nothing])
    except ModelUnusable:  # not every model takes a row without any value
        pass
    told = pl.Series("_score", scores.tolist(), dtype=pl.List(pl.Float64))
    kept.with_columns(told).write_parquet(folder / JUDGED)


def judged_file(folder: Path) -> Path | None:
    """The file of kept rows in a model's folder; None where nobody left one."""
    return next((file for name in (JUDGED, OLDER) if (file := folder / name).is_file()), None)


def chosen(
    rows: pl.DataFrame, features: Sequence[Column], categories: Mapping[str, Sequence[str]], many: int
) -> list[int]:
    """The places of so many rows at most, in order, that show most of what a model may meet.

    First of each column the least and the greatest value, a missing one and a category that training did not see; then
    rows with a missing value or a rare category, in at most half of the places; then rows at even distances.

    >>> rows = pl.DataFrame({"price": [1.0, 2.0, 9.0, None, 2.0, 2.0, 2.0]})
    >>> chosen(rows, (Column("price", Kind.NUMBER),), {}, 4)
    [0, 2, 3, 5]
    """
    if rows.height <= many:
        return list(range(rows.height))
    picked = dict.fromkeys(_ends(rows, features, categories))
    odd = _evenly(_odd(rows, features), max(0, many // 2 - len(picked)))
    picked |= dict.fromkeys(odd)
    left = np.setdiff1d(np.arange(rows.height), np.fromiter(picked, dtype=np.int64), assume_unique=True)
    picked |= dict.fromkeys(_evenly(left, max(0, many - len(picked))))
    return sorted(list(picked)[:many])


def _ends(rows: pl.DataFrame, features: Sequence[Column], categories: Mapping[str, Sequence[str]]) -> list[int]:
    asked: list[pl.Expr] = []
    for column in features:
        value = pl.col(column.name)
        asked.append(_first(value.is_null()))
        if column.kind in _ORDERED:
            asked += [value.arg_min(), value.arg_max()]
        if column.kind is Kind.CATEGORY:
            asked.append(_first(value.is_not_null() & ~value.is_in(list(categories[column.name]))))
    found = rows.select(each.alias(str(place)) for place, each in enumerate(asked)).row(0)
    return [place for place in found if place is not None]


def _first(is_so: pl.Expr) -> pl.Expr:
    """The place of the first row of which something is so; null where it is of none."""
    return pl.when(is_so.any()).then(is_so.arg_max())


def _odd(rows: pl.DataFrame, features: Sequence[Column]) -> np.ndarray[Any, Any]:
    is_odd = np.zeros(rows.height, dtype=np.bool_)
    for column in features:
        values = rows[column.name]
        is_odd |= values.is_null().to_numpy()
        if column.kind is Kind.CATEGORY:
            counts = values.value_counts(name="_rows")
            rare = counts.filter(pl.col("_rows") < RARE * rows.height)[column.name].drop_nulls()
            is_odd |= values.is_in(rare.implode()).fill_null(False).to_numpy()
    return np.flatnonzero(is_odd)


def _evenly(places: np.ndarray[Any, Any], many: int) -> list[int]:
    """So many of the places at most, at even distances."""
    if len(places) > many:
        places = places[((np.arange(many) + 0.5) * len(places) / max(many, 1)).astype(np.int64)]
    return [int(place) for place in places]
