"""Rows as numbers, and how much each reference row counts so that the reference looks like the current window.

Takes frames and a schema; gives codes, features and importance weights; never sees a label, and never draws.

A column becomes one small code per row and a table that turns codes into features: numbers by the rank bin they fall
into (so nothing changes under a monotone transform), categories by their level. Density ratios come from a ridge
logistic regression that tells current rows from reference rows: p(current | x) / p(reference | x), corrected for the
two sizes, is the ratio (Qin 1998; Sugiyama, Suzuki and Kanamori, Density Ratio Estimation in Machine Learning, 2012).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from everfit.detect.outcomes import Floats
from everfit.detect.packed import Arrays, pack, unpack
from everfit.observe.options import Kind
from everfit.observe.schema import Schema

Codes = NDArray[np.uint8]  # (rows, columns): 0 where the value is absent

BINS = 64  # rank bins of a number: their normal scores carry 99.8 % of a normal's variance, and a code fits a byte
MOST_LEVELS = 20  # levels of a category with a feature of their own
RAREST = 0.005  # share below which a level is not worth a feature: 25 of 5,000 rows
FEW_LEVELS = 200  # with more levels than this a new one is no news: ids and free codes
SMALLEST_SD = 0.1  # an indicator is not scaled up further, or one rare row would carry a fit
MOST_ROWS = 5000  # a side in a fit: beyond, the ratio's error is that of its form
RIDGE = 4.0  # on standardised features: a prior of sd 1/2 on each coefficient
CLIP = 20.0  # no row counts for more than this many: a bias that is small beside the variance it saves
MOST_BEYOND = 0.2  # share of rows beyond the reference in one column: nothing is known of a fifth of the window
ENOUGH = 100  # rows that must be left after weighting; below, the estimate rests on a handful


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """How one column becomes features."""

    name: str
    how: str  # "rank": by bins of the reference's ranks; "length": the same on the length of text; "level": by level
    edges: Floats  # first value of every rank bin, and the first value above the highest
    levels: tuple[str, ...]  # levels with a code of their own, the most frequent first
    closed: bool  # whether a level that the reference did not have is news
    table: Floats  # (codes, features): what a code stands for, mean 0 and variance 1 in the reference


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """How rows become codes and codes become features, learned once on the reference rows."""

    columns: tuple[Feature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns in the order of the codes."""
        return tuple(column.name for column in self.columns)

    @property
    def owners(self) -> NDArray[np.int64]:
        """Which column each feature belongs to, (features,)."""
        return np.repeat(np.arange(len(self.columns)), [c.table.shape[1] for c in self.columns])

    def to_facts(self) -> tuple[list[dict[str, object]], Arrays]:
        """What is to be kept, as facts and arrays."""
        facts: list[dict[str, object]] = [
            {"name": c.name, "how": c.how, "levels": list(c.levels), "closed": c.closed} for c in self.columns
        ]
        edges = {f"edges{at}": c.edges for at, c in enumerate(self.columns)}
        return facts, edges | {f"table{at}": c.table for at, c in enumerate(self.columns)}

    @classmethod
    def from_facts(cls, facts: list[dict[str, object]], arrays: Arrays) -> Encoder:
        """Read what `to_facts` gave."""
        return cls(
            tuple(
                Feature(
                    str(told["name"]),
                    str(told["how"]),
                    arrays[f"edges{at}"],
                    tuple(told["levels"]),  # type: ignore[arg-type]  # JSON: a list of text
                    bool(told["closed"]),
                    arrays[f"table{at}"],
                )
                for at, told in enumerate(facts)
            )
        )

    def to_bytes(self) -> bytes:
        """Write it compactly."""
        facts, arrays = self.to_facts()
        return pack({"columns": facts}, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Encoder:
        """Read what `to_bytes` wrote.

        Raises:
            Refused: these bytes are damaged.
        """
        facts, arrays = unpack(data)
        return cls.from_facts(facts["columns"], arrays)


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """How much each reference row counts."""

    values: Floats  # one a reference row, mean 1
    effective: float  # how many unweighted rows say as much (Kish 1965): (sum w)^2 / sum w^2, before clipping
    beyond: float = 0.0  # share of current rows whose value in `column` no reference row comes near
    column: str = ""  # the column in which most current rows lie beyond the reference

    @property
    def enough(self) -> bool:
        """Whether the reference has the rows that the current window is made of."""
        return self.effective >= min(ENOUGH, len(self.values) / 2) and self.beyond <= MOST_BEYOND

    @property
    def said(self) -> str:
        """What the weights mean, in a sentence."""
        if self.beyond > MOST_BEYOND:
            return f"too little overlap: {self.beyond:.0%} of the rows have a {self.column} that no reference row has"
        left = f"{self.effective:.0f} of {len(self.values)} reference rows count"
        return left if self.enough else f"too little overlap: {left}, {ENOUGH} needed"


def learn_encoder(rows: pl.DataFrame, schema: Schema) -> Encoder:
    """Learn from reference rows how each column becomes features.

    Moments are left out: every later window lies outside the reference's time, which says nothing. Vectors are left
    out too: `together.learn_crowd` takes them one by one. A column that the frame does not have counts as absent.

    >>> from everfit.observe.schema import Column
    >>> schema = Schema((Column("price", Kind.NUMBER), Column("shop", Kind.CATEGORY)), ())
    >>> rows = pl.DataFrame({"price": [1.0, 2.0, 3.0, None], "shop": ["a", "a", "b", None]})
    >>> codes = encode(rows, learn_encoder(rows, schema))
    >>> codes.tolist()
    [[2, 1], [3, 1], [4, 2], [0, 0]]
    """
    learned = []
    for column in schema.features:
        if column.kind in (Kind.NUMBER, Kind.TEXT):
            learned.append(_learn_ranks(column.name, rows, text=column.kind is Kind.TEXT))
        elif column.kind in (Kind.CATEGORY, Kind.FLAG):
            learned.append(_learn_levels(column.name, rows))
    return Encoder(tuple(learned))


def encode(rows: pl.DataFrame, encoder: Encoder) -> Codes:
    """Rows as codes, (rows, columns)."""
    codes = np.zeros((rows.height, len(encoder.columns)), dtype=np.uint8)
    for at, column in enumerate(encoder.columns):
        if column.name not in rows.columns:
            continue
        if column.how == "level":
            codes[:, at] = _level_codes(rows[column.name].cast(pl.String), column)
        else:
            values = _numbers(rows[column.name], text=column.how == "length")
            places = np.searchsorted(column.edges, values, side="right") + 1
            codes[:, at] = np.where(np.isnan(values), 0, places)
    return codes


def features_of(codes: Codes, encoder: Encoder) -> NDArray[np.float32]:
    """Codes as features, (rows, features), standardised on the reference."""
    if not encoder.columns:
        return np.zeros((len(codes), 0), dtype=np.float32)
    tables = [column.table.astype(np.float32) for column in encoder.columns]
    return np.concatenate([table[codes[:, at]] for at, table in enumerate(tables)], axis=1)


def encode_columns(rows: pl.DataFrame, encoder: Encoder) -> NDArray[np.float32]:
    """Rows as features, (rows, features): the same rows give the same numbers, whatever stands beside them."""
    return features_of(encode(rows, encoder), encoder)


def density_ratio(reference: NDArray[np.float32], current: NDArray[np.float32]) -> Weights:
    """Weights of reference rows (features) under which they look like the current rows, (reference rows,).

    Both sides are thinned evenly to `MOST_ROWS` for the fit; every reference row gets its weight. Weights are clipped
    at `CLIP` times their mean. The same rows on both sides give weights of 1.

    >>> then = np.linspace(-2, 2, 400, dtype=np.float32)[:, None]
    >>> up, same = density_ratio(then, then + 1), density_ratio(then, then)
    >>> bool(up.values[-1] > 1 > up.values[0]), round(same.effective)
    (True, 400)
    """
    if not len(reference) or not len(current) or not reference.shape[1]:
        return Weights(np.ones(len(reference)), float(len(reference)))
    odds = _log_odds(_thin(reference), _thin(current), reference)
    return weigh(np.exp(np.clip(odds - odds.max(), -50, 0)))


def row_weights(reference: Codes, current: Codes, encoder: Encoder) -> Weights:
    """Weights of reference rows by all columns, with how far the current rows lie beyond the reference."""
    found = density_ratio(features_of(reference, encoder), features_of(current, encoder))
    if not len(current) or not encoder.columns:
        return found
    shares = [
        float((np.bincount(then, minlength=256)[now] == 0).mean())
        for then, now in zip(reference.T, current.T, strict=True)
    ]
    worst = int(np.argmax(shares))
    return replace(found, beyond=shares[worst], column=encoder.names[worst])


def weigh(raw: Floats) -> Weights:
    """Clip raw ratios and bring them to mean 1, with how many rows they leave.

    >>> weigh(np.array([1.0, 1.0, 4.0])).values.round(2).tolist()
    [0.5, 0.5, 2.0]
    """
    if not len(raw):
        return Weights(raw, 0.0)
    values, effective = raw / raw.mean(), float(raw.sum() ** 2 / (raw**2).sum())
    for _ in range(5):  # clipping lowers the mean; a few rounds settle it
        values = np.minimum(values, CLIP)
        values = values / values.mean()
    return Weights(values, effective)


def column_ratio(reference: Codes, current: Codes, at: int) -> Weights:
    """Weights of reference rows by one column alone: the ratio of the shares of its codes.

    Shares are drawn towards the reference's by as much as a hundred rows say, so that an empty code of a small window
    is not the end of its rows.
    """
    then = np.bincount(reference[:, at], minlength=256).astype(np.float64)
    now = np.bincount(current[:, at], minlength=256).astype(np.float64)
    share = then / max(1.0, then.sum())
    ratio = (now + 100 * share) / (now.sum() + 100) / np.where(share > 0, share, 1)
    return weigh(ratio[reference[:, at]])


def _thin(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(rows) <= MOST_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)]


