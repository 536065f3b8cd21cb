"""A published model, loaded and proven able to answer.

Takes a published folder and a loader; gives a `Loaded` whose scores have the right shape; never gives out a
model that could not score one row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from everfit.errors import ModelUnusable
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema, conform, frame_dtypes
from everfit.ports import Predictor

PLAIN: dict[Kind, Any] = {
    Kind.NUMBER: 0.0,
    Kind.CATEGORY: "",
    Kind.FLAG: False,
    Kind.MOMENT: "1970-01-01T00:00:00Z",
    Kind.TEXT: "",
    Kind.VECTOR: [0.0],
}


# A predictor may offer `quick`: scores from plain values. Numbers and then flags (rows, many), a list a category,
# moments as microseconds (rows, many), each in the order of the schema; NaN and None are missing.
Quick = Callable[[np.ndarray, Sequence[Sequence[str | None]], np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives: the part of `model.json` that serving needs."""

    task: str
    schema: Schema
    classes: tuple[str, ...]  # the order of its scores; empty for regression
    positive: str | None  # binary: the class whose score is shown
    sample: dict[str, Any]  # a row of its training to warm it with; empty if its writer kept none

    def width(self) -> int:
        """How many scores a row has."""
        return len(self.classes) if self.task != "regression" else 1


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory that has scored a row."""

    candidate: str
    signature: Signature
    predictor: Predictor
    quick: Quick | None = None

    def score_plain(
        self, numbers: np.ndarray, texts: Sequence[Sequence[str | None]], moments: np.ndarray
    ) -> np.ndarray:
        """As `score`, of plain values; only where `quick` is there.

        Raises:
            ModelUnusable: the model failed or answered nonsense.
        """
        quick = self.quick
        if quick is None:
            raise ModelUnusable(f"model {self.candidate} takes frames only")
        return self._checked(lambda: quick(numbers, texts, moments), len(numbers))

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        """Scores of rows that fit the schema, shape (rows, `signature.width()`), all finite.

        Raises:
            ModelUnusable: the model failed or answered nonsense.
        """
        return self._checked(lambda: self.predictor.score(rows), rows.height)

    def _checked(self, ask: Callable[[], np.ndarray], rows: int) -> np.ndarray:
        try:
            scores = np.asarray(ask(), dtype=float)
        except ModelUnusable:
            raise
        except BaseException as error:  # the border to the user's model, which may raise anything, exits and panics too
            raise ModelUnusable(f"model {self.candidate} cannot score: {type(error).__name__}") from error
        if scores.shape != (rows, self.signature.width()):
            raise ModelUnusable(
                f"model {self.candidate} gave scores of shape {scores.shape} for {rows} rows "
                f"and {self.signature.width()} outputs; retrain it"
            )
        if not np.isfinite(scores).all():
            raise ModelUnusable(f"model {self.candidate} gave a score that is not a number; see its training data")
        return scores


def load_published(folder: Path, loader: Callable[[Path], Predictor]) -> Loaded:
    """Load a published folder and score one row with it, so that the first request meets a warm model.

    Raises:
        ModelUnusable: it cannot be loaded, or cannot score.
    """
    signature = read_signature(folder)
    try:
        predictor = loader(folder)
    except ModelUnusable:
        raise
    except BaseException as error:  # the border to pickles of every kind, which may exit or panic too
        raise ModelUnusable(f"{folder} cannot be loaded: {type(error).__name__}: {error}") from error
    loaded = Loaded(folder.name, signature, predictor, getattr(predictor, "quick", None))
    _warm(loaded)
    return loaded


def read_signature(folder: Path) -> Signature:
    """Read what serving needs of `model.json`.

    Raises:
        ModelUnusable: the file is missing or not one of ours.
    """
    try:
        told = orjson.loads((folder / "model.json").read_bytes())
        features = tuple(Column(str(item["name"]), Kind(item["kind"])) for item in told["features"])
        classes = tuple(str(item) for item in told["classes"] or ())
        task, positive, sample = str(told["task"]), told.get("positive"), told.get("sample") or {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnusable(f"{folder / 'model.json'} cannot be read as a model's description: {error}") from error
    if task != "regression" and len(classes) < 2:
        raise ModelUnusable(f"{folder / 'model.json'} names fewer than two classes for a {task} model; retrain it")
    return Signature(task, Schema(features, classes), classes, positive, sample)


def _warm(loaded: Loaded) -> None:
    signature = loaded.signature
    if signature.sample:
        loaded.score(_one_row(signature.schema, signature.sample))
        return
    try:
        loaded.score(_one_row(signature.schema, {}))
    except ModelUnusable:
        # Not every user's model takes nulls, and it need not: then a row of plain values must do.
        loaded.score(
            _one_row(signature.schema, {column.name: PLAIN[column.kind] for column in signature.schema.features})
        )


def _one_row(schema: Schema, values: dict[str, Any]) -> pl.DataFrame:
    row = {"_id": ["warm"], **{name: [values.get(name)] for name in schema.names()}}
    conformed = conform(pl.DataFrame(row, strict=False), schema)
    return conformed.rows.select(list(frame_dtypes(schema)))
