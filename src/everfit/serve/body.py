"""Checked rows of one request or of many, whichever way they came: as arrays or as a frame.

Takes a `Stack` or a frame; gives parts of it, scores, rows for the challenger's process and rows for the log; never
checks a value again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from everfit.observe.intake import PREDICTION_COLUMNS
from everfit.ports import Batch, Table
from everfit.serve.model import Loaded
from everfit.serve.plain import Portion, Stack
from everfit.serve.protocol import Face
from everfit.serve.wire import Rows

LOGGED = [name for name in PREDICTION_COLUMNS if name not in {"_late", "_day"}]  # the mover adds those two


class Body(Protocol):
    """Rows that fit the champion's features."""

    @property
    def ids(self) -> list[str]:
        """Their ids, in order."""
        ...

    def take(self, places: Sequence[int]) -> Body:
        """Some of them."""
        ...

    def rows(self, names: Sequence[str] | None) -> Rows:
        """As a challenger's process takes them; `names` are its features where they are not the champion's."""
        ...

    def score(self, model: Loaded) -> np.ndarray:
        """A model's scores. Raises `ModelUnusable`."""
        ...

    def part(self, scores: np.ndarray, face: Face, variant: str, latencies: list[float]) -> Batch | Portion:
        """What the prediction log keeps of them; `latencies` are milliseconds, one a row."""
        ...

    def envelope(self) -> pl.DataFrame:
        """Their `_id`, `_time` and `_arrived`."""
        ...


def labels_of(scores: np.ndarray, face: Face) -> list[str] | None:
    """The most likely class of each row as text; None in regression."""
    classes = face.signature.classes
    return [classes[place] for place in scores.argmax(axis=1).tolist()] if classes else None


@dataclass(frozen=True, slots=True)
class Stacked:
    """Rows that came the short way."""

    stack: Stack

    @property
    def ids(self) -> list[str]:
        """As `Body`."""
        return self.stack.ids

    def take(self, places: Sequence[int]) -> Stacked:
        """As `Body`."""
        return Stacked(self.stack.take(places))

    def rows(self, names: Sequence[str] | None) -> Rows:
        """As `Body`."""
        stack = self.stack
        if names is not None:
            return Rows(len(stack.ids), frame=stack.frame().select(names))
        return Rows(len(stack.ids), stack.numbers, stack.texts, stack.moments)

    def score(self, model: Loaded) -> np.ndarray:
        """As `Body`."""
        stack = self.stack
        if model.quick is None:
            return model.score(stack.frame())
        return model.score_plain(stack.numbers, stack.texts, stack.moments)

    def part(self, scores: np.ndarray, face: Face, variant: str, latencies: list[float]) -> Portion:
        """As `Body`."""
        return Portion(
            self.stack, scores, labels_of(scores, face), face.candidate, face.version, variant, latencies
        )  # fmt: skip

    def envelope(self) -> pl.DataFrame:
        """As `Body`."""
        return pl.DataFrame(self.stack.envelope())


@dataclass(frozen=True, slots=True)
class Framed:
    """Rows that came the long way: `_id`, `_time`, `_arrived`, and the features by name."""

    frame: pl.DataFrame
    names: Sequence[str]

    @property
    def ids(self) -> list[str]:
        """As `Body`."""
        return self.frame["_id"].to_list()

    def take(self, places: Sequence[int]) -> Framed:
        """As `Body`."""
        return Framed(self.frame[list(places)], self.names)

    def rows(self, names: Sequence[str] | None) -> Rows:
        """As `Body`."""
        return Rows(self.frame.height, frame=self.frame.select(names if names is not None else self.names))

    def score(self, model: Loaded) -> np.ndarray:
        """As `Body`."""
        if self.frame.is_empty():
            return np.zeros((0, model.signature.width()))
        return model.score(self.frame.select(self.names))

    def part(self, scores: np.ndarray, face: Face, variant: str, latencies: list[float]) -> Batch:
        """As `Body`."""
        rows = self.frame.height
        said = pl.DataFrame(
            {
                "_score": scores.tolist(),
                "_prediction": labels_of(scores, face) or [None] * rows,
                "_latency_ms": latencies,
            },
            schema={name: PREDICTION_COLUMNS[name] for name in ("_score", "_prediction", "_latency_ms")},
        ).with_columns(
            pl.lit(face.candidate).alias("_model"),
            pl.lit(face.version, dtype=pl.Int64).alias("_version"),
            pl.lit(variant).alias("_variant"),
        )
        log = self.frame.select("_id", "_time", "_arrived").hstack(said)
        return Batch(Table.PREDICTIONS, log.select(LOGGED).hstack(self.frame.select(self.names)))

    def envelope(self) -> pl.DataFrame:
        """As `Body`."""
        return self.frame.select("_id", "_time", "_arrived")
