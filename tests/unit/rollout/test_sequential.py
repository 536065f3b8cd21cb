"""What is weighed, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import TypeAdapter

from everfit.errors import Refused, UsageError
from everfit.rollout.latency import ENOUGH, Order, log_evidence_of, weigh_latency
from everfit.rollout.sequential import (
    Sample,
    Tolerance,
    Weighed,
    as_one,
    design_effect,
    evidence_of,
    interval_of,
    knowing,
    log_evidence,
    rate_of,
    sample_of,
    weigh_apart,
    weigh_paired,
)


def chance(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("values", [[0.5, float("nan")], [-0.1], [1.1]], ids=["missing", "below 0", "above 1"])
def test_losses_out_of_bounds_are_refused(values: list[float]) -> None:
    with pytest.raises(Refused, match="outside"):
        sample_of(values)


@pytest.mark.parametrize(("failed", "rows"), [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(failed: int, rows: int) -> None:
    with pytest.raises(Refused, match="cannot be"):
        rate_of(failed, rows)


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(UsageError, match="pair them by request id"):
        weigh_paired(Weighed(), [0.1, 0.2], [0.1])


def test_a_design_effect_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="more than once"):
        weigh_apart(Weighed(), rate_of(1, 10), rate_of(1, 10), effect=0.5)


def test_one_side_alone_is_no_evidence_but_its_level_is_learned() -> None:
    alone = weigh_apart(Weighed(), rate_of(100, 1000), rate_of(0, 0))
    assert (evidence_of(alone), alone.looks, alone.rows) == (1.0, 0, (1000.0, 0.0))
    assert weigh_paired(Weighed(), [], []) == Weighed()


def test_a_model_that_always_fails_is_caught_at_the_first_look() -> None:
    assert evidence_of(weigh_apart(Weighed(), rate_of(10, 950), rate_of(12, 12))) > 100


def test_a_model_that_is_better_is_never_worse_and_is_proved_fine() -> None:
    state = Weighed()
    for _ in range(20):
        state = weigh_apart(state, rate_of(150, 1000), rate_of(50, 1000))
    assert evidence_of(state) < 1
    assert log_evidence(state, fine=True) > math.log(100)


@pytest.mark.parametrize(
    ("tolerance", "caught"),
    [
        pytest.param(Tolerance(), True, id="nothing tolerated"),
        pytest.param(Tolerance(by=0.06), False, id="six points tolerated"),
        pytest.param(Tolerance(relative=0.6), False, id="sixty percent tolerated"),
        pytest.param(Tolerance(relative=0.1), True, id="ten percent tolerated"),
    ],
)
def test_what_is_tolerated_is_not_caught(tolerance: Tolerance, caught: bool) -> None:
    apart, pairs = Weighed(), Weighed()
    for _ in range(10):
        apart = weigh_apart(apart, rate_of(100, 1000), rate_of(150, 1000), tolerance)
        pairs = weigh_paired(pairs, [1.0] * 10 + [0.0] * 90, [1.0] * 15 + [0.0] * 85, tolerance)
    assert (evidence_of(apart) > 100) is caught
    assert (evidence_of(pairs) > 100) is caught


def test_the_order_of_rows_in_a_look_does_not_matter_at_all() -> None:
    draw = chance()
    x, y = draw.random(300), draw.random(40)
    other = draw.permutation(300)
    before = weigh_apart(Weighed(), sample_of(draw.random(50)), sample_of(draw.random(50)))
    assert weigh_apart(before, sample_of(x), sample_of(y)) == weigh_apart(before, sample_of(x[other]), sample_of(y))
    pairs = weigh_paired(Weighed(), x, x**2)
    assert weigh_paired(pairs, x, x**2) == weigh_paired(pairs, x[other], x[other] ** 2)


def test_counts_and_rows_are_the_same_evidence() -> None:
    rows = np.array([1.0] * 7 + [0.0] * 93)
    assert weigh_apart(Weighed(), sample_of(rows), sample_of(rows)) == weigh_apart(
        Weighed(), rate_of(7, 100), rate_of(7, 100)
    )


def test_the_state_survives_json() -> None:
    state = weigh_paired(Weighed(), [0.1, 0.5], [0.2, 0.9])
    told = json.loads(json.dumps(asdict(state)))
    assert TypeAdapter(Weighed).validate_python(told) == state


def test_a_design_effect_weakens_evidence_and_widens_the_interval() -> None:
    plain, heavy = Weighed(), Weighed()
    for _ in range(5):
        plain = weigh_apart(plain, rate_of(100, 1000), rate_of(140, 1000))
        heavy = weigh_apart(heavy, rate_of(100, 1000), rate_of(140, 1000), effect=4.0)
    assert evidence_of(plain) > 20 * evidence_of(heavy)
    narrow, wide = interval_of(plain), interval_of(heavy)
    assert narrow is not None
    assert wide is not None
    assert wide.high - wide.low > 1.9 * (narrow.high - narrow.low)
    assert wide.value == pytest.approx(narrow.value)


def test_a_changed_share_is_not_mistaken_for_the_model() -> None:
    """Errors double at night, when most of the canary's traffic is (Simpson's paradox)."""
    state = Weighed()
    for level, a, b in [(0.05, 1900, 100), (0.1, 1000, 1000)] * 20:
        state = weigh_apart(state, rate_of(round(level * a), a), rate_of(round(level * b), b))
    found = interval_of(state)
    assert found is not None
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert state.totals[1] / state.rows[1] > 1.2 * state.totals[0] / state.rows[0]
    assert evidence_of(state) < 1


def test_there_is_no_interval_before_anything_was_compared() -> None:
    assert interval_of(Weighed()) is None


def test_an_interval_as_one_row() -> None:
    assert as_one(rate_of(0, 0)).rows == 0
    one = as_one(sample_of([0.2, 0.4]))
    assert one.rows == 1
    assert one.mean == pytest.approx(0.3)


def test_late_harm_is_caught_soon() -> None:
    late = Weighed()
    for _ in range(100):
        late = weigh_apart(late, rate_of(95, 950), rate_of(5, 50))
    looks = 0
    while evidence_of(late) < 100:
        late, looks = weigh_apart(late, rate_of(95, 950), rate_of(10, 50)), looks + 1
    assert looks <= 12  # 9; 18 without wealth kept for later starts; 4 if it is bad from the first look


def test_a_design_effect_needs_intervals() -> None:
    with pytest.raises(UsageError, match="at least ten"):
        design_effect([0.1] * 5, [10] * 5, 0.3)


def test_independent_rows_have_a_design_effect_near_one() -> None:
    draw = chance(3)
    apart = draw.normal(0, 0.5 / 10, size=200)
    assert 1.0 <= design_effect(list(apart), [100.0] * 200, 0.5) < 1.4


def test_a_difference_that_stays_has_a_large_design_effect() -> None:
    draw = chance(4)
    apart = 0.1 + draw.normal(0, 0.05, size=60)
    assert design_effect(list(apart), [100.0] * 60, 0.5) > 30


# ---- latency ---------------------------------------------------------------------------------------------------------


def test_latency_learns_its_places_first_and_bets_on_the_next_look() -> None:
    usual = chance(5).lognormal(3, 0.5, size=ENOUGH)
    few = weigh_latency(Order(), usual[:50], usual)
    assert few.limits == ()
    learned = weigh_latency(few, usual, usual * 10)
    assert len(learned.limits) == 3
    assert log_evidence_of(learned) == 0.0
    assert log_evidence_of(weigh_latency(learned, usual, usual * 10)) > math.log(100)


def test_latency_knows_its_places_from_before() -> None:
    usual = chance(6).lognormal(3, 0.5, size=500)
    known = Order(limits=tuple(float(q) for q in np.quantile(usual, [0.5, 0.9, 0.99])))
    assert log_evidence_of(weigh_latency(known, usual, usual[:50] * 3)) > math.log(100)


@pytest.mark.parametrize("slower", [0.0, 0.1])
def test_latency_within_what_is_allowed_is_fine(slower: float) -> None:
    draw, state = chance(7), Order()
    for _ in range(60):
        state = weigh_latency(state, draw.lognormal(3, 0.5, 2000), draw.lognormal(3, 0.5, 2000) * 0.8, slower=slower)
    assert log_evidence_of(state) < 0
    assert log_evidence_of(state, fine=True) > math.log(100)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_impossible_latencies_are_refused(bad: float) -> None:
    with pytest.raises(Refused, match="count requests without an answer as errors"):
        weigh_latency(Order(), [1.0, bad], [1.0])


def test_an_empty_sample_has_a_mean_of_zero() -> None:
    assert Sample(np.array([]), np.array([])).mean == 0.0


@pytest.mark.parametrize("before", [Weighed(), knowing(0.0005)], ids=["level unknown", "level known"])
def test_a_champion_without_errors_is_no_obstacle(before: Weighed) -> None:
    """Ratios to a baseline of nothing are where other judges give up."""
    assert evidence_of(weigh_apart(before, rate_of(0, 1900), rate_of(5, 100))) > 100
    assert evidence_of(weigh_apart(before, rate_of(0, 1900), rate_of(0, 100))) <= 1.1
