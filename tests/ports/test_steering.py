"""What people say to a release under way, on a real ledger and gateway: promote, abort, roll back, plan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from everfit.app import App, open_app, people, releases, steering, views
from everfit.app.explain import explain
from everfit.cli import say
from everfit.errors import UsageError
from everfit.facts import ReleaseEnded, StageDone, Steered
from everfit.flows.durable import Next, Worker, held
from everfit.flows.release import release
from everfit.lifecycle import State
from everfit.ports import Route
from tests.crash.flows_child import ports_in
from tests.world import FIRST, SECOND, World, spec_of

SPEC = "model: m\ntask: binary\ntarget: late\ntime: at\n"
STAGES = """rollout: {steps: [{mirror: 1h}, {weight: 20%}, {analysis: 1h}, {pause: until promoted}, {weight: 50%},
  {pause: 30m}, {weight: 100%}, {bake: 1h}]}
"""
WAITS = ("mirror", "analysis", "pause", "pause", "bake")  # where a person may say go on
ROUTES = ((1, 1.0, 0.0), (1, 0.0, 0.2), (1, 0.0, 0.2), (1, 0.0, 0.5), (2, 1.0, 0.0))  # version, mirror, weight


def begun(folder: Path, stages: str) -> tuple[App, World]:
    """A project with a champion, and the release of a second one that waits in its first stage."""
    state = folder / ".everfit"
    state.mkdir()
    (folder / "everfit.yaml").write_text(SPEC + stages)
    (state / "parameters.json").write_text(json.dumps(FIRST))
    world = World(ports_in(state), state, spec_of(FIRST))
    world.learn()
    world.renewed("renew-1", FIRST)
    world.renewed("renew-2", SECOND, stages)
    return open_app(folder), world


def closed(app: App, world: World) -> None:
    app.store.close()
    world.ports.ledger.close()  # type: ignore[attr-defined]  # the real one


@pytest.fixture
def project(tmp_path: Path) -> Iterator[tuple[App, World]]:
    """The release of a second model, in the shadow."""
    made = begun(tmp_path, STAGES)
    yield made
    closed(*made)


def routed(app: App) -> tuple[int, float, float]:
    route = app.gateway.live("m")
    assert isinstance(route, Route)
    return route.version, route.trial.mirror if route.trial else 0.0, route.trial.weight if route.trial else 0.0


def promoted(project: tuple[App, World], times: int) -> str:
    """Let a person skip so many waits; the release's run."""
    app, world = project
    for _ in range(times):
        steering.promote(app, "it looks well")
        world.finish()
    return world.releases()[-1] if times < len(WAITS) else world.releases()[1]


def test_a_person_may_go_through_all_steps(project: tuple[App, World]) -> None:
    app, world = project
    for place, (wait, route) in enumerate(zip(WAITS, ROUTES, strict=True)):
        assert (routed(app), releases.plan(app)["release"]["now"].split()[0]) == (route, FIRST_WORDS[wait]), place
        promoted(project, 1)
    run = world.releases()[-1]
    assert routed(app) == (2, 0.0, 0.0)
    done = [fact.said for fact in world.story(run).facts if isinstance(fact, StageDone) and fact.stage in WAITS]
    assert len(done) == len(WAITS)
    assert all("promoted it: it looks well" in said for said in done)
    with pytest.raises(UsageError, match="no release of m is under way"):
        steering.promote(app, "once more")


FIRST_WORDS = {"mirror": "mirror", "analysis": "let", "pause": "wait", "bake": "let"}


@pytest.mark.parametrize("place", range(len(WAITS)), ids=[f"{n}-{wait}" for n, wait in enumerate(WAITS)])
@pytest.mark.parametrize("word", ["abort", "rollback"])
def test_back_to_the_champion_from_every_step(project: tuple[App, World], place: int, word: str) -> None:
    app, world = project
    run = promoted(project, place)
    if word == "abort":
        assert steering.abort(app, "no") == (2, 1)
    else:
        left, to = steering.roll_back(app, "no")
        assert (left.version, to.version) == (2, 1)
    assert routed(app) == (1, 0.0, 0.0)  # before any worker did anything
    world.finish()
    assert routed(app) == (1, 0.0, 0.0)
    ended = world.story(run).find(ReleaseEnded)
    assert ended is not None
    assert (ended.outcome, ended.said.endswith(": no")) == ("aborted", True)
    assert world.standing().states["renew-2"] == State.ROLLED_BACK
    assert world.standing().history.runs[-1].outcome == "aborted"
    champion = world.standing().champion
    assert champion is not None
    assert champion.version == 1
    assert world.ports.registry.aliases("m").get("challenger") is None


@pytest.mark.parametrize("place", range(4), ids=[f"{n}-{wait}" for n, wait in enumerate(WAITS[:4])])
def test_full_goes_to_all_traffic_from_every_step_before_it(project: tuple[App, World], place: int) -> None:
    app, world = project
    promoted(project, place)
    steering.promote(app, "now", full=True)
    world.finish()
    assert routed(app)[0] == 2
    assert world.standing().states["renew-2"] == State.LIVE
    with pytest.raises(UsageError, match="all traffic goes to version 2 already"):
        steering.promote(app, "now", full=True)


