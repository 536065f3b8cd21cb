"""What the user may choose about when to retrain: limits on every trigger, what a run may cost, and what it must bring.

Takes plain values from the spec; gives frozen records; never reads the world. The kinds of triggers stand in
`everfit.decide.rules` and are offered here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
)

from everfit.decide.bench_options import BenchOptions
from everfit.decide.history import History
from everfit.decide.rules import (
    DriftAbove,
    EstimatedDrop,
    LatencyAbove,
    OnAge,
    OnAlarm,
    OnAll,
    OnAny,
    OnBench,
    OnDrift,
    OnErrors,
    OnEstimated,
    OnEvent,
    OnFunction,
    OnLabels,
    OnLatency,
    OnNewData,
    OnPerformance,
    OnRows,
    OnSchedule,
    OnScore,
    PerformanceDrop,
    Repeated,
    ScoreLines,
    ScoreWeights,
    Trigger,
    parts_of,
)
from everfit.units import Duration, Moment

__all__ = [
    "DEFAULT",
    "Asked",
    "Budget",
    "Deciding",
    "DriftAbove",
    "EstimatedDrop",
    "Fleet",
    "Freeze",
    "LatencyAbove",
    "OnAge",
    "OnAlarm",
    "OnAll",
    "OnAny",
    "OnBench",
    "OnDrift",
    "OnErrors",
    "OnEstimated",
    "OnEvent",
    "OnFunction",
    "OnLabels",
    "OnLatency",
    "OnNewData",
    "OnPerformance",
    "OnRows",
    "OnSchedule",
    "OnScore",
    "PerformanceDrop",
    "Probing",
    "Repeated",
    "Rules",
    "ScoreLines",
    "ScoreWeights",
    "Trigger",
    "Worth",
    "default_triggers",
    "functions_in",
    "read_rules",
    "write_rules",
]

Asked = Callable[[History, datetime], bool | str | None]  # a function of the user's as a trigger


class Budget(BaseModel, frozen=True, extra="forbid"):
    """How many training runs may be started."""

    runs: PositiveInt = Field(8, description="this many runs")
    per: Duration = Field(timedelta(days=30), description="in this time, whatever became of them")


class Fleet(BaseModel, frozen=True, extra="forbid"):
    """How many training runs all models of this database may start together."""

    runs: PositiveInt = Field(description="this many runs; the most valuable ones go first")
    per: Duration = Field(timedelta(days=30), description="in this time, whatever became of them")


class Freeze(BaseModel):
    """A span in which nothing is retrained, such as the days before a holiday."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    since: Moment = Field(alias="from")
    to: Moment


class Probing(BaseModel, frozen=True, extra="forbid"):
    """A cheap training on few rows, before the whole one."""

    rows: PositiveInt = Field(5000, description="newest labelled rows that the probe is trained on")


class Worth(BaseModel, frozen=True, extra="forbid"):
    """What a loss costs and what a run costs, in one currency. Without prices a run is not weighed."""

    error_cost: PositiveFloat | None = Field(
        None, description="cost of one wrong prediction; used where the primary metric is accuracy"
    )
    unit_value: PositiveFloat | None = Field(
        None, description="value for each row of one unit of the primary metric, such as 0.4 for a unit of roc_auc"
    )
    per_hour: NonNegativeFloat | None = Field(None, description="cost of an hour of training, by its measured time")
    run_cost: NonNegativeFloat = Field(0, description="fixed cost of a run, such as somebody's look at it")
    horizon: Duration = Field(timedelta(days=30), description="for how long a better model is counted on")
    at_least: PositiveFloat = Field(1.0, description="expected gain over cost; below it nothing is trained")
    probe: Probing | None = Field(None, description="train on few rows first and go on only if that looks worth it")


