"""Estimates without labels: each metric against its plain definition, what cannot be said, and what is kept."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from everfit.detect.estimate import Estimator, Window, estimate, learn_estimator, scored_window, window_of
from everfit.detect.estimate_map import calibrate
from everfit.detect.estimate_metrics import EXPECTED, Chances, expect
from everfit.detect.estimate_past import Residual, reconcile, residual, say
from everfit.detect.outcomes import Outcomes
from everfit.detect.performance import METRICS, level
from everfit.detect.signal import NotEnough, Signal
from everfit.errors import Refused, UsageError
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema

SCHEMA = Schema((Column("a", Kind.NUMBER), Column("shop", Kind.CATEGORY)), ())


def binary(rows: int, seed: int = 0, *, moved: float = 0.0) -> tuple[Outcomes, pl.DataFrame]:
    """Scores that are the true chances."""
    chance = np.random.default_rng(seed)
    a, shop = chance.normal(moved, 1, rows), chance.integers(0, 3, rows)
    share = 1 / (1 + np.exp(-1.5 * a - 0.5 * shop + 0.5))
    truth = (chance.random(rows) < share).astype(np.int64)
    frame = pl.DataFrame({"a": a, "shop": shop.astype(str)})
    scores = np.stack([1 - share, share], axis=1)
    return Outcomes(truth, scores, ("0", "1"), "1", "binary", np.arange(rows)), frame


def several(rows: int, seed: int = 0) -> Outcomes:
    chance = np.random.default_rng(seed)
    scores = chance.dirichlet(np.ones(4), rows)
    truth = (chance.random(rows)[:, None] > scores.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    return Outcomes(truth, scores, tuple("abcd"), None, "multiclass", np.arange(rows))


def regression(rows: int, seed: int = 0, *, moved: float = 0.0) -> tuple[Outcomes, pl.DataFrame]:
    """Errors that grow with column a."""
    chance = np.random.default_rng(seed)
    a = chance.normal(moved, 1, rows)
    truth = 10 + a + np.exp(0.5 * a) * chance.normal(size=rows)
    frame = pl.DataFrame({"a": a, "shop": ["x"] * rows})
    return Outcomes(truth, (10 + a)[:, None], (), None, "regression", np.arange(rows)), frame


@pytest.mark.parametrize("name", sorted(set(EXPECTED) & set(METRICS)))
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_where_the_truth_is_certain_an_expected_metric_is_the_metric(name: str, task: str) -> None:
    given = binary(300)[0] if task == "binary" else several(300)
    hot = (given.truth[:, None] == np.arange(len(given.classes) + 1)).astype(float)
    found = expect(name, Chances(given.scores, hot, given.positive_index if task == "binary" else None))
    assert found is not None
    assert found.value == pytest.approx(level(name, given), abs=1e-9)


@pytest.mark.parametrize("name", sorted(EXPECTED))
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_slopes_are_the_change_of_the_metric_by_mass(name: str, task: str) -> None:
    """Against a difference quotient; average precision leaves out that a row's own mass is on both sides."""
    exact = 2e-4 if name == "average_precision" else 2e-5
    given = binary(400)[0] if task == "binary" else several(400)
    hot = (given.truth[:, None] == np.arange(len(given.classes) + 1)).astype(float)
    place = given.positive_index if task == "binary" else None
    found = expect(name, Chances(given.scores, hot, place))
    assert found is not None
    for row in (0, 17, 250):
        for k in range(len(given.classes)):
            more, less = hot.copy(), hot.copy()
            more[row, k] += 1e-4
            less[row, k] -= 1e-4
            up, down = (
                expect(name, Chances(given.scores, more, place)),
                expect(name, Chances(given.scores, less, place)),
            )
            assert up is not None
            assert down is not None
            assert found.slopes[row, k] == pytest.approx((up.value - down.value) / 2e-4, abs=exact)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_estimate_lies_near_what_the_labels_say(name: str) -> None:
    estimator, (window, _) = learn_estimator(binary(8000)[0]), binary(4000, 1, moved=0.5)
    reading = estimate(estimator, name, Window(window.scores))
    assert isinstance(reading, Signal)
    assert reading.name == f"estimated.{name}"
    hot = (window.truth[:, None] == np.arange(3)).astype(float)
    seen = expect(name, Chances(window.scores, hot, 1))
    assert seen is not None
    assert reading.low is not None
    assert reading.high is not None
    half = (reading.high - reading.low) / 2
    assert 0 < half < 0.1
    assert abs(reading.value - seen.value) < 2 * half  # 3.9 standard errors


def test_several_classes_are_estimated() -> None:
    estimator, window = learn_estimator(several(8000)), several(3000, 1)
    for name in ("accuracy", "log_loss", "roc_auc", "f1"):
        reading, seen = estimate(estimator, name, Window(window.scores)), level(name, window)
        assert isinstance(reading, Signal)
        assert reading.value == pytest.approx(seen, abs=0.04)


