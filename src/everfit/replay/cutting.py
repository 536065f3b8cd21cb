"""History cut into windows: of equal rows, or of equal time.

Takes a frame and the column that orders it; gives rows in order, the row at which each window begins, and sentences
about what was done; never guesses an order, and parts rows of one moment only where there is no other way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from everfit.errors import Refused, UsageError
from everfit.replay.matrix import Cut, even_cut
from everfit.units import duration_text

MOST_WINDOWS = 1000  # a model each: beyond this nobody waits for the end
UNEVEN = 3.0  # windows of equal rows that differ in length by this factor are told
GAP = 3.0  # a gap of so many windows is told


@dataclass(frozen=True, slots=True, eq=False)
class Ordered:
    """Rows in the order of their time."""

    rows: pl.DataFrame
    places: NDArray[np.int64]  # (rows,): equal where the time is equal, never falling
    times: pl.Series | None  # (rows,): moments in UTC; None: there is only an order
    remarks: tuple[str, ...]


def in_order(frame: pl.DataFrame, time: str | None) -> Ordered:
    """Sort by a column of times or numbers; rows of one moment keep their order.

    >>> found = in_order(pl.DataFrame({"at": [2, 1, 2]}), "at")
    >>> found.places.tolist(), found.times
    ([0, 1, 1], None)

    Raises:
        Refused: the column holds something else, or nothing in some rows.
    """
    if time is None:
        said = "there is no column of times: the rows are taken in the order of the file"
        return Ordered(frame, np.arange(frame.height, dtype=np.int64), None, (said,))
    if frame[time].null_count():
        raise Refused(f"column {time!r}: {frame[time].null_count()} rows have no time; leave them out")
    key, remarks = _key(frame[time])
    if not key.is_sorted():
        remarks.append(f"the rows were not in the order of {time!r}: they were sorted")
        order = pl.Series(np.argsort(key.to_physical().to_numpy(), kind="stable"))
        frame, key = frame[order], key[order]
    places = np.cumsum(np.append(0, np.diff(key.to_physical().to_numpy()) != 0)[: frame.height]).astype(np.int64)
    shared = frame.height - int((np.bincount(places, minlength=1) == 1).sum()) if frame.height else 0
    if shared:
        remarks.append(f"{shared:,} rows share their moment with others: they keep the order of the file")
    return Ordered(frame, places, key if key.dtype.is_temporal() else None, tuple(remarks))


def _key(column: pl.Series) -> tuple[pl.Series, list[str]]:
    """What rows are ordered by: moments in UTC, or numbers."""
    match column.dtype:
        case pl.Datetime(time_zone=None):
            return column.dt.replace_time_zone("UTC").dt.cast_time_unit("us"), [
                f"the times of {column.name!r} carry no zone and are taken as UTC"
            ]
        case pl.Datetime():
            return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us"), []
        case pl.Date():
            return column.cast(pl.Datetime("us", "UTC")), []
        case pl.String():
            return _moments(column), [f"the texts of {column.name!r} were read as times"]
    if column.dtype.is_integer() or (column.dtype.is_float() and not column.is_nan().any()):
        return column, []
    raise Refused(
        f"column {column.name!r} holds {column.dtype}: it must hold dates, times or whole numbers to order by"
    )


def _moments(column: pl.Series) -> pl.Series:
    """Texts such as 2013-01-31, 2013-01-31 23:15 or 2013-01-31T23:15:00+01:00 as moments; without zone in UTC."""
    texts = column.str.strip_chars().str.replace(" ", "T", literal=True)
    whole = pl.when(texts.str.len_chars() <= 10).then(texts + "T00:00:00").otherwise(texts)
    frame = texts.to_frame("text").select(whole=whole)
    zoned = pl.col("whole").str.to_datetime("%+", time_unit="us", strict=False, time_zone="UTC")
    plain = [
        pl.col("whole").str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC")
        for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
    ]
    found = frame.select(pl.coalesce(zoned, *plain)).to_series()
    bad = column.filter(found.is_null() & column.is_not_null())
    if len(bad):
        raise Refused(
            f"column {column.name!r}: {bad[0]!r} is no time; write 2013-01-31 or 2013-01-31T23:15:00, or order by a "
            "column of whole numbers"
        )
    return found.alias(column.name)


def cut_by_rows(ordered: Ordered, windows: int, start: int) -> tuple[Cut, list[str]]:
    """Windows of equal rows, moved so that rows of one moment stay together where they can.

    Raises:
        UsageError: there are fewer rows than windows, or nothing is left to score.
    """
    cut = even_cut(ordered.rows.height, windows, start, greater_is_better=True)
    ends = np.flatnonzero(np.append(True, np.diff(ordered.places) != 0))  # rows at which a moment begins
    ends = np.append(ends, ordered.rows.height)
    wanted = np.array(cut.edges)
    after = np.searchsorted(ends, wanted).clip(1, len(ends) - 1)
    nearest = np.where(wanted - ends[after - 1] <= ends[after] - wanted, ends[after - 1], ends[after])
    nearest[0], nearest[-1] = 0, ordered.rows.height
    if (np.diff(nearest) > 0).all():
        return replace(cut, edges=tuple(int(edge) for edge in nearest)), _lengths(ordered, nearest)
    moments = len(ends) - 1
    remarks = [f"{windows} windows of {moments:,} moments: rows of one moment lie in two windows"]
    return cut, [*remarks, *_lengths(ordered, wanted)]


def cut_by_time(ordered: Ordered, window: timedelta, start: int) -> tuple[Cut, list[str]]:
    """Windows of a length of time from the first row on; some may be empty.

    Raises:
        UsageError: there are no times; too few or too many windows.
    """
    if ordered.times is None:
        raise UsageError("--window needs a column of times: name one with --time, or give --windows")
    if window <= timedelta(0):
        raise UsageError("--window must be longer than nothing")
    moments = ordered.times.to_physical().to_numpy()
    step = round(window.total_seconds() * 1e6)
    many = int((moments[-1] - moments[0]) // step) + 1
    length = duration_text(window)
    if many < start + 2:
        shorter = duration_text(_round((moments[-1] - moments[0]) / (start + 10)))
        raise UsageError(
            f"the rows span {many} windows of {length}; {start} are for the first model, and two more are the least: "
            f"take --window {shorter}, or a shorter one"
        )
    if many > MOST_WINDOWS:
        raise UsageError(f"the rows span {many:,} windows of {length}, {MOST_WINDOWS} at most; take a longer --window")
    edges = np.append(np.searchsorted(moments, moments[0] + step * np.arange(many)), len(moments))
    empty = int((np.diff(edges) == 0).sum())
    remarks = [f"{empty} of {many} windows of {length} are empty: they count nowhere"] if empty else []
    return Cut(tuple(int(edge) for edge in edges), start, True), remarks


def begins_of(ordered: Ordered, cut: Cut, window: timedelta | None) -> tuple[datetime, ...]:
    """When each window begins, and the last row; empty without times."""
    if ordered.times is None:
        return ()
    moments = ordered.times.to_physical().to_numpy()
    if window is not None:
        first = _moment(moments[0])
        return (*(first + window * place for place in range(cut.windows)), _moment(moments[-1]))
    return tuple(_moment(moments[min(edge, len(moments) - 1)]) for edge in cut.edges)


def window_length(begins: tuple[datetime, ...], window: timedelta | None) -> timedelta | None:
    """How long a window is; of equal rows the median one."""
    if window is not None or not begins:
        return window
    return timedelta(seconds=float(np.median([(b - a).total_seconds() for a, b in pairwise(begins)])))


def delay_in_windows(delay: int | timedelta, length: timedelta | None, scored: int) -> tuple[int, list[str]]:
    """A label delay as windows, rounded up.

    >>> delay_in_windows(timedelta(days=3), timedelta(days=2), 90)[0]
    2

    Raises:
        UsageError: it is a duration and there are no times; it is negative, or longer than history.
    """
    remarks = []
    if isinstance(delay, timedelta):
        if length is None or not length:
            raise UsageError(
                "--label-delay as a duration needs a column of times: name one with --time, or give a number of windows"
            )
        windows = -(-delay // length)
        remarks = [
            f"labels come after {duration_text(delay)}, which is {windows} x {duration_text(_whole(length))}, a window"
        ]
    else:
        windows = delay
    if windows < 0:
        raise UsageError("--label-delay must not be negative")
    if windows >= scored:
        raise UsageError(
            f"with a label delay of {windows} windows no label comes in the {scored} windows that are scored"
        )
    return windows, remarks


def _lengths(ordered: Ordered, edges: NDArray[np.int64]) -> list[str]:
    """How uneven in time windows of equal rows are, and whether there are gaps."""
    if ordered.times is None:
        return []
    moments = ordered.times.to_physical().to_numpy()
    begins = moments[np.minimum(edges, len(moments) - 1)]
    lengths = np.diff(begins)
    remarks = []
    shortest, longest = _round(lengths.min()), _round(lengths.max())
    if longest > UNEVEN * max(shortest, timedelta(seconds=1)):
        remarks.append(
            f"windows of equal rows last from {duration_text(shortest)} to {duration_text(longest)}; "
            "--window cuts by time"
        )
    steps = np.diff(moments)
    gap = int(steps.argmax()) if len(steps) else 0
    if len(steps) and steps[gap] > GAP * max(float(np.median(lengths)), 1.0):
        since, until = (_moment(moments[at]).isoformat(" ", "seconds") for at in (gap, gap + 1))
        remarks.append(f"there are no rows from {since} to {until}")
    return remarks


def _moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))


def _round(microseconds: float) -> timedelta:
    return _whole(timedelta(microseconds=float(microseconds)))


def _whole(length: timedelta) -> timedelta:
    """To whole minutes, or seconds below an hour: what a person reads."""
    unit = 60 if length >= timedelta(hours=1) else 1
    return timedelta(seconds=unit * max(1, round(length.total_seconds() / unit)))
