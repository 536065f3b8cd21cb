"""Keys that are derived from content, so that the same thing has the same name everywhere and for ever.

Takes plain values; gives keys and canonical JSON; never reads a clock, and only `issued_id` reads chance.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, is_dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from hashlib import blake2b
from typing import Any


def canonical(value: Any) -> bytes:
    """Write a value as JSON in one fixed way: sorted keys, no spaces, times in ISO, durations in seconds.

    >>> canonical({"b": timedelta(hours=1), "a": (1, None)})
    b'{"a":[1,null],"b":3600.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain).encode()


def content_key(*parts: Any, size: int = 10) -> str:
    """Name a thing by its content: `2 * size` hexadecimal digits of BLAKE2b over the canonical JSON of `parts`.

    >>> content_key("renew", "2013-02-01") == content_key("renew", "2013-02-01")
    True
    """
    return blake2b(canonical(parts), digest_size=size).hexdigest()


def share_of(key: str, parts: int = 100) -> int:
    """Place a key in one of `parts` equal shares, the same everywhere and for ever.

    >>> share_of("user-17") == share_of("user-17")
    True
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) % parts


def issued_id() -> str:
    """Issue a fresh event id for a prediction whose caller brought none (the one place where chance is read)."""
    return uuid.uuid4().hex


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    match value:
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Enum():
            return value.value
        case frozenset() | set():
            return sorted(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no canonical form")
