"""What a model answers, as scores in the order of its classes.

Takes any object with `predict` and perhaps `predict_proba`; gives an array (rows, classes), or (rows, 1) for
regression; never passes on an answer that it cannot read: that is `ModelUnusable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everfit.adapters.frames import Meta, class_text, natural
from everfit.errors import ModelUnusable

Floats = NDArray[np.float64]


def scores_of(model: Any, frame: Any, meta: Meta) -> Floats:
    """Ask a model and read its answer.

    A model without `predict_proba` may answer with classes (scores are then 0 and 1), with one number per row
    (the chance of the positive class), or with a column per class.

    Raises:
        ModelUnusable: it raised, or its answer is not scores of these rows.
    """
    rows = len(frame)
    verb = "predict_proba" if meta.task != "regression" and hasattr(model, "predict_proba") else "predict"
    if not hasattr(model, verb):
        raise ModelUnusable(
            f"a {type(model).__name__} has no predict; a trainer must return something that can predict"
        )
    try:
        answer = getattr(model, verb)(frame)
    except Exception as error:  # a model is the user's code: whatever it raises means that it cannot predict
        raise ModelUnusable(f"the model raised while predicting: {type(error).__name__}: {error}") from error
    columns = [class_text(name) for name in answer.columns] if hasattr(answer, "columns") else None
    given = np.asarray(answer)
    if given.ndim == 0 or len(given) != rows:
        raise ModelUnusable(f"the model answered with shape {given.shape} to {rows} rows")
    if meta.task == "regression":
        return _finite(_numbers(given).reshape(rows, -1), width=1)
    known = columns if columns and set(columns) <= set(meta.classes) else classes_of(model, meta)
    return _by_class(given, known, meta)


def classes_of(model: Any, meta: Meta) -> list[str] | None:
    """A model's `classes_` as the lake writes them; None if it names none."""
    known = getattr(model, "classes_", None)
    if known is None:
        return None
    texts = [class_text(value) for value in known]
    # XGBoost trains on truth values and calls them 0 and 1.
    return ["false", "true"] if texts == ["0", "1"] and set(meta.classes) == {"false", "true"} else texts


def _by_class(given: NDArray[Any], known: Sequence[str] | None, meta: Meta) -> Floats:
    if given.ndim == 2 and given.shape[1] > 1:
        return _in_order(_finite(_numbers(given), given.shape[1]), known, meta)
    single = given.reshape(len(given))
    hard = _hard(single, meta.classes)
    if hard is not None:
        return hard
    if len(meta.classes) != 2:
        raise ModelUnusable(f"the model answered with one column that is not one of the {len(meta.classes)} classes")
    chance = _finite(_numbers(single).reshape(-1, 1), width=1)[:, 0]
    at = meta.classes.index(meta.positive) if meta.positive in meta.classes else 1
    return np.stack([chance, 1 - chance] if at == 0 else [1 - chance, chance], axis=1)


def _in_order(given: Floats, known: Sequence[str] | None, meta: Meta) -> Floats:
    """Columns of the model's classes -> columns of ours; a class that it does not know has no chance."""
    order = known or [class_text(each) for each in sorted(natural(meta.classes))]
    strange = [name for name in order if name not in meta.classes]
    if strange:
        raise ModelUnusable(f"the model predicts the unknown class {', '.join(strange[:3])}")
    if len(order) != given.shape[1]:
        raise ModelUnusable(f"the model answered with {given.shape[1]} columns for {len(order)} classes")
    scores = np.zeros((len(given), len(meta.classes)))
    scores[:, [meta.classes.index(name) for name in order]] = given
    return scores


def _hard(single: NDArray[Any], classes: Sequence[str]) -> Floats | None:
    """Scores of 0 and 1 if every answer is a class; None if not."""
    places = {name: place for place, name in enumerate(classes)}
    values, back = np.unique(single.astype(str) if single.dtype == object else single, return_inverse=True)
    texts = [class_text(value) for value in values]
    if any(text not in places for text in texts):
        return None
    scores = np.zeros((len(single), len(classes)))
    scores[np.arange(len(single)), np.array([places[text] for text in texts], dtype=np.int64)[back.reshape(-1)]] = 1.0
    return scores


def _numbers(given: NDArray[Any]) -> Floats:
    try:
        return given.astype(np.float64)
    except (TypeError, ValueError) as error:
        first = str(given.reshape(-1)[0])
        said = f"the model answered with {first!r}, which is neither a number nor a known class"
        raise ModelUnusable(said) from error


def _finite(scores: Floats, width: int) -> Floats:
    if scores.shape[1] != width:
        raise ModelUnusable(f"the model answered with {scores.shape[1]} columns, {width} expected")
    if not np.isfinite(scores).all():
        raise ModelUnusable(
            f"{int((~np.isfinite(scores)).any(axis=1).sum())} of {len(scores)} scores are not finite numbers"
        )
    return scores
