"""Rows of one key in a release: how much less they say than rows of as many keys.

Takes the lake's rows of both models since the release began; gives the design effect of some of them; never compares
the models.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from everfit.observe.window import Span
from everfit.ports import Lake, Table
from everfit.rollout.keys import effect_of


@dataclass(frozen=True, slots=True)
class Keyed:
    """Answers of a release, with the key that they were split by."""

    rows: pl.DataFrame | None  # _id, _model, _arrived, _key; None: rows are split each for itself

    def effect(self, ids: pl.Series) -> float:
        """The design effect of the rows with these ids, among those of their model that came up to the last of them.

        Both models' rows hang together alike; the larger effect counts. Slices take that of all rows.
        """
        if self.rows is None or ids.is_empty():
            return 1.0
        marked = self.rows.with_columns(_new=pl.col("_id").is_in(ids.implode()))
        last = marked.filter("_new")["_arrived"].max()
        counted = (
            marked.filter(pl.col("_arrived") <= last)
            .group_by("_model", "_key")
            .agg(rows=pl.len(), fresh=pl.col("_new").sum())
        )
        return max(
            (effect_of(each["rows"].to_numpy(), each["fresh"].to_numpy()) for each in counted.partition_by("_model")),
            default=1.0,
        )


def keyed(lake: Lake, key: str | None, span: Span, models: list[str], early: timedelta) -> Keyed:
    """The answers of some models that arrived in a span, by the column that traffic is split by.

    A row without a key stands for itself, as it does where traffic is split.

    Args:
        lake: where the rows lie.
        key: the column; None, or one that was never logged: rows hang together in no known way.
        span: from the beginning of the release to this look.
        models: candidates.
        early: how long before its arrival an event may have happened.
    """
    if key is None:
        return Keyed(None)
    since: datetime = span.start - early
    rows = lake.read(Table.PREDICTIONS, since=since, until=None)
    if key not in rows.collect_schema().names():
        return Keyed(None)
    came = pl.col("_arrived").is_between(span.start, span.end, closed="left")
    own = pl.col(key).cast(pl.String)
    named = pl.when(own.is_null() | (own == "")).then("request:" + pl.col("_id")).otherwise("key:" + own)
    found = rows.filter(came & pl.col("_model").is_in(models)).select("_id", "_model", "_arrived", _key=named)
    return Keyed(found.collect().unique(["_id", "_model"], maintain_order=True))
