"""How far two policies lie apart, and how sure that is: a mean difference with its 90 % interval.

Takes differences of neighbouring windows; gives their mean, its interval and the words for both; never takes windows
that hang together for independent ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from everfit.detect.catalogue import metric_named
from everfit.replay.matrix import Floats

RESAMPLES = 2000
SIDE = 0.95  # of the truth on either side of a bound: an interval of 90 %
SEED = 20_130_101  # the same history gives the same answer
POINTS = "points"  # hundredths of a score of which nothing else is known


@dataclass(frozen=True, slots=True)
class Apart:
    """A mean difference."""

    mean: float
    low: float  # of the 90 % interval of the mean
    high: float

    @property
    def told(self) -> bool:
        """Whether it is told from noise."""
        return self.low > 0 or self.high < 0

    def over(self, many: float) -> Apart:
        """The same for one of so many."""
        return Apart(self.mean / many, self.low / many, self.high / many)


def apart(values: Floats, side: float = SIDE) -> Apart:
    """The mean of neighbouring values, and its interval, of 90 % unless told; NaN is left out.

    A circular block bootstrap (Politis and Romano 1992), blocks of the square root of the number of values, widened for
    their small number as a t test is. Of series that hang together (autoregressive, 0 to 0.6; 600 each) it holds the
    truth in 0.86 to 0.91 at 54 to 90 values and 0.85 to 0.98 at 8 to 36; without the widening in 0.77 to 0.86 and 0.51
    to 0.85. One value tells nothing: its interval always holds zero.

    Args:
        values: differences, (windows,), in the order of time.
        side: share of the truth on either side of a bound.

    >>> found = apart(np.array([0.1, 0.2] * 10 + [0.3, 0.2] * 10))
    >>> found.low < found.mean < found.high, found.told
    (True, True)
    >>> apart(np.array([0.5])).told
    False
    """
    known = values[np.isfinite(values)]
    many = len(known)
    mean = float(known.mean()) if many else 0.0
    if many < 2:
        wide = 2 * max(1.0, abs(mean))
        return Apart(mean, mean - wide, mean + wide)
    if np.ptp(known) == 0:
        return Apart(mean, mean, mean)
    length = round(np.sqrt(many))
    starts = np.random.default_rng(SEED).integers(0, many, size=(RESAMPLES, -(-many // length)))
    places = (starts[:, :, None] + np.arange(length)) % many
    means = known[places.reshape(RESAMPLES, -1)[:, :many]].mean(axis=1)
    low, high = np.quantile(means, [1 - side, side])
    blocks = many / length
    wider = special.stdtrit(blocks - 1, side) / special.ndtri(side) * np.sqrt(blocks / (blocks - 1))
    return Apart(mean, float(mean - wider * (mean - low)), float(mean + wider * (high - mean)))


def unit_of(metric: str) -> str:
    """What a hundredth of a score is: a point of the metric, or of a loss one per cent of the best constant's.

    >>> unit_of("roc_auc"), unit_of("mae")
    ('points of roc_auc', "% of the best constant's mae")
    """
    return f"points of {metric}" if metric_named(metric).greater_is_better else f"% of the best constant's {metric}"


def hundred(value: float, unit: str = "") -> str:
    """A difference of scores, in hundredths; small ones keep a second digit, and none is told as -0.

    >>> hundred(0.123, "points"), hundred(0.0004), hundred(-0.0000001)
    ('12.3 points', '0.04', '0.0')
    """
    much = 100 * value
    said = f"{much:.2f}" if 0.005 <= abs(much) < 0.1 else f"{round(much, 1) + 0.0:.1f}"
    return f"{said} {unit}" if unit else said


def span(found: Apart) -> str:
    """The interval.

    >>> span(Apart(0.1, -0.012, 0.2))
    '-1.2 to 20.0'
    """
    return f"{hundred(found.low)} to {hundred(found.high)}"