def _log_odds(then: NDArray[np.float32], now: NDArray[np.float32], at: NDArray[np.float32]) -> Floats:
    """Log of the density ratio at some rows: Newton's steps of a ridge logistic regression, the sides equally heavy."""
    x = np.concatenate([then, now])
    x = np.concatenate([x, np.ones((len(x), 1), dtype=np.float32)], axis=1)
    is_now = np.arange(len(x)) >= len(then)
    # Each side weighs as many rows as the smaller one has, so that the ridge shrinks as a small window deserves.
    heavy = min(len(then), len(now))
    weight = np.where(is_now, heavy / len(now), heavy / len(then)).astype(np.float32)
    penalty = np.full(x.shape[1], RIDGE)
    penalty[-1] = 1e-6  # the intercept is free
    beta = np.zeros(x.shape[1])
    for _ in range(8):
        eta = x @ beta.astype(np.float32)
        chance = scipy.special.expit(eta)
        slope = (x.T @ (weight * (is_now - chance))).astype(np.float64) - penalty * beta
        curve = (x.T @ (x * (weight * np.maximum(chance * (1 - chance), 1e-3))[:, None])).astype(np.float64)
        step = np.linalg.solve(curve + np.diag(penalty), slope)
        beta += step * min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-3:
            break
    odds: Floats = at.astype(np.float64) @ beta[:-1] + beta[-1]
    return odds


