"""What the user may choose about when to retrain: triggers, rest, budget, freezes.

Takes plain values from the spec; gives frozen records; never reads the world. Each trigger is a small record told
apart by its one key: `{name: decay, performance: {metric: roc_auc, drop: 0.02}}`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
)

from everfit.decide.schedule import check_cron
from everfit.units import Duration, Moment


class PerformanceDrop(BaseModel, frozen=True, extra="forbid"):
    """The champion's metric on mature labels is worse than its proven level."""

    metric: str | None = Field(None, description="default: the judge's primary metric")
    drop: PositiveFloat = Field(0.02, description="worse by more than this, in the metric's own unit")
    mean_of: PositiveInt = Field(
        1, description="judge the mean of this many mature windows, for windows that are noisy"
    )


class DriftAbove(BaseModel, frozen=True, extra="forbid"):
    """Columns drift from the champion's reference."""

    columns: Literal["any"] | tuple[str, ...] = Field("any", description="any, or a list of columns")
    above: PositiveFloat = Field(0.2, description="debiased PSI above this")


class Rule(BaseModel):
    """What every trigger may carry."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field("", description="how this trigger is called in decisions; required at the top level")
    windows: PositiveInt = Field(1, alias="for", description="must hold in this many windows in a row")


class OnPerformance(Rule):
    """Fires when performance dropped."""

    performance: PerformanceDrop


class OnDrift(Rule):
    """Fires when columns drifted. Drift alone is rarely a reason to retrain: combine it."""

    drift: DriftAbove


class OnSchedule(Rule):
    """Fires by a cron line in a time zone."""

    schedule: str = Field(description='five cron fields, such as "0 2 * * 0"')
    timezone: str = Field(
        "UTC", description="IANA name such as Europe/Zurich; days without 02:00 skip or repeat as cron does"
    )

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str) -> str:
        return check_cron(value)

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is not a time zone; write an IANA name such as Europe/Zurich")
        return ZoneInfo(value).key


class OnLabels(Rule):
    """Fires when so many labels came since the last run."""

    new_labels: PositiveInt


class OnRows(Rule):
    """Fires when so many rows came since the last run."""

    new_rows: PositiveInt


class OnEvent(Rule):
    """Fires when somebody says so: `everfit event NAME`."""

    event: str


class OnAll(Rule):
    """Fires when all of its conditions hold at the same window."""

    all: tuple[Trigger, ...] = Field(min_length=1)


class OnAny(Rule):
    """Fires when any of its conditions holds."""

    any: tuple[Trigger, ...] = Field(min_length=1)


KEYS = ("performance", "drift", "schedule", "new_labels", "new_rows", "event", "all", "any")


def _key_of(value: Any) -> str | None:
    if isinstance(value, Rule):
        return next(key for key in KEYS if key in type(value).model_fields)
    found = [key for key in KEYS if isinstance(value, dict) and key in value]
    return found[0] if len(found) == 1 else None


Trigger = Annotated[
    Annotated[OnPerformance, Tag("performance")]
    | Annotated[OnDrift, Tag("drift")]
    | Annotated[OnSchedule, Tag("schedule")]
    | Annotated[OnLabels, Tag("new_labels")]
    | Annotated[OnRows, Tag("new_rows")]
    | Annotated[OnEvent, Tag("event")]
    | Annotated[OnAll, Tag("all")]
    | Annotated[OnAny, Tag("any")],
    Discriminator(
        _key_of,
        custom_error_type="one_kind_of_trigger",
        custom_error_message=f"a trigger has exactly one of {', '.join(KEYS)}",
    ),
]
OnAll.model_rebuild()
OnAny.model_rebuild()


class Budget(BaseModel, frozen=True, extra="forbid"):
    """How many training runs may be started."""

    runs: PositiveInt = Field(8, description="this many runs")
    per: Duration = Field(timedelta(days=30), description="in this time, whatever became of them")


class Freeze(BaseModel):
    """A span in which nothing is retrained, such as the days before a holiday."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    since: Moment = Field(alias="from")
    to: Moment


class Deciding(BaseModel, frozen=True, extra="forbid"):
    """Limits on every trigger."""

    cool_down: Duration = Field(
        timedelta(hours=6), description="rest after a run; doubled after each candidate kept back"
    )
    rest_at_most: Duration = Field(timedelta(days=30), description="the doubled rest never grows beyond this")
    budget: Budget = Field(Budget(), description="training runs that may be started")
    freeze: tuple[Freeze, ...] = Field((), description="spans without retraining")
    approve: tuple[Literal["retrain"], ...] = Field((), description="[retrain]: ask a person before training")
