"""Trainer, shelf, registry, gateway and teller without a service.

Takes what the real ones take; gives what they give; never starts a process. Training writes one small file, for a
model is a folder.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl

from everfit.errors import Conflict, LeaseLost, ModelUnusable
from everfit.ids import content_key
from everfit.ports import ALL_OF_IT, Alert, Job, Made, Registration, Route, check_trial
from everfit.retrain.candidate import Candidate, ModelFile


class MemoryModels:
    """`ports.Models` that remembers folders where they lie, by their content."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}

    def keep(self, folder: Path, format: str) -> ModelFile:
        """Remember a model's folder."""
        content = [(file.name, file.read_bytes().hex()) for file in sorted(folder.iterdir()) if file.is_file()]
        key = content_key("model", content)
        self._folders.setdefault(key, folder)
        return ModelFile(key, format, sum(len(text) // 2 for _, text in content))

    def path(self, file: ModelFile) -> Path:
        """Where it lies."""
        if file.key not in self._folders:
            raise ModelUnusable(f"model {file.key} is not on this shelf")
        return self._folders[file.key]

    def drop(self, file: ModelFile) -> None:
        """Forget it."""
        self._folders.pop(file.key, None)


class MemoryRegistry:
    """`ports.Registry` in memory: `added`, `said` and `names` show what was told, by model."""

    def __init__(self) -> None:
        self.added: dict[str, list[Registration]] = {}
        self.said: dict[tuple[str, int], dict[str, float | str]] = {}
        self.names: dict[str, dict[str, int]] = {}

    def add(self, model: str, registration: Registration) -> int:
        """Register a candidate; its version, the same for a known one."""
        known = self.added.setdefault(model, [])
        ids = [each.candidate.id for each in known]
        if registration.candidate.id not in ids:
            known.append(registration)
            return len(known)
        return ids.index(registration.candidate.id) + 1

    def describe(self, model: str, version: int, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Add metrics and tags to a version."""
        self.said.setdefault((model, version), {}).update({**metrics, **tags})

    def alias(self, model: str, names: Mapping[str, int | None]) -> None:
        """Point aliases; None removes one."""
        now = {**self.names.get(model, {}), **names}
        self.names[model] = {name: version for name, version in now.items() if version is not None}

    def aliases(self, model: str) -> dict[str, int]:
        """Where the aliases point."""
        return dict(self.names.get(model, {}))


class MemoryGateway:
    """`ports.Gateway` in memory: `pointed` shows every change of the route; `answering` is what servers confirm.

    `answering` may raise ModelUnusable, as servers do that cannot keep a challenger.
    """

    can = ALL_OF_IT

    def __init__(self) -> None:
        self.pointed: list[Route] = []
        self.published: dict[str, int] = {}
        self.answering: Callable[[Route], bool] = lambda _: True
        self._live: dict[str, Route] = {}
        self._seen: dict[tuple[str, str], Route] = {}
        self._alone = threading.Lock()

    def publish(self, candidate: Candidate, version: int, folder: Path) -> None:
        """Make a model loadable."""
        self.published[candidate.id] = version

    def point(self, model: str, route: Route, *, after: str | None = None) -> None:
        """Send traffic to published models; a key counts once."""
        if route.trial is not None:
            check_trial(route)
        with self._alone:
            self._point(model, route, after)

    def _point(self, model: str, route: Route, after: str | None) -> None:
        live, before = self._live.get(model), self._seen.get((model, route.key))
        if before is not None:
            if before != route:
                raise Conflict(f"the cause {route.key} already pointed to {before}")
            if live is not None and live.key != route.key:
                raise ModelUnusable(f"{route.candidate} went live by {route.key} before, and {live.key} came after it")
            return
        now = live.key if live else ""
        if after is not None and after != now:
            raise Conflict(f"{now or 'nothing'} is live and not {after or 'nothing'}")
        for name in {route.candidate, route.trial.candidate if route.trial else route.candidate} - {*self.published}:
            raise ModelUnusable(f"candidate {name} is not published")
        self._seen[model, route.key] = route
        self._live[model] = route
        self.pointed.append(route)

    def live(self, model: str) -> Route | None:
        """Where traffic was last told to go."""
        return self._live.get(model)

    def confirmed(self, model: str) -> bool:
        """Whether servers answer with it."""
        route = self._live.get(model)
        return route is None or self.answering(route)

    def withdraw(self, model: str, candidate: str) -> None:
        """Make a model unloadable, unless it is live."""
        live = self._live.get(model)
        if live is None or candidate not in {live.candidate, live.trial.candidate if live.trial else ""}:
            self.published.pop(candidate, None)


class MemoryTrainer:
    """`ports.Trainer` without a child: a model that ranks by one number column, the parameter `by`.

    Without the parameter it is the first feature. Classification: the class later in order is likelier where the
    column is larger. Regression: the column itself. Give `fails` to let training raise.
    """

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails = fails
        self.trained: list[Job] = []

    def train(self, job: Job, alive: Callable[[], bool]) -> Made:
        """Write the model's one parameter into its folder."""
        self.trained.append(job)
        if self.fails is not None:
            raise self.fails
        if not alive():
            raise LeaseLost(f"the lease of {job.folder.name} was lost")
        rows = pl.read_parquet(job.folder / "train.parquet").hash_rows().sort().to_numpy().tobytes()
        told = {"by": job.parameters.get("by", job.features[0]), "rows": blake2b(rows, digest_size=8).hexdigest()}
        name = job.folder / "model"
        name.mkdir(parents=True, exist_ok=True)
        (name / "model.json").write_text(json.dumps(told))
        return Made(name, "memory", job.folder / "log", 0.0)

    def score(self, model: Path, rows: Path, job: Job, alive: Callable[[], bool]) -> pl.DataFrame:
        """Score rows by the model's column."""
        try:
            by = json.loads((model / "model.json").read_text())["by"]
        except (OSError, ValueError, KeyError) as error:
            raise ModelUnusable(f"{model} holds no model that this trainer wrote: {error}") from error
        frame = pl.read_parquet(rows)
        if by not in frame.columns:
            raise ModelUnusable(f"the model ranks by {by!r}, which is not among the columns")
        values = frame[by].cast(pl.Float64).fill_null(0.0).to_numpy()
        if job.task == "regression":
            answered = _listed(values[:, None])
            return answered.with_columns(_prediction=pl.lit(None, dtype=pl.String))
        chances = _chances(values, len(job.classes))
        said = [job.classes[place] for place in chances.argmax(axis=1)]
        return _listed(chances).with_columns(_prediction=pl.Series(said, dtype=pl.String))

    def score_each(
        self, models: Mapping[str, Path], rows: Path, job: Job, alive: Callable[[], bool]
    ) -> dict[str, pl.DataFrame | str]:
        """Score rows by the column of each model; a failure is told in words."""
        found: dict[str, pl.DataFrame | str] = {}
        for name, model in models.items():
            if not alive():
                raise LeaseLost(f"the lease of {job.folder.name} was lost")
            try:
                found[name] = self.score(model, rows, job, alive)
            except ModelUnusable as error:
                found[name] = str(error)
        return found


def _chances(values: np.ndarray, classes: int) -> np.ndarray:
    """Chances that lean to later classes as the value grows, shape (rows, classes)."""
    with np.errstate(invalid="ignore"):  # nothing times infinity
        leaning = values[:, None] * (np.arange(classes) / max(1, classes - 1))
    weights = np.exp(np.clip(np.nan_to_num(leaning, nan=30.0), -30.0, 30.0))
    chances: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return chances


def _listed(scores: np.ndarray) -> pl.DataFrame:
    """A column `_score` with a list of numbers for each row."""
    return pl.DataFrame(
        {"_score": pl.Series(scores, dtype=pl.Array(pl.Float64, scores.shape[1])).cast(pl.List(pl.Float64))}
    )


class SilentTeller:
    """`ports.Teller` that keeps what it was told, and answers with an outcome for each channel.

    >>> from everfit.ports import Severity
    >>> SilentTeller({"mail": "told"}).tell(Alert("k", Severity.INFO, "title", "text"))
    {'mail': 'told'}
    """

    def __init__(self, outcome: Mapping[str, str] | None = None) -> None:
        self.alerts: list[Alert] = []
        self.outcome = dict(outcome or {})

    def tell(self, alert: Alert) -> dict[str, str]:
        """Keep it."""
        self.alerts.append(alert)
        return dict(self.outcome)
