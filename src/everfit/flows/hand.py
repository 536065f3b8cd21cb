"""Notes that are read again and again, kept at hand as what they mean.

Takes keys and how to read their bytes; gives the same object for the same key; never keeps more than a few, for windows
follow each other and ask for the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from everfit.ports import Notes

T = TypeVar("T")
MOST = 8  # of one champion: two monitors before and after, an estimator, a crowd, its reference


@dataclass(frozen=True, slots=True)
class Hand:
    """A few notes as objects. Content is the key, so what is kept is never out of date."""

    notes: Notes
    _kept: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str, read: Callable[[bytes], T]) -> T:
        """What a note means."""
        if key not in self._kept:
            self._keep(key, read(self.notes.get(key)))
        kept: T = self._kept[key]
        return kept

    def put(self, content: bytes, meaning: object) -> str:
        """Write a note whose meaning is at hand already; its key."""
        key = self.notes.put(content)
        self._keep(key, meaning)
        return key

    def _keep(self, key: str, meaning: object) -> None:
        while len(self._kept) >= MOST:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = meaning
