"""A person lets a kept version serve, whatever its verdict was: it is released step by step, and the guard protects."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from everfit.facts import BenchScored, Judged, RecallBegan, RecallEnded, ReleaseEnded, ReleasePlanned, WentLive
from everfit.flows.durable import begin
from everfit.flows.recall import asked_for
from everfit.lifecycle import State
from everfit.observe.window import Span
from everfit.ports import Write
from everfit.standing import WATCH, Kept
from everfit.testing import FrozenClock, in_memory
from tests.traffic import Model, Traffic
from tests.world import DAY0, FIRST, NOW, WORSE, World, fill, find

CANARY = """rollout:
  weights: [20%]
  interval: 20m
  approve: true
  guard: {requests_at_least: 20, labels_mature_after: 1m, extend_up_to: 20m, checks: [
    {of: errors, at_least: 50}, {of: loss, at_least: 50}]}
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Version 1 serves; version 2 is worse and was kept back by the judge."""
    made = World(in_memory(FrozenClock(NOW)), tmp_path)
    fill(made.ports.lake)
    made.learn()
    made.renewed("renew-1", FIRST)
    made.renewed("renew-2", WORSE)
    assert version(made, 2).state is State.KEPT_BACK
    return made


def version(world: World, number: int) -> Kept:
    return next(kept for kept in world.standing().bench.values() if kept.version == number)


def recalled(world: World, number: int, run: str = "recall-1") -> RecallBegan:
    """A person's word, not yet worked on."""
    fact = asked_for(world.standing(), version(world, number), "the new one is no good", "ada", NOW)
    begin(world.desk, "m", run, fact)
    return fact


def test_a_worse_version_is_caught_at_the_canary_and_taken_back(world: World) -> None:
    world.wants(FIRST, CANARY)
    users = Traffic(world, per_minute=400, models={2: Model(noise=4.0)})
    users.run(2)
    recalled(world, 2)
    world.finish()
    run = world.releases()[-1]
    assert [stage.kind for stage in find(world, run, ReleasePlanned).stages][:2] == ["publish", "weight"]  # no question
    assert version(world, 2).state is State.CANARY
    assert "Judged" not in world.kinds("recall-1")
    users.run(30, until=run)
    ended = find(world, run, ReleaseEnded)
    assert (ended.outcome, "loss" in ended.said) == ("rolled_back", True)
    assert world.story(run).find(WentLive) is None
    assert world.live() == version(world, 1).candidate.id
    assert (version(world, 1).state, version(world, 2).state) == (State.LIVE, State.ROLLED_BACK)


def test_it_serves_after_the_ordinary_release_and_so_does_one_that_was_taken_back(world: World) -> None:
    fact = recalled(world, 2)
    assert fact.because[0].said == "ada recalls version 2 (kept back): the new one is no good"
    world.finish()
    assert find(world, "recall-1", RecallEnded) == RecallEnded("planned", fact.because[0].said)
    assert find(world, world.releases()[-1], ReleasePlanned).by == "ada"
    assert world.live() == version(world, 2).candidate.id
    world.roll_back()
    world.finish()
    assert version(world, 2).state is State.ROLLED_BACK
    recalled(world, 2, "recall-2")
    world.finish()
    assert (version(world, 1).state, version(world, 2).state) == (State.RETIRED, State.LIVE)


def test_it_is_under_way_for_the_policy_from_its_first_fact_to_the_end_of_its_release(world: World) -> None:
    world.wants(FIRST, "rollout: {bake: 1d}\n")
    recalled(world, 2)
    past = world.standing().history
    assert past.recalling is not None
    world.finish()
    past = world.standing().history
    assert (past.recalling, past.releasing) == (None, world.releases()[-1])


def test_it_fails_without_the_files_or_when_another_model_serves_by_now(world: World) -> None:
    late = asked_for(world.standing(), version(world, 1), "late", "ada", NOW)  # of a moment at which version 1 served
    world.ports.models.drop(version(world, 2).candidate.file)
    recalled(world, 2)
    begin(world.desk, "m", "recall-2", RecallBegan(version(world, 2).candidate.id, "gone", -1, 0, 0, 0, late.because))
    world.finish()
    ended = find(world, "recall-1", RecallEnded)
    assert (ended.outcome, "not on this shelf" in ended.said) == ("failed", True)
    assert "another model serves by now" in find(world, "recall-2", RecallEnded).said
    assert version(world, 2).state is State.KEPT_BACK
    assert world.live() == version(world, 1).candidate.id


def test_one_without_a_verdict_is_judged_first_and_kept_back_until_the_person_says_so_again(world: World) -> None:
    never = version(world, 2)
    for day in range(34, 40):
        _scored(world, day)
    fact = asked_for(world.standing(), never, "try it", "ada", NOW)
    steps, standing = world.steps(), world.standing()
    begin(world.desk, "m", "recall-1", fact)
    judged = steps.judge_recalled(standing, world.story("recall-1"), fact, lambda: True)
    assert judged.verdict.kind != "better"
    assert all("bench" not in gate.name for gate in judged.verdict.gates)  # the paired interval, not the bench's word
    now = world.ports.clock.now()
    world.ports.ledger.append(Write("m", "recall-1", 2, judged, now, "worker"))
    world.finish()
    ended = find(world, "recall-1", RecallEnded)
    assert (ended.outcome, isinstance(find(world, "recall-1", Judged), Judged)) == ("kept_back", True)
    assert ended.said.endswith("; `everfit recall 2` once more lets it serve all the same")
    recalled(world, 2, "recall-2")
    world.finish()
    assert world.live() == never.candidate.id


def _scored(world: World, day: int) -> None:
    standing = world.standing()
    span = Span(DAY0 + timedelta(days=day), DAY0 + timedelta(days=day + 1))
    levels: dict[str, tuple[float | None, float | None, float | None]] = dict.fromkeys(standing.bench, (0.7, 0.7, 0.7))
    fact = BenchScored(day - 24, day - 24, 1, span, 30, 30, "roc_auc", True, levels, {})
    at = world.ports.clock.now()
    world.ports.ledger.append(Write("m", WATCH, standing.watch_step + 1, fact, at, "control", ends=True))
