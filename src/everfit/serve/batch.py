"""One thread that scores: what arrives while it is busy is the next batch.

Takes requests from the event loop; gives each its answer after the log has it; never lets one request spoil
another, never waits for a batch to fill, and refuses what it could only queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import polars as pl

from everfit.clock import ticks
from everfit.errors import EverfitError, ModelUnusable, Refused, Unavailable
from everfit.ports import Batch, Table
from everfit.serve.counts import Counts
from everfit.serve.log import PredictionLog
from everfit.serve.plain import Layout, Plain, Portion, stack
from everfit.serve.predict import VARIANT, Current, Denial, Failure, current_of, portion_of, predict, score_stack
from everfit.serve.protocol import Answered, Asked
from everfit.serve.routing import Served
from everfit.serve.serving import LogMode, Serving
from everfit.serve.web import Fault

_say = logging.getLogger("everfit.serve.batch")
_UNPLAIN = (OverflowError, ValueError, TypeError, pl.exceptions.PolarsError)


class Ask(Protocol):
    """A request's body: plain rows if it has them, else a frame. Both raise `Refused`."""

    def plain(self, layout: Layout) -> Plain | None:
        """The rows, where they are plain."""
        ...

    def asked(self, names: Sequence[str]) -> Asked:
        """The rows as a frame."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request that waits for its answer."""

    ask: Ask
    answer: asyncio.Future[Answered]
    began: float
    size: int  # bytes of its body
    version: str | None  # which must answer, if the client says so


_Result = tuple[Call, Answered | Exception]


@dataclass(slots=True)
class _Read:
    """Requests of one batch, by what must be done with them."""

    plains: list[tuple[Call, Plain]] = field(default_factory=list)
    others: list[Call] = field(default_factory=list)
    faults: list[_Result] = field(default_factory=list)
    count: int = 0


