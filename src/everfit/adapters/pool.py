"""Many models trained side by side in child processes, each kept by its content: what a backtest stands on.

Takes spans of windows, the urgent ones first; gives what became of each model and its scores where they are asked for;
never trains one whose file is there, and never lets a child outlive this process, its limits, or `close`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from everfit.adapters.cell_files import (
    CellTask,
    Scored,
    Span,
    Trained,
    cell_file,
    read_cell,
    read_misses,
    read_span,
    scored_rows,
    span_file,
    spans_in,
)
from everfit.adapters.process import resident
from everfit.clock import ticks
from everfit.errors import DiskFull, TrainingFailed, UsageError

START = 600.0  # seconds in which a child must have read the rows
LOOK = 0.25  # seconds between two looks at the time that a child takes
WEIGH = 1.0  # seconds between two looks at its memory: one costs 2 ms, for all processes of the machine are read


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may take."""

    jobs: int = 2  # children at a time
    seconds: float = 3600.0  # for one model, scoring included
    memory: int = 8 * 2**30  # bytes, resident


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backtest is."""

    done: int  # models that are there
    wanted: int  # models that were asked for
    left: float  # seconds that the rest will take, by the time the others took


@dataclass(frozen=True, slots=True, order=True)
class _Ask:
    """A model to be trained, and scored in a span of windows: of several, the smallest goes first."""

    haste: int
    turn: int
    cell: Span
    span: Span  # empty when its first is after its last


class CellPool:
    """Trains and scores models in `jobs` children. Safe from several threads; a question waits for its own model only.

    What is asked for goes before all that was merely wanted, and what the bench asks (`whole`) before the rest: it
    decides from window to window and waits for one model at a time, while the other children go on.
    """

    def __init__(self, task: CellTask, limits: Limits, tell: Callable[[Progress], None] = lambda _: None) -> None:
        if limits.jobs < 1:
            raise UsageError("--jobs must be at least 1")
        self._folder = Path(task.folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._told = self._folder / "task.json"
        self._told.write_text(task.to_json())
        self._limits, self._tell, self._windows = limits, tell, len(task.edges) - 1
        self._project = Path(task.project)
        self._begins = scored_rows(task.edges, task.most)[1]
        self._queue: list[_Ask] = []
        self._asked: set[Span] = set()
        self._trained, self._spans = spans_in(self._folder)
        self._failed: dict[Span, str] = {}  # models that could not be trained
        self._unscored: dict[tuple[Span, Span], str] = {}  # and those that could not predict there
        self._busy: set[Span] = set()  # of which a child is making something
        self._changed = threading.Condition()
        self._closed, self._seconds, self._made = False, 0.0, 0
        self._full: str | None = None
        self._hands: list[threading.Thread] = []

    def want(self, cells: Iterable[Span]) -> None:
        """Have these trained and scored in the window after their rows, in this order, without waiting."""
        with self._changed:
            for cell in cells:
                self._ask(_Ask(2, len(self._asked), cell, self._next_window(cell)))

    def take(self, cell: Span, *, whole: bool = False) -> Trained:
        """What became of one model, and with `whole` have it scored in all later windows too.

        Raises:
            DiskFull: there was no space for scores.
        """
        span, haste = ((cell[1] + 1, self._windows - 1), 0) if whole else (self._next_window(cell), 1)
        failed = self._settle(cell, span, haste=haste)
        kept = read_cell(cell_file(self._folder, cell))
        if kept is None and not failed:  # a file that was there and cannot be read is made anew, once
            with self._changed:
                self._trained.discard(cell)
            failed = self._settle(cell, span, haste=haste)
            kept = read_cell(cell_file(self._folder, cell))
        if kept is not None:
            return kept
        return Trained(np.full((self._windows, 2), np.nan), 0.0, 0, failed=failed or "its file of scores is gone")

    def scored(self, cell: Span, span: Span) -> Scored:
        """One model's scores in a span of later windows.

        Raises:
            DiskFull: there was no space for scores.
        """
        many = span[1] - span[0] + 1
        levels, missed, there, seconds = np.full((many, 3), np.nan), np.full(many, np.nan), set[int](), 0.0
        failed = self._settle(cell, span, haste=1)
        for each in self._over(cell, span):
            found = read_span(span_file(self._folder, cell, each))
            if found is None:
                self._forget(cell, each)
                return self.scored(cell, span)
            seconds += found.scoring
            both = range(max(span[0], each[0]), min(span[1], each[1]) + 1)
            ours, theirs = (
                slice(both.start - span[0], both.stop - span[0]),
                slice(both.start - each[0], both.stop - each[0]),
            )
            levels[ours], missed[ours] = found.levels[theirs], found.missed[theirs]
            there |= set(both)
        return Scored(levels, missed, seconds, "" if len(there) == many else failed)

    def misses(self, cell: Span, window: int) -> NDArray[np.float32]:
        """The miss of each scored row of one later window; none where the model could not predict.

        Raises:
            DiskFull: there was no space for scores.
        """
        if self._settle(cell, (window, window), haste=1):
            return np.zeros(0, dtype=np.float32)
        for each in self._over(cell, (window, window)):
            found = read_misses(span_file(self._folder, cell, each))
            if found is not None:
                begin = self._begins[each[0]]
                return found[self._begins[window] - begin : self._begins[window + 1] - begin]
            self._forget(cell, each)
        return self.misses(cell, window)

    def close(self) -> None:
        """End the children, whatever they are doing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for hand in self._hands:
            hand.join()

    def __enter__(self) -> CellPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_window(self, cell: Span) -> Span:
        return (cell[1] + 1, min(cell[1] + 1, self._windows - 1))

    def _settle(self, cell: Span, span: Span, *, haste: int) -> str:
        """Wait until it is there; why it will not be, or ""."""
        with self._changed:
            self._ask(_Ask(haste, len(self._asked), cell, span))
            self._changed.wait_for(lambda: self._settled(cell, span) or self._full is not None or self._closed)
            if self._full is not None:
                raise DiskFull(self._full)
            if self._there(cell, span):
                return ""
            return self._failed.get(cell) or self._unscored.get((cell, span)) or "the backtest was stopped"

    def _settled(self, cell: Span, span: Span) -> bool:
        return cell in self._failed or (cell, span) in self._unscored or self._there(cell, span)

    def _there(self, cell: Span, span: Span) -> bool:
        covered = {window for each in self._spans.get(cell, []) for window in range(each[0], each[1] + 1)}
        return cell in self._trained and covered.issuperset(range(span[0], span[1] + 1))

    def _over(self, cell: Span, span: Span) -> list[Span]:
        with self._changed:
            return [each for each in self._spans.get(cell, []) if each[0] <= span[1] and span[0] <= each[1]]

    def _forget(self, cell: Span, span: Span) -> None:
        """A torn file: it is as if it had never been."""
        with self._changed:
            self._spans[cell] = [each for each in self._spans[cell] if each != span]

    def _ask(self, ask: _Ask) -> None:
        self._asked.add(ask.cell)
        if self._settled(ask.cell, ask.span):
            return
        self._queue.append(ask)
        if len(self._hands) < self._limits.jobs:
            self._hands.append(threading.Thread(target=self._work, daemon=True))
            self._hands[-1].start()
        self._changed.notify_all()

    def _first(self) -> _Ask | None:
        """The ask that goes first of those whose model nobody else is busy with."""
        self._queue = [ask for ask in self._queue if not self._settled(ask.cell, ask.span)]
        return min((ask for ask in self._queue if ask.cell not in self._busy), default=None)

    def _next(self) -> _Ask | None:
        with self._changed:
            while not self._closed and self._full is None:
                ask = self._first()
                if ask is not None:
                    self._queue.remove(ask)
                    self._busy.add(ask.cell)
                    return ask
                self._changed.wait()
            return None

    def _work(self) -> None:
        child = _Child(self._told, self._project, self._limits, lambda: self._closed)
        try:
            while (ask := self._next()) is not None:
                since = ticks()
                known = ask.cell in self._trained
                told = child.make(ask.cell, ask.span)
                self._finish(ask, told, None if known else ticks() - since)
        except DiskFull as error:
            with self._changed:
                self._full = str(error)
                self._changed.notify_all()
        finally:
            child.end()

    def _finish(self, ask: _Ask, told: Span | str, spent: float | None) -> None:
        """Note what a child said: the span that is scored, or what went wrong; and the seconds of a training."""
        with self._changed:
            self._busy.discard(ask.cell)
            if not isinstance(told, str):
                self._trained.add(ask.cell)
                self._spans.setdefault(ask.cell, []).append(told)
            elif read_cell(cell_file(self._folder, ask.cell)) is not None:
                self._trained.add(ask.cell)
                self._unscored[ask.cell, ask.span] = told
            else:
                self._failed[ask.cell] = told
            if spent is not None:
                self._seconds, self._made = self._seconds + spent, self._made + 1
            self._changed.notify_all()
            done = len(self._asked & (self._trained | self._failed.keys()))
            left = len(self._asked) - done
            progress = Progress(done, len(self._asked), left * self._seconds / max(1, self._made) / self._limits.jobs)
        if spent is not None:
            self._tell(progress)


