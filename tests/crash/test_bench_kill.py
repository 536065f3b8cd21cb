"""Killed at any effect of a run of the bench or of a recall and resumed, nothing is different afterwards."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from everfit.decide.bench import Why
from everfit.decide.bench_reads import Rows
from everfit.decide.decision import BenchRun, Reason
from everfit.facts import BenchScored, RecallBegan, RecallEnded, RenewBegan, RenewEnded, WentLive
from everfit.flows.durable import begin
from everfit.lifecycle import State
from everfit.observe.window import Span
from everfit.ports import Write
from everfit.standing import WATCH
from tests.crash.flows_child import world_in
from tests.crash.test_flows_kill import LONG, Place, check_killed, ids, unbroken, worked
from tests.world import DAY0, FIRST, SECOND, World

BASE = 10
BENCHED = (
    "ledger.append RecipeChosen", "ledger.append DatasetPinned", "ledger.append DataChecked",
    "trainer.train", "models.keep", "ledger.append CandidateTrained",
    "registry.add", "ledger.append CandidateRegistered", "ledger.append RenewEnded",
)  # fmt: skip
RECALLED = (
    "trainer.score", "trainer.score", *5 * ("notes.put",), "ledger.append Judged",
    "registry.describe", "ledger.append ReleasePlanned",
)  # fmt: skip


def scored(world: World, days: range) -> None:
    """Days 32 on are the bench's windows 10 on; every model that is there is scored on them."""
    for day in days:
        standing = world.standing()
        span = Span(DAY0 + timedelta(days=day), DAY0 + timedelta(days=day + 1))
        number = BASE + day - 32
        levels = {name: (0.6 + 0.2 * (kept.version > 1),) * 3 for name, kept in standing.bench.items()}
        fact = BenchScored(number, number, 1, span, 30, 30, "roc_auc", True, levels, {})  # type: ignore[arg-type]
        step = standing.watch_step + 1
        world.ports.ledger.append(Write("m", WATCH, step, fact, world.ports.clock.now(), "control", ends=True))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`benched` is about to train for the bench, `recalled` to call its model back."""
    root = tmp_path_factory.mktemp("kill")
    benched = root / "benched"
    benched.mkdir()
    (benched / "parameters.json").write_text(json.dumps(FIRST))
    world = world_in(benched, LONG)
    world.learn()
    world.renewed("renew-1", FIRST)
    scored(world, range(32, 36))
    (benched / "parameters.json").write_text(json.dumps(SECOND))
    champion = world.standing().champion
    assert champion is not None
    asked = BenchRun(13, Why.INTERVAL, Rows.ALL, 0, 13, champion.candidate.id)
    because = (Reason("bench", None, None, "the interval has passed", "k13"),)
    begin(world.desk, "m", "renew-2", RenewBegan(because, first=False, bench=asked))
    recalled = root / "recalled"
    shutil.copytree(benched, recalled)
    assert worked(recalled) == 0
    world = world_in(recalled, LONG)
    scored(world, range(36, 40))
    fresh = next(name for name, kept in world.standing().bench.items() if kept.version == 2)
    because = (Reason("recall", 0.2, 0.003, "version 2 beats version 1", "k17"),)
    begin(world.desk, "m", "recall-1", RecallBegan(fresh, champion.candidate.id, 17, 4, 0.2, 0.003, because))
    return root


@pytest.fixture(scope="module")
def benched(root: Path) -> Place:
    return unbroken(root / "benched", root / "benched-unbroken")


@pytest.fixture(scope="module")
def recalled(root: Path) -> Place:
    return unbroken(root / "recalled", root / "recalled-unbroken")


def test_a_run_of_the_bench_ends_without_a_judge_and_a_recall_has_one(
    root: Path, benched: Place, recalled: Place
) -> None:
    assert benched.effects == list(BENCHED)
    assert recalled.effects[: len(RECALLED)] == list(RECALLED)
    facts = dict(recalled.after["facts"]["recall-1"])
    assert list(facts) == ["RecallBegan", "Judged", "RecallEnded"]
    assert facts[RecallEnded.__name__]["outcome"] == "planned"
    told = [kind for story in recalled.after["facts"].values() for kind, _ in story]
    assert told.count(WentLive.__name__) == 2
    assert benched.after["facts"]["renew-2"][-1][0] == RenewEnded.__name__
    standing = world_in(root / "benched-unbroken", LONG).standing()
    fresh = next(kept for kept in standing.bench.values() if kept.version == 2)
    assert fresh.state is State.BENCHED
    assert fresh.candidate.trained_until == DAY0 + timedelta(days=36)
    assert fresh.candidate.train_rows == 36 * 30  # all mature rows, those that were held out once too


@pytest.mark.parametrize("point", range(1, len(BENCHED) + 1), ids=ids(BENCHED))
def test_a_crash_anywhere_in_a_run_of_the_bench_changes_nothing(benched: Place, tmp_path: Path, point: int) -> None:
    check_killed(benched, tmp_path / "project", point)


@pytest.mark.parametrize("point", range(1, len(RECALLED) + 11))
def test_a_crash_anywhere_in_a_recall_and_its_release_changes_nothing(
    recalled: Place, tmp_path: Path, point: int
) -> None:
    if point > len(recalled.effects):
        pytest.fail(f"a recall has {len(recalled.effects)} effects")
    check_killed(recalled, tmp_path / "project", point)
