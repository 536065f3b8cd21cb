"""Killed at any effect of a training run, a release or a roll-back and resumed, nothing is different afterwards.

A run killed between two effects is a run killed before the later one, so there is one point before each effect: where
the effect is `ledger.append`, the step had its effect and its fact was not written.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from everfit.adapters.store import SqlStore
from everfit.decide.decision import Reason
from everfit.facts import ReleaseEnded, RenewBegan, WentLive
from everfit.flows.durable import begin
from everfit.ledger import verify
from tests.crash import flows_child
from tests.crash.flows_child import BLOWN, PROBING, FileRegistry, work, world_in
from tests.world import FIRST, SECOND, WORSE, facts_of, fill

HOLD = 0.4  # seconds after which a dead worker's run is taken up
LONG = 60.0
NEW = multiprocessing.get_context("forkserver")
NEW.set_forkserver_preload([flows_child.__name__])

RENEW = (
    "ledger.append RecipeChosen", "ledger.append DatasetPinned", "ledger.append DataChecked",
    "trainer.train", "models.keep", "ledger.append CandidateTrained",
    "registry.add", "ledger.append CandidateRegistered",
    "trainer.score", "trainer.score", *5 * ("notes.put",), "ledger.append Judged",
    "registry.describe", "ledger.append ReleasePlanned",
)  # fmt: skip
RELEASE = (
    "gateway.publish", "registry.alias", "ledger.append StageDone", "ledger.append RenewEnded",
    "gateway.point", "ledger.append WentLive", "registry.alias", "ledger.append StageDone",
    "gateway.withdraw", "models.drop", "ledger.append StageDone", "ledger.append ReleaseEnded",
)  # fmt: skip
PROBE = ("trainer.train", "trainer.score", "ledger.append Probed", "trainer.train")
BEFORE_PROBE = RENEW.index("trainer.train")
BACK = (
    "gateway.point", "ledger.append WentLive", "registry.alias", "ledger.append StageDone", "ledger.append ReleaseEnded"
)  # fmt: skip


def worked(folder: Path, left: int = 0, hold: float = LONG, *, whole: bool = False) -> int | None:
    """Let a fresh process work; its exit code."""
    process = NEW.Process(target=work, args=(str(folder), left, hold, whole))
    process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode


def begun(folder: Path, run: str, parameters: dict[str, str], *, probe: bool = False) -> None:
    """Begin a run in a folder."""
    (folder / "parameters.json").write_text(json.dumps(parameters))
    world = world_in(folder, LONG)
    if probe:
        because = (Reason("decay", None, None, "it fell", run),)
        begin(world.desk, "m", run, RenewBegan(because, first=False, probe=True))
    else:
        world.begin(run)
    world.ports.ledger.close()  # type: ignore[attr-defined]  # the real one


@dataclass(frozen=True)
class Place:
    """A folder before something happens, and what is there when it happened without a crash."""

    before: Path
    after: dict[str, Any]
    effects: list[str]


def found(folder: Path) -> dict[str, Any]:
    """All that a project holds: facts of every story, routes by cause, versions, aliases, models on the shelf."""
    store = SqlStore(f"sqlite:///{folder / 'ledger.db'}")
    entries = store.read("m")
    verify(entries)
    store.close()
    routing = json.loads((folder / "serving" / "m" / "routing.json").read_text())
    registry = FileRegistry(folder / "registry.json").read() if (folder / "registry.json").exists() else {}
    return {
        "facts": facts_of(entries), "live": routing["candidate"], "pointed": routing["keys"], "registry": registry,
        "shelf": sorted(path.name for path in (folder / "shelf").iterdir() if not path.name.startswith(".")),
    }  # fmt: skip


def unbroken(before: Path, folder: Path) -> Place:
    """What happens without a crash."""
    shutil.copytree(before, folder)
    assert worked(folder) == 0
    return Place(before, found(folder), json.loads((folder / "effects.json").read_text()))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of this module: `second` is about to train its second champion, `back` to go back from it."""
    root = tmp_path_factory.mktemp("kill")
    second = root / "second"
    second.mkdir()
    (second / "parameters.json").write_text(json.dumps(FIRST))
    world = world_in(second, LONG)
    world.learn()
    world.renewed("renew-1", FIRST)
    world.renewed("renew-worse", WORSE)  # kept back; its files are dropped when the next champion's release tidies
    probing = root / "probing"
    shutil.copytree(second, probing)
    (probing / PROBING).write_text("decide: {worth: {probe: {rows: 300}}}\n")
    begun(probing, "renew-2", SECOND, probe=True)
    begun(second, "renew-2", SECOND)
    back = root / "back"
    shutil.copytree(second, back)
    assert worked(back) == 0
    world = world_in(back, LONG)
    world.roll_back()
    return root


