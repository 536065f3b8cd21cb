"""Is it worth it: gain against cost, the fleet's budget, follow-ups, the word of a person, and whether it helped."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from everfit.decide.accounts import RunTold, accounts, helped
from everfit.decide.again import difference
from everfit.decide.decision import AskHuman, Decision, FixData, Reason, Retrain, Wait
from everfit.decide.history import FleetRecord, Heard, History, Question, RunRecord, WindowRecord
from everfit.decide.options import Deciding, Freeze, OnAlarm, OnEvent, OnPerformance, PerformanceDrop, Rules, Trigger
from everfit.decide.policy import decide
from everfit.decide.worth import rows_a_day, weigh, worth_after_probe
from everfit.detect.signal import Alarm, Signal
from tests.unit.builders import DAY, START, champion, history, reading, run, window

NOW = START + 20 * DAY
DROP = OnPerformance(name="decay", performance=PerformanceDrop())
LOSS = Alarm(Signal("performance.roc_auc", "*", 0.66, 800), 0.7, "performance", "roc_auc fell for certain")
PRICES = {"unit_value": 0.1, "per_hour": 3.6, "run_cost": 4.0, "horizon": "10d"}


def rules(*triggers: Trigger, primary: str = "roc_auc", **limits: Any) -> Rules:
    return Rules(triggers, Deciding.model_validate(limits), primary, 700)


def decided(past: History, *triggers: Trigger, **limits: Any) -> Decision:
    return decide(past, rules(*triggers, **limits), NOW)


def timed(seconds: float | None, outcome: str = "promoted") -> RunRecord:
    return replace(run(1, outcome), seconds=seconds)


# ---- gain and cost ---------------------------------------------------------------------------------------------------
def test_the_gain_is_the_loss_times_the_rows_times_the_price_and_the_cost_is_measured() -> None:
    past = history(window(0, 0.70), window(1, 0.72), runs=(timed(6000.0),))
    weighed = weigh(past, rules(worth=PRICES))
    # a loss of 0.04 in 900 rows a day for 10 days at 0.1; 6000 s at 3.6 an hour, and 4
    assert weighed.gain == pytest.approx(0.04 * 900 * 10 * 0.1)
    assert weighed.cost == pytest.approx(6.0 + 4.0)
    assert weighed.ratio == pytest.approx(3.6)


@pytest.mark.parametrize(
    "prices, seconds, expected",
    [
        pytest.param({}, 6000.0, Retrain, id="without prices nothing is weighed"),
        pytest.param(PRICES, 6000.0, Retrain, id="worth it"),
        pytest.param(PRICES | {"at_least": 4}, 6000.0, Wait, id="not by the factor that is asked for"),
        pytest.param(PRICES, 60_000.0, Wait, id="training takes too long for it"),
        pytest.param(PRICES, None, Retrain, id="a cost that was never measured holds nothing back"),
        pytest.param({"unit_value": 0.1, "run_cost": 37, "horizon": "10d"}, None, Wait, id="a fixed cost is known"),
        pytest.param({"error_cost": 0.1, "run_cost": 1e9}, None, Retrain, id="errors are no price of roc_auc"),
    ],
)
def test_a_run_that_is_not_worth_its_cost_waits(
    prices: dict[str, object], seconds: float | None, expected: type
) -> None:
    past = history(window(0, 0.70), window(1, 0.72), runs=(timed(seconds),))
    decision = decided(past, DROP, worth=prices)
    assert isinstance(decision, expected), decision
    if expected is Wait:
        assert decision.because[0].trigger == "worth"
        assert "not worth it" in decision.because[0].said
        assert "would have been worth it" in decision.because[0].otherwise


def test_a_loss_of_accuracy_is_counted_in_errors() -> None:
    live = replace(champion(), proven={"accuracy": 0.9})
    past = history(replace(window(0), mature=(reading(0.8, metric="accuracy"),)), champion=live)
    weighed = weigh(past, rules(primary="accuracy", worth={"error_cost": 2.0, "run_cost": 1.0, "horizon": "1d"}))
    assert weighed.gain == pytest.approx(0.1 * 900 * 2.0)


def test_pauses_count_in_the_pace_of_rows() -> None:
    assert rows_a_day((window(0), window(9))) == pytest.approx(180)
    assert rows_a_day(()) is None


def test_a_model_that_is_as_good_as_proven_has_nothing_to_gain() -> None:
    past = history(window(0, 0.80), rows=50, heard=())
    assert weigh(past, rules(worth=PRICES | {"per_hour": None})).gain == 0


def test_a_wish_is_not_weighed() -> None:
    asked = (Heard("now", "k", NOW, "ada"),)
    assert isinstance(
        decided(history(window(0, 0.80), asked=asked), worth={"unit_value": 1e-9, "run_cost": 9}), Retrain
    )


@pytest.mark.parametrize(
    "gain, prices, goes_on",
    [
        pytest.param((0.01, -0.01, 0.03), {}, True, id="it may be better, and nothing is priced"),
        pytest.param((-0.02, -0.03, -0.001), {}, False, id="it is worse for certain"),
        pytest.param((-0.01, -0.02, 0.001), {}, True, id="it is worse, but not for certain"),
        pytest.param((0.01, -0.01, 0.03), PRICES | {"per_hour": None}, True, id="the high end would pay"),
        pytest.param((0.001, -0.001, 0.003), PRICES | {"per_hour": None}, False, id="not even the high end would pay"),
    ],
)
def test_a_probe_ends_only_what_could_not_pay(
    gain: tuple[float, float, float], prices: dict[str, object], goes_on: bool
) -> None:
    answer, said = worth_after_probe(gain, history(window(0, 0.70)), rules(worth=prices))
    assert answer is goes_on, said
    assert "the probe gained" in said


def test_a_run_says_whether_a_probe_comes_first() -> None:
    past = history(window(0, 0.70))
    assert decided(past, DROP, worth={"probe": {"rows": 500}}) == replace(_retrain(decided(past, DROP)), probe=True)
    assert not _retrain(decide(History("m", labels=900), rules(worth={"probe": {}}), NOW)).probe


def _retrain(decision: Decision) -> Retrain:
    assert isinstance(decision, Retrain)
    return decision


# ---- the fleet -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "fleet, expected",
    [
        pytest.param(None, Retrain, id="of the others nothing is known"),
        pytest.param(FleetRecord(9), Retrain, id="one is left and nobody else wants it"),
        pytest.param(FleetRecord(10), Wait, id="none is left"),
        pytest.param(FleetRecord(9, (("fraud", 100.0),)), Wait, id="one is left and another run is worth more"),
        pytest.param(FleetRecord(8, (("fraud", 100.0),)), Retrain, id="two are left for two"),
        pytest.param(FleetRecord(9, (("fraud", 1.0),)), Retrain, id="this one is worth more"),
    ],
)
def test_the_most_valuable_runs_go_first(fleet: FleetRecord | None, expected: type) -> None:
    past = history(window(0, 0.70), fleet=fleet)
    worth = {"unit_value": 0.1, "run_cost": 1.0, "horizon": "10d"}  # 45 for the run
    decision = decided(past, DROP, fleet={"runs": 10}, worth=worth)
    assert isinstance(decision, expected), decision
    if isinstance(decision, Wait):
        assert decision.because[0].trigger == "fleet"
        assert decision.because[0].value == pytest.approx(45.0)


# ---- follow-ups ------------------------------------------------------------------------------------------------------
DECAY = OnAlarm(name="decay", alarm="performance")


def after_a_loss(*later: WindowRecord, triggers: tuple[str, ...] = ("decay",), outcome: str = "promoted") -> History:
    """An alarm on the first day, a run on the third, a new champion from then on."""
    ran = RunRecord("renew-1", START + 2 * DAY, frozenset({"e"}), START + 2 * DAY, outcome, triggers)
    live = champion(since=START + 2 * DAY, name="c2")
    old = replace(window(0, 0.66), mature_alarms=(LOSS,), matured_at=START + DAY)
    return history(old, *(replace(w, champion="c2") for w in later), champion=live, runs=(ran,))


FRESH = (window(3, 0.75), window(4, 0.75))


@pytest.mark.parametrize(
    "past, expected",
    [
        pytest.param(after_a_loss(*FRESH), Retrain, id="two fresh windows have matured"),
        pytest.param(after_a_loss(*FRESH, outcome="kept_back"), Retrain, id="and also when the first was kept back"),
        pytest.param(after_a_loss(FRESH[0]), Wait, id="only one has"),
        pytest.param(after_a_loss(FRESH[0], window(4)), Wait, id="the second is not mature"),
        pytest.param(after_a_loss(*FRESH, triggers=("weekly",)), Wait, id="the run was for no loss"),
        pytest.param(after_a_loss(*FRESH, triggers=("follow_up",)), Wait, id="a follow-up is not followed"),
        pytest.param(after_a_loss(*FRESH, outcome="failed"), Wait, id="a run that failed trained nothing"),
        pytest.param(
            replace(after_a_loss(*FRESH), runs=(*after_a_loss().runs, run(2, at=START + 3 * DAY))),
            Wait,
            id="another run had the fresh rows",
        ),
    ],
)
def test_a_run_for_a_loss_is_repeated_once_on_fresh_rows(past: History, expected: type) -> None:
    decision = decide(past, rules(DECAY, cool_down="30d"), NOW)  # the rest is passed
    assert isinstance(decision, expected), decision
    if not isinstance(decision, Retrain):
        return
    (reason,) = decision.because
    assert reason.trigger == "follow_up"
    assert "fresh rows" in reason.said
    used = replace(past, runs=(*past.runs, replace(run(9, evidence=reason.evidence), triggers=("follow_up",))))
    assert isinstance(decide(used, rules(DECAY), NOW), Wait), "once"
    failed = replace(
        past, runs=(*past.runs, replace(run(9, "failed", evidence=reason.evidence), triggers=("follow_up",)))
    )
    assert isinstance(decide(failed, rules(DECAY), NOW), Wait), "once, even if it failed"
    for held in ({"budget": {"runs": 1, "per": "30d"}}, {"freeze": [Freeze(since=START, to=NOW + DAY)]}):
        assert isinstance(decide(past, rules(DECAY, **held), NOW), Wait), held
    assert isinstance(decide(past, rules(DECAY, follow_up=0), NOW), Wait)
    assert isinstance(decide(past, rules(DECAY, approve=["retrain"]), NOW), AskHuman)


def test_what_is_waited_for_is_said() -> None:
    decision = decide(after_a_loss(FRESH[0]), rules(DECAY), NOW)
    said = [reason.said for reason in decision.because if reason.trigger == "follow_up"]
    assert said == ["renew-1 answered a loss with mostly old rows; 1 windows have matured since (line 2)"]


def test_an_approved_run_uses_up_what_made_it_due_and_can_be_followed() -> None:
    past = history(window(0, 0.70))
    asked = decided(past, DROP, approve=["retrain"])
    assert isinstance(asked, AskHuman)
    question = Question(asked.question, frozenset(r.evidence for r in asked.because), ("decay",))
    yes = replace(past, question=question, answered={asked.question: True})
    approved = _retrain(decided(yes, DROP, approve=["retrain"]))
    evidence = frozenset(reason.evidence for reason in approved.because)
    assert evidence == {asked.question, *question.evidence}
    assert {reason.trigger for reason in approved.because} == {"approved", "decay"}
    ran = RunRecord("renew-1", START, evidence, START, "kept_back", ("approved", "decay"))
    assert isinstance(decided(replace(yes, runs=(ran,)), DROP, approve=["retrain"]), Wait), "the evidence is used up"


# ---- limits say where they came from ---------------------------------------------------------------------------------
def test_limits_say_where_they_came_from_and_when_they_end() -> None:
    past = history(window(0, 0.70), runs=(run(1, "promoted", at=NOW - timedelta(hours=1)),))
    (held, *_) = decided(past, DROP).because
    assert (held.trigger, held.source) == ("cool_down", "default: decide.cool_down")
    assert held.otherwise == f"from {NOW + timedelta(hours=5):%Y-%m-%d %H:%M} on it may start"
    (held, *_) = decided(past, DROP, cool_down="2h").because
    assert held.source == "spec: decide.cool_down"
    (held, *_) = decided(past, DROP, cool_down="1m", budget={"runs": 1, "per": "10d"}).because
    assert (held.trigger, held.source) == ("budget", "spec: decide.budget")


# ---- did it help, is it the same -------------------------------------------------------------------------------------
def test_accounts_tell_for_each_trigger_how_often_it_helped() -> None:
    better = RunTold(("decay",), "promoted", 0.02, (0.70,) * 9, (0.74, 0.75))
    worse = RunTold(("decay", "weekly"), "promoted", 0.01, (0.70,), (0.69,))
    fresh = RunTold(("weekly",), "promoted", 0.03, (0.70,), ())
    kept = RunTold(("weekly",), "kept_back", -0.01)
    decay, weekly = accounts([better, worse, fresh, kept, RunTold(("weekly",), "blocked")], "roc_auc")
    assert (decay.trigger, decay.runs, decay.promoted, decay.helped, decay.not_helped) == ("decay", 2, 2, 1, 1)
    assert (weekly.runs, weekly.kept_back, weekly.blocked, weekly.unknown) == (4, 1, 1, 1)
    assert weekly.gain == pytest.approx(0.01)
    assert helped(RunTold(("x",), "promoted", None, (0.5,), (0.4,)), "log_loss") is True


REASON = Reason("decay", 0.03, 0.02, "it fell", "e1")


@pytest.mark.parametrize(
    "then, now, said",
    [
        pytest.param(
            Retrain((REASON,)), Retrain((replace(REASON, said="in other words"),)), "", id="other words agree"
        ),
        pytest.param(Retrain((REASON,)), Wait((REASON,)), "the re-run says wait", id="another answer"),
        pytest.param(Wait((REASON,)), Wait(()), "1 reasons, the re-run 0: decay", id="a reason less"),
        pytest.param(
            Wait((REASON,)), Wait((replace(REASON, trigger="weekly"),)), "re-run's is weekly", id="another reason"
        ),
        pytest.param(Wait((REASON,)), Wait((replace(REASON, evidence="e2"),)), "other evidence", id="other evidence"),
        pytest.param(Wait((REASON,)), Wait((replace(REASON, value=0.04),)), "0.03 was read", id="another value"),
        pytest.param(Wait((REASON,)), Wait((replace(REASON, limit=None),)), "the line was 0.02", id="another line"),
        pytest.param(FixData(("a",), ()), FixData(("b",), ()), "fix_data a", id="another column"),
        pytest.param(
            Wait((replace(REASON, trigger="cool_down", value=10.0),)),
            Wait((replace(REASON, trigger="cool_down", value=10.4),)),
            "",
            id="a clock that ran on while it was written down",
        ),
    ],
)
def test_the_first_difference_of_two_decisions_is_said(then: Decision, now: Decision, said: str) -> None:
    found = difference(then, now)
    assert said in found
    assert bool(found) == bool(said)


def test_an_unused_kind_of_trigger_is_quiet() -> None:
    assert isinstance(decided(history(window(0, 0.75)), OnEvent(name="launch", event="launch")), Wait)
