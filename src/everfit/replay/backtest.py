"""What would each policy have done for this model? One frame of history in, scores and costs of all policies out.

Takes a labelled frame in time order and options; gives a `Backtest`; never trains a model twice, and starts nothing
anew after a kill: what was trained lies in the cache folder by its content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from everfit.adapters.cells import CellTask
from everfit.adapters.pool import CellPool, Limits, Progress
from everfit.adapters.trainer_code import code_key
from everfit.decide.bench_options import BenchOptions
from everfit.detect.catalogue import METRICS, check_metric, default_metric
from everfit.detect.outcomes import Outcomes
from everfit.detect.performance import level
from everfit.errors import Refused, UsageError
from everfit.ids import content_key
from everfit.observe.options import FeatureOptions, Kind
from everfit.observe.schema import Schema, class_text, conform, learn
from everfit.replay.advise import Advice, advise
from everfit.replay.gains import Result, ages, results
from everfit.replay.matrix import Cell, Cut, Matrix, even_cut
from everfit.replay.oracle import Hindsight, best_schedules
from everfit.replay.policies import NAMES, play_policy
from everfit.replay.portrait import Portrait

MOST_CLASSES = 100  # whole numbers or texts of more values than this are no classes
ORACLE = (1, 2, 3, 5, 8, 12, 18)  # retrains of the best schedules in hindsight
UNTRAINED = (Kind.TEXT, Kind.VECTOR)


@dataclass(frozen=True, slots=True)
class BacktestOptions:
    """What to replay."""

    target: str
    cache: Path  # where trained models' scores are kept
    time: str | None = None  # orders the rows and is no feature; None: they are in order
    exclude: tuple[str, ...] = ()  # columns that are no features
    task: str | None = None  # None: inferred
    metric: str | None = None  # None: the task's default
    windows: int = 100
    start: int = 10  # windows of the first training set
    label_delay: int = 0  # windows
    trainer: str = "everfit:gradient_boosting"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    project: Path = Path()
    seed: int = 0
    most: int = 1000  # rows scored in a window: of larger ones so many, evenly spaced, the same for all models; 0: all
    price: float = BenchOptions().price  # of a run, in score times windows, for the advice
    policies: tuple[str, ...] = NAMES
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Backtest:
    """What each policy would have done."""

    task: str
    metric: str
    windows: int
    label_delay: int
    policies: tuple[Result, ...]
    oracle: tuple[Hindsight, ...]
    ageing: tuple[float, ...]  # mean score of a model 1, 2, ... windows after its rows
    advice: Advice
    seconds: tuple[float, float]  # of training and of scoring, behind all models
    failures: Mapping[Cell, str]  # models that could not be trained, and why

    def to_dict(self) -> dict[str, Any]:
        """As the plain values of the JSON file."""
        return {
            "task": self.task,
            "metric": self.metric,
            "windows": self.windows,
            "label_delay": self.label_delay,
            "policies": [each.to_dict() for each in self.policies],
            "oracle": [{"retrains": each.retrains, "score": each.score} for each in self.oracle],
            "ageing": list(self.ageing),
            "recommended": self.advice.to_dict(),
            "seconds": {"training": self.seconds[0], "scoring": self.seconds[1]},
            "failures": [{"trained_on": list(cell), "said": said} for cell, said in sorted(self.failures.items())],
        }


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A frame made ready: features in the lake's types beside the target, and how it is cut."""

    rows: pl.DataFrame
    schema: Schema
    task: str
    metric: str
    cut: Cut
    target: str


def run(frame: pl.DataFrame, options: BacktestOptions, tell: Callable[[Progress], None] = lambda _: None) -> Backtest:
    """Train what is not in the cache, and play every policy.

    Raises:
        Refused: the frame cannot be replayed; the column is named.
        UsageError: an option does not fit the frame.
        DiskFull: the cache's disk is full; run again when there is space, nothing is lost.
    """
    history = prepare(frame, options)
    with CellPool(cell_task(history, options), options.limits, tell) as cells:
        matrix = Matrix(cells, history.cut)
        return play_all(matrix, Portrait(history.rows.drop(history.target), history.cut), history, options)


def play_all(matrix: Matrix, portrait: Portrait, history: History, options: BacktestOptions) -> Backtest:
    """Play the policies over a matrix, Everfit's first: it waits for one model after the other, and meanwhile the
    recent models that all others need are trained beside it.
    """
    matrix.want(matrix.every())
    names = sorted(dict.fromkeys(("never", "every1", *options.policies)), key=lambda name: name != "everfit")
    played = {name: play_policy(name, matrix, portrait, options.label_delay) for name in names}
    found = results(played, history.cut)
    return Backtest(
        history.task,
        history.metric,
        history.cut.windows,
        options.label_delay,
        found,
        tuple(best_schedules(matrix, options.label_delay, ORACLE)),
        ages(matrix),
        advise(found, options.price),
        matrix.spent(),
        matrix.failures(),
    )


