"""What the user may choose about going live.

Takes plain values from the spec; gives frozen records; never reads the world.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, Field, PositiveInt

from everfit.units import Duration


class Rolling(BaseModel, frozen=True, extra="forbid"):
    """How a proven candidate goes live."""

    approve: bool = Field(False, description="ask a person before going live")
    bake: Duration = Field(timedelta(0), description="after going live, the next run waits at least this long")
    keep: PositiveInt = Field(10, description="model versions kept; the champion and the previous one always are")
