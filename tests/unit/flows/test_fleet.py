"""Several models in one ledger that share a budget: what all did counts, and the most valuable run goes first."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from everfit.decide.decision import Decision, Reason, Retrain, Wait
from everfit.decide.options import Fleet
from everfit.facts import Decided, RenewBegan, RenewEnded
from everfit.flows.durable import Follower
from everfit.flows.fleet import fleet_record
from everfit.ports import Ledger, Write
from everfit.standing import WATCH
from everfit.testing import FrozenClock, in_memory
from tests.unit.flows.served import UNWATCHED, Served
from tests.world import DAY0, NOW

FLEET = (
    "triggers: [{name: volume, new_rows: 20}]\n"
    "decide: {cool_down: 1m, rest_at_most: 1m, fleet: {runs: RUNS, per: 10d}}\n"
)
BUDGET = Fleet(runs=3, per=timedelta(days=10))


class Other:
    """Another model of the same database, as far as this one can see: its facts."""

    def __init__(self, ledger: Ledger, name: str = "n") -> None:
        self.ledger, self.name = ledger, name

    def runs(self, run: str, at: datetime) -> None:
        """It trained, and kept what it had."""
        because = (Reason("volume", None, None, "it was time", run),)
        self.ledger.append(Write(self.name, run, 1, RenewBegan(because, first=False), at, "worker"))
        self.ledger.append(Write(self.name, run, 2, RenewEnded("kept_back", "no better"), at, "worker", ends=True))

    def wants(self, worth: float | None, at: datetime) -> None:
        """It waits for the budget with a run of some worth; None: it does not wait any more."""
        held = Reason("fleet", worth, 1.0, "others went first", "")
        decision: Decision = Wait(() if worth is None else (held,))
        number = Follower(self.ledger, self.name).standing().watch_step + 1
        self.ledger.append(Write(self.name, WATCH, number, Decided(decision, None), at, "control", ends=True))


def served(folder: Path, runs: int) -> Served:
    """A model with a champion that wants to train after every window; its first run counts too."""
    return Served(folder, FLEET.replace("RUNS", str(runs)), changed=UNWATCHED)


def asked(model: Served) -> list[Decision]:
    return [decision for _, _, decision in model.now.decisions if isinstance(decision, Retrain)]


def held_by(model: Served) -> list[str]:
    """What holds the last decision back."""
    return [reason.trigger for reason in model.decision.because if isinstance(model.decision, Wait)]


def test_runs_of_all_models_count_within_the_period(tmp_path: Path) -> None:
    ledger, followers = in_memory(FrozenClock(NOW)).ledger, dict[str, Follower]()
    one, two = Other(ledger, "one"), Other(ledger, "two")
    one.runs("renew-old", NOW - timedelta(days=11))
    one.runs("renew-1", NOW - timedelta(days=9))
    two.runs("renew-1", NOW - timedelta(days=1))
    assert fleet_record(ledger, followers, "one", BUDGET, NOW).runs_in_period == 2
    two.runs("renew-2", NOW)
    assert fleet_record(ledger, followers, "one", BUDGET, NOW).runs_in_period == 3
    assert fleet_record(ledger, followers, "one", BUDGET, NOW + timedelta(days=2)).runs_in_period == 2
    assert set(followers) == {"one", "two"}


def test_only_others_that_wait_for_the_budget_have_a_wish(tmp_path: Path) -> None:
    ledger = in_memory(FrozenClock(NOW)).ledger
    one, two = Other(ledger, "one"), Other(ledger, "two")
    one.wants(9.0, NOW)
    two.wants(5.0, NOW)
    assert fleet_record(ledger, {}, "one", BUDGET, NOW).wishes == (("two", 5.0),)
    assert fleet_record(ledger, {}, "three", BUDGET, NOW).wishes == (("one", 9.0), ("two", 5.0))
    two.wants(None, NOW)
    assert fleet_record(ledger, {}, "one", BUDGET, NOW).wishes == ()


@pytest.mark.story
def test_a_spent_budget_holds_a_model_back_until_the_period_is_over(tmp_path: Path) -> None:
    model = served(tmp_path, 3)
    Other(model.ports.ledger).runs("renew-1", NOW)
    model.serve()
    assert len(asked(model)) == 1  # the third of three: its own first one, the other's, and this
    model.serve()
    assert held_by(model)[0] == "fleet"
    assert "all models together started 3 runs within 10d; the budget is 3" in model.decision.because[0].said
    for _ in range(9):
        model.serve()
    days = [(run.started - DAY0).days for run in model.now.history.runs]
    assert days == [40, 41, 50, 51]  # ten days after those of the 40th two may be started again


@pytest.mark.parametrize(
    "worth, goes",
    [
        pytest.param(1e9, False, id="another's run is worth more"),
        pytest.param(-1.0, True, id="another's run is worth less"),
        pytest.param(None, True, id="nobody else waits"),
    ],
)
def test_what_is_left_goes_to_the_most_valuable_run(tmp_path: Path, worth: float | None, goes: bool) -> None:
    model = served(tmp_path, 2)
    other = Other(model.ports.ledger)
    other.wants(worth, NOW)
    model.serve()
    model.serve()
    assert bool(asked(model)) == goes
    if goes:
        return
    assert held_by(model)[0] == "fleet"
    assert "first n (1e+09 against" in model.decision.because[0].said
    other.wants(None, NOW)  # it was given its run, or wants none any more
    model.serve()
    assert len(asked(model)) == 1


def test_with_room_for_both_nobody_waits(tmp_path: Path) -> None:
    model = served(tmp_path, 3)
    Other(model.ports.ledger).wants(1e9, NOW)
    model.serve()
    model.serve()
    assert len(asked(model)) == 1


@pytest.mark.story
def test_two_models_see_each_other(tmp_path: Path) -> None:
    """Both in one database, each with its own watch; together they start no more than the budget."""
    one = served(tmp_path / "one", 3)
    two = Served(
        tmp_path / "two", FLEET.replace("RUNS", "3"), changed=UNWATCHED | {"model: m": "model: n"}, ports=one.ports
    )
    assert two.now.history.model == "n"
    for _ in range(3):
        one.serve()
        two.serve()
    started = [run.started for model in (one, two) for run in model.now.history.runs]
    assert len(started) == 3
