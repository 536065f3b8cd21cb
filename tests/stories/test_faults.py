"""Broken rows through the whole control loop: named, first seen, nothing trained meanwhile, and over by themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from everfit.decide.decision import FixData
from tests.unit.flows.test_faults import BEFORE, DAY, NEVER, alarms, began, days, windows
from tests.world import DAY0

OFTEN = "triggers: [{name: volume, new_rows: 1}]\ndecide: {cool_down: 1m, rest_at_most: 1m, budget: {runs: 100}}\n"


def frozen(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(weak=pl.lit(0.25))


def nulls(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(weak=pl.when(pl.int_range(pl.len()) % 2 == 0).then("weak"))


def copies(frame: pl.DataFrame) -> pl.DataFrame:
    first = [pl.col(name).first().alias(name) for name in ("weak", "strong", "idle", "shop")]
    return pl.concat([frame[:20], frame[20:].with_columns(first)])


@pytest.mark.parametrize(
    "broken, column, kind",
    [
        pytest.param(frozen, "weak", "frozen column", id="a column that is one value"),
        pytest.param(nulls, "weak", "null spike", id="half of a column is missing"),
        pytest.param(copies, "*", "repeated rows", id="rows that repeat each other"),
    ],
)
def test_a_fault_is_named_blocks_training_and_lifts_itself(
    tmp_path: Path, broken: Callable[[pl.DataFrame], pl.DataFrame], column: str, kind: str
) -> None:
    replay = began(tmp_path, OFTEN, BEFORE + 2)
    runs = len(replay.starts())
    for day in (BEFORE + 2, BEFORE + 3):
        replay.feed(broken(days(day)))
    replay.feed(days(BEFORE + 4))  # both broken days are over now
    decision = replay.world.standing().decisions[-1][2]
    assert isinstance(decision, FixData)
    assert decision.columns == (column,)
    first = f"{DAY0 + (BEFORE + 2) * DAY:%Y-%m-%d}"
    assert f"({kind}, first in {first}" in decision.because[0].said
    assert [bool(alarms(windows(replay)[BEFORE + n])) for n in range(1, 4)] == [False, True, True]
    # The run of the day before the fault was begun when its window closed, and that is the last one.
    assert replay.starts()[runs:] == [BEFORE + 2]
    replay.feed(days(BEFORE + 5))
    assert not isinstance(replay.world.standing().decisions[-1][2], FixData)
    assert replay.starts()[runs:] == [BEFORE + 2, BEFORE + 5]


def test_a_source_that_falls_silent_is_asked_for_and_is_well_again_when_it_speaks(tmp_path: Path) -> None:
    """A fortnight of windows says what is usual. A day without any row is a silence, and is one too."""
    quiet = BEFORE + 15
    replay = began(tmp_path, NEVER, quiet)
    assert not any(alarms(window) for window in windows(replay).values())
    replay.feed(days(quiet)[:6])
    replay.feed(days(quiet + 2))  # nothing came on the day between
    decision = replay.world.standing().decisions[-1][2]
    assert isinstance(decision, FixData)
    assert decision.columns == ("*",)
    assert "the source went quiet" in decision.because[0].said
    assert "source gone quiet, first in" in decision.because[0].said
    assert f"{DAY0 + quiet * DAY:%Y-%m-%d}" in decision.because[0].said
    assert [alarms(windows(replay)[quiet + n]) for n in (0, 1)] == [["quality.quiet"]] * 2
    replay.feed(days(quiet + 3))
    assert not isinstance(replay.world.standing().decisions[-1][2], FixData)
