"""What the user may choose about proof.

Takes plain values from the spec; gives frozen records; never reads the world.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, Field, PositiveInt, Tag

from everfit.units import Bytes, Duration, Share


class Slices(BaseModel, frozen=True, extra="forbid"):
    """No group of rows may pay for the gain of the others."""

    by: tuple[str, ...] = Field((), description="columns whose values are judged each for itself")
    worse_by_at_most: float = Field(
        0.03, ge=0, description="in the primary metric's unit; proven worse than this and it is kept back"
    )
    at_least: PositiveInt = Field(200, description="slices with fewer rows are shown and not judged")


class Limits(BaseModel, frozen=True, extra="forbid"):
    """Limits besides quality."""

    latency_p99: Duration | None = Field(None, description="per request of one row, measured at judging")
    flips: Share | None = Field(None, description="share of rows whose predicted class may change; classification")
    size: Bytes | None = Field(None, description="bytes of the model on disk")


def _holdout_kind(value: Any) -> str:
    return "share" if isinstance(value, int | float) or str(value).strip().endswith("%") else "duration"


HeldOut = Annotated[Annotated[Duration, Tag("duration")] | Annotated[Share, Tag("share")], Discriminator(_holdout_kind)]


class Judging(BaseModel, frozen=True, extra="forbid"):
    """How a candidate is proven."""

    primary: str | None = Field(None, description="default: roc_auc (binary), log_loss (multiclass), mae (regression)")
    better_by: float = Field(0.0, ge=0, description="the paired interval must clear this, in the metric's own unit")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the paired interval")
    holdout: HeldOut = Field(
        0.2, description="most recent rows kept from training: a share such as 20%, or a duration such as 7d"
    )
    gap: Duration = Field(timedelta(0), description="left out between training and held-out rows, against leakage")
    at_least: PositiveInt = Field(200, description="fewer held-out labelled rows than this is Unproven")
    slices: Slices = Field(Slices(), description="groups that must not get worse")
    limits: Limits = Field(Limits(), description="limits besides quality")