def test_scores_that_are_too_sure_are_recalibrated() -> None:
    sure, (window, _) = binary(8000)[0], binary(4000, 1)

    def squeezed(scores: np.ndarray) -> np.ndarray:
        cubed: np.ndarray = scores**3 / (scores**3).sum(axis=1, keepdims=True)
        return cubed

    given = Outcomes(sure.truth, squeezed(sure.scores), sure.classes, "1", "binary", sure.blocks)
    reading = estimate(learn_estimator(given), "accuracy", Window(squeezed(window.scores)))
    assert isinstance(reading, Signal)
    assert reading.value == pytest.approx(level("accuracy", window), abs=0.02)


@pytest.mark.parametrize("name", ["mae", "rmse", "mape"])
def test_errors_of_a_regression_are_foreseen_where_the_spread_moves(name: str) -> None:
    (held_out, rows), (window, now) = regression(6000), regression(3000, 1, moved=1.0)
    estimator = learn_estimator(held_out, rows, SCHEMA)
    reading, seen, before = (
        estimate(estimator, name, window_of(estimator, window.scores, now)),
        level(name, window),
        level(name, held_out),
    )
    assert isinstance(reading, Signal)
    assert seen is not None
    assert before is not None
    assert abs(reading.value - seen) < 0.35 * (seen - before)


def test_weights_help_where_the_model_is_wrong_in_a_region_that_became_frequent() -> None:
    def wrong(rows: int, seed: int, moved: float) -> tuple[Outcomes, pl.DataFrame]:
        """The model knows a; the truth turns with b, which moves."""
        chance = np.random.default_rng(seed)
        a, b = chance.normal(size=rows), chance.normal(moved, 1, rows)
        truth = (chance.random(rows) < 1 / (1 + np.exp(-2 * a * np.where(b > 1, -1, 1)))).astype(np.int64)
        share = 1 / (1 + np.exp(-a))
        frame = pl.DataFrame({"a": a, "b": b})
        return Outcomes(truth, np.stack([1 - share, share], axis=1), ("0", "1"), "1", "binary", np.arange(rows)), frame

    schema = Schema((Column("a", Kind.NUMBER), Column("b", Kind.NUMBER)), ())
    (held_out, rows), (window, now) = wrong(6000, 0, 0.0), wrong(4000, 1, 1.0)
    estimator = learn_estimator(held_out, rows, schema)
    plain = estimate(estimator, "accuracy", window_of(estimator, window.scores, now, weigh=False))
    weighted = estimate(estimator, "accuracy", window_of(estimator, window.scores, now))
    seen = level("accuracy", window)
    assert isinstance(plain, Signal)
    assert isinstance(weighted, Signal)
    assert seen is not None
    assert plain.value - seen > 0.1
    assert abs(weighted.value - seen) < 0.04


CASES = [
    pytest.param("accuracy", 10, 1000, "10 scored rows, 200 needed", id="too few rows in the window"),
    pytest.param("accuracy", 400, 50, "50 held-out rows to learn from, 100 needed", id="too few held-out rows"),
    pytest.param("calibration_error", 400, 1000, "calibration_error cannot be estimated", id="a metric without one"),
    pytest.param("mae", 400, 1000, "mae cannot be estimated", id="a metric of another task"),
]


@pytest.mark.parametrize(("metric", "rows", "held_out", "said"), CASES)
def test_not_enough_says_what_is_missing(metric: str, rows: int, held_out: int, said: str) -> None:
    reading = estimate(learn_estimator(binary(held_out)[0]), metric, Window(binary(rows, 1)[0].scores), needed=200)
    assert isinstance(reading, NotEnough)
    assert said in reading.said


def test_rows_unlike_all_held_out_ones_have_no_estimate() -> None:
    (held_out, rows), (window, now) = binary(3000), binary(1000, 1, moved=9.0)
    estimator = learn_estimator(held_out, rows, SCHEMA)
    reading = estimate(estimator, "accuracy", window_of(estimator, window.scores, now))
    assert isinstance(reading, NotEnough)
    assert "too little overlap: 100% of the rows have a a that no reference row has" in reading.said


def test_a_metric_that_the_rows_do_not_define_is_said() -> None:
    nobody = np.tile([0.9, 0.1], (400, 1))
    truth = (np.arange(400) % 5 == 0).astype(np.int64)
    given = Outcomes(truth, nobody, ("0", "1"), "1", "binary", np.arange(400))
    reading = estimate(learn_estimator(given), "precision", Window(nobody))
    assert isinstance(reading, NotEnough)
    assert "not defined" in reading.said


def test_a_constant_score_is_estimated_at_the_share_of_its_class() -> None:
    flat = np.tile([0.4, 0.6], (1000, 1))
    truth = (np.arange(1000) % 10 < 7).astype(np.int64)
    estimator = learn_estimator(Outcomes(truth, flat, ("0", "1"), "1", "binary", np.arange(1000)))
    reading, ranks = estimate(estimator, "accuracy", Window(flat)), estimate(estimator, "roc_auc", Window(flat))
    assert isinstance(reading, Signal)
    assert reading.value == pytest.approx(0.7)
    assert isinstance(ranks, Signal)
    assert ranks.value == pytest.approx(0.5)


