"""Training and scoring in child processes, within limits of time and memory.

Takes a job and a question whether its lease is still held; gives a model's folder or scores; never lets a
child outlive the answer "no", its limits, or this process.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from everfit.adapters.process import LOOK, Watched, end, start
from everfit.adapters.scoring import IDLE, Question, ScoringChild
from everfit.clock import ticks
from everfit.errors import DiskFull, ModelUnusable, TrainingFailed
from everfit.ports import Job, Made


class ProcessTrainer:
    """Trains in a child of its own for each run, and scores in one that stays. Safe from several threads.

    Each job has a folder of its own. The scoring child ends after `idle` seconds without a question.
    """

    def __init__(self, idle: float = IDLE) -> None:
        self._scoring = ScoringChild(idle)

    def train(self, job: Job, alive: Callable[[], bool]) -> Made:
        """Train; the child is stopped when `alive` says no more, or a limit is passed.

        Raises:
            TrainingFailed: with the reason and the log's place.
            LeaseLost: `alive` said no.
            DiskFull: there was no space for the model.
        """
        watched = Watched(job, job.folder / "log.txt", TrainingFailed, alive)
        scores = job.folder / "scores.parquet"
        scores.unlink(missing_ok=True)
        _forget(job.folder / "model")
        since = ticks()
        result = _run(watched)
        folder = job.folder / "model"
        if not (folder / "model.json").is_file() or not isinstance(result.get("format"), str):
            raise TrainingFailed(f"{watched.what} left no model; its output is in {watched.log}")
        left = _scores(scores, watched) if scores.is_file() else None
        return Made(folder, result["format"], watched.log, ticks() - since, left)

    def score(self, model: Path, rows: Path, job: Job, alive: Callable[[], bool]) -> pl.DataFrame:
        """Score a Parquet file with a kept model: `_score`, `_prediction`; `_latency_ms` of timed rows.

        Raises:
            ModelUnusable: the model cannot predict these rows within the limits.
            LeaseLost: `alive` said no.
            DiskFull: there was no space for the scores.
        """
        return self._scoring.answer(Question(model, rows, job.timed_rows), _scored_under(job, alive))

    def score_each(
        self, models: Mapping[str, Path], rows: Path, job: Job, alive: Callable[[], bool]
    ) -> dict[str, pl.DataFrame | str]:
        """Score a Parquet file with many models: `_score` and `_prediction` of each, or the words of its failure.

        The limits of the job are those of each model for itself.

        Raises:
            LeaseLost: `alive` said no.
            DiskFull: there was no space for scores.
        """
        watched = _scored_under(job, alive)
        found: dict[str, pl.DataFrame | str] = {}
        for name, model in models.items():
            try:
                found[name] = self._scoring.answer(Question(model, rows), watched).drop("_latency_ms")
            except ModelUnusable as error:
                found[name] = str(error)
        return found


def _scored_under(job: Job, alive: Callable[[], bool]) -> Watched:
    log = job.folder / "score-log.txt"
    log.unlink(missing_ok=True)
    return Watched(job, log, ModelUnusable, alive)


def _run(watched: Watched) -> dict[str, Any]:
    """Have one training child do its work; what it told."""
    folder = watched.job.folder
    result = folder / "result.json"
    for old in (result, watched.log):
        old.unlink(missing_ok=True)
    task = folder / "task.json"
    task.write_text(json.dumps(_task(watched.job)))
    watched.begin(f"the trainer {watched.job.trainer}")
    with watched.log.open("ab") as log:
        process = start(["train", str(task.resolve())], watched.job.project, log)
    try:
        _wait(process, watched)
    finally:
        end(process)
    return _read(result, process.returncode, watched)


def _wait(process: subprocess.Popen[bytes], watched: Watched) -> None:
    """Wait until it ends.

    Raises:
        EverfitError: it has to be stopped.
    """
    most = watched.job.timeout.total_seconds()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK)
            return
        if (stopped := watched.look(process, most)) is not None:
            raise stopped


def _read(result: Path, code: int, watched: Watched) -> dict[str, Any]:
    try:
        told = json.loads(result.read_text())
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict) or "ok" not in told:
        raise watched.ended(code)
    if told["ok"]:
        return told
    if told.get("full"):
        raise DiskFull(f"no space left under {watched.job.folder}: {told.get('said')}")
    raise TrainingFailed(f"{watched.what} failed: {told.get('said')}; its output is in {watched.log}")


def _scores(file: Path, watched: Watched) -> pl.DataFrame:
    try:
        return pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TrainingFailed(f"{watched.what} left no scores; its output is in {watched.log}") from error


def _task(job: Job) -> dict[str, Any]:
    return {
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


def _forget(folder: Path) -> None:
    """Remove the model of an earlier try, so that it is never taken for this one's."""
    if folder.exists():
        shutil.rmtree(folder)
