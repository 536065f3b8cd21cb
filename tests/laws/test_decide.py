"""Laws of decisions, on random histories: total, the same each time, and no run that should not be."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from everfit.app.explain import rerun_decision
from everfit.decide.again import difference
from everfit.decide.bench import Bench, Run, Why
from everfit.decide.bench_reads import Member, Rows
from everfit.decide.decision import AskHuman, Decision, FixData, Recall, Retrain, RollBack, Wait
from everfit.decide.history import Heard, History, Question, RunRecord, WindowRecord
from everfit.decide.look import Sight
from everfit.decide.options import (
    Deciding,
    DriftAbove,
    EstimatedDrop,
    Freeze,
    OnAge,
    OnAlarm,
    OnAll,
    OnAny,
    OnBench,
    OnDrift,
    OnErrors,
    OnEstimated,
    OnEvent,
    OnFunction,
    OnLabels,
    OnNewData,
    OnPerformance,
    OnRows,
    OnSchedule,
    OnScore,
    PerformanceDrop,
    Repeated,
    Rules,
    ScoreWeights,
    Trigger,
    Worth,
)
from everfit.decide.policy import decide
from everfit.decide.triggers import look
from everfit.detect.signal import Alarm, NotEnough, Reading, Signal
from everfit.facts import (
    Decided,
    Fact,
    Paused,
    RenewBegan,
    RenewEnded,
    Resumed,
    RetrainAsked,
    WindowClosed,
    WindowMatured,
)
from everfit.fold import fold
from everfit.ledger import Entry, sealed
from everfit.retrain.recipe import LakeVersion
from everfit.standing import run_of
from tests.examples import examples
from tests.unit.builders import DAY, START, candidate, chained, champion, day, going_live, training

NOW = START + 30 * DAY
UNKNOWN = OnFunction(name="unknown", function="f:unknown")  # never loaded, so never known

# ---- random facts ----------------------------------------------------------------------------------------------------
values = st.sampled_from((0.60, 0.70, 0.72, 0.74, 0.75, 0.80))
few = NotEnough("performance.roc_auc", "*", 5, 200)
loss = Alarm(Signal("performance.roc_auc", "*", 0.6, 800), 0.7, "performance", "roc_auc fell")
moved = Alarm(Signal("drift.psi", "hour", 0.4, 900, effect=0.39, p_value=1e-9), 0.1, "drift", "hour moved")
broken = Alarm(Signal("quality.nulls", "hour", 0.9, 900, effect=0.9), 0.2, "quality", "hour is 90% null")


@st.composite
def windows(draw: st.DrawFn, number: int) -> WindowRecord:
    """A window of a day: whole or broken, drifted or not, mature or not, with or without enough labels."""
    psi: Reading = Signal("drift.psi", "hour", 0.01, 900, effect=draw(st.floats(0, 0.3)), p_value=0.5)
    readings = (
        psi,
        Signal("estimated.roc_auc", "*", draw(values), 900, 0.5, 0.9),
        Signal("serve.errors", "*", 0.01, 900),
    )
    alarms = tuple(draw(st.lists(st.sampled_from((moved, moved, broken)), max_size=1)))
    mature: tuple[Reading, ...] | None = None
    if draw(st.booleans()):
        value = draw(values)
        read = Signal("performance.roc_auc", "*", value, 800, value - 0.01, value + 0.01)
        mature = (read if draw(st.booleans()) else few,)
    decayed = (loss,) if mature and draw(st.booleans()) else ()
    at = day(number).end + DAY if mature and draw(st.booleans()) else None
    who = draw(st.sampled_from(("c1", "c1", "c0")))
    return WindowRecord(day(number), 900, alarms, who, readings, mature, 800, decayed, at)


@st.composite
def benches(draw: st.DrawFn) -> Bench:
    """A bench of two or three models over some windows, the champion on it, now and then fallen or beaten."""
    now, many = draw(st.integers(11, 16)), draw(st.integers(2, 3))
    scores = np.full((many, now + 1), np.nan)
    for place in range(many):
        scores[place, 10 + place :] = draw(st.lists(values, min_size=now - 9 - place, max_size=now - 9 - place))
    members = tuple(Member(f"c{place + 1}", 0, 9 + place, Rows.ALL if place else None) for place in range(many))
    runs = (Run(10, Why.INTERVAL, Rows.ALL, 0, 1),) if draw(st.booleans()) else ()
    served = np.r_[np.full(10, -1), np.zeros(now - 8, dtype=np.int64)]
    barred = frozenset(draw(st.sets(st.integers(1, many - 1))))
    return Bench(members, runs, served, scores, None, np.arange(now + 1), now, barred, np.full(now + 1, 300))


outcomes = st.sampled_from(("promoted", "kept_back", "failed", "blocked", "running"))


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Anything that may have happened to a model within a few weeks."""
    told = tuple(draw(windows(number)) for number in range(draw(st.integers(0, 6))))
    runs = []
    for number in range(draw(st.integers(0, 3))):
        at, outcome = START + draw(st.integers(0, 29)) * DAY, draw(outcomes)
        triggers = tuple(draw(st.lists(st.sampled_from(("t0", "t1", "follow_up")), max_size=1)))
        ended = None if outcome == "running" else at
        runs.append(
            RunRecord(
                f"renew-{number}",
                at,
                frozenset({f"e{number}"}),
                ended,
                outcome,
                triggers,
                draw(st.none() | st.floats(1, 1e5)),
            )
        )
    live = replace(champion(), rows=draw(st.sampled_from((0, 100))))
    heard = (Heard("launch", "k1", START, "crm"),) if draw(st.booleans()) else ()
    asked = (Heard("please", "k2", START, "ada"),) if draw(st.integers(0, 9)) == 0 else ()
    return History(
        "m",
        champion=draw(st.sampled_from((live, live, live, None))),
        previous=draw(st.sampled_from((None, "c0"))),
        windows=told,
        runs=tuple(runs),
        heard=heard,
        asked=asked,
        rows=draw(st.integers(0, 2000)),
        labels=draw(st.integers(0, 2000)),
        question=draw(st.sampled_from((None, Question("q", frozenset({"e9"}))))),
        answered=draw(st.sampled_from(({}, {"q": True}, {"q": False}))),
        paused=draw(st.integers(0, 9)) == 0,
        bench=draw(st.none() | benches()),
        releasing=draw(st.sampled_from((None, None, None, "release-1"))),
    )


