"""Labels meet their predictions.

Takes predictions and labels; gives one row a prediction with its label, or null while (or because) none
came; never counts a label that did not come as a negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from everfit.units import duration_text

SURE = 0.95  # of the bands around a share
FINEST = 500  # steps of the curve that are kept: a share is read off to 0.002


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many predictions have their label."""

    rows: int
    labelled: int
    share: float | None  # None: there are no rows


@dataclass(frozen=True, slots=True)
class Delays:
    """How long labels took, among those that came."""

    rows: int
    median: timedelta
    p90: timedelta
    p99: timedelta
    longest: timedelta


def join(predictions: pl.DataFrame, labels: pl.DataFrame, *, as_of: datetime | None) -> pl.DataFrame:
    """One row a prediction, in its place, with `_label`, `_value`, `_labelled_at`; null where no label came.

    The first arrival of an id counts, of predictions and of labels; `as_of` hides labels that arrived later.

    >>> from datetime import UTC
    >>> noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    >>> sent = pl.DataFrame({"_id": ["a", "b"], "_arrived": [noon, noon]})
    >>> came = pl.DataFrame({"_id": ["a"], "_label": ["1"], "_value": [None], "_arrived": [noon]})
    >>> join(sent, came, as_of=None)["_label"].to_list()
    ['1', None]
    """
    arrived = labels if as_of is None else labels.filter(pl.col("_arrived") <= as_of)
    # Arrivals of one moment are told apart by what they say, so that the order of rows never matters.
    first = _first_of_each(arrived, ["_arrived", "_label", "_value"])
    known = first.select("_id", "_label", pl.col("_value").cast(pl.Float64), _labelled_at="_arrived")
    return _first_of_each(predictions, ["_arrived"]).join(known, on="_id", how="left", maintain_order="left")


def coverage(joined: pl.DataFrame) -> Coverage:
    """How many rows have their label.

    >>> coverage(pl.DataFrame({"_label": ["1", None], "_value": [None, None]}))
    Coverage(rows=2, labelled=1, share=0.5)
    """
    labelled = joined.filter(is_labelled()).height
    return Coverage(joined.height, labelled, labelled / joined.height if joined.height else None)


def is_labelled() -> pl.Expr:
    """Whether a joined row has its label.

    >>> pl.DataFrame({"_label": [None, None], "_value": [2.0, None]}).filter(is_labelled()).height
    1
    """
    return pl.col("_label").is_not_null() | pl.col("_value").is_not_null()


def delays(joined: pl.DataFrame) -> Delays | None:
    """How long labels took after their event; None when no label has come.

    >>> noon = datetime(2013, 1, 1, 12)
    >>> delays(pl.DataFrame({"_time": [noon], "_labelled_at": [noon + timedelta(hours=1)]})).median
    datetime.timedelta(seconds=3600)
    """
    took = joined.select(took=(pl.col("_labelled_at") - pl.col("_time")).dt.total_microseconds())["took"].drop_nulls()
    if took.is_empty():
        return None
    middle, p90, p99, longest = (_span(took.quantile(q, "lower")) for q in (0.5, 0.9, 0.99, 1.0))
    return Delays(len(took), middle, p90, p99, longest)


