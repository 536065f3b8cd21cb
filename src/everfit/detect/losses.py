"""Losses of single rows: what a metric is the mean of, where it is the mean of something.

Takes outcomes; gives one loss per row that counts, greater is worse; never averages or clips them.

A metric that is a mean of rows can be watched row by row, with more power than a window's one number. Precision and
recall of two classes are means over some of the rows: those that were predicted, or are, positive. The area under a
curve, F1 or R squared are no mean of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from everfit.detect import metrics
from everfit.detect.outcomes import Floats, Outcomes


@dataclass(frozen=True, slots=True)
class RowLosses:
    """How a metric comes from losses of rows."""

    each: Callable[[Outcomes], Floats]  # losses of the rows that count, none below 0
    level: Callable[[float], float]  # the metric, from the mean loss
    loss: Callable[[float], float]  # the mean loss, from the metric
    most: float | None  # no loss is greater; None: learned from the rows behind the champion
    tasks: tuple[str, ...]  # for these tasks; for others the metric is no mean of rows


def second(terms: Callable[[Outcomes], Floats]) -> Callable[[Outcomes], Floats]:
    """The losses among the terms of a metric of sums, without those that are undefined."""

    def each(outcomes: Outcomes) -> Floats:
        found = terms(outcomes)[:, 1]
        kept: Floats = found[np.isfinite(found)]
        return kept

    return each


def errors(outcomes: Outcomes) -> Floats:
    """1 where the predicted class is not the true one.

    >>> scores = np.array([[0.8, 0.2], [0.6, 0.4]])
    >>> errors(Outcomes(np.array([0, 1]), scores, ("0", "1"), "1", "binary", np.arange(2))).tolist()
    [0.0, 1.0]
    """
    wrong: Floats = (metrics.guesses(outcomes) != outcomes.truth).astype(np.float64)
    return wrong


def errors_if_positive(outcomes: Outcomes) -> Floats:
    """Errors among the rows that are positive: their mean is 1 - recall."""
    kept: Floats = errors(outcomes)[outcomes.truth == outcomes.positive_index]
    return kept


def errors_if_called_positive(outcomes: Outcomes) -> Floats:
    """Errors among the rows that were predicted positive: their mean is 1 - precision."""
    kept: Floats = errors(outcomes)[metrics.guesses(outcomes) == outcomes.positive_index]
    return kept


def missed_money(terms: Callable[[Outcomes], Floats], most: float) -> Callable[[Outcomes], Floats]:
    """What each row brought less than the best decision could."""

    def each(outcomes: Outcomes) -> Floats:
        missed: Floats = most - terms(outcomes)[:, 1]
        return missed

    return each


def same(loss: float) -> float:
    """A metric that is the mean loss itself."""
    return loss


def without(loss: float) -> float:
    """A metric that is what is left of 1.

    >>> without(0.25)
    0.75
    """
    return 1 - loss


def root(loss: float) -> float:
    """A metric that is the root of the mean loss.

    >>> root(4.0)
    2.0
    """
    return float(np.sqrt(loss))


def square(level: float) -> float:
    """The mean loss of a metric that is its root.

    >>> square(2.0)
    4.0
    """
    return level**2
