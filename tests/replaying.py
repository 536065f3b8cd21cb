"""A model in a replay: its time is that of its events, and everything that follows from rows happens at once.

Takes rows of days; gives the ledger, control and standing after them; never starts a process.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from everfit.clock import BEGINNING, EventClock, LedClock
from everfit.facts import Paused, Resumed, RetrainAsked
from everfit.flows.control import Control
from everfit.flows.hand import Hand
from everfit.flows.measure import Measure
from everfit.flows.watch import Watch
from everfit.observe.intake import Rules, take_history
from everfit.ports import Batch, Ports, Table, Write
from everfit.standing import PEOPLE
from everfit.testing import MemoryNotes, in_memory
from tests.world import DAY0, SECOND, World, rows, spec_of, with_port

RULES = Rules("binary", target="late", time="at", id="flight")
DAILY = 'triggers: [{name: nightly, schedule: "0 0 * * *"}]\ndecide: {cool_down: 2d, rest_at_most: 30d}\n'
EAGER = DAILY.replace("2d", "1m").replace("30d", "1m")
NEVER = "triggers: [{name: launch, event: launch}]\n"


@dataclass
class Replay:
    """A model whose time is that of its events."""

    folder: Path
    more: str
    fresh: bool = False  # a new control for every tick, as if each had been killed
    ports: Ports = field(init=False)
    world: World = field(init=False)
    control: Control = field(init=False)

    def __post_init__(self) -> None:
        notes = MemoryNotes()

        def recorded() -> datetime | None:
            marked = notes.marked("now:m")
            return datetime.fromisoformat(marked) if marked else None

        self.ports = with_port(in_memory(EventClock(recorded)), notes=notes)
        self.world = World(self.ports, self.folder, spec_of(SECOND, self.more))
        self.control = self.new_control()

    def new_control(self) -> Control:
        """A control as a fresh process has it."""
        ports, world = self.ports, self.world
        led = LedClock(
            lambda: None if ports.clock.now() == BEGINNING else ports.clock.now(),
            lambda moment: ports.notes.mark("now:m", moment.isoformat()),
        )
        steps = world.steps()
        measure = Measure(world.spec, ports.lake, Hand(ports.notes), steps.shadow, shadows=steps.shadows)
        watch = Watch(world.spec, replace(world.desk, now=led.now), measure, world.follower())
        return Control(
            watch, ports.journal, ports.lake, ports.notes, RULES, self.folder / "clock.json", source="memory",
            bring=lambda: 0, clock=led,
        )  # fmt: skip

    def feed(self, frame: pl.DataFrame) -> None:
        """Send rows with their labels and let everything that follows from them happen."""
        predictions, labels = take_history(frame, RULES, now=None, issue=str)
        batches = [Batch(Table.PREDICTIONS, predictions.rows), Batch(Table.LABELS, labels.rows)]
        number = self.ports.journal.append(batches)
        (self.folder / "settle").write_text(str(number))
        for _ in range(1000):
            if self.fresh:
                self.control = self.new_control()
            moved = self.control.tick()
            self.world.finish()
            if not moved and not self.ports.ledger.due("m", self.ports.clock.now()):
                return
        raise AssertionError("the control loop does not come to rest")

    def say(self, fact: Paused | Resumed | RetrainAsked) -> None:
        """A person's word."""
        step = self.world.standing().people_step + 1
        self.ports.ledger.append(Write("m", PEOPLE, step, fact, self.ports.clock.now(), "ada", ends=True))

    def starts(self) -> list[float]:
        """Days after the beginning at which runs were started."""
        return [(run.started - DAY0) / timedelta(days=1) for run in self.world.standing().history.runs]


def replay_of(folder: Path, more: str, days: int = 60, *, fresh: bool = False) -> Replay:
    """Twenty days at once, then a day at a time."""
    made = Replay(folder, more, fresh)
    made.feed(rows(0, 20))
    for number in range(20, days):
        made.feed(rows(number, 1))
    return made


def dated_facts(replay: Replay, kind: type) -> list[tuple[datetime, Any]]:
    found = [(entry.at, entry.fact) for entry in replay.ports.ledger.read("m")]
    return [(at, fact) for at, fact in found if isinstance(fact, kind)]
