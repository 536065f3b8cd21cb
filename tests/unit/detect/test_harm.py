"""Drift by harm: importances, weighted drift, explained loss and attributions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from everfit.detect.estimate import learn_estimator, window_of
from everfit.detect.harm import (
    attribution_drift,
    explained_loss,
    harmful,
    importance_from,
    linear_attributions,
    permuted,
)
from everfit.detect.outcomes import Floats, Outcomes
from everfit.detect.performance import level
from everfit.detect.signal import NotEnough, Signal
from everfit.errors import UsageError
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema

SCHEMA = Schema((Column("much", Kind.NUMBER), Column("less", Kind.NUMBER), Column("idle", Kind.NUMBER)), ())


def rows(many: int, seed: int = 0, *, moved: float = 0.0, noisy: float = 0.0) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(many, 3)) + np.array([0.0, moved, noisy])
    return pl.DataFrame(x, schema=["much", "less", "idle"])


def scores(frame: pl.DataFrame) -> Floats:
    share = 1 / (1 + np.exp(-2 * frame["much"].to_numpy() - frame["less"].to_numpy()))
    return np.stack([1 - share, share], axis=1)


def outcomes(frame: pl.DataFrame, seed: int = 0) -> Outcomes:
    given = scores(frame)
    truth = (np.random.default_rng(seed + 1000).random(frame.height) < given[:, 1]).astype(np.int64)
    return Outcomes(truth, given, ("0", "1"), "1", "binary", np.arange(frame.height))


# ---- importances ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "accuracy"])
def test_importances_follow_what_the_model_uses(metric: str) -> None:
    frame = rows(3000)
    made = permuted(frame, SCHEMA.names())
    found = importance_from(made, scores(made.frame), outcomes(frame), metric)
    assert made.frame.height == 4 * 1000
    assert found["much"] > found["less"] > found["idle"] == 0.0
    assert sum(found.values()) == pytest.approx(1)


def test_regressions_have_importances_too() -> None:
    frame = rows(800)
    truth = 3 * frame["much"].to_numpy()
    given = Outcomes(truth, truth[:, None], (), None, "regression", np.arange(800))
    made = permuted(frame, SCHEMA.names(), seed=4)
    found = importance_from(made, 3 * made.frame["much"].to_numpy()[:, None], given, "mae")
    assert found == {"much": 1.0, "less": 0.0, "idle": 0.0}


def test_where_nothing_matters_all_count_alike() -> None:
    frame = rows(500)
    made = permuted(frame, SCHEMA.names())
    flat = np.tile([0.4, 0.6], (made.frame.height, 1))
    assert set(importance_from(made, flat, outcomes(frame), "log_loss").values()) == {1 / 3}


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: permuted(rows(10), ["price"]), "column 'price' is not among the rows"),
    (lambda: importance_from(permuted(rows(10), ["much"]), np.ones((5, 2)), outcomes(rows(10)), "roc_auc"), "5 scores"),
]


@pytest.mark.parametrize(("call", "said"), WRONG, ids=["an unknown column", "scores of other rows"])
def test_wrong_use_is_said(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()


# ---- weighted drift -------------------------------------------------------------------------------------------------
def drift(column: str, effect: float, p_value: float) -> Signal:
    return Signal("drift.psi", column, effect + 0.01, 900, effect=effect, p_value=p_value)


def test_drift_counts_as_much_as_its_column_matters() -> None:
    readings = [drift("much", 0.1, 0.03), drift("less", 0.4, 1e-6), drift("idle", 5.0, 0.0)]
    found = harmful(readings, {"much": 0.75, "less": 0.25, "idle": 0.0})
    assert isinstance(found, Signal)
    assert (found.name, found.column, found.rows) == ("drift.harm", "*", 900)
    assert found.value == pytest.approx(0.75 * 0.1 + 0.25 * 0.4)
    assert found.p_value == pytest.approx(1e-6 / 0.25)


def test_without_drift_of_a_column_that_matters_nothing_is_known() -> None:
    found = harmful([NotEnough("drift.psi", "much", 5, 200), drift("idle", 1, 0)], {"much": 1.0, "idle": 0.0})
    assert isinstance(found, NotEnough)


# ---- explained loss -------------------------------------------------------------------------------------------------
def test_drift_that_costs_names_its_column() -> None:
    """More rows near the border: moving `less` against a biased `much` makes the classes harder to tell."""
    then = rows(8000).with_columns(pl.col("less") * 2 + 2.0)
    now = rows(4000, 1).with_columns(pl.col("less") * 2)
    held_out, window = outcomes(then), outcomes(now, 1)
    estimator = learn_estimator(held_out, then, SCHEMA)
    found = explained_loss(estimator, "accuracy", window_of(estimator, window.scores, now))
    lost = (level("accuracy", window) or 0) - (level("accuracy", held_out) or 0)
    assert lost < -0.02
    assert isinstance(found.total, Signal)
    assert found.total.low is not None
    assert found.total.high is not None
    assert found.total.low < lost < found.total.high
    assert found.columns[0].column == "less"
    its = found.columns[0]
    assert its.low is not None
    assert its.high is not None
    assert its.low - 0.01 < lost < its.high + 0.01 < 0  # the labels of 12,000 rows are uncertain by 0.005
    assert "most by less" in found.said


def test_an_idle_column_explains_nothing() -> None:
    then, now = rows(6000, 2), rows(3000, 3, noisy=1.0)
    estimator = learn_estimator(outcomes(then), then, SCHEMA)
    window = outcomes(now, 1)
    found = explained_loss(estimator, "roc_auc", window_of(estimator, window.scores, now))
    its = next(signal for signal in found.columns if signal.column == "idle")
    assert its.low is not None
    assert its.high is not None
    assert its.low < 0 < its.high


def test_errors_of_a_regression_are_explained() -> None:
    def given(many: int, seed: int, moved: float) -> tuple[Outcomes, pl.DataFrame]:
        frame = rows(many, seed, moved=moved)
        noise = np.random.default_rng(seed).normal(size=many) * np.exp(0.5 * frame["less"].to_numpy())
        truth = frame["much"].to_numpy() + noise
        return Outcomes(truth, frame["much"].to_numpy()[:, None], (), None, "regression", np.arange(many)), frame

    (held_out, then), (window, now) = given(6000, 0, 0.0), given(3000, 1, 0.8)
    estimator = learn_estimator(held_out, then, SCHEMA)
    for metric in ("mae", "rmse"):
        found = explained_loss(estimator, metric, window_of(estimator, window.scores, now))
        assert isinstance(found.total, Signal)
        assert found.total.value > 0.1
        assert found.columns[0].column == "less"
        assert "costs" in found.said


def test_what_has_no_estimate_explains_nothing() -> None:
    held_out = outcomes(rows(1000))
    found = explained_loss(
        learn_estimator(held_out), "calibration_error", window_of(learn_estimator(held_out), held_out.scores)
    )
    assert isinstance(found.total, NotEnough)
    assert found.said.startswith("nothing is known of what drift costs")


# ---- attributions ---------------------------------------------------------------------------------------------------
def test_attributions_that_keep_their_shares_are_no_drift() -> None:
    chance = np.random.default_rng(0)
    then, now = (
        linear_attributions(np.array([2.0, 1.0, 0.0]), chance.normal(size=(2000, 3)), np.zeros(3)) for _ in "ab"
    )
    whole, *each = attribution_drift(then, now, SCHEMA.names())
    assert isinstance(whole, Signal)
    assert whole.value == pytest.approx(0, abs=1e-9)
    assert all(isinstance(s, Signal) and s.p_value is not None and s.p_value > 0.01 for s in each)


def test_attributions_that_change_places_are_found() -> None:
    chance = np.random.default_rng(0)
    then = chance.normal(size=(500, 3)) * [3, 1, 0]
    now = chance.normal(size=(500, 3)) * [1, 3, 0]
    whole, much, less, idle = attribution_drift(then, now, SCHEMA.names())
    assert isinstance(whole, Signal)
    assert whole.value > 0.1
    assert isinstance(much, Signal)
    assert much.effect == pytest.approx(-0.5, abs=0.05)
    assert much.p_value is not None
    assert much.p_value < 1e-6
    assert isinstance(less, Signal)
    assert isinstance(idle, Signal)
    assert (idle.value, idle.p_value) == (0.0, 1.0)


def test_one_row_of_attributions_is_not_enough() -> None:
    assert isinstance(attribution_drift(np.ones((1, 2)), np.ones((9, 2)), ["a", "b"])[0], NotEnough)