class Deciding(BaseModel, frozen=True, extra="forbid"):
    """Limits on every trigger."""

    cool_down: Duration = Field(
        timedelta(hours=6), description="rest after a run; doubled after each candidate kept back"
    )
    rest_at_most: Duration = Field(timedelta(days=30), description="the doubled rest never grows beyond this")
    budget: Budget = Field(Budget(), description="training runs that may be started")
    fleet: Fleet | None = Field(None, description="training runs that all models together may start")
    freeze: tuple[Freeze, ...] = Field((), description="spans without retraining and without recalls")
    approve: tuple[Literal["retrain"], ...] = Field((), description="[retrain]: ask a person before training")
    trial: NonNegativeInt = Field(
        3, description="mature windows in which a release that does harm is rolled back by itself; 0: never"
    )
    follow_up: NonNegativeInt = Field(
        2, description="mature windows after a run for a loss, until it is repeated once on fresh rows; 0: never"
    )
    recalibrate: bool = Field(
        True, description="when only the calibration decayed, propose recalibration instead of training"
    )
    worth: Worth = Field(Worth(), description="what a loss and a run cost")
    bench: BenchOptions = Field(BenchOptions(), description="when to train, on which rows, and which kept model serves")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user asked for, as far as a decision needs it."""

    triggers: tuple[Trigger, ...]
    limits: Deciding
    primary: str
    first_rows: int  # labelled rows that the first champion needs
    promise: str = ""  # the rate of false alarms that alarms are calibrated for, such as "1 per 365d"
    slowest: float | None = None  # milliseconds that the 99th percentile of answers may take; None: no limit
    functions: Mapping[str, Asked] = field(default_factory=dict)  # what `function` triggers name
    rows: Literal["all", "last"] | None = None  # `train.rows` as the spec sets it; None: the bench chooses
    least_rows: int = 0  # `train.at_least`: with fewer labelled rows nothing is trained


DEFAULT: tuple[Trigger, ...] = (OnBench(name="bench", bench=True),)


def default_triggers() -> tuple[Trigger, ...]:
    """The triggers of a spec that names none: the bench, for every task and metric.

    >>> default_triggers()[0].name
    'bench'
    """
    return DEFAULT


def functions_in(triggers: tuple[Trigger, ...]) -> tuple[str, ...]:
    """The functions that triggers name, each once, for whoever loads them.

    >>> functions_in((OnAny(name="a", any=(OnFunction(function="train:due"), OnRows(new_rows=5))),))
    ('train:due',)
    """
    found = [t.function for t in triggers if isinstance(t, OnFunction)]
    inside = [name for t in triggers for name in functions_in(parts_of(t))]
    return tuple(dict.fromkeys(found + inside))


class _Written(BaseModel, frozen=True, extra="forbid"):
    triggers: tuple[Trigger, ...]
    limits: Deciding
    primary: str
    first_rows: int
    promise: str = ""
    slowest: float | None = None
    rows: Literal["all", "last"] | None = None
    least_rows: int = 0


_WRITTEN = TypeAdapter(_Written)


def write_rules(rules: Rules) -> bytes:
    """Write rules as JSON, so that a decision can be re-run under the rules of its day. Functions are named, not kept.

    >>> rules = Rules(default_triggers(), Deciding(), "roc_auc", 700)
    >>> read_rules(write_rules(rules)) == rules
    True
    """
    kept = _Written(
        triggers=rules.triggers,
        limits=rules.limits,
        primary=rules.primary,
        first_rows=rules.first_rows,
        promise=rules.promise,
        slowest=rules.slowest,
        rows=rules.rows,
        least_rows=rules.least_rows,
    )
    return _WRITTEN.dump_json(kept, by_alias=True, exclude_unset=True)


def read_rules(written: bytes, functions: Mapping[str, Asked] | None = None) -> Rules:
    """Read what `write_rules` wrote.

    Raises:
        ValueError: these are not the bytes of rules.
    """
    kept = _WRITTEN.validate_json(written)
    return Rules(
        triggers=kept.triggers,
        limits=kept.limits,
        primary=kept.primary,
        first_rows=kept.first_rows,
        promise=kept.promise,
        slowest=kept.slowest,
        functions=functions or {},
        rows=kept.rows,
        least_rows=kept.least_rows,
    )
