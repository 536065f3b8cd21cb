"""What people see of a release: its stages before anything happens, where it is, what the guard says, what is next.

Takes a standing and a spec; gives plain dictionaries, the same for the terminal, `--json` and pages; never changes
anything.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from everfit.app.gateways import check_suited, gateway_for
from everfit.app.steering import UnderWay, under_way
from everfit.app.wiring import App
from everfit.errors import UsageError
from everfit.facts import GuardLooked, ReleasePlanned, Steered
from everfit.flows.durable import Follower
from everfit.flows.looks import began
from everfit.flows.trial import prepared
from everfit.rollout.plan import Stage, Weight, explain, longest, plan_release
from everfit.rollout.power import Traffic, power_of, promise_of
from everfit.standing import Standing
from everfit.units import duration_text

MORE_ERRORS = 0.05  # a model with so many more of its requests failing is the example of a bad one
FEWEST_ERRORS = 0.001  # the champion's share of errors is taken for this where it has had fewer


def plan(app: App, model: str | None = None) -> dict[str, Any]:
    """The stages of the release under way, or those that the spec asks for now.

    Of another model of the same ledger only what is under way is known here: its spec lies in its own folder.

    Raises:
        UsageError: the ledger has no such model.
    """
    if model is not None and model != app.spec.model:
        return _others(app, model)
    standing = app.standing()
    going = under_way(standing)
    if going is None:
        champion = standing.champion
        stages = plan_release("the challenger", "the champion" if champion else None, app.spec.rollout)
        lines = [{"said": said, "state": "planned"} for said in explain(stages)]
        told = {"model": app.spec.model, "release": None, "stages": lines, "longest": _longest(stages)}
        return told | {"problem": gateway_problem(app), "guard": _promised(app, standing, stages)}
    return _under_way(standing, going, app.store.sleepers(app.spec.model))


def gateway_problem(app: App) -> str:
    """Why the project's gateway cannot do what the spec's `rollout` asks for; empty where it can."""
    try:
        check_suited(app.spec.rollout, gateway_for(app.settings).can)
    except UsageError as error:
        return str(error)
    return ""


def _others(app: App, model: str) -> dict[str, Any]:
    known = app.store.models()
    if model not in known:
        raise UsageError(f"{model!r} is no model of this ledger; it knows {', '.join(sorted(known)) or 'none yet'}")
    standing = Follower(app.store, model).standing()
    going = under_way(standing)
    if going is None:
        return {"model": model, "release": None, "stages": [], "longest": None, "problem": "", "guard": []}
    return _under_way(standing, going, app.store.sleepers(model))


def _under_way(standing: Standing, going: UnderWay, sleepers: dict[str, datetime]) -> dict[str, Any]:
    lines = [
        {"said": said, "state": "done" if at < going.index else "now" if at == going.index else "next"}
        for at, said in enumerate(_lines(standing, going.plan))
    ]
    told = {"model": standing.history.model, "release": release_view(standing, sleepers), "stages": lines}
    guard = promise_of(going.plan.guard) if going.plan.guard else []
    return told | {"longest": _longest(going.plan.stages), "problem": "", "guard": guard}


def release_view(standing: Standing, sleepers: dict[str, datetime]) -> dict[str, Any] | None:
    """Where the release under way is; None if there is none."""
    going = under_way(standing)
    if going is None:
        return None
    lines, index = _lines(standing, going.plan), going.index
    begun = began(going.story, index)
    wakes = sleepers.get(going.story.run)
    guard = _guard(going)
    return {
        "run": going.story.run,
        "version": going.plan.version,
        "stage": index + 1,
        "stages": len(lines),
        "now": lines[index] if index < len(lines) else "end",
        "until": begun[0].until.isoformat() if begun and begun[0].until else None,
        "guard": guard.said if guard else None,
        "verdict": guard.verdict if guard else None,
        "shown": dict(guard.shown) if guard else {},
        "next": lines[index + 1] if index + 1 < len(lines) else "end",
        "paused": standing.history.paused,
        "steered": _steered(going),
        "looks_again": wakes.isoformat() if wakes and begun and AT_ONCE < wakes.year < MANY_YEARS else None,
    }


def skipped(app: App, going: UnderWay) -> tuple[str, str]:
    """The step that a promotion ends and the one that follows, in words."""
    lines = [*_lines(app.standing(), going.plan), "end"]
    return f"step {going.index + 1}, {lines[going.index]}", lines[going.index + 1]


AT_ONCE, MANY_YEARS = 1, 9000  # what a person wrote to goes on at once; what waits for a person wakes never


def _promised(app: App, standing: Standing, stages: tuple[Stage, ...]) -> list[str]:
    """What the guard of the next release promises, and how soon it finds a model with many more errors."""
    guard, usual = prepared(app.spec, app.lake, standing, stages, app.clock.now())
    if guard is None:
        return []
    share = next((stage.share for stage in stages if isinstance(stage, Weight)), None)
    if share is None or not any(check.of == "errors" and check.on != "same" for check in guard.checks):
        return promise_of(guard)
    level = max(usual.get("errors", 0.0), FEWEST_ERRORS)
    power = power_of(guard, Traffic("errors", level, share=share), MORE_ERRORS)
    return [*promise_of(guard), *([f"at {share * 100:.10g}% of the traffic: {power.said}"] if power else [])]


def _steered(going: UnderWay) -> str | None:
    """A person's word about the present stage that no worker has followed yet."""
    word = going.story.find(Steered)
    if word is None or word.index != going.index:
        return None
    return f"{word.by} said promote: {word.why}; a worker goes on with it"


def _guard(going: UnderWay) -> GuardLooked | None:
    """The guard's last word about the present stage."""
    looked = going.story.find(GuardLooked)
    return looked if looked is not None and looked.index == going.index else None


def _lines(standing: Standing, plan: ReleasePlanned) -> list[str]:
    """The stages in words, with versions instead of candidates."""
    names = {plan.candidate: f"version {plan.version}"}
    before = standing.bench.get(plan.previous or "")
    if before is not None:
        names[before.candidate.id] = f"version {before.version}"
    lines = explain(plan.stages)
    for candidate, name in names.items():
        lines = [line.replace(candidate, name) for line in lines]
    return lines


def _longest(stages: tuple[Stage, ...]) -> str | None:
    """How long it takes if nothing is inconclusive; None where a person is waited for."""
    held = longest(stages)
    return None if held is None else duration_text(held)
