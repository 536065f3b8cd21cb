"""A person's roll-back on a real ledger and gateway: it serves or it says that it does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from everfit.app import App, open_app, people
from everfit.clock import rest
from everfit.errors import ModelUnusable, UsageError
from everfit.flows.durable import Worker, begin, held
from everfit.ledger import ReleaseEnded, ReleasePlanned
from everfit.ports import Route
from everfit.rollout.options import Rolling
from everfit.rollout.plan import plan_release
from tests.crash.flows_child import ports_in
from tests.world import FIRST, SECOND, World, spec_of

SPEC = "model: m\ntask: binary\ntarget: late\ntime: at\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[tuple[App, World]]:
    """A project with two champions, one after the other, and no process that works on it."""
    state = tmp_path / ".everfit"
    state.mkdir()
    (tmp_path / "everfit.yaml").write_text(SPEC)
    (state / "parameters.json").write_text(json.dumps(FIRST))
    world = World(ports_in(state), state, spec_of(FIRST))
    world.learn()
    world.renewed("renew-1", FIRST)
    world.renewed("renew-2", SECOND)
    app = open_app(tmp_path)
    yield app, world
    app.store.close()
    world.ports.ledger.close()  # type: ignore[attr-defined]  # the real one


def routed(app: App) -> Route:
    route = app.gateway.live("m")
    assert route is not None
    return route


def test_it_points_back_at_once_and_leaves_the_registry_to_a_worker(project: tuple[App, World]) -> None:
    app, world = project
    left, to = people.roll_back(app, "too slow")
    assert (left.version, to.version, routed(app).version) == (2, 1, 1)
    assert world.ports.registry.aliases("m") == {"champion": 2, "previous": 1}
    world.finish()
    assert world.ports.registry.aliases("m") == {"champion": 1}
    with pytest.raises(UsageError, match="no previous champion"):
        people.roll_back(app, "again")


def test_when_the_previous_model_is_gone_it_says_so_and_the_present_one_serves(project: tuple[App, World]) -> None:
    app, _ = project
    first = next(kept for kept in app.standing().bench.values() if kept.version == 1)
    app.gateway.withdraw("m", first.candidate.id)
    with pytest.raises(ModelUnusable, match=r"version 1 does not serve, version 2 still does: .*not published"):
        people.roll_back(app, "too slow")
    assert routed(app).version == 2
    champion = app.standing().champion
    assert champion is not None
    assert champion.version == 2


def begun(world: World) -> str:
    """A release under way, planned and not begun."""
    standing = world.standing()
    one, two = standing.bench.values()
    stages = plan_release(one.candidate.id, two.candidate.id, Rolling())
    plan = ReleasePlanned(one.candidate.id, one.version, two.candidate.id, stages, "renew-1", back=False)
    begin(world.desk, "m", "release-under-way", plan)
    return "release-under-way"


def test_a_release_under_way_is_ended_and_never_goes_live(project: tuple[App, World]) -> None:
    app, world = project
    run = begun(world)
    people.roll_back(app, "stop it all")
    world.finish()
    ended = world.story(run).find(ReleaseEnded)
    assert ended is not None
    assert ended.outcome == "aborted"
    assert world.kinds(run) == ["ReleasePlanned", "ReleaseEnded"]


def test_it_waits_for_a_step_that_is_in_a_workers_hand(project: tuple[App, World]) -> None:
    """Else the worker could point traffic after the roll-back had pointed it."""
    app, world = project
    run = begun(world)
    done: list[str] = []
    with held(world.ports.leases, f"run:m:{run}", Worker("worker")) as holding:
        assert holding is not None
        back = threading.Thread(target=lambda: done.append(f"back to {people.roll_back(app, 'stop')[1].version}"))
        back.start()
        rest(0.2)
        assert done == []
        assert routed(app).version == 2
    back.join(20)
    assert done == ["back to 1"]
