"""Linear pipelines of scikit-learn folded into one matrix: imputing, scaling, encoding and the model become numbers.

Takes a fitted pipeline (`ColumnTransformer`, `SimpleImputer`, scalers, `OneHotEncoder`, `OrdinalEncoder`, then a linear
model); gives a `Folded`, or None where a step is not known exactly; never stands in for a step that it does not know.

Every column that such a pipeline makes comes from one feature: a number scaled and moved, or a number for each
category. So a score is a constant, a weight for each number and a table for each category: some 40 us of CPU for a row
where the pipeline takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from everfit.adapters.frames import Meta
from everfit.adapters.matrix import Column, Folded, Matrix, fits_task, in_our_order
from everfit.adapters.scores import Floats
from everfit.observe.options import Kind

SAME = 1e-9  # sums are made in another order; a thousand columns differ by 1e-13
IDENTITY = (
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lasso", "LassoCV",
    "LassoLars", "LassoLarsCV", "LinearRegression", "LinearSVR", "Ridge", "RidgeCV", "SGDRegressor",
)  # fmt: skip
EXPONENTIAL = ("GammaRegressor", "PoissonRegressor")
LOGISTIC = ("LogisticRegression", "LogisticRegressionCV", "SGDClassifier")


class _Unknown(Exception):
    """A step whose exact outcome is not known here."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One column on its way through the pipeline: of a number `scale * x + shift`; of a category what `table` says."""

    feature: str
    kind: Kind
    fill: float = math.nan  # what a missing number becomes before it is scaled
    scale: float = 1.0
    shift: float = 0.0
    texts: Mapping[str | None, str | None] | None = None  # a category that is still text: what each has become
    table: Mapping[str | None, float] | None = None  # a category that is a number by now; None is the missing one

    def scaled(self, scale: float, shift: float) -> Piece:
        """The column after `scale * x + shift`."""
        if self.table is not None:
            return replace(self, table={text: scale * value + shift for text, value in self.table.items()})
        if self.kind is Kind.CATEGORY:
            raise _Unknown("text cannot be scaled")
        return replace(self, scale=scale * self.scale, shift=scale * self.shift + shift)


def fold_linear(model: Any, meta: Meta, categories: Mapping[str, Sequence[str]]) -> Folded | None:
    """The folded pipeline, if every step of it is known; else None.

    >>> fold_linear(object(), Meta("binary", ()), {}) is None
    True
    """
    if not type(model).__module__.startswith("sklearn."):
        return None
    *steps, last = [step for _, step in model.steps] if type(model).__name__ == "Pipeline" else [model]
    link = _link(last)
    if link is None or not fits_task(last, meta) or not hasattr(last, "coef_"):
        return None
    try:
        pieces = [_first(column.name, column.kind, categories) for column in meta.features]
        names = [column.name for column in meta.features]
        if list(getattr(model, "feature_names_in_", names)) != names:
            return None
        for step in steps:
            pieces = _through(step, pieces)
        return _folded(pieces, last, link, meta)
    except (_Unknown, AttributeError, TypeError, ValueError, IndexError, KeyError):
        return None  # a build that we do not know: the original is always there


def _first(name: str, kind: Kind, categories: Mapping[str, Sequence[str]]) -> Piece:
    if kind is Kind.CATEGORY:
        return Piece(name, kind, texts={None: None, **{text: text for text in categories[name]}})
    return Piece(name, kind)


# ---- steps -----------------------------------------------------------------------------------------------------------
def _through(step: Any, pieces: list[Piece]) -> list[Piece]:
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return pieces
    name = type(step).__name__
    if name not in STEPS or not type(step).__module__.startswith("sklearn."):
        raise _Unknown(name)
    return STEPS[name](step, pieces)


def _pipeline(step: Any, pieces: list[Piece]) -> list[Piece]:
    for _, each in step.steps:
        pieces = _through(each, pieces)
    return pieces


def _columns(step: Any, pieces: list[Piece]) -> list[Piece]:
    if step.transformer_weights is not None:
        raise _Unknown("transformer_weights")
    made: list[Piece] = []
    for name, part, _ in step.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        made += _through(part, [pieces[place] for place in step._transformer_to_input_indices[name]])
    return made


