"""Estimates beside the labels that came later: how far they were off moves the next estimate and widens it.

Takes estimates and what was realised; gives reconciled readings and their words; never alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from everfit.detect.catalogue import METRICS
from everfit.detect.signal import NotEnough, Reading, Signal

LAST = 20  # labelled windows that say how far estimates were off
FEW = 5  # residuals below which their mean is not worth correcting by
Z = 1.959964  # 95 %


@dataclass(frozen=True, slots=True)
class Residual:
    """An estimate beside what the labels said later."""

    off: float  # realised - estimated
    variance: float  # of `off` if nothing had changed: that which the estimate's interval stood for


def reading_of(name: str, value: float, variance: float, rows: int) -> Signal:
    """An estimate with its 95 % interval, within the bounds of the metric.

    >>> reading_of("estimated.accuracy", 0.9, 1e-4, 1000).low.__round__(4)
    0.8804
    """
    half = Z * float(np.sqrt(max(0.0, variance)))
    return _bounded(Signal(name, "*", value, rows, low=value - half, high=value + half))


def residual(estimated: Signal, realised: Signal) -> Residual:
    """How far an estimate (as `estimate` gave it, not reconciled) was off, now that the labels have come."""
    low, high = estimated.low, estimated.high
    half = 0.0 if low is None or high is None else max(high - estimated.value, estimated.value - low)
    return Residual(realised.value - estimated.value, (half / Z) ** 2)


def reconcile(estimated: Reading, past: Sequence[Residual]) -> Reading:
    """Hold an estimate to the labels that came: the residuals of the last 20 labelled windows move it and widen it.

    With m residuals of variance V, and v the variance that the interval stands for: value + mean ± t(m - 1) * sqrt(
    max(V - mean v, 0) + v + V / m). `effect` is the mean past error (realised - estimated). With fewer than 5 residuals
    nothing is moved; the interval then takes their mean square as error and t with 4 degrees of freedom.

    >>> plain = Signal("estimated.accuracy", "*", 0.9, 1000, low=0.88, high=0.92)
    >>> moved = reconcile(plain, [Residual(-0.05, 1e-4)] * 20)
    >>> round(moved.value, 3), round(moved.effect, 3), moved.high - moved.low > 0.04
    (0.85, -0.05, True)
    """
    if isinstance(estimated, NotEnough):
        return estimated
    low, high = estimated.low, estimated.high
    half = 0.0 if low is None or high is None else max(high - estimated.value, estimated.value - low)
    v, last = (half / Z) ** 2, list(past)[-LAST:]
    off, known = np.array([r.off for r in last]), float(np.mean([r.variance for r in last])) if last else 0.0
    if len(last) < FEW:
        unknown = max(0.0, float((off**2).mean()) - known) if last else 0.0
        wide = float(scipy.special.stdtrit(FEW - 1, 0.975)) * np.sqrt(v + unknown)
        value, mean = estimated.value, float(off.mean()) if last else None
    else:
        spread, mean = float(off.var(ddof=1)), float(off.mean())
        wide = float(scipy.special.stdtrit(len(last) - 1, 0.975))
        wide *= np.sqrt(max(spread - known, 0.0) + v + spread / len(last))
        value = estimated.value + mean
    return _bounded(replace(estimated, value=value, low=value - float(wide), high=value + float(wide), effect=mean))


def say(reading: Reading, past: Sequence[Residual] = ()) -> str:
    """The sentence a person reads beside an estimate: what is expected, how far it was off, what it cannot see.

    >>> reading = Signal("estimated.roc_auc", "*", 0.71, 900, low=0.68, high=0.74, effect=-0.012)
    >>> said = say(reading, [Residual(-0.012, 0)] * 8).split("; ")
    >>> said[0], said[2]
    ('roc_auc is expected at 0.71 (0.68 to 0.74)', 'change in what a score means is not seen')
    >>> said[1]
    'the last 8 labelled windows came out 0.012 below their estimates'
    """
    metric = reading.name.removeprefix("estimated.")
    if isinstance(reading, NotEnough):
        return f"{metric} has no estimate: {reading.said}"
    said = f"{metric} is expected at {reading.value:.3g}"
    if reading.low is not None and reading.high is not None:
        said += f" ({reading.low:.3g} to {reading.high:.3g})"
    many = min(len(past), LAST)
    if many and reading.effect is not None:
        side = "below" if reading.effect < 0 else "above"
        said += f"; the last {many} labelled windows came out {abs(reading.effect):.2g} {side} their estimates"
    if many < FEW:
        said += f"; only {many} labelled windows to check it against"
    return f"{said}; change in what a score means is not seen"


def _bounded(signal: Signal) -> Signal:
    metric = METRICS.get(signal.name.removeprefix("estimated."))
    if metric is None:
        return signal
    low, high, value = (
        float(np.clip(np.nan if x is None else x, metric.low, metric.high))
        for x in (signal.low, signal.high, signal.value)
    )
    return replace(signal, value=value, low=low, high=high)
