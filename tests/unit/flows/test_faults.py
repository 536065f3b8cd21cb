"""Faults of rows: copies that come again, and rows that a model fails on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl

from everfit.decide.decision import FixData
from everfit.decide.history import WindowRecord
from everfit.detect.signal import Signal
from everfit.observe.intake import FAILED, REFUSED_COLUMNS
from everfit.ports import Batch, Table
from tests.replaying import Replay
from tests.world import DAY0, rows

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
