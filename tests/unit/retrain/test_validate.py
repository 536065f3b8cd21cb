"""What must not be trained on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from everfit.detect.options import Quality
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.observe.window import Span
from everfit.profile.table import Profile, learn_bins, portray
from everfit.retrain.recipe import LakeVersion, Recipe
from everfit.retrain.validate import Finding, blocked, inspect

START = datetime(2013, 1, 1, tzinfo=UTC)
SCHEMA = Schema((Column("price", Kind.NUMBER), Column("shop", Kind.CATEGORY)), ("0", "1"))


def some_rows(many: int, first: int = 0) -> pl.DataFrame:
    numbers = np.arange(first, first + many)
    return pl.DataFrame(
        {
            "_id": [f"e{number}" for number in numbers],
            "_label": [str(number % 2) for number in numbers],
            "_value": numbers % 2 * 1.0,
            "price": np.sin(numbers),
            "shop": [("a", "b", "c")[number % 3] for number in numbers],
        }
    )


TRAIN, HOLDOUT = some_rows(1000), some_rows(300, first=1000)


def recipe(task: str = "binary", schema: Schema = SCHEMA) -> Recipe:
    spans = Span(START, START + timedelta(days=8)), Span(START + timedelta(days=8), START + timedelta(days=10))
    as_of = START + timedelta(days=11)
    return Recipe("delay", task, "late", schema, LakeVersion(1, 1), *spans, as_of, "train:fit", "c0de", {}, 0)


def reference() -> Profile:
    return portray(TRAIN, learn_bins(TRAIN, SCHEMA))


def look(
    train: pl.DataFrame = TRAIN, holdout: pl.DataFrame = HOLDOUT, chosen: Recipe | None = None, *, first: bool = False
) -> tuple[Finding, ...]:
    known = None if first else reference()
    return inspect(train, holdout, chosen or recipe(), at_least=500, reference=known, quality=Quality())


def test_healthy_rows_give_no_finding() -> None:
    assert look() == ()
    assert look(first=True) == ()


@pytest.mark.parametrize(
    ("train", "holdout", "column", "what", "said"),
    [
        pytest.param(TRAIN.head(400), HOLDOUT, "*", "rows", "only 400 labelled rows", id="too few rows"),
        pytest.param(TRAIN, HOLDOUT.clear(), "*", "rows", "no labelled row is held out", id="no held-out row"),
        pytest.param(
            TRAIN, HOLDOUT.with_columns(price=pl.lit(None, pl.Float64)), "price", "vanished",
            "price vanished: all 300 recent rows are null, before it was 0%", id="a feature vanished",
        ),
        pytest.param(
            TRAIN, HOLDOUT.with_columns(shop=pl.when(pl.col("shop") == "a").then("shop")), "shop", "nulls",
            "shop is 67% null in the recent rows, before it was 0%", id="nulls jumped",
        ),
        pytest.param(TRAIN.drop("price"), HOLDOUT, "price", "vanished", "not among the rows", id="a column is gone"),
        pytest.param(
            TRAIN.with_columns(pl.col("price").cast(pl.String)), HOLDOUT, "price", "type",
            "price is String and was learned as number", id="a type broke",
        ),
        pytest.param(
            TRAIN.with_columns(_label=pl.lit("1")), HOLDOUT.with_columns(_label=pl.lit("1")), "late", "target",
            "late is '1' in every training row", id="a constant target",
        ),
        pytest.param(
            TRAIN.with_columns(_label=pl.lit(None, pl.String)), HOLDOUT, "late", "target", "late is missing",
            id="a target that is missing",
        ),
        pytest.param(
            TRAIN, pl.concat([HOLDOUT, TRAIN.head(1)]), "_id", "duplicates", "1 ids stand for more than one row",
            id="an id twice",
        ),
    ],
)  # fmt: skip
def test_what_must_not_be_trained_on_blocks_and_names_the_column(
    train: pl.DataFrame, holdout: pl.DataFrame, column: str, what: str, said: str
) -> None:
    found = blocked(look(train, holdout))
    assert [(each.column, each.what) for each in found] == [(column, what)]
    assert said in found[0].said


def test_a_class_never_seen_before_blocks_unless_there_is_no_champion() -> None:
    strange = HOLDOUT.with_columns(_label=pl.when(pl.col("_id") == "e1000").then(pl.lit("2")).otherwise("_label"))
    chosen = recipe("multiclass")
    assert [each.what for each in blocked(look(TRAIN, strange, chosen))] == ["new_class"]
    assert blocked(look(TRAIN, strange, chosen, first=True)) == ()
    assert blocked(look(TRAIN, strange, recipe(), first=True))[0].said.endswith("write task: multiclass")


def test_a_regression_with_one_value_cannot_be_learned() -> None:
    constant = TRAIN.with_columns(_value=pl.lit(3.5))
    assert blocked(look(constant, HOLDOUT, recipe("regression")))[0].said.startswith("late is 3.5 in every")
    assert look(chosen=recipe("regression", replace(SCHEMA, classes=()))) == ()


def test_few_nulls_by_chance_do_not_block() -> None:
    few = HOLDOUT.head(4).with_columns(price=pl.when(pl.col("_id") == "e1000").then(None).otherwise("price"))
    assert look(TRAIN, few) == ()


def test_a_feature_that_never_had_a_value_is_no_fault() -> None:
    empty = [part.with_columns(price=pl.lit(None, pl.Float64)) for part in (TRAIN, HOLDOUT)]
    assert look(empty[0], empty[1], first=True) == ()
