"""The replay: a year of flights through the HTTP interfaces, three hours at a time, in the order in which it happened.

Takes flights and a client; gives predictions asked for and labels told as they became known; never tells a label
before its flight landed. After each day it waits until Everfit has done all that followed from it: the events' clock
stands still meanwhile, so a faster or slower machine gives the same year.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from everfit.client import Client
from everfit.demo.flights import FEATURES

SLOT = "3h"
TRAINING = timedelta(minutes=5)  # at most, in seconds of the wall, for what follows from one day


@dataclass(frozen=True, slots=True)
class Slot:
    """What happened in three hours."""

    start: datetime
    departing: pl.DataFrame  # flights scheduled in it, with their features
    landed: pl.DataFrame  # flights that landed in it, with their label


def slots(flights: pl.DataFrame, begin: datetime, until: datetime) -> Iterator[Slot]:
    """The slots of a span in order; those in which nothing happened are left out."""
    within = flights.filter(pl.col("scheduled").is_between(begin, until, closed="left"))
    departing = _by_slot(within.select("flight_id", "scheduled", *FEATURES), "scheduled")
    told = flights.filter(pl.col("landed").is_between(begin, until, closed="left"))
    landed = _by_slot(told.select("flight_id", "late", time="landed"), "time")
    nobody = flights.clear()
    for start in sorted(departing.keys() | landed.keys()):
        yield Slot(start, departing.get(start, nobody), landed.get(start, nobody))


def _by_slot(rows: pl.DataFrame, time: str) -> dict[datetime, pl.DataFrame]:
    slot = pl.col(time).dt.truncate(SLOT).alias("_slot")
    parts = rows.with_columns(slot).partition_by("_slot", as_dict=True)
    return {key[0]: part.drop("_slot") for key, part in parts.items()}


def replay(client: Client, happened: Iterator[Slot], after_day: Callable[[datetime], None]) -> int:
    """Send everything; the number of predictions that were answered."""
    day, answered, number = None, 0, 0
    for slot in happened:
        if slot.departing.height:
            answered += len(client.predict(slot.departing).predictions)
        if slot.landed.height:
            number = client.labels(slot.landed).number
        if day is not None and slot.start.date() != day and number:
            client.settle(number, TRAINING)  # the first slot of a day has closed the day before it
            after_day(slot.start)
        day = slot.start.date()
    return answered
