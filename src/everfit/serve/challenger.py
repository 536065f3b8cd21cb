"""A challenger in a process of its own, so that its crash, its hanging or its hunger cannot take the champion down.

Takes a published model and rows; gives scores within a deadline, or `Failed` with one word that says why; never lets a
caller wait longer than it said it would.

One thread keeps the process: it starts it, reads its answers, looks at its memory, ends it when it hangs, and starts
it again with growing pauses, so many times. One question is under way at a time. A caller whose deadline passes goes
away; until the late answer comes, or the process is ended, all others are told `timeout` at once.
"""

from __future__ import annotations

import logging
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import orjson

from everfit.clock import ticks
from everfit.errors import ModelUnusable
from everfit.ports import Predictor
from everfit.serve.model import read_signature
from everfit.serve.process import Process
from everfit.serve.serving import Trying
from everfit.serve.wire import Rows, Scores, pack_rows, receive, send, unpack_scores

LOOK_EVERY = 0.05  # seconds between looks at the process: its memory, its silence, and whether it is wanted still
_say = logging.getLogger("everfit.serve.challenger")


class Failing(StrEnum):
    """Why a challenger did not answer, as the shadow table says it."""

    CRASH = "crash"
    TIMEOUT = "timeout"
    ERROR = "error"
    MEMORY = "memory"


class Failed(Exception):
    """A question that got no answer. `why` is None when the challenger is not to blame: not warm yet, or let go."""

    def __init__(self, why: Failing | None) -> None:
        """Say why."""
        super().__init__(why or "not asked")
        self.why = why


@dataclass(frozen=True, slots=True)
class _Question:
    number: int
    rows: int
    answer: Future[Scores] = field(default_factory=Future)
    since: float = field(default_factory=ticks)


