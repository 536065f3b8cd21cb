"""What the user may choose about the guard.

Takes plain values from the spec; gives frozen records; never reads the world.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, NonNegativeInt, PlainSerializer, PositiveInt, model_validator

from everfit.errors import UsageError
from everfit.rollout.sequential import Tolerance
from everfit.units import Duration, Share, parse_share

Of = Literal["errors", "latency", "loss"]

# Below these nobody goes back: promised are few false roll-backs, and not a roll-back for what does not matter.
USUAL: dict[str, Tolerance] = {
    "errors": Tolerance(by=0.005),
    "latency": Tolerance(relative=0.1),
    "loss": Tolerance(relative=0.02),
}

# What a trial's own process costs a model: with one model on both sides its median was 0.3 to 2.6 ms higher, since its
# caches are cold between the few requests of a canary, on two cores with work for four to nine.
SLACK = timedelta(milliseconds=5)


def _tolerance(value: Any) -> Any:
    if isinstance(value, str) and value.strip().endswith("%"):
        return Tolerance(relative=parse_share(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Tolerance(by=float(value))
    if value is None or isinstance(value, Tolerance):
        return value
    raise ValueError(f"{value!r} is neither a share of the champion's level such as 2% nor a number such as 0.005")


def _tolerance_text(value: Tolerance | None) -> float | str | None:
    if value is None:
        return None
    return f"{value.relative * 100:.10g}%" if value.relative else value.by


Allowed = Annotated[
    Tolerance, BeforeValidator(_tolerance), PlainSerializer(_tolerance_text, return_type=float | str | None)
]


class Check(BaseModel, frozen=True, extra="forbid"):
    """One thing that is compared at every look.

    >>> Check(of="loss", worse_by_at_most="2%").allowed, Check(of="errors", worse_by_at_most=0.005).allowed
    (Tolerance(by=0.0, relative=0.02), Tolerance(by=0.005, relative=0.0))
    """

    of: Of = Field(
        description="errors (share of failed requests), latency (whole distribution) or loss (labelled rows)"
    )
    worse_by_at_most: Allowed | None = Field(
        None,
        description="`2%` of the champion's level, or a number in the unit; default .005 errors, 10% time, 2% loss",
    )
    at_least: NonNegativeInt = Field(200, description="rows of the challenger per step before it may proceed")
    largest: float = Field(1.0, gt=0, description="losses above this count as this: evidence needs a bound")
    slack: Duration = Field(
        SLACK,
        description="latency: what is less slower is nobody's; the process that a trial runs in costs so much",
    )
    weight: float = Field(1.0, gt=0, description="its part in the promise; more weight finds harm sooner here")
    slices: bool = Field(False, description="look at each declared slice too")
    unit: Literal["row", "interval"] = Field(
        "row", description="interval: its mean is one row; slow, but rows of an interval may hang together as they like"
    )
    on: Literal["same", "different", "both"] = Field(
        "both", description="same rows (shadow), different rows (canary), or both: each then has half of its part"
    )
    prove: bool = Field(False, description="proceed only once it is proved to be within what is allowed")

    @model_validator(mode="after")
    def _fitting(self) -> Check:
        if self.of == "latency" and self.allowed.by:
            raise ValueError("worse_by_at_most of latency is a share of the champion's time; write for instance 10%")
        if self.of == "latency" and self.unit == "interval":
            raise ValueError("latency is compared as a distribution, which a mean has not; leave out `unit`")
        if self.of != "latency" and self.slack != SLACK:
            raise ValueError(f"`slack` is of latency; for {self.of} write `worse_by_at_most`")
        if self.of == "errors" and self.largest != 1:
            raise ValueError("an error is 0 or 1; leave out `largest`")
        if self.of == "latency" and self.on == "same":
            raise ValueError(
                "latency is compared on different rows: a copied request is not answered in the same queue"
            )
        if min(self.allowed.by, self.allowed.relative) < 0:
            raise ValueError("worse_by_at_most cannot be negative; to ask for more than the champion's, use the judge")
        return self

    @property
    def allowed(self) -> Tolerance:
        """What is tolerated, in the check's unit."""
        return USUAL[self.of] if self.worse_by_at_most is None else self.worse_by_at_most

    @property
    def scaled(self) -> Tolerance:
        """What is tolerated, with losses divided by the largest one."""
        return Tolerance(self.allowed.by / self.largest, self.allowed.relative)


class Guarding(BaseModel, frozen=True, extra="forbid"):
    """What the guard compares, what it promises, and what it does when it cannot tell."""

    checks: tuple[Check, ...] = Field(
        (Check(of="errors"), Check(of="latency"), Check(of="loss")), description="what is compared"
    )
    false_rollbacks: Share = Field(
        0.01, gt=0, lt=1, description="of releases that are no worse, over all checks, slices and looks together"
    )
    leaning: float = Field(10.0, gt=1, description="evidence from which on it waits for more instead of proceeding")
    requests_at_least: PositiveInt = Field(100, description="answered by the challenger in a step, labelled or not")
    labels_mature_after: Duration = Field(timedelta(0), description="how long labels take; added to the time allowed")
    extend_up_to: Duration = Field(timedelta(hours=24), description="how long an inconclusive step may be extended")
    looks_at_most: PositiveInt | None = Field(None, description="looks in a step before it counts as inconclusive")
    inconclusive: Literal["promote", "abort", "ask"] = Field("ask", description="what follows when the time is up")
    slices_at_most: PositiveInt = Field(20, description="slices that share the promise; later ones are passed over")

    @model_validator(mode="after")
    def _once(self) -> Guarding:
        names = [check.of for check in self.checks]
        if not names:
            raise ValueError("a guard without checks sees nothing; name one of errors, latency, loss")
        if len(set(names)) < len(names):
            raise ValueError("each of errors, latency and loss is checked once; merge the two checks")
        return self

    def check(self, of: str) -> Check:
        """The check of that name.

        Raises:
            UsageError: it is not among the checks.
        """
        for check in self.checks:
            if check.of == of:
                return check
        told = ", ".join(check.of for check in self.checks)
        raise UsageError(f"{of!r} is not checked; the guard compares {told}")
