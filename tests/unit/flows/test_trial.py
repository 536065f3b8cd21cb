"""Releases through shadow and canary, with requests and labels in memory: who goes through, who is taken back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from everfit.errors import ModelUnusable
from everfit.facts import GuardLooked, ReleaseEnded, StageBegan, StageDone, StepFailed, WentLive
from everfit.flows.durable import Next, NotYet
from everfit.flows.work import flows_of
from everfit.lifecycle import State
from everfit.testing import FrozenClock, MemoryGateway, in_memory
from tests.traffic import Model, Traffic
from tests.world import FIRST, NOW, SECOND, World, fill, find

STAGES = """rollout:
  mirror: 4m
  weights: [20%, 50%]
  interval: 4m
  bake: 4m
  guard: {requests_at_least: 20, labels_mature_after: 1m, extend_up_to: 20m, checks: [
    {of: errors, at_least: 50}, {of: latency, at_least: 50, worse_by_at_most: 50%}, {of: loss, at_least: 50}]}
"""
CANARY = STAGES.replace("  mirror: 4m\n", "")


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


def released(world: World, stages: str, **traffic: object) -> tuple[Traffic, str]:
    """The release of a second model, begun under traffic."""
    users = Traffic(world, **traffic)  # type: ignore[arg-type]  # a builder
    users.run(3)
    world.renewed("renew-2", SECOND, stages)
    return users, world.releases()[-1]


def stages_done(world: World, run: str) -> list[str]:
    """Stages that had their effect, in order."""
    return [fact.stage for fact in world.story(run).facts if isinstance(fact, StageDone)]


def outcome(world: World, run: str) -> str:
    return str(find(world, run, ReleaseEnded).outcome)


def test_a_good_challenger_goes_through_all_steps(world: World) -> None:
    users, run = released(world, STAGES)
    users.run(120, until=run)
    assert outcome(world, run) == "live"
    assert stages_done(world, run) == [
        "publish", "mirror", "weight", "analysis", "weight", "analysis", "alias", "bake", "tidy"
    ]  # fmt: skip
    shares = [(r.version, r.trial and (r.trial.mirror, r.trial.weight)) for r in gateway(world).pointed[1:]]
    assert shares == [(1, (1.0, 0.0)), (1, (0.0, 0.2)), (1, (0.0, 0.5)), (2, None), (2, (1.0, 0.0)), (2, None)]
    assert [world.standing().states[name] for name in ("renew-1", "renew-2")] == [State.RETIRED, State.LIVE]
    assert world.standing().history.runs[-1].outcome == "promoted"
    looks = [fact for fact in world.story(run).facts if isinstance(fact, GuardLooked)]
    assert looks[0].shown["pairs"] > 50
    assert "loss on the same rows" in looks[3].said


@pytest.mark.parametrize(
    "bad, said",
    [
        pytest.param(Model(fails=0.05), "errors", id="it fails on 5 % of the requests"),
        pytest.param(Model(noise=4.0), "loss", id="its predictions are worse"),
        pytest.param(Model(slow=6.0), "latency", id="it takes six times as long"),
    ],
)
def test_a_bad_challenger_is_taken_back_at_the_canary(world: World, bad: Model, said: str) -> None:
    users, run = released(world, CANARY.replace("4m", "30m"), models={2: bad}, per_minute=400)
    first = world.standing().champion
    users.run(40, until=run)
    assert outcome(world, run) == "rolled_back"
    assert f"rolled back: {said}" in find(world, run, ReleaseEnded).said
    route = world.ports.gateway.live("m")
    assert first is not None
    assert (route and route.candidate, route and route.trial) == (first.candidate.id, None)
    assert world.standing().states["renew-2"] == State.ROLLED_BACK
    assert world.standing().history.runs[-1].outcome == "rolled_back"
    assert world.ports.registry.aliases("m") == {"champion": 1}
    assert world.story(run).find(WentLive) is None


@pytest.mark.story
def test_where_servers_elsewhere_tell_of_failures_those_of_the_champion_count_too(world: World) -> None:
    failing = Model(fails=0.05)
    users, run = released(
        world, CANARY.replace("4m", "30m"), models={1: failing, 2: failing}, per_minute=400, elsewhere=True
    )
    users.run(33, until=run)
    assert "analysis" in stages_done(world, run)


def test_a_challenger_that_nobody_sees_is_taken_back_in_the_shadow(world: World) -> None:
    users, run = released(world, STAGES.replace("4m", "30m"), models={2: Model(fails=0.2)})
    users.run(10, until=run)
    assert outcome(world, run) == "rolled_back"
    assert stages_done(world, run) == ["publish"]
    assert "errors on the same rows" in find(world, run, ReleaseEnded).said


@pytest.mark.story
def test_in_the_bake_a_bad_model_is_rolled_back_to_the_old_champion(world: World) -> None:
    users, run = released(world, "rollout: {bake: 1h, guard: {checks: [{of: loss}]}}\n", models={2: Model(noise=5.0)},
                          per_minute=300)  # fmt: skip
    users.run(60, until=run)
    assert outcome(world, run) == "rolled_back"
    champion = world.standing().champion
    assert champion is not None
    assert champion.version == 1
    assert [world.standing().states[name] for name in ("renew-1", "renew-2")] == [State.LIVE, State.ROLLED_BACK]
    route = world.ports.gateway.live("m")
    assert route is not None
    assert (route.version, route.trial) == (1, None)


@pytest.mark.story
def test_no_traffic_is_never_success(world: World) -> None:
    users, run = released(world, CANARY)
    users.per_minute = 0
    users.run(28, until=run)
    looked = find(world, run, GuardLooked)
    assert looked.verdict == "ask"
    assert "say `everfit promote` or `everfit abort`" in looked.said
    assert stages_done(world, run) == ["publish", "weight"]
    facts = len(world.story(run).facts)
    users.run(5)
    assert len(world.story(run).facts) == facts  # nothing new came: nothing is written


@pytest.mark.story
def test_no_traffic_and_abort_in_the_spec_takes_it_back(world: World) -> None:
    users, run = released(world, CANARY.replace("guard: {", "guard: {inconclusive: abort, "))
    users.per_minute = 0
    users.run(60, until=run)
    assert outcome(world, run) == "rolled_back"
    assert "inconclusive" in find(world, run, ReleaseEnded).said


@pytest.mark.story
def test_a_canary_waits_for_labels_that_come_late(world: World) -> None:
    late = CANARY.replace("labels_mature_after: 1m", "labels_mature_after: 10m")
    users, run = released(world, late, labels_after=timedelta(minutes=9))
    users.run(8)
    assert stages_done(world, run) == ["publish", "weight"]
    assert "labelled rows" in find(world, run, GuardLooked).said
    users.run(10)
    assert stages_done(world, run)[:3] == ["publish", "weight", "analysis"]


@pytest.mark.story
def test_labels_of_the_shadow_are_no_rows_of_the_canary(world: World) -> None:
    """They come while the canary runs and are evidence; its own minimum needs its own rows."""
    late = STAGES.replace("labels_mature_after: 1m", "labels_mature_after: 5m").replace("20%", "1%")
    users, run = released(
        world, late.replace("extend_up_to: 20m", "extend_up_to: 1d"), labels_after=timedelta(minutes=4)
    )
    users.run(16)
    assert stages_done(world, run) == ["publish", "mirror", "weight"]
    looked = find(world, run, GuardLooked)
    assert "labelled rows (labels of this step's first rows" in looked.said


def test_a_challenger_that_a_server_cannot_load_never_gets_traffic(world: World) -> None:
    users, run = released(world, STAGES.replace("mirror: 4m", "mirror: 0s"))
    del users
    world2 = world
    assert stages_done(world2, run) == ["publish", "weight"]

    def cannot(route: object) -> bool:
        raise ModelUnusable("the server 7 cannot try version 2: out of memory")

    gateway(world).answering = cannot
    clock = world.ports.clock
    assert isinstance(clock, FrozenClock)
    clock.forward(timedelta(minutes=1))
    world.finish()
    assert outcome(world, run) == "rolled_back"
    assert "out of memory" in find(world, run, ReleaseEnded).said
    route = world.ports.gateway.live("m")
    assert route is not None
    assert (route.version, route.trial) == (1, None)


def test_a_challenger_that_no_server_takes_up_is_taken_back(world: World) -> None:
    gateway(world).answering = lambda route: route.trial is None
    _, run = released(world, STAGES)
    assert find(world, run, StepFailed).step == "mirror"
    assert outcome(world, run) == "rolled_back"
    assert world.ports.registry.aliases("m") == {"champion": 1}


def test_a_replay_looks_when_windows_end_and_sleeps_in_between(world: World) -> None:
    """Time stands still for a run that is due, so each look must say when the next one is."""
    _, run = released(world, CANARY.replace("4m", "3d"))
    steps = replace(world.steps(), replay=True)
    flow, clock = flows_of(steps)["release"], world.ports.clock
    assert isinstance(clock, FrozenClock)
    now = world.standing()
    looked = flow(now, now.stories[run], lambda: True)
    assert isinstance(looked, Next)
    assert isinstance(looked.fact, GuardLooked)
    assert looked.wake_at == NOW.replace(hour=0) + timedelta(days=1)  # windows are days


def test_a_look_without_news_is_not_written_and_lets_the_worker_sleep(world: World) -> None:
    users, run = released(world, CANARY)
    users.run(2)
    clock, now = world.ports.clock, world.standing()
    assert isinstance(clock, FrozenClock)
    clock.forward(timedelta(seconds=30))
    world.finish()
    clock.forward(timedelta(seconds=10))
    now = world.standing()
    found = flows_of(world.steps())["release"](now, now.stories[run], lambda: True)
    assert found == NotYet(rest=12.0)  # a twentieth of four minutes


def test_a_row_counts_once_and_only_within_its_stage(world: World) -> None:
    users, run = released(world, CANARY)
    users.run(6)
    looks = [fact for fact in world.story(run).facts if isinstance(fact, GuardLooked)]
    began = next(at for f, at in zip(world.story(run).facts, world.story(run).times, strict=True)
                 if isinstance(f, StageBegan))  # fmt: skip
    minutes = (world.ports.clock.now() - began) / timedelta(minutes=1)
    seen = sum(sum(look.requests) for look in looks)
    assert abs(seen - minutes * users.per_minute) <= users.per_minute * 0.2  # all but what settles, none twice
