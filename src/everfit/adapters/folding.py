"""A shorter way to ask a model: straight from values to numbers, without pandas and without its library's checks.

Takes a loaded model, what is known of it and rows with the scores it gave them; gives a model that answers the same
from polars rows or plain values, or None and why; never stands in for one that answers differently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from everfit.adapters.boosters import fold_boosters
from everfit.adapters.frames import Framing, Meta
from everfit.adapters.histograms import fold_histograms
from everfit.adapters.linear import fold_linear
from everfit.adapters.matrix import Folded, plain_values
from everfit.adapters.scores import Floats, scores_of
from everfit.errors import ModelUnusable

PROBE = "probe.parquet"  # rows and the scores that the original gave them, beside the model
_ROWS = 49  # and one row without any value
FOLDS: tuple[Callable[[Any, Meta, Mapping[str, Sequence[str]]], Folded | None], ...] = (
    fold_histograms,
    fold_linear,
    fold_boosters,
)


def fold(model: Any, meta: Meta, categories: Mapping[str, Sequence[str]]) -> Folded | None:
    """The shorter way to ask a model, if one of ours knows its build; else None.

    >>> fold(object(), Meta("binary", ()), {}) is None
    True
    """
    return next((found for each in FOLDS if (found := each(model, meta, categories)) is not None), None)


def write_probe(model: Any, folder: Path, meta: Meta, framing: Framing, rows: pl.DataFrame) -> None:
    """Leave rows and the original's scores beside a model that folds, for whoever loads it to compare."""
    if meta.frame != "pandas" or fold(model, meta, framing.categories) is None:
        return
    probe = rows.gather_every(max(1, math.ceil(rows.height / _ROWS)))
    scores = scores_of(model, framing.build(probe), meta)
    nothing = pl.DataFrame(schema=rows.schema).clear(1)
    try:
        scores = np.concatenate([scores, scores_of(model, framing.build(nothing), meta)])
        probe = pl.concat([probe, nothing])
    except ModelUnusable:  # not every model takes a row without any value
        pass
    probe.with_columns(_score=pl.Series(scores.tolist(), dtype=pl.List(pl.Float64))).write_parquet(folder / PROBE)


def folded(model: Any, folder: Path, meta: Meta, framing: Framing) -> tuple[Folded | None, str]:
    """The shorter way to ask a loaded model, if it gives the scores that the original gave; else None and why."""
    probe = folder / PROBE
    if meta.frame != "pandas" or not probe.is_file():
        return None, "no shorter way is known for its build"
    short = fold(model, meta, framing.categories)
    if short is None:
        return None, "no shorter way is known for its build"
    try:
        rows = pl.read_parquet(probe)
        typed = framing.typed(rows)
        told = np.array(rows["_score"].to_list(), dtype=np.float64)
        found = [short.score(typed), short.quick(*plain_values(typed, meta))]
    except Exception as error:  # whatever a shorter way meets, the original is always there
        return None, f"the shorter way failed on the kept rows: {type(error).__name__}"
    if all(_alike(told, each, short.same) for each in found):
        return short, short.form
    return None, f"the shorter way is further than {short.same:g} from the original on the kept rows"


def _alike(told: Floats, found: Floats, same: float) -> bool:
    return told.shape == found.shape and bool((np.abs(told - found) <= same * np.maximum(1, np.abs(told))).all())
