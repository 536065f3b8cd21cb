"""Killed at any effect of a release with shadow, canary, promotion, abort or the guard's roll-back: nothing differs."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest

from everfit.facts import ReleaseEnded, Steered
from everfit.ports import Write
from tests.crash import release_child
from tests.crash.flows_child import BLOWN
from tests.crash.release_child import STAGES, WORSE, trial_world, work
from tests.crash.test_flows_kill import HOLD, LONG, Place, found
from tests.world import FIRST, SECOND, World

NEW = multiprocessing.get_context("forkserver")
NEW.set_forkserver_preload([release_child.__name__])
# Before which effects a process is killed: its name and its place among those of that name, from either end. Looks are
# many and alike, so of them the first and the last are taken.
BAD = (
    ("gateway.point", 0), ("ledger.append StageBegan", 0), ("notes.put", 0), ("ledger.append GuardLooked", 0),
    ("notes.put", 5), ("ledger.append StageDone", -2), ("gateway.point", 1), ("ledger.append StageDone", -1),
    ("ledger.append StageBegan", -1), ("notes.put", -1), ("ledger.append GuardLooked", -1), ("gateway.point", -1),
    ("registry.alias", -1), ("ledger.append ReleaseEnded", 0),
)  # fmt: skip
PROMOTED = (
    ("ledger.append StageDone", 0), ("gateway.point", 0), ("ledger.append StageDone", 1), ("gateway.point", 1),
    ("ledger.append WentLive", 0), ("registry.alias", 0), ("ledger.append StageDone", 2), ("gateway.point", 2),
    ("ledger.append StageBegan", 0), ("notes.put", 0), ("ledger.append GuardLooked", -1), ("gateway.point", 3),
    ("ledger.append StageDone", 3), ("ledger.append StageDone", 4), ("ledger.append ReleaseEnded", 0),
)  # fmt: skip
ABORTED = (("gateway.point", 0), ("registry.alias", 0), ("ledger.append ReleaseEnded", 0))


def worked(folder: Path, left: int = 0, hold: float = LONG) -> int | None:
    """Let a fresh process work; its exit code."""
    process = NEW.Process(target=work, args=(str(folder), left, hold))
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode


def said(folder: Path, word: str) -> None:
    """A person's word to the release under way."""
    world = trial_world(folder, LONG)
    run = world.releases()[-1]
    story = world.story(run)
    index = [fact.index for fact in story.facts if hasattr(fact, "index")][-1]
    fact = Steered(index, word, "because", "ada")
    world.ports.ledger.append(Write("m", run, len(story.facts) + 1, fact, world.ports.clock.now(), "ada"))
    close(world)


def close(world: World) -> None:
    world.ports.ledger.close()  # type: ignore[attr-defined]  # the real one


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    """Folders before something happens: a release with a bad challenger, one that is promoted, one that is aborted."""
    root = tmp_path_factory.mktemp("release")
    bad = root / "bad"
    bad.mkdir()
    (bad / "parameters.json").write_text(json.dumps(FIRST))
    (bad / WORSE).touch()
    world = trial_world(bad, LONG)
    world.learn()
    world.renewed("renew-1", FIRST)
    world.begin("renew-2", SECOND, STAGES)
    todo = world.work()
    while len(world.releases()) < 2 or "RenewEnded" not in world.kinds("renew-2"):
        todo.tick()
    done = len(world.story(world.releases()[-1]).facts)
    assert done <= 2  # planned, and perhaps published meanwhile
    close(world)
    good = root / "promoted"
    shutil.copytree(bad, good)
    (good / WORSE).unlink()
    assert worked(good) == 0
    aborted = root / "aborted"
    shutil.copytree(good, aborted)
    said(good, "promote")
    said(aborted, "abort")
    return {before.name: unbroken(before, root / f"{before.name}-unbroken") for before in (bad, good, aborted)}


def unbroken(before: Path, folder: Path) -> Place:
    """What happens without a crash."""
    shutil.copytree(before, folder)
    assert worked(folder) == 0
    return Place(before, found(folder), json.loads((folder / "effects.json").read_text()))


def ended(place: Place) -> str:
    facts = next(facts for run, facts in place.after["facts"].items() if run.startswith("release-")
                 and any(body.get("version") == 2 for _, body in facts))  # fmt: skip
    assert facts[-1][0] == ReleaseEnded.__name__
    return str(facts[-1][1]["outcome"])


def test_unbroken_each_comes_to_its_end(places: dict[str, Place]) -> None:
    assert {name: ended(place) for name, place in places.items()} == {
        "bad": "rolled_back", "promoted": "live", "aborted": "aborted"
    }  # fmt: skip
    assert places["aborted"].effects == [effect for effect, _ in ABORTED]
    looks = {"notes.put", "ledger.append GuardLooked"}
    others = {name: [effect for effect in place.effects if effect not in looks] for name, place in places.items()}
    assert others["promoted"] == [effect for effect, _ in PROMOTED if effect not in looks]
    assert others["bad"][-9:] == [effect for effect, _ in BAD if effect not in looks]


POINTS = [("bad", *point) for point in BAD] + [("promoted", *point) for point in PROMOTED]
POINTS += [("aborted", *point) for point in ABORTED]


@pytest.mark.parametrize(("name", "effect", "nth"), POINTS, ids=[f"{n}-{effect}-{nth}" for n, effect, nth in POINTS])
def test_a_crash_anywhere_changes_nothing(
    places: dict[str, Place], tmp_path: Path, name: str, effect: str, nth: int
) -> None:
    point = [at for at, each in enumerate(places[name].effects, 1) if each == effect][nth]
    place, folder = places[name], tmp_path / "project"
    shutil.copytree(place.before, folder)
    assert worked(folder, point, HOLD) == BLOWN
    assert worked(folder, 0, HOLD) == 0
    assert found(folder) == place.after