class Challenger:
    """One challenger. `ask` may be called from any thread; start it once, close it once."""

    def __init__(
        self,
        folder: Path,
        loader: Callable[[Path], Predictor],
        trying: Trying,
        died: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Name the model; nothing runs yet. `died` is told the reason of each death, in the keeper's thread.

        Raises:
            ModelUnusable: the folder holds no model.
        """
        self.folder, self.signature = folder, read_signature(folder)
        self.trouble = ""  # why it stays down
        self._loader, self._trying, self._died = loader, trying, died
        self._turn = threading.Lock()  # one question at a time
        self._asked: _Question | None = None
        self._number = 0
        self._process: Process | None = None  # only while it is warm
        self._ending = threading.Event()
        self._is_stuck = False  # it does not read
        self._looked = 0.0
        self._why: Failing | None = None  # of the last death, once it was warm
        self._was_warm, self._deaths = False, 0
        self._thread = threading.Thread(target=self._keep, name="everfit-challenger", daemon=True)

    @property
    def is_warm(self) -> bool:
        """Whether it is loaded and can be asked."""
        return self._process is not None

    @property
    def has_been_warm(self) -> bool:
        """Whether it ever was; from then on, what it does not answer is its failure."""
        return self._was_warm

    @property
    def pid(self) -> int | None:
        """The number of its process, while it is warm."""
        return None if (process := self._process) is None else process.pid

    def start(self) -> None:
        """Begin to load it; `is_warm` or `trouble` says when that is done."""
        self._thread.start()

    def forgive(self) -> None:
        """Another route wants it: it may die as often again."""
        self._deaths = 0

    def close(self) -> None:
        """End it soon. Who waits for an answer gets none; nobody is to blame."""
        self._ending.set()

    def join(self, seconds: float) -> None:
        """Wait until its process is gone."""
        self._thread.join(seconds)

    def ask(self, rows: Rows, wait: float) -> Scores:
        """Scores of rows, shape (rows, outputs), within so many seconds.

        Raises:
            Failed: with the reason.
        """
        began = ticks()
        if not self._turn.acquire(timeout=wait):
            raise Failed(Failing.TIMEOUT)
        try:
            question = self._send(rows, began + wait)
            found = question.answer.result(max(began + wait - ticks(), 0.001))
        except Late:
            raise Failed(Failing.TIMEOUT) from None
        finally:
            self._turn.release()
        took = ticks() - began
        # A process that says nonsense of its time is taken to have scored all the time.
        return replace(found, took=took, scored=found.scored if 0 <= found.scored <= took else took)

    def _send(self, rows: Rows, until: float) -> _Question:
        process = self._process
        if process is None or self._ending.is_set():
            raise Failed(None if self._ending.is_set() else self._why)
        if self._asked is not None:  # an answer that nobody waits for any more is still to come
            raise Failed(Failing.TIMEOUT)
        self._number += 1
        self._asked = question = _Question(self._number, rows.count)
        try:
            process.questions.settimeout(max(until - ticks(), 0.001))
            send(process.questions, question.number, pack_rows(rows))
        except TimeoutError:  # half a question cannot be taken back
            self._is_stuck = True
            raise Failed(Failing.TIMEOUT) from None
        except OSError:
            self._asked = None
            raise Failed(Failing.CRASH) from None
        return question

    # ---- in the keeper's thread ----------------------------------------------------------------------

    def _keep(self) -> None:
        pause = self._trying.pauses[0]
        while not self._ending.is_set() and not self.trouble:
            why, said = self._live()
            if why is None:
                return
            self._deaths += 1
            self._died(why)
            _say.warning("the challenger's process ended", extra={"reason": why.value, "folder": self.folder.name})
            if self._deaths >= self._trying.deaths:
                self.trouble = (
                    f"its process ended {self._deaths} times, lastly by {why} ({said}); it is not started again"
                )
                return
            self._ending.wait(pause)
            pause = min(2 * pause, self._trying.pauses[1])

    def _live(self) -> tuple[Failing | None, str]:
        """One life of the process: why it ended, None when it was told to or cannot load, and how."""
        try:
            process = Process.start(self.folder, self._loader)
        except (OSError, ValueError) as error:  # ValueError: a system that hands no sockets to children
            return Failing.CRASH, f"it could not be started: {error}"
        self._is_stuck, why = False, Failing.CRASH
        found: Failing | None = why
        try:
            found = self._listen(process)
        except Exception as error:  # whatever a broken process says, its keeper lives
            _say.warning("the challenger's process cannot be understood", extra={"reason": str(error)})
        finally:
            self._process = None
            if self._was_warm:
                self._why = found
            code = process.end()
            if (question := self._asked) is not None:
                self._asked = None
                question.answer.set_exception(Failed(found))
        return found, f"exit code {code}" if code >= 0 else f"signal {-code}"

    def _listen(self, process: Process) -> Failing | None:
        """Deliver answers until the process ends, must be ended (the reason), or shall be (None)."""
        began, self._looked = ticks(), 0.0
        process.answers.settimeout(self._trying.hang)
        with selectors.DefaultSelector() as selector:
            selector.register(process.answers, selectors.EVENT_READ)
            while not self._ending.is_set() and not self.trouble:
                if (why := self._wrong_with(process, began)) is not None:
                    return why
                if not selector.select(LOOK_EVERY):
                    continue
                frame = receive(process.answers)
                if frame is None:
                    return Failing.CRASH
                self._deliver(process, *frame)
        return None

    def _wrong_with(self, process: Process, began: float) -> Failing | None:
        trying, now, question = self._trying, ticks(), self._asked
        if now < self._looked + LOOK_EVERY:
            return None
        self._looked = now
        if process.memory() > trying.memory:
            return Failing.MEMORY
        is_hanging = question is not None and now > question.since + trying.hang
        is_loading_on = self._process is None and now > began + trying.load
        return Failing.TIMEOUT if is_hanging or is_loading_on or self._is_stuck else None

    def _deliver(self, process: Process, number: int, parts: list[bytes]) -> None:
        if number == 0:
            if error := orjson.loads(parts[0])["error"]:
                self.trouble = str(error)
            else:
                self._was_warm, self._process = True, process
            return
        question = self._asked
        if question is None or question.number != number:
            raise ModelUnusable("an answer came that nobody had asked for")
        self._asked = None
        try:
            question.answer.set_result(unpack_scores(parts, question.rows, self.signature.width()))
        except ModelUnusable:
            question.answer.set_exception(Failed(Failing.ERROR))
