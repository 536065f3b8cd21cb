"""A shorter way to ask gradient boosting of scikit-learn: straight from values to the trees, without pandas.

Takes a loaded model, what is known of it and rows with the scores it gave them; gives a model that answers the same
from polars rows or plain values, or None; never stands in for a model of another build, nor for one that answers
differently.

The original turns rows into a pandas frame, and its columns into numbers in a `ColumnTransformer`, checks them, and
asks one tree after the other: 2 ms for a row that the trees themselves need 15 us for (see `trees`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from everfit.adapters.frames import Framing, Meta, class_text
from everfit.adapters.scores import Floats, scores_of
from everfit.adapters.trees import Trees
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


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the matrix that the trees take."""

    name: str
    kind: Kind
    texts: tuple[str, ...] = ()  # the categories that it knows; their places are their numbers

    def read(self) -> pl.Expr:
        """The column as numbers, from rows in the lake's types; missing and unknown become null, then NaN."""
        column = pl.col(self.name)
        if self.kind is Kind.CATEGORY:
            column = column.cast(pl.Enum(self.texts), strict=False).to_physical()
        if self.kind is Kind.MOMENT:
            return column.dt.timestamp("us").cast(pl.Float64).fill_null(NO_MOMENT)
        return column.cast(pl.Float64)


class Folded:
    """Answers as the model does, from rows as `Framing.typed` gives them or from plain values."""

    def __init__(self, model: Any, columns: Sequence[Column], meta: Meta) -> None:
        """Read a fitted `HistGradientBoosting...` and the columns that its trees take."""
        self._trees = Trees(model)
        self._loss = model._loss
        self._reads = [column.read() for column in columns]
        if meta.task != "regression":
            self.classes_ = model.classes_
        self._order, self._width = _order(model, meta), len(meta.classes)
        self._plain = _Plain(columns, meta)

    def predict(self, rows: pl.DataFrame) -> Any:
        """What the original's `predict` says; of a classifier, its most likely classes."""
        raw = self._trees.raw(self._matrix(rows))
        if not hasattr(self, "classes_"):
            return self._loss.link.inverse(raw.ravel())
        return self.classes_[self._loss.predict_proba(raw).argmax(axis=1)]

    def predict_proba(self, rows: pl.DataFrame) -> Any:
        """What the original's `predict_proba` says."""
        return self._loss.predict_proba(self._trees.raw(self._matrix(rows)))

    def quick(self, numbers: Floats, texts: Sequence[Sequence[str | None]], moments: Floats) -> Floats:
        """Scores in the order of the model's classes, without a frame.

        `numbers` has a column for each number and then for each flag, in the features' order; `texts` a list for
        each category; `moments` a column of microseconds for each moment. NaN and None are missing.
        """
        raw = self._trees.raw(self._plain.matrix(numbers, texts, moments))
        if self._order is None:
            return np.asarray(self._loss.link.inverse(raw), dtype=np.float64)
        scores = np.zeros((len(raw), self._width))  # a class that the model does not know has no chance
        scores[:, self._order] = self._loss.predict_proba(raw)
        return scores

    def _matrix(self, rows: pl.DataFrame) -> Floats:
        return rows.select(self._reads).to_numpy(order="c")


class _Plain:
    # Where each column of the trees' matrix comes from among plain values.
    def __init__(self, columns: Sequence[Column], meta: Meta) -> None:
        kinds = {kind: [each.name for each in meta.features if each.kind is kind] for kind in Kind}
        numbers = [*kinds[Kind.NUMBER], *kinds[Kind.FLAG]]
        at = [(place, column) for place, column in enumerate(columns)]
        self._width = len(columns)
        self._numbers = _pairs([(p, numbers.index(c.name)) for p, c in at if c.name in numbers])
        self._moments = _pairs([(p, kinds[c.kind].index(c.name)) for p, c in at if c.kind is Kind.MOMENT])
        self._texts = [
            (place, kinds[Kind.CATEGORY].index(column.name), {text: float(n) for n, text in enumerate(column.texts)})
            for place, column in at
            if column.kind is Kind.CATEGORY
        ]

    def matrix(self, numbers: Floats, texts: Sequence[Sequence[str | None]], moments: Floats) -> Floats:
        made = np.empty((len(numbers), self._width))
        made[:, self._numbers[0]] = numbers[:, self._numbers[1]]
        if len(self._moments[0]):
            known = moments[:, self._moments[1]]
            made[:, self._moments[0]] = np.where(np.isnan(known), NO_MOMENT, known)
        for place, source, codes in self._texts:
            made[:, place] = [codes.get(text, math.nan) if text is not None else math.nan for text in texts[source]]
        return made


def fold(model: Any, meta: Meta, categories: Mapping[str, Sequence[str]]) -> Folded | None:
    """The shorter way, if the model is built as `boosting` does, or is the bare boosting on the features; else None.

    >>> fold(object(), Meta("binary", ()), {}) is None
    True
    """
    if not type(model).__module__.startswith("sklearn."):
        return None
    pipeline = type(model).__module__ == "sklearn.pipeline" and list(model.named_steps) == ["columns", "model"]
    trees = model.named_steps["model"] if pipeline else model
    if not _is_boosting(trees) or not _fits_task(trees, meta) or len(trees._predictors) == 0:
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
    return Folded(trees, [Column(each.name, kinds[each.name], each.texts) for each in columns], meta)


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
        typed = framing.typed(rows)
        told = np.array(rows["_score"].to_list(), dtype=np.float64)
        found = [scores_of(short, typed, meta), short.quick(*plain_values(typed, meta))]
    except (ModelUnusable, OSError, ValueError, pl.exceptions.PolarsError):
        return None  # the original is always there
    same = all(told.shape == each.shape and bool((np.abs(told - each) <= SAME).all()) for each in found)
    return short if same else None


def plain_values(rows: pl.DataFrame, meta: Meta) -> tuple[Floats, list[list[str | None]], Floats]:
    """Rows in the lake's types as `Folded.quick` takes them.

    >>> from everfit.observe.schema import Column as Feature
    >>> meta = Meta("binary", (Feature("price", Kind.NUMBER), Feature("shop", Kind.CATEGORY)))
    >>> plain_values(pl.DataFrame({"price": [1.5], "shop": ["x"]}), meta)
    (array([[1.5]]), [['x']], array([], shape=(1, 0), dtype=float64))
    """
    kinds = {kind: [pl.col(each.name) for each in meta.features if each.kind is kind] for kind in Kind}
    numbers = [column.cast(pl.Float64) for column in (*kinds[Kind.NUMBER], *kinds[Kind.FLAG])]
    moments = [column.dt.timestamp("us").cast(pl.Float64) for column in kinds[Kind.MOMENT]]
    texts = [rows[each.name].to_list() for each in meta.features if each.kind is Kind.CATEGORY]
    matrices = [
        rows.select(chosen).to_numpy(order="c") if chosen else np.empty((rows.height, 0))
        for chosen in (numbers, moments)
    ]
    return matrices[0], texts, matrices[1]


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


def _order(model: Any, meta: Meta) -> list[int] | None:
    """Where each of the model's classes stands among ours; None for regression."""
    if meta.task == "regression":
        return None
    return [meta.classes.index(class_text(each)) for each in model.classes_]


def _fits_task(model: Any, meta: Meta) -> bool:
    if meta.task == "regression":
        return not hasattr(model, "classes_")
    return hasattr(model, "classes_") and {class_text(each) for each in model.classes_} <= set(meta.classes)


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


def _pairs(pairs: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [target for target, _ in pairs], [source for _, source in pairs]
