"""Whole rows, or the vectors of one column, against the usual ones: can a classifier tell them apart?

Takes windows of healthy rows, once, and then a window; gives `drift.together` with the columns that told; never holds
rows of the window against a classifier that saw them.

A two-sample test by classification with sample splitting: fitted on one half, its scores are ranked on the other, so
the Mann-Whitney test is valid without permutations (Lopez-Paz and Oquab 2017, arXiv 1610.06545; Kim, Ramdas, Singh and
Wasserman 2021, arXiv 1602.02210). Both halves take both parts, and the mean of the two z is used as if they were one.
The classifier is a ridge linear discriminant on rank features, with the products whose covariance changed most in the
fitting half: so a correlation that breaks is seen where no column moves. Days differ without any drift, so what counts
is how far the area under the curve (AUC) lies beyond that of healthy windows held against the others: a prediction t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from everfit.detect.outcomes import Floats, Ints
from everfit.detect.packed import pack, unpack
from everfit.detect.signal import NotEnough, Reading, Signal
from everfit.detect.weights import Codes, Encoder, encode, features_of, learn_encoder
from everfit.errors import UsageError
from everfit.observe.schema import Schema

Features = NDArray[np.float32]

NAME = "drift.together"
REFERENCE_ROWS = 4000  # kept of the healthy windows: the AUC's error is then mostly the window's own
WINDOW_ROWS = 5000  # used of a window; beyond, days differ by more than rows do
MOST_WINDOWS = 30  # healthy windows that are held against the others
FEWEST = 5  # healthy windows; with fewer only the noise of sampling is counted
FEWEST_ROWS = 100  # a side, in both halves together
PRODUCTS = 20  # pairs of features whose product is a feature
AXES = 32  # principal axes of a vector column
RIDGE = 0.05  # on a pooled variance of 1
LARGEST = 5.0  # standard deviations; further out a product of two would be one row's word


@dataclass(frozen=True, slots=True, eq=False)
class Arrows:
    """How the vectors of one column become features: principal axes of the healthy ones, and what is left over."""

    centre: Floats  # (dimensions,)
    axes: Floats  # (k, dimensions), scaled to variance 1
    left: Floats  # mean and standard deviation of the log of what the axes leave of a vector


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """What healthy rows look like together."""

    column: str  # "*" for whole rows, or the vector column
    how: Encoder | Arrows
    points: Codes | Features  # (rows, columns) codes, or (rows, features) of vectors
    windows: Ints  # which healthy window a row is from, (rows,)
    areas: Floats  # AUC of healthy windows against the others
    size: int  # median rows of a healthy window

    def to_bytes(self) -> bytes:
        """Write it compactly: 0.2 MB for 50 columns."""
        facts: dict[str, Any] = {"column": self.column, "size": self.size}
        arrays: dict[str, NDArray[Any]] = {"points": self.points, "windows": self.windows.astype(np.int32)}
        arrays["areas"] = self.areas
        if isinstance(self.how, Encoder):
            facts["columns"], tables = self.how.to_facts()
            arrays |= tables
        else:
            arrays |= {"centre": self.how.centre, "axes": self.how.axes, "left": self.how.left}
        return pack(facts, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Crowd:
        """Read what `to_bytes` wrote.

        Raises:
            Refused: these bytes are damaged.
        """
        facts, arrays = unpack(data)
        how: Encoder | Arrows
        if "columns" in facts:
            how = Encoder.from_facts(facts["columns"], arrays)
        else:
            how = Arrows(arrays["centre"], arrays["axes"], arrays["left"])
        windows = arrays["windows"].astype(np.int64)
        return cls(facts["column"], how, arrays["points"], windows, arrays["areas"], facts["size"])


@dataclass(frozen=True, slots=True)
class Together:
    """The answer of one window."""

    reading: Reading
    blame: tuple[tuple[str, float], ...]  # columns by their share in telling the rows apart, the largest first
    said: str  # the sentence a person reads


@dataclass(frozen=True, slots=True, eq=False)
class _Apart:
    area: float
    z: float
    error: float  # standard error of the area when nothing differs
    told: Floats  # share of each feature in telling apart


def learn_crowd(windows: Sequence[pl.DataFrame], schema: Schema, *, column: str = "*") -> Crowd:
    """Learn what healthy windows look like, as whole rows or, with `column`, as the vectors of one column.

    Windows are cut as later ones will be. Whole rows leave moments and vectors out. Each of up to 30 windows is held
    against the others, which says how far windows lie apart without drift.

    Raises:
        UsageError: no window has a row.
    """
    full = [window for window in windows if window.height]
    if not full:
        raise UsageError("no healthy window has a row; give the rows that the champion was proven on")
    each = max(1, REFERENCE_ROWS // len(full))
    kept = pl.concat([_thin(window, each) for window in full], how="vertical_relaxed")
    of = np.repeat(np.arange(len(full)), [min(each, window.height) for window in full])
    how = learn_encoder(kept, schema) if column == "*" else _learn_arrows(_vectors(kept[column]))
    size = int(np.median([window.height for window in full]))
    points = encode(kept, how) if isinstance(how, Encoder) else _project(_vectors(kept[column]), how)
    crowd = Crowd(column, how, points, of, np.zeros(0), size)
    places = np.unique(np.linspace(0, len(full) - 1, min(MOST_WINDOWS, len(full))).astype(np.int64))
    found = [_against(crowd, full[at], but=int(at)) for at in places] if len(full) > 1 else []
    areas = np.array([apart.area for apart in found if apart is not None])
    return replace(crowd, areas=areas)


def test_together(crowd: Crowd, rows: pl.DataFrame) -> Together:
    """Test whether a window's rows are unlike the healthy ones, together.

    The value is the AUC (0.5: nothing tells them apart), the effect its rise over healthy windows, the p-value the
    larger of two: of sampling, and of a healthy window's AUC this high (from 5 healthy windows on).

    >>> from everfit.observe.options import Kind
    >>> from everfit.observe.schema import Column
    >>> chance = np.random.default_rng(1)
    >>> def day(bound):
    ...     a = chance.normal(size=500)
    ...     return pl.DataFrame({"a": a, "b": bound * a + (1 - bound**2) ** 0.5 * chance.normal(size=500)})
    >>> schema = Schema((Column("a", Kind.NUMBER), Column("b", Kind.NUMBER)), ())
    >>> crowd = learn_crowd([day(0.6) for _ in range(12)], schema)
    >>> broken, usual = test_together(crowd, day(-0.6)), test_together(crowd, day(0.6))
    >>> broken.reading.p_value < 1e-6, usual.reading.p_value > 0.01
    (True, True)
    """
    apart = _against(crowd, rows, but=None)
    if apart is None:
        least = min(rows.height, len(crowd.points))
        said = f"{least} rows to tell apart, {FEWEST_ROWS} needed"
        return Together(NotEnough(NAME, crowd.column, least, FEWEST_ROWS, said), (), said)
    usual = float(crowd.areas.mean()) if len(crowd.areas) else 0.5
    p_value = float(scipy.special.ndtr(-apart.z))
    if len(crowd.areas) >= FEWEST:
        p_value = max(p_value, _unusual(apart, crowd, rows.height))
    half = 1.96 * apart.error
    low, high = max(0.0, apart.area - half), min(1.0, apart.area + half)
    signal = Signal(NAME, crowd.column, apart.area, rows.height, low, high, apart.area - usual, p_value)
    blame = _blame(crowd, apart.told)
    return Together(signal, blame, _say(signal, crowd, blame))


test_together.__test__ = False  # type: ignore[attr-defined]  # its name is a verb, not a test's


def _against(crowd: Crowd, rows: pl.DataFrame, *, but: int | None) -> _Apart | None:
    """A window against the crowd, without the rows of one of its own windows."""
    taken = _thin(rows, min(WINDOW_ROWS, crowd.size))
    others = np.ones(len(crowd.points), dtype=np.bool_) if but is None else crowd.windows != but
    points, of = crowd.points[others], crowd.windows[others]
    if min(len(points), taken.height) < FEWEST_ROWS:
        return None
    if isinstance(crowd.how, Encoder):
        now = features_of(encode(taken, crowd.how), crowd.how)
    else:
        now = _project(_vectors(taken[crowd.column]), crowd.how)
    return _tell_apart(_as_features(points, crowd.how), now, of)


def _as_features(points: Codes | Features, how: Encoder | Arrows) -> Features:
    if isinstance(how, Encoder):
        return features_of(points.astype(np.uint8), how)
    return points.astype(np.float32)


def _between(points: Features, of: Ints) -> Floats:
    """How much the mean of each feature varies between windows beyond the noise of their rows."""
    here, of = np.unique(of, return_inverse=True)
    rows = np.bincount(of).astype(np.float64)
    if len(here) < 3 or not points.shape[1]:
        return np.zeros(points.shape[1])
    each = scipy.sparse.csr_array((np.ones(len(of)), (of, np.arange(len(of)))), shape=(len(here), len(of)))
    means = (each @ points.astype(np.float64)) / rows[:, None]
    beyond: Floats = np.maximum(means.var(axis=0, ddof=1) - points.var(axis=0) * (1 / rows).mean(), 0.0)
    # An upper bound: a column whose few days agreed by chance would else be trusted to stand still.
    return beyond * float((len(here) - 1) / scipy.special.chdtri(len(here) - 1, 0.9))


def _tell_apart(then: Features, now: Features, of: Ints) -> _Apart:
    """Fit on even rows and rank the odd ones, and the other way round."""
    used = (np.abs(then).max(axis=0) > 0) | (np.abs(now).max(axis=0) > 0)
    then, now = np.clip(then[:, used], -LARGEST, LARGEST), np.clip(now[:, used], -LARGEST, LARGEST)
    days = _between(then, of)
    areas, zs, told = [], [], np.zeros(len(used))
    error = 1.0
    if not used.any():
        return _Apart(0.5, 0.0, error, told)
    for fold in (0, 1):
        pairs = _pairs(then[fold::2], now[fold::2])
        a, b = _with_products(then[fold::2], pairs), _with_products(now[fold::2], pairs)
        direction = _fit(a, b, np.concatenate([days, _between(a[:, len(days) :], of[fold::2])]))
        a, b = _with_products(then[1 - fold :: 2], pairs), _with_products(now[1 - fold :: 2], pairs)
        n, m = len(a), len(b)
        error = float(np.sqrt((n + m + 1) / (12 * n * m)))
        area = _area((a @ direction).astype(np.float64), (b @ direction).astype(np.float64))
        areas.append(area)
        zs.append((area - 0.5) / error)
        told[used] += _shares(direction * (b.mean(axis=0) - a.mean(axis=0)), pairs, int(used.sum()))
    return _Apart(float(np.mean(areas)), float(np.mean(zs)), error, told)


def _fit(then: Features, now: Features, daily: Floats) -> Features:
    """The direction along which the two differ, and more than days do, (features,)."""
    apart = (now.mean(axis=0) - then.mean(axis=0)).astype(np.float64)
    pooled = np.atleast_2d(np.cov(then.T, dtype=np.float32) + np.cov(now.T, dtype=np.float32)).astype(np.float64) / 2
    thin = 1 / len(then) + 1 / len(now)
    noise = np.diag(pooled) * thin + daily
    # What is within its noise is drawn to nothing, so that many idle columns do not hide one. Smoothly, for
    # else healthy windows would have an AUC of 0.5, or that of the one column that stood out: no t could foretell it.
    sure = apart**2 / np.maximum(apart**2 + 2 * noise, 1e-300)
    # A mean varies by pooled * thin + daily, and is weighed by the inverse of that.
    direction: Features = np.linalg.solve(pooled + np.diag(RIDGE + daily / thin), apart * sure).astype(np.float32)
    return direction


def _pairs(then: Features, now: Features) -> Ints:
    """The pairs of features whose covariance changed most, (pairs, 2)."""
    width = then.shape[1]
    if width < 2:
        return np.zeros((0, 2), dtype=np.int64)
    covered = np.abs(np.cov(now.T, dtype=np.float32) - np.cov(then.T, dtype=np.float32))
    spread = np.sqrt(np.maximum(then.var(axis=0), 1e-3))
    changed = np.triu(covered / np.outer(spread, spread), k=1)
    best = np.argsort(changed, axis=None)[::-1][: min(PRODUCTS, width * (width - 1) // 2)]
    return np.stack(np.unravel_index(best, changed.shape), axis=1).astype(np.int64)


def _with_products(rows: Features, pairs: Ints) -> Features:
    return np.concatenate([rows, rows[:, pairs[:, 0]] * rows[:, pairs[:, 1]]], axis=1)


def _shares(parts: Floats, pairs: Ints, width: int) -> Floats:
    """What each feature told; a product's part goes to both of its features."""
    parts = np.maximum(parts, 0)
    told = parts[:width].astype(np.float64)
    np.add.at(told, pairs.T.ravel(), np.tile(parts[width:] / 2, 2))
    return told


