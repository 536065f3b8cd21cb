"""Decay is found for every metric, told in words, and never claimed from too little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from everfit.detect.catalogue import METRICS, Metric, metric_from, metric_named
from everfit.detect.decay import (
    Baseline,
    Counted,
    Decay,
    Evidence,
    Seasons,
    advance,
    advance_losses,
    counted,
    learn,
    learn_levels,
    learn_losses,
    smallest_drop,
)
from everfit.detect.options import FunctionMetric, ProfitMetric
from everfit.detect.outcomes import Floats, Outcomes
from everfit.detect.proven import level_of, worse_upward
from everfit.detect.signal import NotEnough

RATE = 1 / 365


def window(task: str, seed: int, *, broken: float = 0.0, rows: int = 400) -> Outcomes:
    """A window of a fair model; broken: this share of its predictions belongs to other rows."""
    chance = np.random.default_rng([seed, rows])
    if task == "regression":
        truth = chance.normal(50, 5, rows)
        scores = (truth + chance.normal(0, 2, rows))[:, None]
        classes: tuple[str, ...] = ()
    else:
        classes = ("a", "b") if task == "binary" else ("a", "b", "c")
        raw = chance.dirichlet(np.full(len(classes), 0.7), rows)
        truth = np.array([chance.choice(len(classes), p=row) for row in raw])
        scores = raw
    lost = chance.random(rows) < broken
    scores = np.where(lost[:, None], np.roll(scores, 1, axis=0), scores)
    return Outcomes(truth, scores, classes, "b" if task == "binary" else None, task, np.arange(rows) // 20)


HEALTHY = {task: [window(task, seed) for seed in range(30)] for task in ("binary", "multiclass", "regression")}
LATER = {task: [window(task, seed) for seed in range(30, 50)] for task in HEALTHY}
BROKEN = {task: [window(task, seed, broken=0.7) for seed in range(30, 37)] for task in HEALTHY}


def flips(chance: np.random.Generator, rows: int, rate: float) -> Floats:
    return (chance.random(rows) < rate).astype(np.float64)


def first(errors: int) -> Counted:
    """200 rows, the first of them errors."""
    return counted((np.arange(200) < errors).astype(np.float64))


def baseline_of(metric: Metric | str, windows: list[Outcomes], **options: float) -> Baseline:
    found = learn(metric, windows, **options)  # type: ignore[arg-type]  # one option of several types
    assert isinstance(found, Baseline), found.said
    return found


def follow(metric: Metric | str, baseline: Baseline, windows: list[Outcomes], rate: float = RATE) -> list[Evidence]:
    state, found = Decay(), []
    for outcomes in windows:
        state, evidence = advance(state, baseline, metric, outcomes, rate)
        found.append(evidence)
    return found


CASES = [
    pytest.param(metric, task, id=f"{metric.name} of {task}") for metric in METRICS.values() for task in metric.tasks
]
PROFIT = metric_from(ProfitMetric.model_validate({"profit": {"tp": 5, "fp": -1, "fn": -3, "tn": 0}}))
MINE = metric_from(
    FunctionMetric(function="train:mine"), {"train:mine": lambda truth, said: float((truth == (said > 0.5)).mean())}
)


@pytest.mark.parametrize(
    ("metric", "task"), [*CASES, pytest.param(PROFIT, "binary", id="profit"), pytest.param(MINE, "binary", id="mine")]
)
def test_every_metric_is_watched(metric: Metric, task: str) -> None:
    baseline = baseline_of(metric, HEALTHY[task])
    quiet, loud = follow(metric, baseline, LATER[task]), follow(metric, baseline, BROKEN[task])
    assert not any(evidence.alarm for evidence in quiet)
    assert any(evidence.alarm for evidence in loud)
    first = next(evidence for evidence in loud if evidence.alarm)
    assert first.metric == metric.name
    assert first.said.startswith(f"{metric.name} ")
    assert "decay" in first.said
    assert smallest_drop(metric, baseline, RATE) > 0
    again = TypeAdapter(Baseline).validate_json(TypeAdapter(Baseline).dump_json(baseline))
    assert again == baseline
    assert follow(metric, again, BROKEN[task]) == loud


def test_which_metrics_are_watched_by_rows() -> None:
    by_rows = {name for name in METRICS if name != "pinball" for task in METRICS[name].tasks
               if baseline_of(name, HEALTHY[task]).unit == "rows"}  # fmt: skip
    assert by_rows == {"accuracy", "precision", "recall", "log_loss", "brier", "mae", "rmse", "mape"}
    assert baseline_of("precision", HEALTHY["multiclass"]).unit == "windows"


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_better_is_never_an_alarm(metric: str) -> None:
    worse = [window("binary", seed, broken=0.3) for seed in range(30)]
    assert not any(e.alarm for e in follow(metric, baseline_of(metric, worse), LATER["binary"]))


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_too_few_windows_or_rows_are_not_enough(metric: str) -> None:
    few = learn(metric, HEALTHY["binary"][:4])
    assert isinstance(few, NotEnough)
    assert few.said == f"decay of {metric}: 4 held-out windows with labels, 5 needed"
    thin = learn(metric, [window("binary", seed, rows=12) for seed in range(6)])
    assert isinstance(thin, NotEnough)
    assert "rows that count, 100 needed" in thin.said
    assert isinstance(learn(metric, []), NotEnough)
    assert baseline_of(metric, HEALTHY["binary"][:8]).learning == "8 of 30 healthy windows"
    assert baseline_of(metric, HEALTHY["binary"]).learning is None


@pytest.mark.parametrize("metric", ["recall", "roc_auc"])
def test_a_window_that_does_not_define_the_metric_changes_nothing(metric: str) -> None:
    baseline = baseline_of(metric, HEALTHY["binary"])
    state, _ = advance(Decay(), baseline, metric, BROKEN["binary"][0], 1e-12)
    one = BROKEN["binary"][0]
    after, evidence = advance(state, baseline, metric, replace(one, truth=np.zeros_like(one.truth)), 1e-12)
    assert after == state
    assert (evidence.alarm, evidence.level) == (False, None)
    assert "not defined" in evidence.said


def test_a_quiet_window_says_what_would_have_been_found() -> None:
    few, many = (baseline_of("accuracy", HEALTHY["binary"][:some]) for some in (8, 30))
    said = [follow("accuracy", baseline, LATER["binary"][:1])[0].said for baseline in (few, many)]
    assert all("would be found within 7 windows in 4 of 5 cases" in each for each in said)
    assert said[0].endswith("learning: 8 of 30 healthy windows")
    assert "learning" not in said[1]
    assert smallest_drop("accuracy", few, RATE) > smallest_drop("accuracy", many, RATE) > 0


def test_evidence_starts_again_after_an_alarm() -> None:
    baseline, state = baseline_of("accuracy", HEALTHY["binary"]), Decay()
    for outcomes in BROKEN["binary"]:
        state, evidence = advance(state, baseline, "accuracy", outcomes, RATE)
        assert (state == Decay()) is evidence.alarm


def test_a_slow_decay_is_found_that_no_window_shows() -> None:
    """Errors rise from 10 to 13 percent: 2 standard errors of a window of 400 rows."""
    chance = np.random.default_rng(5)
    learnt = learn_losses("errors", [counted(flips(chance, 400, 0.10)) for _ in range(60)])
    assert isinstance(learnt, Baseline)
    state, alarms = Decay(), []
    for number in range(40):
        state, evidence = advance_losses(state, learnt, counted(flips(chance, 400, 0.13)), RATE)
        alarms += [(number, evidence)] if evidence.alarm else []
    assert alarms
    assert alarms[0][1].p_value > RATE / 8, "the window alone did not show it"


def test_seasons_are_learned_from_three_cycles() -> None:
    chance = np.random.default_rng(6)
    days = [counted(flips(chance, 1000, 0.2 if day % 7 > 4 else 0.1)) for day in range(42)]
    plain, weekly = learn_losses("errors", days), learn_losses("errors", days, seasons=Seasons(7))
    few = learn_losses("errors", days[:20], seasons=Seasons(7))
    assert isinstance(plain, Baseline)
    assert isinstance(weekly, Baseline)
    assert isinstance(few, Baseline)
    assert len(few.offsets) == 1
    assert weekly.phi < 2
    assert plain.phi > 10
    bad_monday = counted(flips(chance, 1000, 0.2))
    assert advance_losses(Decay(), weekly, bad_monday, RATE, 42)[1].alarm
    assert not advance_losses(Decay(), weekly, bad_monday, RATE, 47)[1].alarm
    shifted = learn_losses("errors", days, seasons=Seasons(7, tuple(range(3, 45))))
    assert isinstance(shifted, Baseline)
    assert shifted.offsets == pytest.approx(np.roll(weekly.offsets, 3))


def test_a_champion_without_errors_is_not_held_to_never_err() -> None:
    none = counted(np.zeros(200))
    learnt = learn_losses("errors", [none] * 20)
    assert isinstance(learnt, Baseline)
    state = Decay()
    for number in range(100):
        state, evidence = advance_losses(state, learnt, first(1 if number == 50 else 0), RATE)
        assert not evidence.alarm
    assert advance_losses(state, learnt, first(20), RATE)[1].alarm


def test_windows_of_other_sizes_count_for_what_they_are() -> None:
    baseline = baseline_of("roc_auc", HEALTHY["binary"])
    small = [window("binary", seed, rows=40) for seed in range(100, 160)]
    assert sum(e.alarm for e in follow("roc_auc", baseline, small)) == 0
    learnt = learn_losses(
        "errors", [counted(np.repeat([0.0, 1.0], [900 - d, 100 + d])) for d in (0, 40, -40, 20, -20) * 6]
    )
    assert isinstance(learnt, Baseline)
    assert learnt.phi > 5
    large = counted(np.repeat([0.0, 1.0], [86_000, 14_000]))  # a day like the worst healthy one, with more rows
    assert not advance_losses(Decay(), learnt, large, RATE)[1].alarm


def test_the_proved_bet_on_means_is_slower_and_alarms_too() -> None:
    chance = np.random.default_rng(7)
    healthy = [counted(flips(chance, 1000, 0.1)) for _ in range(30)]
    learnt = learn_losses("errors", healthy, proved=True)
    assert isinstance(learnt, Baseline)
    state, alarms = Decay(), []
    for number in range(60):
        state, evidence = advance_losses(state, learnt, counted(flips(chance, 1000, 0.15)), RATE)
        alarms += [number] if evidence.alarm else []
    assert alarms
    assert 5 < alarms[0] < 40


@pytest.mark.parametrize("name", [*METRICS, "pinball@0.9"])
def test_levels_go_to_the_worse_upward_scale_and_back(name: str) -> None:
    metric = metric_named(name)
    low, high = (worse_upward(metric, value) for value in (0.3, 0.6))
    assert (low > high) is metric.greater_is_better
    assert level_of(metric, low) == pytest.approx(0.3)


def test_equal_windows_are_no_evidence() -> None:
    learnt = learn_levels("x", np.full(20, 0.4), np.full(20, 100.0))
    assert isinstance(learnt, Baseline)
    one = window("binary", 1)
    baseline = baseline_of("accuracy", [one] * 20)
    evidence = follow("accuracy", baseline, [one] * 50)[-1]
    assert evidence.value < 50
    assert evidence.p_value == pytest.approx(0.5, abs=0.01)
