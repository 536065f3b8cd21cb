"""Metrics of performance as sums over blocks of rows, so that a thousand resamples cost one matrix product.

Takes outcomes; gives for each metric a function from block weights to its values; never draws, judges or
rounds.

A metric is tallied once over the blocks; its value under any multiplicity of blocks is then arithmetic. Sums
of losses are linear in the weights. The area under the ROC curve is a ratio of quadratic forms in them: with
K[b, c] the number of pairs of a positive of block b ranked above a negative of block c (ties half), AUC(w) =
w'Kw / ((w'p)(w'n)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from everfit.detect.outcomes import UNKNOWN, Floats, Ints, Outcomes

Values = Callable[[Floats], Floats]  # weights (resamples, blocks) -> values (resamples,); NaN where undefined
Tally = Callable[[Outcomes, Ints, int], Values]  # outcomes, block of each row, number of blocks

SMALLEST = float(np.finfo(np.float64).eps)  # probabilities are clipped to this, as scikit-learn does
SLAB = 8192  # distinct scores in one slab of the pair count: 200 blocks of 8 bytes each stay below 14 MB
STEPS = 2**21  # scores times resamples in one slab of the precision curve: 16 MB
BIN_ROWS, MOST_BINS = 20, 15  # rows that a bin of the calibration curve needs, and the bins of the field's habit

UserFunction = Callable[[NDArray[Any], Floats], float]  # truth and predictions (see `user_view`) -> the metric


class UserFailed(Exception):
    """A metric that the user wrote raised an error, or gave no number; its text says which."""


def by_sums(terms: Callable[[Outcomes], Floats], value: Callable[[Floats], Floats]) -> Tally:
    """A metric of sums: `terms` gives (rows, s) numbers, `value` makes the metric of (resamples, s) sums."""

    def tally(outcomes: Outcomes, blocks: Ints, many: int) -> Values:
        sums = np.stack([np.bincount(blocks, weights=term, minlength=many) for term in terms(outcomes).T], axis=1)
        return lambda weights: value(weights @ sums)

    return tally


def by_class(two: Callable[[Floats, Floats, Floats], Floats], *, only_positive: bool, seen: str) -> Tally:
    """A metric of hits, truths and guesses per class: of the positive class, or the mean over the classes.

    `seen` says over which classes the mean goes: those of the "truth", or of truth or prediction ("either").
    """

    def tally(outcomes: Outcomes, blocks: Ints, many: int) -> Values:
        counts, width = _count_classes(outcomes, blocks, many), len(outcomes.classes) + 1

        def values(weights: Floats) -> Floats:
            hits, truths, guesses = (weights @ counts).reshape(-1, 3, width).transpose(1, 0, 2)
            each = two(hits, truths, guesses)
            if only_positive and outcomes.task == "binary":
                return each[:, outcomes.positive_index]
            counted = (truths > 0) if seen == "truth" else (truths + guesses > 0)
            mean = share(np.where(counted, np.nan_to_num(each), 0).sum(axis=1), counted.sum(axis=1))
            several: Floats = np.where((truths > 0).sum(axis=1) > 1, mean, np.nan)
            return several

        return values

    return tally


def ranked(outcomes: Outcomes, blocks: Ints, many: int) -> Values:
    """Area under the ROC curve of the positive class; of several classes the mean of one against the rest."""
    two = outcomes.task == "binary"
    places = [outcomes.positive_index] if two else list(range(len(outcomes.classes)))
    parts = []
    for place in places:
        is_it = outcomes.truth == place
        if is_it.any() and not is_it.all():
            pairs = _count_pairs(outcomes.scores[:, place], is_it, blocks, many)
            ups = np.bincount(blocks, weights=is_it, minlength=many)
            parts.append((pairs, ups, np.bincount(blocks, minlength=many) - ups))

    def values(weights: Floats) -> Floats:
        areas = np.full((max(1, len(parts)), len(weights)), np.nan)
        for row, (pairs, ups, downs) in enumerate(parts):
            of_pairs = (weights @ ups) * (weights @ downs)
            areas[row] = np.einsum("rb,rb->r", weights @ pairs, weights) / np.where(of_pairs > 0, of_pairs, np.nan)
        defined = ~np.isnan(areas)
        mean: Floats = np.where(defined, areas, 0).sum(axis=0) / np.where(
            defined.any(axis=0), defined.sum(axis=0), np.nan
        )
        return mean

    return values


def precise(outcomes: Outcomes, blocks: Ints, many: int) -> Values:
    """Average precision of the positive class; of several classes the mean of one against the rest.

    The sum over distinct scores, from the highest, of the recall gained there times the precision so far.
    """
    places = [outcomes.positive_index] if outcomes.task == "binary" else list(range(len(outcomes.classes)))
    curves = []
    for place in places:
        is_it = outcomes.truth == place
        if is_it.any():
            rank = np.unique(-outcomes.scores[:, place], return_inverse=True)[1].reshape(-1)
            top = int(rank.max()) + 1
            curves.append((_grid(rank[is_it], blocks[is_it], top, many), _grid(rank, blocks, top, many)))

    def values(weights: Floats) -> Floats:
        found = np.stack([_average_precision(ups, every, weights) for ups, every in curves] or [weights[:, 0] * np.nan])
        defined = ~np.isnan(found)
        return share(np.where(defined, found, 0).sum(axis=0), defined.sum(axis=0).astype(np.float64))

    return values


def calibrated(outcomes: Outcomes, blocks: Ints, many: int) -> Values:
    """Calibration error: the root mean square gap, over bins of equal mass, between what was said and what was.

    Of two classes what was said is the score of the positive one; of several, that of the predicted one. Each bin's
    squared gap is reduced by the part that chance makes of it, so that a calibrated model reads about zero at any
    number of rows (Kumar, Liang and Ma 2019, "Verified Uncertainty Calibration"); the plain sum of absolute gaps
    reads 0.02 to 0.04 there with 1,000 rows. Rows that were drawn twice carry twice the chance part, so that
    resamples scatter about the reading and not above it. The bins are those of the rows, not of each resample.
    """
    said, was = _confidence(outcomes)
    bins = int(np.clip(outcomes.rows // BIN_ROWS, 1, MOST_BINS))
    edges = np.unique(np.quantile(said, np.arange(1, bins) / bins)) if outcomes.rows else np.empty(0)
    bin_of = np.searchsorted(edges, said, side="left")
    at, width, off = blocks * (len(edges) + 1) + bin_of, len(edges) + 1, was - said
    sums = np.stack(
        [np.bincount(at, weights=w, minlength=many * width).reshape(many, width) for w in (off * 0 + 1, off, off**2)]
    )

    def values(weights: Floats) -> Floats:
        rows, gaps, squares = (weights @ each for each in sums)
        some = np.where(rows > 0, rows, 1)
        variance = np.maximum(squares / some - (gaps / some) ** 2, 0) * some / np.maximum(some - 1, 1)
        chance = variance * (weights**2 @ sums[0]) / some**2
        total = share((rows * ((gaps / some) ** 2 - chance)).sum(axis=1), rows.sum(axis=1))
        root: Floats = np.sqrt(np.maximum(total, 0))
        return root

    return values


def by_function(function: UserFunction) -> Tally:
    """A metric that the user wrote: called once for the rows, and once for each resample of them (slow).

    Values raise `UserFailed` with the function's words when it fails on the rows themselves; a resample on which it
    fails is undefined.
    """

    def tally(outcomes: Outcomes, blocks: Ints, many: int) -> Values:
        truth, given = user_view(outcomes)

        def one(weights: Floats) -> float:
            whole = bool((weights == 1).all())
            rows = np.repeat(np.arange(outcomes.rows), weights[blocks].astype(np.int64))
            try:
                return float(function(truth[rows].copy(), given[rows].copy()))
            except Exception as error:  # whatever a stranger's function raises
                if whole:
                    raise UserFailed(f"{type(error).__name__}: {error}") from error
                return float("nan")

        return lambda weights: np.array([one(each) for each in weights])

    return tally


def user_view(outcomes: Outcomes) -> tuple[NDArray[Any], Floats]:
    """What a user's metric is called with: (truth, predictions).

    Regression: both are numbers, (rows,). Two classes: truth is 1 for the positive class, else 0; predictions are the
    positive class's scores, (rows,). Several classes: truth is the class's place (-1: none of them), scores are (rows,
    classes).
    """
    if outcomes.task == "binary":
        place = outcomes.positive_index
        return (outcomes.truth == place).astype(np.int64), outcomes.scores[:, place]
    return outcomes.truth, outcomes.scores[:, 0] if outcomes.task == "regression" else outcomes.scores


def log_losses(outcomes: Outcomes) -> Floats:
    """One and the log loss, per row."""
    known = np.clip(outcomes.truth, 0, None)
    given = outcomes.scores / outcomes.scores.sum(axis=1, keepdims=True).clip(SMALLEST)
    chance = np.where(outcomes.truth == UNKNOWN, 0.0, given[np.arange(outcomes.rows), known])
    return np.stack([np.ones(outcomes.rows), -np.log(np.clip(chance, SMALLEST, 1 - SMALLEST))], axis=1)


def squared_chances(outcomes: Outcomes) -> Floats:
    """One and the Brier score, per row: of the positive class, or summed over more than two classes."""
    if outcomes.task == "binary":
        place = outcomes.positive_index
        misses = (outcomes.scores[:, place] - (outcomes.truth == place)) ** 2
    else:
        hot = outcomes.truth[:, None] == np.arange(len(outcomes.classes))
        misses = ((outcomes.scores - hot) ** 2).sum(axis=1)
    return np.stack([np.ones(outcomes.rows), misses], axis=1)


def misses(power: int, *, relative: bool = False) -> Callable[[Outcomes], Floats]:
    """One and the absolute error to a power, per row; relative: as share of the truth (NaN at zero)."""

    def terms(outcomes: Outcomes) -> Floats:
        off = np.abs(outcomes.scores[:, 0] - outcomes.truth) ** power
        if relative:
            off = off / np.where(outcomes.truth == 0, np.nan, np.abs(outcomes.truth))
        return np.stack([np.ones(outcomes.rows), off], axis=1)

    return terms


def spread(outcomes: Outcomes) -> Floats:
    """One, the squared error, and the centred truth with its square, per row."""
    centred = outcomes.truth - (outcomes.truth.mean() if outcomes.rows else 0.0)
    return np.stack(
        [np.ones(outcomes.rows), (outcomes.scores[:, 0] - outcomes.truth) ** 2, centred, centred**2], axis=1
    )


def pinball(quantile: float) -> Callable[[Outcomes], Floats]:
    """One and the pinball loss of a quantile, per row: half the absolute error at 0.5."""

    def terms(outcomes: Outcomes) -> Floats:
        above = outcomes.truth - outcomes.scores[:, 0]
        return np.stack([np.ones(outcomes.rows), np.maximum(quantile * above, (quantile - 1) * above)], axis=1)

    return terms


def money(values: tuple[float, float, float, float], threshold: float) -> Callable[[Outcomes], Floats]:
    """One and what the decision brought, per row; `values` are those of (tp, fp, fn, tn).

    The decision is positive where the positive class's score reaches the threshold.
    """
    tp, fp, fn, tn = values

    def terms(outcomes: Outcomes) -> Floats:
        place = outcomes.positive_index
        chosen, is_it = outcomes.scores[:, place] >= threshold, outcomes.truth == place
        brought = np.where(chosen, np.where(is_it, tp, fp), np.where(is_it, fn, tn))
        return np.stack([np.ones(outcomes.rows), brought], axis=1).astype(np.float64)

    return terms


def mean(sums: Floats) -> Floats:
    """Sum by count; NaN without rows.

    >>> mean(np.array([[4.0, 1.0]])).tolist()
    [0.25]
    """
    return share(sums[:, 1], sums[:, 0])


def explained(sums: Floats) -> Floats:
    """R squared of the sums of `spread`; NaN when the truth is constant."""
    rows = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)
    about_mean = sums[:, 3] - sums[:, 2] ** 2 / rows
    constant = about_mean <= 1e-12 * np.maximum(sums[:, 3], 1e-300)  # rounding, not variation
    left: Floats = 1 - sums[:, 1] / np.where(constant, np.nan, about_mean)
    return left


def share(part: Floats, whole: Floats) -> Floats:
    """Part by whole; NaN where the whole is nothing.

    >>> share(np.array([1.0, 1.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    quotient: Floats = part / np.where(whole > 0, whole, np.nan)
    return quotient


def hits(outcomes: Outcomes) -> Floats:
    """One and whether the class of the highest score is the true one, per row."""
    return np.stack([np.ones(outcomes.rows), guesses(outcomes) == outcomes.truth], axis=1).astype(np.float64)


def guesses(outcomes: Outcomes) -> Ints:
    """The class of the highest score, the first of equals."""
    best: Ints = outcomes.scores.argmax(axis=1).astype(np.int64)
    return best


def _count_classes(outcomes: Outcomes, blocks: Ints, many: int) -> Floats:
    """Per block: hits, truths and guesses of each class; the last place is for truths outside the classes."""
    width = len(outcomes.classes) + 1
    truth, guess = np.where(outcomes.truth == UNKNOWN, width - 1, outcomes.truth), guesses(outcomes)
    at = blocks * 3 * width
    hit = truth == guess
    places = np.concatenate([(at + truth)[hit], at + width + truth, at + 2 * width + guess])
    return np.bincount(places, minlength=many * 3 * width).reshape(many, 3 * width).astype(np.float64)


def _count_pairs(scores: Floats, is_it: NDArray[np.bool_], blocks: Ints, many: int) -> Floats:
    """Pairs of a positive (row: its block) scored above a negative (column: its block); ties count half."""
    rank = np.unique(scores, return_inverse=True)[1].reshape(-1)
    top = int(rank.max()) + 1
    ups = _grid(rank[is_it], blocks[is_it], top, many)
    downs = _grid(rank[~is_it], blocks[~is_it], top, many)
    pairs, below = np.zeros((many, many)), np.zeros(many)
    for start in range(0, top, SLAB):
        here = downs[start : start + SLAB].toarray()
        climbed = np.cumsum(here, axis=0)
        pairs += ups[start : start + SLAB].T @ (below + climbed - here / 2)
        below = below + climbed[-1]
    return pairs


def _average_precision(ups: scipy.sparse.csr_array, every: scipy.sparse.csr_array, weights: Floats) -> Floats:
    """Average precision per resample, in slabs of distinct scores from the highest."""
    total = np.zeros(len(weights))
    won, seen = np.zeros(len(weights)), np.zeros(len(weights))
    slab = max(1, STEPS // max(1, len(weights)))
    for start in range(0, ups.shape[0], slab):
        here = ups[start : start + slab] @ weights.T
        hits = won + np.cumsum(here, axis=0)
        rows = seen + np.cumsum(every[start : start + slab] @ weights.T, axis=0)
        total += (here * hits / np.maximum(rows, 1e-300)).sum(axis=0)
        won, seen = hits[-1], rows[-1]
    return share(total, won)


def _confidence(outcomes: Outcomes) -> tuple[Floats, Floats]:
    """What was said, and whether it came true: of the positive class, or of the predicted one."""
    if outcomes.task == "binary":
        place = outcomes.positive_index
        return outcomes.scores[:, place], (outcomes.truth == place).astype(np.float64)
    guess = guesses(outcomes)
    said: Floats = outcomes.scores[np.arange(outcomes.rows), guess]
    return said, (guess == outcomes.truth).astype(np.float64)


def _grid(rank: NDArray[np.intp], blocks: Ints, top: int, many: int) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array((np.ones(len(rank)), (rank, blocks)), shape=(top, many))
