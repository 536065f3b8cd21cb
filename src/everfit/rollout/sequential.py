"""Is the challenger worse? Tests that may be looked at after every batch, for as long as one likes.

Takes the losses or errors of both models in one interval, and what was weighed before; gives the evidence so
far, as a few floats; never promises less because somebody looked once more.

Evidence is the wealth of a gambler who bets that the challenger is worse than the tolerance allows (testing by betting:
Waudby-Smith and Ramdas 2024). While it is not, wealth has no upward drift, so it ever reaches 1 / alpha with a chance
of alpha at most (Ville 1939), however often and whenever one looks. On the same rows (paired) each row multiplies the
wealth by 1 + l (y - x - tolerance). On different rows each row of the challenger multiplies it by 1 + l (n_a / n) (y -
m - tolerance) and each of the champion by 1 - l (n_b / n) (x - m): whatever the centre m, the factors of one look have
a mean of at most 1, so their product does too (the arithmetic mean bounds the geometric one; for two Bernoulli this is
the block of Turner, Ly and Gruenwald 2024). Sizes l are spread over a grid and scaled by the spread seen before.
Wealth is also kept back for a start at every later look (weight 1 / (t (t + 1))), so that a challenger that turns bad
in its tenth hour is caught too.

Assumed: in each look, given all earlier ones, the mean difference over its rows is within the tolerance, and its rows
are independent. The level may move as it likes, as long as it moves for both. Where rows hang together (many requests
of one customer), `effect` divides the evidence, or `as_one` weighs an interval as a single row, which is valid under
any dependence inside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from everfit.errors import Refused, UsageError
from everfit.judge.verdict import Interval

Floats = NDArray[np.float64]

SIZES = 0.01 * 2.5 ** np.arange(6)  # of bets: differences in standard deviations of a row, .01 to .98
PARTS = np.array([3, 3, 2, 2, 1, 1]) / 12  # of the wealth: small differences need most rows, so save most there
AT_STAKE = 0.95  # of the wealth at most on one row, so that no single row ruins a bet
EARLY = 0.8  # of the wealth starts at the first look; the rest is kept for a start at a later one
LEVELS = (0.001, 0.01, 0.03, 0.1, 0.3, 0.6)  # guesses for the first look, where nothing is known
SPREADS = (0.03, 0.1, 0.3)  # the same for paired differences


@dataclass(frozen=True, slots=True)
class Sample:
    """Values in [0, 1] with how often each was seen, in rising order."""

    values: Floats
    counts: Floats

    @property
    def rows(self) -> float:
        """How many rows stand behind it."""
        return float(self.counts.sum())

    @property
    def mean(self) -> float:
        """The mean; 0 without rows."""
        return float(self.counts @ self.values / self.rows) if self.rows else 0.0

    @property
    def squares(self) -> float:
        """Sum of squared distances from the mean."""
        return float(self.counts @ (self.values - self.mean) ** 2)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What was weighed so far: plain numbers, so it can be kept as JSON."""

    worse: tuple[float, ...] = ()  # log wealth per bet that the challenger is worse than the tolerance
    fine: tuple[float, ...] = ()  # log wealth per bet that it is not
    looks: int = 0
    rows: tuple[float, float] = (0.0, 0.0)  # of the champion and of the challenger
    totals: tuple[float, float] = (0.0, 0.0)  # sums of the values of the champion and of the challenger
    squares: float = 0.0  # sum of squares (paired: of y - x - tolerance): the size of the next bets
    known: tuple[float, float, float] = (0.0, 0.0, 0.0)  # rows, sum and squares known from before (`knowing`)
    gap: tuple[float, float, float] = (0.0, 0.0, 0.0)  # sum of weights, weighted difference, its variance
    tuned: float = 0.0  # variance at which the interval is narrowest


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What is allowed: challenger <= (1 + relative) * champion + by."""

    by: float = 0.0  # in the unit of the values
    relative: float = 0.0  # share of the champion's level


NONE = Tolerance()


def knowing(level: float, spread: float | None = None, *, rows: float = 200.0) -> Weighed:
    """A beginning that knows the champion's usual level: the first look then bets well, instead of on six guesses.

    A wrong level costs power and never the promise.

    Args:
        level: Of the champion, in [0, 1].
        spread: Standard deviation of a row; that of 0 and 1 if None.
        rows: How many rows the knowledge counts for.

    >>> first = weigh_apart(knowing(0.1), rate_of(95, 950), rate_of(15, 50))
    >>> evidence_of(first) > evidence_of(weigh_apart(Weighed(), rate_of(95, 950), rate_of(15, 50)))
    True
    """
    around = level * (1 - level) if spread is None else spread**2
    return Weighed(known=(rows, rows * level, rows * (level**2 + around)))


def sample_of(values: ArrayLike) -> Sample:
    """Values in [0, 1] as a sample; the order of the rows does not matter.

    Raises:
        Refused: a value is missing or outside [0, 1].

    >>> sample_of([1, 0, 0]).counts.tolist()
    [2.0, 1.0]
    """
    found = np.asarray(values, dtype=np.float64).ravel()
    if found.size and not (found.min() >= 0 and found.max() <= 1):  # NaN fails both
        raise Refused("a loss is missing or outside [0, 1]; divide losses by their largest value and drop missing ones")
    distinct, counts = np.unique(found, return_counts=True)
    return Sample(distinct, counts.astype(np.float64))


def rate_of(failed: int, rows: int) -> Sample:
    """A count of failures among rows as a sample.

    Raises:
        Refused: more failures than rows, or a negative number.

    >>> rate_of(5, 100).mean
    0.05
    """
    if not 0 <= failed <= rows:
        raise Refused(f"{failed} failures among {rows} rows cannot be; count both over the same requests")
    return Sample(np.array([0.0, 1.0]), np.array([rows - failed, failed], dtype=np.float64))


def as_one(sample: Sample) -> Sample:
    """Weigh an interval as one row, its mean: proved under any dependence inside the interval, and slow.

    >>> as_one(rate_of(5, 100)).counts.tolist()
    [1.0]
    """
    return Sample(np.array([sample.mean]), np.ones(1)) if sample.rows else sample


def weigh_apart(
    state: Weighed, champion: Sample, challenger: Sample, tolerance: Tolerance = NONE, *, effect: float = 1.0
) -> Weighed:
    """Take one look at different rows into account (canary): losses in [0, 1], or errors as 0 and 1.

    Args:
        state: Before this look; `Weighed()` at the beginning.
        champion: Its rows of this look; without any nothing can be compared.
        challenger: Its rows of the same time.
        tolerance: What is allowed.
        effect: Design effect of 1 or more: rows that count as one (`design_effect`).

    >>> bad = weigh_apart(Weighed(), rate_of(100, 1000), rate_of(40, 100))
    >>> evidence_of(bad) > 100, evidence_of(weigh_apart(Weighed(), rate_of(100, 1000), rate_of(10, 100))) < 2
    (True, True)
    """
    _check(effect)
    a, b = champion.rows, challenger.rows
    squares = float(champion.counts @ champion.values**2 + challenger.counts @ challenger.values**2)
    seen = _seen(state, (a, b), (a * champion.mean, b * challenger.mean), squares)
    if not a or not b:
        return seen
    scaled = Sample(champion.values * (1 + tolerance.relative), champion.counts)
    guesses = [
        (_apart(scaled, challenger, m, spread, tolerance, +1), _apart(scaled, challenger, m, spread, tolerance, -1))
        for m, spread in _levels(state)
    ]
    part = a * b / (a + b)
    loose = (champion.squares + challenger.squares) / max(1.0, a + b - 2)
    spread_a = champion.squares / (a - 1) if a > 1 else loose
    spread_b = challenger.squares / (b - 1) if b > 1 else loose
    moved = (part, part * (challenger.mean - champion.mean), part**2 * (spread_a / a + spread_b / b))
    return _after(seen, guesses, moved, effect)


def weigh_paired(
    state: Weighed, champion: ArrayLike, challenger: ArrayLike, tolerance: Tolerance = NONE, *, effect: float = 1.0
) -> Weighed:
    """Take one look at the same rows into account (shadow): losses in [0, 1] of both models, row by row.

    Raises:
        Refused: a loss is missing or outside [0, 1].
        UsageError: not the same rows.

    >>> bad = weigh_paired(Weighed(), [0.0] * 50, [0.0] * 25 + [1.0] * 25)
    >>> evidence_of(bad) > 100
    True
    """
    _check(effect)
    x, y = (np.asarray(losses, dtype=np.float64).ravel() for losses in (champion, challenger))
    if x.shape != y.shape:
        raise UsageError(f"{len(x)} losses of the champion, {len(y)} of the challenger; pair them by request id first")
    sample_of(x), sample_of(y)
    apart, off = np.sort(y - x), np.sort(y - (1 + tolerance.relative) * x - tolerance.by)
    if not len(off):
        return state
    seen = _seen(state, (len(x), len(y)), (float(np.sort(x).sum()), float(np.sort(y).sum())), float(off @ off))
    guesses = [(_paired(off, spread, tolerance, +1), _paired(off, spread, tolerance, -1)) for spread in _spreads(state)]
    around = float(((apart - apart.mean()) ** 2).sum())
    moved = (float(len(off)), float(apart.sum()), around)
    return _after(seen, guesses, moved, effect)


def log_evidence(state: Weighed, *, fine: bool = False) -> float:
    """Log of the evidence that the challenger is worse than allowed; with `fine`, that it is not.

    Under the opposite, the chance that it ever reaches log(1 / alpha) is at most alpha.

    >>> log_evidence(Weighed())
    0.0
    """
    logs = state.fine if fine else state.worse
    if not logs:
        return 0.0
    kept = math.log1p(-EARLY) - math.log(state.looks + 1)  # not yet started
    return log_sum((*logs, kept), (*PARTS, 1.0))


def evidence_of(state: Weighed) -> float:
    """The evidence that the challenger is worse than allowed; 1 = none, and 1 / alpha = enough.

    >>> evidence_of(Weighed())
    1.0
    """
    return math.exp(min(log_evidence(state), 700.0))


def log_sum(logs: Sequence[float], parts: Sequence[float]) -> float:
    """Log of a weighted sum of exponentials, without overflow.

    >>> log_sum((0.0, 1000.0), (0.5, 0.5)) == 1000.0 + math.log(0.5)
    True
    """
    most = max(logs)
    total = math.fsum(float(part) * math.exp(log - most) for log, part in zip(logs, parts, strict=True))
    return float(most + math.log(total))


def interval_of(state: Weighed, alpha: float = 0.05) -> Interval | None:
    """The mean difference, challenger less champion, with an interval that holds at every look, for many rows.

    Differences are taken look by look and weighted by the rows of both sides, so that neither the hour nor a changed
    share is mistaken for the model. Normal mixture boundary (Robbins 1970), asymptotic (Waudby-Smith, Arbour, Sinha,
    Kennedy and Ramdas 2024): for the sentence; the verdict rests on the evidence. None before anything was compared.

    >>> state = weigh_apart(Weighed(), rate_of(100, 1000), rate_of(150, 1000))
    >>> state = weigh_apart(state, rate_of(100, 1000), rate_of(150, 1000))
    >>> found = interval_of(state)
    >>> round(found.value, 2), found.low > 0
    (0.05, True)
    """
    weight, gap, variance = state.gap
    if not weight or not state.tuned:
        return None
    reach = math.sqrt((variance + state.tuned) * math.log((variance + state.tuned) / (state.tuned * alpha**2)))
    return Interval(gap / weight, (gap - reach) / weight, (gap + reach) / weight)


def design_effect(differences: Sequence[float], rows: Sequence[float], spread: float) -> float:
    """How many rows count as one, from healthy intervals: the champion's own traffic split in two by the same hash.

    The variance of the halves' differences, in units of what independent rows would give, times (1 + r) / (1 - r) for
    their memory from one interval to the next (r: lag-1 autocorrelation with its small-sample correction; 0 where it
    is within twice its own error). At least 1.

    Args:
        differences: Mean of one half less mean of the other, per interval.
        rows: n_a n_b / (n_a + n_b) per interval.
        spread: Standard deviation of one row.

    Raises:
        UsageError: fewer than ten intervals say nothing about their variance.

    >>> design_effect([0.1, -0.1] * 10, [100] * 20, 0.5)
    4.0
    """
    many = len(differences)
    if many < 10 or many != len(rows) or spread <= 0:
        raise UsageError(f"{many} intervals cannot tell how rows hang together; give at least ten, and their rows")
    scaled = np.asarray(differences) * np.sqrt(np.asarray(rows)) / spread
    memory = float(scaled[1:] @ scaled[:-1] / max(1e-12, float(scaled @ scaled)))
    memory += (1 + 3 * max(0.0, memory)) / many
    memory = 0.0 if memory < 2 / math.sqrt(many) else min(memory, 0.9)
    return max(1.0, float(np.mean(scaled**2)) * (1 + memory) / (1 - memory))


def _check(effect: float) -> None:
    if not effect >= 1:
        raise UsageError(f"a design effect of {effect} would count rows more than once; give 1 or more")


def _levels(state: Weighed) -> list[tuple[float, float]]:
    """Where to centre and how far rows spread: what was seen before, never this look's own rows."""
    many = sum(state.rows) + state.known[0]
    if not many:
        return [(level, math.sqrt(level * (1 - level))) for level in LEVELS]
    level = (sum(state.totals) + state.known[1] + 0.5) / (many + 1)
    return [(level, math.sqrt(max(1e-6, (state.squares + state.known[2] + 0.5) / (many + 1) - level**2)))]


