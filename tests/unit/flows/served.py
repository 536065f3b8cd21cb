"""A champion in service whose days come one by one, through the real watch on ports in memory.

Takes rows of a day; gives where the model stands after it; never starts a process.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from everfit.decide.decision import Decision
from everfit.decide.history import WindowRecord
from everfit.detect.signal import Reading, Signal
from everfit.facts import Fact, WindowClosed, WindowMatured
from everfit.flows.hand import Hand
from everfit.flows.measure import Measure
from everfit.flows.watch import Watch
from everfit.observe.window import Span
from everfit.ports import Ledger, Ports, Table
from everfit.spec import parse_spec
from everfit.standing import Standing
from everfit.testing import FrozenClock, MemoryLake, in_memory
from tests.world import DAY0, DAYS, NOW, SECOND, SPEC, World, fill, rows

DAY = timedelta(days=1)
# What the spec changes where what windows say plays no role: rows are counted, and a proof costs a third.
UNWATCHED = {"watch: {at_least: 20}": "watch: {at_least: 10000}"}
TABLES = (Table.PREDICTIONS, Table.LABELS)


@dataclass
class Served:
    """Forty days are behind a champion that came on the forty-first; the next days are served by it."""

    folder: Path
    more: str = ""
    parameters: dict[str, Any] = field(default_factory=lambda: dict(SECOND))
    changed: dict[str, str] = field(default_factory=dict)  # in the spec's text, what by what
    ports: Ports = field(default_factory=lambda: in_memory(FrozenClock(NOW)))
    scored: bool = True  # rows bring the score that the server gave; files bring none
    day: int = DAYS
    _batches: count[int] = field(default_factory=lambda: count(2))

    def __post_init__(self) -> None:
        text = SPEC + self.more
        for old, new in self.changed.items():
            assert old in text
            text = text.replace(old, new)
        spec = parse_spec(text)
        spec = spec.model_copy(update={"train": spec.train.model_copy(update={"parameters": self.parameters})})
        fill(self.ports.lake)
        self.world = World(self.ports, self.folder, spec)
        self.world.learn()
        self.world.begin("renew-1")
        self.world.finish()
        self.watch = self.new_watch(self.ports.ledger)

    def new_watch(self, ledger: Ledger) -> Watch:
        """A watch as a fresh process has it."""
        world = self.world
        steps = world.steps()
        measure = Measure(world.spec, self.ports.lake, Hand(self.ports.notes), steps.shadow, shadows=steps.shadows)
        return Watch(world.spec, replace(world.desk, ledger=ledger), measure, world.follower())

    def champion(self, run: str, parameters: dict[str, Any]) -> None:
        """Train another one; the spec is the same but for the trainer's parameters."""
        spec = self.world.spec
        train = spec.train.model_copy(update={"parameters": parameters})
        self.world.spec = spec.model_copy(update={"train": train})
        self.world.begin(run)
        self.world.finish()
        self.watch = self.new_watch(self.ports.ledger)

    # ---- days --------------------------------------------------------------------------------------------------------
    def serve(self, *changes: pl.Expr, many: int = 30) -> Standing:
        """One more day, some of its columns changed; its window is closed, and matures when it is time."""
        frame = rows(self.day, 1).head(many).with_columns(*changes)
        self.put(frame)
        self.day += 1
        self.pass_until(DAY0 + self.day * DAY + timedelta(hours=2))
        return self.now

    def put(self, frame: pl.DataFrame) -> None:
        """Rows come with their labels, and with the scores of a model that goes by the column of the parameters."""
        draft, number = MemoryLake(), next(self._batches)
        fill(draft, frame)
        predictions, labels = (draft.read(table, since=None, until=None).collect() for table in TABLES)
        if self.scored:
            late = 1 / (1 + (-pl.col(str(self.world.spec.train.parameters["by"]))).exp())
            predictions = predictions.with_columns(_score=pl.concat_list(1 - late, late), _latency_ms=pl.lit(1.0))
        for table, its in zip(TABLES, (predictions, labels), strict=True):
            self.ports.lake.add(table, its, source="s", batch=number)

    def pass_until(self, moment: datetime) -> None:
        """Time passes; what becomes due is done."""
        clock = self.ports.clock
        assert isinstance(clock, FrozenClock)
        clock.forward(moment - clock.now())
        while due := self.watch.due(moment):
            self.watch.visit(due[0])
            self.world.finish()

    # ---- what is known -----------------------------------------------------------------------------------------------
    @property
    def now(self) -> Standing:
        """Where the model stands."""
        return self.world.standing()

    @property
    def last(self) -> WindowRecord:
        """The last window."""
        return self.now.history.windows[-1]

    @property
    def decision(self) -> Decision:
        """The last decision."""
        return self.now.decisions[-1][2]

    def span(self, day: int) -> Span:
        """The window of a day."""
        return Span(DAY0 + day * DAY, DAY0 + (day + 1) * DAY)

    def fact(self, kind: type[Fact], day: int) -> Any:
        """What was measured on a day: `WindowClosed` or `WindowMatured`."""
        found = [e.fact for e in self.ports.ledger.read("m") if isinstance(e.fact, kind)]
        return next(f for f in found if isinstance(f, WindowClosed | WindowMatured) and f.span == self.span(day))


def named(readings: tuple[Reading, ...] | None, begin: str) -> dict[str, Reading]:
    """Readings of whole windows whose name begins so, by name."""
    return {r.name: r for r in readings or () if r.name.startswith(begin) and r.column == "*"}


def signal(readings: tuple[Reading, ...] | None, name: str) -> Signal:
    """A reading that must be there, with enough rows."""
    found = named(readings, name)[name]
    assert isinstance(found, Signal), found
    return found
