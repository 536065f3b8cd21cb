"""A trainer in memory that learns: which column ranks the labels best, and in which direction.

Takes what `MemoryTrainer` takes; gives models that are wrong once the world turns; never starts a process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from everfit.ports import Job, Made
from everfit.testing import MemoryTrainer


class LearningTrainer(MemoryTrainer):
    """`MemoryTrainer` of two classes whose one parameter is learned; `rows` are those that each training saw."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def train(self, job: Job, alive: Callable[[], bool]) -> Made:
        """Keep the column that goes along with the label, and whether it goes up or down with it."""
        made = super().train(job, alive)
        rows = pl.read_parquet(job.folder / "train.parquet")
        self.rows.append(rows.height)
        truth = (rows[job.target] == job.classes[-1]).to_numpy().astype(np.float64)
        numbers = [name for name in job.features if rows[name].dtype.is_float()]
        along = {name: float(np.corrcoef(rows[name].to_numpy(), truth)[0, 1]) for name in numbers}
        by = max(along, key=lambda name: abs(along[name]))
        file = made.folder / "model.json"
        told = json.loads(file.read_text())
        file.write_text(json.dumps(told | {"by": by, "sign": float(np.sign(along[by]))}))
        return made

    def score(self, model: Path, rows: Path, job: Job, alive: Callable[[], bool]) -> pl.DataFrame:
        """Score by the column; turned round where it goes down with the label."""
        scored = super().score(model, rows, job, alive)
        if json.loads((model / "model.json").read_text())["sign"] > 0:
            return scored
        turned = scored.with_columns(_score=pl.col("_score").list.reverse())
        likelier = pl.col("_score").list.arg_max().replace_strict(dict(enumerate(job.classes)), return_dtype=pl.String)
        return turned.with_columns(_prediction=likelier)
