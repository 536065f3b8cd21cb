"""A shorter way to ask the models that `boosting` makes: straight from polars to the trees, without pandas.

Takes a loaded model, what is known of it and rows with the scores it gave them; gives a model that answers the same
from polars rows, or None; never stands in for a model of any other build, nor for one that answers differently.

The original turns rows into a pandas frame, and its columns into numbers in a `ColumnTransformer`: three quarters of
the time that a prediction takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from everfit.adapters.frames import Framing, Meta
from everfit.adapters.scores import Floats, scores_of
from everfit.errors import ModelUnusable
from everfit.observe.options import Kind

PROBE = "probe.parquet"  # rows and the scores that the original gave them, beside the model
SAME = 1e-12  # how far scores may be from the original's
NO_MOMENT = -(2.0**63)  # what a missing moment becomes when numpy makes a number of it: earlier than any other
_ROWS = 49  # and one row without any value
_PARTS = ["categories", "moments", "numbers"]
_ENCODER: dict[str, Any] = {  # with any other parameters its codes mean something else
    "dtype": np.float64,
    "handle_unknown": "use_encoded_value",
    "max_categories": None,
    "min_frequency": None,
}
_SECONDS: dict[str, Any] = {"func": np.asarray, "kw_args": {"dtype": "float64"}, "validate": False}
_OUTER: dict[str, Any] = {"remainder": "drop", "transformer_weights": None}


class Folded:
    """Answers as the pipeline does, from rows as `Framing.typed` gives them."""

    def __init__(self, trees: Any, columns: Sequence[pl.Expr]) -> None:
        self._trees = trees
        self._columns = list(columns)
        if hasattr(trees, "classes_"):
            self.classes_ = trees.classes_

    def predict(self, rows: pl.DataFrame) -> Any:
        """What the pipeline's `predict` says."""
        return self._trees.predict(self._matrix(rows))

    def predict_proba(self, rows: pl.DataFrame) -> Any:
        """What the pipeline's `predict_proba` says."""
        return self._trees.predict_proba(self._matrix(rows))

    def _matrix(self, rows: pl.DataFrame) -> Floats:
        return rows.select(self._columns).to_numpy(order="c")


def fold(model: Any, meta: Meta, categories: Mapping[str, Sequence[str]]) -> Folded | None:
    """The shorter way, if the model is built exactly as `boosting` does; else None.

    >>> fold(object(), Meta("binary", ()), {}) is None
    True
    """
    if type(model).__module__ != "sklearn.pipeline" or list(model.named_steps) != ["columns", "model"]:
        return None
    outer, trees = model.named_steps["columns"], model.named_steps["model"]
    if not _is_ours(outer, trees):
        return None
    parts = {name: (part, names) for name, part, names in outer.transformers_ if name != "remainder"}
    (encoder, encoded), (_, moments), (_, numbers) = (parts[name] for name in _PARTS)
    asked = [(encoded, {Kind.CATEGORY}), (moments, {Kind.MOMENT}), (numbers, {Kind.NUMBER, Kind.FLAG})]
    kinds = {column.name: column.kind for column in meta.features}
    if not all(kinds.get(name) in allowed for names, allowed in asked for name in names):
        return None
    kept = dict(zip(encoded, encoder.categories_, strict=True)) if encoded else {}
    if not all(set(known) <= set(categories[name]) for name, known in kept.items()):
        return None
    codes = [_code(name, [str(each) for each in known]) for name, known in kept.items()]
    ticks = [pl.col(name).dt.timestamp("us").cast(pl.Float64).fill_null(NO_MOMENT) for name in moments]
    return Folded(trees, [*codes, *ticks, *(pl.col(name).cast(pl.Float64) for name in numbers)])


def write_probe(model: Any, folder: Path, meta: Meta, framing: Framing, rows: pl.DataFrame) -> None:
    """Leave rows and the original's scores beside a model that folds, for whoever loads it to compare."""
    if meta.frame != "pandas" or fold(model, meta, framing.categories) is None:
        return
    nothing = pl.DataFrame(schema=rows.schema).clear(1)
    probe = pl.concat([rows.gather_every(max(1, math.ceil(rows.height / _ROWS))), nothing])
    scores = scores_of(model, framing.build(probe), meta)
    probe.with_columns(_score=pl.Series(scores.tolist(), dtype=pl.List(pl.Float64))).write_parquet(folder / PROBE)


def folded(model: Any, folder: Path, meta: Meta, framing: Framing) -> Folded | None:
    """The shorter way to ask a loaded model, if it gives the scores that the original gave; else None."""
    probe = folder / PROBE
    if meta.frame != "pandas" or not probe.is_file():
        return None
    short = fold(model, meta, framing.categories)
    if short is None:
        return None
    try:
        rows = pl.read_parquet(probe)
        found = scores_of(short, framing.typed(rows), meta)
        told = np.array(rows["_score"].to_list(), dtype=np.float64)
    except (ModelUnusable, OSError, ValueError, pl.exceptions.PolarsError):
        return None  # the original is always there
    same = told.shape == found.shape and bool((np.abs(told - found) <= SAME).all())
    return short if same else None


def _is_ours(outer: Any, trees: Any) -> bool:
    # A model that is none of scikit-learn's must not wait for its imports; the one at hand has imported it.
    from sklearn.compose import ColumnTransformer  # noqa: PLC0415 - see above
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor  # noqa: PLC0415 - see above
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder  # noqa: PLC0415 - see above

    if type(trees) not in (HistGradientBoostingClassifier, HistGradientBoostingRegressor):
        return False
    if hasattr(trees, "feature_names_in_") or not _is(outer, ColumnTransformer, _OUTER):
        return False
    told = {name: part for name, part, _ in outer.transformers}
    return (
        list(told) == _PARTS
        and _is(told["categories"], OrdinalEncoder, _ENCODER)
        and math.isnan(told["categories"].unknown_value)
        and _is(told["moments"], FunctionTransformer, _SECONDS)
        and isinstance(told["numbers"], str)
        and told["numbers"] == "passthrough"
    )


def _is(part: Any, kind: type, parameters: Mapping[str, Any]) -> bool:
    return type(part) is kind and all(getattr(part, name) == value for name, value in parameters.items())


def _code(name: str, kept: Sequence[str]) -> pl.Expr:
    """The place of a category among those that the model knows; a missing or unknown one has none."""
    return pl.col(name).cast(pl.Enum(list(kept)), strict=False).to_physical().cast(pl.Float64)
