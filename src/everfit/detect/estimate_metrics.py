"""Metrics of rows whose truth is only known by chances, with how each depends on every chance.

Takes scores and the mass of each class on each row; gives the metric and its slopes; never looks at a label.

Mass is weight times chance, so the same functions serve an estimate (weight 1, chances from a calibration map) and a
reweighted measurement (weights, chances 0 and 1). With slopes d metric / d mass the delta method gives any variance:
of the labels that a window will draw, of the map, of the weights. Expected confusion is that of CBPE; for ranks the
pairs of a row with itself are left out, because a row cannot be both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from everfit.detect.estimate_map import sums
from everfit.detect.metrics import SMALLEST
from everfit.detect.outcomes import Floats, Ints

SEEN = 0.5  # expected rows; a class below that will more often be absent from the window than present


@dataclass(frozen=True, slots=True, eq=False)
class Chances:
    """Rows by what was predicted for them and what they may be."""

    scores: Floats  # (rows, classes)
    mass: Floats  # (rows, classes + 1): weight times chance; the last is for truths outside the classes
    positive: int | None  # place of the positive class of two; None: several classes

    @property
    def guesses(self) -> Ints:
        """The class of the highest score, the first of equals."""
        best: Ints = self.scores.argmax(axis=1).astype(np.int64)
        return best


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """A metric and its slopes."""

    value: float
    slopes: Floats  # (rows, classes + 1): change of the metric per unit of mass


def expect(name: str, rows: Chances) -> Expected | None:
    """The metric that these chances lead to; None where it is undefined.

    >>> sure = Chances(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]), 1)
    >>> round(expect("accuracy", sure).value, 3), round(expect("roc_auc", sure).value, 3)
    (0.85, 0.973)

    Raises:
        KeyError: nothing is known of this metric: ask `name in EXPECTED` first.
    """
    return EXPECTED[name](rows) if len(rows.scores) and rows.mass.sum() > 0 else None


def _linear(losses: Callable[[Chances], Floats]) -> Callable[[Chances], Expected | None]:
    """A metric that is the mean of a loss of each row and class."""

    def expected(rows: Chances) -> Expected | None:
        each, total = losses(rows), rows.mass.sum()
        value = float((rows.mass * each).sum() / total)
        return Expected(value, (each - value) / total)

    return expected


def _hits(rows: Chances) -> Floats:
    hits: Floats = (np.arange(rows.mass.shape[1]) == rows.guesses[:, None]).astype(np.float64)
    return hits


def _log_losses(rows: Chances) -> Floats:
    given = rows.scores / rows.scores.sum(axis=1, keepdims=True).clip(SMALLEST)
    given = np.concatenate([given, np.zeros((len(given), 1))], axis=1)
    losses: Floats = -np.log(np.clip(given, SMALLEST, 1 - SMALLEST))
    return losses


def _squares(rows: Chances) -> Floats:
    width = rows.mass.shape[1]
    if rows.positive is not None:
        is_it = (np.arange(width) == rows.positive).astype(np.float64)
        two: Floats = (rows.scores[:, [rows.positive]] - is_it) ** 2
        return two
    padded = np.concatenate([rows.scores, np.zeros((len(rows.scores), 1))], axis=1)
    whole = (padded**2).sum(axis=1, keepdims=True)
    # sum_j (s_j - 1{j = k})^2 = sum_j s_j^2 - 2 s_k + 1; a truth outside the classes has no 1 to hit.
    several: Floats = whole - 2 * padded + (np.arange(width) < width - 1)
    return several


Rate = Callable[[Floats, Floats, Floats], tuple[Floats, Floats, Floats, Floats]]


def _by_class(rate: Rate, *, only_positive: bool, seen: str) -> Callable[[Chances], Expected | None]:
    """A metric of hits, truths and guesses per class; `rate` gives its value and slopes for each class."""

    def expected(rows: Chances) -> Expected | None:
        width, guesses = rows.mass.shape[1], rows.guesses
        truths = rows.mass.sum(axis=0)
        guessed = sums(guesses, rows.mass.sum(axis=1), width)
        right = sums(guesses, rows.mass[np.arange(len(guesses)), guesses], width)
        with np.errstate(divide="ignore", invalid="ignore"):
            value, of_hit, of_truth, of_guess = rate(right, truths, guessed)
        if only_positive and rows.positive is not None:
            counted = np.arange(width) == rows.positive
            if not np.isfinite(value[rows.positive]):
                return None
        else:
            counted = (truths if seen == "truth" else truths + guessed) >= SEEN
            if (truths >= SEEN).sum() < 2:
                return None
        # A class that is never guessed has a precision of 0, and no slope that one more row would not turn round.
        share = np.where(np.isfinite(value), counted / counted.sum(), 0.0)
        value, of_hit, of_truth, of_guess = (
            share * np.where(share > 0, x, 0.0) for x in (value, of_hit, of_truth, of_guess)
        )
        slopes = of_truth[None, :] + of_guess[guesses][:, None]
        slopes = slopes + of_hit[None, :] * (np.arange(width) == guesses[:, None])
        return Expected(float(value.sum()), slopes)

    return expected


def _recall(hits: Floats, truths: Floats, _: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    return hits / truths, 1 / truths, -hits / truths**2, np.zeros_like(hits)


def _precision(hits: Floats, _: Floats, guesses: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    return hits / guesses, 1 / guesses, np.zeros_like(hits), -hits / guesses**2


def _f1(hits: Floats, truths: Floats, guesses: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    both = truths + guesses
    return 2 * hits / both, 2 / both, -2 * hits / both**2, -2 * hits / both**2


def _ranks(
    one: Callable[[Floats, Floats, Floats], tuple[float, Floats, Floats]],
) -> Callable[[Chances], Expected | None]:
    """A metric of the order of the scores: of the positive class, or the mean of each class against the rest."""

    def expected(rows: Chances) -> Expected | None:
        width = rows.mass.shape[1]
        places = range(width - 1) if rows.positive is None else [rows.positive]
        total = rows.mass.sum()
        truths = rows.mass.sum(axis=0)
        found = [k for k in places if SEEN <= truths[k] <= total - SEEN]
        if not found:
            return None
        value, slopes = 0.0, np.zeros_like(rows.mass)
        for k in found:
            ups = rows.mass[:, k]
            its, of_up, of_down = one(rows.scores[:, k], ups, rows.mass.sum(axis=1) - ups)
            value += its / len(found)
            slopes += np.where(np.arange(width) == k, of_up[:, None], of_down[:, None]) / len(found)
        return Expected(value, slopes)

    return expected


def _area(scores: Floats, ups: Floats, downs: Floats) -> tuple[float, Floats, Floats]:
    """Area under the ROC curve; ties count half."""
    rank = np.unique(scores, return_inverse=True)[1].reshape(-1)
    up, down = sums(rank, ups), sums(rank, downs)
    below = (np.cumsum(down) - down / 2)[rank]
    above = (ups.sum() - np.cumsum(up) + up / 2)[rank]
    with_itself = float(ups @ downs)
    pairs = max(float(ups.sum() * downs.sum()) - with_itself, 1e-300)
    value = (float(ups @ below) - with_itself / 2) / pairs
    return value, (below - value * downs.sum()) / pairs, (above - value * ups.sum()) / pairs


def _average_precision(scores: Floats, ups: Floats, downs: Floats) -> tuple[float, Floats, Floats]:
    """Mean over the positives of the precision at their score."""
    rank = np.unique(-scores, return_inverse=True)[1].reshape(-1)
    above = np.cumsum(sums(rank, ups))[rank]
    over = np.cumsum(sums(rank, ups + downs))[rank]
    at = (above + downs) / over  # this row is positive for sure, so its negative mass counts as well
    total = ups.sum()
    value = float(ups @ at / total)

    def beneath(parts: Floats) -> Floats:
        """Sum over the rows that are ranked as low or lower."""
        lower: Floats = np.cumsum(sums(rank, parts)[::-1])[::-1][rank]
        return lower

    diluted = -beneath(ups * at / over)
    return value, (at - value + beneath(ups / over) + diluted) / total, diluted / total


EXPECTED: Mapping[str, Callable[[Chances], Expected | None]] = MappingProxyType(
    {
        "accuracy": _linear(_hits),
        "log_loss": _linear(_log_losses),
        "brier": _linear(_squares),
        "balanced_accuracy": _by_class(_recall, only_positive=False, seen="truth"),
        "precision": _by_class(_precision, only_positive=True, seen="either"),
        "recall": _by_class(_recall, only_positive=True, seen="either"),
        "f1": _by_class(_f1, only_positive=True, seen="either"),
        "roc_auc": _ranks(_area),
        "average_precision": _ranks(_average_precision),
    }
)
