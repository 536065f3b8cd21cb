"""A window as a row of scores: a few numbers per column, each of variance one while nothing but chance moves it.

Takes profiles, or counts that were gathered from them; gives scores; never tells what is unusual.

A chi-square over a column's bins spreads a day's effect over all its directions, and hides it from the estimate of how
much days differ. So a column is seen through few fixed directions, each with a variance of its own (`usual.py`):
the first three orthogonal polynomials in the rank for a number, the share of every bin, and the share of absent values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from everfit.detect.distribution import number_groups
from everfit.errors import UsageError
from everfit.observe.options import Kind
from everfit.profile.column import CategoryBins, ColumnProfile, NumberBins
from everfit.profile.hashes import BUCKETS, text_hashes
from everfit.profile.table import Profile

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Places = NDArray[np.intp]

BINS = 10  # per column: more bins dilute a shift over more tests
ENOUGH = 10.0  # rows that a category expects in a window to have a bin of its own, and a bin to carry a polynomial
POLYNOMIALS = 3  # place, spread, skew
FARTHEST = 1e-280  # a smaller tail is beyond what a float holds with all its digits; see `mid_p_scores`

# Families share one idea of how much windows differ (`spread.py`).
FAMILIES = ("place", "spread", "skew", "category", "bin", "absent")
# A column's chance of a false alarm is dealt out over its scores; its bins share what is left evenly. Most drift moves
# a number's place: with even parts for 14 scores, 0.1 sd would have to be a quarter of a standard error larger.
WEIGHTS = {"place": 0.3, "spread": 0.15, "skew": 0.05, "absent": 0.05}


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """How the counts of one column's profile are gathered into at most ten bins."""

    name: str
    ordered: bool  # the bins lie in the order of the values: polynomials make sense
    bins: int
    bin_of: Places  # numbers: bin of every count. categories: bin of every bucket for what has no bin of its own
    own: Places  # categories: places of the categories with a bin of their own, which come first; else empty
    own_bucket: Places  # their buckets

    def gather(self, column: ColumnProfile) -> Counts:
        """Counts per bin of one window."""
        if self.ordered:
            return _added(self.bin_of, column.counts, self.bins)
        mine = column.counts[self.own]
        if column.buckets is None or not len(self.bin_of):
            return np.append(mine, column.present - mine.sum()).astype(np.int64)
        rest = column.buckets.copy()
        np.subtract.at(rest, self.own_bucket, mine)
        return _added(self.bin_of, rest, self.bins) + np.append(mine, np.zeros(self.bins - len(mine), dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Windows as counts: what a `Lens` sees, and all that scores need."""

    bins: Counts  # windows x bins of all columns side by side
    absent: Counts  # windows x columns: rows without a usable value

    def __len__(self) -> int:
        return len(self.bins)

    def and_then(self, other: Counted) -> Counted:
        """These windows, then others."""
        return Counted(np.concatenate([self.bins, other.bins]), np.concatenate([self.absent, other.absent]))


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """What is looked at: the columns and their bins. Fixed until the reference is renewed."""

    columns: tuple[str, ...]
    ordered: NDArray[np.bool_]  # per column
    sizes: Counts  # bins per column
    views: tuple[View, ...]  # empty where counts are given and not profiles
    key: str  # the bins of the profiles it was learned from

    @property
    def starts(self) -> Places:
        """Where each column's bins begin."""
        return (np.cumsum(self.sizes) - self.sizes).astype(np.intp)

    @property
    def column_of_bin(self) -> Places:
        """The column of every bin."""
        return np.repeat(np.arange(len(self.columns)), self.sizes).astype(np.intp)

    def count(self, windows: Sequence[Profile]) -> Counted:
        """Gather the counts of windows.

        Raises:
            UsageError: a window was portrayed on other bins.
        """
        if any(window.bins.key != self.key for window in windows):
            raise UsageError(
                "a window stands on other bins than the healthy ones; portray both on the same reference's"
            )
        rows = [[window.columns[view.name] for view in self.views] for window in windows]
        bins = [np.concatenate([v.gather(c) for v, c in zip(self.views, row, strict=True)]) for row in rows]
        absent = [[column.absent for column in row] for row in rows]
        shape = len(windows), len(self.views)
        return Counted(
            np.array(bins, dtype=np.int64).reshape(len(windows), int(self.sizes.sum())),
            np.array(absent, dtype=np.int64).reshape(shape),
        )


def look_through(windows: Sequence[Profile]) -> Lens:
    """Learn the bins of every column from healthy windows.

    A number column gets at most ten bins of equal mass; a value that holds more than two of them stays alone. A
    category that expects ten rows in a window has a bin of its own, nine at most; the others are gathered by the hash
    of their name, which knows nothing of how frequent they were, so that luck is not taken for frequency. There is no
    bin for "not seen before": on the rows it was learned from its count is nothing by construction.

    >>> from everfit.observe.schema import Column, Schema
    >>> from everfit.profile.table import learn_bins, portray
    >>> day = pl.DataFrame({"x": [float(i) for i in range(100)], "c": ["a", "b"] * 50})
    >>> bins = learn_bins(day, Schema((Column("x", Kind.NUMBER), Column("c", Kind.CATEGORY)), ()))
    >>> look_through([portray(day, bins)]).sizes.tolist()
    [10, 3]

    Raises:
        UsageError: there is no window, or they stand on different bins.
    """
    if not windows:
        raise UsageError("nothing is known without a healthy window; wait for the first one to close")
    if len({window.bins.key for window in windows}) > 1:
        raise UsageError("healthy windows stand on different bins; portray all of them on one reference's")
    views = tuple(_view(name, [window.columns[name] for window in windows]) for name in windows[0].columns)
    return Lens(
        tuple(view.name for view in views),
        np.array([view.ordered for view in views], dtype=np.bool_),
        np.array([view.bins for view in views], dtype=np.int64),
        views,
        windows[0].bins.key,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Ruler:
    """What healthy shares are, and so what a score is measured against.

    Scores of a window stand in one row: three polynomials for every column, then every bin, then the absent values of
    every column. Where a column has none (`used` is False), the score is zero.
    """

    lens: Lens
    shares: Floats  # healthy share of every bin among present values
    absent: Floats  # healthy share of absent values, per column
    contrasts: Floats  # polynomials x bins
    skewness: Floats  # polynomials x columns: third moment of one row's contrast
    used: NDArray[np.bool_]  # per score
    column_of: Places  # per score
    family: Places  # per score, a place in FAMILIES
    bin_of: Places  # per score: the bin within its column; -1 where it is none
    weights: Floats  # per score its part of its column's chance of a false alarm; each column's add up to 1

    def scores(self, windows: Counted) -> tuple[Floats, Floats]:
        """Scores of windows, and the rows behind each: both windows x scores."""
        lens, starts = self.lens, self.lens.starts
        present = np.add.reduceat(windows.bins, starts, axis=1).astype(np.float64)
        rows = np.maximum(present, 1.0)
        column_of_bin = lens.column_of_bin
        shares = windows.bins / rows[:, column_of_bin]
        parts = []
        for contrast, skewness in zip(self.contrasts, self.skewness, strict=True):
            raw = np.sqrt(rows) * np.add.reduceat(shares * contrast, starts, axis=1)
            parts.append(straightened(raw, skewness / np.sqrt(rows)))
        parts.append(mid_p_scores(windows.bins, present[:, column_of_bin], self.shares))
        everyone = present + windows.absent
        parts.append(mid_p_scores(windows.absent, everyone, self.absent))
        sizes = np.concatenate([*[rows] * POLYNOMIALS, rows[:, column_of_bin], np.maximum(everyone, 1.0)], axis=1)
        return np.where(self.used, np.concatenate(parts, axis=1), 0.0), sizes


def learn_ruler(lens: Lens, healthy: Counted) -> Ruler:
    """Take the measure of healthy windows. Half a row is added to every share, so that nothing is impossible."""
    bins, absent = healthy.bins.sum(axis=0).astype(np.float64), healthy.absent.sum(axis=0).astype(np.float64)
    present, columns = np.add.reduceat(bins, lens.starts), len(lens.columns)
    column_of_bin = lens.column_of_bin
    contrasts, skewness = np.zeros((POLYNOMIALS, len(bins))), np.zeros((POLYNOMIALS, columns))
    for place in np.flatnonzero(lens.ordered):
        mine = slice(lens.starts[place], lens.starts[place] + lens.sizes[place])
        contrasts[:, mine], skewness[:, place] = polynomials(bins[mine], ENOUGH * len(healthy))
    carried = np.add.reduceat(np.abs(contrasts), lens.starts, axis=1) > 0
    used = np.concatenate([carried.ravel(), (lens.sizes > 1)[column_of_bin], np.ones(columns, dtype=np.bool_)])
    everywhere = np.arange(columns)
    column_of = np.concatenate([*[everywhere] * POLYNOMIALS, column_of_bin, everywhere]).astype(np.intp)
    family = np.concatenate(
        [np.repeat(range(POLYNOMIALS), columns), np.where(lens.ordered[column_of_bin], 4, 3), np.full(columns, 5)]
    ).astype(np.intp)
    none = np.full(columns, -1)
    bin_of = np.concatenate([*[none] * POLYNOMIALS, np.arange(len(bins)) - lens.starts[column_of_bin], none])
    return Ruler(
        lens=lens,
        shares=(bins + 0.5) / (present[column_of_bin] + 1.0),
        absent=(absent + 0.5) / (present + absent + 1.0),
        contrasts=contrasts,
        skewness=skewness,
        used=used,
        column_of=column_of,
        family=family,
        bin_of=bin_of.astype(np.intp),
        weights=_weights(used, column_of, family),
    )


def polynomials(counts: Floats, least: float) -> tuple[Floats, Floats]:
    """Up to three polynomials in the middle rank of ordered bins, of mean 0 and variance 1 under the bins' shares.

    A bin of fewer than `least` rows in all shares the contrast of its neighbours, for a single row in it would weigh
    too much; with fewer than three such groups there is no polynomial, because the bins' own scores say the same.
    They do not change when the values are transformed, as long as the order stays.

    Returns:
        The contrasts, polynomials x bins, zero where there is none; and the third moment of each.

    >>> polynomials(np.array([10.0, 10.0, 10.0]), least=1.0)[0][1].round(2).tolist()
    [0.71, -1.41, 0.71]
    """
    groups = _heavy_groups(counts, least)
    mass = np.bincount(groups, weights=counts)
    contrasts, skewness = np.zeros((POLYNOMIALS, len(counts))), np.zeros(POLYNOMIALS)
    if len(mass) < 3 or mass.min() < least:
        return contrasts, skewness
    shares = mass / mass.sum()
    ranks = np.cumsum(shares) - shares / 2
    many = min(POLYNOMIALS, len(mass) - 1)
    weights = np.sqrt(shares)
    basis, signs = np.linalg.qr(np.vander(ranks, many + 1, increasing=True) * weights[:, None])
    basis = (basis * np.sign(np.diag(signs)))[:, 1:].T / weights
    contrasts[:many] = basis[:, groups]
    skewness[:many] = (basis**3) @ shares
    return contrasts, skewness


def straightened(scores: Floats, skewness: Floats) -> Floats:
    """Take the skewness off scores, so that their tails are those of a normal; increasing in the score.

    With bins of unequal mass a contrast is lopsided. Source: Hall 1992, On the removal of skewness by transformation.

    >>> straightened(np.array([3.0, -3.0]), np.array([0.0])).tolist()
    [3.0, -3.0]
    """
    slope = skewness / 6
    found: Floats = scores - slope * (scores**2 - 1) + slope**2 * scores**3 / 3
    return found


def mid_p_scores(counts: Counts, rows: Floats, shares: Floats) -> Floats:
    """Normal scores of binomial counts: the normal quantile of P(fewer) + P(as many) / 2.

    Their tails stay below the normal's at every expected count, where Pearson's residual and the arcsine do not.
    Source: Lancaster 1961, Significance tests in discrete distributions. Tails below 1e-280 (beyond about 36) go on as
    the signed root of the deviance, which is the same to the first order.

    >>> mid_p_scores(np.array([5, 9]), np.array([10.0, 10.0]), np.array([0.5, 0.5])).round(3).tolist()
    [0.0, 2.521]
    """
    upper = counts > rows * shares
    chance = np.where(upper, shares, 1 - shares)  # a count below what is expected is a high count of the rest
    hits = np.where(upper, counts, rows - counts).astype(np.float64)
    misses = rows - hits
    log_pmf = (
        scipy.special.gammaln(rows + 1)
        - scipy.special.gammaln(hits + 1)
        - scipy.special.gammaln(misses + 1)
        + scipy.special.xlogy(hits, chance)
        + scipy.special.xlog1py(misses, -chance)
    )
    beyond = scipy.special.betainc(hits + 1, np.maximum(misses, 0.5), chance)
    tail = np.where(misses > 0, beyond, 0.0) + np.exp(log_pmf) / 2
    found = -scipy.special.ndtri(np.maximum(tail, FARTHEST))
    far = tail <= FARTHEST
    if far.any():
        expected = np.maximum(rows * chance, np.finfo(np.float64).tiny)
        others = np.maximum(rows * (1 - chance), np.finfo(np.float64).tiny)
        deviance = scipy.special.rel_entr(hits, expected) + scipy.special.rel_entr(misses, others)
        found = np.where(far, np.sqrt(2 * np.maximum(deviance, 0.0)), found)
    return np.where(rows > 0, np.where(upper, found, -found), 0.0)


def _weights(used: NDArray[np.bool_], column_of: Places, family: Places) -> Floats:
    """Each score's part of its column; without bins the others share all."""
    named = np.array([WEIGHTS.get(name, 0.0) for name in FAMILIES])[family] * used
    bins = used & (named == 0)
    left = 1 - np.bincount(column_of, weights=named)
    each = named + np.where(bins, (left / np.maximum(1, np.bincount(column_of, weights=bins)))[column_of], 0.0)
    found: Floats = each / np.bincount(column_of, weights=each)[column_of]
    return found


def _view(name: str, columns: Sequence[ColumnProfile]) -> View:
    first = columns[0]
    counts = np.sum([column.counts for column in columns], axis=0)
    none = np.empty(0, dtype=np.intp)
    if not isinstance(first.bins, CategoryBins):
        bin_of = number_groups(counts, BINS).astype(np.intp)
        return View(name, True, int(bin_of.max()) + 1, bin_of, none, none)
    known = counts[: first.bins.top]
    most = 1 if first.kind is Kind.FLAG else BINS - 1
    own = np.argsort(-known, kind="stable")[:most]
    own = np.sort(own[known[own] >= ENOUGH * len(columns)]).astype(np.intp)
    if any(column.buckets is None for column in columns):
        return View(name, False, len(own) + 1, none, own, none)
    names = list(islice(first.bins.places, first.bins.top))
    own_bucket = _buckets([names[place] for place in own])
    rest = np.sum([column.buckets for column in columns if column.buckets is not None], axis=0)
    np.subtract.at(rest, own_bucket, counts[own])
    groups = _rest_groups(rest, len(columns), BINS - len(own))
    return View(name, False, len(own) + int(groups.max()) + 1, groups + len(own), own, own_bucket)


def _rest_groups(rest: Counts, windows: int, most: int) -> Places:
    """Gather neighbouring buckets until a window expects ten rows in each group; `most` groups in all."""
    wanted = max(ENOUGH * windows, float(rest.sum()) / most)
    middle = np.cumsum(rest) - rest / 2
    groups = np.minimum(middle // wanted, most - 1).astype(np.int64)
    groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
    return _heavy_groups(rest.astype(np.float64), ENOUGH * windows, groups)


def _heavy_groups(counts: Floats, least: float, groups: Places | None = None) -> Places:
    """Join neighbouring groups until each holds `least`; a light last one joins the one before it."""
    groups = np.arange(len(counts)) if groups is None else groups
    found, place, held = np.zeros(int(groups.max()) + 1, dtype=np.intp), 0, 0.0
    masses = np.bincount(groups, weights=counts)
    for group, mass in enumerate(masses):
        if held >= least:
            place, held = place + 1, 0.0
        found[group] = place
        held += mass
    if held < least and place > 0:
        found[found == place] = place - 1
    return found[groups]


def _buckets(names: Sequence[str]) -> Places:
    """The bucket of each category, as its profile counts it."""
    if not names:
        return np.empty(0, dtype=np.intp)
    return (text_hashes(pl.Series(list(names), dtype=pl.String)) // np.uint64(2**64 // BUCKETS)).astype(np.intp)


def _added(places: Places, counts: Counts, size: int) -> Counts:
    """Counts added up by place. Floats hold integers up to 2^53 exactly."""
    return np.bincount(places, weights=counts, minlength=size).astype(np.int64)


def bin_name(view: View, column: ColumnProfile, place: int) -> str:
    """What a person calls a bin: a category's name, or a range of values.

    Args:
        view: How the column was gathered.
        column: A profile of it, for the edges and names.
        place: The bin.
    """
    if not view.ordered:
        if place >= len(view.own):
            return "other categories"
        assert isinstance(column.bins, CategoryBins)
        return next(islice(column.bins.places, int(view.own[place]), None))
    assert isinstance(column.bins, NumberBins)
    edges = column.bins.edges
    inside = np.flatnonzero(view.bin_of == place)
    low = "" if inside[0] == 0 else f"{edges[inside[0] - 1]:.4g}"
    high = "" if inside[-1] >= len(edges) else f"{edges[inside[-1]]:.4g}"
    if not low or not high:
        return f"up to {high}" if high else f"over {low}" if low else "any value"
    return low if low == high else f"{low} to {high}"
