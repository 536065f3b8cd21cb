"""Policies played over histories whose models' scores are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from everfit.decide.bench_options import BenchOptions
from everfit.errors import UsageError
from everfit.replay.advise import Advice, Worth, advise
from everfit.replay.gains import ages, gain, results
from everfit.replay.matrix import Matrix, between, even_cut
from everfit.replay.oracle import best_schedules
from everfit.replay.play import play_bench
from everfit.replay.policies import NAMES, Cusum, Drop, play_policy
from everfit.replay.portrait import Portrait
from tests.unit.replay.histories import ROWS, Formula, cut_of, flip_at, matrix_of, returning, stale, steady

WINDOWS = 60


def portrait(windows: int = WINDOWS, shift_at: int | None = None) -> Portrait:
    rng = np.random.default_rng(0)
    number = rng.normal(size=windows * ROWS)
    if shift_at is not None:
        number[shift_at * ROWS :] += 3
    kind = np.where(np.arange(windows * ROWS) % 2 == 0, "a", "b")
    return Portrait(pl.DataFrame({"number": number, "kind": kind, "same": np.zeros(windows * ROWS)}), cut_of(windows))


def test_never_keeps_the_first_model_and_costs_nothing() -> None:
    matrix, cells = matrix_of(stale)
    played = play_policy("never", matrix, portrait())
    assert (played.runs, played.rows, played.seconds) == (0, 0, 0.0)
    assert cells.asked == [(0, 9)]
    assert played.scores[0] == pytest.approx(stale(0, 9, 10))


@pytest.mark.parametrize("delay, first, runs", [(0, (1, 10), 49), (2, (1, 10), 47)])
def test_every_window_retrains_on_the_newest_labels(delay: int, first: tuple[int, int], runs: int) -> None:
    played = play_policy("every1", matrix_of(stale)[0], portrait(), delay)
    assert played.decisions[0].trained_on == first
    assert played.runs == runs
    assert played.decisions[-1].trained_on == (49 - delay, 58 - delay)
    assert played.rows == runs * 10 * ROWS
    assert played.seconds == pytest.approx(1.5 * runs)


def test_a_model_serves_from_the_window_after_its_training() -> None:
    played = play_policy("every5", matrix_of(stale)[0], portrait())
    assert [each.window for each in played.decisions] == list(range(14, 59, 5))
    assert played.served[4:6] == ((0, 9), (5, 14))
    assert played.scores[5] == pytest.approx(stale(5, 14, 15))


def test_a_failed_training_costs_a_run_and_the_old_model_goes_on() -> None:
    matrix, cells = matrix_of(stale)
    cells.failing.add((5, 14))
    played = play_policy("every5", matrix, portrait())
    assert played.decisions[0].failed == "the rows are odd"
    assert played.served[5] == (0, 9)
    assert matrix.failures() == {(5, 14): "the rows are odd"}


def test_the_bench_goes_on_when_a_training_fails() -> None:
    first = play_bench(matrix_of(stale, noise=0.002)[0]).decisions[0].trained_on
    matrix, cells = matrix_of(stale, noise=0.002)
    cells.failing.add(first)
    played = play_bench(matrix)
    assert first not in played.served
    assert (played.decisions[0].failed, played.decisions[1].failed) == ("the rows are odd", "")
    assert played.decisions[1].trained_on in played.served


def test_the_bench_adapts_to_a_flip_with_rows_since_the_change() -> None:
    matrix, _ = matrix_of(flip_at(30), noise=0.005)
    played = play_bench(matrix)
    alarm = next(each for each in played.decisions if "fell" in each.why)
    assert (alarm.window, alarm.trained_on) == (31, (30, 31))
    assert played.scores[34 - 10 :].mean() > 0.85


def test_the_bench_recalls_a_model_whose_concept_returns() -> None:
    matrix, _ = matrix_of(returning(10), noise=0.005)
    played = play_bench(matrix)
    assert any(b < a for a, b in zip(played.served, played.served[1:], strict=False))  # an older model served again
    assert played.score > play_policy("every1", matrix, portrait()).score


def test_a_stream_that_never_changes_costs_two_runs() -> None:
    runs = [play_bench(matrix_of(steady, 100, 0.01, seed)[0]).runs for seed in range(8)]
    assert np.median(runs) == 2
    assert np.mean(runs) < 3  # a false alarm costs a few


def test_only_what_a_policy_asks_for_is_trained() -> None:
    matrix, cells = matrix_of(steady, windows=100)
    played = play_bench(matrix)
    assert len(cells.asked) == 1 + played.runs


def test_only_windows_that_a_policy_reads_are_scored() -> None:
    matrix, cells = matrix_of(steady)
    play_policy("every5", matrix, portrait())
    assert all(span[1] <= cell[1] + 5 for cell, span in cells.looked)
    before = len(cells.looked)
    play_policy("every5", matrix, portrait())
    play_policy("every10", matrix, portrait())
    assert {span[0] - cell[1] for cell, span in cells.looked[before:]} == {6}  # what is known is not asked again


def test_hindsight_on_large_windows_chooses_of_every_third_model() -> None:
    cut = even_cut(60 * 1001, 60, 10, greater_is_better=True)
    assert (cut.stride, cut_of(60).stride) == (3, 1)
    found = best_schedules(Matrix(Formula(flip_at(30), 60), cut), 0, [2])[0]
    assert all((window - 9) % 3 == 0 for window in found.windows)
    assert found.score > 0.7


def test_windows_that_were_not_looked_at_stand_between_their_neighbours() -> None:
    few = np.array([[np.nan, np.nan], [0.8, 0.8], [np.nan, np.nan], [0.6, 0.6]])
    fresh = np.array([[np.nan, np.nan], [0.8, 0.8], [0.9, 0.9], [0.8, 0.8]])
    assert between(few, fresh, 1)[2].tolist() == pytest.approx([0.8, 0.8])  # 0.1 below the freshest


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_plays_and_says_why(name: str) -> None:
    matrix, _ = matrix_of(flip_at(30), noise=0.005)
    played = play_policy(name, matrix, portrait(shift_at=30), delay=1)
    assert np.isfinite(played.scores).all()
    assert all(each.why for each in played.decisions)


@pytest.mark.parametrize("name", ["ks_any", "psi_any0.2"])
def test_drift_rules_fire_after_the_shift(name: str) -> None:
    matrix, _ = matrix_of(steady)
    played = play_policy(name, matrix, portrait(shift_at=30))
    assert any(each.window == 30 for each in played.decisions)
    assert "number" in next(each.why for each in played.decisions if each.window == 30)


def test_a_drop_is_told_from_the_first_windows() -> None:
    matrix, _ = matrix_of(flip_at(30))
    for rule in ("drop0.05", "cusum0.05"):
        assert play_policy(rule, matrix, portrait()).decisions[0].window == 30
    assert (Drop(0.05).first, Cusum().first) == (3, 3)


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(UsageError, match="'sometimes' is not a policy"):
        play_policy("sometimes", matrix_of(steady)[0], portrait())


def test_the_shortest_budget_binds() -> None:
    matrix, _ = matrix_of(stale, noise=0.002)
    played = play_bench(matrix, options=BenchOptions(budget=0.05))
    assert played.runs <= 0.5 + 0.05 * 50


def test_hindsight_beats_every_fixed_schedule_of_as_many_retrains() -> None:
    matrix, _ = matrix_of(flip_at(30))
    one, four = best_schedules(matrix, 0, [1, 4])
    assert one.windows[0] in range(32, 40)
    assert four.score >= play_policy("every10", matrix, portrait()).score - 1e-9
    assert four.score > one.score


def test_hindsight_earns_no_credit_for_noise() -> None:
    found = [best_schedules(matrix_of(steady, noise=0.05, seed=seed)[0], 0, [10])[0].score for seed in range(12)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.006)  # 3 standard errors; chosen on all rows it is 0.84


def test_where_nothing_can_be_gained_hindsight_is_never_and_luck_stands_beside_it() -> None:
    low, high = [], []
    for seed in range(12):
        matrix, _ = matrix_of(lambda first, last, window: 0.8 - 0.001 * last, noise=0.05, seed=seed)  # newer is worse
        best = best_schedules(matrix, 0, [18])[0]
        never = play_policy("never", matrix, portrait()).score
        low.append(best.score - never)
        high.append(best.at_most - never)
    assert np.mean(low) == pytest.approx(0.0, abs=0.004)
    assert np.mean(high) > 0.005


def test_more_retrains_allowed_are_never_worse_with_luck() -> None:
    found = best_schedules(matrix_of(flip_at(30), noise=0.02)[0], 0, [0, 1, 2, 5, 18])
    assert (np.diff([each.at_most for each in found]) >= 0).all()
    assert all(each.at_most >= each.score for each in found)
    assert (found[0].windows, len(found[1].windows)) == ((), 1)


def test_hindsight_never_uses_a_model_before_its_labels() -> None:
    matrix, _ = matrix_of(flip_at(30))
    assert best_schedules(matrix, 3, [1])[0].windows[0] >= 33


def test_gains_stand_beside_never_and_always() -> None:
    matrix, _ = matrix_of(stale)
    played = {name: play_policy(name, matrix, portrait()) for name in ("never", "every1", "every5")}
    found = {each.name: each for each in results(played, matrix.cut)}
    assert (found["never"].gain, found["every1"].gain) == (0.0, 1.0)
    assert 0 < (found["every5"].gain or 0) < 1
    assert found["every5"].to_dict()["decisions"][0]["trained_on"] == [5, 14]
    assert gain(0.9, 0.8, 0.8) is None


def test_ageing_tells_what_a_window_costs() -> None:
    found = ages(matrix_of(stale)[0])
    assert np.diff(found)[:20] == pytest.approx(-0.01)


def test_a_cut_needs_enough_rows_and_windows() -> None:
    with pytest.raises(UsageError, match="too few"):
        even_cut(100, 60, 10, greater_is_better=True)
    with pytest.raises(UsageError, match="nothing to score"):
        even_cut(1000, 11, 10, greater_is_better=True)


def advice(score: Callable[[int, int, int], float], noise: float, price: float = 0.08) -> Advice:
    matrix, _ = matrix_of(score, 100, noise)
    played = {name: play_policy(name, matrix, portrait(100)) for name in ("everfit", "never", "every1", "every5")}
    return advise(results(played, matrix.cut), matrix.cut, Worth(price))


def test_the_advice_tells_the_gain_on_windows_it_was_not_chosen_on() -> None:
    found = advice(flip_at(30), 0.005)
    assert found.policy == "everfit"
    assert found.helps
    assert found.interval[0] <= found.expected_gain <= found.interval[1]
    assert found.expected_gain == pytest.approx(0.5, abs=0.02)
    assert found == advice(flip_at(30), 0.005)


def test_where_nothing_changes_retraining_does_not_help() -> None:
    assert advice(steady, 0.01).policy == "never"
    assert not advice(steady, 0.01).helps
    assert "does not help" in advice(steady, 0.01).said


def test_dear_runs_are_not_advised() -> None:
    assert advice(stale, 0.005).helps
    assert advice(stale, 0.005, price=50.0).policy == "never"
