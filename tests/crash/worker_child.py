"""A worker process that trains until it is told that it may end; others take over when it is killed or paused.

Takes a folder, a database, its name and how its trainer takes the loss of the lease; gives one line on standard output
for what it begins and for every write that was refused; never ends before all runs have.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from everfit.clock import rest
from everfit.errors import Conflict, LeaseLost
from everfit.flows.durable import Worker
from everfit.ports import Job, Ledger, Made, Write
from everfit.settings import settings_for
from everfit.testing import MemoryTrainer
from tests.crash.flows_child import ports_in
from tests.world import World, spec_of


class SlowTrainer(MemoryTrainer):
    """Says that it trains, and goes on when a file tells it to."""

    def __init__(self, go: Path, how: str) -> None:
        super().__init__()
        self._go, self._how = go, how

    def train(self, job: Job, alive: Callable[[], bool]) -> Made:
        """Train until told. Rows are read first, or (`stumbles`) last, when another worker has cleared them away."""
        made = super().train(job, lambda: True) if self._how != "stumbles" else None
        print("training", flush=True)
        while not self._go.exists():
            rest(0.02)
            if self._how == "listens" and not alive():
                print("refused LeaseLost by the heart", flush=True)
                raise LeaseLost("the lease was lost while training")
        return made or super().train(job, lambda: True)


class Telling:
    """A ledger that says which writes it refused."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._ledger, verb)

    def append(self, write: Write) -> Any:
        """Write, or say why not."""
        try:
            return self._ledger.append(write)
        except Conflict as error:
            print(f"refused {type(error).__name__} {type(write.fact).__name__}", flush=True)
            raise


def main(folder: Path, database: str, name: str, how: str) -> None:
    """Work until every run has ended."""
    ports = ports_in(folder, database=database)
    trainer = SlowTrainer(folder / f"go-{name}", how)
    ledger: Any = Telling(ports.ledger)
    parameters = json.loads((folder / "parameters.json").read_text())
    worker = Worker(name, settings_for(folder).lease)  # EVERFIT_LEASE
    world = World(replace(ports, trainer=trainer, ledger=ledger), folder, spec_of(parameters), worker)
    todo, now = world.work(), ports.clock.now()
    while ports.ledger.due("m", now):
        if not todo.tick():
            rest(0.05)
    print("ended", *world.reports, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
