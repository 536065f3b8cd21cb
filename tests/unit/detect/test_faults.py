"""Faults of columns and sources: found when they jump, and no season, weekday or trend is called one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from everfit.detect.faults import (
    Arrived,
    Reached,
    fault_alarms,
    reached_by,
    read_copies,
    read_faults,
    read_quiet,
    repeated,
)
from everfit.detect.signal import Alarm, NotEnough, Signal
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.observe.window import Span
from everfit.profile.table import Bins, Profile, learn_bins, portray

RATE = 1 / 365
SCHEMA = Schema(
    (
        Column("fare", Kind.NUMBER),
        Column("warmth", Kind.NUMBER),
        Column("month", Kind.NUMBER),
        Column("rain", Kind.NUMBER),
        Column("country", Kind.CATEGORY),
        Column("weekday", Kind.CATEGORY),
    ),
    (),
)
DAY = timedelta(days=1)
START = datetime(2013, 1, 7, tzinfo=UTC)  # a Monday


def rows(number: int, many: int = 400) -> pl.DataFrame:
    """A day: fares, a season of warmth with the weather of the day, constant columns, dry days, weekdays."""
    chance = np.random.default_rng(number)
    warmth = 12 - 11 * np.cos(2 * np.pi * number / 365) + chance.normal(0, 3)
    dry = chance.random() < 0.5
    abroad = 0.15 + 0.1 * (number % 7 > 4)
    return pl.DataFrame({
        "fare": chance.gamma(3, 10, many) * (1 + 0.3 * (number % 7 > 4)),
        "warmth": chance.normal(warmth, 2.5, many),
        "month": np.full(many, float(number // 30 % 12)),
        "rain": np.zeros(many) if dry else chance.gamma(1, 2, many).round(1),
        "country": chance.choice(["DE", "FR", "IT"], many, p=[0.75 - abroad, 0.25, abroad]),
        "weekday": np.full(many, ["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"][number % 7]),
    })  # fmt: skip


class Known:
    """A champion's reference and the windows behind it: the first ninety days."""

    def __init__(self, days: int = 90) -> None:
        behind = pl.concat([rows(n) for n in range(days)])
        self.bins: Bins = learn_bins(behind, SCHEMA)
        self.reference: Profile = portray(behind, self.bins)
        self.usual: Reached = reached_by((portray(rows(n), self.bins) for n in range(30, days)), self.reference)

    def alarms(self, frame: pl.DataFrame, usual: Reached | None = None) -> tuple[Alarm, ...]:
        """What is said of a window."""
        read = read_faults(portray(frame, self.bins), self.reference, usual or self.usual)
        return fault_alarms(read, RATE)


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


COUNTRY = pl.col("country")


@pytest.mark.parametrize(
    "fault, name, column",
    [
        pytest.param(pl.lit(27.5).alias("fare"), "quality.frozen", "fare", id="a sensor is stuck"),
        pytest.param((pl.col("fare") * 100).alias("fare"), "quality.unit", "fare", id="cents instead of euros"),
        pytest.param((pl.col("fare") / 1000).alias("fare"), "quality.unit", "fare", id="thousands instead of euros"),
        pytest.param(pl.lit("IT").alias("country"), "quality.shifted", "country", id="a default takes over"),
        pytest.param(
            COUNTRY.replace_strict({"DE": "FR", "FR": "IT", "IT": "DE"}).alias("country"),
            "quality.shifted",
            "country",
            id="codes are permuted",
        ),
    ],
)
def test_a_fault_is_found_in_the_first_window(known: Known, fault: pl.Expr, name: str, column: str) -> None:
    found = known.alarms(rows(95).with_columns(fault))
    assert [(alarm.signal.name, alarm.signal.column, alarm.kind) for alarm in found] == [(name, column, "quality")]
    assert column in found[0].said
    few = read_faults(portray(rows(95).with_columns(fault).head(30), known.bins), known.reference, known.usual)
    assert fault_alarms(few, RATE) == (), "thirty rows prove nothing"


def test_nothing_is_called_a_fault_before_it_is_known_what_is_usual(known: Known) -> None:
    frame = rows(95).with_columns(pl.lit(27.5).alias("fare"), pl.lit("IT").alias("country"))
    assert known.alarms(frame, Reached(4, known.usual.highest)) == ()


def test_a_year_of_seasons_weekdays_and_dry_days_has_no_fault(known: Known) -> None:
    """A window without a fault is usual afterwards, as the watch keeps it."""
    usual, said = known.usual, []
    for number in range(90, 455):
        read = read_faults(portray(rows(number), known.bins), known.reference, usual)
        said += [(number, alarm.said) for alarm in fault_alarms(read, RATE)]
        usual = usual.joined(read)
    assert said == []