def test_a_step_that_hangs_never_points_after_a_person_aborted(project: tuple[App, World]) -> None:
    """The worker read its story before the word, and points after it: it finds another key live."""
    app, world = project
    run = world.releases()[-1]
    steering.promote(app, "go on")
    world.work().tick()  # the mirror is done; next is the weight
    now = world.standing()
    with held(world.ports.leases, f"run:m:{run}", Worker("worker")) as holding:
        assert holding is not None
        steering.abort(app, "stop")
        late = release(world.steps(), now, now.stories[run], lambda: True)
    assert isinstance(late, Next)
    assert "traffic was pointed elsewhere meanwhile" in getattr(late.fact, "said", "")
    assert routed(app) == (1, 0.0, 0.0)
    world.finish()
    assert routed(app) == (1, 0.0, 0.0)
    assert world.kinds(run)[-2:] == ["Steered", "ReleaseEnded"]


def test_a_pause_of_the_project_holds_the_step_and_a_persons_word_still_counts(
    project: tuple[App, World], capsys: pytest.CaptureFixture[str]
) -> None:
    app, world = project
    people.pause(app, "holiday")
    world.finish()
    assert routed(app) == ROUTES[0]
    say.plan(releases.plan(app))
    assert "paused: it stays at this step until `everfit resume`" in capsys.readouterr().out
    promoted(project, 1)
    assert routed(app) == ROUTES[1]


def test_what_waits_for_approval_can_be_aborted_and_waits_no_more(tmp_path: Path) -> None:
    app, world = begun(tmp_path, STAGES.replace("{steps", "{approve: true, steps"))
    with pytest.raises(UsageError, match="waits for an answer: everfit approve"):
        steering.promote(app, "go on")
    with pytest.raises(UsageError, match=r"no previous champion .* `everfit abort` ends the release of version 2"):
        steering.roll_back(app, "away with it")
    assert steering.abort(app, "not now") == (2, 1)
    world.finish()
    assert world.standing().states["renew-2"] == State.REFUSED
    assert people.questions(world.standing()) == {}
    with pytest.raises(UsageError, match="nothing waits for an answer"):
        people.answer(app, None, "too late", approved=True)
    assert routed(app) == (1, 0.0, 0.0)
    said = releases.plan(app)["guard"]  # of the next one, beside the champion
    assert "rolled back in at most 1% of releases" in said[0]
    assert said[-1].startswith("at 20% of the traffic: errors worse by 5 points: caught within")
    closed(app, world)


def test_what_would_change_nothing_is_refused(project: tuple[App, World]) -> None:
    app, world = project
    over, following = releases.skipped(app, steering.promote(app, "on"))
    assert (over, following) == (
        "step 2, mirror every request to version 2 for 1h; nobody sees its answers",
        "answer 20% of the keys with version 2; the same keys each time",
    )
    told = releases.plan(app)["release"]
    assert (told["looks_again"], "said promote: on; a worker goes on with it" in told["steered"]) == (None, True)
    world.work().tick()  # the mirror is done, and no worker has begun the next wait
    assert releases.plan(app)["release"]["steered"] is None
    with pytest.raises(UsageError, match="waits for nothing now"):
        steering.promote(app, "on")


def test_status_plan_and_history_say_where_it_is(
    project: tuple[App, World], capsys: pytest.CaptureFixture[str]
) -> None:
    app, world = project
    run = promoted(project, 1)
    told = views.status(app)
    assert told["release"]["now"].startswith("let the guard look for 1h")
    assert told["release"]["next"] == "wait until `everfit promote`; the guard looks on"
    say.status(told)
    say.plan(releases.plan(app))
    out = capsys.readouterr().out
    assert "release of v2, step 4 of 11: let the guard look for 1h" in out
    assert "  2  done  mirror every request to version 2 for 1h; nobody sees its answers" in out
    assert "  4  now   let the guard look" in out
    said = [entry["said"] for entry in views.history(app)["entries"] if entry["run"] == run]
    steered = next(fact for fact in world.story(run).facts if isinstance(fact, Steered))
    assert f"{steered.by} said promote to the release: it looks well" in said
    assert explain(app, run)["release"][:3] == explain(app, "v2")["release"][:3]
    assert explain(app, "v2")["release"][0].startswith("mirror began, until")


def test_before_anything_happens_plan_shows_what_the_spec_asks_for(tmp_path: Path) -> None:
    (tmp_path / "everfit.yaml").write_text(SPEC + "rollout: {weights: [5%], bake: 1d}\n")
    app = open_app(tmp_path)
    told = releases.plan(app)
    assert (told["release"], told["longest"]) == (None, "1d")  # the first champion has nothing to be tried beside
    assert [stage["said"].split()[0] for stage in told["stages"]] == ["publish", "point", "name", "wait", "keep"]
    with pytest.raises(UsageError, match="no release of m is under way; `everfit plan` shows"):
        steering.abort(app, "why not")
    app.store.close()
