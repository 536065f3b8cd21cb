"""What the user may choose about signals and alarms.

Takes plain values from the spec; gives frozen records; never reads the world.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt

from everfit.units import Duration, Share


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


class Watching(BaseModel, frozen=True, extra="forbid"):
    """What is measured on each window and what counts as an alarm."""

    false_alarms: FalseAlarms = Field(FalseAlarms(), description="the rate that the lines are set for")
    metrics: tuple[str, ...] = Field((), description="metrics besides the primary one")
    slices: tuple[str, ...] = Field((), description="columns by whose values performance is also shown")
    at_least: PositiveInt = Field(
        200, description="a window with fewer rows than this gives NotEnough instead of a reading"
    )
    effect: float = Field(
        0.1, ge=0, description="drift below this debiased PSI is never an alarm, however many the rows"
    )
    quality: Quality = Field(Quality(), description="when rows are broken rather than drifted")