@dataclass(frozen=True, slots=True)
class Reach:
    """A share of labels, with how sure it is."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """How labels arrive after their event, counting those that are still to come."""

    rows: int  # predictions
    labelled: int  # labels that have come
    median: timedelta | None  # by when half of the labels are there; None: not within what was seen
    p90: timedelta | None
    seen: timedelta  # the oldest prediction without a label, or the longest delay: nothing is known of what lies beyond
    missing: Reach  # share of predictions whose label had not come by then; nobody can tell "late" from "never"
    said: str  # in words
    delays: tuple[float, ...] = ()  # steps of the curve, in seconds
    shares: tuple[float, ...] = ()  # share of labels that came within that delay
    errors: tuple[float, ...] = ()  # standard error of each share's log(-log(1 - share))

    def share_by(self, delay: timedelta) -> Reach:
        """The share of predictions whose label comes within a delay."""
        place = int(np.searchsorted(self.delays, delay.total_seconds(), side="right")) - 1
        if place < 0:
            return Reach(0.0, 0.0, 1.0 if not self.rows else min(1.0, 3 / self.rows))  # the rule of three
        return _band(self.shares[place], self.errors[place], self.rows)


def arrival(joined: pl.DataFrame, now: datetime, *, shares: Sequence[timedelta] = ()) -> Arrival:
    """Estimate how labels arrive from predictions with and without their label, at a moment.

    A prediction without a label says that its label takes longer than its age (right-censored), so the estimate is that
    of Kaplan and Meier 1958 with Greenwood's variance, and bands on the log(-log) scale. The delays of labels that came
    alone (`delays`) look too short, for the slow ones of recent days are missing among them. Labels that came before
    their event count as at once.

    Args:
        joined: One row a prediction: `_time`, and `_labelled_at`, null where no label came.
        now: The moment as of which the labels are known.
        shares: Delays that the sentence should tell of.

    >>> from datetime import UTC
    >>> noon = datetime(2013, 1, 2, 12, tzinfo=UTC)
    >>> hours = [timedelta(hours=n) for n in (1, 2, 3)]
    >>> sent = pl.DataFrame({"_time": [noon] * 4, "_labelled_at": [noon + hour for hour in hours] + [None]})
    >>> known = arrival(sent, noon + timedelta(days=1))
    >>> known.median, known.share_by(timedelta(hours=2)).value, known.missing.value
    (datetime.timedelta(seconds=7200), 0.5, 0.25)
    """
    known = joined.select("_time", _labelled_at=pl.col("_labelled_at").cast(joined.schema["_time"]))
    waited = known.filter(pl.col("_time") <= now).select(
        came=pl.col("_labelled_at").is_not_null() & (pl.col("_labelled_at") <= now),
        took=(pl.min_horizontal("_labelled_at", pl.lit(now)) - pl.col("_time")).dt.total_microseconds() / 1e6,
    )
    came, took = waited["came"].to_numpy(), np.maximum(waited["took"].to_numpy().astype(np.float64), 0)
    if not len(took) or not came.any():
        oldest = timedelta(seconds=float(took.max())) if len(took) else timedelta(0)
        said = f"no label of {len(took):,} predictions has come; the oldest waits for {_words(oldest)}"
        return Arrival(len(took), 0, None, None, oldest, Reach(1.0, 0.0, 1.0), said)
    delays, left, error = _kaplan_meier(took, came)
    there = 1 - left
    median, p90 = (_when(delays, there, share) for share in (0.5, 0.9))
    missing = _band(float(there[-1]), float(error[-1]), len(took))
    keep = np.unique(np.linspace(0, len(delays) - 1, min(FINEST, len(delays))).astype(np.int64))
    found = Arrival(
        len(took), int(came.sum()), median, p90, timedelta(seconds=float(took.max())),
        Reach(1 - missing.value, 1 - missing.high, 1 - missing.low), "",
        tuple(delays[keep].tolist()), tuple(there[keep].tolist()), tuple(error[keep].tolist()),
    )  # fmt: skip
    return _told(found, shares)


def _kaplan_meier(
    took: NDArray[np.float64], came: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Distinct delays, the share that takes longer than each, and the error of its log(-log)."""
    delays, place = np.unique(took, return_inverse=True)
    arrived = np.bincount(place.reshape(-1), weights=came, minlength=len(delays))
    at_risk = len(took) - np.concatenate([[0], np.cumsum(np.bincount(place.reshape(-1), minlength=len(delays)))[:-1]])
    left = np.cumprod(1 - arrived / at_risk)
    greenwood = np.cumsum(arrived / np.maximum(at_risk * (at_risk - arrived), 1e-300) * (arrived < at_risk))
    inside = (left > 0) & (left < 1)
    error = np.where(inside, np.sqrt(greenwood) / np.abs(np.log(np.where(inside, left, 0.5))), 0.0)
    steps = arrived > 0
    return delays[steps], left[steps], error[steps]


def _band(share: float, error: float, rows: int) -> Reach:
    """A share with its band; at 0 or 1, where there is no error to tell of, the rule of three."""
    if share >= 1 or share <= 0:
        return Reach(share, max(0.0, share - 3 / rows), min(1.0, share + 3 / rows))
    wide = float(scipy.special.ndtri(0.5 + SURE / 2)) * error
    left = 1 - share
    return Reach(share, 1 - left ** np.exp(-wide), 1 - left ** np.exp(wide))


def _when(delays: NDArray[np.float64], there: NDArray[np.float64], share: float) -> timedelta | None:
    place = int(np.searchsorted(there, share - 1e-12))
    return timedelta(seconds=float(delays[place])) if place < len(delays) else None


def _told(found: Arrival, shares: Sequence[timedelta]) -> Arrival:
    """The same with its sentence."""
    parts = []
    for delay in shares or [each for each in (found.median, found.p90) if each is not None]:
        reach = found.share_by(delay)
        parts.append(
            f"after {_words(delay)} {reach.value:.0%} of the labels are there ({reach.low:.0%} to {reach.high:.0%})"
        )
    never = found.missing
    parts.append(f"{never.value:.0%} ({never.low:.0%} to {never.high:.0%}) had not come after {_words(found.seen)}")
    return replace(found, said="; ".join(parts))


def _words(delay: timedelta) -> str:
    """A delay in its two largest units."""
    return " ".join(duration_text(timedelta(seconds=round(delay.total_seconds()))).split()[:2])


def _span(microseconds: float | None) -> timedelta:
    return timedelta(microseconds=microseconds or 0)


def _first_of_each(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """The first row of each id; rows keep their place."""
    if rows["_id"].is_unique().all():
        return rows
    placed = rows.with_row_index("_place")
    chosen = placed.sort([*by, "_place"], nulls_last=True).unique("_id", keep="first", maintain_order=True)
    return chosen.sort("_place").drop("_place")
