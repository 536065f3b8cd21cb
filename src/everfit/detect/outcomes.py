"""Truth beside scores: the rows on which performance is measured, with the blocks of time that hang together.

Takes joined predictions and labels; gives `Outcomes`; never invents a label: rows without one do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNKNOWN = -1  # class index of a truth that the model's classes do not contain: always predicted wrongly

# Spans of time that are tried as blocks, the longest first. Rows of one day share its weather; a block must
# not be shorter than what hangs together, and too few blocks make an interval wide.
WIDTHS = (7 * 86400, 86400, 6 * 3600, 3600, 900, 300, 60, 1)
ENOUGH_BLOCKS = 20  # t with 19 degrees of freedom is within 7 % of the normal's 1.96
FEWEST_BLOCKS = 5  # below this many moments, time tells nothing about what hangs together


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Rows whose truth is known, beside what was predicted for them."""

    truth: NDArray[Any]  # class index as integer (UNKNOWN: not among the classes); the value as float for regression
    scores: Floats  # (rows, classes) in the order of `classes`; (rows, 1) for regression
    classes: tuple[str, ...]  # empty for regression
    positive: str | None  # the class that precision, recall and ROC AUC of two classes are about
    task: str  # binary, multiclass, regression
    blocks: Ints  # rows of equal number are drawn together when rows are resampled

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.truth)

    @property
    def positive_index(self) -> int:
        """Place of the positive class; the last class if none was named."""
        return self.classes.index(self.positive) if self.positive in self.classes else len(self.classes) - 1


def outcomes_from(
    joined: pl.DataFrame, *, task: str, classes: Sequence[str] = (), positive: str | None = None
) -> Outcomes:
    """Keep the rows with a label and a finite score of the right length, as arrays.

    A label outside `classes` stays, as UNKNOWN: the model cannot have been right there.

    >>> joined = pl.DataFrame({"_label": ["1", None, "0"], "_score": [[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]})
    >>> kept = outcomes_from(joined, task="binary", classes=("0", "1"))
    >>> kept.truth.tolist(), kept.scores[:, 1].tolist()
    ([1, 0], [0.8, 0.1])
    """
    kept = with_outcome(joined, task=task, classes=classes)
    width = 1 if task == "regression" else len(classes)
    times = (
        kept["_time"] if "_time" in kept.columns else pl.Series("_time", [None] * kept.height, dtype=pl.Datetime("us"))
    )
    scores = scores_of(kept, width)
    truth: NDArray[Any]
    if task == "regression":
        truth = kept["_value"].cast(pl.Float64).to_numpy()
    else:
        places = {name: place for place, name in enumerate(classes)}
        truth = np.array(
            [places.get(name, UNKNOWN) for name in kept["_label"].cast(pl.String).to_list()], dtype=np.int64
        )
    return Outcomes(truth, scores, tuple(classes), positive, task, blocks_of(times))


def with_outcome(joined: pl.DataFrame, *, task: str, classes: Sequence[str] = ()) -> pl.DataFrame:
    """The rows that have a label and a finite score of the right length, in their order.

    >>> joined = pl.DataFrame({"_label": ["1", None, "0"], "_score": [[0.2, 0.8], [0.5, 0.5], [0.9]]})
    >>> with_outcome(joined, task="binary", classes=("0", "1")).height
    1
    """
    label = "_value" if task == "regression" else "_label"
    if label not in joined.columns:
        joined = joined.clear().with_columns(pl.lit(None).alias(label))
    return with_scores(joined.filter(pl.col(label).is_not_null()), 1 if task == "regression" else len(classes))


def with_scores(rows: pl.DataFrame, width: int) -> pl.DataFrame:
    """The rows with `width` finite scores, in their order.

    >>> with_scores(pl.DataFrame({"_score": [[0.2, 0.8], None, [0.5, float("nan")]]}), 2).height
    1
    """
    if "_score" not in rows.columns:
        rows = rows.clear().with_columns(pl.lit(None).alias("_score"))
    rows = rows.with_columns(pl.col("_score").cast(pl.List(pl.Float64)))
    finite = pl.col("_score").list.eval(pl.element().is_finite().fill_null(False)).list.all()
    return rows.filter(pl.col("_score").is_not_null() & (pl.col("_score").list.len() == width) & finite)


def scores_of(rows: pl.DataFrame, width: int) -> Floats:
    """The scores of rows that have them all (`with_scores`), shape (rows, width)."""
    flat = rows["_score"].explode(empty_as_null=False).to_numpy()
    scores: Floats = flat.astype(np.float64).reshape(rows.height, width)
    return scores


def blocks_of(times: pl.Series, *, at_most: int = 100) -> Ints:
    """Number the blocks of event time that are resampled together, 0 for the earliest.

    The longest of week, day, six hours, hour, and so on down to a second that gives at least 20 blocks; if
    none does, the one with the most. With fewer than 5 moments, or without times, neighbouring rows form up
    to `at_most` blocks.

    >>> from datetime import datetime
    >>> hours = [datetime(2013, 1, day, hour) for day in range(1, 26) for hour in range(24)]
    >>> int(blocks_of(pl.Series(hours)).max()) + 1
    25
    """
    rows = len(times)
    if rows == 0 or times.null_count():
        return _neighbours(rows, at_most)
    seconds = times.cast(pl.Datetime("us")).to_physical().to_numpy() // 1_000_000
    best = np.zeros(rows, dtype=np.int64)
    for width in WIDTHS:
        blocks = _dense(seconds // width)
        if blocks.max() > best.max():
            best = blocks
        if best.max() + 1 >= ENOUGH_BLOCKS:
            break
    found = int(best.max()) + 1
    if found < FEWEST_BLOCKS:
        return _neighbours(rows, at_most)
    return best if found <= at_most else best * at_most // found


def _neighbours(rows: int, at_most: int) -> Ints:
    return np.arange(rows, dtype=np.int64) * min(rows, at_most) // max(rows, 1)


def _dense(keys: NDArray[np.int64]) -> Ints:
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)
