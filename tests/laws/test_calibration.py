"""Laws of alarms with a promise: how often they may be false, and what no window may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random

import numpy as np
import polars as pl
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everfit.detect.distribution import holm
from everfit.detect.options import FalseAlarms
from everfit.detect.promise import SHARES, Spent, rates, shares
from everfit.detect.scores import Counted, learn_ruler, look_through, mid_p_scores
from everfit.detect.slow import Slow, advance_by, begin, evidence
from everfit.detect.usual import Usual, column_chances, learn_usual, reach, read_window, usual_of
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile.table import learn_bins, portray
from tests.days import normal_counts, part, plain_lens
from tests.examples import examples

law = examples(60)
Floats = NDArray[np.float64]
Days = Callable[[np.random.Generator, tuple[int, int]], Floats]
COLUMNS, HEALTHY, LATER, SEEDS = 5, 30, 100, 50
RATE = 1 / 60  # high, so that the mean of few runs is sharp
START, DAY = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)


def independent(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.zeros(shape)


def varied(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.normal(0, 0.05, shape)


def remembering(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    found = rng.normal(0, 0.05, shape)
    for t in range(1, shape[0]):
        found[t] = 0.7 * found[t - 1] + np.sqrt(0.51) * found[t]
    return found


def weekly(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    found: Floats = 0.15 * np.sin(2 * np.pi * np.arange(shape[0]) / 7)[:, None] * np.ones(shape[1])
    return found


# ---- 1: the promise ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "days", [varied, *(pytest.param(each, marks=pytest.mark.simulation) for each in (independent, remembering, weekly))]
)
def test_healthy_windows_alarm_no_more_often_than_promised(days: Days) -> None:
    single, slow = [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        counts = normal_counts(rng, days(rng, (HEALTHY + LATER, COLUMNS)), rows=500)
        places = np.arange(HEALTHY + LATER)
        usual = usual_of(plain_lens(COLUMNS), part(counts, slice(0, HEALTHY)), places[:HEALTHY], (7, 24))
        assert usual.period == 7 or days is not weekly
        apart = usual.apart(part(counts, slice(HEALTHY, None)), places[HEALTHY:])
        chances = column_chances(usual.ruler, apart.t, usual.spread.freedom)
        single.append(int((chances.min(axis=1) * COLUMNS <= RATE).sum()))
        state, alarms = begin(usual), 0
        for scores in evidence(usual, apart):
            step = advance_by(state, scores, usual, RATE)
            state, alarms = step.slow, alarms + step.alarm
        slow.append(alarms)
    for seen in (single, slow):
        assert np.mean(seen) <= LATER * RATE + 3 * np.std(seen) / np.sqrt(SEEDS)


# ---- 2 and 7: the slow detector ------------------------------------------------------------------
def some_usual(seed: int = 0, effect: float = 0.05, columns: int = COLUMNS) -> Usual:
    rng = np.random.default_rng(seed)
    return usual_of(plain_lens(columns), normal_counts(rng, rng.normal(0, effect, (40, columns))), np.arange(40))


def test_evidence_is_never_negative_and_stays_finite() -> None:
    usual, rng = some_usual(columns=2), np.random.default_rng(1)
    state = begin(usual)
    for _ in range(10_000):
        scores = rng.choice([-12.0, 0.0, 3.0], size=(2, len(usual.ruler.used)))
        state = advance_by(state, scores, usual, 1 / 730).slow
        assert (state.sums >= 0).all()
    assert np.isfinite(state.sums).all()


@law
@given(st.floats(0, 1e4), st.floats(-50, 50))
def test_one_window_of_any_size_multiplies_the_evidence_by_e4_at_most(held: float, shift: float) -> None:
    usual = some_usual(columns=2)
    before = Slow(np.full_like(begin(usual).sums, held))
    shocked = normal_counts(np.random.default_rng(0), np.full((1, 2), shift))
    scores = evidence(usual, usual.apart(shocked, np.array([0])))[0]
    after = advance_by(before, scores, usual, 1e-9).slow.sums
    assert (after <= (held + 1) * np.exp(4) * 1.0001).all()


@law
@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4))
def test_the_account_stops_alarms_of_single_windows(unusual: list[bool], at_most: int) -> None:
    spent, ended = Spent(), 0
    for n, each in enumerate(unusual):
        fired = each and not spent.used_up(at_most)
        ended += not fired and 0 < spent.lasting < 3
        spent = spent.after(START + n * DAY, fired=fired, per=365 * DAY)
        assert spent.resolved == ended <= at_most


# ---- 3: budgets ----------------------------------------------------------------------------------
@law
@given(st.floats(0.1, 20), st.integers(1, 1000), st.integers(1, 14 * 24))
def test_rates_add_up_and_halve_with_the_window(at_most: float, per: int, hours: int) -> None:
    allowed, window = FalseAlarms(at_most=at_most, per=timedelta(days=per)), timedelta(hours=hours)
    whole, half = rates(allowed, window), rates(allowed, window / 2)
    alpha = min(0.05, at_most * (window / timedelta(days=per)))
    assert whole.total == pytest.approx(alpha, rel=1e-12)
    if alpha < 0.05:
        assert half.drift == pytest.approx(whole.drift / 2, rel=1e-12)


@law
@given(st.lists(st.fractions(0, Fraction(1, 10)), max_size=5))
def test_another_monitor_takes_its_share_from_the_others(more: list[Fraction]) -> None:
    split = shares({f"m{i}": share for i, share in enumerate(more)})
    assert sum(split.values()) == 1
    assert all(split[name] <= share for name, share in SHARES.items())


# ---- 4: scores -----------------------------------------------------------------------------------
@pytest.mark.parametrize("rows", [200, 1_000, 10_000])
@pytest.mark.parametrize("expected", [0.5, 2, 5, 10, 25, 50, 100])
def test_tails_of_share_scores_are_no_heavier_than_promised(rows: int, expected: float) -> None:
    """Counts jump, so at one line the tail may be up to twice the normal's; over all lines it is no heavier."""
    share, counts = expected / rows, np.arange(min(rows, int(8 * expected) + 60))
    log_pmf = (
        scipy.special.gammaln(rows + 1)
        - scipy.special.gammaln(counts + 1)
        - scipy.special.gammaln(rows - counts + 1)
        + counts * np.log(share)
        + (rows - counts) * np.log1p(-share)
    )
    chance, many = np.exp(log_pmf), len(counts)
    scores = mid_p_scores(counts, np.full(many, float(rows)), np.full(many, share))
    lines = np.linspace(3, 5.5, 200)
    for side in (1, -1):
        tails = np.array([chance[side * scores >= line].sum() for line in lines]) / scipy.special.ndtr(-lines)
        assert tails.mean() <= 1.1
        assert tails.max() <= 2
    if expected >= 25:
        assert float(chance @ scores**2) == pytest.approx(1, abs=0.05)


