"""The live flows over history: what a spec would have done, told by the very code that does it.

Takes labelled rows, a spec and a folder; gives the ledger and the score that each row would have been answered with;
never shows the flows a row or a label before its time, and never trains the same rows twice in one folder.

Everything is as live but where it lies: the lake, the ledger and the gateway are in memory, the clock is that of the
events, and rows are scored by the model that serves at their time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import polars as pl

from everfit.adapters.functions import functions_of
from everfit.adapters.models import Shelf
from everfit.adapters.trainer import ProcessTrainer
from everfit.adapters.trainer_code import code_key
from everfit.clock import LedClock
from everfit.errors import DiskFull, UsageError
from everfit.flows.collect import Collecting, collect
from everfit.flows.durable import Desk, Follower, Worker
from everfit.flows.hand import Hand
from everfit.flows.measure import Measure
from everfit.flows.steps import Steps
from everfit.flows.watch import Watch
from everfit.flows.work import Work, flows_of
from everfit.ids import content_key, issued_id
from everfit.observe.intake import Rules, take_history
from everfit.observe.options import Rows
from everfit.observe.schema import conform
from everfit.observe.window import window_of
from everfit.ports import Batch, Job, Made, Ports, Table, Trainer
from everfit.rollout.options import Rolling
from everfit.rollout.split import CHAMPION
from everfit.spec import Spec
from everfit.standing import Standing
from everfit.testing import in_memory

SCORES = pl.List(pl.Float64())
PARTS = 4  # of a window of rows: a new model serves from the next part on
SOURCE = "history"


@dataclass(frozen=True, slots=True)
class Lived:
    """What a spec would have done."""

    standing: Standing  # the fold of the ledger at the end
    rows: pl.DataFrame  # in time order: `_id` (place in the frame), `_time`, `_score` (null: nobody served), `_version`
    refused: int  # rows that could not be taken


@dataclass(frozen=True, slots=True)
class KeptTrainer:
    """A trainer that remembers models by everything that determines them: a second replay costs no training."""

    inner: Trainer
    root: Path

    def train(self, job: Job, alive: Callable[[], bool]) -> Made:
        """Train, or give back what the same rows, code and parameters gave before."""
        kept = self.root / self._key(job)
        if not (kept / "model").is_dir():
            _keep(self.inner.train(job, alive), kept)
        seconds, kind = (kept / "made").read_text().split(" ", 1)
        scores = kept / "scores.parquet"
        left = pl.read_parquet(scores) if scores.is_file() else None
        return Made(kept / "model", kind, kept / "made", float(seconds), left)

    def score(self, model: Path, rows: Path, job: Job, alive: Callable[[], bool]) -> pl.DataFrame:
        """Score a Parquet file with a kept model."""
        return self.inner.score(model, rows, job, alive)

    def score_each(
        self, models: Mapping[str, Path], rows: Path, job: Job, alive: Callable[[], bool]
    ) -> dict[str, pl.DataFrame | str]:
        """Score a Parquet file with several kept models."""
        return self.inner.score_each(models, rows, job, alive)

    def _key(self, job: Job) -> str:
        given = [job.folder / name for name in ("train.parquet", "holdout.parquet")]
        read = [pl.read_parquet(file).hash_rows(seed=0).to_numpy() for file in given if file.is_file()]
        rows = [blake2b(hashes.tobytes(), digest_size=10).hexdigest() for hashes in read]
        code = code_key(job.project, job.trainer)
        told = (job.trainer, dict(job.parameters), job.seed, job.task, job.target, job.features, job.categories)
        return content_key(rows, code, told, job.classes, job.positive, job.timed_rows)


def _keep(made: Made, kept: Path) -> None:
    """Copy a model to where it is looked for, whole or not at all; another replay may have come first."""
    arriving = kept.with_name(f".{kept.name}.{issued_id()}")
    try:
        shutil.copytree(made.folder, arriving / "model")
        (arriving / "made").write_text(f"{made.seconds} {made.format}")
        if made.scores is not None:
            made.scores.write_parquet(arriving / "scores.parquet")
        arriving.rename(kept)
    except OSError as error:
        if not (kept / "model").is_dir():
            raise DiskFull(f"a model cannot be kept in {kept.parent}: {error}; free some space, run again") from error
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replay works."""

    project: Path  # the folder of the trainer's module
    cache: Path  # where trained models are kept
    trainer: Trainer = field(default_factory=ProcessTrainer)
    begin: datetime | None = None  # rows before are history that is there at once, as a file; None: nothing is
    name: str = "live"  # of its folder in the cache: replays at the same time share what is trained, and nothing else


