"""Features that give the target away: what is known only afterwards, or the target under another name.

Takes a `History`; gives a sentence for each suspicious column; never leaves one out by itself: some columns are just
good.

A column is suspicious when it alone ranks the classes nearly perfectly (ROC AUC, one class against the rest), or the
numbers (squared rank correlation). Categories are turned into the mean target of their other rows: every second row
gives the means, and the rows between are ranked, so that a column of ids does not pass for knowledge.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from everfit.observe.options import Kind
from everfit.observe.schema import Column
from everfit.replay.history import History
from everfit.replay.matrix import Floats

SAMPLE = 20_000  # rows, evenly spaced: a rank correlation of them is within 0.001
SURE = 0.995  # area or squared correlation from which a column is pointed out
MOST = 20  # classes that are looked at, the most frequent first


def leaks(history: History) -> tuple[str, ...]:
    """A sentence for each feature that alone tells the target almost perfectly."""
    rows = history.rows.gather_every(max(1, -(-history.rows.height // SAMPLE)))
    truth = rows[history.target]
    targets = [_ranks(truth.to_numpy())] if history.task == "regression" else _one_against_rest(truth)
    area = history.task != "regression"
    found = []
    for column in history.schema.features:
        told = max((_tells(rows[column.name], column, target, area=area) for target in targets), default=0.0)
        if told >= SURE:
            measure = f"ROC AUC {told:.3f}" if area else f"squared rank correlation {told:.3f}"
            found.append(
                f"column {column.name!r} alone tells {history.target!r} almost perfectly ({measure}): if it is known "
                "only afterwards, leave it out with --exclude, or the answer is about a problem that nobody has"
            )
    return tuple(found)


def _one_against_rest(truth: pl.Series) -> list[Floats]:
    classes = truth.value_counts(sort=True)[truth.name].head(MOST).to_list()
    classes = classes[1:] if len(classes) == 2 else classes  # of two, one says it all
    return [(truth == each).to_numpy().astype(np.float64) for each in classes]


def _tells(values: pl.Series, column: Column, target: Floats, *, area: bool) -> float:
    """How well a column alone ranks the target, in [0, 1]."""
    if column.kind is Kind.CATEGORY:
        given, kept = _means(values.cast(pl.String), target)
        target = target[kept]
    else:
        physical = values.to_physical() if values.dtype.is_temporal() else values
        given = physical.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        given = np.where(np.isnan(given), np.nanmin(given, initial=0.0) - 1.0, given)  # missing may tell, too
    ranks = _ranks(given)
    if not area:
        return _correlation(ranks, _ranks(target)) ** 2
    ones, zeros = float(target.sum()), float((1 - target).sum())
    if ones < 2 or zeros < 2:
        return 0.0
    share = (float(ranks[target > 0].sum()) - ones * (ones + 1) / 2) / (ones * zeros)
    return max(share, 1 - share)


def _means(values: pl.Series, target: Floats) -> tuple[Floats, Floats]:
    """For every second row the mean target of its category among the rows between, and which rows these are."""
    even = np.arange(len(values)) % 2 == 0
    frame = pl.DataFrame({"value": values, "target": target, "even": even})
    means = frame.filter(pl.col("even")).group_by("value").agg(mean=pl.col("target").mean())
    told = frame.filter(~pl.col("even")).join(means, on="value", how="left", nulls_equal=True, maintain_order="left")
    return told["mean"].fill_null(float(target.mean())).to_numpy(), ~even


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def _ranks(values: Floats) -> Floats:
    """From 1; ties share their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
