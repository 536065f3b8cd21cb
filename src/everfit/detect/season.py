"""Whether healthy windows follow a season: weekdays, hours of the day.

Takes scores of healthy windows and their places on the grid of time; gives a period in windows; never assumes one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

CYCLES = 3  # seen at least; with fewer a season cannot be told from two odd windows
# Of finding a season where there is none, over all periods and scores. A season found by mistake costs a little power;
# with 0.001 a week of .025 sd under day effects of .05 was found in 47 % of 90-day histories, with 0.01 in 93 %.
CHANCE = 0.01


def find_season(scores: Floats, places: Places, periods: Sequence[int], chance: float = CHANCE) -> int:
    """Find the season that healthy windows follow, if any: 1 = none.

    For each period, an F test per score of the phases' means against what is left within phases (Fisher 1925); the
    smallest p-value counts times the number of scores and periods, which holds under any dependence between scores. A
    longer period is taken over a shorter one only for what it explains beyond it. A period that was seen in fewer than
    three cycles, or has a phase seen less than twice, is not considered.

    Args:
        scores: Windows x scores.
        places: Number of each window on the grid of event time, so that its phase is `place % period`.
        periods: Candidates in windows, such as 7, 24 or 168.
        chance: Of finding any season where there is none.

    >>> day = np.arange(35)
    >>> find_season((day % 7 > 4)[:, None] + np.sin(day**2)[:, None] / 9, day, (7,)), find_season(
    ...     np.sin(day**2)[:, None], day, (7,)
    ... )
    (7, 1)
    """
    windows = len(scores)
    wanted = sorted({period for period in periods if period > 1 and windows >= CYCLES * period})
    wanted = [period for period in wanted if np.bincount(places % period, minlength=period).min() >= 2]
    live = scores[:, np.ptp(scores, axis=0) > 0] if windows else scores
    if not wanted or live.shape[1] == 0:
        return 1
    line = chance / (live.shape[1] * len(wanted))
    found, left = 1, ((live - live.mean(axis=0)) ** 2).sum(axis=0)
    for period in wanted:
        within = _within(live, places % period, period)
        if found > 1 and period % found:
            continue
        between, freedom = np.maximum(left - within, 0.0) / (period - found), windows - period
        ratio = between * freedom / np.maximum(within, 1e-12)
        if float(scipy.special.fdtrc(period - found, freedom, ratio).min()) <= line:
            found, left = period, within
    return found


def phase_means(scores: Floats, phases: Places, period: int) -> tuple[Floats, Floats]:
    """Mean scores of each phase, and how many windows each has. A phase without any gets the mean of all.

    >>> phase_means(np.array([[1.0], [3.0], [5.0]]), np.array([0, 1, 0]), 2)[0].tolist()
    [[3.0], [3.0]]

    Returns:
        Phases x scores, and windows per phase (at least 1).
    """
    many = np.bincount(phases, minlength=period).astype(np.float64)
    sums = np.zeros((period, scores.shape[1]))
    np.add.at(sums, phases, scores)
    means = sums / np.maximum(many, 1.0)[:, None]
    return np.where(many[:, None] > 0, means, scores.mean(axis=0)), np.maximum(many, 1.0)


def _within(scores: Floats, phases: Places, period: int) -> Floats:
    """Sum of squares about the means of the phases, per score."""
    means, _ = phase_means(scores, phases, period)
    found: Floats = ((scores - means[phases]) ** 2).sum(axis=0)
    return found
