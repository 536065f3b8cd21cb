"""Quantities with their unit, as users write them in a spec: `6h`, `30d`, `5%`, `500MB`.

Takes text or plain numbers; gives `timedelta`, shares in [0, 1] and bytes as pydantic types; never guesses a unit.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field, PlainSerializer, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*")


def parse_duration(value: Any) -> Any:
    """Read `15m`, `6h`, `30d`, `2w`, `90s` or a sum such as `1d 12h`.

    >>> parse_duration("1d 12h")
    datetime.timedelta(days=1, seconds=43200)
    """
    if isinstance(value, timedelta):
        return value
    if value == 0 and not isinstance(value, bool):
        return timedelta(0)
    text = str(value)
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text):
        raise ValueError(f"{value!r} is not a duration; write for instance 15m, 6h or 30d")
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))


def duration_text(value: timedelta) -> str:
    """Write a duration as a spec would.

    >>> duration_text(timedelta(days=1, hours=12))
    '1d 12h'
    """
    left, parts = value.total_seconds(), []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _SECONDS[unit])
        if count:
            parts.append(f"{count:g}{unit}")
    if left:
        parts.append(f"{left * 1000:g}ms")
    return " ".join(parts) or "0s"


def parse_share(value: Any) -> Any:
    """Read `5%` or 0.05 as a share in [0, 1].

    >>> parse_share("5%")
    0.05
    """
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return round(float(value.strip()[:-1]) / 100, 12)
        except ValueError:
            raise ValueError(f"{value!r} is not a share; write for instance 5% or 0.05") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a share; write for instance 5% or 0.05")
    return float(value)


def parse_bytes(value: Any) -> Any:
    """Read `500MB` or a plain number of bytes.

    >>> parse_bytes("500MB")
    500000000
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", str(value))
    if match is None or match[2].upper() not in _BYTES:
        raise ValueError(f"{value!r} is not a size; write for instance 500MB or 2GB")
    return int(float(match[1]) * _BYTES[match[2].upper()])


def _as_utc(value: Any) -> Any:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if hasattr(value, "isoformat"):  # a YAML date
        return datetime.fromisoformat(value.isoformat()).replace(tzinfo=UTC)
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, return_type=str, when_used="json"),
    WithJsonSchema(
        {"type": "string", "examples": ["15m", "6h", "30d"], "description": "a duration such as 15m, 6h, 30d"}
    ),
]
Share = Annotated[
    float,
    BeforeValidator(parse_share),
    Field(ge=0, le=1),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": "%$"}]}),
]
Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}], "examples": ["500MB"]}),
]
Moment = Annotated[AwareDatetime, BeforeValidator(_as_utc)]
