"""What is the matter: faults lift themselves, bad releases go back, calibration and harmless drift train nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from everfit.decide.decision import FixData, Retrain, RollBack, Wait
from everfit.decide.diagnose import BadRelease, DataBug, Decay, HarmlessDrift, Healthy, diagnose
from everfit.decide.history import History, WindowRecord
from everfit.decide.options import (
    Deciding,
    DriftAbove,
    OnAlarm,
    OnDrift,
    OnPerformance,
    OnRows,
    PerformanceDrop,
    Trigger,
)
from everfit.decide.policy import Rules, decide
from everfit.detect.signal import Alarm, NotEnough, Reading, Signal
from tests.unit.builders import DAY, START, champion, day, history, reading, window

NOW = START + 20 * DAY
LOSS = Alarm(Signal("performance.roc_auc", "*", 0.66, 800), 0.7, "performance", "roc_auc fell for certain")
MOVED = Alarm(Signal("drift.psi", "origin", 0.4, 900, effect=0.38), 0.1, "drift", "origin moved")


def psi(column: str, rows: int) -> Reading:
    return (
        Signal("drift.psi", column, 0.01, rows, effect=0.0, p_value=0.5)
        if rows
        else NotEnough("drift.psi", column, 0, 200)
    )


def broken(number: int, column: str = "wind", name: str = "quality.nulls") -> WindowRecord:
    alarm = Alarm(Signal(name, column, 0.9, 900), 0.2, "quality", f"{column} is broken")
    return replace(window(number, 0.70, alarms=(alarm,)), readings=(psi("wind", 90), psi("hour", 900)))


def whole(number: int, rows: int = 900, value: float = 0.75) -> WindowRecord:
    return replace(window(number, value), readings=(psi("wind", rows), psi("hour", 900)))


def decided(past: History, *triggers: Trigger, **limits: object) -> object:
    options = Deciding.model_validate(limits)
    return decide(past, Rules(triggers, options, "roc_auc", 700, slowest=50.0), NOW)


# ---- data ------------------------------------------------------------------------------------------------------------
def test_a_fault_names_its_column_its_kind_and_its_first_window_and_lasts_until_it_is_mended() -> None:
    found = diagnose(history(whole(0), broken(1), broken(2)), "roc_auc")
    assert isinstance(found, DataBug)
    assert (found.columns, found.kinds, found.first_bad) == (("wind",), ("null spike",), day(1))
    assert isinstance(diagnose(history(whole(0), broken(1), whole(2)), "roc_auc"), Healthy)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(whole(2, rows=0), id="a window without a value of the column"),
        pytest.param(replace(whole(2), rows=0), id="a window without rows"),
        pytest.param(window(2, 0.75), id="a window that was not portrayed"),
    ],
)
def test_a_window_that_does_not_show_the_column_lifts_nothing(later: WindowRecord) -> None:
    found = diagnose(history(broken(1), later), "roc_auc")
    assert isinstance(found, DataBug)
    assert found.first_bad == day(1)


def test_a_column_that_the_reference_no_longer_has_is_forgotten() -> None:
    without = replace(window(2, 0.75), readings=(psi("hour", 900),))
    assert isinstance(diagnose(history(broken(1), without), "roc_auc"), Healthy)


def test_rows_that_are_refused_are_lifted_by_rows_that_are_not() -> None:
    assert isinstance(diagnose(history(broken(1, "*", "quality.refused"), whole(2)), "roc_auc"), Healthy)


def test_two_faults_each_have_their_own_first_window() -> None:
    both = replace(broken(2), alarms=(*broken(2).alarms, *broken(2, "hour", "quality.frozen").alarms))
    decision = decided(history(broken(1), both))
    assert isinstance(decision, FixData)
    assert decision.columns == ("wind", "hour")
    assert [str(day(1)) in decision.because[0].said, str(day(2)) in decision.because[1].said] == [True, True]


def test_the_same_fault_has_the_same_evidence_however_long_it_lasts() -> None:
    first, later = (decided(history(*(broken(n) for n in range(many)))) for many in (1, 4))
    assert isinstance(first, FixData)
    assert isinstance(later, FixData)
    assert first.because[0].evidence == later.because[0].evidence


# ---- releases --------------------------------------------------------------------------------------------------------
def released(*windows: WindowRecord, back: bool = False, **changes: object) -> History:
    """Version 1 served five days; version 2 came on the sixth."""
    live = replace(champion(since=START + 5 * DAY, name="c2"), version=2, back=back)
    before = [w for w in windows if w.span.start < live.live_since]
    after = [replace(w, champion="c2") for w in windows if w.span.start >= live.live_since]
    return history(*before, *after, champion=live, previous="c1", **changes)


def served(number: int, *, errors: float = 0.001, p99: float = 5.0, rows: int = 5000) -> WindowRecord:
    slow = Signal("serve.latency_p99", "*", p99, rows, low=0.9 * p99, high=1.1 * p99)
    readings = (Signal("serve.errors", "*", errors, rows), slow)
    return replace(window(number, 0.75), readings=readings)


FIVE = tuple(served(n) for n in range(5))


@pytest.mark.parametrize(
    "past, signal",
    [
        pytest.param(released(*FIVE, served(5, errors=0.05)), "serve.errors", id="requests fail"),
        pytest.param(released(*FIVE, served(5, p99=60.0)), "serve.latency_p99", id="answers are over the limit"),
        pytest.param(
            released(*FIVE, replace(served(5), mature_alarms=(LOSS,))),
            "performance.roc_auc",
            id="it is worse for certain",
        ),
        pytest.param(released(*FIVE, served(5)), None, id="it is as good"),
        pytest.param(released(*FIVE, served(5, errors=0.009)), None, id="a few more errors"),
        pytest.param(released(*FIVE, served(5, errors=0.2, rows=5)), None, id="one failure of five requests"),
        pytest.param(released(*FIVE, served(5, p99=40.0)), None, id="slower, and within the limit"),
        pytest.param(released(*FIVE, served(5, p99=52.0)), None, id="over the limit by less than is sure"),
        pytest.param(
            released(*(served(n, p99=70.0) for n in range(5)), served(5, p99=80.0)),
            None,
            id="the one before was over the limit as well",
        ),
        pytest.param(released(*FIVE[3:], served(5, errors=0.05)), None, id="too little is known of before"),
        pytest.param(
            released(*(replace(w, mature_alarms=(LOSS,)) for w in FIVE), replace(served(5), mature_alarms=(LOSS,))),
            None,
            id="the one before was as bad",
        ),
        pytest.param(
            released(*FIVE, *(served(n) for n in range(5, 9)), served(9, errors=0.05)), None, id="its trial is over"
        ),
        pytest.param(released(*FIVE, served(5, errors=0.05), back=True), None, id="it came by a roll-back itself"),
        pytest.param(
            replace(released(*FIVE, served(5, errors=0.05)), previous=None), None, id="there is nothing to go back to"
        ),
    ],
)
def test_a_release_that_does_harm_is_rolled_back(past: History, signal: str | None) -> None:
    decision = decided(past)
    if signal is None:
        assert isinstance(decision, Wait), decision
        return
    assert isinstance(decision, RollBack)
    assert decision.because[0].trigger == signal
    assert isinstance(diagnose(past, "roc_auc", slowest=50.0), BadRelease)
    assert isinstance(decided(past, trial=0), Wait)
    again = replace(past, rollbacks=frozenset({decision.because[0].evidence}))
    assert isinstance(decided(again), Wait), "never twice for the same release"


# ---- calibration, drift, decay ---------------------------------------------------------------------------------------
def uncalibrated(number: int, *, auc: float = 0.75, error: float = 0.09) -> WindowRecord:
    bad = reading(error, metric="calibration_error", half=0.005)
    return replace(window(number, auc), mature=(reading(auc), bad), mature_alarms=(LOSS,))


def calibrated_at(level: float) -> dict[str, object]:
    return {"champion": replace(champion(), proven={"roc_auc": 0.75, "calibration_error": level})}


def test_scores_that_are_only_badly_calibrated_are_recalibrated_and_not_retrained() -> None:
    past = history(*(uncalibrated(n) for n in range(3)), **calibrated_at(0.02))
    decay = OnAlarm(name="decay", alarm="performance")
    decision = decided(past, decay)
    assert isinstance(decision, Wait)
    assert decision.because[0].trigger == "recalibrate"
    assert isinstance(decided(past, decay, recalibrate=False), Retrain)
    assert isinstance(decided(replace(past, rows=5), OnRows(name="volume", new_rows=5)), Retrain), "volume is no loss"
    worse = history(*(uncalibrated(n, auc=0.66) for n in range(3)), **calibrated_at(0.02))
    assert isinstance(decided(worse, decay), Retrain), "the ranking fell as well"
    fine = history(*(uncalibrated(n, error=0.025) for n in range(3)), **calibrated_at(0.02))
    assert isinstance(decided(fine, decay), Retrain), "the calibration holds"


def test_drift_without_harm_is_said_and_nothing_is_done() -> None:
    past = history(replace(window(0, 0.752, alarms=(MOVED,)), readings=(psi("origin", 900),)))
    found = diagnose(past, "roc_auc")
    assert isinstance(found, HarmlessDrift)
    assert found.columns == ("origin",)
    decision = decided(past, OnPerformance(name="decay", performance=PerformanceDrop()))
    assert isinstance(decision, Wait)
    assert decision.because[-1].trigger == "harmless_drift"
    assert "performance holds" in decision.because[-1].said
    assert isinstance(decided(past, OnDrift(name="d", drift=DriftAbove())), Retrain), "who asks for it gets it"


def test_drift_whose_harm_is_not_known_is_not_called_harmless() -> None:
    assert "not known" in diagnose(history(window(0, alarms=(MOVED,))), "roc_auc").said
    assert "worse than proven" in diagnose(history(window(0, 0.72, alarms=(MOVED,))), "roc_auc").said


def test_decay_names_the_columns_that_moved_with_it() -> None:
    found = diagnose(history(replace(window(0, 0.66, alarms=(MOVED,)), mature_alarms=(LOSS,))), "roc_auc")
    assert isinstance(found, Decay)
    assert found.columns == ("origin",)
    alone = diagnose(history(replace(window(0, 0.66), mature_alarms=(LOSS,))), "roc_auc")
    assert "no column moved" in alone.said
