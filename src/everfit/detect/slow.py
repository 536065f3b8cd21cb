"""Drift that is too small for one window, and too slow for two: evidence that adds up over windows.

Takes windows beside what is usual; gives the state after each and whether it is an alarm; never looks back at rows.

A Shiryaev-Roberts e-detector (Shin, Ramdas, Rinaldo 2022, E-detectors) on the scores of `scores.py`: for every score,
both directions and four sizes of shift, M <- (M + 1) exp(l z - l^2 / 2). While nothing has changed each factor has a
mean of at most one, so the alarms in T windows are at most T times the rate, for every T: the weighted sum of M, less
the windows so far, plus threshold times alarms never grows on average. Assumed, beyond what `usual.py` assumes: a shift
smaller than 2.5 standard errors of the healthy mean may be the healthy mean's error, and is forgiven.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from everfit.detect.usual import FULL, Apart, Usual, place_on_grid
from everfit.errors import Refused, UsageError
from everfit.profile.table import Profile

Floats = NDArray[np.float64]

STEPS = np.array([0.25, 0.5, 1.0, 2.0])  # sizes of shift that are bet on, in standard deviations of a window's score
# Standard errors of the healthy mean. Alarms a year under day effects where 0.5 is promised, 20 / 30 / 90 healthy
# windows: with 3 standard errors .05 / .00 / .00, with 2.5 .40 / .15 / .05, with 2 1.25 / .75 / .15; s.e. .05 to .2.
FORGIVEN = 2.5
MOST = 3.0  # of z: one shocked window multiplies M + 1 by e^4 at most, against a threshold of 365
LEAST = -12.0  # of z: exp(-24) and less is nothing
MAGIC = b"everfit slow 1\n"


@dataclass(frozen=True, slots=True, eq=False)
class Slow:
    """Evidence so far: directions x steps x scores."""

    sums: NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """Write the state compactly."""
        shape = np.array(self.sums.shape, dtype="<u4").tobytes()
        raw = np.ascontiguousarray(self.sums.astype("<f4").ravel()).view(np.uint8).reshape(-1, 4).T.tobytes()
        return MAGIC + zlib.compress(shape + raw, level=6)

    @classmethod
    def from_bytes(cls, data: bytes) -> Slow:
        """Read what `to_bytes` wrote.

        Raises:
            Refused: these are not such bytes.
        """
        if not data.startswith(MAGIC):
            raise Refused("these bytes are not the state of a slow detector; begin a new one")
        plain = zlib.decompress(data[len(MAGIC) :])
        shape = np.frombuffer(plain[:12], dtype="<u4")
        raw = np.frombuffer(plain, dtype=np.uint8, offset=12).reshape(4, -1)
        sums = np.ascontiguousarray(raw.T).view("<f4").astype(np.float32).reshape(shape)
        return cls(sums)


@dataclass(frozen=True, slots=True, eq=False)
class Advanced:
    """The slow detector after one more window."""

    slow: Slow  # begun anew after an alarm
    value: float  # evidence; compare with `threshold`
    threshold: float  # 1 / rate
    column: str  # the one with the most evidence
    alarm: bool


def begin(usual: Usual) -> Slow:
    """No evidence yet."""
    return Slow(np.zeros((2, len(STEPS), len(usual.ruler.used)), dtype=np.float32))


def advance(
    slow: Slow, current: Profile, usual: Usual, rate: float, place: int | None = None, *, tolerance: float = 0.0
) -> Advanced:
    """Take one window into account.

    >>> import polars as pl
    >>> from everfit.detect.usual import learn_usual
    >>> from everfit.observe.options import Kind
    >>> from everfit.observe.schema import Column, Schema
    >>> from everfit.profile.table import learn_bins, portray
    >>> days = [pl.DataFrame({"x": np.random.default_rng(i).normal(size=300)}) for i in range(21)]
    >>> bins = learn_bins(pl.concat(days), Schema((Column("x", Kind.NUMBER),), ()))
    >>> usual = learn_usual([portray(day, bins) for day in days[:20]])
    >>> advance(begin(usual), portray(days[20], bins), usual, rate=1 / 730).alarm
    False

    Args:
        slow: The state before it.
        current: The window, on the bins of `usual`.
        usual: At least twenty healthy windows.
        rate: Of false alarms per window.
        place: The window's number on the grid of event time; needed where there is a season.
        tolerance: A shift that does not matter, in standard deviations (of a bin: of its rows' yes and no).

    Raises:
        UsageError: too few healthy windows, another champion's state, or no place where there is a season.
    """
    if usual.windows < FULL:
        raise UsageError(f"{usual.windows} healthy windows are too few for a slow detector; wait for {FULL}")
    counted = usual.lens.count([current])
    apart = usual.apart(counted, np.array([place_on_grid(usual, place)], dtype=np.intp))
    return advance_by(slow, evidence(usual, apart, tolerance)[0], usual, rate)


def evidence(usual: Usual, apart: Apart, tolerance: float = 0.0) -> Floats:
    """Normal scores of windows against "no shift beyond what is forgiven": windows x directions x scores."""
    forgiven = FORGIVEN * np.sqrt(apart.error) + tolerance
    deviation = np.sqrt(apart.within * usual.spread.memory)
    both = np.stack([(side * apart.far - forgiven) / deviation for side in (1, -1)], axis=1)
    tails = scipy.special.stdtr(usual.spread.freedom, -both)
    found: Floats = -scipy.special.ndtri(np.clip(tails, 1e-300, 1 - 1e-16))
    return np.clip(found, LEAST, MOST)


def advance_by(slow: Slow, scores: Floats, usual: Usual, rate: float) -> Advanced:
    """Take one window's evidence into account: directions x scores, as `evidence` gives it."""
    if slow.sums.shape[-1] != scores.shape[-1]:
        raise UsageError("this slow detector belongs to another champion's columns; begin a new one")
    bets = STEPS[:, None] * scores[:, None, :] - STEPS[:, None] ** 2 / 2
    sums = (slow.sums.astype(np.float64) + 1) * np.exp(bets)
    # Every column weighs the same, in it every score by its part, and of that every direction and step the same.
    held = sums.sum(axis=(0, 1)) * usual.ruler.weights / (len(usual.lens.columns) * 2 * len(STEPS))
    value = float(held.sum())
    by_column = np.bincount(usual.ruler.column_of, weights=held)
    blamed = usual.lens.columns[int(by_column.argmax())]
    alarm = value * rate >= 1
    return Advanced(begin(usual) if alarm else Slow(sums.astype(np.float32)), value, 1 / rate, blamed, alarm)
