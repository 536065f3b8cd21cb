"""Cutting rows out of predictions joined with labels."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.observe.window import Span
from everfit.retrain.dataset import cut, feature_frame, fingerprint, trained_on, training_frame
from everfit.retrain.options import DEFAULT_TRAINER
from everfit.retrain.recipe import LakeVersion, Recipe

START = datetime(2013, 1, 1, tzinfo=UTC)


def hour(number: int) -> datetime:
    return START + timedelta(hours=number)


def recipe(task: str = "binary") -> Recipe:
    schema = Schema((Column("price", Kind.NUMBER), Column("shop", Kind.CATEGORY)), ("0", "1"))
    return Recipe(
        "delay", task, "late", schema, LakeVersion(1, 1), Span(hour(0), hour(4)), Span(hour(5), hour(8)), hour(20),
        "train:fit", "c0de", {}, 0,
    )  # fmt: skip


def joined() -> pl.DataFrame:
    """Rows 0 to 9, one an hour; 1 has no label, 2 got it too late, 4 lies in the gap, 8 and 9 after the held-out."""
    return pl.DataFrame(
        {
            "_id": [f"e{number}" for number in range(10)],
            "_time": [hour(number) for number in range(10)],
            "_label": ["0", None, "1", "1", "0", "1", "0", "1", "0", "1"],
            "_value": [0.0, None, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0],
            "_labelled_at": [hour(10), None, hour(30), *[hour(10)] * 7],
            "price": [float(number) for number in range(10)],
            "shop": ["a", None, "b", "a", "b", "a", None, "b", "a", "b"],
        },
        schema_overrides={"_labelled_at": pl.Datetime("us", "UTC"), "_time": pl.Datetime("us", "UTC")},
    )


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_labelled_rows_of_the_two_spans_are_cut(task: str) -> None:
    train, holdout, dataset = cut(joined(), recipe(task))
    assert train["_id"].to_list() == ["e0", "e3"]
    assert holdout["_id"].to_list() == ["e5", "e6", "e7"]
    assert (dataset.train_rows, dataset.holdout_rows, dataset.censored) == (2, 3, 2)
    assert dataset.classes == (("0", "1") if task == "binary" else ())


def test_neither_order_nor_later_labels_change_the_rows_or_the_fingerprint() -> None:
    train, _, dataset = cut(joined(), recipe())
    later = joined().with_columns(_label=pl.when(pl.col("_id") == "e2").then(pl.lit("0")).otherwise("_label"))
    again, _, same = cut(later.reverse(), recipe())
    assert again.equals(train)
    assert same == dataset


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(pl.lit(9.0).alias("price"), id="a value"),
        pytest.param(pl.lit("1").alias("_label"), id="a label"),
        pytest.param(pl.col("shop").fill_null(""), id="a null that becomes empty text"),
        pytest.param(pl.concat_str(pl.col("_id"), pl.lit("x")).alias("_id"), id="an id"),
    ],
)
def test_any_change_of_content_changes_the_fingerprint(change: pl.Expr) -> None:
    assert cut(joined().with_columns(change), recipe())[2].fingerprint != cut(joined(), recipe())[2].fingerprint


def test_text_does_not_run_together_in_the_fingerprint() -> None:
    rows = [pl.DataFrame({"_id": ["1", "2"], "shop": shops}) for shops in (["ab", "c"], ["a", "bc"])]
    assert fingerprint(rows[0]) != fingerprint(rows[1])


def test_a_trainer_sees_features_and_the_target_by_its_name() -> None:
    train, holdout, _ = cut(joined(), recipe())
    assert training_frame(train, recipe()).columns == ["price", "shop", "late"]
    assert feature_frame(holdout, recipe()).columns == ["price", "shop"]
    assert training_frame(train, recipe("regression"))["late"].dtype == pl.Float64


def test_no_rows_give_empty_frames() -> None:
    train, holdout, dataset = cut(joined().clear(), recipe())
    assert (train.height, holdout.height, dataset.censored) == (0, 0, 0)


def test_our_trainer_is_given_neither_prose_nor_vectors() -> None:
    columns = [Column(kind.value, kind) for kind in Kind]
    wide = replace(recipe(), schema=Schema(tuple(columns), ("0", "1")))
    assert trained_on(wide) == tuple(column.name for column in columns), "a function of the user's own gets them all"
    assert trained_on(replace(wide, trainer=DEFAULT_TRAINER)) == ("number", "category", "flag", "moment")


def test_rows_with_vectors_have_a_fingerprint() -> None:
    rows = pl.DataFrame({"_id": ["a", "b", "c"], "face": [[1.0, 2.0], [3.0], None]})
    assert fingerprint(rows) == fingerprint(rows.reverse())
    for other in ([[1.0], [2.0, 3.0], None], [[1.0, 2.0], [3.0], []], [[1.0, 2.0], [4.0], None]):
        assert fingerprint(rows) != fingerprint(rows.with_columns(face=pl.Series(other, dtype=pl.List(pl.Float64))))