def test_a_heavy_tail_is_no_unit(known: Known) -> None:
    rich = rows(95).with_columns(pl.when(pl.int_range(pl.len()) == 7).then(1e6).otherwise(pl.col("fare")).alias("fare"))
    assert known.alarms(rich) == ()


# ---- copies ----------------------------------------------------------------------------------------------------------
def test_a_flood_of_copies_is_one_and_few_are_not() -> None:
    once = rows(1).drop("month", "weekday")
    flood = pl.concat([once, once, once])
    copies = repeated(flood, flood.columns)
    assert copies == 2 * once.height
    (alarm,) = fault_alarms(read_copies("quality.repeats", copies, flood.height, Reached(20)), RATE)
    assert (alarm.signal.name, alarm.signal.column) == ("quality.repeats", "*")
    coarse = Reached(20, {"quality.repeats": {"*": 0.6}})  # rows of few values are alike every day
    assert fault_alarms(read_copies("quality.repeats", copies, flood.height, coarse), RATE) == ()
    assert fault_alarms(read_copies("quality.duplicates", 5, 100, Reached(20)), RATE) == ()
    assert read_copies("quality.duplicates", 0, 100, Reached(20)) == ()
    assert repeated(flood, ["not there"]) == 0


# ---- a quiet source --------------------------------------------------------------------------------------------------
def span(number: int, length: timedelta = DAY) -> Span:
    return Span(START + number * length, START + (number + 1) * length)


def shop(days: int) -> list[Arrived]:
    """Six hundred rows a day, thirty on Sundays."""
    chance = np.random.default_rng(5)
    return [Arrived(span(n), int(chance.poisson(30 if n % 7 == 6 else 600))) for n in range(days)]


def quiet(number: int, many: int, before: list[Arrived]) -> bool:
    return bool(fault_alarms([read_quiet(span(number), many, before)], RATE))


def test_a_quiet_day_is_one_that_is_quiet_for_its_weekday() -> None:
    assert quiet(42, 20, shop(42)), "a Monday with twenty rows"
    assert quiet(42, 0, shop(42)), "a Monday without any"
    assert not quiet(42, 200, shop(42)), "a slow Monday"
    assert not quiet(48, 25, shop(48)), "a Sunday"
    assert not quiet(48, 0, shop(48)), "thirty rows are too few to miss"


def test_without_weeks_behind_it_a_fortnight_says_what_is_usual() -> None:
    steady = [Arrived(span(n), 600) for n in range(14)]
    assert quiet(14, 20, steady)
    assert not quiet(14, 20, shop(14)), "Sundays are as quiet"
    assert isinstance(read_quiet(span(13), 20, steady[:13]), NotEnough)


def test_an_outage_lasts_over_weeks_and_in_the_end_is_the_new_level() -> None:
    before, alarmed = shop(70), []
    for number in range(70, 140):
        rows_, monday = (10, number % 7 != 6) if number % 7 != 6 else (30, False)
        said = quiet(number, rows_, before)
        before.append(Arrived(span(number), rows_, faulty=said))
        if monday:
            alarmed.append(said)
    assert all(alarmed[:18]), "three weeks"
    assert not any(alarmed[-6:]), "after two months it is usual"


def test_hours_change_with_the_clock_twice_a_year() -> None:
    hour = timedelta(hours=1)
    by_hour = [0, 0, 0, 0, 0, 0, 5, 40, 800, 900, 900, 900, 900, 900, 900, 900, 900, 800, 300, 60, 5, 0, 0, 0]
    before = [Arrived(span(n, hour), by_hour[n % 24]) for n in range(24 * 35)]
    shifted = [by_hour[(n + 1) % 24] for n in range(24)]  # everything comes an hour earlier by UTC
    later = [by_hour[(n - 1) % 24] for n in range(24)]
    for day in (shifted, later):
        readings = [read_quiet(span(24 * 35 + n, hour), many, before) for n, many in enumerate(day)]
        assert fault_alarms(readings, RATE) == ()
    dead = [read_quiet(span(24 * 35 + n, hour), 0, before) for n in range(24)]
    assert len(fault_alarms(dead, RATE)) >= 8


def test_what_is_usual_grows_with_every_window_and_can_be_kept() -> None:
    grown = Reached(5).joined([Signal("quality.frozen", "fare", 0.6, 400), Signal("drift.psi", "fare", 9.0, 400)])
    assert (grown.windows, grown.of("quality.frozen", "fare"), grown.of("drift.psi", "fare")) == (6, 0.6, 0.0)
    assert grown.joined([Signal("quality.frozen", "fare", 0.5, 400)]).of("quality.frozen", "fare") == 0.6
