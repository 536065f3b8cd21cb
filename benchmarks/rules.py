"""Rules of the field for "has this window drifted", written again on our bins, and Holm's for many windows at once.

Takes counts of healthy and later windows; gives flags; never cuts bins of its own.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray
from worlds import World

from everfit.detect.scores import Counted

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def holm_rejects(chances: Floats, rate: float) -> Flags:
    """Holm over the last axis."""
    order = np.argsort(chances, axis=1)
    ranked = np.take_along_axis(chances, order, axis=1)
    passed = np.logical_and.accumulate(ranked <= rate / (chances.shape[1] - np.arange(chances.shape[1])), axis=1)
    found = np.zeros_like(passed)
    np.put_along_axis(found, order, passed, axis=1)
    return found


def peers(world: World, healthy: Counted, windows: Counted) -> dict[str, Flags]:
    """Rules of the field on the same bins: windows x columns."""
    starts, column = world.lens.starts, world.lens.column_of_bin
    e = healthy.bins.sum(axis=0).astype(float)
    a = windows.bins.astype(float)
    n, m = np.add.reduceat(e, starts), np.add.reduceat(a, starts, axis=1)
    p, q = e / n[column], a / m[:, column]
    pooled = (e + a) / (n[column] + m[:, column])
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.nan_to_num((e - n[column] * pooled) ** 2 / (n[column] * pooled))
        terms += np.nan_to_num((a - m[:, column] * pooled) ** 2 / (m[:, column] * pooled))
    chi = scipy.special.chdtrc(world.lens.sizes - 1, np.add.reduceat(terms, starts, axis=1))
    steps = np.cumsum(q - p, axis=1)
    before = np.concatenate([np.zeros((len(a), 1)), steps], axis=1)[:, starts]
    apart = np.maximum.reduceat(np.abs(steps - before[:, column]), starts, axis=1)
    ks = scipy.special.kolmogorov(np.sqrt(n * m / (n + m)) * apart)
    tested = np.where(world.lens.ordered, ks, chi)
    half_p, half_q = (e + 0.5) / (n + world.lens.sizes / 2)[column], (a + 0.5) / (m + world.lens.sizes / 2)[:, column]
    psi = np.add.reduceat((half_q - half_p) * np.log(half_q / half_p), starts, axis=1)
    values = np.concatenate([law.values for law in world.laws])
    gaps = np.append(np.abs(np.diff(values)), 0.0)
    gaps[np.append(starts[1:], len(values)) - 1] = 0.0
    moved = np.add.reduceat(np.abs(steps - before[:, column]) * gaps, starts, axis=1)
    middle = (p + q) / 2
    divergence = scipy.special.rel_entr(p, middle) + scipy.special.rel_entr(q, middle)
    js = np.sqrt(np.maximum(0, np.add.reduceat(divergence, starts, axis=1)) / 2 / np.log(2))
    return {
        "KS/chi2 p < .05, any column": tested < 0.05,
        "Evidently-like >= .1, any column": np.where(world.lens.ordered, moved, js) >= 0.1,
        "PSI > .1, any": psi > 0.1,
        "PSI > .2, any": psi > 0.2,
        "Holm chi2": holm_rejects(chi, 1 / 365),
    }
