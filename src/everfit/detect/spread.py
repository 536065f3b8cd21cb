"""How much healthy windows differ: the variance of every score between windows, and how sure it is.

Takes the scores of healthy windows about their mean; gives variances with degrees of freedom; never looks at a window
that is being judged.

Rows of one window hang together (a day has one weather), so the window, not the row, is the unit. The steps: each
score's own variance; longer memory between windows; what the columns tell of each other (Smyth 2004, Linear models and
empirical Bayes methods, known as limma), but only upwards: shrinking the noisy columns down gave 3-20 false alarms a
year where 1 was promised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

STRONGEST = 0.9  # of serial correlation: more cannot be told from a walk
MANY = 1e7  # degrees of freedom that are as good as infinite
STRONG, FEW = 1.3, 12.0  # with memory over `STRONG` and fewer effective windows than `FEW`, trust no pooled variance


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Variance of each score between windows, in units of a multinomial window's."""

    variance: Floats  # never below 1: rows are not less noisy than chance
    freedom: Floats  # degrees of freedom of the t distribution
    memory: float  # (1 + r) / (1 - r) for serial correlation r; 1 = none
    prior: Floats  # per score: what the family's other columns say; 0 where nothing
    prior_freedom: Floats


def learn_spread(apart: Floats, after: Places, period: int, family: Places, *, full: bool) -> Spread:
    """Learn how healthy windows differ.

    Args:
        apart: Healthy scores less their mean (of their phase), windows x scores.
        after: Rows of `apart` whose predecessor on the grid of time is the row before.
        period: Windows in a season; 1 = none. Its means were taken off.
        family: Per score its family; -1 keeps a score out of what columns say of each other.
        full: Whether columns may speak for each other; with few windows (`learning`) each only for itself.
    """
    windows = len(apart)
    own = (apart**2).sum(axis=0) / max(1, windows - period)
    if not full:
        every = np.ones(apart.shape[1])
        return Spread(np.maximum(own, 1.0), every * max(1, windows - period), 1.0, every * 0, every * 0)
    memory = _memory(apart, after, family)
    leverage = period / windows
    freedom = max(2.0, (windows - period) / memory)
    own = own * (1 + (memory - 1) * leverage)
    prior, prior_freedom = _priors(own, freedom, family)
    after_all = _pooled(own, freedom, prior, prior_freedom)
    up = own > np.maximum(1.0, after_all)
    if memory > STRONG and freedom < FEW:
        up, own = np.ones_like(up), np.maximum(own, after_all)
    variance = np.maximum(1.0, np.where(up, own, after_all))
    return Spread(variance, np.where(up, freedom, freedom + prior_freedom), memory, prior, prior_freedom)


def left_out(apart: Floats, leverage: Floats, spread: Spread, period: int) -> tuple[Floats, Floats]:
    """Each healthy window against all the others: prediction t and its degrees of freedom, windows x scores.

    The variance without a window follows from that with it; source: Cook and Weisberg 1982, Residuals and influence in
    regression (externally studentised residuals).
    """
    windows = len(apart)
    freedom = max(2.0, (windows - period) / spread.memory)
    room = (1 - leverage)[:, None]
    total = (apart**2).sum(axis=0)
    own = np.maximum(total - apart**2 / room, 0.0) / max(1, windows - period - 1)
    pooled = _pooled(own, freedom, spread.prior, spread.prior_freedom)
    up = own > np.maximum(1.0, pooled)
    variance = np.maximum(1.0, np.where(up, own, pooled))
    wider = (1 + leverage * (spread.memory - 1))[:, None]
    return apart / np.sqrt(variance * room * wider), np.where(up, freedom - 1, freedom + spread.prior_freedom)


def _memory(apart: Floats, after: Places, family: Places) -> float:
    """(1 + r) / (1 - r) for the strongest serial correlation of any family, 0 where it may be chance."""
    windows, strongest = len(apart), 0.0
    for each in range(int(family.max(initial=-1)) + 1):
        mine = apart[:, family == each]
        total = float((mine**2).sum())
        if total <= 0 or len(after) == 0:
            continue
        found = float((mine[after] * mine[after - 1]).sum()) / total * ((windows - 1) / len(after))
        found += (1 + 3 * max(0.0, found)) / windows  # Kendall 1954: the estimate is too low by this
        if found >= 2 / np.sqrt(windows * mine.shape[1]):
            strongest = max(strongest, min(STRONGEST, found))
    return (1 + strongest) / (1 - strongest)


def _priors(own: Floats, freedom: float, family: Places) -> tuple[Floats, Floats]:
    """Per score, the variance that its family expects and what that is worth in degrees of freedom."""
    prior, worth = np.zeros_like(own), np.zeros_like(own)
    for each in range(int(family.max(initial=-1)) + 1):
        mine = (family == each) & (own > 0)
        if mine.sum() < 3:  # the spread of two says nothing
            continue
        logs = np.log(own[mine]) - scipy.special.digamma(freedom / 2) + np.log(freedom / 2)
        excess = float(logs.var(ddof=1)) - float(scipy.special.polygamma(1, freedom / 2))
        many = MANY if excess <= 0 else min(MANY, 2 * _trigamma_inverse(excess))
        log_prior = float(logs.mean()) + float(scipy.special.digamma(many / 2)) - np.log(many / 2)
        prior[family == each], worth[family == each] = np.exp(log_prior), many
    return prior, worth


def _pooled(own: Floats, freedom: float, prior: Floats, worth: Floats) -> Floats:
    found: Floats = (worth * prior + freedom * own) / (worth + freedom)
    return found


def _trigamma_inverse(value: float) -> float:
    """The x whose trigamma is `value`, by Newton's steps; source: Smyth 2004, appendix.

    >>> round(_trigamma_inverse(float(scipy.special.polygamma(1, 3.0))), 9)
    3.0
    """
    if value > 1e7:
        return float(1 / np.sqrt(value))
    if value < 1e-6:
        return 1 / value
    found = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(scipy.special.polygamma(1, found))
        step = trigamma * (1 - trigamma / value) / float(scipy.special.polygamma(2, found))
        found += step
        if -step / found < 1e-8:
            break
    return found
