"""`everfit recall` on a real ledger, shelf and gateway: what is begun, and what is refused with its remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from everfit.app import App, open_app, people, releases, steering, views
from everfit.app.project import check
from everfit.errors import ModelUnusable, UsageError
from everfit.flows.durable import begin
from everfit.flows.recall import asked_for
from everfit.lifecycle import State
from tests.crash.flows_child import ports_in
from tests.world import FIRST, NOW, SECOND, WORSE, World, spec_of

SPEC = "model: m\ntask: binary\ntarget: late\ntime: at\n"
STAGES = "rollout: {steps: [{weight: 20%}, {pause: until promoted}, {weight: 100%}]}\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[tuple[App, World]]:
    """Version 1 was replaced by version 3; version 2 was kept back."""
    state = tmp_path / ".everfit"
    state.mkdir()
    (tmp_path / "everfit.yaml").write_text(SPEC + STAGES)
    (state / "parameters.json").write_text(json.dumps(FIRST))
    world = World(ports_in(state), state, spec_of(FIRST))
    world.learn()
    for run, parameters in (("renew-1", FIRST), ("renew-2", WORSE), ("renew-3", SECOND)):
        world.renewed(run, parameters)
    world.spec = spec_of(FIRST, STAGES)
    (state / "models").symlink_to(state / "shelf")  # where the app keeps them
    app = open_app(tmp_path)
    yield app, world
    app.store.close()
    world.ports.ledger.close()  # type: ignore[attr-defined]  # the real one


def test_it_is_released_step_by_step_and_one_at_a_time(project: tuple[App, World]) -> None:
    app, world = project
    recalled = steering.recall(app, "v2", "we know better")
    assert (recalled.kept.version, recalled.is_judged_first) == (2, False)
    with pytest.raises(UsageError, match=r"is under way and may change who serves; try again"):
        steering.recall(app, "1", "no, this one")
    world.finish()
    assert releases.plan(app)["release"]["version"] == 2
    said = [entry["said"] for entry in views.history(app)["entries"] if entry["run"] == recalled.run]
    assert said[0].endswith("recalls version 2 (kept back): we know better")
    with pytest.raises(UsageError, match="the release of version 2 is under way; `everfit abort` it first"):
        steering.recall(app, "1", "no, this one")
    steering.promote(app, "go on")
    world.finish()
    champion = world.standing().champion
    assert champion is not None
    assert champion.version == 2


def test_what_cannot_be_recalled_is_refused_with_its_remedy(project: tuple[App, World]) -> None:
    app, world = project
    for version, why, said in (
        ("9", "x", "'9' is no version of m; its versions: 1, 2, 3"), ("3", "x", "version 3 serves already"),
        ("1", " ", "say why, for the ledger: --why TEXT"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            steering.recall(app, version, why)
    people.pause(app, "holiday")
    with pytest.raises(UsageError, match="`everfit resume` it first"):
        steering.recall(app, "1", "x")
    people.resume(app, "back")
    kept = next(each for each in world.standing().bench.values() if each.version == 2)
    world.ports.models.drop(kept.candidate.file)
    with pytest.raises(ModelUnusable, match="is gone from"):
        steering.recall(app, "2", "x")
    assert kept.state is State.KEPT_BACK
    assert not [run for run in world.standing().stories if run.startswith("recall-")]


def test_the_plan_of_another_model_and_of_none(project: tuple[App, World]) -> None:
    app, world = project
    now = world.standing()
    kept = next(each for each in now.bench.values() if each.version == 1)
    begin(world.desk, "m", "recall-1", asked_for(now, kept, "because", "ada", NOW))
    world.finish()
    (app.settings.project / "other").mkdir()
    (app.settings.project / "other" / "everfit.yaml").write_text(SPEC.replace("model: m", "model: n"))
    beside = open_app(app.settings.project / "other")
    beside.__dict__["store"] = app.store  # the same ledger
    assert releases.plan(beside, "m")["release"]["version"] == 1
    assert releases.plan(beside, "m")["stages"] == releases.plan(app)["stages"]
    with pytest.raises(UsageError, match="'who' is no model of this ledger; it knows m"):
        releases.plan(beside, "who")


def test_check_and_plan_say_that_the_gateway_cannot_do_what_the_spec_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "everfit.yaml").write_text(SPEC + STAGES)
    monkeypatch.setenv("EVERFIT_GATEWAY", "command:true")
    app = open_app(tmp_path)
    gateway = next(each for each in check(app) if each.what == "gateway")
    assert (gateway.ok, "cannot split" in gateway.said) == (False, True)
    assert releases.plan(app)["problem"] == gateway.said
    app.store.close()
    monkeypatch.delenv("EVERFIT_GATEWAY")
    app = open_app(tmp_path)
    assert releases.gateway_problem(app) == ""
    app.store.close()
