"""A person's roll-back on a real ledger and gateway: it serves or it says that it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from everfit.app import App, open_app, people, steering
from everfit.detect.usual import Usual
from everfit.errors import ModelUnusable, UsageError
from everfit.facts import ReleaseEnded, ReleasePlanned
from everfit.flows.durable import Next, Worker, begin, held
from everfit.flows.proof import FEATURES
from everfit.flows.release import release
from everfit.ports import Route
from everfit.rollout.options import Rolling
from everfit.rollout.plan import plan_release
from tests.crash.flows_child import ports_in
from tests.unit.flows.served import Served
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
    left, to = steering.roll_back(app, "too slow")
    assert (left.version, to.version, routed(app).version) == (2, 1, 1)
    assert world.ports.registry.aliases("m") == {"champion": 2, "previous": 1}
    world.finish()
    assert world.ports.registry.aliases("m") == {"champion": 1}
    with pytest.raises(UsageError, match="no previous champion"):
        steering.roll_back(app, "again")


def test_when_the_previous_model_is_gone_it_says_so_and_the_present_one_serves(project: tuple[App, World]) -> None:
    app, _ = project
    first = next(kept for kept in app.standing().bench.values() if kept.version == 1)
    app.gateway.withdraw("m", first.candidate.id)
    with pytest.raises(ModelUnusable, match=r"version 1 does not serve, version 2 still does: .*not published"):
        steering.roll_back(app, "too slow")
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
    steering.roll_back(app, "stop it all")
    world.finish()
    ended = world.story(run).find(ReleaseEnded)
    assert ended is not None
    assert ended.outcome == "aborted"
    assert world.kinds(run) == ["ReleasePlanned", "ReleaseEnded"]


def test_it_does_not_wait_for_a_step_that_hangs_and_that_step_never_points(project: tuple[App, World]) -> None:
    """The worker read its story before, and points after: it finds another key live."""
    app, world = project
    run = begun(world)
    world.work().tick()  # published: from here on the release knows which key was live
    now = world.standing()
    with held(world.ports.leases, f"run:m:{run}", Worker("worker")) as holding:
        assert holding is not None
        assert steering.roll_back(app, "stop")[1].version == 1
        late = release(world.steps(), now, now.stories[run], lambda: True)
    assert isinstance(late, Next)
    assert "traffic was pointed elsewhere meanwhile" in getattr(late.fact, "said", "")
    assert routed(app).version == 1


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[tuple[App, Served]]:
    """A champion that served two days, of which the second had a column that moved."""
    state = tmp_path / ".everfit"
    state.mkdir()
    (tmp_path / "everfit.yaml").write_text(SPEC)
    served = Served(state, parameters=dict(FIRST), ports=ports_in(state))
    served.serve()
    served.serve((pl.col("weak") + 4).alias("weak"))
    app = open_app(tmp_path)
    yield app, served
    app.store.close()
    served.ports.ledger.close()  # type: ignore[attr-defined]  # the real one


def known(served: Served) -> int:
    """Healthy windows that the monitor of the features knows."""
    return Usual.from_bytes(served.ports.notes.get(served.now.guarded[FEATURES].usual)).windows


def test_a_window_that_a_person_found_benign_is_usual_from_the_next_one_on(strange: tuple[App, Served]) -> None:
    app, served = strange
    assert [alarm.signal.column for alarm in served.last.alarms] == ["weak", "_score"]
    before = known(served)
    said = people.dismiss(app, None, "we had a sale")
    assert (said.window, said.why) == (served.span(41), "we had a sale")
    assert list(served.now.dismissed) == [served.span(41)]
    served.serve()
    assert known(served) == before + 1
    assert list(served.now.dismissed) == []
    with pytest.raises(UsageError, match="was not dismissed yet; the last that did begin at: none"):
        people.dismiss(app, None, "once more")  # else it would count as two healthy windows
    served.serve()
    assert known(served) == before + 1


def test_a_window_that_did_not_alarm_cannot_be_dismissed(strange: tuple[App, Served]) -> None:
    app, served = strange
    day = served.span(40).start
    with pytest.raises(UsageError, match="the last that did begin at: 2013-02-11T00:00"):
        people.dismiss(app, people.moment(f"{day:%Y-%m-%d}"), "why not")
    assert served.now.people_step == 0
    assert people.dismiss(app, people.moment("2013-02-11"), "").why == "no reason given"


def test_windows_of_a_champion_that_left_are_none_of_the_present_one(strange: tuple[App, Served]) -> None:
    app, served = strange
    served.champion("renew-2", dict(SECOND))
    champion = served.now.champion
    assert champion is not None
    assert champion.version == 2
    with pytest.raises(UsageError, match="no such window of this champion"):
        people.dismiss(app, None, "too late")


@pytest.mark.parametrize(
    "typed, hour",
    [
        pytest.param("2026-11-27", 0, id="a day"),
        pytest.param("2026-11-27T06:00+02:00", 4, id="a time in a zone"),
        pytest.param("2026-11-27 06:00", 6, id="a time without one is of UTC"),
    ],
)
def test_a_moment_is_read_as_a_person_types_it(typed: str, hour: int) -> None:
    assert people.moment(typed) == datetime(2026, 11, 27, hour, tzinfo=UTC)


def test_what_is_no_moment_is_refused_with_an_example() -> None:
    assert people.moment(None) is None
    with pytest.raises(UsageError, match="'yesterday' is not a time; write for instance 2026-11-27T00:00"):
        people.moment("yesterday")
