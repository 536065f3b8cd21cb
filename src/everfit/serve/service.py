"""One model of a server: what follows its route, scores, logs and counts.

Takes a `Serving`; gives the parts that answer for it, started and ended together; never knows the wire, nor the
server's other models.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import orjson

from everfit.errors import Unavailable
from everfit.ports import Table
from everfit.serve.batch import Scorer
from everfit.serve.call import Ask
from everfit.serve.counts import Counts, Meters
from everfit.serve.intake import Receipt, take_in
from everfit.serve.log import PredictionLog
from everfit.serve.protocol import Answered
from everfit.serve.routing import Live, Served
from everfit.serve.serving import Serving
from everfit.serve.tracing import Trace
from everfit.serve.v2 import metadata_v2
from everfit.serve.web import Fault


class Service:
    """Start it once in an event loop, close it once."""

    def __init__(self, serving: Serving, meters: Meters, port: int) -> None:
        """Make the parts; nothing runs yet. `port` is only told to the gateway."""
        self.serving, self.name = serving, serving.model
        self.counts = Counts(serving.model, meters)
        self.log = PredictionLog(serving.journal)
        # One thread scores: models need not be thread-safe, and two would only take the processor from each
        # other.
        self.scorer = Scorer(serving, lambda: self.live.current, self.log, self.counts)
        self.live = Live(
            serving.home, serving.loader, self.counts, port=port, trying=serving.trying, before=self.scorer.prepare
        )
        self.counts.watch(lambda: self.scorer.waiting, lambda: self.log.waiting, lambda: self.log.lag)
        self._taking = 0  # requests that wait for the journal
        self._wanted = 0  # the latest batch that a client waits for

    async def start(self) -> None:
        """Begin to follow the route, to score and to log.

        It waits for a model that is live already: who comes meanwhile is not accepted yet and finds no server that
        knows nothing, such as a worker in the place of one that died. It waits as long as a request may.
        """
        self.log.start()
        self.live.start()
        self.scorer.start()
        await asyncio.to_thread(self.live.wait, self.serving.limits.patience)

    async def close(self) -> None:
        """Answer and log what was taken, and end."""
        await asyncio.to_thread(self.live.stop)
        await asyncio.to_thread(self.scorer.close)
        await asyncio.to_thread(self.log.close)

    async def answer(self, ask: Ask, began: float, version: str | None, trace: Trace | None) -> Answered:
        """Ask the model.

        Raises:
            Refused: the rows do not fit the model.
            Fault: another version answers.
            Unavailable: no model is live, too much waits, or the log is away.
            ModelUnusable: the model failed.
        """
        answered = await self.scorer.submit(ask, began, version)
        if trace is not None:
            first, last = answered.scored
            trace.step("everfit.queue", began, first)
            trace.step("everfit.predict", first, last)
        return answered

    async def take_in(self, table: Table, body: bytes, kind: str) -> Receipt:
        """Take rows that were made elsewhere.

        Raises:
            Refused: the body cannot be read; nothing of it was taken.
            Unavailable: too many wait for the journal, or it is away; nothing was taken.
        """
        if self._taking >= self.serving.limits.waiting:
            self.counts.overloaded()
            raise Unavailable("too many requests wait for the journal; come again a little later")
        self._taking += 1
        try:
            receipt = await asyncio.to_thread(take_in, table, body, kind, self.serving)
        finally:
            self._taking -= 1
        self.counts.took(table, receipt.acknowledged, receipt.refused)
        return receipt

    def ready(self) -> None:
        """Return if the model answers.

        Raises:
            Unavailable: nothing is live yet, or the model hangs.
        """
        self.now()
        if (seconds := self.scorer.stuck) > self.serving.limits.patience:
            raise Unavailable(f"the model of {self.name} has worked on one batch for {seconds:.0f} s")

    def now(self) -> Served:
        """What answers now.

        Raises:
            Unavailable: nothing does yet.
        """
        if (now := self.live.current) is None:
            raise Unavailable(f"no champion of {self.name} is live yet; `everfit status` says what it waits for")
        return now

    def at_version(self, asked: str | None) -> Served:
        """What answers now, if it is the version that a client asks for.

        Raises:
            Fault: it is another.
            Unavailable: nothing answers yet.
        """
        now = self.now()
        if asked and asked != str(now.route.version):
            raise Fault(404, f"version {asked!r} does not answer; version {now.route.version} does")
        return now

    def metadata(self, version: str | None) -> dict[str, Any]:
        """What the model takes and gives, in the words of v2. Raises as `at_version`."""
        now = self.at_version(version)
        return metadata_v2(self.name, now.route.version, now.model.signature)

    def state(self) -> dict[str, str]:
        """The model's line in the index."""
        if (now := self.live.current) is None:
            return {"name": self.name, "state": "UNAVAILABLE", "reason": "no champion is live yet"}
        return {"name": self.name, "version": str(now.route.version), "state": "READY", "reason": ""}

    async def clock(self, settle: str) -> dict[str, Any]:
        """What the control process says of its time; `settle` is the batch that the client waits for, if any.

        Raises:
            Unavailable: it cannot be read.
        """
        if settle.isascii() and settle.isdigit() and len(settle) < 19 and int(settle) > self._wanted:
            self._wanted = int(settle)
            await asyncio.to_thread(self._want, settle)
        return await asyncio.to_thread(self._read_clock)

    def _want(self, number: str) -> None:
        """Tell the control process that somebody waits for a batch: it need not gather more rows first."""
        beside = self.serving.clock_file.with_name(f"settle.{os.getpid()}")
        beside.write_text(number)
        beside.replace(self.serving.clock_file.with_name("settle"))

    def _read_clock(self) -> dict[str, Any]:
        try:
            told = orjson.loads(self.serving.clock_file.read_bytes())
        except FileNotFoundError:
            return {"now": None, "settled": 0}
        except (OSError, ValueError) as error:
            raise Unavailable(f"the clock cannot be read: {type(error).__name__}; try again") from error
        return dict(told)