simple = st.sampled_from(
    (
        OnPerformance(performance=PerformanceDrop(drop=0.02)),
        OnPerformance(performance=PerformanceDrop(drop=0.02, mean_of=2), windows=2),
        OnEstimated(estimated=EstimatedDrop(drop=0.02)),
        OnDrift(drift=DriftAbove(above=0.2), windows=Repeated(windows=2, of=3)),
        OnAlarm(alarm="performance"),
        OnAlarm(alarm="any", windows=2),
        OnScore(score=ScoreWeights(drift=0.4, performance=0.6), above=0.7),
        OnErrors(errors=0.001),
        OnAge(age=timedelta(days=10)),
        OnSchedule(schedule="0 2 * * 0"),
        OnLabels(new_labels=500),
        OnRows(new_rows=500),
        OnNewData(new_data_share=0.2),
        OnEvent(event="launch"),
        OnBench(bench=True),
        UNKNOWN,
    )
)


@st.composite
def triggers(draw: st.DrawFn, name: str) -> Trigger:
    """One trigger of any kind, alone or among others."""
    how = draw(st.sampled_from(("alone", "all", "any")))
    parts = tuple(draw(st.lists(simple, min_size=1, max_size=3)))
    if how == "alone":
        named: Trigger = parts[0].model_copy(update={"name": name})  # type: ignore[assignment]  # a copy of its kind
        return named
    return OnAll(name=name, all=parts) if how == "all" else OnAny(name=name, any=parts)


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    """What a user may have asked for."""
    asked = tuple(draw(triggers(f"t{number}")) for number in range(draw(st.integers(0, 3))))
    worth = draw(st.sampled_from((Worth(), Worth(unit_value=0.1, per_hour=1.0, run_cost=5.0))))
    limits = Deciding(worth=worth, follow_up=draw(st.integers(0, 2)), approve=draw(st.sampled_from(((), ("retrain",)))))
    return Rules(asked, limits, "roc_auc", 700)


# ---- laws ------------------------------------------------------------------------------------------------------------
@examples(100)
@given(histories(), rules())
def test_decide_is_total_and_the_same_each_time(past: History, asked: Rules) -> None:
    decision = decide(past, asked, NOW)
    assert isinstance(decision, Wait | Retrain | AskHuman | FixData | RollBack | Recall)
    assert decide(past, asked, NOW) == decision
    assert difference(decision, decision) == ""
    assert all(reason.said for reason in decision.because)
    if not isinstance(decision, Wait):
        assert all(reason.evidence for reason in decision.because)


@examples(100)
@given(histories(), triggers("t0"), st.sampled_from(("all", "any")))
def test_an_unknown_condition_never_makes_a_trigger_fire(past: History, trigger: Trigger, how: str) -> None:
    sight = Sight(past, Rules((), Deciding(), "roc_auc", 700), NOW)
    alone = look(trigger, sight).fires
    both = look(
        OnAll(name="t", all=(trigger, UNKNOWN)) if how == "all" else OnAny(name="t", any=(trigger, UNKNOWN)), sight
    )
    assert not both.fires or alone
    if how == "all":
        assert both.fires is not True


