"""All policies of a backtest together: what one that fails does to the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import numpy as np
import polars as pl
import pytest

from everfit.errors import DiskFull, EverfitError, SpecError, TrainingFailed
from everfit.replay.backtest import play_all
from everfit.replay.history import History, prepare
from everfit.replay.options import BacktestOptions
from everfit.replay.play import Played, play_bench
from everfit.replay.policy_file import LivePolicy
from everfit.replay.portrait import Portrait
from everfit.replay.record import Backtest
from tests.unit.replay.histories import ROWS, flip_at, matrix_of

WINDOWS = 60
CHANCE = np.random.default_rng(0)
FRAME = pl.DataFrame(
    {
        "at": [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=place) for place in range(WINDOWS * ROWS)],
        "x": CHANCE.normal(size=WINDOWS * ROWS),
        "y": CHANCE.integers(0, 2, WINDOWS * ROWS),
    }
)
Play = Callable[[History, Callable[[], None]], Played]


def played(folder: Path, **specs: Play) -> Backtest:
    own = tuple(LivePolicy(name, "", play) for name, play in specs.items())
    options = BacktestOptions("y", folder, time="at", windows=WINDOWS, policies=("everfit",), own=own, later=())
    history = prepare(FRAME, options)
    return play_all(matrix_of(flip_at(30))[0], Portrait(history.rows.drop("y"), history.cut), history, options)


def fails(error: EverfitError) -> Play:
    def play(history: History, go_on: Callable[[], None]) -> Played:
        raise error

    return play


def late(history: History, go_on: Callable[[], None]) -> Played:
    """Nobody serves in the first five windows."""
    found = play_bench(matrix_of(flip_at(30))[0])
    return replace(found, name="late", scores=np.where(np.arange(len(found.scores)) < 5, np.nan, found.scores))


def test_a_spec_without_a_model_ends_alone_and_says_why(tmp_path: Path) -> None:
    found = played(tmp_path, spec=fails(TrainingFailed("no model ever served; the last run: too few rows")), late=late)
    assert [each.name for each in found.policies] == ["everfit", "never", "every1", "late"]
    assert [(each.name, each.why) for each in found.unplayed] == [
        ("spec", "no model ever served; the last run: too few rows")
    ]
    assert found.to_dict()["unplayed"][0]["name"] == "spec"
    assert "spec" not in found.advice.to_dict()["said"]
    assert found.policies[3].gain == pytest.approx(found.policies[0].gain, abs=0.06), "on the windows that it served"
    assert any("late: nothing served in 5 of 50 scored windows" in each for each in found.remarks)


def test_every_error_of_ours_but_a_full_disk_ends_only_its_policy(tmp_path: Path) -> None:
    found = played(tmp_path, one=fails(SpecError("p.yaml:2: triggers: wrong")), two=fails(TrainingFailed("odd")))
    assert [each.name for each in found.unplayed] == ["one", "two"]
    with pytest.raises(DiskFull, match="no space"):
        played(tmp_path, one=fails(DiskFull("no space")))


def test_live_flows_end_when_nobody_waits_for_them(tmp_path: Path) -> None:
    begun, ended = Event(), Event()

    def endless(history: History, go_on: Callable[[], None]) -> Played:
        begun.set()
        try:
            while True:
                go_on()
        finally:
            ended.set()

    def full(history: History, go_on: Callable[[], None]) -> Played:
        begun.wait(60)
        raise DiskFull("no space")

    with pytest.raises(DiskFull):
        played(tmp_path, full=full, endless=endless)
    assert begun.is_set()
    assert ended.wait(60)
