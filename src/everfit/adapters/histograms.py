"""Gradient boosting of scikit-learn without its frames and checks: straight to the trees (see `trees`).

Takes a fitted pipeline as `boosting` makes it, or the bare boosting; gives a `Folded`, or None; never stands in for a
model of another build.

The original turns rows into a pandas frame, and its columns into numbers in a `ColumnTransformer`, checks them, and
asks one tree after the other: 2 ms for a row that the trees themselves need 15 us for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from everfit.adapters.frames import Meta
from everfit.adapters.matrix import Column, Folded, Matrix, fits_task, in_our_order
from everfit.adapters.scores import Floats
from everfit.adapters.trees import Trees
from everfit.observe.options import Kind

SAME = 1e-12
_PARTS = ["categories", "moments", "numbers"]
_ENCODER: dict[str, Any] = {  # with any other parameters its codes mean something else
    "dtype": np.float64,
    "handle_unknown": "use_encoded_value",
    "max_categories": None,
    "min_frequency": None,
}
_SECONDS: dict[str, Any] = {"func": np.asarray, "kw_args": {"dtype": "float64"}, "validate": False}
_OUTER: dict[str, Any] = {"remainder": "drop", "transformer_weights": None}


def fold_histograms(model: Any, meta: Meta, categories: Mapping[str, Sequence[str]]) -> Folded | None:
    """The shorter way, if the model is built as `boosting` does, or is the bare boosting on the features; else None.

    >>> fold_histograms(object(), Meta("binary", ()), {}) is None
    True
    """
    if not type(model).__module__.startswith("sklearn."):
        return None
    pipeline = type(model).__module__ == "sklearn.pipeline" and list(model.named_steps) == ["columns", "model"]
    trees = model.named_steps["model"] if pipeline else model
    if not _is_boosting(trees) or not fits_task(trees, meta) or len(trees._predictors) == 0:
        return None
    columns = _columns_of_ours(model.named_steps["columns"], trees) if pipeline else _columns_of_bare(trees, meta)
    if columns is None:
        return None
    kinds = {column.name: column.kind for column in meta.features}
    for column in columns:
        number = column.kind is Kind.NUMBER and kinds.get(column.name) in (Kind.NUMBER, Kind.FLAG)
        if not number and kinds.get(column.name) is not column.kind:
            return None
        if not set(column.texts) <= set(categories.get(column.name, ())):
            return None
    matrix = Matrix([Column(each.name, kinds[each.name], each.texts) for each in columns], meta)
    return Folded("trees of scikit-learn walked as one", matrix, _asking(trees, meta), SAME)


def _asking(model: Any, meta: Meta) -> Any:
    trees, loss = Trees(model), model._loss

    def ask(matrix: Floats) -> Floats:
        raw = trees.raw(matrix)
        if meta.task == "regression":
            return np.asarray(loss.link.inverse(raw), dtype=np.float64)
        return in_our_order(loss.predict_proba(raw), model, meta)

    return ask


def _columns_of_ours(outer: Any, trees: Any) -> list[Column] | None:
    if not _is_ours(outer, trees):
        return None
    parts = {name: (part, names) for name, part, names in outer.transformers_ if name != "remainder"}
    (encoder, encoded), (_, moments), (_, numbers) = (parts[name] for name in _PARTS)
    inner = _encoded(trees)
    if len(inner) != len(encoded) or list(np.flatnonzero(trees.is_categorical_ if inner else [])) != [
        *range(len(inner))
    ]:
        return None
    columns = []
    for name, known, kept in zip(encoded, encoder.categories_ if encoded else [], inner, strict=True):
        columns.append(Column(name, Kind.CATEGORY, tuple(str(known[int(code)]) for code in kept)))
    return [
        *columns,
        *(Column(name, Kind.MOMENT) for name in moments),
        *(Column(name, Kind.NUMBER) for name in numbers),
    ]


def _columns_of_bare(trees: Any, meta: Meta) -> list[Column] | None:
    names = [feature.name for feature in meta.features]
    if list(getattr(trees, "feature_names_in_", names)) != names or trees.n_features_in_ != len(names):
        return None
    kept = _encoded(trees)
    if not all(isinstance(text, str) for each in kept for text in each):
        return None
    chosen = _preprocessed_first(trees) if kept else []
    first = [Column(names[place], Kind.CATEGORY, tuple(each)) for place, each in zip(chosen, kept, strict=True)]
    return [*first, *(Column(name, Kind.NUMBER) for place, name in enumerate(names) if place not in chosen)]


def _encoded(trees: Any) -> list[list[Any]]:
    """The categories that the trees' own encoder knows, for each of its columns; the missing one left out."""
    if trees._preprocessor is None:
        return []
    encoder = trees._preprocessor.named_transformers_["encoder"]
    return [
        [each for each in known if isinstance(each, str) or not (each is None or math.isnan(each))]
        for known in encoder.categories_
    ]


def _preprocessed_first(trees: Any) -> list[int]:
    mask = trees._preprocessor.transformers_[0][2]
    return [int(place) for place in (np.flatnonzero(mask) if np.asarray(mask).dtype == bool else mask)]


def _is_boosting(trees: Any) -> bool:
    # A model that is none of scikit-learn's must not wait for its imports; the one at hand has imported it.
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor  # noqa: PLC0415 - see above

    known = type(trees) in (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    return known and hasattr(trees, "_predictors")


def _is_ours(outer: Any, trees: Any) -> bool:
    from sklearn.compose import ColumnTransformer  # noqa: PLC0415 - see above
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder  # noqa: PLC0415 - see above

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