def _unchanged(step: Any, pieces: list[Piece]) -> list[Piece]:
    if step.func is not None:
        raise _Unknown("a function of somebody's own")
    return pieces  # what scikit-learn makes of "passthrough"


def _imputed(step: Any, pieces: list[Piece]) -> list[Piece]:
    if step.add_indicator or len(step.statistics_) != len(pieces) or not _is_nan(step.missing_values):
        raise _Unknown("SimpleImputer")
    made = []
    for piece, value in zip(pieces, step.statistics_, strict=True):
        if _is_nan(value) or value is None:  # such a column is dropped, or kept empty
            raise _Unknown("SimpleImputer")
        if piece.texts is not None:
            texts = {text: str(value) if now is None else now for text, now in piece.texts.items()}
            made.append(replace(piece, texts=texts))
        elif piece.table is None and math.isnan(piece.fill) and (piece.scale, piece.shift) == (1.0, 0.0):
            made.append(replace(piece, fill=float(value)))
        else:
            raise _Unknown("SimpleImputer")
    return made


def _standard(step: Any, pieces: list[Piece]) -> list[Piece]:
    return _divided(pieces, step.mean_ if step.with_mean else None, step.scale_ if step.with_std else None)


def _robust(step: Any, pieces: list[Piece]) -> list[Piece]:
    return _divided(
        pieces, step.center_ if step.with_centering else None, step.scale_ if step.with_scaling else None
    )  # fmt: skip


def _widest(step: Any, pieces: list[Piece]) -> list[Piece]:
    return _divided(pieces, None, step.scale_)


def _divided(pieces: list[Piece], centre: Any, scale: Any) -> list[Piece]:
    many = len(pieces)
    moved = np.zeros(many) if centre is None else centre
    by = np.ones(many) if scale is None else scale
    return [piece.scaled(1 / b, -m / b) for piece, m, b in zip(pieces, moved, by, strict=True)]


def _from_low_to_high(step: Any, pieces: list[Piece]) -> list[Piece]:
    if step.clip:
        raise _Unknown("clip")
    return [piece.scaled(s, m) for piece, s, m in zip(pieces, step.scale_, step.min_, strict=True)]


def _one_hot(step: Any, pieces: list[Piece]) -> list[Piece]:
    if getattr(step, "_infrequent_enabled", False):
        raise _Unknown("infrequent categories")
    dropped = [None] * len(pieces) if step.drop_idx_ is None else step.drop_idx_
    made = []
    for piece, known, drop in zip(pieces, step.categories_, dropped, strict=True):
        codes = _codes(piece, known)
        # With handle_unknown="error" the original fails where ours says NaN, which is refused as well.
        unknown = math.nan if step.handle_unknown == "error" else 0.0
        for place in range(len(known)):
            table = {text: unknown if code is None else float(code == place) for text, code in codes.items()}
            if drop is None or place != int(drop):
                made.append(replace(piece, texts=None, table=table))
    return made


def _ordinal(step: Any, pieces: list[Piece]) -> list[Piece]:
    if getattr(step, "_infrequent_enabled", False) or not _is_nan(step.encoded_missing_value):
        raise _Unknown("OrdinalEncoder")
    unknown = math.nan if step.unknown_value is None else float(step.unknown_value)
    made = []
    for piece, known in zip(pieces, step.categories_, strict=True):
        codes = _codes(piece, known)
        texts = piece.texts or {}
        table = {
            text: float(code) if code is not None and not _is_missing(known[code])
            else math.nan if texts[text] is None and any(map(_is_missing, known)) else unknown
            for text, code in codes.items()
        }  # fmt: skip
        made.append(replace(piece, texts=None, table=table))
    return made


def _codes(piece: Piece, known: Sequence[Any]) -> dict[str | None, int | None]:
    """Where each text of a category stands among those that an encoder knows."""
    if piece.texts is None:
        raise _Unknown("an encoder of numbers")
    places = {None if _is_missing(value) else value: place for place, value in enumerate(known)}
    return {text: places.get(now) for text, now in piece.texts.items()}


