"""Matrices for models that are asked without pandas: from polars rows, or straight from plain values.

Takes the columns that a compiled model wants; gives float matrices and a `Folded` around it; never learns anything:
a category that it does not know counts as missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from everfit.adapters.frames import Meta
from everfit.adapters.scores import Floats, classes_of
from everfit.observe.options import Kind

NO_MOMENT = -(2.0**63)  # what a missing moment becomes when numpy makes a number of it: earlier than any other


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


@dataclass(frozen=True, slots=True)
class Folded:
    """A model that answers as the original does, without pandas: a matrix of columns and whoever is asked with it."""

    form: str  # what was done, for the log
    matrix: Matrix
    ask: Callable[[Floats], Floats]  # scores in the order of the model's classes, of rows of the matrix
    same: float  # how far its scores may be from the original's; of large values, relative

    def score(self, rows: pl.DataFrame) -> Floats:
        """Scores of rows as `Framing.typed` gives them."""
        return self.ask(self.matrix.of_frame(rows))

    def quick(self, numbers: Floats, texts: Sequence[Sequence[str | None]], moments: Floats) -> Floats:
        """Scores without a frame.

        `numbers` has a column for each number and then for each flag, in the features' order; `texts` a list for
        each category; `moments` a column of microseconds for each moment. NaN and None are missing.
        """
        return self.ask(self.matrix.of_plain(numbers, texts, moments))


class Matrix:
    """Where each column comes from."""

    def __init__(self, columns: Sequence[Column], meta: Meta) -> None:
        """Name the columns, in the order in which the model takes them."""
        self._reads = [column.read().alias(str(place)) for place, column in enumerate(columns)]
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

    def of_frame(self, rows: pl.DataFrame) -> Floats:
        """The matrix of rows in the lake's types, shape (rows, columns)."""
        if not self._reads:
            return np.empty((rows.height, 0))
        return rows.select(self._reads).to_numpy(order="c")

    def of_plain(self, numbers: Floats, texts: Sequence[Sequence[str | None]], moments: Floats) -> Floats:
        """The matrix of plain values, as `Folded.quick` takes them."""
        made = np.empty((len(numbers), self._width))
        made[:, self._numbers[0]] = numbers[:, self._numbers[1]]
        if len(self._moments[0]):
            known = moments[:, self._moments[1]]
            made[:, self._moments[0]] = np.where(np.isnan(known), NO_MOMENT, known)
        for place, source, codes in self._texts:
            made[:, place] = [codes.get(text, math.nan) if text is not None else math.nan for text in texts[source]]
        return made


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


def in_our_order(scores: Floats, model: Any, meta: Meta) -> Floats:
    """Columns of the model's `classes_` -> columns of ours; a class that it does not know has no chance."""
    order = [meta.classes.index(each) for each in classes_of(model, meta) or meta.classes]
    if order == list(range(len(meta.classes))):
        return scores
    ours = np.zeros((len(scores), len(meta.classes)))
    ours[:, order] = scores
    return ours


def fits_task(model: Any, meta: Meta) -> bool:
    """Whether a fitted model of scikit-learn's kind does what the meta data says."""
    known = classes_of(model, meta)
    if known is None or meta.task == "regression":
        return known is None and meta.task == "regression"
    return set(known) <= set(meta.classes)


def _pairs(pairs: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [target for target, _ in pairs], [source for _, source in pairs]
