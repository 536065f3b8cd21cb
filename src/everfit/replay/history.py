"""A frame made ready to be replayed: columns and task inferred, cut into windows, written where children find it.

Takes a labelled frame and options; gives a `History`, with a sentence about whatever was done to the rows; never drops
a row in silence.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b

import numpy as np
import polars as pl

from everfit.adapters.cell_files import CellTask
from everfit.adapters.trainer_code import code_key
from everfit.detect.catalogue import check_metric, default_metric, metric_named
from everfit.detect.outcomes import Outcomes
from everfit.detect.performance import level
from everfit.errors import DiskFull, Refused, UsageError
from everfit.ids import content_key
from everfit.observe.options import FeatureOptions, Kind
from everfit.observe.schema import Schema, class_text, conform, learn
from everfit.replay.cutting import begins_of, cut_by_rows, cut_by_time, delay_in_windows, in_order, window_length
from everfit.replay.matrix import Cut
from everfit.replay.options import BacktestOptions

MOST_CLASSES = 100  # whole numbers or texts of more values than this are no classes
UNTRAINED = (Kind.TEXT, Kind.VECTOR)


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A frame made ready: features in the lake's types beside the target, and how it is cut."""

    rows: pl.DataFrame
    schema: Schema
    task: str
    metric: str
    cut: Cut
    target: str
    delay: int  # windows until labels come
    begins: tuple[datetime, ...]  # when each window begins, and the last row; empty without times
    per_window: timedelta | None  # how long a window is; None without times
    sliced: pl.Series | None  # (rows,): the column whose values are told apart
    remarks: tuple[str, ...]


def prepare(frame: pl.DataFrame, options: BacktestOptions) -> History:
    """Order the rows, learn the columns, infer task and metric, and cut into windows.

    Raises:
        Refused: a column is missing or cannot be a feature; rows without a time or that do not fit.
        UsageError: too few rows or windows; a metric that is not of this task; a delay that does not fit.
    """
    named = (options.target, options.time, options.slices)
    for name in (name for name in named if name is not None):
        if name not in frame.columns:
            raise Refused(f"there is no column {name!r}; there are {', '.join(frame.columns)}")
    there = frame.filter(pl.col(options.target).is_not_null())
    if there.is_empty():
        raise Refused(f"column {options.target!r} is empty: without labels there is nothing to replay")
    ordered = in_order(there, options.time)
    remarks = list(ordered.remarks)
    if there.height < frame.height:
        remarks.append(f"{frame.height - there.height:,} rows have no {options.target!r} and were left out")
    truth = ordered.rows[options.target]
    task = options.task or task_of(truth)
    metric = _metric(options.metric, task)
    if options.window is None:
        cut, said = cut_by_rows(ordered, options.windows, options.start)
    else:
        cut, said = cut_by_time(ordered, options.window, options.start)
    remarks += said
    begins = begins_of(ordered, cut, options.window)
    length = window_length(begins, options.window)
    delay, said = delay_in_windows(options.label_delay, length, len(cut.scored))
    remarks += said
    rows, schema, said = _conformed(ordered.rows, options, task)
    remarks += said
    better = metric_named(metric).greater_is_better
    unit = 1.0 if better else constant_loss(rows[options.target], task, metric)
    cut = replace(cut, most=options.most, greater_is_better=better, unit=unit)
    sliced = ordered.rows[options.slices] if options.slices else None
    return History(rows, schema, task, metric, cut, options.target, delay, begins, length, sliced, tuple(remarks))


def _conformed(rows: pl.DataFrame, options: BacktestOptions, task: str) -> tuple[pl.DataFrame, Schema, list[str]]:
    """Features in the lake's types, and the target."""
    reserved = {options.target, *([options.time] if options.time else []), *options.exclude}
    learned = learn(rows, reserved=reserved, options=FeatureOptions())
    left_out = [column.name for column in learned.features if column.kind in UNTRAINED]
    schema = Schema(tuple(column for column in learned.features if column.kind not in UNTRAINED), ())
    if not schema.features:
        raise Refused("no column is left to be a feature: texts and vectors are not trained on")
    fitted = conform(rows.select(schema.names()), schema)
    if fitted.refused.height:
        first = fitted.refused.row(0, named=True)
        raise Refused(f"{fitted.refused.height} rows cannot be read; the first: {first['_reason']}")
    truth = rows[options.target]
    target = truth.cast(pl.Float64) if task == "regression" else class_text(truth)
    said = [f"not trained on, because they hold long texts or vectors: {', '.join(left_out)}"] if left_out else []
    return fitted.rows.with_columns(target.alias(options.target)), schema, said


def cell_task(history: History, options: BacktestOptions) -> CellTask:
    """Write the rows into the cache, under a name of everything that a model's scores depend on.

    Raises:
        UsageError: the cache is no folder.
        DiskFull: there is no space for them.
    """
    arriving = options.cache / f".arriving.{os.getpid()}.parquet"
    try:
        options.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the cache {options.cache} is no folder that can be written: {error}; name another"
        ) from error
    try:
        history.rows.write_parquet(arriving)
    except OSError as error:
        arriving.unlink(missing_ok=True)
        raise DiskFull(f"the rows cannot be written to {options.cache}: {error}; free some space") from error
    content = blake2b(arriving.read_bytes(), digest_size=10).hexdigest()
    code = code_key(options.project, options.trainer)
    cut = history.cut
    key = content_key(
        content,
        code,
        options.trainer,
        dict(options.parameters),
        options.seed,
        history.metric,
        cut.edges,
        cut.most,
        cut.few,
        cut.start,
        cut.stride,
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
        edges=list(cut.edges),
        unit=_spread(history) if history.task == "regression" else 1.0,
        most=cut.most,
        few=cut.few,
        start=cut.start,
        stride=cut.stride,
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
        found = level(metric_named(metric), Outcomes(truth, np.full((len(truth), 1), best), (), None, task, blocks))
    else:
        counts = target.value_counts(sort=True).sort(target.name)
        classes = counts[target.name].to_list()
        shares = counts["count"].to_numpy() / len(target)
        places = target.cast(pl.Enum(classes)).to_physical().cast(pl.Int64).to_numpy()
        scores = np.broadcast_to(shares, (len(target), len(classes)))
        found = level(metric_named(metric), Outcomes(places, scores, tuple(classes), classes[-1], task, blocks))
    return found or 1.0


def _metric(name: str | None, task: str) -> str:
    try:
        return check_metric(name, task).name if name else default_metric(task)
    except ValueError as error:
        raise UsageError(f"--metric: {error}") from error


def _spread(history: History) -> float:
    """Mean absolute deviation from the median: an error as large is a whole miss."""
    truth = history.rows[history.target].to_numpy()
    return float(np.abs(truth - np.median(truth)).mean()) or 1.0
