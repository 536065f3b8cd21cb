"""One thread that scores: what arrives while it is busy is the next batch.

Takes requests from the event loop; gives each its answer after the log has it; never lets one request spoil
another, never waits for a batch to fill, and refuses what it could only queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

import polars as pl

from everfit.clock import ticks
from everfit.errors import EverfitError, ModelUnusable, Refused, Unavailable
from everfit.ports import Batch, Table
from everfit.serve.body import Body, Stacked
from everfit.serve.call import Ask, Call, Result, after, numbered, part_of, resolve
from everfit.serve.canary import Canary, Lent, Pace, champion_scores
from everfit.serve.counts import Counts
from everfit.serve.log import PredictionLog, height_of
from everfit.serve.plain import Plain, Portion, Stack, stack
from everfit.serve.predict import (
    VARIANT,
    Checked,
    Current,
    Denial,
    Failure,
    answer,
    check,
    current_of,
    portion_of,
    score_stack,
)
from everfit.serve.protocol import Answered
from everfit.serve.routing import Served
from everfit.serve.serving import LogMode, Serving
from everfit.serve.shadow import Shadow
from everfit.serve.web import Fault

TELL_EVERY = 0.25  # seconds between looks for requests that waited too long
_say = logging.getLogger("everfit.serve.batch")
_UNPLAIN = (OverflowError, ValueError, TypeError, pl.exceptions.PolarsError)


_Copy = tuple[Current, Body]


@dataclass(slots=True)
class _Read:
    """Requests of one batch, by what must be done with them."""

    plains: list[tuple[Call, Plain]] = field(default_factory=list)
    others: list[Call] = field(default_factory=list)
    faults: list[Result] = field(default_factory=list)
    count: int = 0


class Scorer:
    """Start it once in an event loop, close it once; `submit` belongs to the loop's thread."""

    def __init__(
        self, serving: Serving, current: Callable[[], Served | None], log: PredictionLog, counts: Counts
    ) -> None:
        """Name what answers and where answers are logged; nothing runs yet."""
        self._serving, self._current, self._log, self._counts = serving, current, log, counts
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._asked: deque[tuple[float, asyncio.Future[Answered]]] = deque()  # since when who waits, in order
        self._busy: float | None = None  # since when the thread works on one batch
        self._closing = False
        self._now: Current | None = None
        self._next: Current | None = None  # worked out by the thread that swaps
        self._pace = Pace(serving.trying)
        self._canary = Canary(self._pace, counts, serving.limits.batch_rows)
        self._shadow = Shadow(log, counts, serving.trying, self._pace)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="everfit-score", daemon=True)

    def start(self) -> None:
        """Begin to score; answers go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(TELL_EVERY, self._tell_late)
        self._canary.start()
        self._shadow.start()
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._queue.qsize() + self._canary.waiting

    @property
    def stuck(self) -> float:
        """Seconds that the batch under way has taken; 0 when there is none."""
        busy = self._busy
        return 0.0 if busy is None else ticks() - busy

    def prepare(self, served: Served) -> None:
        """Before a model answers: work out what its answers need, and score a row for nobody (0.9 ms of the first)."""
        now, serving = current_of(served, self._serving), self._serving
        with contextlib.suppress(ModelUnusable, *_UNPLAIN):  # a model that takes frames was asked when it was loaded
            if (plain := now.layout.records([served.model.signature.sample])) is not None:
                stacked, bad = stack([plain], now.layout, serving.clock.now(), serving.limit())
                score_stack(stacked.take([] if bad else [0]), now)
        self._counts.expect(now.face.version, VARIANT)
        self._next = now

    def submit(self, ask: Ask, began: float, version: str | None = None) -> asyncio.Future[Answered]:
        """Bring a request.

        Raises:
            Unavailable: the server is ending, or so much waits that this one would wait too long.
        """
        if self._closing:
            raise Unavailable("the server is ending; send the request again")
        if self.waiting >= self._serving.limits.waiting:
            self._counts.overloaded()
            raise Unavailable("too many requests wait for the model; come again a little later")
        call = Call(ask, asyncio.get_running_loop().create_future(), began, version)
        while (
            self._asked and self._asked[0][1].done()
        ):  # else every answer lives long enough to cost a whole collection
            self._asked.popleft()
        self._asked.append((began, call.answer))
        self._queue.put(call)
        return call.answer

    def close(self) -> None:
        """Answer what was taken and end. A model that hangs is not waited for: the log must still be written."""
        self._closing = True
        self._canary.close()  # first: what it gives back must still be answered
        self._queue.put(None)
        self._thread.join(self._serving.limits.patience)
        self._shadow.close()

    def _tell_late(self) -> None:
        """Tell in the event loop who waited too long: the thread may be in a model that never comes back."""
        asked, oldest = self._asked, ticks() - self._serving.limits.patience
        while asked and (asked[0][1].done() or asked[0][0] < oldest):
            answer = asked.popleft()[1]
            if not answer.done():
                self._counts.overloaded()
                answer.set_exception(
                    Unavailable("the request waited too long for the model; come again a little later")
                )
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_later(TELL_EVERY, self._tell_late)

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
            self._busy = ticks()
            try:
                self._answer(calls)
            except BaseException as error:  # also a panic or an exit of a library: the next batch must be answered
                failed = error if isinstance(error, Exception) else RuntimeError(repr(error))
                self._deliver([(call, failed) for call in calls])
            self._busy = None

    def _answer(self, calls: list[Call]) -> None:
        if back := [call for call in calls if call.lent is not None]:
            self._finish(self._in_time(back))
            calls = [call for call in calls if call.lent is None]
        while calls := self._in_time(calls):  # the model is looked up for each batch: one and the same reads and scores
            calls = self._batch(calls)

    def _in_time(self, calls: list[Call]) -> list[Call]:
        """The requests that did not wait too long; `_tell_late` tells the others."""
        oldest = ticks() - self._serving.limits.patience
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
            ahead = self._next
            self._now = ahead if ahead is not None and ahead.served is served else current_of(served, self._serving)
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
        plains, stacked = self._lend(plains, stacked, now)
        if not plains:
            return []
        try:
            answered, scores = score_stack(stacked, now)
            answered = replace(answered, scored=(began, ticks()))
        except ModelUnusable:
            if len(plains) == 1:
                return [plains[0][0]]  # the long way keeps the rows that the model failed on
            return [call for pair in plains for call in self._together([pair], now)]
        self._counts.scored(now.face.version, VARIANT, len(plains), len(stacked.ids), ticks() - began)
        results: list[Result] = []
        latencies: list[float] = []
        at, end = 0, ticks()
        for call, plain in plains:
            upto = at + plain.rows
            results.append((call, part_of(answered, at, upto)))
            latencies += [(end - call.began) * 1000] * plain.rows
            self._pace.add(end - call.began)
            at = upto
        self._settle([portion_of(stacked, scores, now, latencies)], results, (now, Stacked(stacked)))
        return []

    def _alone(self, call: Call, now: Current, *, lends: bool = True) -> None:
        began = ticks()
        try:
            checked = check(call.ask.asked(now.layout.names), now, self._serving)
            if isinstance(checked, Checked) and lends:
                body, keys = checked.body, checked.keys
                if self._is_lent(call, now, self._lent(call, now, keys, body.ids), lambda: body):
                    return
            outcome = checked if isinstance(checked, Denial) else answer(checked, now, self._serving, call.began)
        except Exception as error:  # the border to bodies of every kind
            self._deliver([(call, error)])
            return
        result: Answered | Exception
        copy: _Copy | None = None
        match outcome:
            case Denial():
                self._counts.took(Table.PREDICTIONS, 0, outcome.log.rows.height)
                result = Refused(outcome.said)
            case Failure():
                self._counts.failed(now.face.version, VARIANT)
                result = outcome.error
            case _:
                result = replace(outcome.answered, scored=(began, ticks()))
                self._counts.scored(now.face.version, VARIANT, 1, len(result.ids), ticks() - began)
                self._pace.add(ticks() - call.began)
                copy = (now, checked.body) if isinstance(checked, Checked) else None
        self._settle([outcome.log], [(call, result)], copy)

    # ---- what the challenger answers -----------------------------------------------------------------

    def _lend(
        self, plains: list[tuple[Call, Plain]], stacked: Stack, now: Current
    ) -> tuple[list[tuple[Call, Plain]], Stack]:
        """Send the requests away of which rows are the challenger's; the others."""
        if now.rival is None or now.rival.trial.weight <= 0:
            return plains, stacked
        kept: list[tuple[Call, Plain]] = []
        rows: list[int] = []
        at, whole = 0, Stacked(stacked)
        for call, plain in plains:
            mine = range(at, at := at + plain.rows)
            places = self._lent(call, now, plain.keys, stacked.ids[mine.start : mine.stop])
            if not self._is_lent(call, now, places, lambda mine=mine: whole.take(mine)):  # type: ignore[misc]  # binds
                kept.append((call, plain))
                rows += mine
        return kept, (stacked if len(kept) == len(plains) else stacked.take(rows))

    @staticmethod
    def _lent(call: Call, now: Current, keys: list[Any] | None, ids: list[str]) -> list[int]:
        """The rows of a request that are the challenger's; none where the client named the version."""
        return [] if now.rival is None or call.version is not None else now.rival.places(keys, ids)

    def _is_lent(self, call: Call, now: Current, places: list[int], body: Callable[[], Body]) -> bool:
        if now.rival is None or not places:
            return False
        back = self._queue.put
        lent = Lent(now, now.rival, body(), places, ticks() - call.began)
        return self._canary.lend(lent, lambda lent: back(replace(call, lent=lent)))

    def _finish(self, calls: list[Call]) -> None:
        """Answer requests that come back from the challenger; the champion scores what it did not."""
        key = {id(call.lent.now): call.lent.now for call in calls if call.lent is not None}
        for now in key.values():
            pairs = [(call, call.lent) for call in calls if call.lent is not None and call.lent.now is now]
            began = ticks()
            found = champion_scores([lent for _, lent in pairs])
            took = ticks() - began
            if rest := sum(len(scores) for scores in found if not isinstance(scores, ModelUnusable)):
                self._counts.scored(now.face.version, VARIANT, len(pairs), rest, took)
            for (call, lent), scores in zip(pairs, found, strict=True):
                if isinstance(scores, ModelUnusable):
                    self._note(lent.missed())  # the champion's failure does not hide the challenger's
                    self._alone(replace(call, lent=None), now, lends=False)  # keeps the rows that the model failed on
                    continue
                answered, parts = lent.finished(scores, took, ticks() - call.began)
                answered = replace(answered, scored=(began, ticks()))
                copy = lent.body.take(untried) if (untried := lent.untried()) else None
                self._settle(parts, [(call, answered)], None if copy is None else (now, copy))

    # ---- answers -------------------------------------------------------------------------------------

    def _settle(self, parts: Sequence[Batch | Portion], results: list[Result], copy: _Copy | None = None) -> None:
        """Log, then answer, then let the challenger have its copy; in held mode the answer waits for the disk.

        In a replay the copy is made and logged first: once the answer is there, time may pass.
        """
        if self._serving.replay:
            self._copy(copy)
            copy = None
        held = self._serving.log is LogMode.HELD
        if not any(height_of(part) for part in parts):
            number = self._serving.journal.last() if held else None
            self._deliver([(call, numbered(result, number)) for call, result in results])
            return
        try:
            done = self._log.put(*parts, held=held)
        except EverfitError as error:
            self._deliver([(call, error) for call, _ in results])
            return
        if held:
            done.add_done_callback(lambda safe: self._deliver_safe(safe, results, copy))
        else:
            self._deliver(results)
            self._copy(copy)

    def _note(self, parts: Sequence[Batch | Portion]) -> None:
        """Log what no answer waits for."""
        with contextlib.suppress(EverfitError):  # what the request itself is told says why
            if parts:
                self._log.put(*parts, held=False)

    def _deliver_safe(self, safe: Future[int], results: list[Result], copy: _Copy | None) -> None:
        self._deliver(after(safe, results))
        if safe.exception() is None:
            self._copy(copy)

    def _copy(self, copy: _Copy | None) -> None:
        if copy is not None and (rival := copy[0].rival) is not None:
            bring = self._shadow.at_once if self._serving.replay else self._shadow.offer
            bring(rival, copy[1])

    def _deliver(self, results: list[Result]) -> None:
        if self._loop is None or not results:
            return
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it who waited
            self._loop.call_soon_threadsafe(resolve, results)
