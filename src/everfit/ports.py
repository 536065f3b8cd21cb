"""The outside world on one page, as Protocols of at most five verbs.

Takes nothing; gives the shapes that adapters have and that fakes in `everfit.testing` have too; never imports either.
Every port may raise `Unavailable` when what stands behind it is away; the flow then sleeps and tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from everfit.clock import Clock
from everfit.facts import Fact
from everfit.ledger import Entry
from everfit.retrain.candidate import Candidate, ModelFile
from everfit.retrain.recipe import LakeVersion
from everfit.rollout.route import ALL_OF_IT as ALL_OF_IT  # noqa: PLC0414 - adapters look for them on this page
from everfit.rollout.route import Can as Can  # noqa: PLC0414 - as above
from everfit.rollout.route import Route as Route  # noqa: PLC0414 - as above
from everfit.rollout.route import Trial as Trial  # noqa: PLC0414 - as above
from everfit.rollout.route import check_can as check_can  # noqa: PLC0414 - as above
from everfit.rollout.route import check_trial as check_trial  # noqa: PLC0414 - as above


class Table(StrEnum):
    """The event tables. Their columns stand in `everfit.observe.intake`."""

    PREDICTIONS = "predictions"
    LABELS = "labels"
    REFUSED = "refused"
    SHADOW = "shadow"  # what a challenger said of rows that the champion answered, and where it failed


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as they were acknowledged."""

    table: Table
    rows: pl.DataFrame
    number: int = 0  # place in the journal; 0 before it is known


class Journal(Protocol):
    """Where rows are made durable before they are acknowledged. One journal has one mover.

    Duty: when `append` returns, the rows survive `kill -9` and power loss. Thread-safe.
    """

    def append(self, batches: Sequence[Batch]) -> int:
        """Make batches durable in one commit; the number of the last."""
        ...

    def waiting(self, most_rows: int) -> list[Batch]:
        """The oldest batches that were not forgotten, in order; whole batches, at least one if any is there."""
        ...

    def known(self, table: Table, ids: Sequence[str]) -> dict[str, str]:
        """Which of these ids were taken before, with the fingerprint of what they said."""
        ...

    def forget(self, upto: int, taken: Mapping[Table, Mapping[str, str]]) -> None:
        """Drop batches up to a number that are safe elsewhere and remember the ids they brought, in one commit."""
        ...

    def last(self) -> int:
        """The number of the last acknowledged batch; 0 if none ever was."""
        ...


class Lake(Protocol):
    """The event tables. Reads see completed writes; a version, once read, stays readable."""

    def add(self, table: Table, rows: pl.DataFrame, *, source: str, batch: int) -> None:
        """Append rows exactly once: a `batch` at or below the last one of this `source` and table is skipped."""
        ...

    def added(self, table: Table, source: str) -> int:
        """The last batch of a source that the table holds; 0 if none."""
        ...

    def read(
        self, table: Table, *, since: datetime | None, until: datetime | None, version: int | None = None
    ) -> pl.LazyFrame:
        """Rows whose `_time` (labels and refused: `_arrived`) lies in `[since, until)`, pinned or newest."""
        ...

    def version(self) -> LakeVersion:
        """The newest version of the tables."""
        ...

    def tidy(self, before: datetime) -> int:
        """Merge the small files of days before a moment; the number of files saved. Pinned versions stay readable."""
        ...


class Ledger(Protocol):
    """Append-only events. One writer wins each (model, run, step); the others get `Conflict`."""

    def read(self, model: str, *, run: str | None = None, after: int = 0) -> list[Entry]:
        """Entries of a model in order, of one run or of all, after a number."""
        ...

    def append(self, write: Write) -> Entry:
        """Write one fact.

        Raises:
            Conflict: this run already has this step.
            LeaseLost: `write.lease` is no longer held.
        """
        ...

    def due(self, model: str, now: datetime) -> list[str]:
        """Runs that have not ended and whose `wake_at` has come, oldest first."""
        ...

    def sleepers(self, model: str) -> dict[str, datetime]:
        """Runs that have not ended, with the moment at which each wakes."""
        ...

    def models(self) -> list[str]:
        """Every model that the ledger knows, by name."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on something, for a while."""

    name: str
    owner: str
    token: int  # rises with every change of hands


@dataclass(frozen=True, slots=True)
class Write:
    """One fact on its way into the ledger."""

    model: str
    run: str
    step: int  # 1 for the first fact of a run; the writer says which step it believes comes next
    fact: Fact
    at: datetime  # in the model's clock
    by: str
    wake_at: datetime | None = None  # when the run goes on; None: at once
    ends: bool = False  # the run is over
    lease: Lease | None = None


class Leases(Protocol):
    """Who may work on what. Times are the database's, so that machines need not agree on the hour."""

    def take(self, name: str, owner: str, hold: timedelta) -> Lease | None:
        """Take a free or expired lease; None if somebody holds it."""
        ...

    def beat(self, lease: Lease, hold: timedelta) -> bool:
        """Hold on; False if it was lost."""
        ...

    def drop(self, lease: Lease) -> None:
        """Give it back; a no-op if it was lost."""
        ...