def test_scores_of_multinomial_windows_have_variance_one_and_are_uncorrelated() -> None:
    counts = normal_counts(np.random.default_rng(5), np.zeros((20_000, 1)), rows=500)
    ruler = learn_ruler(plain_lens(1), counts)
    scores, _ = ruler.scores(counts)
    assert scores[:, :13].var(axis=0) == pytest.approx(np.ones(13), abs=0.05)
    assert np.corrcoef(scores[:, :3].T) == pytest.approx(np.eye(3), abs=0.03)


@examples(20)
@given(st.integers(0, 1000), st.sampled_from([np.exp, np.cbrt, lambda x: 3 * x + 7]))
def test_scores_do_not_change_with_the_unit(seed: int, transform: Callable[[Floats], Floats]) -> None:
    rows = np.random.default_rng(seed).normal(size=(6, 120))
    schema, found = Schema((Column("x", Kind.NUMBER),), ()), []
    for values in (rows, transform(rows)):
        frames = [pl.DataFrame({"x": each}) for each in values]
        bins = learn_bins(pl.concat(frames[:5]), schema)
        windows = [portray(frame, bins) for frame in frames]
        lens = look_through(windows[:5])
        found.append(learn_ruler(lens, lens.count(windows[:5])).scores(lens.count(windows))[0])
    assert found[0] == pytest.approx(found[1])