STEPS: dict[str, Callable[[Any, list[Piece]], list[Piece]]] = {
    "Pipeline": _pipeline,
    "ColumnTransformer": _columns,
    "FunctionTransformer": _unchanged,
    "SimpleImputer": _imputed,
    "StandardScaler": _standard,
    "RobustScaler": _robust,
    "MaxAbsScaler": _widest,
    "MinMaxScaler": _from_low_to_high,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
}


# ---- the model -------------------------------------------------------------------------------------------------------
def _link(model: Any) -> Callable[[Floats], Floats] | None:
    name = type(model).__name__
    if not type(model).__module__.startswith("sklearn."):
        return None
    if name in IDENTITY:
        return lambda raw: raw
    if name in EXPONENTIAL:
        return lambda raw: np.asarray(np.exp(raw))
    if name not in LOGISTIC or (name == "SGDClassifier" and model.loss != "log_loss"):
        return None
    if len(model.classes_) == 2:
        return lambda raw: np.column_stack([expit(-raw[:, 0]), expit(raw[:, 0])])
    if name == "SGDClassifier" or model.solver == "liblinear":
        return _each_against_the_rest
    return lambda raw: np.asarray(softmax(raw, axis=1))


def _each_against_the_rest(raw: Floats) -> Floats:
    chances = expit(raw)
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def _folded(pieces: list[Piece], last: Any, link: Callable[[Floats], Floats], meta: Meta) -> Folded:
    weights = np.atleast_2d(np.asarray(last.coef_, dtype=np.float64))  # (outputs, columns)
    if weights.shape[1] != len(pieces):
        raise _Unknown("another width")
    constant = np.zeros(len(weights)) + np.asarray(last.intercept_, dtype=np.float64)
    numbers: dict[tuple[str, float | None], Floats] = {}
    tables: dict[str, dict[str | None, Floats]] = {}
    for piece, weight in zip(pieces, weights.T, strict=True):
        if piece.table is not None:
            told = tables.setdefault(piece.feature, {text: np.zeros(len(weights)) for text in piece.table})
            for text, value in piece.table.items():
                told[text] = told[text] + weight * value
        elif piece.kind in (Kind.NUMBER, Kind.FLAG):
            key = (piece.feature, None if math.isnan(piece.fill) else piece.fill)
            numbers[key] = numbers.get(key, 0.0) + weight * piece.scale
            constant = constant + weight * piece.shift
        else:
            raise _Unknown("a category or a time among numbers")
    ask = _asking(numbers, tables, constant)
    kinds = {column.name: column.kind for column in meta.features}
    columns = [Column(name, kinds[name]) for name, _ in numbers]
    columns += [
        Column(name, Kind.CATEGORY, tuple(text for text in told if text is not None)) for name, told in tables.items()
    ]
    if meta.task == "regression":
        return Folded("a linear pipeline folded into one matrix", Matrix(columns, meta), lambda m: link(ask(m)), SAME)
    ordered: Callable[[Floats], Floats] = lambda m: in_our_order(link(ask(m)), last, meta)  # noqa: E731 - a name for a line
    return Folded("a linear pipeline folded into one matrix", Matrix(columns, meta), ordered, SAME)


def _asking(
    numbers: Mapping[tuple[str, float | None], Floats],
    tables: Mapping[str, Mapping[str | None, Floats]],
    constant: Floats,
) -> Callable[[Floats], Floats]:
    """Raw outputs, shape (rows, outputs), of a matrix with the numbers first and then the categories' codes."""
    weights = np.array(list(numbers.values())).reshape(len(numbers), len(constant))
    fills = np.array([math.nan if fill is None else fill for _, fill in numbers])
    filled = bool((~np.isnan(fills)).any())
    # The last line of a table is that of the missing one.
    lines = [np.array([*(v for k, v in told.items() if k is not None), told[None]]) for told in tables.values()]

    def ask(matrix: Floats) -> Floats:
        known = matrix[:, : len(numbers)]
        if filled:
            known = np.where(np.isnan(known), fills, known)
        raw = known @ weights + constant
        for place, table in enumerate(lines, len(numbers)):
            codes = matrix[:, place]
            raw += table[np.where(np.isnan(codes), len(table) - 1, codes).astype(np.intp)]
        return np.asarray(raw)

    return ask


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_missing(value: Any) -> bool:
    return value is None or _is_nan(value)