def _area(then: Floats, now: Floats) -> float:
    """How often a row of now is ranked above one of then; ties count half."""
    order = np.sort(then)
    below = np.searchsorted(order, now, side="left") + np.searchsorted(order, now, side="right")
    return float(below.mean() / (2 * len(order)))


def _unusual(apart: _Apart, crowd: Crowd, rows: int) -> float:
    """Chance of a healthy window with an AUC this high: a prediction t on its normal score, made careful.

    AUCs of days have a long upper tail: where few columns vary much from day to day, one odd day stands out. So the
    spread is at least what the highest of them implies, and the degrees of freedom are halved. In such worlds small
    p-values still come more often than they say (benchmarks/estimated.py, "rows together").
    """
    many = len(crowd.areas)
    scores = scipy.special.ndtri(np.clip(crowd.areas, 1e-6, 1 - 1e-6))
    own = scipy.special.ndtri(np.clip(apart.area, 1e-6, 1 - 1e-6))
    mean = float(scores.mean())
    highest = float(scores.max() - mean) / float(scipy.special.ndtri(many / (many + 1)))
    # Windows cannot differ by less than their rows allow: d probit / d AUC is sqrt(2 pi) at 0.5, and there are two
    # halves with this error each.
    least = float(np.sqrt(np.pi)) * apart.error
    spread = max(float(scores.std(ddof=1)), highest, least)
    freedom = (many - 1) / 2 if spread > 1.25 * least else many - 1  # days that differ no more than rows have no tail
    spread *= float(np.sqrt(max(1.0, crowd.size / max(1, rows))))
    return float(scipy.special.stdtr(freedom, -(own - mean) / (spread * np.sqrt(1 + 1 / many))))


