"""What models say of rows that they did not answer: asked in a child, or as their training left it.

Takes a spec, a place for runs and the ports; gives scores beside rows; never lets a model of the user's run in the
worker's own process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from everfit.detect.outcomes import Outcomes, outcomes_from
from everfit.errors import ModelUnusable
from everfit.flows.answers import kept_scores
from everfit.flows.durable import Alive
from everfit.ports import Job, Ports
from everfit.retrain.candidate import Candidate
from everfit.retrain.dataset import feature_frame, trained_on
from everfit.retrain.recipe import Recipe
from everfit.spec import Spec
from everfit.standing import Kept

TIMED_ROWS = 50  # single rows that are timed when the spec limits latency


@dataclass(frozen=True, slots=True)
class Scoring:
    """Asks kept models of one spec."""

    spec: Spec
    project: Path
    runs: Path
    ports: Ports

    def job(self, folder: Path, recipe: Recipe, classes: Sequence[str]) -> Job:
        """What a child is told."""
        options = self.spec.train
        categories = tuple(column.name for column in recipe.schema.features if column.kind == "category")
        return Job(
            folder=folder, project=self.project, trainer=recipe.trainer, parameters=recipe.parameters, seed=recipe.seed,
            task=recipe.task, target=recipe.target, features=trained_on(recipe), categories=categories,
            classes=tuple(classes), timeout=options.timeout, memory=options.memory, positive=self.positive(classes),
            timed_rows=TIMED_ROWS if self.spec.judge.limits.latency_p99 else 0,
        )  # fmt: skip

    def positive(self, classes: Sequence[str]) -> str | None:
        """The class that a single score means."""
        if self.spec.task != "binary":
            return None
        return self.spec.positive or (classes[-1] if classes else None)

    def scored(self, run: str, candidate: Candidate, rows: pl.DataFrame, recipe: Recipe, alive: Alive) -> pl.DataFrame:
        """Rows with a model's scores, for a run: as its training left them, else made in a child.

        A model that crashes must not take the worker along.
        """
        folder = self.runs / run
        folder.mkdir(parents=True, exist_ok=True)
        job = self.job(folder, recipe, candidate.classes)
        kept = None if job.timed_rows else kept_scores(folder, candidate.file, rows)
        if kept is not None:
            return rows.drop(kept.columns, strict=False).hstack(kept)
        file = folder / "holdout.parquet"
        feature_frame(rows, recipe).write_parquet(file)
        scores = self.ports.trainer.score(self.ports.models.path(candidate.file), file, job, alive)
        return rows.drop(scores.columns, strict=False).hstack(scores)

    def each(self, kept: Sequence[Kept], rows: pl.DataFrame) -> dict[str, pl.DataFrame | str]:
        """What kept models say of rows, asked in one child: by candidate its scores, or the words of its failure.

        Models whose files were dropped are left out.
        """
        folder = self.runs / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        told: dict[str, pl.DataFrame | str] = {}
        for group in _alike(kept):
            first = group[0]
            paths = {each.candidate.id: path for each in group if (path := self._path(each)) is not None}
            if not paths:
                continue
            file = folder / "rows.parquet"
            feature_frame(rows, first.recipe).write_parquet(file)
            job = self.job(folder, first.recipe, first.candidate.classes)
            told |= self.ports.trainer.score_each(paths, file, job, lambda: True)
        return told

    def one(self, kept: Kept, rows: pl.DataFrame) -> pl.DataFrame:
        """What a kept model would have answered to rows that it did not serve.

        Raises:
            ModelUnusable: its files are gone, or it cannot predict these rows.
        """
        folder = self.runs / "shadow"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "rows.parquet"
        feature_frame(rows, kept.recipe).write_parquet(file)
        job = self.job(folder, kept.recipe, kept.candidate.classes)
        return self.ports.trainer.score(self.ports.models.path(kept.candidate.file), file, job, lambda: True)

    def _path(self, kept: Kept) -> Path | None:
        try:
            return self.ports.models.path(kept.candidate.file)
        except ModelUnusable:
            return None


def outcomes_of(scored: pl.DataFrame, candidate: Candidate) -> Outcomes:
    """Truth beside a candidate's scores."""
    return outcomes_from(scored, task=candidate.task, classes=candidate.classes, positive=candidate.positive)


def same_order(scored: pl.DataFrame, theirs: Candidate, ours: Candidate) -> pl.DataFrame:
    """Scores of another model in our order of classes; a class that it does not know has no chance."""
    if theirs.classes == ours.classes:
        return scored
    places = [theirs.classes.index(name) if name in theirs.classes else None for name in ours.classes]
    parts = [pl.lit(0.0) if place is None else pl.col("_score").list.get(place) for place in places]
    return scored.with_columns(_score=pl.concat_list(parts))


def _alike(kept: Sequence[Kept]) -> list[list[Kept]]:
    """Models that can be asked together: of the same columns, classes and trainer."""
    groups: dict[tuple[object, ...], list[Kept]] = {}
    for each in kept:
        made = each.candidate
        groups.setdefault((*made.schema.names(), made.classes, each.recipe.trainer), []).append(each)
    return list(groups.values())
