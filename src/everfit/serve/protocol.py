"""Predictions in MLflow's words: `/invocations`.

Takes bodies; gives rows, plain where they are (`plain.Layout`) and as a frame where not, and answers as plain
objects; never knows a socket, and names the field in every error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from everfit.errors import Refused
from everfit.serve.model import Signature
from everfit.serve.plain import Layout, Plain
from everfit.serve.rows import flat, from_columns, from_csv, from_lists, from_records, read_json

CSV = "text/csv"
MLFLOW_KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows to score, as a client sent them."""

    rows: pl.DataFrame
    ids: list[Any] | None = None  # v2 may bring them beside the tensors
    times: list[Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """What every answer of one version of a model says: worked out once."""

    signature: Signature
    version: int
    candidate: str
    natural: list[Any] | None  # classes as users write them, in the order of scores; None for regression
    shown: int | None  # the column of scores that answers show; None: all of them
    told: dict[str, Any]  # the `model` of an answer

    def predictions(self, scores: np.ndarray) -> list[Any]:
        """The most likely classes as users write them; regression: the values."""
        if self.natural is None:
            values: list[Any] = scores[:, 0].tolist()
            return values
        return [self.natural[place] for place in scores.argmax(axis=1).tolist()]

    def scores(self, scores: np.ndarray) -> list[Any]:
        """Binary: the positive class's score; multiclass: all in class order; regression: the value."""
        shown: list[Any] = (scores if self.shown is None else scores[:, self.shown]).tolist()
        return shown


@dataclass(frozen=True, slots=True)
class Answered:
    """Scored rows on their way back."""

    face: Face
    ids: list[str]
    predictions: list[Any]
    scores: list[Any]
    number: int | None = None  # the journal's number, when the answer waited for it
    scored: tuple[float, float] = (0.0, 0.0)  # ticks between which the model was asked


def face_of(signature: Signature, version: int, candidate: str) -> Face:
    """What the answers of a model say of it.

    >>> from everfit.observe.schema import Schema
    >>> face_of(Signature("binary", Schema((), ()), ("no", "yes"), "no", {}), 3, "c1").shown
    0
    """
    positive = positive_of(signature)
    told: dict[str, Any] = {"version": version, "candidate": candidate}
    if signature.classes:
        told |= {"classes": list(signature.classes), "positive": positive}
    natural = natural_classes(signature).tolist() if signature.task != "regression" else None
    shown = None if signature.task == "multiclass" else signature.classes.index(positive) if positive else 0
    return Face(signature, version, candidate, natural, shown, told)


class MlflowAsk:
    """One request's body, read at most once."""

    def __init__(self, body: bytes, content_type: str) -> None:
        """Keep a body; it is read when a model is known."""
        self._body, self._type = body, content_type
        self._told: tuple[str, Any] | None = None

    def plain(self, layout: Layout) -> Plain | None:
        """The rows, where they are plain.

        Raises:
            Refused: it is no body of `/invocations`.
        """
        if self._type == CSV:
            return None
        form, told = self._read()
        if form == "dataframe_split":
            return self._split(told, layout)
        if not isinstance(told, list) or not told:
            return None
        if all(type(row) is dict for row in told):
            return layout.records(told)
        named = form == "dataframe_records" or not all(type(row) is list for row in told)
        return None if named else layout.lists(layout.names, told)

    def asked(self, names: Sequence[str]) -> Asked:
        """The rows as a frame; those without names are in the order of `names`.

        >>> MlflowAsk(b'{"dataframe_split": {"columns": ["a"], "data": [[1]]}}', "application/json").asked([]).rows
        shape: (1, 1)
        ┌─────┐
        │ a   │
        │ --- │
        │ i64 │
        ╞═════╡
        │ 1   │
        └─────┘

        Raises:
            Refused: it is no body of `/invocations`.
        """
        if self._type == CSV:
            return Asked(from_csv(self._body))
        form, told = self._read()
        match form:
            case "dataframe_split":
                return Asked(_split(told))
            case "dataframe_records":
                return Asked(from_records(told))
            case "instances":
                return Asked(_named_or_not(told, names))
            case _:
                return Asked(_inputs(told, names))

    def answer(self, answered: Answered) -> dict[str, Any]:
        """The answer's body."""
        body: dict[str, Any] = {"predictions": answered.predictions}
        if answered.face.natural is not None:
            body["scores"] = answered.scores
        body["ids"] = answered.ids
        body["model"] = answered.face.told
        return body if answered.number is None else body | {"number": answered.number}

    def _read(self) -> tuple[str, Any]:
        if self._told is None:
            told = read_json(self._body)
            found = [key for key in MLFLOW_KEYS if isinstance(told, dict) and key in told]
            if len(found) != 1:
                raise Refused(f"the body must be an object with exactly one of {', '.join(MLFLOW_KEYS)}")
            if not isinstance(told.get("params") or {}, dict):
                raise Refused("params must be an object")
            self._told = found[0], told[found[0]]
        return self._told

    @staticmethod
    def _split(told: Any, layout: Layout) -> Plain | None:
        columns: Any = told.get("columns") if isinstance(told, dict) else None
        rows: Any = told.get("data") if isinstance(told, dict) else None
        listed = isinstance(columns, list) and isinstance(rows, list)
        if not listed or not all(type(name) is str for name in columns) or not all(type(row) is list for row in rows):
            return None
        return layout.lists(columns, rows)


def natural_classes(signature: Signature) -> np.ndarray:
    """The classes as their users write them: whole numbers, flags, else text; empty numbers for regression.

    >>> from everfit.observe.schema import Schema
    >>> natural_classes(Signature("binary", Schema((), ()), ("0", "1"), None, {})).tolist()
    [0, 1]
    """
    classes = signature.classes
    if classes and set(classes) <= {"false", "true"}:
        return np.array([name == "true" for name in classes])
    if all(_is_whole(name) for name in classes):
        return np.array([int(name) for name in classes], dtype=np.int64 if classes else float)
    return np.array(classes, dtype=object)


def positive_of(signature: Signature) -> str | None:
    """The class whose score a binary answer shows: the one that was chosen, else the last in sorted order."""
    if signature.task != "binary":
        return None
    return signature.positive if signature.positive in signature.classes else max(signature.classes)


def _is_whole(text: str) -> bool:
    # As our own text writes them: "07" or "+1" are names, not numbers.
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 19 and str(int(text)) == text


def _split(told: Any) -> pl.DataFrame:
    if not isinstance(told, dict) or not isinstance(told.get("columns"), list):
        raise Refused("dataframe_split must be an object with columns and data")
    return from_lists(told["columns"], told.get("data"))


def _named_or_not(told: Any, names: Sequence[str]) -> pl.DataFrame:
    if isinstance(told, list) and told and isinstance(told[0], list):
        return from_lists(names, told)
    return from_records(told)


def _inputs(told: Any, names: Sequence[str]) -> pl.DataFrame:
    if not isinstance(told, dict):
        return _named_or_not(told, names)
    lists = {name: values if isinstance(values, list) else [values] for name, values in told.items()}
    return from_columns({name: flat(values) for name, values in lists.items()})
