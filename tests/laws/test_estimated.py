"""Laws of what is said without labels: unbiased where scores mean what they say, wider after error, never NaN."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everfit.detect.estimate import Window, estimate, learn_estimator
from everfit.detect.estimate_metrics import EXPECTED
from everfit.detect.estimate_past import Residual, reconcile
from everfit.detect.harm import importance_from, permuted
from everfit.detect.outcomes import Outcomes
from everfit.detect.performance import level
from everfit.detect.signal import Signal
from everfit.detect.together import learn_crowd, test_together
from everfit.detect.weights import Weights
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from tests.examples import examples

RUNS = 40
METRICS = ("accuracy", "roc_auc", "log_loss", "brier", "f1", "balanced_accuracy")


def drawn(chance: np.random.Generator, rows: int, power: float) -> Outcomes:
    """Scores that are the chances of the truth."""
    share = chance.beta(2, 3, rows) ** power
    truth = (chance.random(rows) < share).astype(np.int64)
    return Outcomes(truth, np.stack([1 - share, share], axis=1), ("0", "1"), "1", "binary", np.arange(rows))


def test_estimates_are_unbiased_and_intervals_cover_where_scores_mean_what_they_say() -> None:
    """Windows whose scores are spread otherwise than the held-out ones; mean error within 3 standard errors."""
    off: dict[str, list[float]] = {name: [] for name in METRICS}
    held: dict[str, int] = dict.fromkeys(METRICS, 0)
    for seed in range(RUNS):
        chance = np.random.default_rng(seed)
        estimator, window = learn_estimator(drawn(chance, 3000, 1.0)), drawn(chance, 800, 0.7)
        for name in METRICS:
            reading, came = estimate(estimator, name, Window(window.scores)), level(name, window)
            assert isinstance(reading, Signal)
            assert came is not None
            assert reading.low is not None
            assert reading.high is not None
            off[name].append(reading.value - came)
            held[name] += reading.low <= came <= reading.high
    for name in METRICS:
        error = np.std(off[name], ddof=1) / np.sqrt(RUNS)
        assert abs(np.mean(off[name])) < 3 * error, name
        assert held[name] / RUNS >= 0.85, name  # 0.95 less 3 standard errors of 40 runs


@examples(25)
@given(st.integers(0, 10_000), st.sampled_from(sorted(EXPECTED)))
def test_weights_of_one_change_nothing_and_order_plays_no_role(seed: int, name: str) -> None:
    chance = np.random.default_rng(seed)
    estimator, window = learn_estimator(drawn(chance, 500, 1.0)), drawn(chance, 200, 0.7).scores.round(2)
    plain = estimate(estimator, name, Window(window))
    ones = Weights(np.ones(500), 500.0)
    assert estimate(estimator, name, Window(window, None, ones)) == plain
    shuffled = estimate(estimator, name, Window(window[chance.permutation(200)]))
    assert isinstance(plain, Signal)
    assert isinstance(shuffled, Signal)
    for one, other in ((plain.value, shuffled.value), (plain.low, shuffled.low), (plain.high, shuffled.high)):
        assert other == pytest.approx(one, abs=1e-9)


@examples(60)
@given(st.lists(st.floats(-0.05, 0.05), min_size=1, max_size=30), st.floats(1, 4))
def test_larger_past_errors_never_give_a_narrower_interval(offs: list[float], more: float) -> None:
    plain = Signal("estimated.log_loss", "*", 0.5, 900, low=0.48, high=0.52)
    few, many = (reconcile(plain, [Residual(scale * off, 1e-5) for off in offs]) for scale in (1.0, more))
    assert isinstance(few, Signal)
    assert isinstance(many, Signal)
    width = [(s.high or 0) - (s.low or 0) for s in (few, many)]
    assert width[1] >= width[0] - 1e-12
    assert width[0] >= 0.04 - 1e-12  # never narrower than the interval that knew no past


@examples(30)
@given(st.integers(0, 10_000))
def test_importances_are_shares_and_an_unused_column_has_none(seed: int) -> None:
    chance = np.random.default_rng(seed)
    frame = pl.DataFrame(chance.normal(size=(150, 3)), schema=["a", "b", "unused"])
    uses = chance.normal(size=2)

    def score(rows: pl.DataFrame) -> np.ndarray:
        share = 1 / (1 + np.exp(-rows.select("a", "b").to_numpy() @ uses))
        return np.stack([1 - share, share], axis=1)

    truth = (chance.random(150) < score(frame)[:, 1]).astype(np.int64)
    outcomes = Outcomes(truth, score(frame), ("0", "1"), "1", "binary", np.arange(150))
    made = permuted(frame, frame.columns, seed=seed)
    found = importance_from(made, score(made.frame), outcomes, "log_loss")
    assert sum(found.values()) == pytest.approx(1)
    assert min(found.values()) >= 0
    assert found["unused"] in {0.0, 1 / 3}  # a third where no column is above its noise


SCHEMA = Schema((Column("a", Kind.NUMBER), Column("b", Kind.NUMBER), Column("shop", Kind.CATEGORY)), ())


def day(chance: np.random.Generator, effect: float = 0.0) -> pl.DataFrame:
    a, b = chance.normal(size=(2, 300)) + effect * chance.normal(size=(2, 1))
    return pl.DataFrame({"a": a, "b": b, "shop": chance.choice(["x", "y"], 300)})


@pytest.mark.parametrize(
    ("windows", "effect"),
    [
        pytest.param(1, 0.0, id="rows"),
        pytest.param(12, 0.0, id="days", marks=pytest.mark.simulation),
        pytest.param(12, 0.15, id="moving days", marks=pytest.mark.simulation),
    ],
)
def test_healthy_windows_are_seldom_called_drifted(windows: int, effect: float) -> None:
    """p < 0.05 in at most 5 % of 80 healthy windows, plus 3 standard errors."""
    found = []
    for seed in range(20):
        chance = np.random.default_rng(seed)
        crowd = learn_crowd([day(chance, effect) for _ in range(windows)], SCHEMA)
        readings = [test_together(crowd, day(chance, effect)).reading for _ in range(4)]
        found += [r.p_value for r in readings if isinstance(r, Signal) and r.p_value is not None]
    assert len(found) == 80
    assert np.mean(np.array(found) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 80)
    assert 0.35 < np.mean(found) < 0.75


@examples(15)
@given(st.integers(0, 10_000))
def test_a_rising_transform_of_a_number_changes_nothing(seed: int) -> None:
    chance = np.random.default_rng(seed)
    windows, now = [day(chance) for _ in range(3)], day(chance, 0.3)
    curved = [frame.with_columns(pl.col("a").exp() * 3, pl.col("b") ** 3) for frame in (*windows, now)]
    plain, other = (
        test_together(learn_crowd(windows, SCHEMA), now),
        test_together(learn_crowd(curved[:3], SCHEMA), curved[3]),
    )
    assert plain == other


VALUES = st.sampled_from([0.0, 1.0, 1e300, -1e300, float("nan"), float("inf"), None])


@examples(30)
@given(st.lists(VALUES, min_size=1, max_size=3), st.lists(VALUES, min_size=1, max_size=3))
def test_odd_columns_never_give_nan(then: list[float | None], now: list[float | None]) -> None:
    frames = [
        pl.DataFrame({"a": pl.Series((values * 200)[:200], dtype=pl.Float64), "shop": [None, "x"] * 100})
        for values in (then, now)
    ]
    reading = test_together(learn_crowd([frames[0]] * 3, SCHEMA), frames[1]).reading
    assert isinstance(reading, Signal)
    assert np.isfinite([reading.value, reading.p_value or 0.0, reading.effect or 0.0]).all()
