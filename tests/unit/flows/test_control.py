"""The control loop: what people say, what breaks, what comes late or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pytest

from everfit.clock import BEGINNING
from everfit.decide.decision import FixData, Retrain
from everfit.errors import Conflict
from everfit.facts import Paused, Resumed, RetrainAsked, WindowClosed, WindowMatured
from everfit.flows.control import beside
from everfit.observe.intake import take_history
from everfit.ports import Batch, Table
from tests.replaying import DAILY, NEVER, RULES, Replay, dated_facts, replay_of
from tests.world import rows


def test_a_person_asks_pauses_and_resumes(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, NEVER, 22)
    assert len(replay.starts()) == 1
    replay.say(Paused("holiday"))
    replay.say(RetrainAsked("look at it", "k1"))
    replay.feed(rows(22, 1))
    assert len(replay.starts()) == 1
    replay.say(Resumed("back"))
    replay.feed(rows(23, 1))
    assert len(replay.starts()) == 2
    asked = [decision for _, _, decision in replay.world.standing().decisions if isinstance(decision, Retrain)]
    assert asked[-1].because[0].said == "ada asked for it: look at it"
    replay.feed(rows(24, 1))
    assert len(replay.starts()) == 2  # the same word never counts twice


def test_before_any_row_there_is_no_time_and_nothing_to_do(tmp_path: Path) -> None:
    replay = Replay(tmp_path, DAILY)
    assert not replay.control.tick()
    assert replay.ports.clock.now() == BEGINNING
    assert replay.ports.ledger.read("m") == []
    replay.feed(rows(0, 2))  # fewer rows than columns are learned from
    assert replay.starts() == []


def test_a_column_that_changes_its_type_is_named(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, NEVER, 22)
    for number in range(22, 25):
        broken = (
            pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("a lot")).otherwise(pl.col("strong").cast(pl.String))
        )
        replay.feed(rows(number, 1).with_columns(strong=broken))
    decision = replay.world.standing().decisions[-1][2]
    assert isinstance(decision, FixData)
    assert "strong" in decision.columns
    assert "refused" in decision.because[-1].said


def test_labels_of_unknown_ids_are_kept_and_are_no_rows(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, NEVER, 22)
    strangers = rows(22, 1).with_columns(flight=pl.format("nobody-{}", "flight"))
    _, labels = take_history(strangers, RULES, now=None, issue=str)
    replay.ports.journal.append([Batch(Table.LABELS, labels.rows)])
    for number in range(22, 25):
        replay.feed(rows(number, 1))
    closed = [fact.rows for _, fact in dated_facts(replay, WindowClosed)]
    matured = [(fact.rows, fact.labelled) for _, fact in dated_facts(replay, WindowMatured)]
    assert set(closed) == {30}
    assert set(matured) == {(30, 30)}


def test_an_event_from_before_the_last_closed_window_is_late_and_reopens_nothing(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, NEVER, 24)
    before = [(fact.span, fact.rows) for _, fact in dated_facts(replay, WindowClosed)]
    replay.feed(rows(21, 1).with_columns(flight=pl.format("late-{}", "flight")))
    replay.feed(rows(24, 1))
    after = [(fact.span, fact.rows) for _, fact in dated_facts(replay, WindowClosed)]
    assert after[: len(before)] == before
    kept = replay.ports.lake.read(Table.PREDICTIONS, since=None, until=None).filter("_late").collect()
    assert kept.height == 30


def test_rows_move_while_a_long_look_goes_on() -> None:
    """Scoring a bench took three minutes once, in which the guard of a release saw nothing."""
    moved, done = threading.Event(), []

    def score() -> None:
        assert moved.wait(30)
        done.append("scored")

    beside(score, moved.set, 0.01)
    assert done == ["scored"]


def test_what_fails_beside_is_told_after_the_work_is_over() -> None:
    over = threading.Event()

    def fails() -> None:
        over.set()
        raise Conflict("another control wrote first")

    def waits() -> None:
        over.wait(30)

    with pytest.raises(Conflict, match="wrote first"):
        beside(waits, fails, 0.01)
    with pytest.raises(Conflict, match="wrote first"):
        beside(fails, lambda: None, 0.01)
    assert over.is_set()
