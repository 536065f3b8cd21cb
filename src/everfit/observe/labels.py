"""Labels meet their predictions.

Takes predictions and labels; gives one row a prediction with its label, or null while (or because) none
came; never counts a label that did not come as a negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many predictions have their label."""

    rows: int
    labelled: int
    share: float | None  # None: there are no rows


@dataclass(frozen=True, slots=True)
class Delays:
    """How long labels took, among those that came."""

    rows: int
    median: timedelta
    p90: timedelta
    p99: timedelta
    longest: timedelta


def join(predictions: pl.DataFrame, labels: pl.DataFrame, *, as_of: datetime | None) -> pl.DataFrame:
    """One row a prediction, in its place, with `_label`, `_value`, `_labelled_at`; null where no label came.

    The first arrival of an id counts, of predictions and of labels; `as_of` hides labels that arrived later.

    >>> from datetime import UTC
    >>> noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    >>> sent = pl.DataFrame({"_id": ["a", "b"], "_arrived": [noon, noon]})
    >>> came = pl.DataFrame({"_id": ["a"], "_label": ["1"], "_value": [None], "_arrived": [noon]})
    >>> join(sent, came, as_of=None)["_label"].to_list()
    ['1', None]
    """
    arrived = labels if as_of is None else labels.filter(pl.col("_arrived") <= as_of)
    # Arrivals of one moment are told apart by what they say, so that the order of rows never matters.
    first = _first_of_each(arrived, ["_arrived", "_label", "_value"])
    known = first.select("_id", "_label", pl.col("_value").cast(pl.Float64), _labelled_at="_arrived")
    return _first_of_each(predictions, ["_arrived"]).join(known, on="_id", how="left", maintain_order="left")


def coverage(joined: pl.DataFrame) -> Coverage:
    """How many rows have their label.

    >>> coverage(pl.DataFrame({"_label": ["1", None], "_value": [None, None]}))
    Coverage(rows=2, labelled=1, share=0.5)
    """
    labelled = joined.filter(is_labelled()).height
    return Coverage(joined.height, labelled, labelled / joined.height if joined.height else None)


def is_labelled() -> pl.Expr:
    """Whether a joined row has its label.

    >>> pl.DataFrame({"_label": [None, None], "_value": [2.0, None]}).filter(is_labelled()).height
    1
    """
    return pl.col("_label").is_not_null() | pl.col("_value").is_not_null()


def delays(joined: pl.DataFrame) -> Delays | None:
    """How long labels took after their event; None when no label has come.

    >>> noon = datetime(2013, 1, 1, 12)
    >>> delays(pl.DataFrame({"_time": [noon], "_labelled_at": [noon + timedelta(hours=1)]})).median
    datetime.timedelta(seconds=3600)
    """
    took = joined.select(took=(pl.col("_labelled_at") - pl.col("_time")).dt.total_microseconds())["took"].drop_nulls()
    if took.is_empty():
        return None
    middle, p90, p99, longest = (_span(took.quantile(q, "lower")) for q in (0.5, 0.9, 0.99, 1.0))
    return Delays(len(took), middle, p90, p99, longest)


def _span(microseconds: float | None) -> timedelta:
    return timedelta(microseconds=microseconds or 0)


def _first_of_each(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """The first row of each id; rows keep their place."""
    if rows["_id"].is_unique().all():
        return rows
    placed = rows.with_row_index("_place")
    chosen = placed.sort([*by, "_place"], nulls_last=True).unique("_id", keep="first", maintain_order=True)
    return chosen.sort("_place").drop("_place")