def live(frame: pl.DataFrame, spec: Spec, place: Place, tell: Callable[[datetime], None] = lambda _: None) -> Lived:
    """Live through a history under a spec.

    Args:
        frame: labelled rows with the spec's time, target and features; the place of a row is its id.
        spec: the spec.
        place: where it works.
        tell: told the time as it passes.

    Raises:
        Refused: a column has a name that is ours, or the target is not there.
        UsageError: no row has a time.
    """
    rules = Rules(spec.task, spec.target, spec.time, None, spec.positive, spec.observe.ahead_at_most)
    placed = frame.drop(spec.id or [], strict=False).with_row_index("_id")
    predictions, labels = take_history(placed, rules, now=None, issue=str)
    if predictions.rows.is_empty():
        raise UsageError(f"no row can be replayed: {predictions.reasons()}")
    arrived = labels.rows.with_columns(pl.col("_arrived") + spec.observe.labels_mature_after)
    history = _History(spec, place, rules)
    standing = history.play(predictions.rows, arrived, tell, place.begin)
    return Lived(standing, history.answered(), predictions.refused.height + labels.refused.height)


class _History:
    """One history on its way through the flows."""

    def __init__(self, spec: Spec, place: Place, rules: Rules) -> None:
        self._spec, own, project = spec, place.cache / place.name, place.project
        self._clock = LedClock(lambda: None, lambda _: None)
        (place.cache / "trained").mkdir(parents=True, exist_ok=True)
        trainer = KeptTrainer(place.trainer, place.cache / "trained")
        self._ports: Ports = replace(in_memory(self._clock), trainer=trainer, models=Shelf(own / "models"))
        desk = Desk(self._ports.ledger, self._ports.leases, self._clock.now, Worker("replay"))
        self._follower = Follower(self._ports.ledger, spec.model)
        functions = functions_of(spec.functions, project)
        # Nobody sends requests in a backtest, and no traffic is never success: versions go live all at once.
        at_once = spec.model_copy(update={"rollout": Rolling(keep=spec.rollout.keep)})
        self._steps = Steps(at_once, project, own / "runs", self._ports, replay=True, functions=functions)
        hand, steps = Hand(self._ports.notes), self._steps
        measure = Measure(spec, self._ports.lake, hand, steps.shadow, functions, steps.shadows)
        self._watch = Watch(spec, desk, measure, self._follower, functions)
        self._work = Work(desk, Follower(self._ports.ledger, spec.model), flows_of(self._steps), _raise)
        self._collecting = Collecting(rules, SOURCE, spec.features)
        self._answered: list[pl.DataFrame] = []

    def play(
        self, rows: pl.DataFrame, labels: pl.DataFrame, tell: Callable[[datetime], None], begin: datetime | None
    ) -> Standing:
        """Let time pass from the first row, or from `begin`, to the last label."""
        rows, labels = rows.sort("_time", maintain_order=True), labels.sort("_arrived", maintain_order=True)
        if begin is not None:
            before = rows.filter(pl.col("_time") < begin)
            self._take(before, labels.filter(pl.col("_arrived") < begin))
            self._pass_time(before["_time"].to_list()[-1] if before.height else begin)
            rows, labels = rows.filter(pl.col("_time") >= begin), labels.filter(pl.col("_arrived") >= begin)
        last: datetime = rows["_time"][-1]
        arrived: datetime = labels["_arrived"].max() or last  # type: ignore[assignment]
        end = max(arrived, self._matured(last)) + timedelta(microseconds=1)
        for start, stop in self._slots(rows["_time"], begin or rows["_time"][0], end):
            at = start
            while at < stop:
                self._pass_time(at)
                until = self._next_event(at, stop)
                self._take(
                    rows.filter(pl.col("_time").is_between(at, until, closed="left")),
                    labels.filter(pl.col("_arrived").is_between(at, until, closed="left")),
                )
                at = until
            tell(stop)
        self._pass_time(end)
        return self._follower.standing()

    def _matured(self, last: datetime) -> datetime:
        """When the window of the last row has matured; one of rows may never be full."""
        observe = self._spec.observe
        closed = last if isinstance(observe.window, Rows) else window_of(last, observe).end
        return closed + observe.late_by + observe.labels_mature_after

    def answered(self) -> pl.DataFrame:
        """Every row with the score that it was answered with, in time order."""
        return pl.concat(self._answered)

    def _slots(self, times: pl.Series, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Spans in which rows come together: windows of time, or parts of windows of rows."""
        window = self._spec.observe.window
        if isinstance(window, Rows):
            marks = times.gather_every(max(1, window.rows // PARTS)).unique(maintain_order=True).to_list()
            yield from pairwise(dict.fromkeys([start, *marks, end]))
            return
        while start < end:
            stop = min(window_of(start, self._spec.observe).end, end)
            yield start, stop
            start = stop

    def _next_event(self, start: datetime, stop: datetime) -> datetime:
        """The next moment at which something is due: rows after it may meet another model."""
        coming = [due.at for due in self._watch.due(stop) if due.at > start]
        wake = self._watch.next_alarm_clock(start, stop)
        return min([*coming, *([wake.at] if wake else []), stop])

    def _pass_time(self, until: datetime) -> None:
        """Everything that is due up to a moment happens, in order."""
        while True:
            self._finish()
            due = self._watch.due(until)
            wake = self._watch.next_alarm_clock(self._clock.now(), until)
            coming = min([*due, *([wake] if wake else [])], default=None)
            if coming is None:
                break
            self._clock.move(coming.at)
            self._watch.visit(coming)
        self._clock.move(until)
        self._watch.decide()
        self._finish()

    def _finish(self) -> None:
        while self._work.tick():
            continue

    def _take(self, rows: pl.DataFrame, labels: pl.DataFrame) -> None:
        """Rows are answered by the model that serves, and reach the lake with their labels' like."""
        if rows.height:
            rows = self._answer(rows)
            self._answered.append(rows.select("_id", "_time", "_score", "_version"))
        journal = self._ports.journal
        journal.append([Batch(Table.PREDICTIONS, rows), Batch(Table.LABELS, labels)])
        while journal.waiting(1):
            standing = self._follower.standing()
            schema, closed = standing.schema, standing.closed_until
            came = collect(journal, self._ports.lake, self._collecting, schema=schema, closed_until=closed)
            if came.learned and came.schema is not None:
                self._watch.learn(came.schema)
            elif came.upto == 0:
                return  # too few rows to learn the columns from

    def _answer(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What the serving model says of rows, as the server's log would hold it."""
        route, standing = self._ports.gateway.live(self._spec.model), self._follower.standing()
        if route is None or standing.schema is None:
            return rows.with_columns(_score=pl.lit(None, dtype=SCORES), _version=pl.lit(None, dtype=pl.Int64))
        kept = standing.bench[route.candidate]
        fitting = conform(rows, standing.schema).rows
        said = self._steps.shadow(kept, fitting).select("_score", "_prediction")
        told = fitting.select("_id").hstack(said).with_columns(
            _model=pl.lit(route.candidate), _version=pl.lit(route.version, dtype=pl.Int64), _variant=pl.lit(CHAMPION)
        )  # fmt: skip
        return rows.join(told, on="_id", how="left", maintain_order="left")


def _raise(run: str, follows: str, error: Exception) -> None:
    """A replay has nobody who would read a log: what fails unexpectedly fails aloud."""
    raise error
