"""People are told what happened, once, and a channel that fails holds up nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from everfit.decide.decision import FixData, Reason
from everfit.facts import Decided, GuardLooked, ReleaseEnded, Told
from everfit.flows.tell import QUIET, Tell, alert_of
from everfit.ledger import sealed
from everfit.ports import Severity, Write
from everfit.standing import WATCH
from everfit.testing import FrozenClock, MemoryNotes, MemoryTrainer, SilentTeller, in_memory
from tests.world import FIRST, NOW, SECOND, World, fill, with_port

BROKEN = FixData(("strong",), (Reason("quality.nulls", 1.0, 0.2, "strong is 100% null", "e1"),))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(in_memory(FrozenClock(NOW)), tmp_path)
    fill(made.ports.lake)
    made.learn()
    return made


def tell(world: World, teller: SilentTeller, notes: MemoryNotes | None = None) -> Tell:
    return Tell(world.desk, world.follower(), notes or world.ports.notes, teller)


def told(world: World) -> list[Told]:
    return [entry.fact for entry in world.ports.ledger.read("m") if isinstance(entry.fact, Told)]


def decide(world: World, after: timedelta = timedelta(0)) -> None:
    step = world.standing().watch_step + 1
    world.ports.ledger.append(Write("m", WATCH, step, Decided(BROKEN, None), NOW + after, "control", ends=True))


def settle(telling: Tell) -> None:
    while telling.tick():
        continue


def test_what_matters_is_told_in_words(world: World) -> None:
    teller = SilentTeller({"slack": "told"})
    world.renewed("renew-1", FIRST)
    world.ports = with_port(world.ports, trainer=MemoryTrainer(fails=ZeroDivisionError("by zero")))
    world.renewed("renew-2", SECOND)
    decide(world)
    settle(tell(world, teller))
    assert [(alert.severity, alert.title) for alert in teller.alerts] == [
        (Severity.INFO, "m: version 1 is live"),
        (Severity.ERROR, "m: the training run failed"),
        (Severity.ERROR, "m: the data are broken (strong)"),
    ]
    assert [fact.title for fact in told(world)] == [alert.title for alert in teller.alerts]


def test_a_channel_that_fails_is_recorded_and_the_next_thing_is_told(world: World) -> None:
    teller = SilentTeller({"mail": "could not be reached", "slack": "told"})
    world.renewed("renew-1", FIRST)
    decide(world)
    settle(tell(world, teller))
    assert [fact.outcome["mail"] for fact in told(world)] == ["could not be reached"] * 2
    world.renewed("renew-2", SECOND)
    assert world.standing().champion is not None
    settle(tell(world, teller))
    assert teller.alerts[-1].title == "m: version 2 is live"


@pytest.mark.parametrize(
    "after, times",
    [
        pytest.param(QUIET - timedelta(hours=1), 1, id="the same thing is not said again the same day"),
        pytest.param(QUIET, 2, id="a day later it is"),
    ],
)
def test_repetitions(world: World, after: timedelta, times: int) -> None:
    teller = SilentTeller({"slack": "told"})
    telling = tell(world, teller)
    decide(world)
    settle(telling)
    decide(world, after)
    settle(telling)
    assert len(teller.alerts) == len(told(world)) == times


def test_a_teller_whose_mark_was_lost_says_nothing_twice(world: World) -> None:
    """Killed between the message and the mark, or a second teller: the fact in the ledger is what counts."""
    teller = SilentTeller({"slack": "told"})
    decide(world)
    settle(tell(world, teller))
    settle(tell(world, teller, MemoryNotes()))
    assert len(teller.alerts) == len(told(world)) == 1


def test_without_channels_nothing_is_recorded(world: World) -> None:
    decide(world)
    settle(tell(world, SilentTeller()))
    assert told(world) == []


def test_a_release_that_asks_and_one_that_is_taken_back_are_told() -> None:
    asks = GuardLooked(3, "ask", "ask: inconclusive after 1d", "note")
    alert = alert_of(sealed(None, ("release-1", 9), asks, NOW, ("m", "worker")))
    assert alert is not None
    assert (alert.severity, alert.key) == (Severity.WARNING, "release-1:3:ask")
    assert alert.text == "ask: inconclusive after 1d\neverfit promote | everfit abort"
    assert alert_of(sealed(None, ("release-1", 9), GuardLooked(3, "hold", "", ""), NOW, ("m", "worker"))) is None
    back = ReleaseEnded("rolled_back", "rolled back: errors 9.0% against 1.0%")
    alert = alert_of(sealed(None, ("release-1", 9), back, NOW, ("m", "worker")))
    assert alert is not None
    assert (alert.severity, alert.title) == (Severity.ERROR, "m: the release was taken back")
