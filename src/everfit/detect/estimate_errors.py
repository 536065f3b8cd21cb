"""How large the errors of a regression will be, as a function of the prediction and the row.

Takes held-out errors with features; gives the expected error of other rows and how sure that is; never sees a truth
of the rows that it estimates.

The loss model of DLE (direct loss estimation): an additive model of the error with a logarithmic link, so that an
expected error is never negative and factors multiply. It is fitted by quasi-Poisson scores, sum (loss - expected) x =
0 (Gourieroux, Monfort and Trognon 1984): the mean over the held-out rows is met, whatever the losses' distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from everfit.detect.outcomes import Floats

GROUPS = 10  # groups of equal size of the prediction, each with a level of its own
RIDGE = 10.0  # on features of variance 1: as if ten rows said that a feature does nothing
STEPS = 25  # Newton's steps; five are usual


@dataclass(frozen=True, slots=True, eq=False)
class ErrorModel:
    """The expected loss of a row."""

    cuts: Floats  # of the prediction, between its groups
    ranks: Floats  # a hundred quantiles of the prediction
    beta: Floats  # (features,)
    covariance: Floats  # (features, features), of beta
    dispersion: float  # variance of a loss by the square of its expectation
    largest: float  # log of the largest expectation among the held-out rows: beyond it nothing is known

    def apply(self, predictions: Floats, features: NDArray[np.float32]) -> tuple[Floats, float]:
        """Expected losses (rows,), and the variance of the mean of the losses that will be seen.

        The variance is that of the losses about their expectation plus that of the model.
        """
        x = _design(predictions, features, self.cuts, self.ranks)
        expected = np.exp(np.minimum(x @ self.beta, self.largest))
        rows = max(1, len(expected))
        slope = expected @ x / rows
        own = self.dispersion * float((expected**2).sum()) / rows**2
        return expected, own + float(slope @ self.covariance @ slope)


def learn_errors(predictions: Floats, features: NDArray[np.float32], losses: Floats) -> ErrorModel:
    """Learn the expected loss from held-out rows: predictions (rows,), features (rows, f), losses (rows,).

    >>> predictions = np.linspace(0, 1, 1000)
    >>> losses = predictions * (1 + (np.arange(1000) % 2))
    >>> learned = learn_errors(predictions, np.zeros((1000, 0), dtype=np.float32), losses)
    >>> expected, _ = learned.apply(np.array([0.8]), np.zeros((1, 0), dtype=np.float32))
    >>> bool(abs(expected[0] - 1.2) < 0.1)
    True
    """
    cuts = np.unique(np.quantile(predictions, np.arange(1, GROUPS) / GROUPS))
    ranks = np.unique(np.quantile(predictions, np.linspace(0.005, 0.995, 100)))
    x = _design(predictions, features, cuts, ranks)
    mean = max(float(losses.mean()), 1e-300)
    scaled = losses / mean
    penalty = np.full(x.shape[1], RIDGE)
    penalty[0] = 1e-9
    beta = np.zeros(x.shape[1])
    curve = np.eye(x.shape[1])
    for _ in range(STEPS):
        expected = np.exp(np.clip(x @ beta, -20, 8))
        curve = x.T @ (x * expected[:, None]) + np.diag(penalty)
        step = np.linalg.solve(curve, x.T @ (scaled - expected) - penalty * beta)
        beta = beta + step * min(1.0, 1.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-4:
            break
    expected = np.exp(np.clip(x @ beta, -20, 8))
    away = scaled - expected
    dispersion = float((away @ away) / (expected @ expected))
    # The sandwich: losses need not have a Poisson's variance.
    bread = np.linalg.inv(curve)
    meat = x.T @ (x * (away**2)[:, None])
    beta[0] += np.log(mean)
    return ErrorModel(cuts, ranks, beta, bread @ meat @ bread, dispersion, float(np.log(mean * expected.max())))


def _design(predictions: Floats, features: NDArray[np.float32], cuts: Floats, ranks: Floats) -> Floats:
    """One, the group of the prediction, its normal score and the square, then the features."""
    group = np.searchsorted(cuts, predictions, side="right")[:, None] == np.arange(1, GROUPS)
    if len(ranks) > 1:
        middle = np.interp(predictions, ranks, np.linspace(0.005, 0.995, len(ranks)))
    else:
        middle = np.full(len(predictions), 0.5)
    score = scipy.special.ndtri(middle)[:, None]
    return np.concatenate([np.ones((len(score), 1)), group, score, score**2 - 1, features], axis=1).astype(np.float64)
