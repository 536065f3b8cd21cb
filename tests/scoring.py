"""A trainer in memory that says of the held-out rows what its model says, as the training child does.

Takes what `MemoryTrainer` takes; gives scores with the model; never trains by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import polars as pl

from everfit.ports import Job, Made
from everfit.testing import MemoryTrainer


class ScoringTrainer(MemoryTrainer):
    """`MemoryTrainer` with scores; `rows` are those that each training saw."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def train(self, job: Job, alive: Callable[[], bool]) -> Made:
        """Train and score."""
        made = super().train(job, alive)
        self.rows.append(pl.read_parquet(job.folder / "train.parquet").height)
        return replace(made, scores=self.score(made.folder, job.folder / "holdout.parquet", job, alive))
