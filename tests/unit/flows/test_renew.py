"""Training runs through ports in memory: every way in which one can end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from everfit.errors import ModelUnusable, TrainingFailed
from everfit.facts import CandidateTrained, DataChecked, Judged, RecipeChosen, RenewEnded, StepFailed
from everfit.judge.verdict import Better, NotBetter, Unproven
from everfit.lifecycle import State
from everfit.ports import Ports
from everfit.testing import FrozenClock, MemoryGateway, MemoryModels, MemoryRegistry, MemoryTrainer, in_memory
from tests.world import FIRST, NOW, SECOND, WORSE, World, fill, find, rows

ALL = ["RenewBegan", "RecipeChosen", "DatasetPinned", "DataChecked", "CandidateTrained", "CandidateRegistered",
       "Judged", "RenewEnded"]  # fmt: skip


@pytest.fixture
def ports() -> Ports:
    return in_memory(FrozenClock(NOW))


@pytest.fixture
def world(ports: Ports, tmp_path: Path) -> World:
    """A project with rows and without a champion."""
    made = World(ports, tmp_path)
    fill(ports.lake)
    made.learn()
    return made


def test_a_first_run_is_judged_against_the_baseline_and_goes_live(world: World) -> None:
    world.renewed("renew-1", FIRST)
    assert world.kinds("renew-1") == ALL
    verdict = find(world, "renew-1", Judged).verdict
    assert isinstance(verdict, Better)
    assert verdict.evidence.against == "baseline"
    assert world.live() == find(world, "renew-1", CandidateTrained).candidate.id
    champion = world.standing().champion
    assert champion is not None
    assert (champion.version, champion.state) == (1, State.LIVE)


@pytest.mark.parametrize(
    "parameters, verdict, outcome, live",
    [
        pytest.param(SECOND, Better, "proven", 2, id="one that is better goes live"),
        pytest.param(WORSE, NotBetter, "kept_back", 1, id="one that is worse is kept back"),
        pytest.param({**FIRST, "again": 1}, NotBetter, "kept_back", 1, id="an equal one is kept back"),
        pytest.param({"by": "shop_size"}, Unproven, "failed", 1, id="one that cannot score fails"),
    ],
)
def test_a_second_candidate(world: World, parameters: dict[str, str], verdict: type, outcome: str, live: int) -> None:
    world.renewed("renew-1", FIRST)
    world.renewed("renew-2", parameters)
    assert find(world, "renew-2", RenewEnded).outcome == outcome
    champion = world.standing().champion
    assert champion is not None
    assert champion.version == live
    assert world.live() == champion.candidate.id
    if outcome == "failed":
        assert find(world, "renew-2", StepFailed).step == "judge"
    else:
        judged = find(world, "renew-2", Judged).verdict
        assert type(judged).__name__ == verdict.__name__
        assert judged.evidence.against == find(world, "renew-1", CandidateTrained).candidate.id


def test_what_was_proven_is_told_to_the_registry(world: World) -> None:
    world.renewed("renew-1", FIRST)
    registry = world.ports.registry
    assert isinstance(registry, MemoryRegistry)
    told = registry.said["m", 1]
    assert told["everfit.verdict"] == "better"
    assert isinstance(told["proven_roc_auc"], float)
    tags = registry.added["m"][0].tags
    assert tags["everfit.run"] == "renew-1"
    assert tags["everfit.cause"] == "somebody asked for it"
    assert tags["everfit.data"].startswith("predictions@0")


def test_neither_model_was_trained_on_the_rows_that_prove(world: World) -> None:
    world.renewed("renew-1", FIRST)
    world.renewed("renew-2", SECOND)
    for run in ("renew-1", "renew-2"):
        recipe = find(world, run, RecipeChosen).recipe
        assert recipe.train.end <= recipe.holdout.start
    first, second = (find(world, run, RecipeChosen).recipe for run in ("renew-1", "renew-2"))
    assert second.holdout.start >= first.train.end


NO_LABELS = rows().with_columns(late=pl.lit(None, dtype=pl.Int64))
BLANK = rows().with_columns(strong=pl.when(pl.int_range(pl.len()) < 900).then("strong"))


@pytest.mark.parametrize(
    "frame, column, said",
    [
        pytest.param(BLANK, "strong", "strong vanished", id="a column that vanished"),
        pytest.param(rows().with_columns(late=pl.lit(1)), "late", "nothing can be learned", id="a constant target"),
        pytest.param(NO_LABELS, "*", "only 0 labelled rows", id="no label at all"),
        pytest.param(rows(0, 4), "*", "only 96 labelled rows", id="too few rows"),
        pytest.param(rows().with_columns(late=pl.int_range(pl.len()) % 3), "late", "3 classes", id="a class too many"),
    ],
)
def test_rows_that_are_not_fit_block_the_run_and_name_the_column(
    ports: Ports, tmp_path: Path, frame: pl.DataFrame, column: str, said: str
) -> None:
    world = World(ports, tmp_path)
    fill(ports.lake, frame)
    world.learn()
    world.renewed("renew-1", FIRST)
    checked = find(world, "renew-1", DataChecked)
    assert not checked.fit
    blocking = [finding for finding in checked.findings if finding.blocks and finding.column == column]
    assert said in blocking[0].said
    ended = find(world, "renew-1", RenewEnded)
    assert ended.outcome == "blocked"
    assert blocking[0].said in ended.said
    assert world.standing().states["renew-1"] == State.BLOCKED


@pytest.mark.parametrize(
    "learned, filled, said",
    [
        pytest.param(False, True, "no columns are known yet", id="before the columns are known"),
        pytest.param(True, False, "the lake holds no rows yet", id="before rows came"),
    ],
)
def test_a_run_that_comes_too_early_fails_with_a_remedy(
    ports: Ports, tmp_path: Path, learned: bool, filled: bool, said: str
) -> None:
    world = World(ports, tmp_path)
    if learned:
        world.learn()
    if filled:
        fill(ports.lake)
    world.renewed("renew-1", FIRST)
    assert said in find(world, "renew-1", StepFailed).said
    assert find(world, "renew-1", RenewEnded).outcome == "failed"


@pytest.mark.parametrize(
    "error, name",
    [
        pytest.param(TrainingFailed("it raised ValueError; see log"), "TrainingFailed", id="a trainer that raises"),
        pytest.param(ModelUnusable("a dict has no predict"), "ModelUnusable", id="something that cannot predict"),
        pytest.param(ZeroDivisionError("by zero"), "ZeroDivisionError", id="an error that nobody expected"),
    ],
)
def test_a_trainer_that_fails_ends_its_run_and_nothing_else(world: World, error: Exception, name: str) -> None:
    world.renewed("renew-1", FIRST)
    good = world.ports
    world.ports = replace(good, trainer=MemoryTrainer(fails=error))
    world.renewed("renew-2", SECOND)
    assert find(world, "renew-2", StepFailed).error == name
    assert str(error) in find(world, "renew-2", RenewEnded).said
    assert world.standing().states["renew-2"] == State.FAILED
    assert bool(world.reports) == (name == "ZeroDivisionError")
    world.ports = good
    world.renewed("renew-3", SECOND)
    assert find(world, "renew-3", RenewEnded).outcome == "proven"


def test_dropping_old_versions_spares_those_that_serve_may_serve_again_or_share_their_file(world: World) -> None:
    keep_one = "rollout: {keep: 1}\n"
    world.renewed("renew-1", FIRST, keep_one)
    world.renewed("renew-twin", {**FIRST, "again": 1}, keep_one)  # equal bytes, another recipe
    world.renewed("renew-worse", WORSE, keep_one)
    world.renewed("renew-2", SECOND, keep_one)
    bench = {kept.run: kept for kept in world.standing().bench.values()}
    assert isinstance(world.ports.models, MemoryModels)
    for run in ("renew-1", "renew-twin", "renew-2"):
        assert world.ports.models.path(bench[run].candidate.file).is_dir()
    with pytest.raises(ModelUnusable):
        world.ports.models.path(bench["renew-worse"].candidate.file)
    assert isinstance(world.ports.gateway, MemoryGateway)
    assert set(world.ports.gateway.published) == {bench[run].candidate.id for run in ("renew-1", "renew-2")}