@examples(60)
@given(histories(), rules(), st.booleans())
def test_a_paused_or_frozen_model_never_retrains(past: History, asked: Rules, paused: bool) -> None:
    if paused:
        past = replace(past, paused=True)
    else:
        freeze = Freeze(since=START, to=NOW + DAY)
        asked = replace(asked, limits=asked.limits.model_copy(update={"freeze": (freeze,)}))
        past = replace(past, asked=(), answered={})  # a person's wish passes a freeze
    assert not isinstance(decide(past, asked, NOW), Retrain | AskHuman)


@examples(60)
@given(histories(), rules())
def test_broken_data_block_everything_but_a_persons_wish(past: History, asked: Rules) -> None:
    bad = WindowRecord(day(7), 900, (broken,), "c1", (Signal("drift.psi", "hour", 0.01, 90, effect=0.0, p_value=0.5),))
    decision = decide(replace(past, windows=(*past.windows, bad), asked=(), answered={}), asked, NOW)
    assert isinstance(decision, FixData)
    assert "hour" in decision.columns


@examples(60)
@given(histories(), rules())
def test_the_same_evidence_never_causes_two_runs(past: History, asked: Rules) -> None:
    """Decide, run, decide again: whatever comes of the runs, none is begun by what began one before."""
    asked = replace(asked, limits=asked.limits.model_copy(update={"cool_down": timedelta(0), "approve": ()}))
    seen: set[str] = {key for run in past.runs for key in run.evidence}
    past = replace(past, runs=tuple(replace(run, ended=run.ended or run.started) for run in past.runs))
    for number in range(4):
        decision = decide(past, asked, NOW)
        if not isinstance(decision, Retrain):
            return
        evidence = {reason.evidence for reason in decision.because}
        assert not evidence & seen
        assert run_of(decision) not in {run.run for run in past.runs}
        seen |= evidence
        outcome = ("kept_back", "failed", "blocked", "kept_back")[number]
        names = tuple(dict.fromkeys(reason.trigger for reason in decision.because))
        past = replace(
            past, runs=(*past.runs, RunRecord(run_of(decision), NOW, frozenset(evidence), NOW, outcome, names))
        )


# ---- the ledger ------------------------------------------------------------------------------------------------------
@st.composite
def told_days(draw: st.DrawFn) -> list[list[Fact]]:
    """What the watch and people write on a few days after version 1 went live."""
    days: list[list[Fact]] = []
    for number in range(draw(st.integers(1, 8))):
        each = draw(windows(number + 2))
        facts: list[Fact] = [
            WindowClosed(each.span, 900, LakeVersion(1, 1), candidate(1).id, each.readings, each.alarms, None)
        ]
        if each.mature is not None:
            facts.append(WindowMatured(each.span, 900, 800, each.mature))
        facts += draw(
            st.lists(st.sampled_from((Paused("x"), Resumed("y"), RetrainAsked("z", f"k{number}"))), max_size=1)
        )
        days.append(facts)
    return days


class Told:
    """A ledger that is written by the policy itself."""

    def __init__(self, asked: Rules) -> None:
        self.rules = asked
        self.entries: list[Entry] = chained(("renew-1", training(1)), ("release-1", going_live(1)))
        self.steps = {"watch": 0, "people": 0}

    def write(self, run: str, fact: Fact, number: int | None = None) -> None:
        """One more entry, an hour later."""
        if number is None:
            self.steps[run] = number = self.steps.get(run, 0) + 1
        at = self.entries[-1].at + timedelta(hours=6)
        self.entries.append(sealed(self.entries[-1], (run, number), fact, at, ("m", "test")))

    def decide(self, span: WindowRecord | None) -> Decision:
        """Ask the policy at the moment of writing, as the watch does."""
        at = self.entries[-1].at + timedelta(hours=6)
        decision = decide(fold(self.entries).history, self.rules, at)
        self.write("watch", Decided(decision, span.span if span else None))
        if isinstance(decision, Retrain):
            run = run_of(decision)
            self.write(run, RenewBegan(decision.because, first=False), 1)
            self.write(run, RenewEnded("kept_back", "it was not better"), 2)
        return decision


@examples(25)
@given(told_days(), rules())
def test_a_decision_that_is_taken_again_from_its_ledger_agrees(days: list[list[Fact]], asked: Rules) -> None:
    told = Told(asked)
    for facts in days:
        for fact in facts:
            told.write("people" if isinstance(fact, Paused | Resumed | RetrainAsked) else "watch", fact)
        told.decide(fold(told.entries).history.windows[-1])
    decided = [entry.number for entry in told.entries if entry.kind == "Decided"]
    answers = [rerun_decision(told.entries, number, asked) for number in decided]
    assert [answer.said for answer in answers if not answer.agrees] == []
    runs = [run.run for run in fold(told.entries).history.runs]
    assert len(runs) == len(set(runs))
