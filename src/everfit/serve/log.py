"""The prediction log: answers wait in memory, and one thread commits all that wait together.

Takes batches from any thread; gives the journal's number once they are safe; never drops a batch: when too
much waits, whoever brings more waits too.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

import polars as pl

from everfit.clock import ticks
from everfit.errors import Unavailable
from everfit.ports import Batch, Journal, Table
from everfit.serve.plain import Portion, logged

MOST_ROWS = 100_000  # that may wait; at 30 columns about 25 MB
GATHER = 0.025  # seconds that rows nobody waits for may gather: a commit costs as much as 20 requests
AGAIN_AFTER = 0.5  # seconds between attempts while the journal is away
GOODBYES = 10  # attempts at shutdown while the journal is away: five seconds

_say = logging.getLogger("everfit.serve.log")


@dataclass(slots=True)
class _Waiting:
    parts: tuple[Batch | Portion, ...]  # committed together
    held: bool  # whoever brought it waits for the commit, and is told when it fails
    since: float = field(default_factory=ticks)
    done: Future[int] = field(default_factory=Future)


class PredictionLog:
    """Group commit off the path of requests. Start it once, close it once."""

    def __init__(self, journal: Journal, *, most_rows: int = MOST_ROWS) -> None:
        self._journal = journal
        self._most = most_rows
        self._queue: deque[_Waiting] = deque()
        self._rows = 0  # waiting, those being written included
        self._change = threading.Condition()
        self._closing = False
        self._held = 0  # batches in the queue that somebody waits for
        self._oldest: float | None = None  # since when the oldest row waits
        self._away = ""  # why the last commit failed
        self._thread = threading.Thread(target=self._work, name="everfit-log", daemon=True)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that are not safe yet."""
        return self._rows

    @property
    def lag(self) -> float:
        """Seconds since the oldest row came that is not safe yet; 0 when all are."""
        oldest = self._oldest
        return 0.0 if oldest is None else ticks() - oldest

    def offer(self, *parts: Batch | Portion, held: bool) -> Future[int] | None:
        """Bring batches without waiting; the future of the journal's number, or None when the log is full.

        Raises:
            Unavailable: it is closed, or it is full and the journal is away, so that waiting would not help.
        """
        with self._change:
            return self._offer(parts, held=held)

    def put(self, *parts: Batch | Portion, held: bool) -> Future[int]:
        """Bring batches, which are committed together; wait while the log is full.

        Raises:
            Unavailable: as for `offer`.
        """
        with self._change:
            while (done := self._offer(parts, held=held)) is None:
                self._change.wait()
            return done

    def close(self) -> int:
        """Commit what waits and end; how many rows were lost: 0 but for a journal that stays away."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join()
        return self._rows

    def _offer(self, parts: tuple[Batch | Portion, ...], *, held: bool) -> Future[int] | None:
        if self._closing:
            raise Unavailable("the server is ending; send the request again")
        rows = sum(map(height_of, parts))
        if self._rows and self._rows + rows > self._most:
            if self._away:
                raise Unavailable(f"predictions cannot be logged: {self._away}")
            return None
        self._rows += rows
        waiting = _Waiting(parts, held)
        waiting.done.set_running_or_notify_cancel()  # a request that is given up must not cancel the commit
        self._queue.append(waiting)
        self._held += held
        if self._oldest is None:
            self._oldest = waiting.since
        if len(self._queue) == 1 or self._is_urgent():  # else the log gathers, and waking it up would be for nothing
            self._change.notify_all()
        return waiting.done

    def _work(self) -> None:
        failures = 0
        while taken := self._take():
            failure = self._commit(taken)
            failures = failures + 1 if failure else 0
            with self._change:
                self._away = failure
                self._change.notify_all()
                if failure and self._closing and failures >= GOODBYES:
                    _say.error("predictions lost at shutdown", extra={"rows": self._rows, "reason": failure})
                    return
                if failure and not self._closing:
                    self._change.wait_for(lambda: self._closing, timeout=AGAIN_AFTER)
                elif failure:
                    self._change.wait(timeout=AGAIN_AFTER)

    def _take(self) -> list[_Waiting]:
        with self._change:
            self._change.wait_for(lambda: self._queue or self._closing)
            self._change.wait_for(self._is_urgent, timeout=GATHER)
            taken = list(self._queue)
            self._queue.clear()
            self._held = 0
            return taken

    def _is_urgent(self) -> bool:
        return self._closing or self._held > 0 or 2 * self._rows > self._most

    def _commit(self, taken: list[_Waiting]) -> str:
        try:
            number = self._journal.append(merge([part for waiting in taken for part in waiting.parts]))
        except BaseException as error:  # whatever the journal or polars do, this thread must go on: answers wait for it
            if str(error) != self._away:  # once, and not twice a second for as long as the disk is full
                _say.warning("the prediction log cannot be written", extra={"reason": str(error), "rows": self._rows})
            self._put_back(taken, error if isinstance(error, Exception) else RuntimeError(repr(error)))
            return str(error) or repr(error)
        if self._away:
            _say.info("the prediction log is written again", extra={"rows": self._rows})
        self._settle(taken)
        for waiting in taken:
            waiting.done.set_result(number)
        return ""

    def _put_back(self, taken: list[_Waiting], error: Exception) -> None:
        # A held answer is given up: its caller gets the error and may ask again. The others were answered
        # and stay.
        kept = [waiting for waiting in taken if not waiting.held]
        given_up = [waiting for waiting in taken if waiting.held]
        with self._change:
            self._queue.extendleft(reversed(kept))
        self._settle(given_up)
        for waiting in given_up:
            waiting.done.set_exception(error)

    def _settle(self, finished: list[_Waiting]) -> None:
        with self._change:
            self._oldest = self._queue[0].since if self._queue else None
            self._rows -= sum(height_of(part) for waiting in finished for part in waiting.parts)
            self._change.notify_all()


def merge(batches: list[Batch | Portion]) -> list[Batch]:
    """Join batches of one table with the same columns, so that a commit writes few.

    >>> [b.rows.height for b in merge([Batch(Table.LABELS, pl.DataFrame({"a": [n]})) for n in (1, 2)])]
    [2]
    """
    portions: dict[tuple[object, ...], list[Portion]] = {}
    for each in batches:
        if isinstance(each, Portion):
            portions.setdefault(each.key, []).append(each)
    whole = [each for each in batches if isinstance(each, Batch)]
    whole += [Batch(Table.PREDICTIONS, logged(of_one)) for of_one in portions.values()]
    alike: dict[tuple[object, ...], list[pl.DataFrame]] = {}
    for batch in whole:
        alike.setdefault((batch.table, *batch.rows.schema.items()), []).append(batch.rows)
    return [
        Batch(Table(str(key[0])), pl.concat(frames) if len(frames) > 1 else frames[0]) for key, frames in alike.items()
    ]


def height_of(part: Batch | Portion) -> int:
    """How many rows a part of the log has.

    >>> height_of(Batch(Table.LABELS, pl.DataFrame({"a": [1, 2]})))
    2
    """
    return part.height if isinstance(part, Portion) else part.rows.height
