"""Windows close in event time, tile it, and keep rows of one moment together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from everfit.errors import UsageError
from everfit.observe.options import Observing
from everfit.observe.window import MOST_WINDOWS, Span, mature_at, next_windows, skip_silence, window_of

DAY0 = datetime(2013, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return DAY0 + timedelta(hours=hours)


def hours(spans: list[Span]) -> list[tuple[float, float]]:
    return [((s.start - DAY0) / timedelta(hours=1), (s.end - DAY0) / timedelta(hours=1)) for s in spans]


@pytest.mark.parametrize(
    ("options", "cursor", "watermark", "expected"),
    [
        pytest.param({}, 0, 23.9, [], id="a window that is under way is not closed"),
        pytest.param({}, 0, 24, [(0, 24)], id="a window closes at its end"),
        pytest.param({}, 0, 50, [(0, 24), (24, 48)], id="an outage is caught up window by window"),
        pytest.param({"late_by": "2h"}, 0, 25, [], id="late events hold a window open"),
        pytest.param({"late_by": "2h"}, 0, 26, [(0, 24)], id="until they are too late"),
        pytest.param({"window": "6h"}, 6, 13, [(6, 12)], id="hours lie on multiples"),
        pytest.param({"window": "6h"}, 7, 13, [(7, 12)], id="a cursor off the grid leaves no gap"),
    ],
)
def test_windows_of_a_duration(
    options: dict[str, Any], cursor: float, watermark: float, expected: list[tuple[float, float]]
) -> None:
    spans = next_windows(Observing(**options), cursor=at(cursor), watermark=at(watermark), times=None)
    assert hours(spans) == expected


def test_the_first_window_is_that_of_the_first_event() -> None:
    times = pl.Series([at(30), at(29)])
    assert hours(next_windows(Observing(), cursor=None, watermark=at(60), times=times)) == [(24, 48)]
    assert next_windows(Observing(), cursor=None, watermark=at(60), times=None) == []
    assert next_windows(Observing(), cursor=None, watermark=at(60), times=times.clear()) == []


@pytest.mark.parametrize(
    ("times", "cursor", "watermark", "expected"),
    [
        pytest.param([1, 2, 3], None, 9, [(1, 3)], id="a window ends with the first row after it"),
        pytest.param([1, 2], None, 9, [], id="without a later row the end is unknown"),
        pytest.param([1, 2, 2, 2, 5], None, 9, [(1, 5)], id="rows of one moment stay together"),
        pytest.param([2, 2, 2], None, 9, [], id="one moment alone never ends"),
        pytest.param([5, 1, 3, 2, 4], None, 9, [(1, 3), (3, 5)], id="order does not matter"),
        pytest.param([1, 2, 3, 4, 5], 3, 9, [(3, 5)], id="rows before the cursor are done"),
        pytest.param([4, 5, 6], 3, 9, [(3, 6)], id="a window begins where the last one ended"),
        pytest.param([1, 2, 3, 4, 5], None, 4, [(1, 3)], id="the watermark holds windows back"),
    ],
)
def test_windows_of_rows(
    times: list[float], cursor: float | None, watermark: float, expected: list[tuple[float, float]]
) -> None:
    spans = next_windows(
        Observing.model_validate({"window": {"rows": 2}}),
        cursor=None if cursor is None else at(cursor),
        watermark=at(watermark),
        times=pl.Series([at(t) for t in times]),
    )
    assert hours(spans) == expected


def test_a_long_silence_is_skipped_and_never_given_at_once() -> None:
    options = Observing.model_validate({"window": "1m"})
    assert len(next_windows(options, cursor=DAY0, watermark=at(100), times=None)) == MOST_WINDOWS
    assert skip_silence(DAY0, at(100.5), options) == at(100.5)
    assert skip_silence(at(101), at(100.5), options) == at(101)
    assert skip_silence(DAY0, at(9), Observing.model_validate({"window": {"rows": 5}})) == DAY0


def test_row_windows_have_no_place_and_need_times() -> None:
    options = Observing.model_validate({"window": {"rows": 5}})
    with pytest.raises(UsageError, match="no fixed place"):
        window_of(DAY0, options)
    with pytest.raises(UsageError, match="need the event times"):
        next_windows(options, cursor=None, watermark=DAY0, times=None)


def test_a_window_matures_after_its_labels() -> None:
    options = Observing.model_validate({"labels_mature_after": "6h"})
    assert mature_at(Span(at(0), at(24)), options) == at(30)
