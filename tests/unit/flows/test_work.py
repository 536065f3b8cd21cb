"""The worker loop: what is away is tried again later and later, what cannot go on ends, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from everfit.errors import DiskFull, Unavailable, UsageError
from everfit.facts import CandidateRegistered, ReleaseEnded, RenewEnded, StepFailed
from everfit.flows.durable import Worker, held
from everfit.flows.work import LONGEST_REST, given_up
from everfit.ledger import Entry, verify
from everfit.ports import Write
from everfit.testing import (
    FrozenClock,
    MemoryGateway,
    MemoryLeases,
    MemoryLedger,
    MemoryRegistry,
    MemoryTrainer,
    in_memory,
)
from tests.world import FIRST, NOW, SECOND, World, facts_of, fill, find


class AwayRegistry(MemoryRegistry):
    """A registry that is away for some calls."""

    def __init__(self, times: int, error: Exception) -> None:
        super().__init__()
        self.left, self.error, self.asked = times, error, 0

    def add(self, model: str, registration: Any) -> int:
        """Away, or a version."""
        self.asked += 1
        if self.left:
            self.left -= 1
            raise self.error
        return super().add(model, registration)


def world_in(folder: Path, **ports: Any) -> World:
    """A project with rows."""
    made = World(replace(in_memory(FrozenClock(NOW)), **ports), folder)
    fill(made.ports.lake)
    made.learn()
    return made


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Unavailable("MLflow does not answer"), id="the registry is away"),
        pytest.param(DiskFull("no space left"), id="the disk is full"),
    ],
)
def test_what_is_away_is_tried_again_with_growing_rests_and_nothing_is_lost(tmp_path: Path, error: Exception) -> None:
    calm = world_in(tmp_path / "calm")
    calm.renewed("renew-1", FIRST)
    registry = AwayRegistry(3, error)
    world = world_in(tmp_path / "away", registry=registry)
    world.seconds = [0.0]
    world.begin("renew-1", FIRST)
    work = world.work()
    asked: list[float] = []
    for tenth in range(100):  # ten seconds of the worker's own clock
        world.seconds[0] = tenth / 10
        before = registry.asked
        while work.tick():
            continue
        asked += [world.seconds[0]] * (registry.asked - before)
    assert asked == [0.0, 1.0, 3.0, 7.0]  # rests of 1, 2 and 4 seconds
    assert len(world.reports) == 3
    assert facts_of(world.ports.ledger.read("m")) == facts_of(calm.ports.ledger.read("m"))
    trainer = world.ports.trainer
    assert isinstance(trainer, MemoryTrainer)
    assert len(trainer.trained) == 1


class AwayLedger(MemoryLedger):
    """A database that is away for some writes, and for the reads in between."""

    left = 0

    def append(self, write: Write) -> Entry:
        """Away, or written."""
        if write.run.startswith("renew") and self.left:
            self.left -= 1
            raise Unavailable("the ledger's database does not answer")
        return super().append(write)


def test_a_database_that_is_away_for_a_while_loses_nothing(tmp_path: Path) -> None:
    """The step is done again: its effect is keyed by content, so that twice is once."""
    calm = world_in(tmp_path / "calm")
    calm.renewed("renew-1", FIRST)
    ledger = AwayLedger()
    world = world_in(tmp_path / "away", ledger=ledger, leases=ledger.leases)
    world.seconds = [0.0]
    world.begin("renew-1", FIRST)
    work = world.work()
    while world.ports.ledger.due("m", NOW):
        ledger.left = 1  # before every step
        work.tick()
        world.seconds[0] += LONGEST_REST
        work.tick()
    assert facts_of(ledger.read("m")) == facts_of(calm.ports.ledger.read("m"))
    registry, gateway = world.ports.registry, world.ports.gateway
    assert isinstance(registry, MemoryRegistry)
    assert isinstance(gateway, MemoryGateway)
    assert len(registry.added["m"]) == len(gateway.pointed) == 1


def test_rests_never_grow_beyond_the_longest(tmp_path: Path) -> None:
    world = world_in(tmp_path, registry=AwayRegistry(50, Unavailable("away")))
    world.seconds = [0.0]
    world.begin("renew-1", FIRST)
    work = world.work()
    for _ in range(50):
        work.tick()
        world.seconds[0] += LONGEST_REST
    assert world.reports[-1] == f"renew-1 is tried again in {LONGEST_REST:.0f} s: away"


class BrokenRegistry(MemoryRegistry):
    """A registry with a fault in one verb that nobody expected."""

    def alias(self, model: str, names: Mapping[str, int | None]) -> None:
        """A fault where the champion is named, after the swap."""
        if "champion" in names:
            raise ZeroDivisionError("a fault of ours")


def test_an_unexpected_error_after_the_swap_ends_the_release_and_the_ledger_can_still_be_read(tmp_path: Path) -> None:
    world = world_in(tmp_path, registry=BrokenRegistry())
    world.renewed("renew-1", FIRST)
    run = world.releases()[0]
    assert "a fault of ours" in find(world, run, StepFailed).said
    assert find(world, run, ReleaseEnded).outcome == "failed"
    assert world.standing().champion is not None
    verify(world.ports.ledger.read("m"))
    assert world.ports.ledger.due("m", NOW) == []


def test_a_run_whose_model_serves_is_not_failed_but_over(tmp_path: Path) -> None:
    """The lifecycle has no move from live to failed: such a fact would make the ledger unreadable for ever."""
    world = world_in(tmp_path)
    world.renewed("renew-1", FIRST)
    outcome = given_up(world.standing(), world.story("renew-1"), ZeroDivisionError("late"))
    assert isinstance(outcome.fact, RenewEnded)
    assert outcome.ends


def test_a_wrong_use_that_a_step_meets_is_said_in_its_own_words(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    world.begin("renew-1", FIRST)
    remedy = "the gateway cannot mirror; leave it out"
    found = given_up(world.standing(), world.story("renew-1"), UsageError(remedy)).fact
    assert isinstance(found, StepFailed)
    assert (found.error, found.said) == ("UsageError", remedy)
    found = given_up(world.standing(), world.story("renew-1"), KeyError("k")).fact
    assert isinstance(found, StepFailed)
    assert "unexpected" in found.said


class Stumbling(MemoryTrainer):
    """A trainer during which the lease is lost, and which then fails over what the other worker did."""

    def __init__(self, lose: Callable[[], None]) -> None:
        super().__init__()
        self.lose = lose

    def train(self, job: Any, alive: Callable[[], bool]) -> Any:
        """Lose the lease, then fail."""
        self.lose()
        while alive():  # until the heart has noticed
            continue
        raise FileNotFoundError("train.parquet")


def test_a_worker_that_fails_after_it_lost_its_lease_does_not_fail_the_run(tmp_path: Path) -> None:
    now = [0.0]
    leases = MemoryLeases(lambda: now[0])
    ledger = MemoryLedger(leases)
    world = world_in(tmp_path, leases=leases, ledger=ledger)
    world.worker = Worker("zombie", timedelta(seconds=0.2))
    world.ports = replace(world.ports, trainer=Stumbling(lambda: now.__setitem__(0, 60.0)))
    world.begin("renew-1", FIRST)
    world.finish()
    assert world.kinds("renew-1")[-1] == "DataChecked"
    world.ports = replace(world.ports, trainer=MemoryTrainer())
    world.worker = Worker("other")
    world.finish()
    assert find(world, "renew-1", RenewEnded).outcome == "proven"


def test_a_run_in_another_workers_hand_is_left_alone(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    world.begin("renew-1", FIRST)
    with held(world.ports.leases, "run:m:renew-1", Worker("other")) as holding:
        assert holding is not None
        world.finish()
        assert world.kinds("renew-1") == ["RenewBegan"]
    world.finish()
    assert find(world, "renew-1", CandidateRegistered).version == 1


def test_a_beginning_that_is_repeated_begins_nothing(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    world.begin("renew-1", FIRST)
    world.begin("renew-1", SECOND)
    assert world.kinds("renew-1") == ["RenewBegan"]


def test_a_lease_is_given_back_and_lost_ones_are_noticed() -> None:
    leases = MemoryLeases()
    with held(leases, "run", Worker("one")) as first:
        assert first is not None
        assert first[1]()
        with held(leases, "run", Worker("two")) as second:
            assert second is None
    with held(leases, "run", Worker("two")) as third:
        assert third is not None
        assert third[0].token == first[0].token + 1
