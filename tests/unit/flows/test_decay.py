"""Evidence of decay in the watch: when it grows, when it alarms, and when it is left as it was."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from everfit.decide.decision import Retrain, Wait
from everfit.facts import RenewBegan, WindowMatured
from everfit.standing import run_of
from tests.unit.flows.served import Served, signal
from tests.world import FIRST, SECOND

FLIPPED = (1 - pl.col("late")).alias("late")
DECAY = "triggers: [{name: decay, alarm: performance}]\n"
SLOW = {"labels_mature_after: 1h": "labels_mature_after: 3d"}


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Two days as before, then one on which the truth is the opposite."""
    made = Served(tmp_path_factory.mktemp("turned"), DECAY)
    for _ in range(3):
        made.serve()
    made.serve(FLIPPED)
    return made


def test_a_window_in_which_the_model_came_is_no_evidence_and_the_next_one_is(turned: Served) -> None:
    assert turned.fact(WindowMatured, 40).decay is None
    assert [turned.fact(WindowMatured, day).decay.windows for day in (41, 42)] == [1, 2]
    evidence = signal(turned.now.history.windows[2].mature, "decay")
    assert 0 < evidence.value < 417  # 365 windows a false alarm, an eighth of them for the test of one window
    assert evidence.smallest is not None
    assert 0 < evidence.smallest < 0.5  # of roc_auc


def test_labels_that_turn_raise_an_alarm_of_performance_and_nothing_else(turned: Served) -> None:
    *healthy, last = turned.now.history.windows
    assert [alarm for window in healthy for alarm in (*window.alarms, *window.mature_alarms)] == []
    assert last.alarms == ()  # at its close no label counts yet, and no column moved
    assert [(alarm.kind, alarm.signal.name) for alarm in last.mature_alarms] == [("performance", "performance.roc_auc")]
    assert last.mature_alarms[0].signal.value < 0.3
    assert "decay" in last.mature_alarms[0].said
    assert turned.fact(WindowMatured, 43).decay.windows == 0  # the detector begins anew


def test_a_trigger_on_it_retrains_once(turned: Served) -> None:
    asked = [decision for _, _, decision in turned.now.decisions if isinstance(decision, Retrain)]
    assert [reason.trigger for decision in asked for reason in decision.because] == ["decay"]
    began = turned.world.story(run_of(asked[0])).find(RenewBegan)
    assert began is not None
    assert not began.first
    assert [run.triggers for run in turned.now.history.runs[1:]] == [("decay",)]


def test_windows_of_an_earlier_champion_say_nothing_of_this_one(tmp_path: Path) -> None:
    served = Served(tmp_path, parameters=dict(FIRST), changed=SLOW)
    for changes in ((), (FLIPPED,), (FLIPPED,)):
        served.serve(*changes)
    assert served.now.decay.windows == 0  # nothing has matured yet
    served.champion("renew-2", SECOND)
    served.serve()
    served.serve()
    matured = [served.fact(WindowMatured, day) for day in (40, 41)]
    assert [(fact.labelled, fact.decay, fact.alarms) for fact in matured] == [(30, None, ())] * 2
    assert (served.now.decay.bets, served.now.decay.windows) == ((), 0)
    assert isinstance(served.decision, Wait)
    assert len(served.now.history.runs) == 2


def test_a_day_that_was_named_ahead_is_measured_and_is_no_evidence(tmp_path: Path) -> None:
    sale = "watch: {at_least: 20, expected: [{name: sale, from: 2013-02-11, to: 2013-02-12}]}"  # day 41
    served = Served(tmp_path, changed={"watch: {at_least: 20}": sale})
    served.serve()
    before = served.now.decay
    served.serve(FLIPPED)
    assert signal(served.last.mature, "performance.roc_auc").value < 0.3
    assert (served.last.mature_alarms, served.now.decay) == ((), before)
    served.serve()
    assert served.now.decay.windows == before.windows + 1
    assert isinstance(served.decision, Wait)
