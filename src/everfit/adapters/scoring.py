"""A scoring child that stays: models are scored in it one after another, and it is started anew when it must be.

Takes questions (a model's folder, a file of rows); gives scores, or the failure of the one model that was asked; never
lets a model crash, hang or outlive this process, and never blames one for what another left behind.

Starting a child costs two seconds of imports, scoring a thousand rows a few hundredths. So the child is kept, with the
models that it has loaded, until it was idle for a minute. A model that ends a child which has answered before is asked
again in a fresh one, and fails only if it ends that one too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from everfit.adapters.process import ASK, LOOK, Watched, end, start
from everfit.errors import DiskFull, ModelUnusable

IDLE = 60.0  # seconds without a question after which the child ends by itself
KEPT_AT_MOST = 2**30  # bytes that a child may hold between questions, or half of its limit if that is less
START = 600.0  # seconds that its imports may take; on a busy machine they take many
GONE = 5.0  # seconds that a child whose line is cut may take to end


@dataclass(frozen=True, slots=True)
class Question:
    """One model and the rows that it shall score."""

    model: Path
    rows: Path
    timed_rows: int = 0  # so many rows are also scored one by one, and timed


@dataclass(slots=True)
class _Running:
    """A child at work."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    made_for: tuple[Path, int]  # project and limit of memory
    answered: int = 0


class ScoringChild:
    """One child for all threads of this process: each waits for its turn.

    The child ends with this object, at the latest with this process.
    """

    def __init__(self, idle: float = IDLE) -> None:
        self._idle = idle
        self._turn = threading.Lock()
        self._numbers = count()
        self._running: list[_Running] = []  # one or none
        weakref.finalize(self, _end_all, self._running)

    def answer(self, question: Question, watched: Watched) -> pl.DataFrame:
        """Scores of one model: `_score`, `_prediction`, `_latency_ms`.

        Raises:
            ModelUnusable: it cannot predict these rows within the limits of `watched.job`.
            LeaseLost: `watched.alive` said no.
            DiskFull: there was no space for the scores.
        """
        with self._in_turn(question, watched) as scores:
            told, child = _told(question, scores, watched), self._at_work(watched)
            try:
                said = self._asked(child, told, watched)
            except ModelUnusable:
                if watched.slow or not child.answered:
                    raise  # it had its time, or the child to itself
                watched.begin(watched.what)
                said = self._asked(self._at_work(watched), told, watched)
            return _read(said, scores, watched)

    @contextmanager
    def _in_turn(self, question: Question, watched: Watched) -> Iterator[Path]:
        """Wait for one's turn; where the scores shall lie, for as long as it is."""
        what = f"the model in {question.model}"
        watched.begin(what)
        while not self._turn.acquire(timeout=ASK):
            watched.begin(what)
        scores = watched.job.folder / f"scored-{os.getpid()}-{next(self._numbers)}.parquet"
        try:
            watched.begin(what)  # another thread's question is not this one's time
            yield scores
        finally:
            scores.unlink(missing_ok=True)
            self._turn.release()

    def _at_work(self, watched: Watched) -> _Running:
        """The child that is there if it suits, else a fresh one."""
        made_for = (watched.job.project.resolve(), watched.job.memory)
        if self._running and (self._running[0].made_for != made_for or self._running[0].process.poll() is not None):
            _end_all(self._running)
        if not self._running:
            ours, theirs = socket.socketpair()
            bound = min(watched.job.memory // 2, KEPT_AT_MOST)
            with watched.log.open("ab") as log, theirs:
                command = ["score", str(theirs.fileno()), str(bound), str(self._idle)]
                process = start(command, watched.job.project, log, (theirs.fileno(),))
            ours.settimeout(LOOK)
            self._running.append(_Running(process, ours, made_for))
            with self._or_ended():
                _heard(self._running[0], watched, START)
            watched.begin(watched.what)  # the imports are not the model's time
        return self._running[0]

    @contextmanager
    def _or_ended(self) -> Iterator[None]:
        """End the child on whatever goes wrong: it may still be busy."""
        try:
            yield
        except BaseException:
            _end_all(self._running)
            raise

    def _asked(self, child: _Running, told: dict[str, Any], watched: Watched) -> dict[str, Any]:
        """Ask a child; one that holds too much afterwards is ended."""
        with self._or_ended():
            said = _talk(child, told, watched)
        child.answered += 1
        if not said["stays"]:
            _end_all(self._running)
        return said


def _told(question: Question, scores: Path, watched: Watched) -> dict[str, Any]:
    return {
        "model": str(question.model.resolve()),
        "rows": str(question.rows.resolve()),
        "timed_rows": question.timed_rows,
        "project": str(watched.job.project.resolve()),
        "scores": str(scores.resolve()),
        "log": str(watched.log.resolve()),
    }


def _talk(child: _Running, told: dict[str, Any], watched: Watched) -> dict[str, Any]:
    """One line there, one line back."""
    try:
        child.line.sendall(json.dumps(told).encode() + b"\n")
    except OSError:
        raise watched.ended(_code(child)) from None
    return _heard(child, watched, watched.job.timeout.total_seconds())


def _heard(child: _Running, watched: Watched, most: float) -> dict[str, Any]:
    """The next line, within so many seconds; whoever cuts the line has ended."""
    heard = b""
    try:
        while not heard.endswith(b"\n"):
            heard += _piece(child, watched, most)
    except OSError:
        raise watched.ended(_code(child)) from None
    said: dict[str, Any] = json.loads(heard)
    return said


def _piece(child: _Running, watched: Watched, most: float) -> bytes:
    """What was said within a moment; the moments in which nothing is said are for looking at its limits.

    Raises:
        OSError: the child ended.
    """
    try:
        piece = child.line.recv(2**16)
    except TimeoutError:
        if child.process.poll() is not None:  # its offspring may hold the line for ever
            raise ConnectionResetError from None
        if (stopped := watched.look(child.process, most)) is not None:
            raise stopped from None
        return b""
    if not piece:
        raise ConnectionResetError
    return piece


def _code(child: _Running) -> int:
    try:
        return child.process.wait(GONE)
    except subprocess.TimeoutExpired:
        end(child.process)
        return 128 + signal.SIGKILL


def _read(said: dict[str, Any], scores: Path, watched: Watched) -> pl.DataFrame:
    where = f"its output is in {watched.log}"
    if said.get("full"):
        raise DiskFull(f"no space left under {watched.job.folder}: {said['said']}")
    if not said["ok"]:
        raise watched.failure(f"{watched.what} failed: {said['said']}; {where}")
    try:
        # Not mapped: the file goes, and another of its name may come.
        return pl.read_parquet(scores, memory_map=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise watched.failure(f"{watched.what} left no scores; {where}") from error


def _end_all(running: list[_Running]) -> None:
    while running:
        child = running.pop()
        child.line.close()
        end(child.process)
