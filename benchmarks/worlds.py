"""Worlds without drift, with drift, and how their days differ: windows as counts, drawn without drawing rows.

Takes a seed; gives counts of windows; never touches Everfit's state or the disk. The shares of a day's shifted
distribution over fixed bins are known in closed form, so a window is one multinomial draw per column: 365 windows of 50
columns cost what reading them would not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from everfit.detect.distribution import number_groups
from everfit.detect.scores import Counted, Lens

Floats = NDArray[np.float64]
Shares = Callable[[Floats, Floats], Floats]  # shift (in sd) and stretch per window -> windows x bins

DECILES = np.arange(1, 10) / 10


@dataclass(frozen=True)
class Law:
    """One column's distribution over its bins, as its values shift and stretch."""

    kind: str
    ordered: bool
    shares: Shares
    values: Floats  # what stands for each bin, in standard deviations; categories: 0


@dataclass(frozen=True)
class World:
    """Columns, seen through fixed bins."""

    laws: tuple[Law, ...]
    lens: Lens
    nulls: float  # share of absent values in every column

    @property
    def columns(self) -> int:
        return len(self.laws)

    def of(self, kind: str) -> list[int]:
        return [i for i, law in enumerate(self.laws) if law.kind == kind]


def _between(cdf: Callable[[Floats], Floats], edges: Floats) -> Floats:
    """Shares between edges, the last axis; `cdf` is called with windows x edges."""
    below = cdf(edges)
    one, zero = np.ones((*below.shape[:-1], 1)), np.zeros((*below.shape[:-1], 1))
    return np.diff(np.concatenate([zero, below, one], axis=-1), axis=-1)


def normal_law() -> Law:
    edges = scipy.special.ndtri(DECILES)

    def shares(shift: Floats, stretch: Floats) -> Floats:
        return _between(lambda x: scipy.special.ndtr((x - shift[:, None]) / stretch[:, None]), edges[None, :])

    return Law("normal", True, shares, scipy.special.ndtri(np.arange(10) / 10 + 0.05))


def heavy_law() -> Law:
    """Student's t with 2.2 degrees of freedom; a shift is counted in its robust standard deviation."""
    edges, scale = scipy.special.stdtrit(2.2, DECILES), float(scipy.special.stdtrit(2.2, 0.75)) / 0.6745

    def shares(shift: Floats, stretch: Floats) -> Floats:
        return _between(
            lambda x: scipy.special.stdtr(2.2, (x - scale * shift[:, None]) / stretch[:, None]), edges[None]
        )

    return Law("heavy", True, shares, scipy.special.stdtrit(2.2, np.arange(10) / 10 + 0.05) / np.sqrt(11))  # its sd


def zeros_law() -> Law:
    """max(0, X - 0.25) of a normal X: 60 % zeros."""
    edges = np.concatenate([[0.25], scipy.special.ndtri(DECILES[DECILES > 0.65])])

    def shares(shift: Floats, stretch: Floats) -> Floats:
        return _between(lambda x: scipy.special.ndtr((x - shift[:, None]) / stretch[:, None]), edges[None, :])

    return Law("zeros", True, shares, np.array([0.0, 0.15, 0.4, 0.8, 1.4])[: len(edges) + 1] / 0.55)


def poisson_law(mean: float) -> Law:
    numbers = np.arange(60)
    groups = number_groups(np.concatenate([scipy.special.xlogy(0, 0) + _poisson(numbers, mean)]), 10)

    def shares(shift: Floats, stretch: Floats) -> Floats:
        means = np.maximum(mean + shift * np.sqrt(mean), 0.01)
        by_number = _poisson(numbers[None, :], means[:, None])
        found = np.stack([by_number[:, groups == g].sum(axis=1) for g in range(groups.max() + 1)], axis=1)
        return found / found.sum(axis=1, keepdims=True)

    values = np.array([numbers[groups == g].mean() for g in range(groups.max() + 1)])
    return Law("poisson", True, shares, (values - mean) / np.sqrt(mean))


