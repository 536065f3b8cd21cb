"""Levels equal those of scikit-learn; what the rows do not define is said and never guessed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sk

from everfit.detect.outcomes import UNKNOWN
from everfit.detect.performance import (
    METRICS,
    Outcomes,
    blocks_of,
    check_metric,
    default_metric,
    level,
    measure,
    metric_named,
    outcomes_from,
    paired_gain,
    positive_is_better,
)
from everfit.detect.signal import NotEnough, Signal


def two(rows: int = 500, seed: int = 0, positive: str | None = "yes") -> Outcomes:
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, 2, rows)
    score = np.round(1 / (1 + np.exp(-chance.normal(truth - 0.4))), 2).clip(0.01, 0.99)  # rounded: there are ties
    return Outcomes(
        truth, np.stack([1 - score, score], axis=1), ("no", "yes"), positive, "binary", np.arange(rows) // 10
    )


def three(rows: int = 500, seed: int = 0) -> Outcomes:
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, 3, rows)
    raw = np.exp(chance.normal(size=(rows, 3)) + np.eye(3)[truth])
    scores = raw / raw.sum(axis=1, keepdims=True)
    return Outcomes(truth, scores, ("a", "b", "c"), None, "multiclass", np.arange(rows) // 10)


def value(rows: int = 500, seed: int = 0) -> Outcomes:
    chance = np.random.default_rng(seed)
    truth = chance.normal(50, 5, rows)
    return Outcomes(truth, (truth + chance.normal(size=rows))[:, None], (), None, "regression", np.arange(rows) // 10)


Make = Callable[..., Outcomes]
Level = Callable[[Outcomes], float]

BINARY: dict[str, Level] = {
    "accuracy": lambda o: sk.accuracy_score(o.truth, o.scores.argmax(axis=1)),
    "balanced_accuracy": lambda o: sk.balanced_accuracy_score(o.truth, o.scores.argmax(axis=1)),
    "precision": lambda o: sk.precision_score(o.truth, o.scores.argmax(axis=1)),
    "recall": lambda o: sk.recall_score(o.truth, o.scores.argmax(axis=1)),
    "f1": lambda o: sk.f1_score(o.truth, o.scores.argmax(axis=1)),
    "roc_auc": lambda o: sk.roc_auc_score(o.truth, o.scores[:, 1]),
    "average_precision": lambda o: sk.average_precision_score(o.truth, o.scores[:, 1]),
    "log_loss": lambda o: sk.log_loss(o.truth, o.scores),
    "brier": lambda o: sk.brier_score_loss(o.truth, o.scores[:, 1]),
}
SEVERAL: dict[str, Level] = {
    "accuracy": BINARY["accuracy"],
    "balanced_accuracy": BINARY["balanced_accuracy"],
    "precision": lambda o: sk.precision_score(o.truth, o.scores.argmax(axis=1), average="macro"),
    "recall": lambda o: sk.recall_score(o.truth, o.scores.argmax(axis=1), average="macro"),
    "f1": lambda o: sk.f1_score(o.truth, o.scores.argmax(axis=1), average="macro"),
    "roc_auc": lambda o: sk.roc_auc_score(o.truth, o.scores, multi_class="ovr"),
    "average_precision": lambda o: sk.average_precision_score(np.eye(3)[o.truth], o.scores),
    "log_loss": BINARY["log_loss"],
    "brier": lambda o: sk.brier_score_loss(o.truth, o.scores),
}
NUMBERS: dict[str, Level] = {
    "mae": lambda o: sk.mean_absolute_error(o.truth, o.scores[:, 0]),
    "rmse": lambda o: sk.root_mean_squared_error(o.truth, o.scores[:, 0]),
    "r2": lambda o: sk.r2_score(o.truth, o.scores[:, 0]),
    "mape": lambda o: sk.mean_absolute_percentage_error(o.truth, o.scores[:, 0]),
    "pinball": lambda o: sk.mean_pinball_loss(o.truth, o.scores[:, 0]),
    "pinball@0.9": lambda o: sk.mean_pinball_loss(o.truth, o.scores[:, 0], alpha=0.9),
    "pinball@0.1": lambda o: sk.mean_pinball_loss(o.truth, o.scores[:, 0], alpha=0.1),
}
CASES = [
    pytest.param(name, make, theirs[name], id=f"{name} of {task} is scikit-learn's")
    for task, make, theirs in (
        ("binary", two, BINARY),
        ("multiclass", three, SEVERAL),
        ("regression", value, NUMBERS),
    )
    for name in theirs
]


@pytest.mark.parametrize(("name", "make", "theirs"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_levels(name: str, make: Make, theirs: Level, seed: int) -> None:
    outcomes = make(seed=seed)
    assert level(name, outcomes) == pytest.approx(theirs(outcomes), rel=1e-12)


@pytest.mark.parametrize(("name", "make", "theirs"), CASES)
def test_a_reading_is_the_level_inside_its_interval(name: str, make: Make, theirs: Level) -> None:
    reading = measure(name, make(), needed=200)
    assert isinstance(reading, Signal)
    assert reading.value == pytest.approx(theirs(make()), rel=1e-12)
    assert reading.low is not None
    assert reading.high is not None
    assert reading.low < reading.value < reading.high
    assert reading == measure(name, make(), needed=200), "the same rows give the same interval"


def test_every_metric_is_compared_with_scikit_learn() -> None:
    theirs = {name.partition("@")[0] for name in (*BINARY, *NUMBERS)}
    assert set(METRICS) == theirs | {"calibration_error"}  # scikit-learn has none: test_metrics.py


def test_the_positive_class_may_be_the_first() -> None:
    outcomes = two(positive="no")
    assert level("recall", outcomes) == pytest.approx(
        sk.recall_score(outcomes.truth, outcomes.scores.argmax(axis=1), pos_label=0)
    )
    assert level("roc_auc", outcomes) == pytest.approx(sk.roc_auc_score(outcomes.truth, outcomes.scores[:, 1]))


def one_class() -> Outcomes:
    given = two()
    return Outcomes(np.zeros(500, dtype=np.int64), given.scores, given.classes, "yes", "binary", given.blocks)


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        pytest.param("roc_auc", one_class(), id="ranking needs two classes"),
        pytest.param("balanced_accuracy", one_class(), id="balance needs two classes"),
        pytest.param("recall", one_class(), id="recall needs a positive row"),
        pytest.param(
            "r2",
            Outcomes(np.full(500, 0.1), np.ones((500, 1)), (), None, "regression", np.arange(500)),
            id="a constant truth explains nothing",
        ),
        pytest.param(
            "mape",
            Outcomes(np.arange(500.0), np.ones((500, 1)), (), None, "regression", np.arange(500)),
            id="a truth of zero has no percentage",
        ),
    ],
)
def test_what_the_rows_do_not_define_is_said(name: str, outcomes: Outcomes) -> None:
    assert level(name, outcomes) is None
    reading = measure(name, outcomes, needed=200)
    assert isinstance(reading, NotEnough)
    assert metric_named(name).needs in reading.said
    assert paired_gain(name, outcomes, outcomes) is None


def test_one_positive_row_is_no_interval() -> None:
    given = two()
    truth = np.zeros(500, dtype=np.int64)
    truth[7] = 1
    rare = Outcomes(truth, given.scores, given.classes, "yes", "binary", given.blocks)
    assert isinstance(measure("roc_auc", rare, needed=200), NotEnough)


def test_few_rows_are_not_enough() -> None:
    reading = measure("roc_auc", two(41), needed=200, column="origin=JFK")
    assert reading == NotEnough("performance.roc_auc", "origin=JFK", 41, 200, "41 labelled rows, 200 needed")
    none = two(0)
    assert level("accuracy", none) is None
    assert isinstance(measure("accuracy", none, needed=1), NotEnough)
    assert paired_gain("accuracy", none, none) is None


def test_a_class_that_the_model_does_not_know_is_always_wrong() -> None:
    given = three()
    truth = given.truth.copy()
    truth[:100] = UNKNOWN
    new = Outcomes(truth, given.scores, given.classes, None, "multiclass", given.blocks)
    right = (given.scores.argmax(axis=1) == truth).mean()
    assert level("accuracy", new) == pytest.approx(right)
    for name, metric in METRICS.items():
        if "multiclass" in metric.tasks and name != "calibration_error":  # a wrong row may bring it nearer to its score
            found, before = level(name, new), level(name, given)
            assert found is not None
            assert before is not None
            assert positive_is_better(name, found - before) < 0 or name in ("roc_auc", "average_precision")


@pytest.mark.parametrize(("name", "make", "theirs"), CASES)
def test_the_gain_is_the_difference_of_levels_and_turns_its_sign(name: str, make: Make, theirs: Level) -> None:
    a = make()
    worse = Outcomes(a.truth, np.roll(a.scores, 1, axis=0), a.classes, a.positive, a.task, a.blocks)
    found, back = paired_gain(name, a, worse), paired_gain(name, worse, a)
    assert found is not None
    assert back is not None
    gain, low, high = found
    apart = theirs(a) - theirs(worse)
    assert gain == pytest.approx(apart if metric_named(name).greater_is_better else -apart, abs=1e-10)
    assert low < gain < high
    assert low > 0, "guessing with the neighbour's score is worse"
    assert back == pytest.approx((-gain, -high, -low))
    assert paired_gain(name, a, a) == (0, 0, 0)


def test_different_rows_are_never_compared() -> None:
    assert paired_gain("accuracy", two(500), two(400)) is None
    assert paired_gain("accuracy", two(seed=0), two(seed=1)) is None


def test_names_are_checked() -> None:
    assert {task: default_metric(task) for task in ("binary", "multiclass", "regression")} == {
        "binary": "roc_auc",
        "multiclass": "log_loss",
        "regression": "mae",
    }
    assert check_metric("mae", "regression") is METRICS["mae"]
    with pytest.raises(
        ValueError, match="'roc_auc' is not a metric for regression; choose one of mae, rmse, r2, mape, pinball"
    ):
        check_metric("roc_auc", "regression")


def test_only_rows_with_label_and_score_count() -> None:
    joined = pl.DataFrame(
        {
            "_label": ["a", "b", None, "a", "b", "a", "c", "a"],
            "_score": [
                [0.9, 0.1],
                [0.2, 0.8],
                [0.5, 0.5],
                None,
                [0.1],
                [float("nan"), 1.0],
                [0.3, 0.7],
                [None, 0.5],
            ],
            "_time": pl.Series(range(8)).cast(pl.Datetime("us", "UTC")),
        }
    )
    kept = outcomes_from(joined, task="binary", classes=("a", "b"), positive="b")
    assert kept.truth.tolist() == [0, 1, UNKNOWN]
    assert kept.scores.tolist() == [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]
    assert kept.positive_index == 1


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_frames_without_labels_or_scores_give_no_outcomes(task: str) -> None:
    for frame in (
        pl.DataFrame({"_id": ["1"]}),
        pl.DataFrame(schema={"_label": pl.String, "_value": pl.Float64, "_score": pl.List(pl.Float64)}),
    ):
        assert outcomes_from(frame, task=task, classes=("a", "b")).rows == 0


def test_values_of_regression() -> None:
    joined = pl.DataFrame({"_value": [1.0, None, 3.0], "_score": [[1.5], [2.0], [2.5]]})
    kept = outcomes_from(joined, task="regression")
    assert level("mae", kept) == 0.5


@pytest.mark.parametrize(
    ("every", "rows", "blocks"),
    [
        pytest.param(60, 40 * 24 * 60, 40, id="forty days of minutes are resampled by day"),
        pytest.param(60, 24 * 60, 24, id="a day of minutes is resampled by hour"),
        pytest.param(600, 24, 24, id="four hours of ten-minute rows are resampled by row"),
        pytest.param(86400, 10, 10, id="ten moments are ten blocks"),
        pytest.param(7 * 86400, 1000, 100, id="there are never more than a hundred blocks"),
        pytest.param(0, 1000, 100, id="rows of one moment are resampled by neighbourhood"),
        pytest.param(0, 3, 3, id="three rows stand for themselves"),
    ],
)
def test_blocks(every: int, rows: int, blocks: int) -> None:
    times = pl.Series(np.arange(rows) * every * 1_000_000).cast(pl.Datetime("us", "UTC"))
    found = blocks_of(times)
    assert found.min() == 0
    assert len(np.unique(found)) == blocks == found.max() + 1


def test_no_rows_have_no_blocks() -> None:
    assert blocks_of(pl.Series([], dtype=pl.Datetime("us"))).tolist() == []
