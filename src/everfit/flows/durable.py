"""Runs that survive anything: each advance does the one next step and appends the one fact that says so.

Takes a run's story from the ledger and the flow that tells what comes next; gives progress; never keeps state between
two advances. Whoever works on a run holds its lease; the ledger refuses the fact of anybody who does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from everfit.clock import ticks
from everfit.errors import Conflict, Unavailable
from everfit.facts import Fact
from everfit.fold import fold, step
from everfit.ledger import Entry, sealed
from everfit.ports import Lease, Leases, Ledger, Write
from everfit.standing import Standing, Story


@dataclass(frozen=True, slots=True)
class Next:
    """The fact that the step brought, and when the run goes on."""

    fact: Fact
    wake_at: datetime | None = None  # None: at once
    ends: bool = False


@dataclass(frozen=True, slots=True)
class NotYet:
    """Nothing to do before something outside happens; the run's `wake_at` or a person's word wakes it."""

    rest: float = 0.0  # seconds for which this worker need not ask again, unless something is written to the run


Alive = Callable[[], bool]
Flow = Callable[[Standing, Story, Alive], Next | NotYet]


class Progress(Enum):
    """What became of an advance."""

    MOVED = "moved"  # a fact was written
    WAITING = "waiting"  # nothing to do now
    TAKEN = "taken"  # somebody else holds the run, or went on meanwhile


@dataclass(frozen=True, slots=True)
class Worker:
    """Who works, and for how long a lease is theirs without a heartbeat."""

    name: str
    hold: timedelta = timedelta(seconds=30)


class Follower:
    """A model's standing, kept up to date by reading only what is new. One per thread."""

    def __init__(self, ledger: Ledger, model: str) -> None:
        self._ledger, self.model = ledger, model
        self._standing = fold([], model=model)

    def standing(self) -> Standing:
        """The newest standing."""
        self._standing = fold(self.news(), self._standing, self.model)
        return self._standing

    def news(self) -> list[Entry]:
        """Entries that were not folded yet."""
        return self._ledger.read(self.model, after=self._standing.number)


@contextmanager
def held(leases: Leases, name: str, worker: Worker) -> Iterator[tuple[Lease, Alive] | None]:
    """Hold a lease with a heartbeat while the block runs; None if somebody else holds it."""
    lease = leases.take(name, worker.name, worker.hold)
    if lease is None:
        yield None
        return
    heart = _Heart(leases, lease, worker.hold)
    try:
        yield lease, heart.beats
    finally:
        heart.stop()


class _Heart:
    """Beats in a thread of its own; once it stopped, the lease must be taken as lost."""

    def __init__(self, leases: Leases, lease: Lease, hold: timedelta) -> None:
        self._leases, self._lease, self._hold = leases, lease, hold
        self._until = ticks() + hold.total_seconds()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heart-{lease.name}", daemon=True)
        self._thread.start()

    def beats(self) -> bool:
        """Whether the lease is still ours."""
        return ticks() < self._until

    def stop(self) -> None:
        """Give the lease back."""
        self._stopped.set()
        self._thread.join()
        if self.beats():
            self._leases.drop(self._lease)

    def _run(self) -> None:
        while not self._stopped.wait(self._hold.total_seconds() / 3):
            before = ticks()
            try:
                if not self._leases.beat(self._lease, self._hold):
                    self._until = 0.0
                    return
            except Unavailable:
                continue  # the database may come back before the lease ends; until then it is still ours
            self._until = before + self._hold.total_seconds()


@dataclass(frozen=True, slots=True)
class Desk:
    """What is needed to advance a run."""

    ledger: Ledger
    leases: Leases
    now: Callable[[], datetime]
    worker: Worker


def advance(desk: Desk, follower: Follower, run: str, flow: Flow) -> Progress:
    """Do the next step of a run, if nobody else does.

    Raises:
        IllegalMove: the step's fact moves its candidate along a path that the lifecycle does not have.
        Unavailable: something outside is away; the same step is to be tried again later.
    """
    with held(desk.leases, f"run:{follower.model}:{run}", desk.worker) as holding:
        if holding is None:
            return Progress.TAKEN
        lease, alive = holding
        standing = follower.standing()
        story = standing.stories[run]
        outcome = flow(standing, story, alive)
        if isinstance(outcome, NotYet):
            return Progress.WAITING
        write = Write(
            follower.model, run, len(story.facts) + 1, outcome.fact, desk.now(), desk.worker.name,
            outcome.wake_at, outcome.ends, lease,
        )  # fmt: skip
        step(standing, sealed(None, (run, write.step), write.fact, write.at, (write.model, write.by)))
        try:
            desk.ledger.append(write)
        except Conflict:
            return Progress.TAKEN
        return Progress.MOVED


def begin(desk: Desk, model: str, run: str, fact: Fact) -> bool:
    """Write the first fact of a run; False if the run is there already."""
    try:
        desk.ledger.append(Write(model, run, 1, fact, desk.now(), desk.worker.name))
    except Conflict:
        return False
    return True