def _pipes(process: subprocess.Popen[bytes]) -> None:
    """Close its pipes."""
    for pipe in (process.stdout, process.stdin):
        if pipe is not None:
            pipe.close()


class _Child:
    """One child process, started again when it had to be stopped."""

    def __init__(self, told: Path, project: Path, limits: Limits, closed: Callable[[], bool]) -> None:
        self._told, self._project, self._limits, self._closed = told, project, limits, closed
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def make(self, cell: Span, span: Span) -> Span | str:
        """Have a model trained and scored in a span; the span that is scored now, or why it is not.

        Raises:
            DiskFull: there was no space for its scores.
        """
        try:
            process = self._started()
            assert process.stdin is not None
            process.stdin.write((json.dumps([cell, span]) + "\n").encode())
            process.stdin.flush()
            said = self._hear(process, self._limits.seconds)
        except (BrokenPipeError, TrainingFailed) as error:
            self.end()
            return str(error) or "the training process ended"
        told = json.loads(said)
        if told.get("full"):
            raise DiskFull(told["said"])
        return (int(told["span"][0]), int(told["span"][1])) if told["ok"] else str(told["said"])

    def _hear(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        assert process.stdout is not None
        since = weighed = ticks()
        while not select.select([process.stdout], [], [], LOOK)[0]:
            if self._closed():
                raise TrainingFailed("the backtest was stopped")
            if ticks() - since > seconds:
                raise TrainingFailed(f"ran longer than {seconds:,.0f} s and was stopped")
            if ticks() - weighed < WEIGH:
                continue
            weighed = ticks()
            if resident(process.pid) > self._limits.memory:
                raise TrainingFailed(f"took more than {self._limits.memory / 1e6:,.0f} MB of memory and was stopped")
        said = process.stdout.readline()
        if not said:
            code = process.wait()
            raise TrainingFailed(f"the training process ended ({code}); its output is in {self._told.parent}/log.txt")
        return said

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._log = (self._told.parent / "log.txt").open("ab")
            # One thread a child, set before scikit-learn is imported: `jobs` children fill the machine by themselves.
            quiet = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "everfit.adapters.cells", str(self._told.resolve())],
                cwd=self._project,
                env=dict(os.environ) | quiet,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,
            )
            self._hear(self._process, START)  # imports and rows are not the first model's time
        return self._process

    def end(self) -> None:
        """Kill it with all that it started."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with contextlib.suppress(OSError):  # what was not read, nobody wants any more
                _pipes(process)
        if self._log is not None:
            self._log.close()
            self._log = None
