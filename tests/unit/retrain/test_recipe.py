"""Which rows train and which prove."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from everfit.errors import DataBlocked
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.retrain.options import Training
from everfit.retrain.recipe import Known, LakeVersion, Recipe, Subject, plan_recipe

SUBJECT = Subject(
    "delay", "binary", "late", Schema((Column("price", Kind.NUMBER),), ("0", "1")), "c0de", LakeVersion(3, 3)
)


def day(number: float) -> datetime:
    return datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=number)


def plan(now: float, rows: str = "all", trained: float | None = None, **judging: object) -> Recipe:
    training = Training.model_validate({"rows": rows if rows == "all" else {"last": rows}})
    known = Known(day(now), day(0), timedelta(days=1), None if trained is None else day(trained))
    return plan_recipe(SUBJECT, known, training, SimpleNamespace(**({"holdout": 0.2, "gap": timedelta(0)} | judging)))


@pytest.mark.parametrize(
    ("recipe", "train", "holdout"),
    [
        pytest.param(plan(11), (0, 8), (8, 10), id="a share of all mature rows is held out"),
        pytest.param(
            plan(31, holdout=timedelta(days=7)), (0, 23), (23, 30), id="a duration of the most recent ones is"
        ),
        pytest.param(plan(31, "10d"), (18, 28), (28, 30), id="the last rows lie before the held-out ones"),
        pytest.param(plan(6, "10d"), (0, 4), (4, 5), id="there are no rows before the first"),
        pytest.param(
            plan(11, gap=timedelta(days=1)), (0, 7), (8, 10), id="a gap lies between training and held-out rows"
        ),
        pytest.param(plan(11, trained=9), (0, 9), (9, 10), id="rows that the champion knows are not held out"),
        pytest.param(plan(11, trained=8.5, gap=timedelta(hours=12)), (0, 8.5), (9, 10), id="nor those in its gap"),
        pytest.param(plan(11, trained=3), (0, 8), (8, 10), id="a champion of long ago changes nothing"),
    ],
)
def test_rows_are_chosen_by_event_time(
    recipe: Recipe, train: tuple[float, float], holdout: tuple[float, float]
) -> None:
    assert (recipe.train.start, recipe.train.end) == (day(train[0]), day(train[1]))
    assert (recipe.holdout.start, recipe.holdout.end) == (day(holdout[0]), day(holdout[1]))
    assert recipe.as_of >= recipe.holdout.end + timedelta(days=1)


@pytest.mark.parametrize(
    ("now", "more", "said"),
    [
        pytest.param(0.5, {}, "no mature rows are there yet", id="labels are not mature"),
        pytest.param(11, {"trained": 10}, "no rows are left to prove a model on", id="the champion knows all rows"),
        pytest.param(11, {"gap": timedelta(days=9)}, "no rows are left to train on", id="the gap takes all"),
        pytest.param(5, {"holdout": timedelta(days=7)}, "hold out fewer", id="all rows are held out"),
    ],
)
def test_without_rows_it_says_why(now: float, more: dict[str, object], said: str) -> None:
    with pytest.raises(DataBlocked, match=said):
        plan(now, **more)  # type: ignore[arg-type]  # a table of cases gives any argument


def test_its_id_is_its_content() -> None:
    assert plan(11).id == plan(11).id
    other = [plan(12), replace(plan(11), code="other"), replace(plan(11), seed=1)]
    assert len({recipe.id for recipe in (plan(11), *other)}) == 4
