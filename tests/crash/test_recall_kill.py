"""Killed at any effect of a person's recall, and of the release in which the guard catches it: nothing differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from everfit.facts import ReleaseEnded
from everfit.flows.durable import begin
from everfit.flows.recall import asked_for
from tests.crash.flows_child import BLOWN
from tests.crash.release_child import WORSE as WORSE_LATER
from tests.crash.release_child import trial_world
from tests.crash.test_flows_kill import HOLD, LONG, Place, found
from tests.crash.test_release_kill import close, unbroken, worked
from tests.world import FIRST, NOW, WORSE

# Before which effects a process is killed: its name and its place among those of that name. Stages and looks between
# are those of every release (test_release_kill).
POINTS = (
    ("ledger.append ReleasePlanned", 0), ("ledger.append RecallEnded", 0), ("gateway.publish", 0),
    ("registry.alias", 0), ("ledger.append StageDone", 0), ("gateway.point", 0), ("ledger.append StageBegan", 0),
    ("ledger.append GuardLooked", 0), ("ledger.append GuardLooked", -1), ("gateway.point", -1), ("registry.alias", -1),
    ("ledger.append ReleaseEnded", 0),
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Version 2 was kept back; a person has recalled it, and it answers badly from the canary on."""
    root = tmp_path_factory.mktemp("recall")
    before = root / "recalled"
    before.mkdir()
    (before / "parameters.json").write_text(json.dumps(FIRST))
    (before / WORSE_LATER).touch()
    world = trial_world(before, LONG)
    world.learn()
    world.renewed("renew-1", FIRST)
    world.renewed("renew-2", WORSE)
    standing = world.standing()
    kept = next(each for each in standing.bench.values() if each.version == 2)
    begin(world.desk, "m", "recall-1", asked_for(standing, kept, "because", "ada", NOW))
    close(world)
    return unbroken(before, root / "unbroken")


def test_unbroken_it_is_released_and_taken_back(place: Place) -> None:
    assert [kind for kind, _ in place.after["facts"]["recall-1"]] == ["RecallBegan", "RecallEnded"]
    release = [facts for run, facts in place.after["facts"].items() if run.startswith("release-")][-1]
    kind, body = release[-1]
    assert (kind, body["outcome"]) == (ReleaseEnded.__name__, "rolled_back")
    assert place.effects[:2] == ["ledger.append ReleasePlanned", "ledger.append RecallEnded"]


@pytest.mark.parametrize(("effect", "nth"), POINTS, ids=[f"{effect}-{nth}" for effect, nth in POINTS])
def test_a_crash_anywhere_changes_nothing(place: Place, tmp_path: Path, effect: str, nth: int) -> None:
    point = [at for at, each in enumerate(place.effects, 1) if each == effect][nth]
    folder = tmp_path / "project"
    shutil.copytree(place.before, folder)
    assert worked(folder, point, HOLD) == BLOWN
    assert worked(folder, 0, HOLD) == 0
    assert found(folder) == place.after
