"""What the user may choose about signals and alarms.

Takes plain values from the spec; gives frozen records; never reads the world.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from everfit.units import Duration, Moment, Share


class FalseAlarms(BaseModel, frozen=True, extra="forbid"):
    """How many false alarms are acceptable."""

    at_most: PositiveFloat = Field(1, description="this many")
    per: Duration = Field(timedelta(days=365), description="in this time")


class Quality(BaseModel, frozen=True, extra="forbid"):
    """When rows are broken rather than drifted."""

    nulls_rise: Share = Field(0.2, description="a column whose share of nulls rises by more than this is broken")
    refused: Share = Field(0.05, description="more refused rows than this and the source is broken")
    unseen: Share = Field(0.5, description="more rows of unseen categories than this and the column was renamed")
    out_of_range: Share = Field(
        0.5, description="more rows than this, and the mean, far outside the reference's range: the unit changed"
    )


class Expected(BaseModel):
    """A span that is known to be unlike the rest, such as a holiday or a campaign, named ahead."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field(description="how it is called in explanations")
    since: Moment = Field(alias="from")
    to: Moment

    @model_validator(mode="after")
    def _in_order(self) -> Expected:
        if self.to <= self.since:
            raise ValueError(f"expected event {self.name!r} ends before it begins; `to` lies after `from`")
        return self


class Profit(BaseModel, frozen=True, extra="forbid"):
    """What each decision about two classes brings, in your own money."""

    tp: float = Field(description="a positive row that was called positive")
    fp: float = Field(description="a negative row that was called positive")
    fn: float = Field(description="a positive row that was called negative")
    tn: float = Field(description="a negative row that was called negative")
    threshold: Share = Field(0.5, description="rows whose score reaches this are called positive")

    @model_validator(mode="after")
    def _differ(self) -> Profit:
        if self.tp == self.fp == self.fn == self.tn:
            raise ValueError("every decision brings the same, so there is nothing to measure; give tp, fp, fn and tn")
        return self


class ProfitMetric(BaseModel, frozen=True, extra="forbid"):
    """The mean money that a row brought."""

    profit: Profit
    name: str = Field("profit", description="how it is called in readings")

    @property
    def called(self) -> str:
        """Its name in readings."""
        return self.name


class FunctionMetric(BaseModel, frozen=True, extra="forbid"):
    """A metric of your own: a Python function of truth and predictions that gives a number."""

    function: str = Field(description="`module:name`, as for `train.with`", pattern=r"^[\w.]+:\w+$")
    greater_is_better: bool = Field(True, description="false for a loss")
    name: str | None = Field(None, description="how it is called in readings; default: the function's name")

    @property
    def called(self) -> str:
        """Its name in readings."""
        return self.name or self.function.partition(":")[2]


METRIC_KINDS: dict[str, tuple[Any, ...]] = {
    "name": (str,),
    "profit": ("profit", ProfitMetric),
    "function": ("function", FunctionMetric),
}


def _kind_of_metric(value: Any) -> str | None:
    """Which kind a metric of the spec is; None if it is none."""
    keys = value if isinstance(value, dict) else {type(value): None}
    found = [kind for kind, marks in METRIC_KINDS.items() if any(mark in keys for mark in marks)]
    return found[0] if len(found) == 1 else None


MetricChoice = Annotated[
    Annotated[str, Tag("name")] | Annotated[ProfitMetric, Tag("profit")] | Annotated[FunctionMetric, Tag("function")],
    Discriminator(
        _kind_of_metric,
        custom_error_type="one_kind_of_metric",
        custom_error_message="a metric is a name, such as log_loss, or has exactly one of profit, function",
    ),
]


class Watching(BaseModel, frozen=True, extra="forbid"):
    """What is measured on each window and what counts as an alarm."""

    false_alarms: FalseAlarms = Field(FalseAlarms(), description="the rate that the lines are set for")
    metrics: tuple[MetricChoice, ...] = Field(
        (), description="metrics besides the primary one: names, a profit matrix, or a function of your own"
    )
    slices: tuple[str, ...] = Field((), description="columns by whose values performance is also shown")
    at_least: PositiveInt = Field(
        200, description="a window with fewer rows than this gives NotEnough instead of a reading"
    )
    effect: float = Field(
        0.005, ge=0, description="drift below this debiased PSI is never an alarm, however many the rows"
    )
    tolerance: float = Field(
        0.0, ge=0, description="loss of the primary metric, in its own unit, that is never an alarm, however sure it is"
    )
    seasons: tuple[Duration, ...] = Field(
        (timedelta(days=1), timedelta(days=7)),
        description="cycles that are looked for in healthy windows; a window is held to those of its phase",
    )
    expected: tuple[Expected, ...] = Field(
        (), description="spans named ahead: windows in them are measured and told, and never alarm for drift"
    )
    quality: Quality = Field(Quality(), description="when rows are broken rather than drifted")
