"""Decisions: a table of cases that reads like a specification."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from everfit.decide.decision import AskHuman, Decision, FixData, Retrain, Wait
from everfit.decide.history import Heard, History, Question
from everfit.decide.options import (
    Budget,
    Deciding,
    DriftAbove,
    Freeze,
    OnAlarm,
    OnAll,
    OnAny,
    OnBench,
    OnDrift,
    OnEvent,
    OnLabels,
    OnPerformance,
    OnRows,
    OnSchedule,
    PerformanceDrop,
    Trigger,
)
from everfit.decide.policy import Rules, decide, default_triggers
from everfit.detect.signal import Alarm, Signal
from tests.unit.builders import DAY, START, champion, day, history, run, window

NOW = START + 10 * DAY
DECAY = OnPerformance(name="decay", performance=PerformanceDrop(drop=0.02))
MOVED = Alarm(Signal("drift.psi", "origin", 0.4, 900, effect=0.38), 0.1, "drift", "origin moved")
BROKEN = Alarm(Signal("quality.nulls", "wind", 0.9, 900), 0.2, "quality", "wind is 90% null")
LIMITS = Deciding(cool_down=6 * timedelta(hours=1), budget=Budget(runs=3, per=30 * DAY))


def decided(past: History, *triggers: Trigger, limits: Deciding = LIMITS, now: datetime = NOW) -> Decision:
    return decide(past, Rules(triggers, limits, "roc_auc", 700), now)


@pytest.mark.parametrize(
    "past, triggers, expected",
    [
        pytest.param(history(window(0, 0.75)), (DECAY,), Wait, id="no loss waits"),
        pytest.param(history(window(0, 0.72)), (DECAY,), Retrain, id="a proven loss retrains"),
        pytest.param(history(window(0, 0.735)), (DECAY,), Wait, id="a loss below the line waits"),
        pytest.param(history(window(0)), (DECAY,), Wait, id="immature windows say nothing"),
        pytest.param(history(window(0, 0.5, champion="c0")), (DECAY,), Wait, id="another champion's windows do not count"),
        pytest.param(
            history(window(0, 0.72), champion=champion(since=START + DAY)), (DECAY,), Wait, id="a window it did not serve whole"
        ),
        pytest.param(
            history(window(0, 0.72), window(1, 0.75)),
            (OnPerformance(name="d", performance=PerformanceDrop(), windows=2),),
            Wait,
            id="two in a row are asked for and one held",
        ),
        pytest.param(
            history(window(0, 0.72), window(1, 0.71)),
            (OnPerformance(name="d", performance=PerformanceDrop(), windows=2),),
            Retrain,
            id="two in a row held",
        ),
        pytest.param(
            history(window(0, 0.60), window(1, 0.86)),
            (OnPerformance(name="d", performance=PerformanceDrop(mean_of=2, drop=0.01)),),
            Wait,
            id="windows that differ by more than the loss are no proof of it",
        ),
        pytest.param(
            history(window(0, alarms=(MOVED,))), (OnDrift(name="d", drift=DriftAbove(above=0.2)),), Retrain, id="drift above"
        ),
        pytest.param(
            history(window(0, alarms=(MOVED,))), (OnDrift(name="d", drift=DriftAbove(above=0.5)),), Wait, id="drift below"
        ),
        pytest.param(
            history(window(0, alarms=(MOVED,))),
            (OnDrift(name="d", drift=DriftAbove(columns=("wind",))),),
            Wait,
            id="drift of a column that is not meant",
        ),
        pytest.param(
            history(window(0, 0.72, alarms=(MOVED,))), (OnAll(name="a", all=(DECAY, OnDrift(drift=DriftAbove()))),), Retrain,
            id="all of two hold",
        ),
        pytest.param(
            history(window(0, 0.72)), (OnAll(name="a", all=(DECAY, OnDrift(drift=DriftAbove()))),), Wait, id="one of all holds"
        ),
        pytest.param(
            history(window(0, 0.72)), (OnAny(name="a", any=(DECAY, OnDrift(drift=DriftAbove()))),), Retrain, id="one of any holds"
        ),
        pytest.param(history(labels=100, labels_at_last_run=40), (OnLabels(name="v", new_labels=60),), Retrain, id="labels came"),
        pytest.param(history(labels=99, labels_at_last_run=40), (OnLabels(name="v", new_labels=60),), Wait, id="too few labels"),
        pytest.param(history(rows=60), (OnRows(name="v", new_rows=60),), Retrain, id="rows came"),
        pytest.param(
            history(heard=(Heard("launch", "k", NOW, "crm"),)), (OnEvent(name="l", event="launch"),), Retrain, id="an event"
        ),
        pytest.param(
            history(heard=(Heard("launch", "k", NOW, "crm"),)), (OnEvent(name="l", event="sale"),), Wait, id="another event"
        ),
        pytest.param(
            history(runs=(run(1, at=START),)), (OnSchedule(name="w", schedule="0 2 * * 0"),), Retrain, id="a Sunday has passed"
        ),
        pytest.param(
            history(runs=(run(1, at=NOW - DAY),)), (OnSchedule(name="w", schedule="0 2 1 * *"),), Wait, id="the first is not yet"
        ),
        pytest.param(history(window(0, 0.72, alarms=(BROKEN,))), (DECAY,), FixData, id="broken data come before everything"),
        pytest.param(history(window(0, 0.72), paused=True), (DECAY,), Wait, id="paused waits"),
        pytest.param(history(window(0, 0.72), runs=(run(1, "running"),)), (DECAY,), Wait, id="one run at a time"),
        pytest.param(history(window(0, 0.72), runs=(run(1, at=NOW),)), (DECAY,), Wait, id="too soon after a run waits"),
        pytest.param(
            history(window(0, 0.72), runs=tuple(run(i, at=NOW - DAY) for i in range(3))), (DECAY,), Wait, id="the budget is spent"
        ),
        pytest.param(
            history(window(0, 0.72), runs=(run(1, "kept_back", at=NOW - 10 * timedelta(hours=1)),)), (DECAY,), Wait,
            id="the rest is doubled after a candidate was kept back",
        ),
        pytest.param(
            history(window(0, 0.72), runs=(run(1, "promoted", at=NOW - 10 * timedelta(hours=1)),)), (DECAY,), Retrain,
            id="the rest is not doubled after a promotion",
        ),
        pytest.param(
            history(runs=(run(1, at=NOW),), asked=(Heard("I know better", "k", NOW, "ada"),)), (), Retrain,
            id="a person's wish passes every limit",
        ),
        pytest.param(
            history(runs=(run(1, evidence="k"),), asked=(Heard("I know better", "k", NOW, "ada"),)), (), Wait,
            id="a wish is granted once",
        ),
        pytest.param(History("m", labels=700), (), Retrain, id="enough labelled rows make the first champion"),
        pytest.param(History("m", labels=699), (), Wait, id="too few labelled rows wait"),
    ],
)  # fmt: skip
def test_decide(past: History, triggers: tuple[Trigger, ...], expected: type) -> None:
    decision = decided(past, *triggers)
    assert isinstance(decision, expected), decision
    assert all(reason.said for reason in decision.because)


def test_the_same_evidence_never_causes_two_runs() -> None:
    past = history(window(0, 0.72))
    (reason,) = decided(past, DECAY).because
    assert isinstance(decided(history(window(0, 0.72), runs=(run(1, evidence=reason.evidence),)), DECAY), Wait)


def test_a_freeze_waits_and_its_end_does_not() -> None:
    limits = Deciding(freeze=(Freeze(since=START, to=NOW),))
    past = history(window(0, 0.72))
    assert isinstance(decided(past, DECAY, limits=limits, now=NOW - DAY), Wait)
    assert isinstance(decided(past, DECAY, limits=limits, now=NOW), Retrain)


def test_a_person_is_asked_once_and_their_word_counts() -> None:
    limits = Deciding(approve=("retrain",))
    past = history(window(0, 0.72))
    asked = decided(past, DECAY, limits=limits)
    assert isinstance(asked, AskHuman)
    question = Question(asked.question, frozenset(reason.evidence for reason in asked.because))
    open_ = history(window(0, 0.72), window(1, 0.70), question=question)
    again = decided(open_, DECAY, limits=limits)
    assert isinstance(again, AskHuman)
    assert again.question == asked.question
    yes = history(window(0, 0.72), question=question, answered={asked.question: True})
    assert isinstance(decided(yes, DECAY, limits=limits), Retrain)
    no = history(window(0, 0.72), question=question, answered={asked.question: False}, refused=question.evidence)
    assert isinstance(decided(no, DECAY, limits=limits), Wait)


def test_the_default_trigger_is_the_bench_which_says_nothing_before_it_is_scored() -> None:
    (trigger,) = default_triggers()
    assert isinstance(trigger, OnBench)
    answer = decided(history(window(0, 0.72)), trigger)
    assert isinstance(answer, Wait)
    assert [reason.said for reason in answer.because] == ["no window of the bench has mature labels yet"]


def test_a_calibrated_alarm_of_performance_is_a_trigger_for_every_metric() -> None:
    decay = OnAlarm(name="decay", alarm="performance")
    alarm = Alarm(Signal("performance.roc_auc", "*", 0.66, 800), 0.7, "performance", "roc_auc fell for certain")
    fell = replace(window(4, 0.66), mature_alarms=(alarm,))
    (reason,) = decided(history(*(window(i, 0.74) for i in range(4)), fell), decay).because
    assert (reason.trigger, reason.said) == ("decay", "roc_auc fell for certain")
    assert isinstance(decided(history(window(0, 0.60)), decay), Wait)


def test_a_missed_schedule_counts_once() -> None:
    weekly = OnSchedule(name="w", schedule="0 2 * * 0")
    past = history(runs=(run(1, at=START),))
    (reason,) = decided(past, weekly, now=START + 40 * DAY).because
    assert datetime(2013, 3, 10, 2, tzinfo=UTC).strftime("%Y-%m-%d %H:%M") in reason.said
    assert day(0).start == START
