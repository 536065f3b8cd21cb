"""Each kind of trigger: when it fires, when it does not, and when it does not know."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from everfit.decide.history import Heard, History, WindowRecord
from everfit.decide.holding import recent
from everfit.decide.look import Look, Sight
from everfit.decide.options import Deciding, Rules, Trigger
from everfit.decide.rules import kind_of
from everfit.decide.triggers import look
from everfit.detect.signal import Alarm, NotEnough, Reading, Signal
from tests.unit.builders import DAY, START, champion, day, history, reading, run, window

NOW = START + 10 * DAY
ADAPTER: TypeAdapter[Trigger] = TypeAdapter(Trigger)
LOSS = Alarm(Signal("performance.roc_auc", "*", 0.66, 800), 0.7, "performance", "roc_auc fell for certain")
FEW = NotEnough("performance.roc_auc", "*", 41, 200, "41 labelled rows, 200 needed")


def trigger(**keys: Any) -> Trigger:
    return ADAPTER.validate_python({"name": "t", **keys})


def seen(past: History, now: datetime = NOW, functions: Any = None, **keys: Any) -> Look:
    rules = Rules((), Deciding(), "roc_auc", 700, "1 per 365d", functions=functions or {})
    return look(trigger(**keys), Sight(past, rules, now))


def read(number: int, *readings: Reading, alarms: tuple[Alarm, ...] = ()) -> WindowRecord:
    """A window of which something was read at its close."""
    return replace(window(number, alarms=alarms), readings=readings)


def few(number: int) -> WindowRecord:
    """A window that matured with too few labels."""
    return replace(window(number), mature=(FEW,))


def moved(column: str, effect: float, rows: int = 900) -> Signal:
    return Signal("drift.psi", column, effect + 0.01, rows, effect=effect, p_value=1e-6)


def alarmed(column: str, effect: float) -> Alarm:
    return Alarm(moved(column, effect), 0.1, "drift", f"{column} moved")


def served(number: int, **values: float) -> WindowRecord:
    return read(number, *(Signal(f"serve.{name}", "*", value, 2000) for name, value in values.items()))


MODEL = replace(champion(), rows=1000, made=START - 5 * DAY, importance={"fare": 0.7, "hour": 0.2, "shop": 0.1})


@pytest.mark.parametrize(
    "past, keys, fires",
    [
        pytest.param(history(window(0, 0.70)), {"performance": {}}, True, id="a loss"),
        pytest.param(history(few(0)), {"performance": {}}, None, id="too few labels is not no loss"),
        pytest.param(history(window(0)), {"performance": {}}, None, id="immature is not known"),
        pytest.param(
            history(window(0, 0.70), few(1)), {"performance": {}}, True, id="a window that says nothing is passed over"
        ),
        pytest.param(
            history(window(0, 0.70), few(1), window(2, 0.70)),
            {"performance": {}, "for": 2},
            True,
            id="and does not break a row",
        ),
        pytest.param(
            history(window(0, 0.70), few(1)), {"performance": {}, "for": 2}, None, id="nor does it count in it"
        ),
        pytest.param(
            history(window(0, 0.75), few(1)), {"performance": {}, "for": 2}, False, id="a no cannot become two yes"
        ),
        pytest.param(
            history(*(window(n, v) for n, v in enumerate((0.70, 0.75, 0.70, 0.75, 0.70)))),
            {"performance": {}, "for": {"windows": 3, "of": 5}},
            True,
            id="three of five",
        ),
        pytest.param(
            history(*(window(n, v) for n, v in enumerate((0.70, 0.75, 0.75, 0.75, 0.70)))),
            {"performance": {}, "for": {"windows": 3, "of": 5}},
            False,
            id="two of five",
        ),
        pytest.param(
            history(*(window(n, v) for n, v in enumerate((0.70, 0.70)))),
            {"performance": {}, "for": {"windows": 3, "of": 5}},
            None,
            id="two of two, three of five asked",
        ),
        pytest.param(
            history(window(0, 0.70)), {"performance": {"metric": "log_loss"}}, None, id="a level that is not known"
        ),
        pytest.param(
            history(read(0, Signal("estimated.roc_auc", "*", 0.70, 900, 0.69, 0.71))),
            {"estimated": {}},
            True,
            id="an estimated loss",
        ),
        pytest.param(
            history(read(0, Signal("estimated.roc_auc", "*", 0.70, 900, 0.60, 0.80))),
            {"estimated": {}},
            False,
            id="too unsure an estimate",
        ),
        pytest.param(
            history(read(0, NotEnough("estimated.roc_auc", "*", 9, 200))),
            {"estimated": {}},
            None,
            id="no estimate of few rows",
        ),
        pytest.param(history(window(0)), {"estimated": {}}, None, id="no estimate"),
        pytest.param(
            history(read(0, moved("fare", 0.4), alarms=(alarmed("fare", 0.4),))), {"drift": {}}, True, id="drift"
        ),
        pytest.param(history(read(0, moved("fare", 0.05))), {"drift": {}}, False, id="no drift"),
        pytest.param(
            history(read(0, NotEnough("drift.psi", "fare", 9, 200))),
            {"drift": {}},
            None,
            id="drift of few rows is not known",
        ),
        pytest.param(
            history(read(0, moved("fare", 0.4), alarms=(alarmed("fare", 0.4),)), champion=MODEL),
            {"drift": {"columns": "important"}},
            True,
            id="an important column drifts",
        ),
        pytest.param(
            history(read(0, moved("fare", 0.0), moved("shop", 0.4), alarms=(alarmed("shop", 0.4),)), champion=MODEL),
            {"drift": {"columns": "important"}},
            False,
            id="a column of no importance drifts",
        ),
        pytest.param(
            history(read(0, alarms=(alarmed("shop", 0.4),))),
            {"drift": {"columns": "important"}},
            None,
            id="importance is not known",
        ),
        pytest.param(history(served(0, latency_p99=60.0)), {"latency": {"p99": "50ms"}}, True, id="slow"),
        pytest.param(history(served(0, latency_p99=40.0)), {"latency": {"p99": "50ms"}}, False, id="quick"),
        pytest.param(history(served(0, latency_p50=40.0)), {"latency": {"p99": "50ms"}}, None, id="another percentile"),
        pytest.param(history(served(0, errors=0.02)), {"errors": "1%"}, True, id="errors"),
        pytest.param(history(served(0, errors=0.0101)), {"errors": "1%"}, False, id="errors within chance"),
        pytest.param(history(window(0)), {"errors": "1%"}, None, id="errors were not counted"),
        pytest.param(history(champion=MODEL), {"age": "15d"}, True, id="old"),
        pytest.param(history(champion=MODEL), {"age": "16d"}, False, id="young"),
        pytest.param(
            history(champion=MODEL, labels=300, labels_at_last_run=100), {"new_data_share": "20%"}, True, id="grown"
        ),
        pytest.param(
            history(champion=MODEL, labels=299, labels_at_last_run=100),
            {"new_data_share": "20%"},
            False,
            id="not grown",
        ),
        pytest.param(history(labels=299), {"new_data_share": "20%"}, None, id="grown from what?"),
        pytest.param(history(), {"schedule": "0 2 * * 0"}, None, id="a schedule without a first run"),
        pytest.param(
            history(replace(window(0, 0.66), mature_alarms=(LOSS,))),
            {"alarm": "performance"},
            True,
            id="a calibrated alarm",
        ),
        pytest.param(history(window(0, 0.60)), {"alarm": "performance"}, False, id="no alarm, however low it reads"),
        pytest.param(history(few(0)), {"alarm": "performance"}, None, id="no alarm of few labels"),
        pytest.param(
            history(replace(window(0, 0.66), mature_alarms=(LOSS,))),
            {"alarm": "drift"},
            None,
            id="another kind of alarm",
        ),
        pytest.param(
            history(read(0, moved("fare", 0.4), alarms=(alarmed("fare", 0.4),))), {"alarm": "any"}, True, id="any alarm"
        ),
        pytest.param(
            history(replace(window(0, 0.66), mature_alarms=(LOSS,)), window(1, 0.75), window(2, 0.75)),
            {"alarm": "performance"},
            True,
            id="an alarm stays open until a run answers it",
        ),
    ],
)
def test_a_trigger_fires_does_not_or_does_not_know(past: History, keys: dict[str, Any], fires: bool | None) -> None:
    found = seen(past, **keys)
    assert found.fires is fires, found
    assert all(reason.said and reason.source for reason in found.reasons)
    assert bool(fires) == all(bool(reason.evidence) for reason in found.reasons) or kind_of(keys) == "new_data_share"


def test_what_is_missing_is_said() -> None:
    assert seen(history(few(0)), performance={}).reasons[0].said == "41 labelled rows, 200 needed"


def test_a_threshold_says_where_it_came_from_and_what_would_have_changed_the_answer() -> None:
    (reason,) = seen(history(window(0, 0.719)), performance={"drop": 0.02}).reasons
    assert reason.source == "spec: triggers[0].performance.drop"
    assert reason.otherwise == "a drop of 0.02 or less would not have fired; it was 0.031"
    (reason,) = seen(history(window(0, 0.745)), performance={}).reasons
    assert reason.source == "default: triggers[0].performance.drop"
    assert reason.otherwise == "a drop above 0.02 would have fired; it was 0.005"
    (reason,) = seen(history(replace(window(0, 0.66), mature_alarms=(LOSS,))), alarm="performance").reasons
    assert reason.source == "calibrated: at most 1 per 365d"
    inside = seen(history(window(0, 0.719)), all=[{"performance": {"drop": 0.02}}]).reasons
    assert inside[0].source == "spec: triggers[0].all[0].performance.drop"


@pytest.mark.parametrize(
    "parts, all_, any_",
    [
        pytest.param((True, True), True, True, id="yes and yes"),
        pytest.param((True, False), False, True, id="yes and no"),
        pytest.param((True, None), None, True, id="yes and unknown"),
        pytest.param((False, None), False, None, id="no and unknown"),
        pytest.param((None, None), None, None, id="unknown and unknown"),
        pytest.param((False, False), False, False, id="no and no"),
    ],
)
def test_all_and_any_have_three_values(parts: tuple[bool | None, ...], all_: bool | None, any_: bool | None) -> None:
    functions = {f"f:{answer}": lambda past, now, answer=answer: answer for answer in (True, False, None)}
    inside = [{"function": f"f:{answer}"} for answer in parts]
    assert seen(history(window(0)), functions=functions, all=inside).fires is all_
    assert seen(history(window(0)), functions=functions, any=inside).fires is any_


# ---- score -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "past, fires",
    [
        pytest.param(
            read(0, moved("fare", 0.4), alarms=(alarmed("fare", 0.4),)),
            None,
            id="the other part is not known and may decide",
        ),
        pytest.param(read(0, moved("fare", 0.0)), False, id="whatever the other part is, it cannot reach the line"),
        pytest.param(
            replace(read(0, moved("fare", 0.0)), mature=(reading(0.60),)), False, id="one part alone is not enough"
        ),
        pytest.param(
            replace(read(0, moved("fare", 0.4), alarms=(alarmed("fare", 0.4),)), mature=(reading(0.60),)),
            True,
            id="both are",
        ),
        pytest.param(
            replace(read(0, moved("fare", 0.4), alarms=(alarmed("fare", 0.4),)), mature=(reading(0.60, half=0.5),)),
            False,
            id="a loss within noise counts half",
        ),
    ],
)
def test_a_score_weighs_strengths_and_knows_its_bounds(past: WindowRecord, fires: bool | None) -> None:
    found = seen(history(past), score={"drift": 0.4, "performance": 0.6}, above=0.7)
    assert found.fires is fires, found


def test_a_score_of_all_parts_says_what_most_of_it_is() -> None:
    whole = replace(
        read(
            0,
            moved("fare", 0.1),
            Signal("quality.nulls", "fare", 0.1, 900, effect=0.1),
            Signal("estimated.roc_auc", "*", 0.74, 900),
        ),
        mature=(reading(0.60),),
    )
    weights = {"drift": 1, "performance": 2, "estimated": 1, "quality": 1, "age": 1}
    found = seen(history(whole, champion=MODEL), score=weights, above=0.4, lines={"age": "12d"})
    (reason,) = found.reasons
    assert found.fires is True
    # drift 0.25, performance 1 (twice), estimated 0.5, quality 0.25, age 6 of 12 days: 3.5 of 6
    assert reason.value == pytest.approx(3.5 / 6)
    assert reason.otherwise == "without performance the score would have been 0.25"


# ---- alarms, functions, evidence -------------------------------------------------------------------------------------
def test_an_alarm_is_answered_once_and_again_after_a_run_that_trained_nothing() -> None:
    window_ = replace(window(0, 0.66), mature_alarms=(LOSS,), matured_at=START + 2 * DAY)
    (reason,) = seen(history(window_), alarm="performance").reasons
    kept_back = run(1, "kept_back", at=START + 3 * DAY, evidence=reason.evidence)
    assert seen(history(window_, runs=(kept_back,)), alarm="performance").fires is False
    scheduled = run(2, "kept_back", at=START + 3 * DAY)
    assert seen(history(window_, runs=(scheduled,)), alarm="performance").fires is False
    earlier = run(2, "kept_back", at=START + DAY)
    assert seen(history(window_, runs=(earlier,)), alarm="performance").fires is True
    failed = run(3, "failed", at=START + 3 * DAY, evidence=reason.evidence)
    again = seen(history(window_, runs=(failed,)), alarm="performance")
    assert again.fires is True
    assert again.reasons[0].evidence != reason.evidence


def test_a_function_of_the_user_may_say_why_and_may_be_wrong() -> None:
    def due(past: History, now: datetime) -> str:
        return f"{past.labels} labels are a round number"

    def wrong(past: History, now: datetime) -> bool:
        raise KeyError("price")

    past = history(window(0), labels=1000)
    found = seen(past, functions={"t:due": due}, function="t:due")
    assert (found.fires, found.reasons[0].said) == (True, "1000 labels are a round number")
    broken = seen(past, functions={"t:wrong": wrong}, function="t:wrong")
    assert (broken.fires, broken.reasons[0].said) == (None, "t:wrong raised KeyError: 'price'")
    assert seen(past, function="t:gone").fires is None


def test_a_window_that_came_since_never_makes_old_evidence_new() -> None:
    (reason,) = seen(history(window(0, 0.70)), performance={}).reasons
    for later in (window(1), few(1)):
        (again,) = seen(history(window(0, 0.70), later), performance={}).reasons
        assert again.evidence == reason.evidence
    often: dict[str, Any] = {"performance": {}, "for": {"windows": 2, "of": 4}}
    (twice,) = seen(history(window(0, 0.70), window(1, 0.70)), **often).reasons
    (since,) = seen(history(window(0, 0.70), window(1, 0.70), window(2, 0.75)), **often).reasons
    assert since.evidence == twice.evidence, "a window that says no is no new evidence either"
    (new,) = seen(history(window(0, 0.70), window(1, 0.70)), performance={}).reasons
    assert new.evidence != reason.evidence


def test_rules_look_back_over_sixty_mature_windows_and_all_that_came_since() -> None:
    past = history(*(window(n, 0.75) for n in range(70)), *(window(n) for n in range(70, 170)))
    looked = recent(past)
    assert (looked[0].span, looked[-1].span) == (day(10), day(169))
    assert seen(past, START + 171 * DAY, performance={}).fires is False, "the labels of a hundred windows are late"
    assert len(recent(history(*(window(n, 0.75) for n in range(200))))) == 60


def test_an_old_champion_is_tried_again_after_as_long_again() -> None:
    at = {
        days: seen(history(champion=MODEL), START + days * DAY, age="10d").reasons[0].evidence for days in (5, 14, 15)
    }
    assert at[5] == at[14] != at[15]


def test_an_event_is_used_up() -> None:
    heard = (Heard("launch", "k1", NOW, "crm"),)
    (reason,) = seen(history(heard=heard), event="launch").reasons
    assert seen(history(heard=heard, runs=(run(1, evidence=reason.evidence),)), event="launch").fires is False
