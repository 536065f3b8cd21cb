"""Copies of requests for a challenger whose answers nobody sees.

Takes rows after their answers went out; gives rows of the shadow table; never slows or fails an answer: what does not
fit into its queue, or into its share of a core, is dropped and counted.
"""

from __future__ import annotations

import logging
import threading
from collections import deque

from everfit.clock import ticks
from everfit.errors import EverfitError
from everfit.serve.body import Body, Stacked
from everfit.serve.canary import Pace, ask, together
from everfit.serve.counts import Counts
from everfit.serve.log import PredictionLog
from everfit.serve.rival import Rival, Said, shadow_rows
from everfit.serve.serving import Trying

AT_ONCE = 64  # rows in one question: a canary's rows wait for at most one such
_say = logging.getLogger("everfit.serve.shadow")


class Shadow:
    """Start it once, close it once; `offer` may be called from any thread."""

    def __init__(self, log: PredictionLog, counts: Counts, trying: Trying, pace: Pace) -> None:
        """Name the log, the limits, and how long to wait for an answer."""
        self._log, self._counts, self._trying, self._pace = log, counts, trying, pace
        self._queue: deque[tuple[Rival, Body]] = deque()
        self._rows = 0
        self._change = threading.Condition()
        self._closing = False
        self._ended = threading.Event()  # a rest that offers do not disturb
        self._thread = threading.Thread(target=self._work, name="everfit-shadow", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def offer(self, rival: Rival, body: Body) -> None:
        """Bring rows that were answered; at once, whatever becomes of them."""
        if rival.trial.mirror <= 0:
            return
        rows = len(body.ids)
        with self._change:
            if not self._closing and self._rows + rows <= self._trying.copies and rival.challenger.is_warm:
                self._queue.append((rival, body))
                self._rows += rows
                self._change.notify()
                return
        self._counts.dropped(rival.face.version, rows)

    def at_once(self, rival: Rival, body: Body) -> None:
        """Make the copies before this returns: in a replay time waits for them."""
        if rival.trial.mirror > 0:
            self._made(rival, body)

    def close(self) -> None:
        """End; what waits is dropped."""
        with self._change:
            self._closing = True
            self._ended.set()
            self._change.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            self._made(*taken)

    def _made(self, rival: Rival, body: Body) -> None:
        try:
            self._copy(rival, body)
        except EverfitError as error:  # the log is closed or away; the answers need no copies
            _say.warning("copies cannot be logged", extra={"reason": str(error)})
        except Exception:  # whatever happens here, the next copy must be made
            _say.exception("a copy failed")

    def _take(self) -> tuple[Rival, Body] | None:
        with self._change:
            self._change.wait_for(lambda: self._queue or self._closing)
            if self._closing:
                return None
            rival, body = self._queue.popleft()
            bodies, rows = [body], len(body.ids)
            while self._queue and rows < AT_ONCE and self._joins(rival, body):
                bodies.append(self._queue.popleft()[1])
                rows += len(bodies[-1].ids)
            self._rows -= rows
            return rival, together(bodies)

    def _joins(self, rival: Rival, body: Body) -> bool:
        """Whether the next in the queue can be asked about together with a body."""
        following, other = self._queue[0]
        stacked = isinstance(body, Stacked) and isinstance(other, Stacked)
        return following is rival and stacked

    def _copy(self, rival: Rival, body: Body) -> None:
        places = rival.copied(body.ids)
        for at in range(0, len(places), AT_ONCE):
            some, began = body.take(places[at : at + AT_ONCE]), ticks()
            if not rival.challenger.is_warm:
                self._counts.dropped(rival.face.version, len(places) - at)
                return
            said = ask(rival, some, self._pace.wait)
            self._keep(rival, some, said)
            self._pause(ticks() - began)
            if self._closing:
                return

    def _keep(self, rival: Rival, body: Body, said: Said) -> None:
        asked = [at for at, why in enumerate(said.failed) if why is not None or said.scores is not None]
        if not asked:  # it was let go meanwhile
            return
        for why in said.failed:
            self._counts.shadowed(rival.face.version, why or "")
        if self._log.offer(shadow_rows(body, rival, said), held=False) is None:
            self._counts.dropped(rival.face.version, len(body.ids))

    def _pause(self, spent: float) -> None:
        # Copies take at most this share of a core: after so much work comes so much rest.
        self._ended.wait(spent * (1 / self._trying.share - 1))
