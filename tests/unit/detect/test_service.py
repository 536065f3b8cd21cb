"""Latency and failures of a window."""

from __future__ import annotations

import numpy as np
import pytest

from everfit.detect.service import read_failures, read_latency
from everfit.detect.signal import NotEnough, Signal


def test_the_interval_of_a_quantile_holds_it_in_about_95_of_100_windows() -> None:
    chance, truth = np.random.default_rng(7), {"p50": np.log(2), "p90": np.log(10)}
    held = dict.fromkeys(truth, 0)
    for _ in range(400):
        for reading in read_latency(chance.exponential(size=500), needed=200):
            if isinstance(reading, Signal) and reading.low is not None and reading.high is not None:
                name = reading.name.removeprefix("serve.latency_")
                held[name] += reading.low <= truth[name] <= reading.high
    assert all(370 <= count <= 395 for count in held.values()), held


def test_a_high_quantile_needs_rows_beyond_it() -> None:
    readings = {reading.name: reading for reading in read_latency(np.arange(300.0), needed=200)}
    assert isinstance(readings["serve.latency_p90"], Signal)
    assert isinstance(readings["serve.latency_p99"], NotEnough)
    assert "1000 needed" in readings["serve.latency_p99"].said


def test_rows_that_were_scored_elsewhere_say_nothing_of_latency() -> None:
    assert read_latency(np.full(500, np.nan), needed=200) == ()


@pytest.mark.parametrize(
    "failed, answered, share, low, high",
    [
        pytest.param(0, 1000, 0.0, 0.0, 0.0039, id="none failed, and the interval still says that some might"),
        pytest.param(50, 950, 0.05, 0.038, 0.066, id="one in twenty failed"),
        pytest.param(1000, 0, 1.0, 0.996, 1.0, id="all failed"),
    ],
)
def test_failures(failed: int, answered: int, share: float, low: float, high: float) -> None:
    (reading,) = read_failures(failed, answered, needed=200)
    assert isinstance(reading, Signal)
    assert reading.value == share
    assert (reading.low, reading.high) == pytest.approx((low, high), abs=1e-3)


def test_few_rows_are_not_a_share_of_zero() -> None:
    (reading,) = read_failures(0, 41, needed=200)
    assert isinstance(reading, NotEnough)
    assert read_failures(0, 0, needed=200) == ()
