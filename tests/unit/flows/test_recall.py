"""The story of a recall when the world does not stand still: what serves changes, or files are gone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from everfit.decide.decision import Reason
from everfit.facts import BenchScored, Judged, RecallBegan, RecallEnded, WentLive
from everfit.flows.durable import begin
from everfit.flows.steps import release_of
from everfit.lifecycle import State
from everfit.observe.window import Span
from everfit.ports import Write
from everfit.standing import WATCH, Kept
from everfit.testing import FrozenClock, in_memory
from tests.world import DAY0, NOW, SECOND, WORSE, World, fill, find

BASE = 10


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Version 1 serves; version 2 was kept back, and both were scored on days that came after their rows."""
    world = World(in_memory(FrozenClock(NOW)), tmp_path)
    fill(world.ports.lake)
    world.learn()
    world.renewed("renew-1", SECOND)
    world.renewed("renew-2", WORSE)
    for day in range(34, 40):
        scored(world, day)
    return world


def scored(world: World, day: int) -> None:
    """A window of the bench."""
    standing, number = world.standing(), BASE + day - 34
    span = Span(DAY0 + timedelta(days=day), DAY0 + timedelta(days=day + 1))
    levels: dict[str, tuple[float | None, float | None, float | None]] = dict.fromkeys(standing.bench, (0.7, 0.7, 0.7))
    fact = BenchScored(number, number, 1, span, 30, 30, "roc_auc", True, levels, {})
    at = world.ports.clock.now()
    world.ports.ledger.append(Write("m", WATCH, standing.watch_step + 1, fact, at, "control", ends=True))


def kept(world: World, version: int) -> Kept:
    return next(each for each in world.standing().bench.values() if each.version == version)


def call(world: World, *, against: int = 1, gain: float = 0.1, windows: int = 6) -> RecallEnded:
    """Recall version 2, and what became of it."""
    because = (Reason("recall", gain, 0.003, "version 2 beats version 1", "k"),)
    name = kept(world, against).candidate.id if against else "somebody"
    fact = RecallBegan(kept(world, 2).candidate.id, name, BASE + 5, windows, gain, 0.003, because)
    begin(world.desk, "m", "recall-1", fact)
    world.finish()
    ended: RecallEnded = find(world, "recall-1", RecallEnded)
    return ended


def test_it_is_judged_on_the_windows_after_both_were_trained_and_released(world: World) -> None:
    # The held-out rows of the second run begin later than the first's, so its model learned from two days more.
    assert call(world).outcome == "planned"
    judged = find(world, "recall-1", Judged)
    assert judged.verdict.kind == "better"
    assert judged.verdict.evidence.rows == 180
    assert world.live() == kept(world, 2).candidate.id
    assert (kept(world, 1).state, kept(world, 2).state) == (State.RETIRED, State.LIVE)
    assert world.standing().history.releasing is None


def test_a_lead_within_the_margin_is_kept_back(world: World) -> None:
    ended = call(world, gain=0.002)
    assert ended.outcome == "kept_back"
    assert "0.2 points a window on the bench (0.3 needed)" in ended.said
    assert kept(world, 2).state is State.KEPT_BACK


def test_it_is_void_when_another_model_serves_by_now(world: World) -> None:
    ended = call(world, against=0)
    assert (ended.outcome, world.kinds("recall-1")) == ("failed", ["RecallBegan", "RecallEnded"])
    assert "another model serves by now" in ended.said


def test_a_model_whose_files_are_gone_fails_and_stays_where_it_was(world: World) -> None:
    world.ports.models.drop(kept(world, 2).candidate.file)
    ended = call(world)
    assert ended.outcome == "failed"
    assert "not on this shelf" in ended.said
    assert kept(world, 2).state is State.KEPT_BACK
    assert kept(world, 1).state is State.LIVE


def test_a_retired_model_that_is_not_proven_anew_can_still_be_gone_back_to(world: World) -> None:
    assert call(world).outcome == "planned"
    before = kept(world, 1)
    assert before.verdict is not None
    because = (Reason("recall", 0.0, 0.003, "version 1 beats version 2", "k2"),)
    fact = RecallBegan(before.candidate.id, kept(world, 2).candidate.id, BASE + 5, 6, 0.0, 0.003, because)
    begin(world.desk, "m", "recall-2", fact)
    world.finish()
    assert find(world, "recall-2", RecallEnded).outcome == "kept_back"
    after = kept(world, 1)
    assert (after.state, after.verdict, after.reference) == (State.RETIRED, before.verdict, before.reference)
    world.roll_back()
    world.finish()
    assert world.live() == before.candidate.id


def test_a_release_is_planned_once_however_often_the_last_step_is_tried(world: World) -> None:
    assert call(world).outcome == "planned"
    release = release_of(kept(world, 2).candidate.id, "recall-1")
    assert world.releases()[-1] == release
    assert sum(isinstance(fact, WentLive) for fact in world.story(release).facts) == 1
