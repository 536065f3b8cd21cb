"""How good everybody was, on the same rows.

Takes the lake's predictions with their labels and the rivals' scores; gives pooled and daily ROC AUC for each; never
compares on rows that one of them did not score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from everfit.detect.outcomes import Outcomes
from everfit.detect.performance import level

FEWEST = 200  # rows of a day below which its metric is noise


@dataclass(frozen=True, slots=True)
class Result:
    """One policy's year."""

    pooled: float  # ROC AUC over all rows
    daily: Mapping[date, float]  # ROC AUC of each day

    @property
    def mean_of_days(self) -> float:
        """The mean of the days' ROC AUC: pooling rewards telling bad days from good ones as well."""
        return float(np.mean(list(self.daily.values())))


def results(rows: pl.DataFrame, names: list[str]) -> dict[str, Result]:
    """Score every column of `names` against `late`, on the rows where all of them are known."""
    known = rows.drop_nulls(["late", *names]).sort("scheduled")
    days = known.with_columns(_day=pl.col("scheduled").dt.date()).partition_by("_day", as_dict=True)
    return {name: Result(auc(known, name), _daily(days, name)) for name in names}


def auc(rows: pl.DataFrame, name: str) -> float:
    """ROC AUC of a column of scores."""
    score = rows[name].to_numpy()
    outcomes = Outcomes(
        rows["late"].cast(pl.Int64).to_numpy(), np.stack([1 - score, score], axis=1), ("0", "1"), "1", "binary",
        np.zeros(rows.height, dtype=np.int64),
    )  # fmt: skip
    value = level("roc_auc", outcomes)
    return float("nan") if value is None else value


def _daily(days: Mapping[tuple[object, ...], pl.DataFrame], name: str) -> dict[date, float]:
    return {key[0]: auc(part, name) for key, part in days.items() if part.height >= FEWEST and isinstance(key[0], date)}