class Notes(Protocol):
    """Small values beside the ledger: profiles by content, and marks that may change. Nothing is decided from marks."""

    def put(self, content: bytes) -> str:
        """Keep bytes; their content key."""
        ...

    def get(self, key: str) -> bytes:
        """Bytes that were put."""
        ...

    def mark(self, name: str, value: str) -> None:
        """Set a mark."""
        ...

    def marked(self, name: str) -> str | None:
        """Read a mark; None if it was never set."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """What a training child is told."""

    folder: Path  # its own; it reads `train.parquet` and `holdout.parquet` (no labels) here and writes here only
    project: Path  # where the trainer's module is imported from
    trainer: str
    parameters: Mapping[str, object]
    seed: int
    task: str
    target: str
    features: tuple[str, ...]
    categories: tuple[str, ...]
    classes: tuple[str, ...]
    timeout: timedelta
    memory: int  # bytes
    positive: str | None = None  # the class that a single score means
    timed_rows: int = 0  # `score` times so many single rows; 0: none, and `train` scores `holdout.parquet` too


@dataclass(frozen=True, slots=True)
class Made:
    """What a training child left behind."""

    folder: Path  # the model's folder, ready for `Models.keep`
    format: str
    log: Path
    seconds: float
    scores: pl.DataFrame | None = None  # `holdout.parquet` as `score` scores it; None if rows are to be timed


class Trainer(Protocol):
    """Runs training and scoring in child processes. Thread-safe."""

    def train(self, job: Job, alive: Callable[[], bool]) -> Made:
        """Train; stop the child when `alive` says no more, or its limits are passed.

        Raises:
            TrainingFailed: with the reason and the log's place.
            LeaseLost: `alive` said no.
        """
        ...

    def score(self, model: Path, rows: Path, job: Job, alive: Callable[[], bool]) -> pl.DataFrame:
        """Score a Parquet file with a kept model, in a child: columns `_score` (list of float), `_prediction`.

        Raises:
            ModelUnusable: the model cannot predict these rows.
        """
        ...

    def score_each(
        self, models: Mapping[str, Path], rows: Path, job: Job, alive: Callable[[], bool]
    ) -> dict[str, pl.DataFrame | str]:
        """Score a Parquet file with many kept models: what `score` gives for each, or the words of its failure.

        A model fails for itself alone, and has the limits of `job` for itself. Rows are not timed.

        Raises:
            LeaseLost: `alive` said no.
        """
        ...


class Models(Protocol):
    """The shelf of model files, by content. `keep` with a known content is a no-op."""

    def keep(self, folder: Path, format: str) -> ModelFile:
        """Copy a model's folder onto the shelf."""
        ...

    def path(self, file: ModelFile) -> Path:
        """Where it lies on this machine.

        Raises:
            ModelUnusable: it is gone, or its bytes are not the ones that were judged.
        """
        ...

    def drop(self, file: ModelFile) -> None:
        """Remove it; a no-op if it is gone."""
        ...


class Predictor(Protocol):
    """A loaded model."""

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        """Scores, shape (rows, classes) for classification, (rows, 1) for regression.

        Raises:
            ModelUnusable: the model cannot predict these rows.
        """
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """What the registry shall know of a candidate."""

    candidate: Candidate
    folder: Path
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]  # data version, code version, reference profile, cause


class Registry(Protocol):
    """Where people look models up. `add` with a known candidate gives its version again."""

    def add(self, model: str, registration: Registration) -> int:
        """Register a candidate; its version."""
        ...

    def describe(self, model: str, version: int, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Add metrics and tags to a version."""
        ...

    def alias(self, model: str, names: Mapping[str, int | None]) -> None:
        """Point aliases (champion, challenger, previous) to versions; None removes one."""
        ...

    def aliases(self, model: str) -> dict[str, int]:
        """Where the aliases point."""
        ...


class Gateway(Protocol):
    """What stands before the models and sends traffic to one of them, or shares it out while another is tried."""

    @property
    def can(self) -> frozenset[Can]:
        """What it can do beside sending all traffic to one model; read when a release is planned."""
        ...

    def publish(self, candidate: Candidate, version: int, folder: Path) -> None:
        """Make a model loadable; no traffic yet."""
        ...

    def point(self, model: str, route: Route, *, after: str | None = None) -> None:
        """Send traffic to published models; `after` is the key that must be live still ("": none), where it matters.

        Raises:
            ModelUnusable: a model was not published, or this key pointed before and another came after it.
            Conflict: another key than `after` is live, or the key pointed to something else before.
            UsageError: a share of the trial lies outside its bounds.
        """
        ...

    def live(self, model: str) -> Route | None:
        """Where traffic was last told to go."""
        ...

    def confirmed(self, model: str) -> bool:
        """Whether every server that is up follows the route that `live` names, its challenger loaded and warm.

        Raises:
            ModelUnusable: with a server's words, when it cannot load the challenger of this route, or not keep it up.
        """
        ...

    def withdraw(self, model: str, candidate: str) -> None:
        """Make a model unloadable; a no-op if it is live or unknown."""
        ...


class Severity(StrEnum):
    """How loud an alert is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a person should hear."""

    key: str  # the same key is told once
    severity: Severity
    title: str
    text: str
    details: Mapping[str, object] = field(default_factory=dict)


class Teller(Protocol):
    """Channels to people. Telling never raises: what failed is returned and recorded."""

    def tell(self, alert: Alert) -> dict[str, str]:
        """Send to every channel; channel (without secrets) -> "told", "quiet" (below its severity) or the failure."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The whole outside world of one model, wired in `everfit.app` and nowhere else."""

    clock: Clock
    journal: Journal
    lake: Lake
    ledger: Ledger
    leases: Leases
    notes: Notes
    trainer: Trainer
    models: Models
    registry: Registry
    gateway: Gateway
    teller: Teller
