"""A cheap training before the whole one: it ends a run that cannot be worth it, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from everfit.decide.decision import Reason, Retrain
from everfit.facts import CandidateTrained, Judged, Probed, RenewBegan, RenewEnded
from everfit.flows.durable import advance, begin
from everfit.flows.renew import renew as next_of
from everfit.ports import Write
from everfit.testing import FrozenClock, MemoryTrainer, in_memory
from tests.scoring import ScoringTrainer
from tests.unit.flows.served import Served
from tests.world import FIRST, NOW, SECOND, WORSE, World, facts_of, fill, find, with_port

PROBING = "decide: {worth: {probe: {rows: 300}}}\n"
BECAUSE = (Reason("decay", 0.7, 0.9, "it fell", "k1"),)


def world_of(folder: Path, trainer: MemoryTrainer | None = None, champion: dict[str, str] = FIRST) -> World:
    """A project with a champion, whose trainer is about to be asked again."""
    made = World(with_port(in_memory(FrozenClock(NOW)), trainer=trainer or ScoringTrainer()), folder)
    fill(made.ports.lake)
    made.learn()
    made.renewed("renew-1", champion)
    return made


def renew(world: World, parameters: dict[str, Any], more: str = PROBING, *, probe: bool = True) -> list[str]:
    """A run that is to be probed first; the facts it ends with."""
    world.wants(parameters, more)
    begin(world.desk, "m", "renew-2", RenewBegan(BECAUSE, first=False, probe=probe))
    world.finish()
    return world.kinds("renew-2")


def trainer_of(world: World) -> ScoringTrainer:
    assert isinstance(world.ports.trainer, ScoringTrainer)
    return world.ports.trainer


def test_one_that_is_worse_for_certain_ends_the_run_without_training_on_all_rows(tmp_path: Path) -> None:
    world = world_of(tmp_path, champion=SECOND)
    kinds = renew(world, WORSE)
    assert kinds[-2:] == ["Probed", "RenewEnded"]
    assert CandidateTrained.__name__ not in kinds
    probed, ended = find(world, "renew-2", Probed), find(world, "renew-2", RenewEnded)
    assert not probed.go_on
    assert probed.gain[1] <= probed.gain[0] <= probed.gain[2] <= 0
    assert ended.outcome == "not_worth"
    assert "worse than the champion for certain" in ended.said
    assert trainer_of(world).rows == [960, 300]  # the champion's, and the newest of the probe
    run = world.standing().history.runs[-1]
    assert (run.outcome, world.standing().history.running) == ("not_worth", None)


def test_a_better_one_goes_on_to_all_rows_and_is_judged_by_itself(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    kinds = renew(world, SECOND)
    assert kinds.index("Probed") == kinds.index("CandidateTrained") - 1
    assert find(world, "renew-2", Probed).go_on
    assert trainer_of(world).rows == [960, 300, 960]
    assert find(world, "renew-2", Judged).verdict.kind == "better"
    assert world.standing().history.runs[-1].outcome == "promoted"


def test_prices_are_weighed_against_the_most_that_it_could_bring(tmp_path: Path) -> None:
    """A champion that was never watched has no rows a day: then only what is certainly worse ends the run."""
    dear = "decide: {worth: {unit_value: 0.0001, run_cost: 1000, probe: {rows: 300}}}\n"
    assert "Judged" in renew(world_of(tmp_path / "unknown"), SECOND, dear)
    served = Served(tmp_path / "known", more=dear, parameters=dict(FIRST),
                    ports=with_port(in_memory(FrozenClock(NOW)), trainer=ScoringTrainer()))  # fmt: skip
    served.serve()
    served.serve()
    world = served.world
    assert renew(world, SECOND, dear)[-1] == "RenewEnded"
    assert find(world, "renew-2", RenewEnded).outcome == "not_worth"
    assert "worth at most" in find(world, "renew-2", Probed).said


@pytest.mark.parametrize(
    "more, probe",
    [
        pytest.param("", True, id="the spec asks for none any more"),
        pytest.param(PROBING, False, id="the decision asked for none: a person's wish is not weighed"),
    ],
)
def test_without_a_probe_all_rows_are_trained_on_at_once(tmp_path: Path, more: str, probe: bool) -> None:
    world = world_of(tmp_path, champion=SECOND)
    assert "CandidateTrained" in renew(world, WORSE, more, probe=probe)
    assert trainer_of(world).rows == [960, 960]


def test_the_first_champion_is_never_probed(tmp_path: Path) -> None:
    world = World(with_port(in_memory(FrozenClock(NOW)), trainer=ScoringTrainer()), tmp_path)
    world.wants(FIRST, PROBING)
    fill(world.ports.lake)
    world.learn()
    begin(world.desk, "m", "renew-1", RenewBegan(BECAUSE, first=True, probe=True))
    world.finish()
    assert Probed.__name__ not in world.kinds("renew-1")
    assert world.standing().champion is not None


class Killed(Exception):
    """The process ended here."""


class Mortal:
    """A ledger, or a trainer, whose process ends at some call."""

    def __init__(self, port: Any, verb: str, calls: int) -> None:
        self._port, self._verb, self._left = port, verb, calls

    def __getattr__(self, verb: str) -> Any:
        do = getattr(self._port, verb)

        def counted(*args: Any, **named: Any) -> Any:
            about = type(args[0].fact).__name__ if args and isinstance(args[0], Write) else verb
            if about == self._verb:
                self._left -= 1
                if self._left == 0:
                    raise Killed(about)
            return do(*args, **named)

        return counted


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, object]]]:
    """What the ledger says where nothing was killed."""
    world = world_of(tmp_path_factory.mktemp("unbroken"))
    renew(world, SECOND)
    return facts_of(world.ports.ledger.read("m"))


@pytest.mark.parametrize(
    "port, verb, calls",
    [
        pytest.param("trainer", "train", 1, id="before the probe"),
        pytest.param("ledger", "Probed", 1, id="before its fact"),
        pytest.param("trainer", "train", 2, id="before the whole training"),
        pytest.param("ledger", "CandidateTrained", 1, id="before the model is told of"),
    ],
)
def test_killed_in_between_it_says_the_same(
    tmp_path: Path, unbroken: dict[str, list[tuple[str, object]]], port: str, verb: str, calls: int
) -> None:
    world = world_of(tmp_path)
    whole = world.ports
    world.ports = with_port(whole, **{port: Mortal(getattr(whole, port), verb, calls)})
    world.wants(SECOND, PROBING)
    begin(world.desk, "m", "renew-2", RenewBegan(BECAUSE, first=False, probe=True))
    with pytest.raises(Killed):
        advance_without_a_net(world)
    world.ports = whole
    world.finish()
    assert facts_of(whole.ledger.read("m")) == unbroken


def advance_without_a_net(world: World) -> None:
    """As the worker does, but what is raised ends the process instead of the run."""
    steps = world.steps()
    while True:
        advance(world.desk, world.follower(), "renew-2", lambda now, story, alive: next_of(steps, now, story, alive))


def test_a_trigger_asks_for_it_where_the_spec_has_one(tmp_path: Path) -> None:
    limits = PROBING.replace("{", "{cool_down: 1m, ", 1)
    served = Served(tmp_path, more="triggers: [{name: volume, new_rows: 30}]\n" + limits)
    served.serve()
    asked = [decision for _, _, decision in served.now.decisions if isinstance(decision, Retrain)]
    assert asked[0].probe
    began = [story.find(RenewBegan) for run, story in served.now.stories.items() if run.startswith("renew-")]
    assert [fact.probe for fact in began if fact] == [False, True]
