"""Broken rows through the whole control loop: named, first seen, nothing trained meanwhile, and over by themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from everfit.decide.decision import FixData
from everfit.decide.history import WindowRecord
from everfit.detect.signal import Signal
from everfit.observe.intake import FAILED, REFUSED_COLUMNS
from everfit.ports import Batch, Table
from tests.unit.flows.test_control import Replay
from tests.world import DAY0, rows

OFTEN = "triggers: [{name: volume, new_rows: 1}]\ndecide: {cool_down: 1m, rest_at_most: 1m, budget: {runs: 100}}\n"
NEVER = "triggers: [{name: launch, event: launch}]\n"
BEFORE = 12  # days that came at once; the champion is of the last of them
DAY = timedelta(days=1)


def days(first: int, many: int = 1) -> pl.DataFrame:
    """Sixty rows a day: fewer than fifty values of a column may be alike by chance."""
    return rows(2 * first, 2 * many).with_columns(at=DAY0 + (pl.col("at") - DAY0) / 2)


def began(folder: Path, more: str, until: int = BEFORE) -> Replay:
    replay = Replay(folder, more)
    replay.feed(days(0, BEFORE))
    for day in range(BEFORE, until):
        replay.feed(days(day))
    return replay


def windows(replay: Replay) -> dict[int, WindowRecord]:
    """Windows by their day."""
    return {(w.span.start - DAY0) // DAY: w for w in replay.world.standing().history.windows}


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


def alarms(window: WindowRecord) -> list[str]:
    return [alarm.signal.name for alarm in window.alarms if alarm.kind == "quality"]


def test_the_same_rows_sent_again_are_a_flood_of_copies(tmp_path: Path) -> None:
    replay = began(tmp_path, NEVER, BEFORE + 1)
    replay.feed(days(BEFORE + 1))
    replay.feed(days(BEFORE + 1))
    replay.feed(days(BEFORE + 2))
    decision = replay.world.standing().decisions[-1][2]
    assert isinstance(decision, FixData)
    assert "50% of the rows were sent before" in decision.because[0].said
    assert windows(replay)[BEFORE + 1].rows == 60
    replay.feed(days(BEFORE + 3))
    assert not isinstance(replay.world.standing().decisions[-1][2], FixData)


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


def test_rows_that_the_model_failed_on_are_its_fault_and_not_theirs(tmp_path: Path) -> None:
    replay = began(tmp_path, NEVER, BEFORE + 2)
    day = BEFORE + 2
    frame = days(day)
    failed = frame.select(
        _table=pl.lit("predictions"), _reason=pl.lit(FAILED), _column=pl.lit(None, dtype=pl.String),
        _payload=pl.lit("{}"), _time=pl.col("at").dt.cast_time_unit("us"), _arrived=pl.col("at"),
        _day=pl.col("at").dt.date(),
    ).select(pl.col(name).cast(dtype) for name, dtype in REFUSED_COLUMNS.items())[:40]  # fmt: skip
    replay.ports.journal.append([Batch(Table.REFUSED, failed)])
    replay.feed(frame)
    replay.feed(days(day + 1))
    window = windows(replay)[day]
    assert alarms(window) == []
    assert isinstance(errors := window.find("serve.errors"), Signal)
    assert (errors.value, errors.rows) == (1.0, 40)  # files bring no answers: only what was asked of a server counts
    refused = window.find("quality.refused")
    assert refused is None or refused.value == 0
    assert not isinstance(replay.world.standing().decisions[-1][2], FixData)
