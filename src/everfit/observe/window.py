"""Windows: half-open spans of event time over which things are measured.

Takes options, event times and the watermark; gives spans; never reads rows or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from everfit.errors import UsageError
from everfit.observe.options import Observing, Rows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_WINDOWS = 400  # given at once: a year of days; the caller asks again with the last end as cursor


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open span of event time, `start <= t < end`."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M}"


def next_windows(
    options: Observing, *, cursor: datetime | None, watermark: datetime, times: pl.Series | None
) -> list[Span]:
    """The closed windows after `cursor` (the end of the last one), oldest first, at most `MOST_WINDOWS`.

    A window is closed when the watermark is `late_by` past its end. `times` are event times from the cursor
    on: windows of rows need them all, windows of a duration only when there is no cursor yet, to know where
    to begin.

    >>> day = Observing()
    >>> begun = pl.Series([datetime(2013, 1, 1, 5, tzinfo=UTC)])
    >>> now = datetime(2013, 1, 2, 9, tzinfo=UTC)
    >>> [str(span) for span in next_windows(day, cursor=None, watermark=now, times=begun)]
    ['2013-01-01 00:00 to 2013-01-02 00:00']
    """
    if isinstance(options.window, Rows):
        return _row_windows(options, options.window.rows, cursor, watermark, times)
    if cursor is None:
        first = _first_of(times)
        if first is None:
            return []
        cursor = window_of(first, options).start
    windows: list[Span] = []
    while len(windows) < MOST_WINDOWS:
        # A cursor off the grid (the window's length was changed) gives one shorter window: no gap.
        span = Span(cursor, window_of(cursor, options).end)
        if watermark < span.end + options.late_by:
            break
        windows.append(span)
        cursor = span.end
    return windows


def window_of(moment: datetime, options: Observing) -> Span:
    """The window of a duration in which a moment lies: multiples since 1970, so days begin at midnight UTC.

    >>> str(window_of(datetime(2013, 1, 1, 5, tzinfo=UTC), Observing()))
    '2013-01-01 00:00 to 2013-01-02 00:00'

    Raises:
        UsageError: windows are made of rows, which have no fixed place.
    """
    if isinstance(options.window, Rows):
        raise UsageError("a window of rows has no fixed place in time; ask next_windows for the closed ones")
    start = EPOCH + (moment - EPOCH) // options.window * options.window
    return Span(start, start + options.window)


def mature_at(span: Span, options: Observing) -> datetime:
    """When the labels of a window have had the time to arrive.

    >>> day = Span(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC))
    >>> mature_at(day, Observing()).isoformat()
    '2013-01-03T00:00:00+00:00'
    """
    return span.end + options.labels_mature_after


def skip_silence(cursor: datetime, first_time: datetime, options: Observing) -> datetime:
    """Where to go on when the first event after `cursor` is at `first_time`: what lies before is empty.

    >>> last, first = datetime(2013, 1, 2, tzinfo=UTC), datetime(2014, 1, 1, 5, tzinfo=UTC)
    >>> skip_silence(last, first, Observing()).isoformat()
    '2014-01-01T00:00:00+00:00'
    """
    if isinstance(options.window, Rows):
        return cursor
    return max(cursor, window_of(first_time, options).start)


def place_of(moment: datetime, options: Observing) -> int | None:
    """The number of the window that begins at or before a moment, on the grid of event time; None for windows of rows.

    >>> place_of(datetime(1970, 1, 3, 5, tzinfo=UTC), Observing())
    2
    """
    return None if isinstance(options.window, Rows) else (moment - EPOCH) // options.window


def cut_windows(rows: pl.DataFrame, options: Observing, *, at_least: int) -> list[pl.DataFrame]:
    """Rows cut into windows as later ones will be, oldest first; windows of fewer than `at_least` rows are left out.

    >>> noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    >>> [part.height for part in cut_windows(pl.DataFrame({"_time": [noon] * 3}), Observing(), at_least=2)]
    [3]
    """
    size = options.window
    placed = rows.sort("_time").with_row_index("_row")
    window = pl.col("_row") // size.rows if isinstance(size, Rows) else pl.col("_time").dt.truncate(size)
    parts = placed.with_columns(_window=window).partition_by("_window", maintain_order=True)
    return [part.drop("_row", "_window") for part in parts if part.height >= at_least]


def cycles(options: Observing, seasons: tuple[timedelta, ...]) -> list[int]:
    """Seasons as numbers of windows: those that are two windows or more, and whole.

    >>> cycles(Observing(), (timedelta(days=1), timedelta(days=7)))
    [7]
    """
    if isinstance(options.window, Rows):
        return []
    return [season // options.window for season in seasons if season % options.window == timedelta(0)
            and season >= 2 * options.window]  # fmt: skip


def _row_windows(
    options: Observing, rows: int, cursor: datetime | None, watermark: datetime, times: pl.Series | None
) -> list[Span]:
    if times is None:
        raise UsageError("windows of rows need the event times since the cursor; give `times`")
    ordered = times.drop_nulls().sort()
    if cursor is not None:
        ordered = ordered.filter(ordered >= cursor)
    windows: list[Span] = []
    at = 0
    while at + rows < len(ordered) and len(windows) < MOST_WINDOWS:
        # Rows of one moment stay together: the window ends with the first later moment.
        stop = ordered.search_sorted(ordered[at + rows - 1], side="right")
        if stop >= len(ordered):
            break
        span = Span(cursor if cursor is not None else _utc(ordered[at]), _utc(ordered[stop]))
        if watermark < span.end + options.late_by:
            break
        windows.append(span)
        cursor, at = span.end, stop
    return windows


def _first_of(times: pl.Series | None) -> datetime | None:
    first = times.min() if times is not None else None
    return _utc(first) if isinstance(first, datetime) else None


def _utc(moment: datetime) -> datetime:
    """polars gives zoneinfo's UTC; two UTCs compare alike but print differently."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
