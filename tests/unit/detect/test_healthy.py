"""What is usual between healthy windows, and that a fault is a jump over it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from everfit.detect.battery import Arrivals, raise_alarms, read_drift, read_quality
from everfit.detect.healthy import FEWEST, healthy_windows, tempered, unusual
from everfit.detect.options import FalseAlarms, Watching
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile.table import Profile, learn_bins, portray

SCHEMA = Schema((Column("warmth", Kind.NUMBER), Column("gust", Kind.NUMBER)), ())
DAY = timedelta(days=1)
WATCH = Watching(effect=0.0)


def day(rng: np.random.Generator, *, spread: float, nulls: float = 0.0, shift: float = 0.0) -> pl.DataFrame:
    """A day of 800 rows whose weather is its own."""
    warmth = rng.normal(rng.normal(0, spread) + shift, 1, 800)
    gust = np.where(rng.random(800) < nulls, np.nan, rng.normal(0, 1, 800))
    return pl.DataFrame({"warmth": warmth, "gust": gust}).fill_nan(None)


def behind(rng: np.random.Generator, days: Sequence[pl.DataFrame]) -> tuple[Profile, list[Profile]]:
    bins = learn_bins(pl.concat(days), SCHEMA)
    return portray(pl.concat(days[-7:]), bins), [portray(each, bins) for each in days]


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_days_that_differ_as_they_always_did_are_no_alarm(spread: float) -> None:
    """Without what is usual nearly every day alarms; with it about as many as were allowed."""
    rng = np.random.default_rng(7)
    reference, windows = behind(rng, [day(rng, spread=spread) for _ in range(30)])
    usual = healthy_windows(windows, reference)
    naive, counted = 0, 0
    for _ in range(60):
        drift = read_drift(portray(day(rng, spread=spread), reference.bins), reference, WATCH)
        naive += bool(raise_alarms(drift, WATCH, window=DAY))
        counted += bool(raise_alarms(tempered(drift, usual), WATCH, window=DAY))
    assert naive >= 30
    assert counted <= 2


def test_a_shift_that_no_healthy_day_had_is_an_alarm() -> None:
    rng = np.random.default_rng(8)
    reference, windows = behind(rng, [day(rng, spread=0.1) for _ in range(30)])
    drift = read_drift(portray(day(rng, spread=0.1, shift=2.0), reference.bins), reference, WATCH)
    alarms = raise_alarms(tempered(drift, healthy_windows(windows, reference)), WATCH, window=DAY)
    assert [alarm.signal.column for alarm in alarms] == ["warmth"]


def test_too_few_windows_say_nothing_of_what_is_usual() -> None:
    rng = np.random.default_rng(9)
    reference, windows = behind(rng, [day(rng, spread=0.1) for _ in range(FEWEST - 1)])
    assert healthy_windows(windows, reference) == {}


def test_a_larger_psi_is_never_more_usual() -> None:
    rng = np.random.default_rng(10)
    reference, windows = behind(rng, [day(rng, spread=0.5) for _ in range(10)])
    usual = healthy_windows(windows, reference)["warmth"]
    chances = [unusual(psi, usual) for psi in (0.0, 0.01, 0.1, 1.0, 10.0)]
    assert chances == sorted(chances, reverse=True)


@pytest.mark.parametrize(
    "usual, broken",
    [
        pytest.param({}, True, id="a jump to null is a fault"),
        pytest.param({("quality.nulls", "gust"): 0.95}, False, id="a calm day is none where calm days are usual"),
    ],
)
def test_a_null_spike_is_held_against_what_is_usual(usual: dict[tuple[str, str], float], broken: bool) -> None:
    rng = np.random.default_rng(11)
    reference, _ = behind(rng, [day(rng, spread=0.1, nulls=0.3) for _ in range(7)])
    now = portray(day(rng, spread=0.1, nulls=0.98), reference.bins)
    watch = Watching(false_alarms=FalseAlarms(at_most=1, per=DAY * 365))
    alarms = raise_alarms(read_quality(now, reference, Arrivals(), watch, usual), watch, window=DAY)
    assert ["gust" in alarm.said for alarm in alarms] == [True] * broken
