"""Metrics that scikit-learn lacks, and those with options: calibration, profit, quantiles, a user's own function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from sklearn import metrics as sk

from everfit.detect.options import FunctionMetric, MetricChoice, ProfitMetric
from everfit.detect.performance import Outcomes, level, measure, metric_from, metric_named, paired_gain
from everfit.detect.signal import NotEnough, Signal

CHOICE: TypeAdapter[MetricChoice] = TypeAdapter(MetricChoice)
PROFIT = {"profit": {"tp": 5, "fp": -1, "fn": -3, "tn": 0, "threshold": 0.4}}


def scored(truth: np.ndarray, scores: np.ndarray, positive: str = "yes") -> Outcomes:
    rows = len(truth)
    return Outcomes(
        truth, np.stack([1 - scores, scores], axis=1), ("no", "yes"), positive, "binary", np.arange(rows) // 20
    )


def calibrated(rows: int, seed: int, off: float = 0.0) -> Outcomes:
    chance = np.random.default_rng(seed)
    said = chance.beta(2, 4, rows)
    return scored((chance.random(rows) < np.clip(said + off, 0, 1)).astype(np.int64), said)


# ---- calibration -----------------------------------------------------------------------------------------------------
def test_a_calibrated_model_reads_about_zero_at_any_number_of_rows() -> None:
    """The plain sum of gaps over 15 bins reads 0.035 at 1,000 rows, however good the model."""
    for rows in (300, 3000):
        squares = [(level("calibration_error", calibrated(rows, seed)) or 0.0) ** 2 for seed in range(200)]
        assert np.sqrt(np.mean(squares)) < 0.9 / np.sqrt(rows)


def test_a_miscalibrated_model_reads_its_gap() -> None:
    found = [level("calibration_error", calibrated(2000, seed, off=0.1)) for seed in range(50)]
    assert np.mean([value or 0.0 for value in found]) == pytest.approx(0.1, abs=0.005)


def test_intervals_of_the_calibration_error_cover() -> None:
    covered = 0
    for seed in range(100):
        reading = measure("calibration_error", calibrated(1000, seed, off=0.1), needed=100, resamples=200)
        assert isinstance(reading, Signal)
        assert reading.low is not None
        assert reading.high is not None
        covered += reading.low <= 0.1 <= reading.high
    assert 90 <= covered <= 100


def test_several_classes_are_calibrated_by_their_predicted_class() -> None:
    chance = np.random.default_rng(0)
    raw = chance.dirichlet(np.ones(3), 4000)
    truth = np.array([chance.choice(3, p=row) for row in raw])
    good = Outcomes(truth, raw, ("a", "b", "c"), None, "multiclass", np.arange(4000) // 40)
    sure = Outcomes(truth, np.eye(3)[raw.argmax(axis=1)], ("a", "b", "c"), None, "multiclass", np.arange(4000) // 40)
    right = (raw.argmax(axis=1) == truth).mean()
    assert level("calibration_error", good) == pytest.approx(0, abs=0.02)
    assert level("calibration_error", sure) == pytest.approx(1 - right, abs=0.001)


@pytest.mark.parametrize("rows", [1, 2, 19])
def test_a_few_rows_have_a_calibration_error_without_dividing_by_nothing(rows: int) -> None:
    value = level("calibration_error", calibrated(rows, 0))
    assert value is not None
    assert 0 <= value <= 1


# ---- options ---------------------------------------------------------------------------------------------------------
def test_profit_is_the_mean_money_of_the_decisions() -> None:
    metric = metric_from(CHOICE.validate_python(PROFIT))
    outcomes = scored(np.array([1, 1, 0, 0]), np.array([0.4, 0.39, 0.9, 0.1]))
    assert level(metric, outcomes) == pytest.approx((5 - 3 - 1 + 0) / 4)
    assert (metric.low, metric.high, metric.greater_is_better) == (-3, 5, True)
    other = scored(np.array([1, 1, 0, 0]), np.array([0.4, 0.39, 0.9, 0.1]), positive="no")
    assert level(metric, other) == pytest.approx((-1 - 1 - 3 + 5) / 4)


def test_profit_has_an_interval_and_a_gain() -> None:
    metric = metric_from(CHOICE.validate_python(PROFIT))
    a, worse = calibrated(1000, 0), scored(calibrated(1000, 0).truth, np.full(1000, 0.1))
    reading, gain = measure(metric, a, needed=100), paired_gain(metric, a, worse)
    assert isinstance(reading, Signal)
    assert reading.name == "performance.profit"
    assert gain is not None
    assert gain[1] > 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pinball@1", "between 0 and 1"),
        ("pinball@nan", "between 0 and 1"),
        ("pinball@x", "between 0 and 1"),
        ("mae@0.5", "takes no option"),
        ("maee", "did you mean 'mae'"),
    ],
)
def test_options_that_are_none_are_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        metric_named(name)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"profit": {"tp": 1, "fp": 1, "fn": 1, "tn": 1}}, id="every decision brings the same"),
        pytest.param({"profit": {"tp": 1, "fp": 1, "fn": 1}}, id="a decision without a value"),
        pytest.param({"function": "my_metric"}, id="a function without its module"),
        pytest.param({"function": "train:my_metric", "better": "greater"}, id="an unknown key"),
    ],
)
def test_choices_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CHOICE.validate_python(wrong)


# ---- a user's own function -------------------------------------------------------------------------------------------
def test_a_users_function_is_a_metric() -> None:
    metric = metric_from(FunctionMetric(function="train:mine"), {"train:mine": sk.roc_auc_score})
    outcomes = calibrated(600, 1)
    theirs, ours = measure(metric, outcomes, needed=100), measure("roc_auc", outcomes, needed=100, resamples=200)
    assert isinstance(theirs, Signal)
    assert isinstance(ours, Signal)
    assert theirs.name == "performance.mine"
    assert (theirs.value, theirs.low, theirs.high) == pytest.approx((ours.value, ours.low, ours.high))


def test_a_loss_of_the_user_gains_when_it_falls() -> None:
    choice = FunctionMetric(function="train:mine", greater_is_better=False, name="miss")
    metric = metric_from(choice, {"train:mine": lambda truth, given: float(np.abs(truth - given).mean())})
    chance = np.random.default_rng(0)
    truth = chance.normal(size=400)
    near, far = (
        Outcomes(truth, (truth + much)[:, None], (), None, "regression", np.arange(400) // 10) for much in (0.1, 1.0)
    )
    gain = paired_gain(metric, near, far)
    assert gain is not None
    assert gain[0] == pytest.approx(0.9)


@pytest.mark.parametrize("wrong", [lambda t, p: 1 / 0, lambda t, p: None, lambda t, p: "good"])
def test_a_function_that_fails_is_told_in_its_words_and_crashes_nothing(wrong: Callable[..., float]) -> None:
    metric = metric_from(FunctionMetric(function="train:mine"), {"train:mine": wrong})
    outcomes = calibrated(300, 2)
    reading = measure(metric, outcomes, needed=100)
    assert isinstance(reading, NotEnough)
    assert reading.said.startswith("mine failed: ")
    assert "Error: " in reading.said
    assert level(metric, outcomes) is None
    assert paired_gain(metric, outcomes, outcomes) is None


def test_a_function_cannot_change_the_rows() -> None:
    def vandal(truth: np.ndarray, given: np.ndarray) -> float:
        truth[:], given[:] = 0, 0
        return 1.0

    outcomes = calibrated(300, 2)
    before = outcomes.truth.copy(), outcomes.scores.copy()
    measure(metric_from(FunctionMetric(function="train:mine"), {"train:mine": vandal}), outcomes, needed=100)
    assert np.array_equal(before[0], outcomes.truth)
    assert np.array_equal(before[1], outcomes.scores)


def test_names_that_are_taken_or_functions_that_were_not_loaded_are_refused() -> None:
    with pytest.raises(ValueError, match="not loaded"):
        metric_from(FunctionMetric(function="train:mine"))
    with pytest.raises(ValueError, match="another `name`"):
        metric_from(ProfitMetric.model_validate({**PROFIT, "name": "accuracy"}))
