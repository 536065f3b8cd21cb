"""The advice: money, what a spec cannot say, the default until another is surely better, and words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from everfit.replay.advise import Advice, Worth, advise, ageing_words
from everfit.replay.apart import span, unit_of
from everfit.replay.delays import best_fixed, delay_costs, delay_words
from everfit.replay.gains import Prices, Result, errors_of, lost_by_age, results
from everfit.replay.matrix import Cut, Matrix
from everfit.replay.play import Decision, Played
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


def made(name: str, scores: NDArray[np.float64], runs: int) -> Result:
    """A policy of these scores that trained so often, evenly."""
    many = len(scores)
    decisions = tuple(Decision(10 + place * many // runs, (0, 9), "") for place in range(runs))
    return Result(
        name, float(scores.mean()), runs, None, 0.0, Played(name, 10, scores, 1 - scores, (), decisions, 0, 0.0), 0.0
    )


def of_three(everfit: float, five: float, noise: float, seed: int = 0) -> Advice:
    """Advice where never scores 0.7, and windows wobble by themselves and for each policy."""
    chance = np.random.default_rng(seed)
    shared = 0.05 * chance.normal(size=90)
    levels = (("everfit", everfit, 6), ("never", 0.7, 0), ("every5", five, 18))
    found = [made(name, level + shared + noise * chance.normal(size=90), runs) for name, level, runs in levels]
    return advise(found, cut_of(100), Worth(0.08, unit=unit_of("roc_auc")))


def test_two_that_are_not_told_apart_are_said_to_be_so() -> None:
    found = of_three(0.80, 0.815, 0.05)  # 1.5 points more, less 1.1 of twelve more runs
    assert (found.policy, found.helps) == ("everfit", True)
    assert "points of roc_auc a window over never retraining" in found.said
    assert found.runner_up is not None
    assert (found.runner_up.policy, found.runner_up.more.told) == ("every5", False)
    assert "the two are not told apart: a tie goes to everfit" in found.words[-1]
    assert found.to_dict()["runner_up"]["told_apart"] is False


def test_one_that_is_surely_better_is_advised() -> None:
    found = of_three(0.80, 0.90, 0.02)
    assert (found.policy, found.helps) == ("every5", True)
    assert found.runner_up is not None
    assert found.runner_up.policy == "everfit"
    assert found.runner_up.more.high < 0
    assert "less than every5" in found.words[-1]


def test_what_came_late_is_told_as_hindsight() -> None:
    noise = 0.1 * np.random.default_rng(1).normal(size=90)
    more = np.where(np.arange(90) < 54, 0.015 + noise - noise[:54].mean(), 0.06)
    flat = np.full(90, 0.7)
    found = advise([made("everfit", flat + 0.05, 6), made("never", flat, 0), made("every5", flat + 0.05 + more, 6)],
                   cut_of(100), Worth(0.08))  # fmt: skip
    assert found.policy == "everfit"
    assert found.runner_up is not None
    assert (found.runner_up.policy, found.runner_up.more.low > 0) == ("every5", True)
    assert "so it is hindsight" in found.words[-1]


def test_a_gain_that_may_be_noise_is_advised_in_four_cases_of_five() -> None:
    likely = advise([made("everfit", 0.7 + 0.004 + 0.05 * np.random.default_rng(0).normal(size=90), 2),
                     made("never", np.full(90, 0.7), 0)], cut_of(100), Worth(0.08))  # fmt: skip
    assert (likely.policy, likely.helps) == ("everfit", False)
    assert "not told from noise" in likely.said
    assert likely.interval[0] < 0 < likely.expected_gain


def test_where_nothing_is_gained_never_is_advised_four_times_of_five() -> None:
    asked = [of_three(0.70, 0.70, 0.02, seed) for seed in range(40)]
    assert sum(each.policy == "never" for each in asked) >= 32
    assert not any(each.helps and each.policy == "every5" for each in asked)


def test_when_nothing_is_gained_never_is_advised_and_it_says_why() -> None:
    found = advice(steady)
    assert (found.policy, found.helps, found.expected_gain) == ("never", False, 0.0)
    assert "does not help here" in found.said or "not proven to help" in found.said


def test_ageing_in_words() -> None:
    lost = lost_by_age(played(stale)[0])
    assert lost.shape == (90, 86)
    said = ageing_words(lost, unit_of("mae")) or ""
    assert "loses 1.0 % of the best constant's mae a window in its first 10 windows (" in said
    assert ", and 45.0 % of the best constant's mae by an age of 46 windows (" in said  # which half of them reached
    assert ageing_words(lost[:, :2]) is None


def test_models_hardly_age_only_where_that_is_within_noise() -> None:
    noise = 0.02 * np.random.default_rng(3).normal(size=(40, 30))
    slow = noise + 0.004 * np.arange(30) * (np.arange(30) > 9)
    never, late = ageing_words(noise) or "", ageing_words(slow) or ""
    assert never.startswith("models hardly age here: they lose ")
    assert never.endswith("which is within noise")
    assert late.startswith("a model hardly ages at first: ")
    assert "but it has lost 11" in late
    assert "old ones are better" in (ageing_words(noise - 0.2) or "")


def costs(first: float, later: float, noise: float) -> tuple[DelayCost, ...]:
    scores = noise * np.random.default_rng(5).normal(size=(2, 60))
    of = {0: first + scores[0], 2: later + scores[1]}
    return delay_costs({delay: Played("everfit", 0, each, each, (), (), 0, 0.0) for delay, each in of.items()})


def test_delays_in_words() -> None:
    assert delay_words(costs(0.8, 0.7, 0.0)[:1], None) is None
    said = delay_words(costs(0.8, 0.7, 0.0), None)
    assert said == "labels that come 2 windows later cost everfit 10.0 points (10.0 to 10.0): 5.0 points a window"
    noisy = delay_words(costs(0.8, 0.801, 0.05), timedelta(hours=12), unit_of("roc_auc")) or ""
    assert "cost everfit nothing that is told from noise (-" in noisy
    assert "points of roc_auc a day" in noisy
    assert delay_words(costs(0.7, 0.8, 0.01), None) == (
        f"labels that come 2 windows later cost everfit nothing ({span(costs(0.7, 0.8, 0.01)[1].lost)} points)"
    )


def test_the_best_fixed_schedule_pays_for_its_runs() -> None:
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
