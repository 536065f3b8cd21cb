"""The only reader of wall time.

Takes nothing; gives clocks: the wall's, and one that follows the events; never used inside a room, which is told the
time instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is for a model. `now` never goes back."""

    def now(self) -> datetime:
        """The present moment, with time zone UTC."""
        ...


class WallClock:
    """The time on the wall, in UTC."""

    def now(self) -> datetime:
        """The present moment."""
        return datetime.now(UTC)


class EventClock:
    """A clock that shows a recorded moment: history is replayed with the time it had.

    `read` gives the last recorded moment, or None before the first event.

    >>> EventClock(lambda: datetime(2013, 2, 1, tzinfo=UTC)).now().isoformat()
    '2013-02-01T00:00:00+00:00'
    """

    def __init__(self, read: Callable[[], datetime | None]) -> None:
        self._read = read

    def now(self) -> datetime:
        """The recorded moment; the beginning of time before the first event."""
        return self._read() or BEGINNING


class LedClock(EventClock):
    """An event clock whose hand this process moves: what it last set is the time, and need not be read again.

    >>> clock = LedClock(lambda: None, lambda moment: None)
    >>> clock.move(datetime(2013, 2, 1, tzinfo=UTC))
    >>> clock.now().isoformat()
    '2013-02-01T00:00:00+00:00'
    """

    def __init__(self, read: Callable[[], datetime | None], write: Callable[[datetime], None]) -> None:
        super().__init__(read)
        self._write = write
        self._set: datetime | None = None

    def now(self) -> datetime:
        """The recorded moment."""
        if self._set is None:
            self._set = super().now()
        return self._set

    def move(self, to: datetime) -> None:
        """Record a later moment; an earlier one changes nothing."""
        if to > self.now():
            self._write(to)
            self._set = to


BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


def wall() -> datetime:
    """The time on the wall in UTC: for leases, logs and measured durations, never for a decision."""
    return datetime.now(UTC)


def ticks() -> float:
    """Seconds of a clock that only runs forward, for measuring how long something took."""
    return time.perf_counter()


def rest(seconds: float) -> None:
    """Sleep. Only loops of processes do this; flows wait by a row with `wake_at`."""
    time.sleep(seconds)
