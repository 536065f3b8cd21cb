"""The rows of a recipe, pinned.

Takes predictions joined with their labels and a recipe; gives the rows to train on and to be judged on, with
a fingerprint; never reads the lake itself, and never takes a missing label for an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import polars as pl

from everfit.observe.options import Kind
from everfit.observe.window import Span
from everfit.retrain.options import DEFAULT_TRAINER
from everfit.retrain.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Dataset:
    """What the pinned rows turned out to be."""

    recipe: str
    train_rows: int  # labelled rows to learn from
    holdout_rows: int  # labelled rows to be judged on
    censored: int  # rows whose label never came; in neither set
    fingerprint: str  # key of the rows' content
    classes: tuple[str, ...]  # classes among the training rows; empty for regression


def cut(joined: pl.DataFrame, recipe: Recipe) -> tuple[pl.DataFrame, pl.DataFrame, Dataset]:
    """Cut training and held-out rows out of predictions joined with their labels (`observe.labels.join`).

    A label counts if it had arrived by `recipe.as_of`. Rows come in the order of their event time, then id,
    so that a trainer sees the same rows whatever the order in which they arrived.

    Returns:
        Training rows, held-out rows, and what they are.
    """
    truth = "_value" if recipe.task == "regression" else "_label"
    ordered = joined.sort("_time", "_id")
    known = pl.col(truth).is_not_null() & (pl.col("_labelled_at") <= recipe.as_of)
    parts = [ordered.filter(_within(span)) for span in (recipe.train, recipe.holdout)]
    train, holdout = (part.filter(known) for part in parts)
    names = ["_id", truth, *(name for name in recipe.schema.names() if name in joined.columns)]
    dataset = Dataset(
        recipe=recipe.id,
        train_rows=train.height,
        holdout_rows=holdout.height,
        censored=sum(part.height for part in parts) - train.height - holdout.height,
        fingerprint=fingerprint(train.select(names), holdout.select(names)),
        classes=() if recipe.task == "regression" else tuple(train["_label"].unique().sort()),
    )
    return train, holdout, dataset


def training_frame(rows: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """The features, and the label under the target's own name: what a trainer's `train.parquet` holds."""
    truth = "_value" if recipe.task == "regression" else "_label"
    return rows.select(*recipe.schema.names(), pl.col(truth).alias(recipe.target))


def feature_frame(rows: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """The features alone: what a trainer's `holdout.parquet` holds."""
    return rows.select(recipe.schema.names())


def trained_on(recipe: Recipe, default: str = DEFAULT_TRAINER) -> tuple[str, ...]:
    """The features that the trainer is given: all of them, save that ours takes neither prose nor vectors.

    A function of the user's own gets them too: text as it is, vectors as lists of numbers.
    """
    unread = (Kind.TEXT, Kind.VECTOR) if recipe.trainer == default else ()
    return tuple(column.name for column in recipe.schema.features if column.kind not in unread)


def fingerprint(*frames: pl.DataFrame) -> str:
    """Name frames by their values, whatever the order of their rows (`_id` orders them).

    >>> rows = pl.DataFrame({"_id": ["a", "b"], "price": [1.0, None]})
    >>> fingerprint(rows) == fingerprint(rows.reverse())
    True
    >>> fingerprint(rows) == fingerprint(rows.with_columns(price=pl.lit(1.0)))
    False
    """
    digest = blake2b(digest_size=16)
    for frame in frames:
        digest.update(f"{frame.height} rows of {frame.width} columns\n".encode())
        for values in frame.sort("_id"):
            digest.update(f"{values.name} {values.dtype}\n".encode())
            for part in _bytes_of(values):
                digest.update(part)
    return digest.hexdigest()


def _bytes_of(values: pl.Series) -> Sequence[bytes]:
    """A column as bytes, however a library stores it: which are null, lengths of text, values."""
    null = values.is_null().to_numpy().tobytes()
    if isinstance(values.dtype, pl.List):
        lengths = values.list.len().cast(pl.Int64).fill_null(0)
        return null, lengths.to_numpy().tobytes(), *_bytes_of(values.drop_nulls().explode(empty_as_null=False))
    if values.dtype == pl.String:
        text = values.fill_null("")
        return null, text.str.len_bytes().cast(pl.Int64).to_numpy().tobytes(), "".join(text).encode()
    if values.dtype.is_temporal() or values.dtype == pl.Boolean:
        values = values.cast(pl.Int64)
    return null, values.cast(pl.Float64 if values.dtype.is_float() else pl.Int64).fill_null(0).to_numpy().tobytes()


def _within(span: Span) -> pl.Expr:
    return (pl.col("_time") >= span.start) & (pl.col("_time") < span.end)
