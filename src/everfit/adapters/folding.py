"""A shorter way to ask a model: straight from values to numbers, without pandas and without its library's checks.

Takes a loaded model, what is known of it and rows with the scores it gave them; gives a model that answers the same
from polars rows or plain values, or None and why; never stands in for one that answers differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from everfit.adapters.boosters import fold_boosters
from everfit.adapters.frames import Framing, Meta
from everfit.adapters.histograms import fold_histograms
from everfit.adapters.judged import judged_file
from everfit.adapters.linear import fold_linear
from everfit.adapters.matrix import Folded, plain_values
from everfit.adapters.scores import Floats

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


def is_foldable(model: Any, meta: Meta, categories: Mapping[str, Sequence[str]]) -> bool:
    """Whether a shorter way is known, so that rows to hold it against are worth their place."""
    return meta.frame == "pandas" and fold(model, meta, categories) is not None


def folded(model: Any, folder: Path, meta: Meta, framing: Framing) -> tuple[Folded | None, str]:
    """The shorter way to ask a loaded model, if it gives the scores that the original gave; else None and why.

    Of each score it may be further away by `Folded.same`, or of large ones by this share. The text says it.
    """
    kept = judged_file(folder)
    if meta.frame != "pandas" or kept is None:
        return None, "no shorter way is known for its build"
    short = fold(model, meta, framing.categories)
    if short is None:
        return None, "no shorter way is known for its build"
    try:
        rows = pl.read_parquet(kept)
        typed = framing.typed(rows)
        told = np.array(rows["_score"].to_list(), dtype=np.float64)
        off = max(_apart(told, found) for found in (short.score(typed), short.quick(*plain_values(typed, meta))))
    except Exception as error:  # whatever a shorter way meets, the original is always there
        return None, f"the shorter way failed on the kept rows: {type(error).__name__}"
    if off <= short.same:
        return short, f"{short.form}, within {short.same:g} of the original on {rows.height} kept rows ({off:.1g})"
    return None, f"the shorter way is further than {short.same:g} from the original on {rows.height} kept rows"


def _apart(told: Floats, found: Floats) -> float:
    """The largest difference, of large scores relative; NaN counts as infinitely far."""
    if told.shape != found.shape or not told.size:
        return np.inf
    return float(np.nan_to_num(np.abs(told - found) / np.maximum(1, np.abs(told)), nan=np.inf).max())
