"""The control loop: rows come in, time passes, what is due is done.

Takes the watch, the mover and the clock; gives ticks; never trains. Live, time is the wall's and runs on. In a replay
the events' watermark is the time, and it stands still while a run is under way, so that history goes as it would have
gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from everfit.clock import BEGINNING, LedClock, ticks
from everfit.errors import Conflict
from everfit.flows.collect import Collected, Collecting, collect
from everfit.flows.watch import Due, Watch, What
from everfit.observe.intake import Rules
from everfit.ports import Journal, Lake, Notes, Table

LOOK_AGAIN = 15.0  # seconds after which the policy is asked again although nothing came
GATHER = 2.0  # seconds for which rows gather before they are moved: a commit to the lake costs the same for one or many
GATHER_IN_REPLAY = 10.0  # a replay asks for what follows from its rows; it need not be guessed


@dataclass(slots=True)
class Control:
    """One model's control loop. `tick` is called again and again by whoever holds the control lease."""

    watch: Watch
    journal: Journal
    lake: Lake
    notes: Notes
    rules: Rules
    clock_file: Path
    source: str  # names this machine's journal in the lake
    bring: Callable[[], int]  # picks up new files into the journal; how many
    clock: LedClock | None = None  # a replay's, which this loop leads
    _settled: int = 0
    _remembered: bool = False  # the watermark was held against the lake
    _busy: bool = False  # a replay waits for a run
    _collected: float = field(default=-GATHER)
    _looked: float = field(default=-LOOK_AGAIN)
    _number: int = -1

    def tick(self) -> bool:
        """Do what is due now; whether anything was done."""
        brought = self.bring()
        if (self._busy and self._runs()) or not self._time_to_collect():
            return bool(brought)
        try:
            collected = self._collect()
            self._collected = ticks()
            self.watch.catch_up()
            done = self._lived(collected) if self.clock is None else self._replayed(collected, self.clock)
        except Conflict:
            return True  # another control wrote first: read again and go on from there
        return bool(brought) or collected.upto > 0 or done

    @property
    def waits(self) -> bool:
        """Whether a replay's time stands still for a run."""
        return self._busy

    # ---- rows --------------------------------------------------------------------------------------------------------
    def _time_to_collect(self) -> bool:
        """Rows gather for a while, unless a window is due or somebody waits for what follows from them."""
        patience = GATHER if self.clock is None else GATHER_IN_REPLAY
        if ticks() >= self._collected + patience or self._busy or self._wanted() > self._settled:
            return True
        return self.clock is None and bool(self.watch.due(self.watch.desk.now()))

    def _wanted(self) -> int:
        """The journal number that a client waits for (`GET /v1/clock?settle=N`)."""
        try:
            return min(int(self.clock_file.with_name("settle").read_text()), self.journal.last())
        except (FileNotFoundError, ValueError):
            return 0

    def _collect(self) -> Collected:
        standing = self.watch.follower.standing()
        how = Collecting(self.rules, self.source, self.watch.spec.features)
        collected = collect(self.journal, self.lake, how, schema=standing.schema, closed_until=standing.closed_until)
        self._settled = max(self._settled, collected.settled)
        if not collected.learned or collected.schema is None:
            return collected
        self.watch.learn(collected.schema)
        return self._collect()

    # ---- time --------------------------------------------------------------------------------------------------------
    def _lived(self, collected: Collected) -> bool:
        now = self.watch.desk.now()
        due = self.watch.due(now)
        for moment in due:
            self._visit(moment)
        number = self.watch.follower.standing().number
        if due or collected.upto or number != self._number or ticks() > self._looked + LOOK_AGAIN:
            self.watch.decide()
            self._looked, self._number = ticks(), self.watch.follower.standing().number
        self._say(now, settled=True)
        return bool(due)

    def _visit(self, moment: Due) -> None:
        """Scoring the bench may take minutes; the guard of a release needs its rows sooner."""
        if moment.what is not What.BENCH:
            self.watch.visit(moment)
            return
        standing = self.watch.follower.standing()
        how = Collecting(self.rules, self.source, self.watch.spec.features)

        def move() -> None:
            moved = collect(self.journal, self.lake, how, schema=standing.schema, closed_until=standing.closed_until)
            self._settled = max(self._settled, moved.settled)

        beside(lambda: self.watch.visit(moment), move, GATHER)

    def _runs(self) -> list[str]:
        """Runs that are under way: a replay's time stands still for them."""
        return self.watch.desk.ledger.due(self.watch.spec.model, self.watch.desk.now())

    def _replayed(self, collected: Collected, clock: LedClock) -> bool:
        newest = max(collected.newest or BEGINNING, collected.newest_label or BEGINNING)
        watermark = self._watermark(newest)
        moved = self._busy = False
        while not self._runs():
            due = self.watch.due(watermark)
            wake = self.watch.next_alarm_clock(clock.now(), watermark)
            coming = min([*due, *([wake] if wake else [])], default=None)
            if coming is None:
                return self._arrived(clock, watermark, came=collected.upto > 0) or moved
            clock.move(coming.at)
            self.watch.visit(coming)
            moved = True
        self._busy = True
        self._say(clock.now(), settled=False)
        return moved

    def _watermark(self, newest: datetime) -> datetime:
        """The newest event time that was ever seen; kept beside the ledger, for a restart must not go back in time."""
        name = f"watermark:{self.watch.spec.model}"
        marked = self.notes.marked(name)
        before = datetime.fromisoformat(marked) if marked else BEGINNING
        if not self._remembered:  # a kill may have come between moving rows and marking their time
            newest, self._remembered = max(newest, self._newest_in_lake()), True
        if newest > before:
            self.notes.mark(name, newest.isoformat())
        return max(before, newest)

    def _newest_in_lake(self) -> datetime:
        """The newest event time that the lake holds."""
        last = BEGINNING
        for table, time in ((Table.PREDICTIONS, "_time"), (Table.LABELS, "_arrived")):
            rows = self.lake.read(table, since=None, until=None).select(pl.col(time).max())
            last = max(last, rows.collect().item() or BEGINNING)
        return last

    def _arrived(self, clock: LedClock, watermark: datetime, *, came: bool) -> bool:
        """Nothing is due before the watermark: it is the present."""
        moved = watermark > clock.now()
        clock.move(watermark)
        number = self.watch.follower.standing().number
        if moved or came or number != self._number:
            self.watch.decide()
            self._number = self.watch.follower.standing().number
        self._busy = bool(self._runs())
        self._say(clock.now(), settled=not self._busy)
        return moved

    def _say(self, now: datetime, *, settled: bool) -> None:
        """Tell servers and replays what time it is, and up to which journal number everything was done."""
        content = json.dumps({
            "now": None if now == BEGINNING else now.isoformat(),
            "settled": self._settled if settled else min(self._settled, _last_said(self.clock_file)),
        })  # fmt: skip
        if self.clock_file.exists() and self.clock_file.read_text() == content:
            return
        beside = self.clock_file.with_suffix(f".{os.getpid()}")
        beside.write_text(content)
        beside.replace(self.clock_file)


def beside(work: Callable[[], None], meanwhile: Callable[[], None], every: float) -> None:
    """Do some work in a thread of its own, and something else every so many seconds until it is done.

    Raises what either raises; not before the work is over.

    >>> beside(lambda: None, lambda: None, 1.0)
    """
    with ThreadPoolExecutor(1, "everfit-beside") as thread:
        working = thread.submit(work)
        while not wait([working], every).done:
            meanwhile()
    working.result()


def _last_said(file: Path) -> int:
    try:
        said: int = json.loads(file.read_text())["settled"]
    except (FileNotFoundError, ValueError, KeyError):
        return 0
    return said
