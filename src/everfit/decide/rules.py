"""What the user may choose as a reason to retrain: one small record for each kind of trigger.

Takes plain values from the spec; gives frozen records, told apart by their one key, such as
`{name: decay, performance: {metric: roc_auc, drop: 0.02}}`; never looks at a window (that is `triggers`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from everfit.decide.schedule import check_cron
from everfit.units import Duration, Share, parse_share

Growth = Annotated[  # unlike other shares it may pass 100 %
    float,
    BeforeValidator(parse_share),
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": "%$"}]}),
]
PARTS = ("drift", "performance", "estimated", "quality", "age")


class PerformanceDrop(BaseModel, frozen=True, extra="forbid"):
    """The champion's metric on mature labels is worse than its proven level."""

    metric: str | None = Field(None, description="default: the judge's primary metric")
    drop: PositiveFloat = Field(0.02, description="worse by more than this, in the metric's own unit")
    mean_of: PositiveInt = Field(
        1, description="judge the mean of this many mature windows, for windows that are noisy"
    )


class EstimatedDrop(BaseModel, frozen=True, extra="forbid"):
    """The champion's metric, as estimated without labels, is worse than its proven level."""

    metric: str | None = Field(None, description="default: the judge's primary metric")
    drop: PositiveFloat = Field(0.02, description="worse by more than this, in the metric's own unit")


class DriftAbove(BaseModel, frozen=True, extra="forbid"):
    """Columns drift from the champion's reference."""

    columns: Literal["any", "important"] | tuple[str, ...] = Field(
        "any", description="any, important (those on which the champion rests most), or a list of columns"
    )
    above: PositiveFloat = Field(0.2, description="debiased PSI above this")


class LatencyAbove(BaseModel, frozen=True, extra="forbid"):
    """Answers of the model server take longer than this."""

    p50: Duration | None = Field(None, description="half of the answers take longer than this")
    p90: Duration | None = Field(None, description="one answer in ten takes longer than this")
    p99: Duration | None = Field(None, description="one answer in a hundred takes longer than this")

    @model_validator(mode="after")
    def _one(self) -> LatencyAbove:
        if not self.limits:
            raise ValueError("give one of p50, p90 and p99, such as {p99: 50ms}")
        return self

    @property
    def limits(self) -> dict[str, timedelta]:
        """Percentile to limit, for those that were given."""
        given = {"p50": self.p50, "p90": self.p90, "p99": self.p99}
        return {name: limit for name, limit in given.items() if limit is not None}


class ScoreWeights(BaseModel, frozen=True, extra="forbid"):
    """How much each part counts. A part is a strength in 0..1: 1 is its line or beyond, or an alarm."""

    drift: PositiveFloat | None = Field(None, description="weight of the column that drifted most")
    performance: PositiveFloat | None = Field(None, description="weight of the primary metric on mature labels")
    estimated: PositiveFloat | None = Field(None, description="weight of the primary metric as estimated")
    quality: PositiveFloat | None = Field(None, description="weight of what is broken in the rows")
    age: PositiveFloat | None = Field(None, description="weight of the champion's age")

    @model_validator(mode="after")
    def _some(self) -> ScoreWeights:
        if not self.given:
            raise ValueError(f"give the weight of at least one of {', '.join(PARTS)}")
        return self

    @property
    def given(self) -> dict[str, float]:
        """Part to weight, for those that were given."""
        weights = {name: getattr(self, name) for name in PARTS}
        return {name: weight for name, weight in weights.items() if weight is not None}


class ScoreLines(BaseModel, frozen=True, extra="forbid"):
    """Where each part of a score reaches 1."""

    drift: PositiveFloat = Field(0.2, description="debiased PSI of one column")
    drop: PositiveFloat = Field(0.02, description="loss of the primary metric, read or estimated, in its own unit")
    quality: PositiveFloat = Field(0.2, description="rise of a share of broken rows")
    age: Duration = Field(timedelta(days=30), description="age of the champion")


class Repeated(BaseModel, frozen=True, extra="forbid"):
    """In so many of so many windows. Windows that say nothing are passed over."""

    windows: PositiveInt = Field(description="must hold in so many windows")
    of: PositiveInt = Field(description="of the last so many that can be judged")

    @model_validator(mode="after")
    def _within(self) -> Repeated:
        if self.of < self.windows:
            raise ValueError(f"{self.windows} of {self.of} windows can never hold; `of` is the larger number")
        return self


