"""What the user may choose about training.

Takes plain values from the spec; gives frozen records; never reads the world.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PositiveInt, Tag

from everfit.units import Bytes, Duration

DEFAULT_TRAINER = "everfit:gradient_boosting"


class Last(BaseModel, frozen=True, extra="forbid"):
    """The most recent rows."""

    last: Duration = Field(description="train on the rows of this long before the held-out ones")


def _rows_kind(value: Any) -> str:
    return "last" if isinstance(value, dict | Last) else "all"


TrainRows = Annotated[Annotated[Literal["all"], Tag("all")] | Annotated[Last, Tag("last")], Discriminator(_rows_kind)]


class Training(BaseModel):
    """Who trains, on which rows, within which limits."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    trainer: str = Field(
        DEFAULT_TRAINER,
        alias="with",
        pattern=r"^[\w.]+:\w+$",
        description="module:function beside the spec; default: gradient boosting that takes categories and nulls",
    )
    rows: TrainRows = Field("all", description="all, or {last: 90d}")
    parameters: dict[str, Any] = Field({}, description="keyword arguments for the trainer")
    at_least: PositiveInt = Field(500, description="fewer labelled rows than this and nothing is trained")
    timeout: Duration = Field(timedelta(hours=1), description="a trainer that runs longer is stopped")
    memory: Bytes = Field(4 * 10**9, description="a trainer that takes more memory is stopped")
    seed: int = Field(0, ge=0, description="given to the trainer and to every source of chance around it")
