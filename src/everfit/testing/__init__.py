"""Ports in memory, for tests and for authors of plug-ins.

Takes what the real adapters take; gives what they give; never needs a service. `in_memory()` gives all of them
together, so that whole flows run within a test; `everfit.checks` holds the laws that they keep like the real ones.
"""

from __future__ import annotations

from datetime import UTC, datetime

from everfit.clock import Clock
from everfit.ports import Ports
from everfit.testing.models import MemoryGateway, MemoryModels, MemoryRegistry, MemoryTrainer, SilentTeller
from everfit.testing.rows import MemoryJournal, MemoryLake
from everfit.testing.times import FrozenClock, MemoryLeases, MemoryLedger, MemoryNotes

__all__ = [
    "FrozenClock",
    "MemoryGateway",
    "MemoryJournal",
    "MemoryLake",
    "MemoryLeases",
    "MemoryLedger",
    "MemoryModels",
    "MemoryNotes",
    "MemoryRegistry",
    "MemoryTrainer",
    "SilentTeller",
    "in_memory",
]


def in_memory(clock: Clock | None = None) -> Ports:
    """The whole outside world of one model, in memory. Exchange single ports with `dataclasses.replace`.

    >>> ports = in_memory(FrozenClock(datetime(2013, 2, 1, tzinfo=UTC)))
    >>> ports.ledger.due("m", ports.clock.now())
    []
    """
    leases = MemoryLeases()
    return Ports(
        clock=clock or FrozenClock(datetime(2013, 1, 1, tzinfo=UTC)), journal=MemoryJournal(), lake=MemoryLake(),
        ledger=MemoryLedger(leases), leases=leases, notes=MemoryNotes(), trainer=MemoryTrainer(),
        models=MemoryModels(), registry=MemoryRegistry(), gateway=MemoryGateway(), teller=SilentTeller(),
    )  # fmt: skip
