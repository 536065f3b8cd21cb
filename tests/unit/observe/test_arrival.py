"""How labels arrive, with those that are still to come counted in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from everfit.observe.labels import arrival, delays

START = datetime(2013, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SCHEMA = {"_time": pl.Datetime("us", "UTC"), "_labelled_at": pl.Datetime("us", "UTC")}


def joined(seed: int, *, rows: int = 500, days: int = 10, mean: float = 3.0, never: float = 0.0) -> pl.DataFrame:
    """Predictions over some days; their labels come after an exponential delay in days, or never."""
    chance = np.random.default_rng(seed)
    sent = np.sort(chance.random(rows)) * days
    took = chance.exponential(mean, rows)
    lost = chance.random(rows) < never
    arrived = [None if gone else START + (at + wait) * DAY for at, wait, gone in zip(sent, took, lost, strict=True)]
    return pl.DataFrame({"_time": [START + at * DAY for at in sent], "_labelled_at": arrived}, schema=SCHEMA)


def as_known(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    return rows.with_columns(_labelled_at=pl.when(pl.col("_labelled_at") <= now).then("_labelled_at"))


def test_labels_that_are_still_to_come_are_counted() -> None:
    now = START + 10 * DAY
    rows = as_known(joined(1, rows=4000), now)
    found, naive = arrival(rows, now), delays(rows)
    assert naive is not None
    assert found.median is not None
    truth = 3 * np.log(2)
    assert found.median / DAY == pytest.approx(truth, rel=0.1)
    assert naive.median / DAY < 0.85 * truth, "the delays of labels that came look too short"
    assert found.p90 is not None
    assert found.p90 / DAY == pytest.approx(3 * np.log(10), rel=0.15)


def test_bands_cover_what_they_say() -> None:
    now, covered, shares, truth = START + 8 * DAY, 0, [], 0.9 * (1 - np.exp(-2 / 3))
    for seed in range(200):
        reach = arrival(as_known(joined(seed, rows=300, days=8, never=0.1), now), now).share_by(2 * DAY)
        covered += reach.low <= truth <= reach.high
        shares.append(reach.value)
    assert 0.90 <= covered / 200 <= 0.99
    assert np.mean(shares) == pytest.approx(truth, abs=0.01)


def test_labels_that_never_come_are_a_share_of_their_own() -> None:
    now = START + 40 * DAY
    found = arrival(joined(3, rows=2000, mean=1.0, never=0.25), now)
    assert found.missing.low < 0.25 < found.missing.high
    assert found.missing.value == pytest.approx(0.25, abs=0.03)
    assert found.median is not None
    assert found.median < 2 * DAY
    assert found.p90 is None
    assert "had not come after 39d 23h" in found.said


def test_the_sentence_tells_of_the_delays_that_are_asked_for() -> None:
    found = arrival(joined(4, rows=1000), START + 60 * DAY, shares=[DAY, 3 * DAY])
    assert found.said.startswith("after 1d ")
    assert "; after 3d " in found.said
    assert "% of the labels are there (" in found.said


def test_without_labels_nothing_is_claimed() -> None:
    for rows in (joined(5, rows=0), joined(5, rows=40, never=1.0)):
        found = arrival(rows, START + 20 * DAY)
        assert (found.median, found.p90, found.labelled) == (None, None, 0)
        assert found.missing.value == 1.0
        assert found.share_by(DAY).value == 0
        assert "no label of " in found.said


def test_what_lies_ahead_of_the_moment_is_not_known() -> None:
    rows = joined(6, rows=500)
    early = START + 4 * DAY
    assert arrival(rows, early) == arrival(as_known(rows.filter(pl.col("_time") <= early), early), early)


def test_labels_from_before_their_event_came_at_once() -> None:
    rows = pl.DataFrame({"_time": [START] * 50, "_labelled_at": [START - DAY] * 50}, schema=SCHEMA)
    found = arrival(rows, START + DAY)
    assert found.median == timedelta(0)
    assert found.share_by(timedelta(0)).value == 1.0
    assert 0.9 < found.share_by(timedelta(0)).low < 1.0


def test_shares_never_fall_with_the_delay() -> None:
    now = START + 9 * DAY
    found = arrival(as_known(joined(7, never=0.2), now), now)
    reaches = [found.share_by(timedelta(hours=hours)) for hours in range(0, 400, 3)]
    for before, after in pairwise(reaches):
        assert before.value <= after.value
    assert all(0 <= reach.low <= reach.value <= reach.high <= 1 for reach in reaches)
