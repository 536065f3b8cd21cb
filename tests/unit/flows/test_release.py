"""Releases through ports in memory: approval, bake, servers that do not answer, the way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from everfit.errors import Conflict, ModelUnusable
from everfit.facts import Answered, ApprovalAsked, ReleaseEnded, ReleasePlanned, StageBegan, StepFailed, WentLive
from everfit.lifecycle import State
from everfit.ports import Write
from everfit.testing import FrozenClock, MemoryGateway, in_memory
from tests.world import FIRST, NOW, SECOND, World, fill, find


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A project with a champion."""
    made = World(in_memory(FrozenClock(NOW)), tmp_path)
    fill(made.ports.lake)
    made.learn()
    made.renewed("renew-1", FIRST)
    return made


def gateway(world: World) -> MemoryGateway:
    assert isinstance(world.ports.gateway, MemoryGateway)
    return world.ports.gateway


def clock(world: World) -> FrozenClock:
    assert isinstance(world.ports.clock, FrozenClock)
    return world.ports.clock


def answer(world: World, run: str, *, approved: bool) -> None:
    step = len(world.story(run).facts) + 1
    fact = Answered(run, approved, "because")
    world.ports.ledger.append(Write("m", run, step, fact, world.ports.clock.now(), "ada"))


@pytest.mark.parametrize(
    "approved, outcome, version, state",
    [
        pytest.param(True, "live", 2, State.LIVE, id="approved it goes live"),
        pytest.param(False, "refused", 1, State.REFUSED, id="refused it never does"),
    ],
)
def test_a_release_that_asks(world: World, approved: bool, outcome: str, version: int, state: State) -> None:
    world.renewed("renew-2", SECOND, "rollout: {approve: true}\n")
    run = world.releases()[-1]
    assert world.kinds(run) == ["ReleasePlanned", "ApprovalAsked"]
    assert find(world, run, ApprovalAsked).question == run
    assert world.standing().states["renew-2"] == State.AWAITING
    clock(world).forward(timedelta(days=400))
    world.finish()
    assert world.kinds(run) == ["ReleasePlanned", "ApprovalAsked"]  # however long it takes, and for nothing meanwhile
    answer(world, run, approved=approved)
    world.finish()
    assert find(world, run, ReleaseEnded).outcome == outcome
    assert gateway(world).pointed[-1].version == version
    assert world.standing().states["renew-2"] == state
    assert world.standing().history.runs[-1].outcome == ("promoted" if approved else "refused")


def test_a_bake_holds_the_run_until_it_is_over(world: World) -> None:
    world.renewed("renew-2", SECOND, "rollout: {bake: 2d}\n")
    run = world.releases()[-1]
    assert world.kinds(run)[-3:] == ["WentLive", "StageDone", "StageBegan"]
    assert find(world, run, StageBegan).until == NOW + timedelta(days=2)
    assert world.standing().history.running is not None
    clock(world).forward(timedelta(days=2) - timedelta(minutes=1))
    world.finish()
    assert world.story(run).find(ReleaseEnded) is None
    clock(world).forward(timedelta(minutes=1))
    world.finish()
    assert find(world, run, ReleaseEnded).outcome == "live"
    assert world.standing().history.running is None


def test_a_model_that_a_server_does_not_confirm_is_undone(world: World) -> None:
    first = world.live()
    gateway(world).answering = lambda route: route.candidate == first
    world.renewed("renew-2", SECOND)
    run = world.releases()[-1]
    assert world.live() == first
    assert "version 2 was not answered with" in find(world, run, StepFailed).said
    assert find(world, run, ReleaseEnded).outcome == "failed"
    assert world.story(run).find(WentLive) is None
    assert world.standing().history.runs[-1].outcome == "failed"
    champion = world.standing().champion
    assert champion is not None
    assert champion.candidate.id == first


def test_it_is_undone_even_after_a_crash_while_servers_swapped(world: World) -> None:
    """Then the gateway names the new model, and what to go back to is known from the plan alone."""
    first = world.live()
    gateway(world).answering = lambda _: False
    world.swap_at_most = 30.0
    world.begin("renew-2", SECOND)
    work = world.work()
    while not (releases := world.releases()[1:]) or world.kinds(releases[0])[-1] != "StageDone":
        work.tick()
    standing = world.standing()
    second = standing.bench[find(world, releases[0], ReleasePlanned).candidate]
    with pytest.raises(Conflict):  # the process ends within the step: the lease is gone
        world.steps().go_live(second, standing.champion, releases[0], lambda: False)
    assert world.live() == second.candidate.id
    world.swap_at_most = 0.01
    world.finish()
    assert world.live() == first
    assert find(world, releases[0], ReleaseEnded).outcome == "failed"


def test_a_roll_back_serves_the_previous_and_names_it_in_the_registry(world: World) -> None:
    first = world.live()
    world.renewed("renew-2", SECOND)
    assert world.ports.registry.aliases("m") == {"champion": 2, "previous": 1}
    world.roll_back()
    world.finish()
    assert world.live() == first
    assert world.ports.registry.aliases("m") == {"champion": 1}
    assert find(world, "release-back-1", WentLive).back
    assert [world.standing().states[run] for run in ("renew-1", "renew-2")] == [State.LIVE, State.ROLLED_BACK]


def test_a_release_that_was_left_is_not_resurrected(world: World) -> None:
    """Whoever repeats the left release's step late neither points nor writes."""
    world.renewed("renew-2", SECOND)
    run = world.releases()[-1]
    first, second = (kept for kept in world.standing().bench.values())
    world.roll_back()
    world.finish()
    pointed = list(gateway(world).pointed)
    with pytest.raises(Exception, match="came after it"):
        world.steps().go_live(second, first, run, lambda: True)
    with pytest.raises(Conflict):
        world.ports.ledger.append(Write("m", run, 3, find(world, run, WentLive), NOW, "zombie"))
    world.finish()
    assert gateway(world).pointed == pointed
    assert world.live() == first.candidate.id
    world.renewed("renew-3", {**SECOND, "again": 1})  # the evidence is new: it may be proven and serve
    assert find(world, world.releases()[-1], ReleaseEnded).outcome == "live"


def test_tidying_keeps_the_files_that_two_roll_backs_need(world: World) -> None:
    """After a roll-back status names the model behind: its files must be there."""
    now = world.standing()
    first = next(iter(now.bench.values()))
    path = world.ports.models.path(first.candidate.file)
    made = []
    for number in range(1, 6):
        (folder := world.folder / f"model-{number}").mkdir()
        (folder / "model.json").write_text(f"{path} {number}")
        file = world.ports.models.keep(folder, "skops")
        made.append(replace(first, version=number, candidate=replace(first.candidate, recipe=f"r{number}", file=file)))
    ids = [kept.candidate.id for kept in made]
    lives = [WentLive(ids[n], n + 1, ids[n - 1] if n else None, back=False, why="") for n in range(4)]
    champion = replace(now.history.champion, candidate=ids[3]) if now.history.champion else None
    standing = replace(
        now, bench=dict(zip(ids, made, strict=True)), releases=tuple((NOW, live) for live in lives),
        history=replace(now.history, champion=champion, previous=ids[2]),
    )  # fmt: skip
    world.steps().tidy(standing, keep=1)  # the newest was kept back, and is kept
    there = []
    for kept in made:
        try:
            world.ports.models.path(kept.candidate.file)
            there.append(kept.version)
        except ModelUnusable:
            continue
    assert there == [2, 3, 4, 5]