class Scorer:
    """Start it once in an event loop, close it once; `submit` belongs to the loop's thread."""

    def __init__(
        self, serving: Serving, current: Callable[[], Served | None], log: PredictionLog, counts: Counts
    ) -> None:
        """Name what answers and where answers are logged; nothing runs yet."""
        self._serving, self._current, self._log, self._counts = serving, current, log, counts
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._came = self._gone = 0  # bytes; each is written by one thread only
        self._closing = False
        self._now: Current | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="everfit-score", daemon=True)

    def start(self) -> None:
        """Begin to score; answers go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._queue.qsize()

    def submit(self, ask: Ask, began: float, size: int, version: str | None = None) -> asyncio.Future[Answered]:
        """Bring a request.

        Raises:
            Unavailable: the server is ending, or so much waits that this one would wait too long.
        """
        if self._closing:
            raise Unavailable("the server is ending; send the request again")
        limits = self._serving.limits
        if self._queue.qsize() >= limits.waiting or self._came - self._gone + size > limits.waiting_bytes:
            self._counts.overloaded()
            raise Unavailable("too many requests wait for the model; come again a little later")
        self._came += size
        call = Call(ask, asyncio.get_running_loop().create_future(), began, size, version)
        self._queue.put(call)
        return call.answer

    def close(self) -> None:
        """Answer what was taken and end. A model that hangs is not waited for: the log must still be written."""
        self._closing = True
        self._queue.put(None)
        self._thread.join(self._serving.limits.patience)

    # ---- in the thread -------------------------------------------------------------------------------

    def _work(self) -> None:
        going = True
        while going:
            calls: list[Call] = []
            first = self._queue.get()
            with contextlib.suppress(Empty):
                while first is not None:
                    calls.append(first)
                    first = self._queue.get_nowait()
                going = False
            try:
                self._answer(calls)
            except Exception as error:  # whatever happens here, the next batch must be answered
                _say.exception("a batch failed")
                self._deliver([(call, error) for call in calls])

    def _answer(self, calls: list[Call]) -> None:
        self._gone += sum(call.size for call in calls)
        while calls := self._in_time(calls):  # the model is looked up for each batch: one and the same reads and scores
            calls = self._batch(calls)

    def _in_time(self, calls: list[Call]) -> list[Call]:
        """The requests that did not wait too long; the others are told so."""
        oldest = ticks() - self._serving.limits.patience
        waited = [call for call in calls if call.began < oldest]
        if not waited:
            return calls
        self._counts.overloaded(len(waited))
        late = Unavailable("the request waited too long for the model; come again a little later")
        self._deliver([(call, late) for call in waited])
        return [call for call in calls if call.began >= oldest]

    def _batch(self, calls: list[Call]) -> list[Call]:
        """Answer as many requests as a batch may have rows; the others."""
        try:
            now = self._latest()
        except Unavailable as error:
            self._deliver([(call, error) for call in calls])
            return []
        read = self._sorted(calls, now)
        self._deliver(read.faults)
        others = read.others + (self._together(read.plains, now) if read.plains else [])
        for call in others:
            self._alone(call, now)
        return calls[read.count :]

    def _sorted(self, calls: list[Call], now: Current) -> _Read:
        """Read bodies until a batch has its rows."""
        found, rows = _Read(), 0
        for call in calls:
            if rows >= self._serving.limits.batch_rows:
                break
            found.count += 1
            try:
                plain = self._read(call, now)
            except Exception as error:  # the border to bodies of every kind
                found.faults.append((call, error))
                continue
            if plain is None:
                found.others.append(call)
            else:
                found.plains.append((call, plain))
            rows += plain.rows if plain else 1
        return found

    def _latest(self) -> Current:
        served = self._current()
        if served is None:
            raise Unavailable(
                f"no champion of {self._serving.model} is live yet; `everfit status` says what it waits for"
            )
        if self._now is None or self._now.served is not served:
            self._now = current_of(served, self._serving)
        return self._now

    @staticmethod
    def _read(call: Call, now: Current) -> Plain | None:
        if call.version is not None and call.version != str(now.face.version):
            raise Fault(404, f"version {call.version!r} does not answer; version {now.face.version} does")
        return call.ask.plain(now.layout)

    def _together(self, plains: list[tuple[Call, Plain]], now: Current) -> list[Call]:
        """Score requests at once; those that must be scored alone."""
        serving, began = self._serving, ticks()
        try:
            stacked, bad = stack([plain for _, plain in plains], now.layout, serving.clock.now(), serving.limit())
        except _UNPLAIN:  # such as a number beyond all floats: the long way says which
            return [call for call, _ in plains]
        if bad:
            good = [pair for place, pair in enumerate(plains) if place not in set(bad)]
            return [plains[place][0] for place in bad] + (self._together(good, now) if good else [])
        try:
            answered, scores = score_stack(stacked, now)
        except ModelUnusable:
            if len(plains) == 1:
                return [plains[0][0]]  # the long way keeps the rows that the model failed on
            return [call for pair in plains for call in self._together([pair], now)]
        self._counts.scored(now.face.version, VARIANT, len(plains), len(stacked.ids), ticks() - began)
        results: list[_Result] = []
        latencies: list[float] = []
        at, end = 0, ticks()
        for call, plain in plains:
            upto = at + plain.rows
            results.append((call, _slice(answered, at, upto)))
            latencies += [(end - call.began) * 1000] * plain.rows
            at = upto
        self._settle(portion_of(stacked, scores, now, latencies), results)
        return []

    def _alone(self, call: Call, now: Current) -> None:
        began = ticks()
        try:
            outcome = predict(call.ask.asked(now.layout.names), now, self._serving, call.began)
        except Exception as error:  # the border to bodies of every kind
            self._deliver([(call, error)])
            return
        result: Answered | Exception
        match outcome:
            case Denial():
                self._counts.took(Table.PREDICTIONS, 0, outcome.log.rows.height)
                result = Refused(outcome.said)
            case Failure():
                self._counts.failed(now.face.version, VARIANT)
                result = outcome.error
            case _:
                result = outcome.answered
                self._counts.scored(now.face.version, VARIANT, 1, len(result.ids), ticks() - began)
        self._settle(outcome.log, [(call, result)])

    # ---- answers -------------------------------------------------------------------------------------

    def _settle(self, batch: Batch | Portion, results: list[_Result]) -> None:
        """Log, then answer; in held mode the answer waits for the disk."""
        held = self._serving.log is LogMode.HELD
        if isinstance(batch, Batch) and batch.rows.is_empty():
            number = self._serving.journal.last() if held else None
            self._deliver([(call, _numbered(result, number)) for call, result in results])
            return
        try:
            done = self._log.put(batch, held=held)
        except EverfitError as error:
            self._deliver([(call, error) for call, _ in results])
            return
        if held:
            done.add_done_callback(lambda safe: self._deliver(_after(safe, results)))
        else:
            self._deliver(results)

    def _deliver(self, results: list[_Result]) -> None:
        if self._loop is None or not results:
            return
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it who waited
            self._loop.call_soon_threadsafe(_resolve, results)


def _resolve(results: list[_Result]) -> None:
    for call, result in results:
        if call.answer.done():  # the client went away, or the batch failed after this one was answered
            continue
        if isinstance(result, Exception):
            call.answer.set_exception(result)
        else:
            call.answer.set_result(result)


def _after(safe: Future[int], results: list[_Result]) -> list[_Result]:
    error = safe.exception()
    if isinstance(error, Exception):
        return [(call, error) for call, _ in results]
    return [(call, _numbered(result, safe.result())) for call, result in results]


def _numbered(result: Answered | Exception, number: int | None) -> Answered | Exception:
    return replace(result, number=number) if isinstance(result, Answered) else result


def _slice(answered: Answered, first: int, upto: int) -> Answered:
    lists: list[list[Any]] = [answered.ids, answered.predictions, answered.scores]
    ids, predictions, scores = (each[first:upto] for each in lists)
    return Answered(answered.face, ids, predictions, scores)
