"""What the other models of one database did and want, where they share a budget.

Takes the ledger; gives the record that a decision weighs; never reads a model's rows, and never writes.
"""

from __future__ import annotations

from datetime import datetime

from everfit.decide.decision import Wait
from everfit.decide.history import FleetRecord
from everfit.decide.options import Fleet
from everfit.flows.durable import Follower
from everfit.ports import Ledger
from everfit.standing import Standing


def fleet_record(
    ledger: Ledger, followers: dict[str, Follower], model: str, budget: Fleet, now: datetime
) -> FleetRecord:
    """Runs of all models within the budget's period, and what the others that wait for it are worth.

    Args:
        ledger: Where all models' facts are.
        followers: One for each model; those that lack are added, so that only what is new is read next time.
        model: The one that is being decided on; it is no wish of its own.
        budget: What all may start together.
        now: The model's time.
    """
    runs, wishes = 0, []
    for name in ledger.models():
        standing = followers.setdefault(name, Follower(ledger, name)).standing()
        runs += sum(1 for run in standing.history.runs if now - budget.per < run.started <= now)
        worth = _waiting(standing)
        if name != model and worth is not None:
            wishes.append((name, worth))
    return FleetRecord(runs, tuple(wishes))


def _waiting(standing: Standing) -> float | None:
    """What a run would be worth that waits for the fleet's budget; None if none does."""
    decision = standing.decisions[-1][2] if standing.decisions else None
    if not isinstance(decision, Wait):
        return None
    held = next((reason for reason in decision.because if reason.trigger == "fleet"), None)
    return None if held is None else held.value or 0.0
