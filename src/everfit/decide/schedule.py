"""Cron lines in a time zone: the one door to `cronsim`.

Takes a line, a zone and a moment; gives the next moment; never reads a clock.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError


def check_cron(line: str) -> str:
    """Give the line back if it is a valid cron line of five fields.

    Raises:
        ValueError: it is not, and why.
    """
    try:
        CronSim(line, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(
            f'{line!r} is not a cron line ({error}); write for instance "0 2 * * 0", Sundays at 02:00'
        ) from error
    return line


def next_fire(line: str, zone: str, after: datetime) -> datetime:
    """The first moment later than `after` at which the line fires, in UTC.

    >>> next_fire("0 2 * * 0", "Europe/Zurich", datetime(2013, 3, 30, tzinfo=UTC)).isoformat()
    '2013-03-31T01:00:00+00:00'
    """
    return next(CronSim(line, after.astimezone(ZoneInfo(zone)))).astimezone(UTC)
