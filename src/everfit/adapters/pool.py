"""Many models trained side by side in child processes, each kept by its content: what a backtest stands on.

Takes spans of windows, the urgent ones first; gives what became of each model; never trains one whose file is there,
and never lets a child outlive this process, its limits, or `close`.
"""

from __future__ import annotations

import contextlib
import heapq
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

from everfit.adapters.cells import CellTask, Trained, cell_file, read_cell
from everfit.adapters.trainer import resident
from everfit.clock import ticks
from everfit.errors import DiskFull, TrainingFailed, UsageError

Cell = tuple[int, int]  # first and last window of the training rows
START = 600.0  # seconds in which a child must have read the rows
LOOK = 0.25  # seconds between two looks at a child's memory and time


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


class CellPool:
    """Trains cells in `jobs` children. Safe from several threads; `take` waits for its own cell only.

    A cell that is asked for by `take` goes before all that were merely wanted: a policy that decides from window to
    window waits for one model at a time, and the other children go on with the rest meanwhile.
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
        self._queue: list[tuple[int, int, Cell]] = []  # 0 urgent or 1, the order of asking, the cell
        self._asked: set[Cell] = set()
        self._done: dict[Cell, str] = {}  # why it failed, or "" when its file is there
        self._running: set[Cell] = set()
        self._changed = threading.Condition()
        self._closed, self._busy_seconds, self._trained = False, 0.0, 0
        self._full: str | None = None
        self._hands: list[threading.Thread] = []

    def want(self, cells: Iterable[Cell]) -> None:
        """Have these trained, in this order, without waiting."""
        with self._changed:
            for cell in cells:
                self._ask(cell, 1)

    def take(self, cell: Cell) -> Trained:
        """What became of one cell; trains it before all others if it is not there.

        Raises:
            DiskFull: there was no space for scores.
        """
        with self._changed:
            self._ask(cell, 0)
            self._changed.wait_for(lambda: cell in self._done or self._full is not None or self._closed)
        if self._full is not None:
            raise DiskFull(self._full)
        failed = self._done.get(cell, "the backtest was stopped")
        kept = None if failed else read_cell(cell_file(self._folder, *cell))
        if kept is not None:
            return kept
        nothing = np.zeros(0, dtype=np.float32)
        return Trained(
            np.full((self._windows, 3), np.nan), nothing, 0.0, 0, failed=failed or "its file of scores is gone"
        )

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

    def _ask(self, cell: Cell, haste: int) -> None:
        if cell in self._done or (cell in self._asked and haste):
            return
        self._asked.add(cell)
        if read_cell(cell_file(self._folder, *cell)) is not None:
            self._done[cell] = ""
            return
        heapq.heappush(self._queue, (haste, len(self._asked), cell))  # a cell may be queued twice: once is idle
        if len(self._hands) < self._limits.jobs:
            self._hands.append(threading.Thread(target=self._work, daemon=True))
            self._hands[-1].start()
        self._changed.notify_all()

    def _next(self) -> Cell | None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._closed or self._full is not None)
                if self._closed or self._full is not None:
                    return None
                cell = heapq.heappop(self._queue)[2]
                if cell not in self._done and cell not in self._running:
                    self._running.add(cell)
                    return cell

    def _work(self) -> None:
        child = _Child(self._told, self._project, self._limits, lambda: self._closed)
        try:
            while (cell := self._next()) is not None:
                since = ticks()
                failed = child.train(cell)
                self._finish(cell, failed, ticks() - since)
        except DiskFull as error:
            with self._changed:
                self._full = str(error)
                self._changed.notify_all()
        finally:
            child.end()

    def _finish(self, cell: Cell, failed: str, spent: float) -> None:
        with self._changed:
            self._done[cell] = failed
            self._running.discard(cell)
            self._busy_seconds, self._trained = self._busy_seconds + spent, self._trained + 1
            left = len(self._asked) - len(self._done)
            self._changed.notify_all()
            each = self._busy_seconds / self._trained
            progress = Progress(len(self._done), len(self._asked), left * each / self._limits.jobs)
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

    def train(self, cell: Cell) -> str:
        """Have one cell trained; "" when its file is there, else why it is not.

        Raises:
            DiskFull: there was no space for its scores.
        """
        try:
            process = self._started()
            assert process.stdin is not None
            process.stdin.write((json.dumps(cell) + "\n").encode())
            process.stdin.flush()
            said = self._hear(process, self._limits.seconds)
        except (BrokenPipeError, TrainingFailed) as error:
            self.end()
            return str(error) or "the training process ended"
        told = json.loads(said)
        if told.get("full"):
            raise DiskFull(told["said"])
        return "" if told["ok"] else str(told["said"])

    def _hear(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        assert process.stdout is not None
        since = ticks()
        while not select.select([process.stdout], [], [], LOOK)[0]:
            if self._closed():
                raise TrainingFailed("the backtest was stopped")
            if ticks() - since > seconds:
                raise TrainingFailed(f"ran longer than {seconds:,.0f} s and was stopped")
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