class Rule(BaseModel):
    """What every trigger may carry."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field("", description="how this trigger is called in decisions; required at the top level")
    windows: PositiveInt | Repeated = Field(
        1, alias="for", description="must hold in this many windows in a row, or in `{windows: 3, of: 5}`"
    )

    @property
    def needed(self) -> int:
        """Windows in which it must hold."""
        return self.windows if isinstance(self.windows, int) else self.windows.windows

    @property
    def among(self) -> int:
        """Windows that are looked at."""
        return self.windows if isinstance(self.windows, int) else self.windows.of


class OnPerformance(Rule):
    """Fires when performance dropped."""

    performance: PerformanceDrop


class OnEstimated(Rule):
    """Fires when performance, estimated without labels, dropped."""

    estimated: EstimatedDrop


class OnDrift(Rule):
    """Fires when columns drifted. Drift alone is rarely a reason to retrain: combine it."""

    drift: DriftAbove


class OnAlarm(Rule):
    """Fires on an alarm whose rate of false ones is the one promised by `watch.false_alarms`."""

    alarm: Literal["performance", "drift", "any"] = Field(
        description="performance: a loss, once labels are mature; drift: columns moved; any: either"
    )


class OnScore(Rule):
    """Fires when the weighted mean of several strengths is above a line."""

    score: ScoreWeights
    above: float = Field(gt=0, lt=1, description="the line that the weighted mean must pass")
    lines: ScoreLines = Field(ScoreLines(), description="where each part reaches 1")


class OnLatency(Rule):
    """Fires when answers take too long."""

    latency: LatencyAbove


class OnErrors(Rule):
    """Fires when too many requests to the model server fail."""

    errors: Share = Field(description="share of the requests that fail")


class OnAge(Rule):
    """Fires when the champion is old."""

    age: Duration = Field(description="time since the champion's rows were cut")


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


class OnNewData(Rule):
    """Fires when the labelled rows grew by a share of those that the champion was trained on."""

    new_data_share: Growth = Field(description="labelled rows since the last run, such as 20% of those it learned from")


class OnEvent(Rule):
    """Fires when somebody says so: `everfit event NAME`."""

    event: str


class OnFunction(Rule):
    """Fires when a function of yours says so."""

    function: str = Field(
        pattern=r"^[\w.]+:\w+$",
        description="module:function of (history, now); True or a sentence fires, False does not, None is unknown",
    )


class OnBench(Rule):
    """Fires when the bench of kept models asks for a run: a loss, or the interval that past runs' gains ask for."""

    bench: Literal[True]


class OnAll(Rule):
    """Fires when all of its conditions hold at the same window."""

    all: tuple[Trigger, ...] = Field(min_length=1)


class OnAny(Rule):
    """Fires when any of its conditions holds."""

    any: tuple[Trigger, ...] = Field(min_length=1)


KINDS: dict[str, type[Rule]] = {
    "bench": OnBench,
    "performance": OnPerformance,
    "estimated": OnEstimated,
    "drift": OnDrift,
    "alarm": OnAlarm,
    "score": OnScore,
    "latency": OnLatency,
    "errors": OnErrors,
    "age": OnAge,
    "schedule": OnSchedule,
    "new_labels": OnLabels,
    "new_rows": OnRows,
    "new_data_share": OnNewData,
    "event": OnEvent,
    "function": OnFunction,
    "all": OnAll,
    "any": OnAny,
}
KEYS = tuple(KINDS)


def kind_of(value: Any) -> str | None:
    """The one key that tells which kind a trigger is; None if it has none or several."""
    if isinstance(value, Rule):
        return next(key for key, kind in KINDS.items() if isinstance(value, kind))
    found = [key for key in KEYS if isinstance(value, dict) and key in value]
    return found[0] if len(found) == 1 else None


Trigger = Annotated[
    Annotated[OnBench, Tag("bench")]
    | Annotated[OnPerformance, Tag("performance")]
    | Annotated[OnEstimated, Tag("estimated")]
    | Annotated[OnDrift, Tag("drift")]
    | Annotated[OnAlarm, Tag("alarm")]
    | Annotated[OnScore, Tag("score")]
    | Annotated[OnLatency, Tag("latency")]
    | Annotated[OnErrors, Tag("errors")]
    | Annotated[OnAge, Tag("age")]
    | Annotated[OnSchedule, Tag("schedule")]
    | Annotated[OnLabels, Tag("new_labels")]
    | Annotated[OnRows, Tag("new_rows")]
    | Annotated[OnNewData, Tag("new_data_share")]
    | Annotated[OnEvent, Tag("event")]
    | Annotated[OnFunction, Tag("function")]
    | Annotated[OnAll, Tag("all")]
    | Annotated[OnAny, Tag("any")],
    Discriminator(
        kind_of,
        custom_error_type="one_kind_of_trigger",
        custom_error_message=f"a trigger has exactly one of {', '.join(KEYS)}",
    ),
]
OnAll.model_rebuild()
OnAny.model_rebuild()


def parts_of(trigger: Trigger) -> tuple[Trigger, ...]:
    """The triggers inside an `all` or `any`; none for other kinds."""
    match trigger:
        case OnAll(all=parts) | OnAny(any=parts):
            return parts
        case _:
            return ()


def asks_bench(trigger: Trigger) -> bool:
    """Whether a trigger rests on the bench, at least in part.

    >>> asks_bench(OnBench(name="bench", bench=True)), asks_bench(OnRows(name="volume", new_rows=10))
    (True, False)
    """
    return isinstance(trigger, OnBench) or any(asks_bench(part) for part in parts_of(trigger))


def about_harm(trigger: Trigger) -> bool:
    """Whether a trigger rests on a loss of performance, at least in part.

    >>> about_harm(OnAlarm(name="decay", alarm="performance")), about_harm(OnRows(name="volume", new_rows=10))
    (True, False)
    """
    match trigger:
        case OnPerformance() | OnEstimated():
            return True
        case OnAlarm(alarm=kind):
            return kind != "drift"
        case OnScore(score=weights):
            return bool({"performance", "estimated"} & weights.given.keys())
        case _:
            return any(about_harm(part) for part in parts_of(trigger))