@law
@given(st.permutations(range(6)), st.lists(st.integers(0, 80), min_size=6, max_size=6).filter(any))
def test_the_order_of_categories_plays_no_role(order: list[int], now: list[int]) -> None:
    lens = replace(plain_lens(1, bins=6), ordered=np.array([False]))
    healthy = np.random.default_rng(6).multinomial(200, [0.3, 0.3, 0.2, 0.1, 0.05, 0.05], 8)
    chances = []
    for turn in (list(range(6)), order):
        usual = usual_of(lens, Counted(healthy[:, turn], np.zeros((8, 1), dtype=np.int64)), np.arange(8))
        apart = usual.apart(Counted(np.array([now])[:, turn], np.zeros((1, 1), dtype=np.int64)), np.array([8]))
        chances.append(column_chances(usual.ruler, apart.t, usual.spread.freedom)[0, 0])
    assert chances[0] == pytest.approx(chances[1], rel=1e-9)


@pytest.mark.parametrize(
    "values, kind",
    [
        pytest.param([1.5] * 50, Kind.NUMBER, id="a constant"),
        pytest.param(["a"] * 50, Kind.CATEGORY, id="one category"),
        pytest.param([True] * 50, Kind.FLAG, id="a stuck flag"),
        pytest.param([None] * 50, Kind.NUMBER, id="no values"),
        pytest.param([None] * 50, Kind.CATEGORY, id="no categories"),
        pytest.param([float("nan"), float("inf")] * 25, Kind.NUMBER, id="nothing finite"),
    ],
)
def test_a_column_that_never_varied_and_does_not_now_is_nothing(values: list[object], kind: Kind) -> None:
    frame = pl.DataFrame({"x": values}, strict=False)
    bins = learn_bins(frame, Schema((Column("x", kind),), ()))
    usual = learn_usual([portray(frame, bins)] * 24)
    assert [test.p_value for test in read_window(portray(frame, bins), usual)] == [1.0]


# ---- 5 and 6: what makes a window less unusual ---------------------------------------------------
@law
@given(st.floats(-0.5, 0.5), st.floats(1, 20), st.floats(1, 4), st.floats(2, 200), st.integers(200, 5_000))
def test_more_spread_less_freedom_and_fewer_rows_make_nothing_more_unusual(
    shift: float, wider: float, memory: float, freedom: float, rows: int
) -> None:
    usual = some_usual(columns=1)
    apart_ = normal_counts(np.random.default_rng(1), np.full((1, 1), shift), rows=rows)
    spread = usual.spread

    def chance(**other: object) -> float:
        known = replace(usual, spread=replace(spread, **other))  # type: ignore[arg-type]
        return float(column_chances(known.ruler, known.apart(apart_, np.array([0])).t, known.spread.freedom)[0, 0])

    plain = chance()
    assert chance(variance=spread.variance * wider) >= plain
    assert chance(memory=spread.memory * memory) >= plain
    assert chance(freedom=np.minimum(spread.freedom, freedom)) >= plain - 1e-12
    assert (spread.variance >= 1).all()


@law
@given(st.integers(1_000, 1_000_000), st.floats(0, 0.2))
def test_more_rows_than_healthy_windows_had_never_find_smaller_shifts(rows: int, effect: float) -> None:
    usual = some_usual(effect=effect, columns=1)
    same, more = (
        usual.apart(normal_counts(np.random.default_rng(2), np.zeros((1, 1)), rows=n), np.array([0]))
        for n in (1_000, rows)
    )
    assert (reach(usual, more, RATE) >= reach(usual, same, RATE) - 1e-12).all()


@law
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(1e-6, 0.2), st.randoms(use_true_random=False))
def test_a_quiet_column_adds_no_alarm_and_order_plays_no_role(chances: list[float], alpha: float, dice: Random) -> None:
    alone, beside = holm(chances, alpha), holm([*chances, 1.0], alpha)
    assert all(before or not after for before, after in zip(alone, beside, strict=False))
    order = dice.sample(range(len(chances)), len(chances))
    assert sorted(zip([chances[i] for i in order], holm([chances[i] for i in order], alpha), strict=True)) == sorted(
        zip(chances, alone, strict=True)
    )


# ---- 8: nothing is nothing -----------------------------------------------------------------------
@law
@given(st.lists(st.integers(0, 500), min_size=10, max_size=10).filter(any), st.integers(5, 40))
def test_equal_counts_are_no_distance(counts: list[int], windows: int) -> None:
    same = Counted(np.tile(counts, (windows, 1)), np.full((windows, 1), 3))
    usual = usual_of(plain_lens(1), same, np.arange(windows))
    assert usual.apart(part(same, slice(0, 1)), np.array([0])).t == pytest.approx(0, abs=1e-6)
    assert usual.shocks(1 / 365) == 0
