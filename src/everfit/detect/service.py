"""How well a model answered in a window: its latency and the share of rows that it failed on.

Takes the milliseconds of answers and counts of failures; gives readings named `serve.*`; never alarms: triggers do,
by the user's own lines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everfit.detect.signal import NotEnough, Reading, Signal

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
NORMAL = 1.96  # half width of a 95 % interval in standard errors


def read_latency(milliseconds: NDArray[np.float64], *, needed: int) -> tuple[Reading, ...]:
    """Quantiles of latency in milliseconds, `serve.latency_p50`, `_p90`, `_p99`, with a 95 % interval.

    The interval is that of the order statistics whose ranks lie 1.96 binomial standard errors beside the quantile's,
    whatever the distribution (David and Nagaraja 2003, Order Statistics, section 7.1). A quantile needs ten rows
    beyond it besides the `needed` ones: the 99th of 200 rows is hardly more than the largest.

    >>> [round(r.value, 1) for r in read_latency(np.arange(2000.0), needed=200)]
    [999.5, 1799.1, 1979.0]
    """
    present = np.sort(milliseconds[np.isfinite(milliseconds)])
    if not present.size:
        return ()  # rows that were scored elsewhere carry no latency: nothing is asked of it
    return tuple(_quantile(name, share, present, needed) for name, share in QUANTILES.items())


def read_failures(failed: int, answered: int, *, needed: int) -> tuple[Reading, ...]:
    """The share of rows that the model failed on, `serve.errors`, with Wilson's 95 % interval (Wilson 1927).

    >>> read_failures(5, 995, needed=200)[0].value
    0.005
    """
    asked = failed + answered
    if asked == 0:
        return ()
    if asked < needed:
        return (NotEnough("serve.errors", "*", asked, needed, f"{asked} rows were asked for, {needed} needed"),)
    share, shrink = failed / asked, NORMAL**2 / asked
    middle = (share + shrink / 2) / (1 + shrink)
    half = NORMAL / (1 + shrink) * np.sqrt(share * (1 - share) / asked + shrink / (4 * asked))
    return (Signal("serve.errors", "*", share, asked, low=max(0.0, float(middle - half)), high=float(middle + half)),)


def _quantile(name: str, share: float, ordered: NDArray[np.float64], needed: int) -> Reading:
    called, rows = f"serve.latency_{name}", len(ordered)
    enough = max(needed, int(np.ceil(10 / (1 - share))))
    if rows < enough:
        return NotEnough(called, "*", rows, enough, f"{rows} answers, {enough} needed for the {name} of latency")
    half = NORMAL * np.sqrt(rows * share * (1 - share))
    low, high = np.clip([np.floor(rows * share - half), np.ceil(rows * share + half)], 0, rows - 1).astype(int)
    value = float(np.quantile(ordered, share))
    return Signal(called, "*", value, rows, low=float(ordered[low]), high=float(ordered[high]))


__all__ = ["QUANTILES", "read_failures", "read_latency"]
