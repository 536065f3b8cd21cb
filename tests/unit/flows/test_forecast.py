"""What a window says before its labels come: estimates held to the labels that came, harm, rows together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from everfit.detect.signal import NotEnough, Signal
from everfit.facts import WindowClosed
from tests.unit.flows.served import Served, named, signal
from tests.world import DAYS

WITHOUT_LABELS = ("estimated.", "unreconciled.", "harm.", "drift.harm", "drift.together")
MORE = {"watch: {at_least: 20}": "watch: {at_least: 20, metrics: [accuracy, f1]}"}
MOVED = (pl.col("strong") + 3).alias("strong")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Eight days as before, then two on which what the model rests on has moved, then one on which the idle one has."""
    made = Served(tmp_path_factory.mktemp("forecast"), changed=MORE)
    for changes in [()] * 8 + [(MOVED,)] * 2 + [((pl.col("idle") + 3).alias("idle"),)]:
        made.serve(*changes)
    return made


def closed(served: Served, number: int) -> WindowClosed:
    """What was said at the close of a day, counted from the first that the champion served."""
    fact = served.fact(WindowClosed, DAYS + number)
    assert isinstance(fact, WindowClosed)
    return fact


def test_estimates_appear_at_the_close_beside_what_they_are_held_to(served: Served) -> None:
    readings = closed(served, 1).readings
    for metric in ("roc_auc", "accuracy", "f1", "calibration_error"):
        estimated, plain = (named(readings, f"{begin}.{metric}") for begin in ("estimated", "unreconciled"))
        if metric == "calibration_error":  # it cannot be estimated: what a score means is what the estimate trusts
            assert not estimated
            continue
        assert len(estimated) == len(plain) == 1
    auc = signal(readings, "estimated.roc_auc")
    assert auc.low is not None
    assert auc.high is not None
    assert auc.low < signal(served.now.history.windows[1].mature, "performance.roc_auc").value < auc.high


def test_what_was_off_is_learned_once_labels_have_come(served: Served) -> None:
    """Five windows of this champion must have matured; the first day does not count, the model came in it."""
    plain, moved = (signal(closed(served, 7).readings, f"{n}.accuracy") for n in ("unreconciled", "estimated"))
    windows = served.now.history.windows[1:7]
    past = [
        signal(w.mature, "performance.accuracy").value - signal(w.readings, "unreconciled.accuracy").value
        for w in windows
    ]
    assert moved.effect == pytest.approx(float(np.mean(past)))
    assert moved.value == pytest.approx(min(1.0, plain.value + float(np.mean(past))))
    early = signal(closed(served, 3).readings, "estimated.accuracy")
    assert early.value == signal(closed(served, 3).readings, "unreconciled.accuracy").value


def test_none_of_it_is_ever_an_alarm(served: Served) -> None:
    alarms = [alarm for window in served.now.history.windows for alarm in (*window.alarms, *window.mature_alarms)]
    assert alarms  # the moved columns were found
    assert not [alarm for alarm in alarms if alarm.signal.name.startswith(WITHOUT_LABELS)]


def test_what_drift_costs_is_told_of_windows_in_which_columns_drifted(served: Served) -> None:
    told = [bool(named(closed(served, number).readings, "harm.")) for number in range(11)]
    drifted = [any(a.kind == "drift" for a in closed(served, number).alarms) for number in range(11)]
    assert told == drifted
    assert drifted == [False] * 8 + [True] * 3
    cost = named(closed(served, 8).readings, "harm.roc_auc")["harm.roc_auc"]
    assert isinstance(cost, NotEnough) or cost.value < 0.2


def test_drift_counts_as_much_as_the_model_rests_on_the_column(served: Served) -> None:
    champion = served.now.champion
    assert champion is not None
    weights = champion.backdrop.importance
    assert weights["strong"] > 0.9
    usual, strong, idle = (signal(closed(served, number).readings, "drift.harm") for number in (5, 8, 10))
    assert idle.value < 0.2
    assert strong.value > 1
    assert usual.value < 0.2
    assert strong.p_value is not None
    assert strong.p_value < 1e-3
    assert idle.p_value is not None
    assert idle.p_value > 0.01
    psi = {r.column: r for r in closed(served, 10).readings if isinstance(r, Signal) and r.name == "drift.psi"}
    known = sum(weights[column] for column in psi if column in weights)
    mean = sum(weights[c] * max(0.0, psi[c].effect or 0.0) for c in psi if c in weights) / known
    assert idle.value == pytest.approx(mean)
    assert psi["idle"].value > 1


def test_rows_of_a_window_are_read_together_where_there_are_enough(served: Served, tmp_path: Path) -> None:
    few = named(closed(served, 5).readings, "drift.together")["drift.together"]
    assert isinstance(few, NotEnough)
    wide = Served(tmp_path, changed={"window: 1d": "window: 4d"})
    for number in range(10):
        wide.serve(*([MOVED] if number >= 6 else []))
    read = [signal(window.readings, "drift.together") for window in wide.now.history.windows]
    assert len(read) >= 2
    assert read[0].p_value is not None
    assert read[0].p_value > 0.01
    assert read[-1].p_value is not None
    assert read[-1].p_value < read[0].p_value


def test_rows_that_nobody_scored_have_no_estimate(tmp_path: Path) -> None:
    """Files bring rows without a score; their model scores them once their labels have come."""
    served = Served(tmp_path, scored=False)
    served.serve()
    served.serve()
    readings = closed(served, 1).readings
    assert not named(readings, "estimated.")
    assert not named(readings, "unreconciled.")
    assert named(readings, "drift.harm")
    assert signal(served.last.mature, "performance.roc_auc").value > 0.8


def test_a_handful_of_rows_is_not_read(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.serve()
    served.serve(many=12)
    assert not [r for r in closed(served, 1).readings if r.name.startswith(WITHOUT_LABELS)]
