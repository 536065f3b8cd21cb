"""Training and scoring in a child process, within limits of time and memory. The one door to `psutil`.

Takes a job and a question whether its lease is still held; gives a model's folder or scores; never lets a
child outlive the answer "no", its limits, or this process.

Memory is the resident size of the child and its offspring, looked at ten times a second. A limit on address
space (RLIMIT_AS) would be kept by the kernel, but numpy, Arrow and allocators reserve many times what they
touch, so that it would stop healthy trainers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import psutil

from everfit.clock import ticks
from everfit.errors import DiskFull, EverfitError, LeaseLost, ModelUnusable, TrainingFailed
from everfit.ports import Job, Made
from everfit.units import duration_text

LOOK = 0.1  # seconds between two looks at memory, time and log
ASK = 0.5  # seconds between two questions whether the lease is held
LOG_AT_MOST = 16 * 2**20  # bytes of output that are kept; a trainer that prints more loses the older part


class ProcessTrainer:
    """Runs training in a child process. Safe from several threads; each job has a folder of its own."""

    def train(self, job: Job, alive: Callable[[], bool]) -> Made:
        """Train; the child is stopped when `alive` says no more, or a limit is passed.

        Raises:
            TrainingFailed: with the reason and the log's place.
            LeaseLost: `alive` said no.
            DiskFull: there was no space for the model.
        """
        child = _Child(job, job.folder / "log.txt", TrainingFailed, f"the trainer {job.trainer}")
        scores = job.folder / "scores.parquet"
        scores.unlink(missing_ok=True)
        _forget(job.folder / "model")
        since = ticks()
        result = child.run(_task(job, "train"), alive)
        folder = job.folder / "model"
        if not (folder / "model.json").is_file() or not isinstance(result.get("format"), str):
            raise TrainingFailed(f"the trainer {job.trainer} left no model; its output is in {child.log}")
        left = _scores(scores, child) if scores.is_file() else None
        return Made(folder, result["format"], child.log, ticks() - since, left)

    def score(self, model: Path, rows: Path, job: Job, alive: Callable[[], bool]) -> pl.DataFrame:
        """Score a Parquet file with a kept model: `_score`, `_prediction`; `_latency_ms` of timed rows.

        Raises:
            ModelUnusable: the model cannot predict these rows within the limits.
            LeaseLost: `alive` said no.
        """
        child = _Child(job, job.folder / "score-log.txt", ModelUnusable, f"the model in {model}")
        scores = job.folder / "scores.parquet"
        scores.unlink(missing_ok=True)
        child.run(_task(job, "score") | {"model": str(model.resolve()), "rows": str(rows.resolve())}, alive)
        return _scores(scores, child)


@dataclass(frozen=True, slots=True)
class _Child:
    """One run of the child."""

    job: Job
    log: Path
    failure: type[EverfitError]
    what: str

    def run(self, task: dict[str, Any], alive: Callable[[], bool]) -> dict[str, Any]:
        folder = self.job.folder
        result = folder / "result.json"
        for old in (result, self.log):
            old.unlink(missing_ok=True)
        told = folder / "task.json"
        told.write_text(json.dumps(task))
        with self.log.open("ab") as log, self._started(told, log) as process:
            stopped = self._watch(process, alive)
        if stopped is not None:
            raise stopped
        return self._read(result, process.returncode)

    @contextlib.contextmanager
    def _started(self, told: Path, log: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Start the child; whatever happens, none of its processes is left at the end."""
        # -P: modules of the project must not stand before the standard library. The worker adds the folder
        # later.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "everfit.adapters.child", str(told.resolve())],
            cwd=self.job.project,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end(process)

    def _watch(self, process: subprocess.Popen[bytes], alive: Callable[[], bool]) -> EverfitError | None:
        """Wait until it ends; why it must be stopped, or None if it ended by itself."""
        since, asked = ticks(), 0.0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
                return None
            spent = ticks() - since
            stopped = f"and was stopped; its output is in {self.log}"
            if spent > self.job.timeout.total_seconds():
                return self.failure(f"{self.what} ran longer than {duration_text(self.job.timeout)} {stopped}")
            if resident(process.pid) > self.job.memory:
                return self.failure(f"{self.what} took more than {self.job.memory / 1e6:,.0f} MB of memory {stopped}")
            if spent - asked >= ASK:
                asked = spent
                if not alive():
                    return LeaseLost(f"{self.what} was stopped: the lease on this run is no longer held")
            _trim(self.log)

    def _read(self, result: Path, code: int) -> dict[str, Any]:
        try:
            told = json.loads(result.read_text())
        except (OSError, ValueError):
            told = None
        if not isinstance(told, dict) or "ok" not in told:
            raise self.failure(f"{self.what} {_ending(code)}; its output is in {self.log}")
        if told["ok"]:
            return told
        if told.get("full"):
            raise DiskFull(f"no space left under {self.job.folder}: {told.get('said')}")
        raise self.failure(f"{self.what} failed: {told.get('said')}; its output is in {self.log}")


def _scores(file: Path, child: _Child) -> pl.DataFrame:
    try:
        return pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise child.failure(f"{child.what} left no scores; its output is in {child.log}") from error


def resident(pid: int) -> int:
    """Bytes of memory held by a process and its offspring; 0 if it is gone."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_info().rss
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
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


def _task(job: Job, verb: str) -> dict[str, Any]:
    return {
        "verb": verb,
        "folder": str(job.folder.resolve()),
        "project": str(job.project.resolve()),
        "trainer": job.trainer,
        "parameters": dict(job.parameters),
        "seed": job.seed,
        "task": job.task,
        "target": job.target,
        "features": list(job.features),
        "categories": list(job.categories),
        "classes": list(job.classes),
        "positive": job.positive,
        "timed_rows": job.timed_rows,
    }


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
    if log.stat().st_size > LOG_AT_MOST:
        os.truncate(log, 0)
        most = LOG_AT_MOST // 2**20
        with log.open("ab") as file:
            file.write(f"[everfit: more than {most} MB were printed; what came before was cut off]\n".encode())


def _forget(folder: Path) -> None:
    """Remove the model of an earlier try, so that it is never taken for this one's."""
    if folder.exists():
        shutil.rmtree(folder)


def _ending(code: int) -> str:
    if code <= 128:
        return f"ended with exit code {code} and left no result"
    number = code - 128
    if number == signal.SIGKILL:
        return "was killed by the system, most likely for want of memory"
    known = {each.value: each.name for each in signal.Signals}
    return f"crashed ({known.get(number, f'signal {number}')})"
