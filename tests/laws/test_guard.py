"""Laws of the guard: what it promises holds at every look, and nobody is moved back and forth."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everfit.rollout.checks import Check, Guarding
from everfit.rollout.guard import Compared, Proceed, RollBack, Seen, as_facts, begin, from_facts, look
from everfit.rollout.latency import Order, log_evidence_of, weigh_latency
from everfit.rollout.power import Traffic, power_of
from everfit.rollout.sequential import (
    Tolerance,
    Weighed,
    as_one,
    design_effect,
    evidence_of,
    interval_of,
    knowing,
    log_evidence,
    rate_of,
    weigh_apart,
    weigh_paired,
)
from everfit.rollout.split import share_of, variant_of
from tests.examples import examples

law = examples(60)
RUNS, LOOKS, PROMISE = 150, 40, 0.1
MOST = PROMISE + 3 * math.sqrt(PROMISE * (1 - PROMISE) / RUNS)


# ---- evidence has no drift while nothing is wrong: exactly, by enumeration -------------------------------------------


def outcomes(many: int, rate: float) -> Iterator[tuple[int, float]]:
    for failed in range(many + 1):
        yield failed, math.comb(many, failed) * rate**failed * (1 - rate) ** (many - failed)


past = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)).map(
        lambda n: (min(n[0], n[1]), n[1], min(n[2], n[3]), n[3])
    ),
    max_size=4,
)
tolerances = st.builds(Tolerance, by=st.sampled_from([0.0, 0.01, 0.2]), relative=st.sampled_from([0.0, 0.1, 1.0]))


def weighed(before: list[tuple[int, int, int, int]], tolerance: Tolerance) -> Weighed:
    state = Weighed()
    for a_failed, a, b_failed, b in before:
        state = weigh_apart(state, rate_of(a_failed, a), rate_of(b_failed, b), tolerance)
    return state


@law
@given(past, tolerances, st.integers(1, 5), st.integers(1, 5), st.floats(0, 1), st.floats(0, 1))
def test_evidence_on_different_rows_has_no_drift(
    before: list[tuple[int, int, int, int]], tolerance: Tolerance, a: int, b: int, level: float, part: float
) -> None:
    """Whatever the past, the level and the sizes: the mean over all outcomes is at most what there was."""
    state = weighed(before, tolerance)
    worst = min(1.0, (1 + tolerance.relative) * level + tolerance.by)
    for rate, fine in ((worst * part, False), (worst, False), (worst + (1 - worst) * part, True)):
        if fine and worst == 1.0:
            continue  # nothing can be worse than what is tolerated
        mean = sum(
            pa * pb * math.exp(log_evidence(weigh_apart(state, rate_of(i, a), rate_of(j, b), tolerance), fine=fine))
            for (i, pa), (j, pb) in product(outcomes(a, level), outcomes(b, rate))
        )
        assert mean <= math.exp(log_evidence(state, fine=fine)) * (1 + 1e-9)


@law
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), max_size=3),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda p: sum(p) > 0.1),
    st.integers(1, 3),
)
def test_evidence_on_the_same_rows_has_no_drift(
    before: list[list[float]], by: float, chances: list[float], many: int
) -> None:
    """Three pairs of 0/1 losses with any joint chances whose difference is tolerated."""
    tolerance, state = Tolerance(by=by), Weighed()
    for losses in before:
        state = weigh_paired(state, losses[:2], losses[2:], tolerance)
    pairs = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    share = np.array(chances) / sum(chances)
    over = share[1] - share[2] - by
    if over > 0:  # move chance from "only the challenger wrong" to "both right" until it is tolerated
        share = share + np.array([over, -over, 0, 0])
    mean = 0.0
    for drawn in product(range(4), repeat=many):
        x, y = zip(*(pairs[i] for i in drawn), strict=True)
        mean += float(np.prod(share[list(drawn)])) * evidence_of(weigh_paired(state, x, y, tolerance))
    assert mean <= evidence_of(state) * (1 + 1e-9)


# ---- at most as many false roll-backs as promised, looking every time ------------------------------------------------


def steady(chance: np.random.Generator, worse: float = 0.0) -> Iterator[tuple[int, int, int, int]]:
    for _ in range(LOOKS):
        yield int(chance.binomial(400, 0.1)), 400, int(chance.binomial(60, 0.1 + worse)), 60


def swinging(chance: np.random.Generator) -> Iterator[tuple[int, int, int, int]]:
    """The level and the share swing together; both models see the same."""
    for t in range(LOOKS):
        level = 0.15 + 0.1 * math.sin(t / 4) + 0.04 * chance.random()
        a, b = (300, 100) if level > 0.15 else (390, 10)
        yield int(chance.binomial(a, level)), a, int(chance.binomial(b, level)), b


def restless(chance: np.random.Generator) -> Iterator[tuple[int, int, int, int]]:
    """Each interval shakes each model for itself: rows of an interval hang together."""
    for _ in range(LOOKS):
        a, b = chance.beta(4, 36, size=2)
        yield int(chance.binomial(400, a)), 400, int(chance.binomial(60, b)), 60


def rolled_back(story: Iterator[tuple[int, int, int, int]], effect: float = 1.0, *, as_intervals: bool = False) -> bool:
    state = Weighed()
    for a_failed, a, b_failed, b in story:
        champion, challenger = rate_of(a_failed, a), rate_of(b_failed, b)
        if as_intervals:
            champion, challenger = as_one(champion), as_one(challenger)
        state = weigh_apart(state, champion, challenger, effect=effect)
        if evidence_of(state) >= 1 / PROMISE:
            return True
    return False


def peeked(story: Iterator[tuple[int, int, int, int]]) -> bool:
    """The usual z test of all rows so far at 10 %, at each look."""
    sums = np.zeros(4)
    for interval in story:
        sums += interval
        a, b = sums[0] / sums[1], sums[2] / sums[3]
        level = (sums[0] + sums[2]) / (sums[1] + sums[3])
        if (b - a) / math.sqrt(max(1e-9, level * (1 - level)) * (1 / sums[1] + 1 / sums[3])) > 1.2816:
            return True
    return False


def test_false_rollbacks_are_at_most_as_promised() -> None:
    assert np.mean([rolled_back(steady(np.random.default_rng(i))) for i in range(RUNS)]) <= MOST
    assert np.mean([rolled_back(swinging(np.random.default_rng(i))) for i in range(RUNS)]) <= MOST


def test_a_plain_test_at_each_look_breaks_the_promise() -> None:
    """The law above can fail: this is what it would say of the usual practice."""
    assert np.mean([peeked(steady(np.random.default_rng(i))) for i in range(RUNS)]) > 1.5 * MOST


@pytest.mark.simulation
def test_rows_that_hang_together_need_their_design_effect() -> None:
    many = 100
    most = PROMISE + 3 * math.sqrt(PROMISE * (1 - PROMISE) / many)
    healthy = list(restless(np.random.default_rng(999)))
    apart = [b_failed / b - a_failed / a for a_failed, a, b_failed, b in healthy]
    effect = design_effect(apart, [a * b / (a + b) for _, a, _, b in healthy], 0.3)
    assert 2 < effect < 12
    stories = [list(restless(np.random.default_rng(i))) for i in range(many)]
    assert np.mean([rolled_back(iter(story)) for story in stories]) > 2 * most
    assert np.mean([rolled_back(iter(story), effect) for story in stories]) <= most
    assert np.mean([rolled_back(iter(story), as_intervals=True) for story in stories]) <= most


@pytest.mark.simulation
@pytest.mark.parametrize("factor", [1.0, 1.1], ids=["as fast", "slower by all that is allowed"])
def test_false_rollbacks_for_latency_are_at_most_as_promised(factor: float) -> None:
    many, rolled = 60, 0
    for seed in range(many):
        chance, state, worst = np.random.default_rng(seed), Order(), 0.0
        for _ in range(30):
            usual, other = chance.lognormal(3, 0.6, 200), chance.lognormal(3, 0.6, 40) * factor
            state = weigh_latency(state, usual, other, slower=0.1)
            worst = max(worst, log_evidence_of(state))
        rolled += worst >= -math.log(PROMISE)
    assert rolled / many <= PROMISE + 3 * math.sqrt(PROMISE * (1 - PROMISE) / many)


SHOPS, REGIONS = 5, 3  # slices of the same rows; the shops fail differently often, with both models


def sliced_interval(chance: np.random.Generator) -> Iterator[Compared]:
    """Rows of a champion and a challenger that fail alike: all of them, then by shop, then by region."""
    sides = []
    for many in (200, 60):
        shop, region = chance.integers(SHOPS, size=many), chance.integers(REGIONS, size=many)
        sides.append((shop, region, chance.random(many) < 0.04 * (1 + shop)))
    where = [("*", [np.ones(len(failed), bool) for _, _, failed in sides])]
    where += [(f"shop={n}", [shop == n for shop, _, _ in sides]) for n in range(SHOPS)]
    where += [(f"region={n}", [region == n for _, region, _ in sides]) for n in range(REGIONS)]
    for name, masks in where:
        old, new = (rate_of(int(side[2][at].sum()), int(at.sum())) for side, at in zip(sides, masks, strict=True))
        if old.rows and new.rows:
            yield Compared("errors", old, new, slice=name)
    shop, _, failed = sides[1]
    other = chance.permutation(failed[shop == 0])  # copies: the same rows, other ones fail
    yield Compared("errors", np.zeros(60), np.zeros(60), paired=True)
    yield Compared("errors", failed[shop == 0].astype(float), other.astype(float), slice="shop=0", paired=True)


@pytest.mark.simulation
def test_the_whole_guard_keeps_one_promise_for_all_checks_and_slices() -> None:
    options = Guarding(
        checks=(Check(of="errors", worse_by_at_most=0, slices=True), Check(of="loss", worse_by_at_most=0)),
        false_rollbacks=PROMISE,
        slices_at_most=SHOPS + REGIONS,
    )
    many, rolled = 60, 0
    for seed in range(many):
        chance, state, verdict = np.random.default_rng(seed), begin(datetime(2026, 1, 1, tzinfo=UTC)), None
        for hour in range(1, 26):
            pairs = chance.random((2, 30))
            compared = (Compared("loss", pairs[0], pairs[1], paired=True), *sliced_interval(chance))
            state, verdict = look(state, Seen((200, 60), compared), options, state.began + timedelta(hours=hour))
            assert state.passed_over == 0
        rolled += isinstance(verdict, RollBack)
    assert rolled / many <= PROMISE + 3 * math.sqrt(PROMISE * (1 - PROMISE) / many)


@pytest.mark.simulation
def test_harm_in_one_slice_is_found_where_all_rows_together_tolerate_it() -> None:
    options = Guarding(checks=(Check(of="errors", worse_by_at_most=0.05, slices=True),), false_rollbacks=PROMISE)
    found = []
    for seed in range(20):
        chance, state, said = np.random.default_rng(seed), begin(datetime(2026, 1, 1, tzinfo=UTC)), ""
        for hour in range(1, 21):
            bad = rate_of(int(chance.binomial(10, 0.4)), 10)  # 4 of 100 requests, all of shop a
            good = rate_of(0, 90)
            whole = rate_of(int(bad.counts[1]), 100)
            compared = (
                Compared("errors", rate_of(0, 400), whole),
                Compared("errors", rate_of(0, 40), bad, slice="shop=a"),
                Compared("errors", rate_of(0, 360), good, slice="shop=b"),
            )
            state, verdict = look(state, Seen((400, 100), compared), options, state.began + timedelta(hours=hour))
            said = verdict.said
        found.append(said.startswith("rolled back: errors where shop=a"))
    assert all(found)


@pytest.mark.simulation
def test_the_interval_holds_at_every_look() -> None:
    missed = 0
    for seed in range(RUNS):
        state, out = Weighed(), False
        for a_failed, a, b_failed, b in steady(np.random.default_rng(seed), worse=0.02):
            state = weigh_apart(state, rate_of(a_failed, a), rate_of(b_failed, b))
            found = interval_of(state, PROMISE)
            out = out or (found is not None and not found.low <= 0.02 <= found.high)
        missed += out
    assert missed / RUNS <= MOST


# ---- and bad models are caught as soon as is said --------------------------------------------------------------------


def test_a_bad_model_is_caught_when_power_says() -> None:
    options = Guarding(checks=(Check(of="errors", worse_by_at_most=0, on="different"),))
    power = power_of(options, Traffic("errors", 0.1, share=60 / 460), 0.1)
    assert power is not None
    rows = []
    for seed in range(60):
        state = knowing(0.1)
        for a_failed, a, b_failed, b in steady(np.random.default_rng(seed), worse=0.1):
            state = weigh_apart(state, rate_of(a_failed, a), rate_of(b_failed, b))
            if evidence_of(state) >= 100:
                break
        rows.append(state.rows[1])
    # looks come every 60 rows, which is beyond the formula
    assert power.half - 60 <= np.median(rows) <= 1.15 * power.half + 60
    assert power.most - 60 <= np.quantile(rows, 0.9) <= 1.15 * power.most + 60


# ---- the guard is total, and silence is never success ----------------------------------------------------------------

interval = st.tuples(st.integers(0, 400), st.integers(0, 400), st.floats(0, 1), st.floats(0, 1))


@law
@given(st.lists(interval, min_size=1, max_size=6), st.sampled_from(["promote", "abort", "ask"]), st.integers(0, 4))
def test_every_story_has_a_verdict_and_silence_is_never_success(
    story: list[tuple[int, int, float, float]], inconclusive: str, at_least: int
) -> None:
    options = Guarding.model_validate(
        {
            "checks": [{"of": "errors", "at_least": at_least}],
            "inconclusive": inconclusive,
            "extend_up_to": "2h",
            "requests_at_least": 1,
        }
    )
    state, back = begin(datetime(2026, 1, 1, tzinfo=UTC)), False
    for hour, (a, b, a_bad, b_bad) in enumerate(story, 1):
        seen = Seen((a, b), (Compared("errors", rate_of(int(a * a_bad), a), rate_of(int(b * b_bad), b)),))
        state, verdict = look(state, seen, options, state.began + timedelta(hours=hour))
        assert verdict.said
        assert not (isinstance(verdict, Proceed) and b == 0)
        assert not back or isinstance(verdict, RollBack)
        back = back or state.over is not None
        assert from_facts(json.loads(json.dumps(as_facts(state)))) == state


# ---- nobody is moved back and forth ----------------------------------------------------------------------------------

keys = st.text(max_size=20)
shares = st.floats(0, 1)


@law
@given(keys, keys, st.lists(shares, min_size=2, max_size=8))
def test_raising_a_share_never_moves_a_key_back(key: str, salt: str, raised: list[float]) -> None:
    said = [variant_of(key, salt, [("new", share)]) for share in sorted(raised)]
    assert said == sorted(said, key=["champion", "new"].index)


@law
@given(keys, keys, shares, shares, shares)
def test_raising_one_challenger_takes_no_key_from_the_other(
    key: str, salt: str, other: float, share: float, more: float
) -> None:
    low, high = sorted(part * (1 - other) for part in (share, more))
    before = variant_of(key, salt, [("new", low), ("other", other)])
    after = variant_of(key, salt, [("new", high), ("other", other)])
    assert after == before or (before, after) == ("champion", "new")


def test_places_are_uniform_and_releases_independent() -> None:
    places = np.array([[share_of(f"customer-{i}", salt) for i in range(20_000)] for salt in ("r-1", "r-2")])
    grid = np.histogram2d(places[0], places[1], bins=10, range=[[0, 1], [0, 1]])[0]
    assert ((grid - 200) ** 2 / 200).sum() < 149  # chi-square with 99 degrees of freedom: one in a thousand
    assert abs(np.corrcoef(places)[0, 1]) < 3.3 / math.sqrt(20_000)
    assert (places[0] < 0.05).mean() == pytest.approx(0.05, abs=3.3 * math.sqrt(0.05 * 0.95 / 20_000))


def test_a_state_is_never_changed_in_place() -> None:
    state = weigh_apart(Weighed(), rate_of(10, 100), rate_of(10, 100))
    copy = replace(state)
    weigh_apart(state, rate_of(10, 100), rate_of(90, 100))
    assert state == copy
