"""The advice: money, what a spec cannot say, the default until another is surely better, and words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from everfit.replay.advise import Advice, Worth, advise, ageing_words
from everfit.replay.delays import best_fixed, delay_words
from everfit.replay.gains import Prices, Result, ages, errors_of, results
from everfit.replay.matrix import Cut, Matrix
from everfit.replay.policies import play_policy
from everfit.replay.portrait import Portrait
from everfit.replay.ranges import range_gains
from everfit.replay.record import DelayCost
from everfit.replay.slices import slice_scores
from tests.unit.replay.histories import ROWS, cut_of, flip_at, matrix_of, stale, steady

NAMES = ("everfit", "never", "every1", "every5", "drop0.02")
Score = Callable[[int, int, int], float]


def played(
    score: Score, noise: float = 0.005, prices: Prices | None = None, many: int = 100
) -> tuple[Matrix, tuple[Result, ...], Cut]:
    matrix, _ = matrix_of(score, many, noise)
    portrait = Portrait(pl.DataFrame({"x": np.zeros(many * ROWS)}), cut_of(many))
    each = {name: play_policy(name, matrix, portrait) for name in NAMES}
    return matrix, results(each, matrix.cut, prices), matrix.cut


def advice(score: Score, prices: Prices | None = None, among: tuple[str, ...] = NAMES) -> Advice:
    _, found, cut = played(score, prices=prices)
    return advise(found, cut, Worth(0.08, prices), among)


def test_errors_are_counted_over_all_rows_and_cost_what_they_cost() -> None:
    _, found, cut = played(steady, noise=0.0, prices=Prices(7.0, 2.0))
    every = next(each for each in found if each.name == "every5")
    assert every.errors == pytest.approx(90 * ROWS * 0.2)
    assert every.cost == pytest.approx(7 * every.played.runs + 2 * every.errors)
    assert errors_of(every.played, cut).shape == (90,)
    assert played(steady)[1][0].cost is None


def test_money_decides_when_it_is_given() -> None:
    cheap, dear = (advice(flip_at(30), Prices(run, 1.0)) for run in (0.1, 1e6))
    assert cheap.helps
    assert cheap.saving is not None
    assert cheap.saving[0] > 0
    assert "saves" in cheap.said
    assert (dear.policy, dear.helps) == ("never", False)


def test_the_default_is_kept_until_another_is_surely_better() -> None:
    assert advice(flip_at(30)).policy == "everfit"  # others were as good on the earlier part, give or take noise
    assert advice(flip_at(30), among=("never", "every5")).policy in ("every5", "everfit")


def test_a_better_rule_that_no_spec_can_say_is_named() -> None:
    found = advice(stale, among=("never",))
    assert any("a spec cannot say it" in said for said in found.words)


def test_when_nothing_is_gained_never_is_advised_and_it_says_why() -> None:
    found = advice(steady)
    assert (found.policy, found.helps, found.expected_gain) == ("never", False, 0.0)
    assert "does not help here" in found.said or "not proven to help" in found.said


def test_ageing_in_words() -> None:
    assert "loses 1.0 points a window in its first 10 windows" in (ageing_words(ages(played(stale)[0])) or "")
    assert "hardly age" in (ageing_words([0.8, 0.8, 0.8]) or "")
    assert ageing_words([0.8]) is None


def test_delays_in_words() -> None:
    assert delay_words([DelayCost(0, "everfit", 0.8)], None) is None
    said = delay_words([DelayCost(1, "everfit", 0.8), DelayCost(3, "everfit", 0.7), DelayCost(1, "every5", 0.7)], None)
    assert said == "labels that come 2 windows later cost everfit 10.0 points: 5.0 a window"
    assert best_fixed(played(stale)[1], 0.0) == "every1"
    assert best_fixed(played(stale)[1], 10.0) == "every5"


def test_ranges_are_told_at_equal_age() -> None:
    matrix, _, _ = played(stale, noise=0.0)
    found = {each.rows: each for each in range_gains(matrix, [(0, 29), (0, 39), (28, 29), (20, 29)])}
    # a window more of rows costs half a point: 20 and 30 more of them, and 8 fewer
    assert found["all"].over_recent == pytest.approx(-(0.005 * 20 + 0.005 * 30) / 2)
    assert (found["all"].models, found["all"].error is not None) == (2, True)
    assert found["change"].over_recent == pytest.approx(0.005 * 8)
    assert found["change"].error is None


def test_slices_tell_the_mean_miss_of_each_value() -> None:
    matrix, found, _ = played(steady, noise=0.0)
    column = pl.Series(["a", "a", "b", None] * (100 * ROWS // 4))
    slices = {each.value: each for each in slice_scores(matrix, column, [each.played for each in found])}
    assert {name: each.rows for name, each in slices.items()} == {"a": 900, "b": 450, "missing": 450}
    assert slices["b"].misses["everfit"] == pytest.approx(0.2)


def test_numbers_are_sliced_by_quarters_and_many_texts_are_joined() -> None:
    matrix, found, _ = played(steady, noise=0.0)
    numbers = slice_scores(matrix, pl.Series(np.arange(100 * ROWS) % 100), [found[0].played])
    assert [each.value for each in numbers] == ["up to 25", "25 to 50", "50 to 74", "above 74"]
    texts = slice_scores(matrix, pl.Series([f"v{place % 50:02}" for place in range(100 * ROWS)]), [found[0].played])
    assert (len(texts), texts[-1].value) == (21, "all others")
