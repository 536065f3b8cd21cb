"""History cut into windows: times of every kind, ties, gaps and empty windows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from everfit.errors import Refused, UsageError
from everfit.replay.cutting import begins_of, cut_by_rows, cut_by_time, delay_in_windows, in_order, window_length

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def days(many: int, each: int = 1) -> pl.DataFrame:
    return pl.DataFrame({"at": [NOON + DAY * (place // each) for place in range(many * each)], "x": range(many * each)})


def test_rows_are_sorted_and_rows_of_one_moment_keep_their_order() -> None:
    found = in_order(pl.DataFrame({"at": [3, 1, 3, 2], "x": [0, 1, 2, 3]}), "at")
    assert found.rows["x"].to_list() == [1, 3, 0, 2]
    assert found.places.tolist() == [0, 1, 2, 2]
    assert "the rows were not in the order of 'at': they were sorted" in found.remarks
    assert any("2 rows share their moment" in said for said in found.remarks)


@pytest.mark.parametrize(
    "column, first",
    [
        pytest.param(pl.Series("at", [date(2026, 1, 2), date(2026, 1, 3)]), "2026-01-02T00:00:00+00:00", id="dates"),
        pytest.param(pl.Series("at", ["2026-01-02", "2026-01-03 10:00"]), "2026-01-02T00:00:00+00:00", id="texts"),
        pytest.param(
            pl.Series("at", ["2026-01-02T01:00:00+02:00", "2026-01-02T00:30:00Z"]),
            "2026-01-01T23:00:00+00:00",
            id="offsets",
        ),
        pytest.param(
            pl.Series("at", [datetime(2026, 1, 2, 3), datetime(2026, 1, 3)]).dt.replace_time_zone("Europe/Zurich"),
            "2026-01-02T02:00:00+00:00",
            id="a zone",
        ),
    ],
)
def test_times_of_every_kind_are_moments_in_utc(column: pl.Series, first: str) -> None:
    found = in_order(column.to_frame(), "at")
    assert found.times is not None
    assert found.times[0].isoformat() == first


def test_the_hour_that_comes_twice_in_autumn_is_in_order() -> None:
    twice = pl.Series("at", [datetime(2026, 10, 25, hour, tzinfo=UTC) for hour in range(4)])
    found = in_order(twice.dt.convert_time_zone("Europe/Zurich").to_frame(), "at")
    assert found.places.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "column, said",
    [
        pytest.param(pl.Series("at", ["yesterday"]), "'yesterday' is no time", id="a text that is none"),
        pytest.param(pl.Series("at", [1, None]), "1 rows have no time", id="missing"),
        pytest.param(pl.Series("at", [True]), "holds Boolean", id="truth values"),
        pytest.param(pl.Series("at", [1.0, float("nan")]), "holds Float64", id="not a number"),
    ],
)
def test_what_orders_nothing_is_refused(column: pl.Series, said: str) -> None:
    with pytest.raises(Refused, match=said):
        in_order(column.to_frame(), "at")


def test_windows_of_equal_rows_do_not_part_a_moment() -> None:
    cut, remarks = cut_by_rows(in_order(days(40, each=7), "at"), 13, 10)
    assert all(edge % 7 == 0 for edge in cut.edges)
    assert (cut.edges[0], cut.edges[-1], cut.windows) == (0, 280, 13)
    assert remarks == []


def test_windows_part_a_moment_where_there_are_too_few_and_say_so() -> None:
    cut, remarks = cut_by_rows(in_order(days(5, each=100), "at"), 12, 10)
    assert cut.windows == 12
    assert "rows of one moment lie in two windows" in remarks[0]


def test_gaps_and_uneven_windows_are_told() -> None:
    at = [NOON + DAY * place for place in range(50)] + [NOON + DAY * (place + 400) for place in range(50)]
    remarks = cut_by_rows(in_order(pl.DataFrame({"at": at}), "at"), 12, 10)[1]
    assert any("last from" in said for said in remarks)
    assert "there are no rows from 2026-04-19 12:00:00+00:00 to 2027-04-05 12:00:00+00:00" in remarks


def test_windows_of_time_begin_with_the_first_row_and_may_be_empty() -> None:
    rows = in_order(days(60).filter(~pl.col("x").is_between(21, 27)), "at")
    cut, remarks = cut_by_time(rows, timedelta(days=3), 10)
    assert cut.windows == 20
    assert np.diff(cut.edges).tolist()[6:10] == [3, 0, 0, 2]
    assert remarks == ["2 of 20 windows of 3d are empty: they count nowhere"]
    assert begins_of(rows, cut, timedelta(days=3))[:2] == (NOON, NOON + timedelta(days=3))


@pytest.mark.parametrize(
    "frame, window, said",
    [
        pytest.param(days(60), timedelta(days=20), "the rows span 3 windows of 20d", id="too long"),
        pytest.param(days(60), timedelta(minutes=1), "take a longer --window", id="too short"),
        pytest.param(days(60), timedelta(0), "longer than nothing", id="nothing"),
        pytest.param(pl.DataFrame({"at": range(60)}), DAY, "--window needs a column of times", id="only an order"),
    ],
)
def test_windows_of_time_that_do_not_fit_are_named(frame: pl.DataFrame, window: timedelta, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cut_by_time(in_order(frame, "at"), window, 10)


def test_a_delay_is_rounded_up_to_windows() -> None:
    begins = begins_of(rows := in_order(days(100), "at"), cut_by_rows(rows, 20, 10)[0], None)
    length = window_length(begins, None)
    assert length == timedelta(days=5)
    assert delay_in_windows(timedelta(days=6), length, 10)[0] == 2
    assert delay_in_windows(timedelta(0), length, 10)[0] == 0
    assert delay_in_windows(3, None, 10) == (3, [])


@pytest.mark.parametrize(
    "delay, length, said",
    [
        (DAY, None, "needs a column of times"),
        (-1, DAY, "not be negative"),
        (10, DAY, "no label comes in the 10 windows"),
    ],
)
def test_a_delay_that_does_not_fit_is_named(delay: int | timedelta, length: timedelta | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        delay_in_windows(delay, length, 10)
