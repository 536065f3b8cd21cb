"""Clock, leases, ledger and notes in memory.

Takes what the real ones take; gives what they give; never touches a disk.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from everfit.clock import BEGINNING, ticks
from everfit.errors import Conflict, LeaseLost, LedgerTampered
from everfit.ids import content_key
from everfit.ledger import Entry, sealed
from everfit.ports import Lease, Write


class FrozenClock:
    """`clock.Clock` that stands still until it is moved.

    >>> from datetime import UTC
    >>> clock = FrozenClock(datetime(2013, 2, 1, tzinfo=UTC))
    >>> clock.forward(timedelta(hours=6)).isoformat()
    '2013-02-01T06:00:00+00:00'
    """

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        """The moment at which it stands."""
        return self._now

    def forward(self, by: timedelta) -> datetime:
        """Move it on; the new moment."""
        self._now += by
        return self._now


class MemoryLeases:
    """`ports.Leases` in memory. `seconds` is its clock; give your own to let a lease run out without waiting.

    >>> leases = MemoryLeases()
    >>> leases.take("run", "one", timedelta(minutes=1)).token
    1
    >>> leases.take("run", "two", timedelta(minutes=1)) is None
    True
    """

    def __init__(self, seconds: Callable[[], float] = ticks) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Lease, float]] = {}

    def take(self, name: str, owner: str, hold: timedelta) -> Lease | None:
        """Take a free or expired lease; None if somebody holds it."""
        with self._lock:
            last, until = self._held.get(name, (Lease(name, "", 0), -math.inf))
            if until > self._seconds():
                return None
            lease = Lease(name, owner, last.token + 1)
            self._held[name] = (lease, self._seconds() + hold.total_seconds())
            return lease

    def beat(self, lease: Lease, hold: timedelta) -> bool:
        """Hold on; False if it was lost."""
        with self._lock:
            mine = self._holds(lease)
            if mine:
                self._held[lease.name] = (lease, self._seconds() + hold.total_seconds())
            return mine

    def drop(self, lease: Lease) -> None:
        """Give it back; a no-op if it was lost."""
        with self._lock:
            if self._holds(lease):
                self._held[lease.name] = (lease, -math.inf)

    def holds(self, lease: Lease) -> bool:
        """Whether a lease is still its owner's."""
        with self._lock:
            return self._holds(lease)

    def _holds(self, lease: Lease) -> bool:
        last, until = self._held.get(lease.name, (None, -math.inf))
        return last == lease and until > self._seconds()


class MemoryLedger:
    """`ports.Ledger` in memory; `leases` are those that writes are held to.

    >>> MemoryLedger().read("m")
    []
    """

    def __init__(self, leases: MemoryLeases | None = None) -> None:
        self.leases = leases or MemoryLeases()
        self._lock = threading.Lock()
        self._entries: dict[str, list[Entry]] = {}
        self._runs: dict[tuple[str, str], tuple[datetime, bool]] = {}  # (wakes at, ended)

    def read(self, model: str, *, run: str | None = None, after: int = 0) -> list[Entry]:
        """Entries of a model in order, of one run or of all, after a number."""
        found = self._entries.get(model, [])[after:]
        return [entry for entry in found if run in (None, entry.run)]

    def append(self, write: Write) -> Entry:
        """Write one fact, or raise `Conflict` or `LeaseLost` and write nothing."""
        with self._lock:
            if write.lease is not None and not self.leases.holds(write.lease):
                raise LeaseLost(f"{write.lease.owner} no longer holds {write.lease.name}; somebody else goes on")
            chain = self._entries.setdefault(write.model, [])
            last = sum(1 for entry in chain if entry.run == write.run)
            if write.step != last + 1:
                raise Conflict(f"{write.run} is at step {last}, not {write.step - 1}: somebody else went on")
            before = chain[-1] if chain else None
            entry = sealed(before, (write.run, write.step), write.fact, write.at, (write.model, write.by))
            chain.append(replace(entry, body=json.loads(json.dumps(entry.body))))
            self._runs[write.model, write.run] = (write.wake_at or BEGINNING, write.ends)
            return entry

    def due(self, model: str, now: datetime) -> list[str]:
        """Runs that have not ended and whose moment has come, oldest first."""
        return [run for run, wake in self.sleepers(model).items() if wake <= now]

    def sleepers(self, model: str) -> dict[str, datetime]:
        """Runs that have not ended, with the moment at which each wakes, the earliest first."""
        waking = [(wake, run) for (name, run), (wake, ended) in self._runs.items() if name == model and not ended]
        return {run: wake for wake, run in sorted(waking)}

    def models(self) -> list[str]:
        """Every model that the ledger knows, by name."""
        return sorted(model for model, entries in self._entries.items() if entries)


class MemoryNotes:
    """`ports.Notes` in memory.

    >>> notes = MemoryNotes()
    >>> notes.get(notes.put(b"profile"))
    b'profile'
    """

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self._marks: dict[str, str] = {}

    def put(self, content: bytes) -> str:
        """Keep bytes; their content key."""
        key = content_key(content.hex())
        self._contents[key] = content
        return key

    def get(self, key: str) -> bytes:
        """Bytes that were put."""
        try:
            return self._contents[key]
        except KeyError:
            raise LedgerTampered(f"note {key} is missing") from None

    def mark(self, name: str, value: str) -> None:
        """Set a mark."""
        self._marks[name] = value

    def marked(self, name: str) -> str | None:
        """Read a mark; None if it was never set."""
        return self._marks.get(name)
