"""A release that does harm is taken back by the watch, once, whatever crashes and whoever was quicker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from everfit.decide.decision import RollBack
from everfit.facts import Decided, ReleaseEnded, ReleasePlanned, WentLive
from everfit.ports import Write
from everfit.standing import run_of
from tests.unit.flows.served import Served
from tests.world import FIRST, SECOND, find

FLIPPED = (1 - pl.col("late")).alias("late")
BACK = "release-back-"


DECAY = "triggers: [{name: decay, alarm: performance}]\n"


class Cut(Exception):
    """The process ended here."""


class Frail:
    """A ledger whose process ends before it writes the plan of a release."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger

    def append(self, write: Write) -> Any:
        """Write, or die."""
        if isinstance(write.fact, ReleasePlanned):
            raise Cut(write.run)
        return self._ledger.append(write)

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._ledger, verb)


def released(folder: Path) -> Served:
    """A champion of four good days, and a new one on its second day."""
    served = Served(folder, DECAY, parameters=dict(FIRST))
    for _ in range(4):
        served.serve()
    served.champion("renew-2", dict(SECOND))
    served.serve()
    return served


def decided(served: Served) -> list[RollBack]:
    return [decision for _, _, decision in served.now.decisions if isinstance(decision, RollBack)]


def backs(served: Served) -> list[str]:
    return [run for run in served.now.stories if run.startswith(BACK)]


def version(served: Served) -> int:
    champion = served.now.champion
    assert champion is not None
    return champion.version


@pytest.fixture
def harmful(tmp_path: Path) -> Served:
    """Just before the window in which the new champion does harm."""
    return released(tmp_path)


def test_it_is_decided_carried_out_and_not_done_again(harmful: Served) -> None:
    first = harmful.now.history.previous
    assert version(harmful) == 2
    harmful.serve(FLIPPED)
    (decision,) = decided(harmful)
    assert "the version before had no such alarm" in decision.because[0].said
    assert backs(harmful) == [run_of(decision)]
    plan = find(harmful.world, run_of(decision), ReleasePlanned)
    assert (plan.back, plan.candidate, plan.cause.startswith("everfit: ")) == (True, first, True)
    assert find(harmful.world, run_of(decision), ReleaseEnded).outcome == "live"
    assert (version(harmful), harmful.world.live()) == (1, first)
    for _ in range(3):
        harmful.serve(FLIPPED)  # the world turned, and no release was to blame
    assert len(decided(harmful)) == len(backs(harmful)) == 1
    assert version(harmful) == 1
    assert harmful.now.history.previous is None


@pytest.mark.story
def test_a_crash_between_the_decision_and_its_run_is_made_good_once(harmful: Served) -> None:
    harmful.watch = harmful.new_watch(Frail(harmful.ports.ledger))
    with pytest.raises(Cut):
        harmful.serve(FLIPPED)
    assert len(decided(harmful)) == 1
    assert (backs(harmful), version(harmful)) == ([], 2)
    harmful.watch = harmful.new_watch(harmful.ports.ledger)
    harmful.watch.catch_up()
    harmful.watch.decide()
    harmful.world.finish()
    assert backs(harmful) == [run_of(decided(harmful)[0])]
    assert version(harmful) == 1
    harmful.watch.decide()
    harmful.world.finish()
    harmful.serve()
    assert (len(decided(harmful)), len(backs(harmful))) == (1, 1)


@pytest.mark.story
def test_while_it_is_under_way_nothing_else_is_begun_and_a_failed_one_leaves_it_to_the_triggers(
    harmful: Served,
) -> None:
    """Servers may take a minute to swap, and the policy is asked every few seconds: the alarm is answered already."""
    harmful.watch = harmful.new_watch(Frail(harmful.ports.ledger))
    with pytest.raises(Cut):
        harmful.serve(FLIPPED)
    previous = harmful.now.history.previous
    assert previous is not None
    harmful.ports.gateway.withdraw("m", previous)
    harmful.watch = harmful.new_watch(harmful.ports.ledger)
    waiting = harmful.watch.decide()
    assert (waiting.kind, waiting.because[0].trigger) == ("wait", "running")
    assert backs(harmful)[0] in waiting.because[0].said
    assert len(harmful.now.history.runs) == 2
    harmful.world.finish()
    assert find(harmful.world, backs(harmful)[0], ReleaseEnded).outcome == "failed"
    assert version(harmful) == 2
    assert harmful.watch.decide().kind == "retrain"


def test_it_is_not_done_when_a_person_was_quicker(harmful: Served) -> None:
    harmful.watch = harmful.new_watch(Frail(harmful.ports.ledger))
    with pytest.raises(Cut):
        harmful.serve(FLIPPED)
    harmful.world.roll_back("release-back-ada")
    harmful.world.finish()
    assert version(harmful) == 1
    harmful.watch = harmful.new_watch(harmful.ports.ledger)
    harmful.watch.decide()
    harmful.world.finish()
    harmful.serve()
    assert backs(harmful) == ["release-back-ada"]
    assert version(harmful) == 1


@pytest.mark.story
def test_it_is_not_done_when_a_better_one_came_meanwhile(harmful: Served) -> None:
    """The decision was about a release that is over: what serves now did no harm."""
    harmful.watch = harmful.new_watch(Frail(harmful.ports.ledger))
    with pytest.raises(Cut):
        harmful.serve(FLIPPED)
    harmful.world.roll_back("release-back-ada")
    harmful.world.finish()
    harmful.champion("renew-3", {**SECOND, "again": 1})
    assert version(harmful) == 3
    harmful.watch.decide()
    harmful.world.finish()
    assert backs(harmful) == ["release-back-ada"]
    assert version(harmful) == 3


@pytest.mark.story
def test_the_ledger_says_it_in_this_order(harmful: Served) -> None:
    harmful.serve(FLIPPED)
    told = [e.fact for e in harmful.ports.ledger.read("m")]
    places = [
        next(n for n, f in enumerate(told) if isinstance(f, Decided) and isinstance(f.decision, RollBack)),
        next(n for n, f in enumerate(told) if isinstance(f, ReleasePlanned) and f.back),
        next(n for n, f in enumerate(told) if isinstance(f, WentLive) and f.back),
    ]
    assert places == sorted(places)
