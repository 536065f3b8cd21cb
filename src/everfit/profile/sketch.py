"""Small summaries of what a column holds: how many distinct values, and which values are frequent.

Takes hashes and counts; gives summaries that add up; never keeps more than a fixed number of values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everfit.profile.hashes import Hashes, number_hashes

KEPT = 1024  # smallest hashes that are kept: up to here distinct values are exact, beyond within 3.1 % (one sigma)
FREQUENT = 64  # names whose counts are kept besides those of the bins
ALL = np.uint64(2**64 - 1)
NOTHING: Mapping[str, int] = MappingProxyType({})


def smallest(kept: Hashes, more: Hashes) -> Hashes:
    """Keep the smallest hashes of both, in order. The same values give the same result in any order and partition.

    >>> smallest(np.array([1, 5], dtype=np.uint64), np.array([3, 1], dtype=np.uint64)).tolist()
    [1, 3, 5]
    """
    together: Hashes = np.concatenate([kept, more])
    together.sort()  # np.unique hashes first and takes ten times as long
    return together[firsts(together)][:KEPT]


def firsts(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of these ordered values differ from the one before.

    >>> firsts(np.array([1, 1, 2])).tolist()
    [True, False, True]
    """
    found = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=found[1:])
    return found


class Distinct:
    """Gathers the smallest hashes of sorted blocks of floats; those that can still enter wait until they are many.

    >>> seen = Distinct()
    >>> seen.add(np.array([1.0, 1.0, 2.0]))
    >>> len(seen.hashes())
    2
    """

    __slots__ = ("_kept", "_limit", "_many", "_room", "_tied", "_waiting")

    def __init__(self) -> None:
        self._kept: Hashes = np.zeros(0, dtype=np.uint64)
        self._limit = ALL
        self._waiting: list[Hashes] = []
        self._many = 0
        self._room = np.empty(0)
        self._tied = True  # whether many values of a block come twice or can still enter: then each is hashed once

    def add(self, block: NDArray[np.float64]) -> None:
        """Add a sorted block of one value at least."""
        if len(self._room) < len(block):
            self._room = np.empty(len(block))
        fresh = number_hashes(block[firsts(block)] if self._tied else block, self._room)
        if self._limit != ALL:
            fresh = fresh[np.flatnonzero(fresh < self._limit)]
            self._tied = len(fresh) * 8 > len(block)
        else:
            fresh = fresh.copy()  # out of the room that the next block needs
        self._waiting.append(fresh)
        self._many += len(fresh)
        if self._many > 2 * KEPT:
            self._settle()

    def hashes(self) -> Hashes:
        """The smallest so far, in order."""
        self._settle()
        return self._kept

    def _settle(self) -> None:
        if self._waiting:
            self._kept = smallest(self._kept, np.concatenate(self._waiting))
            self._waiting, self._many = [], 0
        if len(self._kept) == KEPT:
            self._limit = self._kept[-1]


def distinct(kept: Hashes) -> int:
    """How many distinct values were hashed: exact below 1,024, else with a standard error of 3.1 %.

    Source: Bar-Yossef et al. 2002, Counting distinct elements in a data stream; the unbiased form (k - 1) / h_k and
    its error 1 / sqrt(k - 2) by Beyer et al. 2007.

    >>> distinct(np.arange(7, dtype=np.uint64))
    7
    """
    if len(kept) < KEPT:
        return len(kept)
    return round((KEPT - 1) / (float(kept[-1]) / 2.0**64))


@dataclass(frozen=True, slots=True)
class Frequent:
    """Counts of the frequent names; each is too small by `missed` at most, and every other name has no more than that.

    Source: Misra and Gries 1982; that summaries add up with the sum of their errors: Agarwal et al. 2012, Mergeable
    summaries. `missed` is at most the number of values over 65.
    """

    counts: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    missed: int = 0


def frequent(a: Frequent, counts: Mapping[str, int], missed: int = 0) -> Frequent:
    """Add counts to a summary, and reduce it to its size again.

    >>> frequent(Frequent({"a": 2}), {"a": 1, "b": 1}).counts
    {'a': 3, 'b': 1}
    """
    together = dict(a.counts)
    for name, many in counts.items():
        together[name] = together.get(name, 0) + many
    if len(together) <= FREQUENT:
        return Frequent(together, a.missed + missed)
    cut = sorted(together.values(), reverse=True)[FREQUENT]
    kept = {name: many - cut for name, many in together.items() if many > cut}
    return Frequent(kept, a.missed + missed + cut)