@pytest.fixture(scope="module")
def second(root: Path) -> Place:
    return unbroken(root / "second", root / "second-unbroken")


@pytest.fixture(scope="module")
def probed(root: Path) -> Place:
    return unbroken(root / "probing", root / "probing-unbroken")


@pytest.fixture(scope="module")
def back(root: Path) -> Place:
    return unbroken(root / "back", root / "back-unbroken")


def check_killed(place: Place, folder: Path, point: int) -> None:
    """Kill before an effect, resume in a fresh process, compare."""
    shutil.copytree(place.before, folder)
    assert worked(folder, point, HOLD) == BLOWN
    assert worked(folder, 0, HOLD) == 0
    assert found(folder) == place.after


def ids(effects: tuple[str, ...]) -> list[str]:
    return [f"{number}-{name}" for number, name in enumerate(effects, 1)]


def test_the_points_are_all_effects_of_a_run_and_its_release(second: Place, back: Place) -> None:
    assert sorted(second.effects) == sorted((*RENEW, *RELEASE))
    assert second.effects[: len(RENEW)] == list(RENEW)
    assert back.effects == list(BACK)


def test_the_unbroken_run_promotes_once(second: Place, back: Place) -> None:
    said = [kind for facts in second.after["facts"].values() for kind, _ in facts]
    assert Counter(said)[WentLive.__name__] == Counter(said)[ReleaseEnded.__name__] == 2
    assert len(second.after["pointed"]) == len(second.after["shelf"]) == 2
    assert len(second.after["registry"]["versions"]) == 3
    assert len(back.after["pointed"]) == 3
    assert back.after["registry"]["aliases"] == {"champion": 1}


@pytest.mark.parametrize("point", range(1, len(RENEW) + len(RELEASE) + 1), ids=ids((*RENEW, *RELEASE)))
def test_a_crash_anywhere_in_training_and_release_changes_nothing(second: Place, tmp_path: Path, point: int) -> None:
    check_killed(second, tmp_path / "project", point)


@pytest.mark.parametrize("point", range(1, len(BACK) + 1), ids=ids(BACK))
def test_a_crash_anywhere_in_a_roll_back_changes_nothing(back: Place, tmp_path: Path, point: int) -> None:
    check_killed(back, tmp_path / "project", point)


def test_the_points_of_a_probe_come_before_the_training_on_all_rows(probed: Place) -> None:
    assert probed.effects[BEFORE_PROBE : BEFORE_PROBE + len(PROBE)] == list(PROBE)
    kinds = [kind for kind, _ in probed.after["facts"]["renew-2"]]
    assert kinds[kinds.index("Probed") + 1] == "CandidateTrained"


@pytest.mark.parametrize("point", range(1, len(PROBE) + 1), ids=ids(PROBE))
def test_a_crash_anywhere_in_a_probe_changes_nothing(probed: Place, tmp_path: Path, point: int) -> None:
    check_killed(probed, tmp_path / "project", BEFORE_PROBE + point)


def test_killed_at_every_effect_one_after_the_other_it_still_comes_to_the_same_end(
    second: Place, tmp_path: Path
) -> None:
    """Each process has one effect more than the steps that are done allow: a machine that crashes all the time."""
    folder = tmp_path / "project"
    shutil.copytree(second.before, folder)
    deaths = 0
    while worked(folder, 9, HOLD) == BLOWN:  # a step has at most eight effects, so each process does at least one
        deaths += 1
        assert deaths < 30
    assert deaths >= 3
    assert found(folder) == second.after


def test_with_the_real_lake_trainer_and_registry_too(tmp_path: Path) -> None:
    """The fakes above stand for Delta, the training child and MLflow; here a whole first run goes through them."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "parameters.json").write_text(json.dumps({"max_iter": 10}))
    world = world_in(folder, LONG, whole=True)
    fill(world.ports.lake)
    world.learn()
    world.begin("renew-1")
    assert worked(folder, RENEW.index("ledger.append CandidateRegistered") + 1, HOLD, whole=True) == BLOWN
    assert worked(folder, 0, HOLD, whole=True) == 0
    after = found(folder)
    told = Counter(kind for facts in after["facts"].values() for kind, _ in facts)
    assert told["WentLive"] == told["CandidateRegistered"] == len(after["pointed"]) == 1
    assert after["facts"]["renew-1"][5][1]["version"] == 1
    assert world.ports.registry.aliases("m") == {"champion": 1}