def _spreads(state: Weighed) -> list[float]:
    many = state.rows[1]
    return [math.sqrt((state.squares + 0.01) / (many + 1))] if many else list(SPREADS)


def _apart(champion: Sample, challenger: Sample, level: float, spread: float, allowed: Tolerance, side: int) -> Floats:
    """Log factors of one look, one per size of bet; side +1 bets on worse, -1 on fine."""
    a, b = champion.rows, challenger.rows
    part_a, part_b = side * b / (a + b), side * a / (a + b)
    centre_a = (1 + allowed.relative) * level
    centre_b = centre_a + allowed.by
    most = max(
        part_a * (1 + allowed.relative - centre_a), -part_a * centre_a, part_b * centre_b, -part_b * (1 - centre_b)
    )
    bets = np.minimum(SIZES / spread, AT_STAKE / max(most, 1e-9))
    found: Floats = _logs(challenger, centre_b, part_b * bets) + _logs(champion, centre_a, -part_a * bets)
    return found


def _logs(sample: Sample, centre: float, slopes: Floats) -> Floats:
    found: Floats = np.log1p(np.multiply.outer(slopes, sample.values - centre)) @ sample.counts
    return found


def _paired(off: Floats, spread: float, allowed: Tolerance, side: int) -> Floats:
    most = 1 + allowed.relative + allowed.by if side > 0 else 1 - allowed.by
    bets = side * np.minimum(SIZES / spread, AT_STAKE / max(most, 1e-9))
    found: Floats = np.log1p(np.multiply.outer(bets, off)).sum(axis=1)
    return found


