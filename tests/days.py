"""Windows whose days differ, as profiles and as counts, for tests of what is usual.

Takes a seeded generator; gives profiles or counts; never draws without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from everfit.detect.scores import Counted, Lens
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile.table import Bins, Profile, learn_bins, portray

SCHEMA = Schema((Column("warmth", Kind.NUMBER), Column("carrier", Kind.CATEGORY), Column("wet", Kind.FLAG)), ())
EDGES = scipy.special.ndtri(np.arange(1, 10) / 10)


def day(rng: np.random.Generator, *, rows: int = 400, effect: float = 0.0, shift: float = 0.0) -> pl.DataFrame:
    """A day of rows whose warmth has an effect of its own; some values are absent."""
    warmth = rng.normal(rng.normal(0, effect) + shift if effect else shift, 1, rows)
    names = np.array([f"c{int(i)}" for i in np.minimum(rng.geometric(0.15, rows), 60)])
    frame = pl.DataFrame({"warmth": warmth, "carrier": names, "wet": rng.random(rows) < 0.3})
    return frame.with_columns(pl.when(pl.Series(rng.random(rows) > 0.02)).then(pl.col("warmth")).alias("warmth"))


def days(rng: np.random.Generator, many: int, **how: float) -> list[pl.DataFrame]:
    """Several days."""
    rows = int(how.pop("rows", 400))
    return [day(rng, rows=rows, **how) for _ in range(many)]


def portrayed(frames: Sequence[pl.DataFrame], bins: Bins | None = None) -> list[Profile]:
    """Their profiles, on the bins of them all unless others are given."""
    bins = bins or learn_bins(pl.concat(frames), SCHEMA)
    return [portray(frame, bins) for frame in frames]


def plain_lens(columns: int, bins: int = 10) -> Lens:
    """Number columns alone, for counts."""
    names = tuple(f"x{i}" for i in range(columns))
    return Lens(names, np.ones(columns, dtype=np.bool_), np.full(columns, bins, dtype=np.int64), (), "counts")


def normal_counts(rng: np.random.Generator, effects: NDArray[np.float64], rows: int = 1000) -> Counted:
    """Windows of normal columns shifted by `effects` (windows x columns, in sd), in ten bins of equal mass at first."""
    below = scipy.special.ndtr(EDGES - effects[:, :, None])
    ends = np.zeros((*effects.shape, 1)), np.ones((*effects.shape, 1))
    shares = np.diff(np.concatenate([ends[0], below, ends[1]], axis=2), axis=2)
    return Counted(rng.multinomial(rows, shares).reshape(len(effects), -1), np.zeros(effects.shape, dtype=np.int64))


def part(windows: Counted, which: slice) -> Counted:
    """Some of the windows."""
    return Counted(windows.bins[which], windows.absent[which])
