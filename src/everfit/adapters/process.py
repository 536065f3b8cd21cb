"""A child process within limits of time and memory. The one door to `psutil`.

Takes a command for `everfit.adapters.child` and its limits; gives a running process, and why it has to be stopped;
never leaves one of its processes behind.

Memory is the resident size of the child and its offspring, looked at ten times a second. A limit on address space
(RLIMIT_AS) would be kept by the kernel, but numpy, Arrow and allocators reserve many times what they touch, so that it
would stop healthy trainers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO

import psutil

from everfit.clock import ticks
from everfit.errors import EverfitError, LeaseLost
from everfit.ports import Job
from everfit.units import duration_text

LOOK = 0.1  # seconds between two looks at memory, time and log
ASK = 0.5  # seconds between two questions whether the lease is held
LOG_AT_MOST = 16 * 2**20  # bytes of output that are kept; a trainer that prints more loses the older part


def start(
    command: Sequence[str], project: Path, log: IO[bytes], pass_on: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start `everfit.adapters.child` in the project's folder; its standard input is what it lives by."""
    # -P: modules of the project must not stand before the standard library. The worker adds the folder later.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "everfit.adapters.child", *command],
        cwd=project,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=tuple(pass_on),
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe, on which the warden kills its group; then kill what is still there, itself included."""
    offspring: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        offspring = psutil.Process(process.pid).children(recursive=True)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2)
    for each in offspring:  # also those that left the group; psutil never signals a stranger with a reused number
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    if process.poll() is None:
        process.kill()
        process.wait()


def resident(pid: int) -> int:
    """Bytes of memory held by a process and its offspring; 0 if it is gone."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_info().rss
    return total


@dataclass(slots=True)
class Watched:
    """What a child is held to while it works on something; `look` says why it must be stopped."""

    job: Job
    log: Path  # where its output goes
    failure: type[EverfitError]  # what passing a limit is
    alive: Callable[[], bool]
    what: str = ""  # what works, in words
    slow: bool = False  # whether it was stopped for its time
    _since: float = field(default_factory=ticks)
    _asked: float | None = None

    def begin(self, what: str) -> None:
        """Begin to count the time of something; stop at once when the lease is lost.

        Raises:
            LeaseLost: `alive` said no.
        """
        self.what, self._since, self.slow = what, ticks(), False
        if (lost := self._lost()) is not None:
            raise lost

    def look(self, process: subprocess.Popen[bytes], most: float) -> EverfitError | None:
        """Why it must be stopped: its time of so many seconds, its memory, the lease; None if it may go on."""
        job, stopped = self.job, f"and was stopped; its output is in {self.log}"
        if ticks() - self._since > most:
            self.slow = True
            return self.failure(f"{self.what} ran longer than {duration_text(timedelta(seconds=most))} {stopped}")
        if resident(process.pid) > job.memory:
            return self.failure(f"{self.what} took more than {job.memory / 1e6:,.0f} MB of memory {stopped}")
        _trim(self.log)
        return self._lost()

    def ended(self, code: int) -> EverfitError:
        """What it is that it ended by itself and left nothing."""
        return self.failure(f"{self.what} {_ending(code)}; its output is in {self.log}")

    def _lost(self) -> LeaseLost | None:
        now = ticks()
        if self._asked is not None and now - self._asked < ASK:
            return None
        self._asked = now
        if self.alive():
            return None
        return LeaseLost(f"{self.what} was stopped: the lease on this run is no longer held")


def _environment() -> dict[str, str]:
    """The parent's, with one thread unless the user said otherwise, equal hashes, and no telemetry."""
    ours = {
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    return {"OMP_NUM_THREADS": "1"} | dict(os.environ) | ours


def _trim(log: Path) -> None:
    """Begin the log anew when a trainer prints without end; being open for appending, it goes on there."""
    if log.exists() and log.stat().st_size > LOG_AT_MOST:
        os.truncate(log, 0)
        most = LOG_AT_MOST // 2**20
        with log.open("ab") as file:
            file.write(f"[everfit: more than {most} MB were printed; what came before was cut off]\n".encode())


def _ending(code: int) -> str:
    if code <= 128:
        return f"ended with exit code {code} and left no result"
    number = code - 128
    if number == signal.SIGKILL:
        return "was killed by the system, most likely for want of memory"
    known = {each.value: each.name for each in signal.Signals}
    return f"crashed ({known.get(number, f'signal {number}')})"
