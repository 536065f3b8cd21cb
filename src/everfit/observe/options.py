"""What the user may choose about windows, labels, columns and where rows come from.

Takes plain values from the spec; gives frozen records; never reads the world.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, PositiveInt, Tag

from everfit.units import Duration


class Kind(StrEnum):
    """What a column holds. Learned from the first rows, then frozen."""

    NUMBER = "number"
    CATEGORY = "category"
    FLAG = "flag"
    MOMENT = "moment"
    TEXT = "text"  # long free text: watched by its length, and not trained on
    VECTOR = "vector"  # a list of numbers, such as an embedding: watched by its length as an arrow, and not trained on


class Rows(BaseModel, frozen=True, extra="forbid"):
    """A window of a number of rows instead of a time."""

    rows: PositiveInt = Field(description="rows in a window; rows of the same moment stay together")


def _window_kind(value: Any) -> str:
    return "rows" if isinstance(value, dict | Rows) else "duration"


WindowSize = Annotated[Annotated[Duration, Tag("duration")] | Annotated[Rows, Tag("rows")], Discriminator(_window_kind)]


class FeatureOptions(BaseModel, frozen=True, extra="forbid"):
    """Which columns are features, and of what kind."""

    include: tuple[str, ...] = Field((), description="only these columns; empty: every other column is a feature")
    exclude: tuple[str, ...] = Field((), description="columns that are never features")
    types: dict[str, Kind] = Field({}, description="kinds given by you instead of learned from the first rows")


class HttpSource(BaseModel, frozen=True, extra="forbid"):
    """Rows arrive over HTTP or from Python."""

    kind: Literal["http"] = "http"


class FilesSource(BaseModel, frozen=True, extra="forbid"):
    """Rows arrive as files; every new file is picked up once."""

    kind: Literal["files"]
    path: str = Field(description="a file or glob of Parquet or CSV with features, and the target where it is known")
    labels: str | None = Field(
        None, description="a file or glob with the id and target columns, for labels that come later"
    )


class Observing(BaseModel, frozen=True, extra="forbid"):
    """How the stream of events is cut and when its labels count."""

    window: WindowSize = Field(timedelta(days=1), description="a duration such as 1d, or {rows: 5000}")
    labels_mature_after: Duration = Field(
        timedelta(days=1), description="after this long a window's performance is no longer provisional"
    )
    late_by: Duration = Field(
        timedelta(0), description="a window closes this long after its end, so that late events still count"
    )
    ahead_at_most: Duration = Field(
        timedelta(hours=1),
        description="an event further in the future than this is refused: a clock is wrong",
    )
    source: Annotated[HttpSource | FilesSource, Field(discriminator="kind")] = Field(
        HttpSource(), description="where rows come from besides HTTP"
    )
