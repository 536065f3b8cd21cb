"""The challenger of a route as a batch of requests meets it: whose rows are its, what it said, where it failed.

Takes a trial, its process and ids or keys of rows; gives the places of rows and the rows of the shadow table; never
moves a key between models while shares are raised (`rollout.split`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from everfit.observe.intake import SHADOW_COLUMNS
from everfit.ports import Batch, Table, Trial
from everfit.rollout.split import key_of, share_of, variant_of
from everfit.serve.body import Body, labels_of
from everfit.serve.challenger import Challenger
from everfit.serve.protocol import Face

VARIANT = "challenger"
_ROWS = [name for name in SHADOW_COLUMNS if name != "_day"]  # the mover adds it


@dataclass(frozen=True, slots=True)
class Rival:
    """What is tried, and how much of the traffic it gets."""

    trial: Trial
    challenger: Challenger
    face: Face
    names: tuple[str, ...] | None = None  # its features where they are fewer than the champion's, or in another order

    def places(self, keys: Sequence[Any] | None, ids: Sequence[str]) -> list[int]:
        """The rows that it answers: sticky by key, and by id where there is none."""
        trial = self.trial
        if trial.weight <= 0 or not self.challenger.has_been_warm:
            return []
        named = keys if keys is not None else [None] * len(ids)
        share = [(VARIANT, trial.weight)]
        return [
            place
            for place, (key, id_) in enumerate(zip(named, ids, strict=True))
            if variant_of(key_of(key_text(key), id_), trial.salt, share) == VARIANT
        ]

    def copied(self, ids: Sequence[str]) -> list[int]:
        """The rows that it gets copies of, chosen by their ids."""
        mirror = self.trial.mirror
        if mirror >= 1:
            return list(range(len(ids)))
        return [place for place, id_ in enumerate(ids) if share_of(id_, f"mirror:{self.trial.salt}") < mirror]


def rival_of(trial: Trial, challenger: Challenger, face: Face, champion: Face) -> Rival:
    """A challenger beside a champion: whether it takes the same rows as they are."""
    names = tuple(challenger.signature.schema.names())
    is_same = challenger.signature.schema.features == champion.signature.schema.features
    return Rival(trial, challenger, face, None if is_same else names)


def key_text(value: Any) -> str | None:
    """A key as text: a number is the same key however its client writes it.

    >>> key_text(17), key_text(17.0), key_text("17"), key_text(None), key_text(True)
    ('17', '17', '17', None, 'true')
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


@dataclass(frozen=True, slots=True)
class Said:
    """What a challenger said of rows; `failed` has a word for each row that it failed on."""

    failed: Sequence[str | None]
    scores: np.ndarray | None = None  # None: it failed on all
    took: float = 0.0  # seconds from the question to the answer
    scored: float = 0.0  # seconds of them that its process scored for


def shadow_rows(body: Body, rival: Rival, said: Said) -> Batch:
    """What the shadow table keeps of rows that a challenger was asked about."""
    width = rival.face.signature.width()
    scores = np.full((len(said.failed), width), np.nan) if said.scores is None else said.scores
    none: list[str | None] = [None]
    labels = labels_of(np.nan_to_num(scores), rival.face) or none * len(scores)
    failed = pl.Series("_failed", said.failed, dtype=pl.String)
    told = pl.DataFrame(
        {"_score": scores.tolist(), "_prediction": labels},
        schema={"_score": SHADOW_COLUMNS["_score"], "_prediction": pl.String()},
    ).with_columns(
        pl.when(failed.is_null()).then(pl.col("_score")).alias("_score"),
        pl.when(failed.is_null()).then(pl.col("_prediction")).alias("_prediction"),
        pl.lit(rival.face.candidate).alias("_model"),
        pl.lit(rival.face.version, dtype=pl.Int64).alias("_version"),
        pl.lit(said.took * 1000, dtype=pl.Float64).alias("_latency_ms"),
        failed,
    )
    return Batch(Table.SHADOW, body.envelope().hstack(told).select(_ROWS))