def _poisson(numbers: NDArray[np.int64], mean: Floats | float) -> Floats:
    return np.exp(scipy.special.xlogy(numbers, mean) - mean - scipy.special.gammaln(numbers + 1))


def category_law(rng: np.random.Generator, size: int, rows: int) -> Law:
    """Few categories of uneven shares, or many by Zipf's law in own bins and hash buckets; a day tilts their odds."""
    weights = rng.dirichlet(np.full(size, 2.0)) if size <= 20 else 1 / np.arange(1, size + 1) ** 1.1
    base = weights / weights.sum()
    own = int(min(9, (base * rows >= 10).sum()))
    order = np.argsort(-base)
    bins = np.empty(size, dtype=np.int64)
    bins[order[:own]] = np.arange(own)
    room = 10 - own
    rest = base[order[own:]].sum()
    groups = int(np.clip(rest * rows // 10, 1, room)) if size > own else 0
    bins[order[own:]] = own + rng.integers(0, max(1, groups), size - own)
    tilt = rng.choice([-1.0, 1.0], size) if size > 20 else rng.normal(size=size)
    tilt = (tilt - base @ tilt) / np.sqrt(base @ (tilt - base @ tilt) ** 2)
    # Tilts of many categories take two values, so that a bin's share is a sum of two exponentials.
    kinds, kind = np.unique(tilt, return_inverse=True)
    mass = np.zeros((len(kinds), int(bins.max()) + 1))
    np.add.at(mass, (kind, bins), base)

    def shares(shift: Floats, stretch: Floats) -> Floats:
        found = np.exp(shift[:, None] * kinds[None, :]) @ mass
        return found / found.sum(axis=1, keepdims=True)

    return Law("few" if size <= 20 else "many", False, shares, np.zeros(mass.shape[1]))


def table_world(seed: int, rows: int, nulls: float = 0.0) -> World:
    """50 columns: 32 normal, 3 heavy-tailed, 3 with many zeros, 2 counts, 7 small and 3 large categories."""
    rng = np.random.default_rng([seed, 1])
    laws = [normal_law()] * 32 + [heavy_law()] * 3 + [zeros_law()] * 3 + [poisson_law(3.0), poisson_law(8.0)]
    laws += [category_law(rng, int(rng.integers(3, 9)), rows) for _ in range(7)]
    laws += [category_law(rng, size, rows) for size in (1_000, 3_000, 10_000)]
    return seen_through(laws, nulls)


def rare_world(seed: int, rows: int, expected: float) -> World:
    """50 columns of eight categories, all but the first expecting as many rows in a window."""

    def law() -> Law:
        rare = np.full(7, expected / rows)
        base = np.concatenate([[1 - rare.sum()], rare])

        def shares(shift: Floats, stretch: Floats) -> Floats:
            found = base * np.exp(shift[:, None] * np.array([0.0, *[1.0, -1.0] * 3, 1.0]))
            return found / found.sum(axis=1, keepdims=True)

        return Law("few", False, shares, np.zeros(8))

    return seen_through([law() for _ in range(50)], 0.0)


def seen_through(laws: list[Law], nulls: float) -> World:
    sizes = np.array([law.values.size for law in laws], dtype=np.int64)
    names = tuple(f"{law.kind}_{i}" for i, law in enumerate(laws))
    return World(tuple(laws), Lens(names, np.array([law.ordered for law in laws]), sizes, (), "world"), nulls)


# ---- how days differ -----------------------------------------------------------------------------


def _serial(rng: np.random.Generator, shape: tuple[int, int], r: float, sd: float) -> Floats:
    steps = rng.normal(size=shape)
    found = np.empty(shape)
    found[0] = steps[0]
    for t in range(1, shape[0]):
        found[t] = r * found[t - 1] + np.sqrt(1 - r * r) * steps[t]
    return sd * found


def _wave(rng: np.random.Generator, shape: tuple[int, int], period: int, rms: float) -> Floats:
    phase = rng.uniform(0, 2 * np.pi, shape[1])
    return rms * np.sqrt(2) * np.sin(2 * np.pi * np.arange(shape[0])[:, None] / period + phase)


def _hours(rng: np.random.Generator, shape: tuple[int, int], period: int, rms: float) -> Floats:
    pattern = rng.normal(size=(period, shape[1]))
    pattern = rms * (pattern - pattern.mean(axis=0)) / pattern.std(axis=0)
    return pattern[np.arange(shape[0]) % period]


def _common(rng: np.random.Generator, shape: tuple[int, int], sd: float, part: float) -> Floats:
    together = rng.normal(size=(shape[0], 1))
    return sd * (np.sqrt(part) * together + np.sqrt(1 - part) * rng.normal(size=shape))


def holidays(rng: np.random.Generator, windows: int) -> NDArray[np.bool_]:
    return rng.random(windows) < 0.03


DAYS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "iid": lambda rng, shape: np.zeros(shape),
    "sd02": lambda rng, shape: rng.normal(0, 0.02, shape),
    "sd05": lambda rng, shape: rng.normal(0, 0.05, shape),
    "sd10": lambda rng, shape: rng.normal(0, 0.1, shape),
    "ar3": lambda rng, shape: _serial(rng, shape, 0.3, 0.05),
    "ar7": lambda rng, shape: _serial(rng, shape, 0.7, 0.05),
    "corr": lambda rng, shape: _common(rng, shape, 0.05, 0.8),
    "mix": lambda rng, shape: rng.normal(0, 0.1, shape) * (np.arange(shape[1]) % 4 == 0),
    "armix": lambda rng, shape: _serial(rng, shape, 0.7, 0.1) * (np.arange(shape[1]) % 10 == 0),
    "week": lambda rng, shape: _wave(rng, shape, 7, 0.1),
    "weekar": lambda rng, shape: _wave(rng, shape, 7, 0.1) + _serial(rng, shape, 0.3, 0.03),
    "day24": lambda rng, shape: _hours(rng, shape, 24, 0.2),
    "t3": lambda rng, shape: 0.05 / np.sqrt(3) * rng.standard_t(3, shape),
    "t2": lambda rng, shape: 0.02 * rng.standard_t(2, shape),
    "hol": lambda rng, shape: 0.4 * (holidays(rng, shape[0])[:, None] & (np.arange(shape[1]) % 2 == 0)),
    "walk": lambda rng, shape: np.cumsum(rng.normal(0, 0.01, shape), axis=0),
    "nulls": lambda rng, shape: rng.normal(0, 0.02, shape),
}


# ---- drawing windows -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """What is done to some columns from a window on."""

    columns: tuple[int, ...] = ()
    shift: float = 0.0  # sd
    stretch: float = 1.0
    moved: float = 0.0  # share of rows that become one value
    to_bin: int = 0
    nulls: float = 0.0  # share of rows that lose their value


def draw(
    world: World, rng: np.random.Generator, rows: int, days: Floats, change: Change = Change(), since: int = 0
) -> Counted:
    """Windows of a world: `days` is windows x columns of shifts, `change` begins with window `since`."""
    windows = len(days)
    late = np.arange(windows) >= since
    bins, absent = [], np.zeros((windows, world.columns), dtype=np.int64)
    for column, law in enumerate(world.laws):
        hit = column in change.columns
        shift = days[:, column] + (change.shift * late if hit else 0.0)
        stretch = np.where(late & hit, change.stretch, 1.0)
        shares = law.shares(shift, stretch)
        if hit and change.moved:
            moved = (change.moved * late)[:, None]
            shares = shares * (1 - moved) + moved * (np.arange(shares.shape[1]) == change.to_bin)
        nulls = world.nulls * np.exp(5 * days[:, column]) + (change.nulls * late if hit else 0.0)
        absent[:, column] = rng.binomial(rows, np.clip(nulls, 0.0, 1.0))
        shares = np.maximum(shares, 0.0)
        bins.append(rng.multinomial(rows - absent[:, column], shares / shares.sum(axis=1, keepdims=True)))
    return Counted(np.concatenate(bins, axis=1).astype(np.int64), absent)