def _blame(crowd: Crowd, told: Floats) -> tuple[tuple[str, float], ...]:
    if not isinstance(crowd.how, Encoder):
        return ((crowd.column, 1.0),)
    by_column = np.bincount(crowd.how.owners, weights=told, minlength=len(crowd.how.columns))
    total = float(by_column.sum())
    if total <= 0:
        return ()
    order = np.argsort(-by_column, kind="stable")
    return tuple((crowd.how.names[at], float(by_column[at] / total)) for at in order if by_column[at] > 0)


def _say(signal: Signal, crowd: Crowd, blame: Sequence[tuple[str, float]]) -> str:
    what = "rows" if crowd.column == "*" else f"the vectors of {crowd.column}"
    said = f"a classifier tells {what} from the usual ones with an AUC of {signal.value:.3f}"
    if len(crowd.areas):
        said += f" (healthy windows: {crowd.areas.mean():.3f})"
    if crowd.column == "*" and blame:
        said += ", most by " + ", ".join(f"{name} ({share:.0%})" for name, share in blame[:3])
    if len(crowd.areas) < FEWEST:
        said += f"; only {len(crowd.areas)} healthy windows, so how days differ is not counted"
    return said


def _thin(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    if rows.height <= most:
        return rows
    return rows[np.linspace(0, rows.height - 1, most).astype(np.int64)]


def _vectors(values: pl.Series) -> Floats:
    """Vectors as (rows, dimensions), NaN where a row has none or one of another length than most."""
    lists = values.cast(pl.List(pl.Float64))
    lengths = lists.list.len().fill_null(0)
    usual = lengths.filter(lengths > 0).mode().max()
    if not isinstance(usual, int):
        return np.full((len(values), 1), np.nan)
    fits = (lengths == usual).to_numpy()
    found = np.full((len(values), usual), np.nan)
    flat = lists.filter(pl.Series(fits)).explode(empty_as_null=False)
    found[fits] = flat.to_numpy().astype(np.float64).reshape(-1, usual)
    found[~np.isfinite(found).all(axis=1)] = np.nan
    return found


def _learn_arrows(vectors: Floats) -> Arrows:
    present = vectors[np.isfinite(vectors).all(axis=1)]
    if len(present) < 2:
        return Arrows(np.zeros(vectors.shape[1]), np.zeros((0, vectors.shape[1])), np.array([0.0, 1.0]))
    centre = present.mean(axis=0)
    away = present - centre
    size, axes = np.linalg.eigh(away.T @ away / len(away))
    keep = np.argsort(size)[::-1][:AXES]
    keep = keep[size[keep] > 1e-9 * max(float(size.max()), 1e-300)]
    scaled = axes[:, keep].T / np.sqrt(size[keep])[:, None]
    left = _left(away, Arrows(centre, scaled, np.array([0.0, 1.0])))
    return Arrows(centre, scaled, np.array([left.mean(), max(float(left.std()), 1e-3)]))


def _left(away: Floats, how: Arrows) -> Floats:
    """Log of the length of what the axes leave of a vector: the reconstruction error."""
    if not len(how.axes):
        return np.zeros(len(away))
    unit = how.axes / np.linalg.norm(how.axes, axis=1, keepdims=True)
    left = (away**2).sum(axis=1) - ((away @ unit.T) ** 2).sum(axis=1)
    scale: Floats = np.log(np.maximum(left, 1e-6 * np.maximum((away**2).sum(axis=1), 1e-300)))
    return scale


def _project(vectors: Floats, how: Arrows) -> Features:
    """Vectors as features: axes, their squares, the reconstruction error, and whether there is none."""
    if vectors.shape[1] != len(how.centre):
        vectors = np.full((len(vectors), len(how.centre)), np.nan)
    absent = np.isnan(vectors.sum(axis=1))
    away = np.where(absent[:, None], 0.0, vectors - how.centre)
    along = np.clip(away @ how.axes.T, -LARGEST, LARGEST)
    left = np.where(absent, 0.0, (_left(away, how) - how.left[0]) / how.left[1])
    squares = np.where(absent[:, None], 0.0, along**2 - 1)
    return np.concatenate([along, squares, left[:, None], absent[:, None]], axis=1).astype(np.float32)