def prepare(frame: pl.DataFrame, options: BacktestOptions) -> History:
    """Order the rows, learn the columns, infer task and metric, and cut into windows of equal rows.

    Raises:
        Refused: a column is missing or cannot be a feature; rows without a target or that do not fit.
        UsageError: too few rows or windows; a metric that is not of this task.
    """
    for name in (options.target, *([options.time] if options.time else [])):
        if name not in frame.columns:
            raise Refused(f"there is no column {name!r}; there are {', '.join(frame.columns)}")
    if options.time:
        if frame[options.time].null_count():
            raise Refused(
                f"column {options.time!r}: {frame[options.time].null_count()} rows have no time; leave them out"
            )
        frame = frame.sort(options.time, maintain_order=True)
    known = frame.filter(pl.col(options.target).is_not_null())
    if known.is_empty():
        raise Refused(f"column {options.target!r} is empty: without labels there is nothing to replay")
    task = options.task or task_of(known[options.target])
    reserved = {options.target, *([options.time] if options.time else []), *options.exclude}
    schema = _schema(known, reserved)
    fitted = conform(known.select(schema.names()), schema)
    if fitted.refused.height:
        first = fitted.refused.row(0, named=True)
        raise Refused(f"{fitted.refused.height} rows cannot be read; the first: {first['_reason']}")
    truth = known[options.target]
    target = truth.cast(pl.Float64) if task == "regression" else class_text(truth)
    rows = fitted.rows.with_columns(target.alias(options.target))
    metric = _metric(options.metric, task)
    found = METRICS[metric]
    unit = 1.0 if found.greater_is_better else constant_loss(target, task, metric)
    better = found.greater_is_better
    cut = even_cut(rows.height, options.windows, options.start, greater_is_better=better, unit=unit)
    cut = replace(cut, most=options.most)
    return History(rows, schema, task, metric, cut, options.target)


def cell_task(history: History, options: BacktestOptions) -> CellTask:
    """Write the rows into the cache, under a name of everything that a model's scores depend on."""
    options.cache.mkdir(parents=True, exist_ok=True)
    arriving = options.cache / ".arriving.parquet"
    history.rows.write_parquet(arriving)
    content = blake2b(arriving.read_bytes(), digest_size=10).hexdigest()
    code = code_key(options.project, options.trainer)
    key = content_key(
        content,
        code,
        options.trainer,
        dict(options.parameters),
        options.seed,
        history.metric,
        history.cut.edges,
        history.cut.most,
    )
    folder = options.cache / key
    folder.mkdir(exist_ok=True)
    rows = arriving.rename(folder / "rows.parquet")
    classes = [] if history.task == "regression" else history.rows[history.target].unique().sort().to_list()
    return CellTask(
        rows=str(rows.resolve()),
        folder=str(folder.resolve()),
        project=str(options.project.resolve()),
        trainer=options.trainer,
        parameters=dict(options.parameters),
        seed=options.seed,
        task=history.task,
        target=history.target,
        features=history.schema.names(),
        categories=[column.name for column in history.schema.features if column.kind is Kind.CATEGORY],
        classes=classes,
        positive=classes[-1] if classes else None,
        metric=history.metric,
        edges=list(history.cut.edges),
        unit=_spread(history) if history.task == "regression" else 1.0,
        most=history.cut.most,
    )


def task_of(target: pl.Series) -> str:
    """The task that a target's values tell.

    >>> task_of(pl.Series([0, 1, 1])), task_of(pl.Series(["a", "b", "c"])), task_of(pl.Series([0.5, 1.5, 3.25]))
    ('binary', 'multiclass', 'regression')

    Raises:
        Refused: one value only, or texts of too many values.
    """
    values = target.drop_nulls()
    many = values.n_unique()
    if many < 2:
        raise Refused(f"column {target.name!r} holds a single value: there is nothing to learn")
    if many == 2:
        return "binary"
    broken = values.dtype.is_float() and bool((values != values.floor()).any())
    if values.dtype.is_numeric() and (broken or many > 20):
        return "regression"
    if many > MOST_CLASSES:
        raise Refused(f"column {target.name!r} holds {many} different texts: too many for classes")
    return "multiclass"


def constant_loss(target: pl.Series, task: str, metric: str) -> float:
    """The loss of the best constant prediction: the unit in which losses become points."""
    blocks = np.zeros(len(target), dtype=np.int64)
    if task == "regression":
        truth = target.to_numpy()
        best = truth.mean() if metric == "rmse" else np.median(truth)
        found = level(METRICS[metric], Outcomes(truth, np.full((len(truth), 1), best), (), None, task, blocks))
    else:
        counts = target.value_counts(sort=True).sort(target.name)
        classes = counts[target.name].to_list()
        shares = counts["count"].to_numpy() / len(target)
        places = target.cast(pl.Enum(classes)).to_physical().cast(pl.Int64).to_numpy()
        scores = np.broadcast_to(shares, (len(target), len(classes)))
        found = level(METRICS[metric], Outcomes(places, scores, tuple(classes), classes[-1], task, blocks))
    return found or 1.0


def _schema(rows: pl.DataFrame, reserved: set[str]) -> Schema:
    learned = learn(rows, reserved=reserved, options=FeatureOptions())
    kept = tuple(column for column in learned.features if column.kind not in UNTRAINED)
    if not kept:
        raise Refused("no column is left to be a feature: texts and vectors are not trained on")
    return Schema(kept, ())


def _metric(name: str | None, task: str) -> str:
    try:
        return check_metric(name, task).name if name else default_metric(task)
    except ValueError as error:
        raise UsageError(f"--metric: {error}") from error


def _spread(history: History) -> float:
    """Mean absolute deviation from the median: an error as large is a whole miss."""
    truth = history.rows[history.target].to_numpy()
    return float(np.abs(truth - np.median(truth)).mean()) or 1.0
