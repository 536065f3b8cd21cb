"""The rivals: they learn only from what was known, and train as Everfit does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from everfit.adapters.models import write_model
from everfit.demo.flights import CATEGORIES, FEATURES
from everfit.demo.rivals import Policy, fitted, learnable, play, retrain_times, score_never

START = datetime(2013, 1, 1, tzinfo=UTC)
BEGIN, UNTIL = START + timedelta(days=10), START + timedelta(days=20)


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    chance = np.random.default_rng(7)
    rows = 20 * 96
    features = {
        name: chance.choice(["a", "b", "c"], rows) if name in CATEGORIES else chance.normal(size=rows)
        for name in FEATURES
    }
    scheduled = [START + timedelta(minutes=15 * number) for number in range(rows)]
    late = (features["pending"] + chance.normal(size=rows) > 0.5).astype(int)
    frame = pl.DataFrame(
        {
            "flight_id": [f"f{number:05}" for number in range(rows)],
            "scheduled": pl.Series(scheduled).cast(pl.Datetime("us", "UTC")),
            "landed": pl.Series([at + timedelta(hours=3) for at in scheduled]).cast(pl.Datetime("us", "UTC")),
            "late": late,
            **features,
        }
    )
    cancelled = pl.int_range(pl.len()) % 10 == 3
    return frame.with_columns(pl.when(~cancelled).then(pl.col(name)).alias(name) for name in ("landed", "late"))


def test_a_model_a_week_answers_the_week_after_it() -> None:
    times = list(retrain_times(BEGIN, BEGIN, UNTIL))
    assert times == [(BEGIN, BEGIN, BEGIN + timedelta(days=7)), (*[BEGIN + timedelta(days=7)] * 2, UNTIL)]


def test_only_rows_whose_label_had_come_and_matured_are_learned(flights: pl.DataFrame) -> None:
    rows = learnable(flights, BEGIN, None)
    assert rows["late"].null_count() == 0
    assert rows["landed"].max() <= BEGIN  # type: ignore[operator]  # a series has a maximum of any type
    assert rows["scheduled"].max() < BEGIN - timedelta(days=1)  # type: ignore[operator]  # as above
    of_two_days = learnable(flights, BEGIN, timedelta(days=2))
    assert of_two_days["scheduled"].min() == BEGIN - timedelta(days=3)
    assert 0.85 * 192 < of_two_days.height < 0.95 * 192  # a tenth is cancelled


@pytest.fixture(scope="module")
def weekly(flights: pl.DataFrame) -> pl.DataFrame:
    return play(flights, Policy.weekly(None), list(retrain_times(BEGIN, BEGIN, UNTIL)))


def test_every_flight_of_the_time_is_answered_once(flights: pl.DataFrame, weekly: pl.DataFrame) -> None:
    asked = flights.filter(pl.col("scheduled") >= BEGIN)
    assert weekly["flight_id"].to_list() == asked["flight_id"].to_list()
    assert weekly["score"].is_between(0, 1).all()


def test_labels_of_the_future_change_no_score(flights: pl.DataFrame, weekly: pl.DataFrame) -> None:
    times = list(retrain_times(BEGIN, BEGIN, BEGIN + timedelta(days=7)))
    turned = pl.when(pl.col("landed") > BEGIN).then(1 - pl.col("late")).otherwise(pl.col("late"))
    altered = play(flights.with_columns(turned.alias("late")), Policy.weekly(None), times)
    assert altered.height == 7 * 96
    assert altered.equals(weekly.head(altered.height))


def test_the_model_that_never_changes_is_the_one_on_the_shelf(flights: pl.DataFrame, tmp_path: Path) -> None:
    past = learnable(flights, BEGIN, None)
    model = fitted(past)
    write_model(model.model, tmp_path / "model", model.meta, past.select(FEATURES))
    scores = score_never(tmp_path / "model", flights.tail(50))
    assert scores["flight_id"].to_list() == flights.tail(50)["flight_id"].to_list()
    np.testing.assert_allclose(scores["score"], model.score(flights.tail(50).select(FEATURES))[:, 1])
