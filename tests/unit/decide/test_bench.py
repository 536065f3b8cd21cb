"""The default policy: when to train, on which rows, which kept model serves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from everfit.decide.bench import Bench, Run, Why, next_move
from everfit.decide.bench_options import BenchOptions
from everfit.decide.bench_reads import Member, Rows, ageing, as_points, fall, gain, values
from everfit.errors import UsageError

OPTIONS = BenchOptions()


def bench(now: int, first: float | list[float] = 0.8, delay: int = 0) -> Bench:
    """One model trained on windows 0 to 9 that served ever since, with these scores from window 10 on."""
    scores = np.full((1, now + 1), np.nan)
    scores[0, 10 : now - delay + 1] = np.resize(first, max(0, now - delay - 9))
    served = np.where(np.arange(now + 2) < 10, -1, 0)
    return Bench((Member("1", 0, 9),), (), served, scores, None, np.arange(now + 1) - delay, now)


def joined(facts: Bench, member: Member, scores: dict[int, float], run: Run | None = None) -> Bench:
    """One more model on the bench."""
    row = np.full((1, facts.now + 1), np.nan)
    for window, score in scores.items():
        row[0, window] = score
    runs = (*facts.runs, run) if run else facts.runs
    members = (*facts.members, member)
    return replace(facts, members=members, runs=runs, scores=np.concatenate([facts.scores, row]))


def test_a_fresh_model_is_left_alone() -> None:
    move = next_move(bench(12), OPTIONS)
    assert (move.train, move.serve.place) == (None, 0)


def test_after_the_first_interval_all_rows_are_tried_first() -> None:
    train = next_move(bench(19), OPTIONS).train
    assert train is not None
    assert (train.rows, train.first, train.last, train.why) == (Rows.ALL, 0, 19, Why.INTERVAL)
    assert train.said == "10 windows have passed since the first model, the interval is 10: training on all 20 windows"


def test_rows_without_labels_are_not_trained_on() -> None:
    train = next_move(bench(19, delay=2), OPTIONS).train
    assert train is not None
    assert train.last == 17


def test_a_fall_raises_an_alarm_and_only_rows_since_the_change_are_used() -> None:
    wobble = [0.80, 0.81, 0.79, 0.80, 0.81, 0.79, 0.5, 0.5]
    train = next_move(bench(17, wobble), OPTIONS).train
    assert train is not None
    assert (train.why, train.rows, train.first, train.last, train.change) == (Why.ALARM, Rows.CHANGE, 16, 17, 15)
    assert "fell" in train.said


def test_an_alarm_waits_for_rows_of_the_new_time() -> None:
    move = next_move(bench(16, [0.80, 0.81, 0.79, 0.80, 0.81, 0.79, 0.4]), OPTIONS)
    assert move.train is None
    assert "an alarm is open; labels of 2 windows since the change are needed to train on" in move.because


def test_noise_of_the_windows_raises_no_alarm() -> None:
    rng = np.random.default_rng(0)
    noisy = (0.8 + 0.05 * rng.normal(size=9)).tolist()
    assert next_move(bench(18, noisy), OPTIONS).train is None


def test_without_budget_a_due_run_waits_and_says_how_long() -> None:
    move = next_move(bench(19), OPTIONS.model_copy(update={"budget": 0.04}))
    assert move.train is None
    assert move.because[-1] == "the next run is within budget in 3 windows"


def test_no_run_without_labels_since_the_last_models_rows() -> None:
    move = next_move(bench(19, delay=10), OPTIONS)
    assert move.train is None
    assert "no labels have come" in move.because[-1]


def test_an_alarms_run_is_followed_up_when_fresher_rows_have_come() -> None:
    facts = bench(19, [0.80, 0.81, 0.79, 0.80, 0.81, 0.79, 0.5, 0.5])
    run = Run(17, Why.ALARM, Rows.CHANGE, replaced=0, made=1, change=15)
    move = next_move(joined(facts, Member("2", 16, 17, Rows.CHANGE), {18: 0.7, 19: 0.7}, run), OPTIONS)
    assert move.train is not None
    assert (move.train.why, move.train.rows, move.train.first) == (Why.FOLLOW_UP, Rows.CHANGE, 16)


@pytest.mark.parametrize(
    "score, interval",
    [
        pytest.param(0.95, 5.0, id="a run that paid is followed sooner"),
        pytest.param(0.80, 20.0, id="a run that gained nothing is followed later"),
        pytest.param(0.70, 20.0, id="a run that lost is followed later"),
    ],
)
def test_the_interval_follows_what_runs_gain(score: float, interval: float) -> None:
    run = Run(19, Why.INTERVAL, Rows.ALL, replaced=0, made=1)
    facts = joined(bench(24), Member("2", 0, 19, Rows.ALL), dict.fromkeys(range(20, 25), score), run)
    assert next_move(facts, OPTIONS).interval == interval


def test_runs_in_vain_are_followed_much_later() -> None:
    facts = bench(45)
    for place, window in enumerate((19, 39), start=1):
        run = Run(window, Why.INTERVAL, Rows.ALL, replaced=0, made=place)
        facts = joined(
            facts, Member(str(place + 1), 0, window, Rows.ALL), dict.fromkeys(range(window + 1, 46), 0.8), run
        )
    assert next_move(facts, OPTIONS).interval == 60


def test_a_failed_run_takes_budget_and_is_not_judged() -> None:
    facts = replace(bench(22), runs=(Run(19, Why.INTERVAL, Rows.ALL, replaced=0, made=None),))
    move = next_move(facts, OPTIONS)
    assert move.train is None
    assert move.interval == 10
    assert move.budget == pytest.approx(0.5 + 13 * 0.18 - 1)


def test_a_better_kept_model_serves_without_training() -> None:
    facts = joined(bench(14), Member("old", 0, 5), dict.fromkeys(range(10, 15), 0.9))
    move = next_move(facts, OPTIONS)
    assert move.serve.place == 1
    assert move.train is None
    assert move.serve.said.startswith("model old beats model 1 by ")


def test_a_slightly_better_model_does_not_replace_the_one_that_serves() -> None:
    facts = joined(bench(14), Member("2", 0, 9), dict.fromkeys(range(10, 15), 0.802))
    assert next_move(facts, OPTIONS).serve.place == 0


def test_a_fresh_model_without_a_labelled_window_does_not_serve() -> None:
    facts = joined(bench(19), Member("2", 0, 19), {})
    assert next_move(facts, OPTIONS).serve.place == 0
    assert next_move(facts, OPTIONS.model_copy(update={"proof": 0, "margin": 0.0})).serve.place == 1


def test_facts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="needs scores of shape"):
        next_move(replace(bench(19), served=np.zeros(3, dtype=np.int64)), OPTIONS)


def test_a_gain_is_read_on_windows_that_both_have() -> None:
    scores = np.array([[0.5, np.nan, 0.5, 0.5], [0.6, 0.9, 0.6, 0.6]])
    found = gain(scores, None, 1, 0, (0, 4))
    assert found is not None
    assert (round(found.mean, 6), found.windows) == (0.1, 3)
    assert gain(scores, None, 1, 0, (0, 2)) is None


def test_halves_give_the_noise_of_rows() -> None:
    scores = np.array([[0.5] * 4, [0.6] * 4])
    halves = np.stack([np.full((4, 2), 0.5), np.array([[0.7, 0.5]] * 4)])
    found = gain(scores, halves, 1, 0, (0, 4))
    assert found is not None
    assert found.error == pytest.approx(0.1 / 2)


def test_a_level_is_never_read_after_the_fall_alone() -> None:
    served = np.r_[np.full(8, 0.9), np.full(4, 0.5)] + 0.002 * (-1.0) ** np.arange(12)
    found = fall(served, None, [-1, 7], OPTIONS)  # a run at window 7, just before the fall
    assert found is not None
    assert found.level > 0.85
    assert found.change == 7


def test_the_range_that_scores_better_at_equal_age_leads() -> None:
    members = (Member("1", 0, 9), Member("2", 0, 14, Rows.ALL), Member("3", 10, 19, Rows.RECENT))
    scores = np.full((3, 26), np.nan)
    for place, (member, level) in enumerate(zip(members, (0.7, 0.6, 0.8), strict=True)):
        scores[place, member.last + 1 :] = level
    found = ageing(scores, members, 25, OPTIONS)
    assert found.leader is Rows.RECENT
    assert found.all_over_recent < 0


def test_values_are_relative_to_the_serving_model_and_recent_windows_weigh_more() -> None:
    members = (Member("1", 0, 9), Member("2", 0, 9))
    scores = np.full((2, 20), np.nan)
    scores[0, 10:] = 0.8
    scores[1, 10:] = np.r_[np.full(5, 0.9), np.full(5, 0.7)]  # was better, is worse
    known = ageing(scores, members, 19, OPTIONS)
    found = values(scores, members, 0, 19, (known, OPTIONS))
    assert found[0] == 0
    assert found[1] < 0


def test_a_loss_becomes_a_share_saved() -> None:
    assert as_points(2.0, greater_is_better=False, unit=8.0) == 0.75