def test_a_truth_outside_the_classes_counts_as_wrong() -> None:
    given = several(4000)
    truth = np.where(np.arange(4000) % 4 == 0, -1, given.truth)
    known = Outcomes(truth, given.scores, given.classes, None, "multiclass", given.blocks)
    plain, less = (estimate(learn_estimator(g), "accuracy", Window(several(2000, 1).scores)) for g in (given, known))
    assert isinstance(plain, Signal)
    assert isinstance(less, Signal)
    assert less.value == pytest.approx(0.75 * plain.value, abs=0.02)


def test_what_was_learned_survives_being_written() -> None:
    held_out, rows = binary(2000)
    estimator, (window, now) = learn_estimator(held_out, rows, SCHEMA), binary(800, 1, moved=0.5)
    again = Estimator.from_bytes(estimator.to_bytes())
    assert estimate(again, "f1", window_of(again, window.scores, now)) == estimate(
        estimator, "f1", window_of(estimator, window.scores, now)
    )
    with pytest.raises(Refused, match="damaged"):
        Estimator.from_bytes(b"nonsense")


def test_at_most_twenty_thousand_rows_are_kept() -> None:
    assert len(learn_estimator(binary(30_000)[0]).scores) == 20_000


def test_features_must_be_of_the_same_rows() -> None:
    with pytest.raises(UsageError, match="5 rows beside 100 outcomes"):
        learn_estimator(binary(100)[0], binary(5)[1], SCHEMA)


def test_a_frame_of_the_lake_is_estimated_and_rows_without_a_score_are_left_out() -> None:
    (held_out, rows), (window, now) = binary(2000), binary(500, 1)
    estimator = learn_estimator(held_out, rows, SCHEMA)
    listed = window.scores.tolist()
    holes = [None, [0.5], [0.5, float("nan")], [None, 0.5], *listed[4:]]
    seen = scored_window(estimator, now.with_columns(_score=pl.Series(holes)))
    assert [estimate(estimator, metric, seen, needed=100).rows for metric in ("accuracy", "roc_auc")] == [496, 496]
    assert isinstance(estimate(estimator, "accuracy", scored_window(estimator, now), needed=100), NotEnough)


def test_a_map_keeps_equal_scores_together_and_pools_falls_that_are_noise() -> None:
    chance = np.random.default_rng(0)
    scores = chance.integers(0, 5, 2000) / 4
    flat = calibrate(scores, (chance.random(2000) < 0.5).astype(float), np.ones(2000))
    assert (np.diff(flat.chance) >= 0).all()
    assert len(flat.at) <= 5


def test_a_map_falls_where_the_rows_leave_no_doubt() -> None:
    chance = np.random.default_rng(0)
    scores = chance.random(3000)
    turned = calibrate(scores, (chance.random(3000) < 1 - scores).astype(float), np.ones(3000))
    assert turned.apply(np.array([0.1]))[0] > turned.apply(np.array([0.9]))[0] + 0.5


# ---- labels come --------------------------------------------------------------------------------------------------
PLAIN = Signal("estimated.accuracy", "*", 0.9, 1000, low=0.88, high=0.92)


def test_an_estimate_is_held_to_the_last_twenty_labelled_windows() -> None:
    """The formula by hand: residuals of -0.04 and -0.06 in turn, v = (0.02 / 1.96)^2."""
    past = [Residual(0.3, 0.0)] * 7 + [Residual(-0.05 + 0.01 * (-1) ** at, 0.0) for at in range(20)]
    found = reconcile(PLAIN, past)
    assert isinstance(found, Signal)
    spread, own = 0.0001 * 20 / 19, (0.02 / 1.959964) ** 2
    assert found.value == pytest.approx(0.85)
    assert found.effect == pytest.approx(-0.05)
    assert found.high is not None
    assert found.high - found.value == pytest.approx(2.093024 * np.sqrt(spread + own + spread / 20), rel=1e-6)


def test_fewer_than_five_residuals_move_nothing_and_widen() -> None:
    found, none = reconcile(PLAIN, [Residual(-0.05, 0.0001)] * 4), reconcile(PLAIN, [])
    assert isinstance(found, Signal)
    assert isinstance(none, Signal)
    assert found.value == none.value == 0.9
    assert found.low is not None
    assert none.low is not None
    assert found.low < none.low < 0.88
    assert "only 4 labelled windows" in say(found, [Residual(-0.05, 0.0001)] * 4)


def test_residuals_know_the_variance_of_their_interval() -> None:
    made = residual(PLAIN, Signal("performance.accuracy", "*", 0.85, 1000))
    assert made.off == pytest.approx(-0.05)
    assert made.variance == pytest.approx((0.02 / 1.959964) ** 2)


def test_what_cannot_be_estimated_stays_so() -> None:
    lost = NotEnough("estimated.r2", "*", 400, 400, "r2 cannot be estimated without labels")
    assert reconcile(lost, [Residual(0.1, 0.1)] * 9) is lost
    assert say(lost) == "r2 has no estimate: r2 cannot be estimated without labels"
