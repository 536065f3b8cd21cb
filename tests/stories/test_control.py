"""The control loop over weeks: windows close, labels mature, rests and schedules follow the events' clock."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from everfit.decide.decision import FixData
from everfit.facts import WindowClosed, WindowMatured
from tests.replaying import DAILY, EAGER, Replay, dated_facts, replay_of
from tests.world import facts_of, rows


@pytest.fixture(scope="module")
def nightly(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return replay_of(tmp_path_factory.mktemp("nightly"), DAILY)


def test_columns_are_learned_a_champion_comes_and_windows_follow_day_by_day(nightly: Replay) -> None:
    standing = nightly.world.standing()
    assert standing.schema is not None
    assert standing.schema.names() == ["weak", "strong", "idle", "shop"]
    assert standing.champion is not None
    spans = [fact.span for _, fact in dated_facts(nightly, WindowClosed)]
    assert [span.end - span.start for span in spans] == [timedelta(days=1)] * len(spans)
    assert all(one.end == other.start for one, other in pairwise(spans))
    matured = {fact.span: at for at, fact in dated_facts(nightly, WindowMatured)}
    assert all(at == span.end + timedelta(hours=1) for span, at in matured.items())
    assert set(spans) - set(matured) <= {spans[-1]}  # the last day's labels have not matured yet


def test_a_schedule_fires_at_midnight_of_the_events_until_the_budget_is_spent(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, EAGER, 32)
    _, *others = replay.starts()
    assert others == [20.0 + number for number in range(7)]  # eight runs in thirty days, with the first


def test_rests_on_the_events_clock_are_kept_and_doubled(nightly: Replay) -> None:
    first, *others = nightly.starts()
    gaps = [later - earlier for earlier, later in pairwise([first, *others])]
    outcomes = [run.outcome for run in nightly.world.standing().history.runs]
    assert outcomes[0] == "promoted"
    rest = 2.0
    for gap, outcome in zip(gaps, outcomes[:-1], strict=True):
        rest = 2.0 if outcome == "promoted" else 2 * rest
        assert rest <= gap < rest + 1
    assert len(others) >= 3


def test_a_control_that_is_killed_after_every_tick_writes_the_same_ledger(nightly: Replay, tmp_path: Path) -> None:
    restless = replay_of(tmp_path, DAILY, fresh=True)
    assert facts_of(restless.ports.ledger.read("m")) == facts_of(nightly.ports.ledger.read("m"))


def test_the_same_rows_at_once_or_day_by_day_make_the_same_windows(nightly: Replay, tmp_path: Path) -> None:
    """Only the champion's first day depends on when the first rows came."""
    at_once = Replay(tmp_path, DAILY)
    at_once.feed(rows(0, 20))
    at_once.feed(rows(20, 40))
    one, other = (
        [(fact.span, fact.rows) for _, fact in dated_facts(each, WindowClosed)] for each in (nightly, at_once)
    )
    assert one == other


def test_broken_rows_are_a_decision_that_names_the_column_and_nothing_is_trained(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, DAILY, 22)
    runs = len(replay.starts())
    for number in range(22, 26):
        replay.feed(rows(number, 1).with_columns(strong=pl.lit(None, dtype=pl.Float64)))
    decision = replay.world.standing().decisions[-1][2]
    assert isinstance(decision, FixData)
    assert "strong" in decision.columns
    assert "null" in decision.because[0].said
    assert len(replay.starts()) == runs
