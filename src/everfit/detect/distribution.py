"""Distances between two counts over the same bins, with what chance alone would give.

Takes counts of a reference and of now, bin by bin; gives numbers; never sees a row, a line or a name.

Every function takes `expected` (the reference's counts) and `actual`; both may be of any size, but a distance
of no rows is undefined and refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from everfit.detect.tails import chi_square_tail, kolmogorov_tail
from everfit.errors import UsageError

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]

GROUPS = 16  # PSI's noise grows as (bins - 1)(1/n + 1/m): with 16, below a line of 0.1 from 200 rows on
RARE = 5.0  # expected counts below this make the chi-square tail too light; such bins are merged


@dataclass(frozen=True, slots=True)
class Distance:
    """A distance beside the chance of one this large if nothing had changed."""

    value: float
    p_value: float


def number_groups(expected: ArrayLike, groups: int = GROUPS) -> Groups:
    """Which of about `groups` neighbourhoods of equal mass each bin of a number column belongs to.

    A bin heavier than two groups is a group by itself. A bin that is empty in the reference belongs where it
    lies: to the neighbours if they are light, to itself beside a heavy one, so that a constant that changed
    its value is seen.

    >>> number_groups([0, 1, 1, 1, 1, 0], groups=2).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    counts = np.asarray(expected, dtype=np.float64)
    middle = np.cumsum(counts) - counts / 2
    total = max(1.0, float(counts.sum()))
    return _dense(np.minimum(middle * groups // total, groups - 1).astype(np.int64))


def category_groups(expected: ArrayLike, actual: ArrayLike, groups: int = GROUPS) -> tuple[Floats, Floats]:
    """Gather the counts of categories, then "other", then "unseen", into at most about `2 * groups` groups.

    A category that holds its share of the reference (one in `groups`) stays alone. The rest are dealt out in
    turn by their rank, to and fro, so that every group has frequent and rare ones; "other" and "unseen" are
    dealt out evenly, because any group might hold them. Grouping like by like would mistake luck for
    frequency: what was common in the reference by chance is less so now, and a reference of many categories
    never has seen all. Names play no role.

    >>> e, a = category_groups([50, 40, 3, 2, 0, 0], [50, 40, 0, 0, 0, 5], groups=4)
    >>> e.tolist(), a.tolist()
    ([50.0, 40.0, 5.0], [50.0, 40.0, 5.0])
    """
    e, a = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    known, now = e[:-2], a[:-2]
    alone = known * groups >= e.sum()
    rest = np.flatnonzero(~alone)
    rest = rest[np.argsort(-known[rest], kind="stable")]
    spread = e[-2:].sum(), a[-2:].sum()
    heaps = int(np.clip((known[rest].sum() + spread[0]) * groups // max(1.0, e.sum()), 1, max(1, len(rest))))
    turn = np.arange(len(rest)) % (2 * heaps)
    heap = np.minimum(turn, 2 * heaps - 1 - turn)
    dealt = [np.bincount(heap, weights=w, minlength=heaps) for w in (known[rest], now[rest])]
    sides = [
        np.append(kept, heaped + more / heaps)
        for kept, heaped, more in zip((known[alone], now[alone]), dealt, spread, strict=True)
    ]
    return sides[0], sides[1]


def merged(counts: ArrayLike, groups: Groups) -> Floats:
    """Counts per group.

    >>> merged([1, 2, 3], np.array([0, 1, 1])).tolist()
    [1.0, 5.0]
    """
    sums: Floats = np.bincount(groups, weights=np.asarray(counts, dtype=np.float64)).astype(np.float64)
    return sums


def psi(expected: ArrayLike, actual: ArrayLike) -> float:
    """Population stability index: sum of (a - e) ln(a / e) over the shares of the bins.

    0 for equal shares, 0.1 is commonly called a small and 0.25 a large change. Half a row is added to every
    bin, so that an empty one does not make it infinite. Source: Siddiqi 2006, Credit Risk Scorecards; it is
    the symmetric divergence of Kullback and Leibler 1951.

    Args:
        expected: Counts of the reference per bin, 10 to 32 bins.
        actual: Counts of now.

    >>> round(psi([50, 50], [75, 25]), 3)
    0.269
    """
    e, a = _two(expected, actual)
    p, q = (e + 0.5) / (e + 0.5).sum(), (a + 0.5) / (a + 0.5).sum()
    return max(0.0, float(((q - p) * np.log(q / p)).sum()))


def psi_noise(expected: ArrayLike, actual: ArrayLike) -> float:
    """The PSI that chance alone gives on average when nothing changed: (B - 1)(1/n + 1/m).

    B counts the bins that are not empty on both sides. Source: Yurdakul 2018, Statistical properties of the
    population stability index.

    >>> round(psi_noise([50, 50, 0], [75, 25, 0]), 3)
    0.02
    """
    e, a = _two(expected, actual)
    return float((np.count_nonzero(e + a) - 1) * (1 / e.sum() + 1 / a.sum()))


def debiased_psi(expected: ArrayLike, actual: ArrayLike) -> float:
    """PSI less its noise, so that small windows do not look drifted; may be a little below 0.

    >>> round(debiased_psi([50, 50], [75, 25]), 3)
    0.249
    """
    return psi(expected, actual) - psi_noise(expected, actual)


def ks(expected: ArrayLike, actual: ArrayLike) -> Distance:
    """Kolmogorov-Smirnov: the largest distance of the two cumulative shares, over ordered bins.

    The p-value is the limit law at sqrt(nm / (n + m)) D; with bins and ties it is larger than the exact one,
    never smaller in the limit. Source: Smirnov 1939; on 256 bins of equal mass D is within 0.0004 of that of
    a million rows.

    Args:
        expected: Counts of the reference per bin, in the order of the values.
        actual: Counts of now.

    >>> tested = ks([10, 10], [20, 0])
    >>> tested.value, round(tested.p_value, 3)
    (0.5, 0.013)
    """
    e, a = _two(expected, actual)
    n, m = e.sum(), a.sum()
    distance = float(np.abs(np.cumsum(e) / n - np.cumsum(a) / m).max())
    return Distance(distance, kolmogorov_tail(float(np.sqrt(n * m / (n + m))) * distance))


def jensen_shannon(expected: ArrayLike, actual: ArrayLike) -> float:
    """Jensen-Shannon distance, base 2: 0 for equal shares, 1 when no bin is shared. Symmetric.

    Source: Lin 1991, Divergence measures based on the Shannon entropy; the square root is a metric (Endres
    and Schindelin 2003).

    >>> jensen_shannon([10, 0], [0, 5]), jensen_shannon([10, 10], [4, 4])
    (1.0, 0.0)
    """
    e, a = _two(expected, actual)
    p, q = e / e.sum(), a / a.sum()
    between = (p + q) / 2
    divergence = (_entropy(p, between) + _entropy(q, between)) / 2 / np.log(2)
    return float(np.sqrt(max(0.0, min(1.0, divergence))))


def _entropy(shares: Floats, beside: Floats) -> float:
    """Relative entropy; a bin without a share adds nothing."""
    held = shares > 0
    return float((shares[held] * np.log(shares[held] / beside[held])).sum())


def wasserstein(expected: ArrayLike, actual: ArrayLike, values: Sequence[float] | Floats, scale: float) -> float:
    """Earth mover's distance of order 1 in units of `scale`: how far the mass moved, on average.

    Source: Villani 2009, Optimal Transport, for one dimension the area between the cumulative shares.

    Args:
        expected: Counts of the reference per bin.
        actual: Counts of now.
        values: A value that stands for each bin, increasing.
        scale: The reference's standard deviation; 0 (a constant) measures in the column's own unit.

    >>> wasserstein([10, 0], [0, 10], [0.0, 3.0], scale=2.0)
    1.5
    """
    e, a = _two(expected, actual)
    apart = np.abs(np.cumsum(e) / e.sum() - np.cumsum(a) / a.sum())[:-1]
    return float((apart * np.diff(np.asarray(values, dtype=np.float64))).sum() / (scale if scale > 0 else 1.0))


def chi_square(expected: ArrayLike, actual: ArrayLike) -> Distance:
    """Pearson's test that two counts come from the same shares; the distance is Cramer's V.

    Bins that expect fewer than 5 rows on either side are merged into one (and that, if still rare, into the
    smallest other); with a single bin left nothing can be told and p is 1. Source: Pearson 1900; Cramer 1946
    for V.

    >>> tested = chi_square([50, 50], [75, 25])
    >>> round(tested.value, 3), round(tested.p_value, 5)
    (0.258, 0.00026)
    """
    e, a = _two(expected, actual)
    n, m = e.sum(), a.sum()
    smaller = min(n, m) / (n + m)
    rare = (e + a) * smaller < RARE
    e, a = np.append(e[~rare], e[rare].sum()), np.append(a[~rare], a[rare].sum())
    if len(e) > 1 and (e[-1] + a[-1]) * smaller < RARE:
        least = int(np.argmin((e + a)[:-1]))
        e[least], a[least], e[-1], a[-1] = e[least] + e[-1], a[least] + a[-1], 0, 0
    e, a = e[e + a > 0], a[e + a > 0]
    if len(e) < 2:
        return Distance(0.0, 1.0)
    pooled = (e + a) / (n + m)
    statistic = float(((e - n * pooled) ** 2 / (n * pooled) + (a - m * pooled) ** 2 / (m * pooled)).sum())
    return Distance(float(np.sqrt(statistic / (n + m))), chi_square_tail(len(e) - 1, statistic))


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's step-down test rejects, so that any false rejection has chance `alpha` at most.

    Valid under any dependence between the tests. Source: Holm 1979, A simple sequentially rejective multiple
    test procedure.

    >>> holm([0.001, 0.04, 0.02], alpha=0.05)
    [True, True, True]
    >>> holm([0.001, 0.04, 0.03], alpha=0.05)
    [True, False, False]
    """
    rejected = [False] * len(p_values)
    for done, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if not p_values[place] <= alpha / (len(p_values) - done):
            break
        rejected[place] = True
    return rejected


def _two(expected: ArrayLike, actual: ArrayLike) -> tuple[Floats, Floats]:
    e, a = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    if e.shape != a.shape:
        raise UsageError(f"the reference has {e.size} bins and the window {a.size}; count both on the same bins")
    if not (e.sum() > 0 and a.sum() > 0):
        raise UsageError("a distance needs rows on both sides; ask for NotEnough instead")
    return e, a


def _dense(keys: Groups) -> Groups:
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)
