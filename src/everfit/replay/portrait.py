"""Counts of every column by window, so that the peers' drift rules can be replayed in milliseconds.

Takes the features in time order and the cut; gives p-values and distances of one window against any span of windows;
never keeps rows.

Numbers fall into the bins between 256 quantiles of the first training rows, each quantile with a bin of its own, so
that ties and constant columns are kept apart: KS from such bins is within 0.0004 of exact. Missing values are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from everfit.replay.matrix import Cell, Cut, Floats

BINS = 256
FEW = 10  # bins of PSI, as its users have them
LARGE = 1000  # rows of the reference from which Evidently turns from p-values to distances
FLOOR = 1e-4  # share that an empty bin of PSI counts as


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """One column."""

    name: str
    numbers: bool  # numbers have an order; categories have none
    by_window: NDArray[np.int64]  # (windows, bins)
    at: Floats  # (bins,): the value a bin stands for; empty for categories


class Portrait:
    """All columns of one history."""

    def __init__(self, features: pl.DataFrame, cut: Cut) -> None:
        windows = np.repeat(np.arange(cut.windows), np.diff(cut.edges))
        first = cut.edges[cut.start]
        self._columns = [_count(features[name], windows, cut.windows, first) for name in features.columns]

    def p_values(self, window: int, span: Cell) -> dict[str, float]:
        """KS (numbers) or chi-square (categories) of a window against a span of windows, per column."""
        return {
            column.name: (_ks if column.numbers else _chi_square)(*_two(column, window, span))
            for column in self._columns
        }

    def psi(self, window: int, span: Cell) -> dict[str, float]:
        """Population stability index on ten bins of the span, per column."""
        return {column.name: _psi(*_merged(*_two(column, window, span))) for column in self._columns}

    def drifted_share(self, window: int, span: Cell) -> float:
        """Share of columns that drifted by Evidently's defaults: normed Wasserstein or Jensen-Shannon distance of at
        least 0.1; below 1000 rows of reference a p-value below 0.05.
        """
        drifted = []
        for column in self._columns:
            now, then = _two(column, window, span)
            if then.sum() <= LARGE:
                drifted.append((_ks if column.numbers else _chi_square)(now, then) < 0.05)
            elif column.numbers:
                drifted.append(_wasserstein(now, then, column.at) >= 0.1)
            else:
                drifted.append(_jensen_shannon(now, then) >= 0.1)
        return float(np.mean(drifted)) if drifted else 0.0


def _count(values: pl.Series, windows: NDArray[np.int64], many: int, first: int) -> Counts:
    if values.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
        places = values.cast(pl.String).rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
        return Counts(values.name, False, _table(places, windows, many, int(places.max(initial=0)) + 1), np.zeros(0))
    given = values.cast(pl.Float64) if values.dtype.is_numeric() else values.to_physical().cast(pl.Float64)
    given = given.fill_null(float("nan"))
    rows = given.to_numpy()
    known = rows[:first][np.isfinite(rows[:first])]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS), method="nearest")) if len(known) else np.zeros(1)
    places = np.searchsorted(edges, rows, "left") + np.searchsorted(edges, rows, "right")
    places[~np.isfinite(rows)] = -1
    between = (edges[1:] + edges[:-1]) / 2
    at = np.empty(2 * len(edges) + 1)
    at[1::2], at[2:-1:2], at[0], at[-1] = edges, between, edges[0], edges[-1]
    for end in (0, -1):  # what lies outside stands at its own mean
        outside = rows[places == (0 if end == 0 else len(at) - 1)]
        at[end] = outside.mean() if len(outside) else at[end]
    return Counts(values.name, True, _table(places.astype(np.int64), windows, many, len(at)), at)


def _table(places: NDArray[np.int64], windows: NDArray[np.int64], many: int, bins: int) -> NDArray[np.int64]:
    known = places >= 0
    flat = np.bincount(windows[known] * bins + places[known], minlength=many * bins)
    return flat.reshape(many, bins).astype(np.int64)


def _two(column: Counts, window: int, span: Cell) -> tuple[Floats, Floats]:
    then = column.by_window[span[0] : span[1] + 1].sum(axis=0).astype(np.float64)
    return column.by_window[window].astype(np.float64), then


def _ks(now: Floats, then: Floats) -> float:
    n, m = now.sum(), then.sum()
    if not n or not m:
        return 1.0
    apart = np.abs(now.cumsum() / n - then.cumsum() / m).max()
    return float(scipy.special.kolmogorov(np.sqrt(n * m / (n + m)) * apart))


def _chi_square(now: Floats, then: Floats) -> float:
    n, m = now.sum(), then.sum()
    both = now + then
    seen = both > 0
    if not n or not m or seen.sum() < 2:
        return 1.0
    expected = both[seen] * n / (n + m), both[seen] * m / (n + m)
    value = ((now[seen] - expected[0]) ** 2 / expected[0] + (then[seen] - expected[1]) ** 2 / expected[1]).sum()
    return float(scipy.special.chdtrc(seen.sum() - 1, value))


def _merged(now: Floats, then: Floats) -> tuple[Floats, Floats]:
    """Bins joined to at most ten of about equal share of the reference."""
    if not then.sum() or len(then) <= FEW:
        return now, then
    middle = (then.cumsum() - then / 2) / then.sum()
    group = np.minimum((middle * FEW).astype(np.int64), FEW - 1)
    merged = np.stack([np.bincount(group, each, FEW) for each in (now, then)]).astype(np.float64)
    return merged[0], merged[1]


def _psi(now: Floats, then: Floats) -> float:
    if not now.sum() or not then.sum():
        return 0.0
    p, q = np.maximum(now / now.sum(), FLOOR), np.maximum(then / then.sum(), FLOOR)
    return float(((p - q) * np.log(p / q))[(now + then) > 0].sum())


def _wasserstein(now: Floats, then: Floats, at: Floats) -> float:
    if not now.sum() or not then.sum():
        return 0.0
    p, q = now / now.sum(), then / then.sum()
    apart = np.abs(p.cumsum() - q.cumsum())[:-1] @ np.diff(at)
    spread = np.sqrt(max(float(q @ at**2 - (q @ at) ** 2), 0.0))
    return float(apart / max(spread, 0.001))


def _jensen_shannon(now: Floats, then: Floats) -> float:
    if not now.sum() or not then.sum():
        return 0.0
    p, q = now / now.sum(), then / then.sum()
    middle = (p + q) / 2
    apart = (scipy.special.rel_entr(p, middle) + scipy.special.rel_entr(q, middle)).sum() / 2
    return float(np.sqrt(apart / np.log(2)))
