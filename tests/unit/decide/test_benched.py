"""What the bench asks of the policy, and what holds it back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from everfit.decide.bench import Bench, Why
from everfit.decide.bench_options import BenchOptions
from everfit.decide.bench_reads import Member, Rows
from everfit.decide.decision import AskHuman, BenchRun, Decision, FixData, Recall, Retrain, Wait
from everfit.decide.history import FleetRecord, History, Question, RecallRecord, RunRecord
from everfit.decide.options import (
    Budget,
    Deciding,
    Fleet,
    Freeze,
    OnAll,
    OnBench,
    OnRows,
    Rules,
    Trigger,
    Worth,
    read_rules,
    write_rules,
)
from everfit.decide.policy import decide
from everfit.detect.signal import Alarm, Signal
from tests.unit.builders import DAY, START, history, run, window

NOW = START + 40 * DAY
BENCH = OnBench(name="bench", bench=True)
TENTH = BenchOptions(every=1)


def bench(now: int = 19, *, old: float = 0.80, fresh: float = 0.0, **changes: Any) -> Bench:
    """The champion c1 of windows 0 to 9 serves; c2 was trained at window 12, where it is there at all."""
    members: tuple[Member, ...] = (Member("c1", 0, 9, name="version 1"),)
    scores = np.full((2 if fresh else 1, now + 1), np.nan)
    scores[0, 10:] = old
    if fresh:
        members = (*members, Member("c2", 0, 12, Rows.ALL, "version 2"))
        scores[1, 13:] = fresh
    served = np.r_[np.full(10, -1), np.zeros(now - 8, dtype=np.int64)]
    facts = Bench(members, (), served, scores, None, np.arange(now + 1), now, labelled=np.full(now + 1, 100))
    return replace(facts, **changes)


def asked(past: History, *triggers: Trigger, rows: Any = None, least: int = 0, **limits: Any) -> Decision:
    """What the policy says."""
    rules = Rules(triggers or (BENCH,), Deciding(**limits), "roc_auc", 700, rows=rows, least_rows=least)
    return decide(past, rules, NOW)


def fallen(now: int = 22, at: int = 20, rows: int = 100) -> Bench:
    """The score falls from window `at` + 1 on."""
    facts = bench(now)
    scores = facts.scores.copy()
    scores[0, 10 : at + 1] += 0.001 * (-1.0) ** np.arange(at - 9)
    scores[0, at + 1 :] = 0.4
    return replace(facts, scores=scores, labelled=np.full(now + 1, rows))


# ---- a run -----------------------------------------------------------------------------------------------------------
def test_the_interval_asks_for_a_run_on_rows_that_the_bench_names() -> None:
    decision = asked(history(bench=bench()))
    assert isinstance(decision, Retrain)
    assert decision.bench == BenchRun(19, Why.INTERVAL, Rows.ALL, 0, 19, "c1", None, None)
    assert decision.because[0].said.startswith("10 windows have passed since the first model, the interval is 10")
    assert (decision.because[0].value, decision.because[0].limit) == (10, 10)


def test_a_fall_asks_for_a_run_on_rows_since_the_change() -> None:
    decision = asked(history(bench=fallen()))
    assert isinstance(decision, Retrain)
    assert decision.bench is not None
    assert (decision.bench.why, decision.bench.rows, decision.bench.change) == (Why.ALARM, Rows.CHANGE, 20)
    assert (decision.bench.first, decision.bench.last) == (21, 22)
    assert decision.because[0].said.startswith("the score fell")
    assert decision.because[0].value > decision.because[0].limit  # type: ignore[operator]  # of an alarm both are there


def test_it_waits_for_as_many_rows_since_the_change_as_anything_is_trained_on() -> None:
    decision = asked(history(bench=fallen(rows=40)), least=100)
    assert isinstance(decision, Wait)
    assert decision.because[0].said.endswith("it waits: 80 labelled rows since the change, 100 needed")
    assert isinstance(asked(history(bench=fallen(rows=50)), least=100), Retrain)


def test_the_same_window_never_asks_twice_and_the_next_one_does() -> None:
    first = asked(history(bench=bench()))
    assert isinstance(first, Retrain)
    begun = RunRecord("renew-9", NOW, frozenset({first.because[0].evidence}), NOW, "failed", bench=first.bench)
    again = asked(history(bench=bench(), runs=(begun,)))
    assert isinstance(again, Wait)
    assert again.because[0].said == "what the bench asked for at window 19 was answered by renew-9"
    assert isinstance(asked(history(bench=bench(20), runs=(begun,))), Retrain)


@pytest.mark.parametrize(
    "limits, waits",
    [
        pytest.param({}, None, id="its own budget and interval suffice"),
        pytest.param({"cool_down": timedelta(hours=6)}, "cool_down", id="a rest that the spec sets"),
        pytest.param({"budget": Budget(runs=1)}, "budget", id="a budget that the spec sets"),
        pytest.param({"freeze": (Freeze(**{"from": START, "to": NOW + DAY}),)}, "freeze", id="a freeze"),
        pytest.param({"worth": Worth(unit_value=0.001, run_cost=1000)}, None, id="worth, where no loss is known"),
    ],
)
def test_limits(limits: dict[str, Any], waits: str | None) -> None:
    past = history(bench=bench(), runs=(run(1, "benched", at=NOW - timedelta(hours=1)),))
    decision = asked(past, **limits)
    if waits is None:
        assert isinstance(decision, Retrain)
    else:
        assert isinstance(decision, Wait)
        assert decision.because[0].trigger == waits


def test_a_budget_of_all_models_holds_it_back() -> None:

    decision = asked(history(bench=bench(), fleet=FleetRecord(3)), fleet=Fleet(runs=3))
    assert (decision.kind, decision.because[0].trigger) == ("wait", "fleet")


def test_broken_rows_are_not_trained_on_and_nothing_is_recalled_on_them() -> None:
    broken = Alarm(Signal("quality.nulls", "hour", 0.9, 900, effect=0.9), 0.2, "quality", "hour is 90% null")
    past = history(*(window(number, alarms=(broken,)) for number in range(3)), bench=bench(fresh=0.9))
    assert isinstance(asked(past), FixData)


def test_a_person_is_asked_first_where_the_spec_says_so_and_the_run_is_that_of_the_bench() -> None:
    question = asked(history(bench=bench()), approve=("retrain",))
    assert isinstance(question, AskHuman)
    assert question.bench is not None
    evidence = frozenset(reason.evidence for reason in question.because)
    open_ = Question(question.question, evidence, ("bench",), question.bench)
    yes = asked(history(bench=bench(), question=open_, answered={question.question: True}), approve=("retrain",))
    assert isinstance(yes, Retrain)
    assert yes.bench == question.bench


def test_rows_of_the_spec_count_and_are_told() -> None:
    decision = asked(history(bench=fallen()), rows="all", least=10_000)
    assert isinstance(decision, Retrain)
    assert decision.bench is not None
    assert (decision.bench.rows, decision.bench.first) == (Rows.ALL, 0)
    assert "the spec's (train.rows: all)" in decision.because[0].said


def test_it_may_stand_among_other_conditions() -> None:
    both = OnAll(name="both", all=(OnBench(bench=True), OnRows(new_rows=100)))
    assert isinstance(asked(history(bench=bench(), rows=50), both), Wait)
    decision = asked(history(bench=bench(), rows=200), both)
    assert isinstance(decision, Retrain)
    assert decision.bench is not None
    assert {reason.trigger for reason in decision.because} == {"both"}


def test_a_run_of_another_trigger_holds_rows_out() -> None:
    decision = asked(history(bench=bench(12), rows=200), OnRows(name="volume", new_rows=100))
    assert isinstance(decision, Retrain)
    assert decision.bench is None


def test_the_rules_are_kept_with_what_the_bench_rests_on() -> None:
    rules = Rules((BENCH,), Deciding(bench=TENTH), "roc_auc", 700, rows="last", least_rows=500)
    assert read_rules(write_rules(rules)) == rules


# ---- a recall --------------------------------------------------------------------------------------------------------
def test_the_better_model_is_recalled_before_anything_is_trained() -> None:
    decision = asked(history(bench=bench(fresh=0.85)))
    assert isinstance(decision, Recall)
    assert decision.candidate == "c2"
    assert decision.because[0].said.startswith("version 2 beats version 1 by 3.")
    assert decision.because[0].value > 0.03  # type: ignore[operator]  # a recall has a value
    begun = RecallRecord("recall-1", NOW, "c2", 19, 7, frozenset({decision.because[0].evidence}))
    then = asked(history(bench=bench(fresh=0.85), recalls=(begun,)))
    assert isinstance(then, Retrain)  # of the same look: a run of the bench does not wait for the recall


@pytest.mark.parametrize(
    "changes, said",
    [
        pytest.param({"paused": True}, "a person paused this model", id="paused"),
        pytest.param({"releasing": "release-7"}, "release-7 is under way", id="a release"),
        pytest.param({"going_back": "release-back-7"}, "release-back-7 is under way", id="a way back"),
        pytest.param({"runs": (run(7, "running"),)}, "renew-7 is under way", id="a run that ends in a judge"),
    ],
)
def test_nothing_is_recalled_while_who_serves_may_change(changes: dict[str, Any], said: str) -> None:
    decision = asked(history(bench=bench(16, fresh=0.85), **changes))
    assert isinstance(decision, Wait)
    waiting = next(reason for reason in decision.because if reason.trigger == "recall")
    assert waiting.said.startswith("version 2 beats version 1")
    assert said in waiting.said
    assert waiting.evidence == ""


def test_a_run_of_the_bench_does_not_hold_a_recall_back() -> None:
    training = replace(run(7, "running"), bench=BenchRun(15, Why.INTERVAL, Rows.ALL, 0, 15, "c1"))
    assert isinstance(asked(history(bench=bench(16, fresh=0.85), runs=(training,))), Recall)


def test_a_run_that_ends_in_a_judge_waits_for_a_release_and_a_run_of_the_bench_does_not() -> None:
    volume = OnRows(name="volume", new_rows=100)
    waiting = asked(history(bench=bench(12), rows=200, releasing="release-7"), volume)
    assert (waiting.kind, waiting.because[0].trigger) == ("wait", "releasing")
    assert isinstance(asked(history(bench=bench(), releasing="release-7")), Retrain)


@pytest.mark.parametrize(
    "limits, facts",
    [
        pytest.param({"bench": BenchOptions(recall=False)}, {}, id="switched off"),
        pytest.param({"bench": BenchOptions(margin=0.2)}, {}, id="within the margin"),
        pytest.param({}, {"barred": frozenset({1})}, id="barred"),
    ],
)
def test_the_champion_stays(limits: dict[str, Any], facts: dict[str, Any]) -> None:
    decision = asked(history(bench=bench(16, fresh=0.85, **facts)), **limits)
    assert isinstance(decision, Wait)
    assert "recall" not in {reason.trigger for reason in decision.because}


def test_a_freeze_holds_a_recall_back() -> None:
    decision = asked(history(bench=bench(16, fresh=0.85)), freeze=(Freeze(**{"from": START, "to": NOW + DAY}),))
    assert isinstance(decision, Wait)
    assert "it waits: nothing is retrained before" in decision.because[-1].said


def test_it_says_nothing_of_a_champion_that_came_since() -> None:
    past = history(bench=bench(16, fresh=0.85))
    assert past.champion is not None
    decision = asked(replace(past, champion=replace(past.champion, candidate="c9")))
    assert isinstance(decision, Wait)
