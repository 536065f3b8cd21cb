"""LightGBM, XGBoost and CatBoost asked with a matrix, without pandas on the way.

Takes a fitted model of their scikit-learn kind; gives a `Folded` that asks the library itself, or None; never imports
a library: a model that is there has brought its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from everfit.adapters.frames import Meta
from everfit.adapters.matrix import Column, Folded, Matrix, fits_task, in_our_order
from everfit.adapters.scores import Floats
from everfit.observe.options import Kind

SAME = 1e-9  # of the same trees; the libraries' own sums are made in 32 bits on both ways
KINDS = {
    "LGBMClassifier": "lightgbm", "LGBMRegressor": "lightgbm", "XGBClassifier": "xgboost", "XGBRegressor": "xgboost",
    "CatBoostClassifier": "catboost", "CatBoostRegressor": "catboost",
}  # fmt: skip


def fold_boosters(model: Any, meta: Meta, categories: Mapping[str, Sequence[str]]) -> Folded | None:
    """The shorter way, if the model was fitted on the features as they are; else None.

    >>> fold_boosters(object(), Meta("binary", ()), {}) is None
    True
    """
    library = type(model).__module__.partition(".")[0]
    if KINDS.get(type(model).__name__) != library or not _fits(model, library, meta):
        return None
    if not set(_kinds(meta)) <= {Kind.NUMBER, Kind.FLAG, Kind.CATEGORY}:
        return None
    if library == "catboost" and Kind.CATEGORY in _kinds(meta):  # it takes their text, not numbers for them
        return None
    try:
        if _names(model, library) != [column.name for column in meta.features]:
            return None
        if library == "lightgbm" and not _same_categories(model, meta, categories):
            return None
        ask = ASKS[library](model, meta)
    except (AttributeError, TypeError, ValueError, KeyError):
        return None  # a build that we do not know: the original is always there
    columns = [Column(each.name, each.kind, tuple(categories.get(each.name, ()))) for each in meta.features]
    if meta.task == "regression":
        return Folded(f"{library} without pandas", Matrix(columns, meta), lambda m: ask(m).reshape(-1, 1), SAME)
    ordered: Callable[[Floats], Floats] = lambda m: in_our_order(ask(m), model, meta)  # noqa: E731 - a name for a line
    return Folded(f"{library} without pandas", Matrix(columns, meta), ordered, SAME)


def _kinds(meta: Meta) -> list[Kind]:
    return [column.kind for column in meta.features]


def _fits(model: Any, library: str, meta: Meta) -> bool:
    if library == "catboost":  # its regressor has classes too: none
        classes = list(getattr(model, "classes_", ()))
        return not classes if meta.task == "regression" else bool(classes) and fits_task(model, meta)
    return fits_task(model, meta)


def _names(model: Any, library: str) -> list[str]:
    if library == "lightgbm":  # it writes names with other letters for itself
        return [str(name) for name in model.feature_names_in_]
    return [str(name) for name in (model.feature_names_ if library == "catboost" else model.feature_names_in_)]


def _same_categories(model: Any, meta: Meta, categories: Mapping[str, Sequence[str]]) -> bool:
    ours = [list(categories[column.name]) for column in meta.features if column.kind is Kind.CATEGORY]
    return [list(map(str, each)) for each in model.booster_.pandas_categorical or []] == ours


def _lightgbm(model: Any, meta: Meta) -> Callable[[Floats], Floats]:
    booster = model.booster_

    def ask(matrix: Floats) -> Floats:
        told = np.asarray(booster.predict(matrix, num_threads=1), dtype=np.float64)
        return told if meta.task == "regression" or told.ndim == 2 else np.column_stack([1 - told, told])

    return ask


def _xgboost(model: Any, meta: Meta) -> Callable[[Floats], Floats]:
    verb = model.predict if meta.task == "regression" else model.predict_proba
    return lambda matrix: np.asarray(verb(matrix, validate_features=False), dtype=np.float64)


def _catboost(model: Any, meta: Meta) -> Callable[[Floats], Floats]:
    verb = model.predict if meta.task == "regression" else model.predict_proba
    return lambda matrix: np.asarray(verb(matrix, thread_count=1), dtype=np.float64)


ASKS: dict[str, Callable[[Any, Meta], Callable[[Floats], Floats]]] = {
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "catboost": _catboost,
}
