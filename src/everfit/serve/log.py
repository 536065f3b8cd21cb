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

from everfit.errors import Unavailable
from everfit.ports import Batch, Journal, Table

MOST_ROWS = 100_000  # that may wait; at 30 columns about 25 MB
AGAIN_AFTER = 0.5  # seconds between attempts while the journal is away
GOODBYES = 10  # attempts at shutdown while the journal is away: five seconds

_say = logging.getLogger("everfit.serve.log")


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    held: bool  # whoever brought it waits for the commit, and is told when it fails
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
        self._away = ""  # why the last commit failed
        self._thread = threading.Thread(target=self._work, name="everfit-log", daemon=True)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that are not safe yet."""
        return self._rows

    def offer(self, batch: Batch, *, held: bool) -> Future[int] | None:
        """Bring a batch without waiting; the future of the journal's number, or None when the log is full.

        Raises:
            Unavailable: it is closed, or it is full and the journal is away, so that waiting would not help.
        """
        with self._change:
            return self._offer(batch, held=held)

    def put(self, batch: Batch, *, held: bool) -> Future[int]:
        """Bring a batch; wait while the log is full.

        Raises:
            Unavailable: as for `offer`.
        """
        with self._change:
            while (done := self._offer(batch, held=held)) is None:
                self._change.wait()
            return done

    def close(self) -> int:
        """Commit what waits and end; how many rows were lost: 0 but for a journal that stays away."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join()
        return self._rows

    def _offer(self, batch: Batch, *, held: bool) -> Future[int] | None:
        if self._closing:
            raise Unavailable("the server is ending; send the request again")
        if self._rows and self._rows + batch.rows.height > self._most:
            if self._away:
                raise Unavailable(f"predictions cannot be logged: {self._away}")
            return None
        self._rows += batch.rows.height
        waiting = _Waiting(batch, held)
        waiting.done.set_running_or_notify_cancel()  # a request that is given up must not cancel the commit
        self._queue.append(waiting)
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
            taken = list(self._queue)
            self._queue.clear()
            return taken

    def _commit(self, taken: list[_Waiting]) -> str:
        try:
            number = self._journal.append(merge([waiting.batch for waiting in taken]))
        except Exception as error:  # whatever the journal does, this thread must go on: answers wait for it
            _say.warning("the prediction log cannot be written", extra={"reason": str(error), "rows": self._rows})
            self._put_back(taken, error)
            return str(error)
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
            self._rows -= sum(waiting.batch.rows.height for waiting in finished)
            self._change.notify_all()


def merge(batches: list[Batch]) -> list[Batch]:
    """Join batches of one table with the same columns, so that a commit writes few.

    >>> [b.rows.height for b in merge([Batch(Table.LABELS, pl.DataFrame({"a": [n]})) for n in (1, 2)])]
    [2]
    """
    alike: dict[tuple[object, ...], list[pl.DataFrame]] = {}
    for batch in batches:
        alike.setdefault((batch.table, *batch.rows.schema.items()), []).append(batch.rows)
    return [
        Batch(Table(str(key[0])), pl.concat(frames) if len(frames) > 1 else frames[0]) for key, frames in alike.items()
    ]
