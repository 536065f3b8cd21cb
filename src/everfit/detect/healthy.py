"""What is usual: how windows of the rows behind a champion differ from its reference, without any fault or drift.

Takes profiles of such windows; gives for each column how much they differ from each other; never looks at a window
that is being judged. Rows of one window hang together (a day has one weather), so the window, not the row, is the
unit: a drift that is certain by its rows may be a usual day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log, sqrt

import numpy as np
import scipy
from numpy.typing import NDArray

from everfit.detect.battery import read_drift
from everfit.detect.options import Watching
from everfit.detect.signal import Reading, Signal
from everfit.profile.table import Profile

LEAST = 1e-4  # PSI below this is as good as none; keeps the logarithm finite
SMALLEST_DEVIATION = 0.25  # of log PSI: a handful of windows that agree by chance must not make a line of them
FEWEST = 5  # windows; with fewer, nothing is known of how they differ


@dataclass(frozen=True, slots=True)
class Healthy:
    """One column in healthy windows."""

    windows: int
    nulls: float  # highest share of missing values in any of them
    outside: float  # highest share outside the reference's range
    psi: float  # mean of the logarithm of the PSI against the reference
    deviation: float  # its standard deviation between windows


def healthy_windows(windows: Iterable[Profile], reference: Profile) -> dict[str, Healthy]:
    """How each column varies between windows; a column that fewer than five of them have is left out."""
    seen: dict[str, list[tuple[float, float, float]]] = {}
    for window in windows:
        psi = {s.column: s.value for s in _psis(read_drift(window, reference, Watching(at_least=1)))}
        for name, column in window.columns.items():
            if name in psi and column.count:
                outside = column.outside / max(1, column.present)
                seen.setdefault(name, []).append((column.null_share, outside, log(max(psi[name], LEAST))))
    return {name: _of(np.array(rows)) for name, rows in seen.items() if len(rows) >= FEWEST}


def unusual(psi: float, usual: Healthy) -> float:
    """Chance of a healthy window with a PSI this large: a prediction t on log PSI (the window is the unit).

    A new window differs from the mean of `h` healthy ones by the spread of one and the error of the mean, so the
    deviation is widened by sqrt(1 + 1/h) and the t distribution has h - 1 degrees of freedom (Geisser, Predictive
    Inference, 1993). Too few windows give heavy tails, and so few alarms.

    >>> day = Healthy(30, 0.0, 0.0, log(0.1), 0.5)
    >>> unusual(0.1, day), unusual(2.0, day) < 1e-5
    (0.5, True)
    """
    spread = max(usual.deviation, SMALLEST_DEVIATION) * sqrt(1 + 1 / usual.windows)
    return float(scipy.special.stdtr(usual.windows - 1, -(log(max(psi, LEAST)) - usual.psi) / spread))


def tempered(readings: Sequence[Reading], usual: Mapping[str, Healthy]) -> tuple[Reading, ...]:
    """Drift readings whose p-value counts how windows differ, where that is known: the larger of both p-values."""
    known = {id(s) for s in _psis(readings) if s.column in usual}
    return tuple(_tempered(r, usual[r.column]) if isinstance(r, Signal) and id(r) in known else r for r in readings)


def _tempered(signal: Signal, usual: Healthy) -> Signal:
    return replace(signal, p_value=max(signal.p_value or 0.0, unusual(signal.value, usual)))


def _psis(readings: Iterable[Reading]) -> list[Signal]:
    return [r for r in readings if isinstance(r, Signal) and r.name == "drift.psi"]


def _of(rows: NDArray[np.float64]) -> Healthy:
    nulls, outside, psi = rows.T
    return Healthy(len(rows), float(nulls.max()), float(outside.max()), float(psi.mean()), float(psi.std(ddof=1)))