def _seen(state: Weighed, rows: tuple[float, float], totals: tuple[float, float], squares: float) -> Weighed:
    return replace(
        state,
        rows=(state.rows[0] + rows[0], state.rows[1] + rows[1]),
        totals=(state.totals[0] + totals[0], state.totals[1] + totals[1]),
        squares=state.squares + squares,
    )


def _after(
    seen: Weighed, guesses: Sequence[tuple[Floats, Floats]], moved: tuple[float, float, float], effect: float
) -> Weighed:
    looks = seen.looks + 1
    starting = (EARLY if looks == 1 else 0.0) + (1 - EARLY) / (looks * (looks + 1))
    worse, fine = (
        np.logaddexp(logs or np.full(len(SIZES), -np.inf), math.log(starting)) + _log_mean_rows(found) / effect
        for logs, found in ((seen.worse, [g[0] for g in guesses]), (seen.fine, [g[1] for g in guesses]))
    )
    weight, gap, variance = (before + now / effect for before, now in zip(seen.gap, moved, strict=True))
    return replace(
        seen,
        worse=tuple(worse.tolist()),
        fine=tuple(fine.tolist()),
        looks=looks,
        gap=(weight, gap, variance),
        tuned=seen.tuned or variance,
    )


def _log_mean_rows(found: Sequence[Floats]) -> Floats:
    means: Floats = np.logaddexp.reduce(np.array(found), axis=0) - math.log(len(found))
    return means
