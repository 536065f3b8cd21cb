"""A recipe: everything that determines a training run. Its id is its content.

Takes options, the schema, the lake's version and the time; gives the rows to train on and to prove on; never
reads rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from everfit.errors import DataBlocked
from everfit.ids import content_key
from everfit.observe.schema import Schema
from everfit.observe.window import Span
from everfit.retrain.options import Last, Training
from everfit.units import duration_text


@dataclass(frozen=True, slots=True)
class LakeVersion:
    """Which state of the event tables is meant, for ever."""

    predictions: int
    labels: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines a training run."""

    model: str
    task: str  # binary, multiclass, regression
    target: str
    schema: Schema
    lake: LakeVersion
    train: Span  # event time of the rows to learn from
    holdout: Span  # event time of the rows to be judged on; after `train`, with a gap
    as_of: datetime  # only labels that had arrived by then
    trainer: str  # module:function
    code: str  # key of the trainer's source
    parameters: Mapping[str, Any]
    seed: int

    @property
    def id(self) -> str:
        """The recipe's name: its content."""
        return content_key("recipe", self)

    @property
    def holds_out(self) -> bool:
        """Whether rows are held out; a run of the bench learns from all of them."""
        return self.holdout.start < self.holdout.end


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained: the model, its columns, its code, and the state of the event tables."""

    model: str
    task: str
    target: str
    schema: Schema
    code: str  # key of the trainer's source
    lake: LakeVersion


@dataclass(frozen=True, slots=True)
class Known:
    """What is known at the moment of planning."""

    now: datetime  # in the model's clock
    first_row: datetime  # event time of the earliest row
    labels_mature_after: timedelta
    trained_until: datetime | None = None  # end of the rows that the champion was trained on
    split: datetime | None = None  # where a share of the labelled rows begins; None: rows are spread evenly over time


class HoldingOut(Protocol):
    """What of the judge's options this room needs; the judge stands above it and is not imported."""

    @property
    def holdout(self) -> timedelta | float:
        """How long, or which share, of the most recent rows is kept from training."""
        ...

    @property
    def gap(self) -> timedelta:
        """Left out between training and held-out rows."""
        ...


def plan_recipe(subject: Subject, known: Known, training: Training, judging: HoldingOut) -> Recipe:
    """Choose the rows: the most recent mature ones prove the model, those before them (and a gap) train it.

    Held-out rows also lie after those that the champion was trained on, so that neither model knows them.

    >>> from datetime import UTC
    >>> from types import SimpleNamespace
    >>> fifth = SimpleNamespace(holdout=0.2, gap=timedelta(0))
    >>> jan = lambda day: datetime(2013, 1, day, tzinfo=UTC)
    >>> subject = Subject("delay", "binary", "late", Schema((), ("0", "1")), "c0de", LakeVersion(3, 3))
    >>> recipe = plan_recipe(subject, Known(jan(12), jan(1), timedelta(days=1)), Training(), fifth)
    >>> str(recipe.train), str(recipe.holdout)
    ('2013-01-01 00:00 to 2013-01-09 00:00', '2013-01-09 00:00 to 2013-01-11 00:00')

    Raises:
        DataBlocked: no mature rows are left to train on, or to prove on.
    """
    mature = known.now - known.labels_mature_after
    last = training.rows.last if isinstance(training.rows, Last) else None
    holdout = Span(_holdout_start(known, last, mature, judging), mature)
    if holdout.start >= holdout.end:
        raise DataBlocked(_nothing_to_prove_on(known, mature, judging))
    end = holdout.start - judging.gap
    train = Span(known.first_row if last is None else max(known.first_row, end - last), end)
    if train.start >= train.end:
        raise DataBlocked(
            f"no rows are left to train on: the first is of {known.first_row:%Y-%m-%d %H:%M}, and those from "
            f"{end:%Y-%m-%d %H:%M} on are held out; wait for more rows, or hold out fewer (judge.holdout)"
        )
    return _recipe(subject, (train, holdout), known.now, training)


def bench_recipe(subject: Subject, rows: Span, as_of: datetime, training: Training) -> Recipe:
    """A run of the bench: it learns from all of its rows and holds none out, for later windows prove its model.

    >>> jan = lambda day: datetime(2013, 1, day)
    >>> subject = Subject("delay", "binary", "late", Schema((), ("0", "1")), "c0de", LakeVersion(3, 3))
    >>> bench_recipe(subject, Span(jan(1), jan(9)), jan(11), Training()).holds_out
    False
    """
    last = training.rows.last if isinstance(training.rows, Last) else None
    start = rows.start if last is None else max(rows.start, rows.end - last)
    return _recipe(subject, (Span(start, rows.end), Span(rows.end, rows.end)), as_of, training)


def _recipe(subject: Subject, rows: tuple[Span, Span], as_of: datetime, training: Training) -> Recipe:
    return Recipe(
        model=subject.model,
        task=subject.task,
        target=subject.target,
        schema=subject.schema,
        lake=subject.lake,
        train=rows[0],
        holdout=rows[1],
        as_of=as_of,
        trainer=training.trainer,
        code=subject.code,
        parameters=training.parameters,
        seed=training.seed,
    )


def _holdout_start(known: Known, last: timedelta | None, mature: datetime, judging: HoldingOut) -> datetime:
    if isinstance(judging.holdout, timedelta):
        start = mature - judging.holdout
    elif known.split is not None:
        start = known.split
    else:
        begin = known.first_row if last is None else max(known.first_row, mature - last)
        start = mature - (mature - begin) * judging.holdout
    if known.trained_until is None:
        return start
    return max(start, known.trained_until + judging.gap)


def _nothing_to_prove_on(known: Known, mature: datetime, judging: HoldingOut) -> str:
    until = f"labels are mature up to {mature:%Y-%m-%d %H:%M}"
    if known.trained_until is None or mature <= known.first_row:
        return f"no mature rows are there yet: {until}, the first row is of {known.first_row:%Y-%m-%d %H:%M}"
    taught = f"the champion was trained on rows up to {known.trained_until:%Y-%m-%d %H:%M}"
    gap = f" and judge.gap is {duration_text(judging.gap)}" if judging.gap else ""
    return f"no rows are left to prove a model on: {until}, {taught}{gap}; wait for more labels"