def _numbers(values: pl.Series, *, text: bool) -> Floats:
    if text:
        values = values.cast(pl.String).str.len_chars()
    numbers = values.cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
    return np.where(np.isinf(numbers), np.nan, numbers)


def _learn_ranks(name: str, rows: pl.DataFrame, *, text: bool) -> Feature:
    values = _numbers(rows[name], text=text) if name in rows.columns else np.zeros(0)
    present = np.sort(values[~np.isnan(values)])
    edges = np.zeros(0)
    if len(present):
        # Order statistics, not interpolated: the same rows fall into the same bins after any monotone transform.
        cuts = present[(np.arange(1, BINS) * len(present)) // BINS]
        tied = cuts[1:][cuts[1:] == cuts[:-1]]  # a value of many rows has a bin of its own
        starts = np.concatenate([np.searchsorted(present, cuts), np.searchsorted(present, tied, side="right")])
        inner = present[starts[(starts > 0) & (starts < len(present))]]
        edges = np.unique(np.concatenate([present[:1], inner, [np.nextafter(present[-1], np.inf)]]))
    counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    table = _ranks_table(counts[1:-1].astype(np.float64), len(values) - len(present))
    # What lies beyond the reference's range has codes of its own, to be counted, and the features of the last bin.
    table = table[[0, min(1, len(table) - 1), *range(1, len(table)), len(table) - 1]]
    return Feature(name, "length" if text else "rank", edges, (), False, table)


def _ranks_table(counts: Floats, absent: int) -> Floats:
    """Normal score of each bin, its square made orthogonal to it, and whether the value is absent."""
    table = np.zeros((len(counts) + 1, 3))
    if counts.sum() > 0:
        share = counts / counts.sum()
        upto = np.clip(np.concatenate([[0.0], np.cumsum(share)]), 0, 1)
        height = np.exp(-(scipy.special.ndtri(upto) ** 2) / 2) / np.sqrt(2 * np.pi)
        score = np.where(share > 0, (height[:-1] - height[1:]) / np.where(share > 0, share, 1), 0)
        first = _standard(score, share)
        square = first**2
        table[1:, 0] = first
        table[1:, 1] = _standard(square - (share @ (square * first)) * first, share)
    rows = counts.sum() + absent
    table[:, 2] = _indicator(np.concatenate([[float(absent)], counts]) / max(1.0, rows), 0)
    return table


def _standard(values: Floats, share: Floats) -> Floats:
    centred: Floats = values - share @ values
    spread = float(np.sqrt(share @ centred**2))
    return centred / spread if spread > 1e-9 else np.zeros_like(centred)


def _indicator(share: Floats, code: int) -> Floats:
    """Whether the code is this one, centred and scaled over all codes."""
    of_it = float(share[code])
    hit = np.zeros(len(share))
    hit[code] = 1.0
    column: Floats = (hit - of_it) / max(SMALLEST_SD, float(np.sqrt(of_it * (1 - of_it))))
    return column


def _learn_levels(name: str, rows: pl.DataFrame) -> Feature:
    values = rows[name].cast(pl.String) if name in rows.columns else pl.Series(name, [None] * rows.height, pl.String)
    seen = values.drop_nulls().value_counts().sort("count", name, descending=[True, False])
    closed = seen.height <= FEW_LEVELS
    levels = seen.filter(pl.col("count") >= RAREST * max(1, len(values)))[name].head(MOST_LEVELS).to_list()
    # A level that is all too rare for a feature still has a code where codes are few, so that a new one is told apart.
    known = seen[name].to_list() if closed else levels
    feature = Feature(name, "level", np.zeros(0), tuple(known), closed, np.zeros((0, 0)))
    share = np.bincount(_level_codes(values, feature), minlength=len(known) + 2) / max(1, len(values))
    table = np.stack([_indicator(share, code) for code in (0, *range(1, len(levels) + 1), len(known) + 1)], axis=1)
    return Feature(name, "level", feature.edges, feature.levels, closed, table)


def _level_codes(values: pl.Series, column: Feature) -> NDArray[np.uint8]:
    """0 absent, then the known levels, then one for all others."""
    other = len(column.levels) + 1
    known = dict(zip(column.levels, range(1, other), strict=True))
    places = values.replace_strict(known, default=other, return_dtype=pl.UInt8) if known else values.is_not_null()
    return np.where(values.is_null().to_numpy(), 0, places.cast(pl.UInt8).to_numpy()).astype(np.uint8)
