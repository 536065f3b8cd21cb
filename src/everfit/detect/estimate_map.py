"""From scores to chances: a map learned where the truth is known, rising unless the rows say otherwise.

Takes scores, truth and weights; gives chances and how sure they are; never sees the window that is estimated.

Bins of equal mass, made to rise by pooling adjacent violators (Zadrozny and Elkan 2002; Ayer et al. 1955) save where a
fall is certain, with straight lines between the bins' means, so that a map which is right already is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everfit.detect.outcomes import Floats, Ints

ROWS_A_BIN = 50  # standard error of a share of 0.5: 7 points; monotony brings it down further
SURE = 1e-4  # no map is surer than this beyond its outermost bins
MOST_BINS = 50  # a map of 50 lines is finer than any held-out set can tell


def sums(places: NDArray[np.integer[Any]], parts: Floats, many: int = 0) -> Floats:
    """Sum of the parts at each place.

    >>> sums(np.array([0, 2, 2]), np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 0.0, 5.0]
    """
    return np.bincount(places, weights=parts, minlength=many).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A map from the score of one class to its chance."""

    at: Floats  # scores of the nodes, rising
    chance: Floats  # chance of the class at each node
    variance: Floats  # of each node's chance

    def apply(self, scores: Floats) -> Floats:
        """Chances of scores, (rows,)."""
        chances: Floats = np.interp(scores, self.at, self.chance)
        return chances

    def uncertainty(self, scores: Floats, slopes: Floats) -> float:
        """Variance of a sum of slopes times chances over rows that comes from the nodes' own uncertainty."""
        if len(self.at) == 1:
            return float(slopes.sum() ** 2 * self.variance[0])
        place = np.clip(np.searchsorted(self.at, scores, side="right") - 1, 0, len(self.at) - 2)
        part = np.clip((scores - self.at[place]) / (self.at[place + 1] - self.at[place]), 0, 1)
        many = len(self.at)
        leaning = sums(place, slopes * (1 - part), many) + sums(place + 1, slopes * part, many)
        return float((leaning**2) @ self.variance)


def calibrate(scores: Floats, is_it: Floats, weights: Floats) -> Calibration:
    """Learn the map of one class from scores, whether the class was the truth, and the weights of the rows.

    >>> scores = np.linspace(0, 1, 2000)
    >>> often = (np.arange(2000) % 10) / 10 < scores
    >>> learned = calibrate(scores, often.astype(float), np.ones(2000))
    >>> bool(abs(learned.apply(np.array([0.3]))[0] - 0.3) < 0.1)
    True
    """
    order, rank = np.unique(scores, return_inverse=True)
    rank = rank.reshape(-1)
    mass = sums(rank, weights)
    many = int(np.clip(len(scores) // ROWS_A_BIN, 1, MOST_BINS))
    middle = (np.cumsum(mass) - mass / 2) / max(float(mass.sum()), 1e-300)
    groups = np.minimum((middle * many).astype(np.int64), many - 1)
    groups = np.unique(groups, return_inverse=True)[1].reshape(-1)  # equal scores stay together: some bins are empty
    bins = groups[rank]
    heavy, squares = sums(bins, weights), sums(bins, weights**2)
    x, share = sums(bins, weights * scores) / heavy, sums(bins, weights * is_it) / heavy
    own = heavy**2 / squares
    rising, blocks = _pool(share, heavy, own)
    rows = (sums(blocks, heavy) ** 2 / sums(blocks, squares))[blocks]
    # A share of nothing in n rows is not a chance of nothing: half a row is given to either side.
    chance = np.clip(rising, 0.5 / (rows + 1), 1 - 0.5 / (rows + 1))
    variance = chance * (1 - chance) / own
    return _with_ends(Calibration(x, chance, variance), float(order[0]), float(order[-1]))


def _pool(values: Floats, weights: Floats, rows: Floats) -> tuple[Floats, Ints]:
    """The nearest rising sequence, and which values it pools: adjacent violators become their mean.

    A fall that is certain by its rows stays: where rows became frequent for which the model is wrong, higher scores
    may well mean lower chances, and a map that must rise would not see what they cost.
    """
    means: list[float] = []
    heavy: list[float] = []
    counts: list[float] = []
    sizes: list[int] = []
    for value, weight, count in zip(values.tolist(), weights.tolist(), rows.tolist(), strict=True):
        mean, mass, many, size = value, weight, count, 1
        while means and means[-1] >= mean and not _falls(means[-1], counts[-1], mean, many):
            mean = (means[-1] * heavy[-1] + mean * mass) / (heavy[-1] + mass)
            mass, many, size = mass + heavy[-1], many + counts[-1], size + sizes[-1]
            del means[-1], heavy[-1], counts[-1], sizes[-1]
        means.append(mean)
        heavy.append(mass)
        counts.append(many)
        sizes.append(size)
    return np.repeat(means, sizes), np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)


def _falls(before: float, rows_before: float, after: float, rows_after: float) -> bool:
    """Whether a share lies below another by more than twice the noise of both."""
    share = (before * rows_before + after * rows_after) / (rows_before + rows_after)
    return before - after > 2 * sqrt(share * (1 - share) * (1 / rows_before + 1 / rows_after))


def _with_ends(inner: Calibration, lowest: float, highest: float) -> Calibration:
    """Go on with the last slopes to the ends, where the half bins lie beyond the outermost means."""
    at, chance, variance = inner.at, inner.chance, inner.variance
    if len(at) < 2:
        return inner
    first = chance[0] - (at[0] - lowest) * (chance[1] - chance[0]) / (at[1] - at[0])
    last = chance[-1] + (highest - at[-1]) * (chance[-1] - chance[-2]) / (at[-1] - at[-2])
    ends = np.clip([first, last], min(chance[0], SURE), max(chance[-1], 1 - SURE))
    if lowest < at[0]:
        at, chance, variance = (
            np.concatenate([[v], a]) for v, a in ((lowest, at), (ends[0], chance), (variance[0], variance))
        )
    if highest > at[-1]:
        at, chance, variance = (
            np.concatenate([a, [v]]) for v, a in ((highest, at), (ends[1], chance), (variance[-1], variance))
        )
    return Calibration(at, chance, variance)
