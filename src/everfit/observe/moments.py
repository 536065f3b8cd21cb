"""Times as people write them, read as UTC.

Takes a column of times, dates or ISO text; gives a column of UTC times with null where none can be read;
never guesses the unit of a number.
"""

from __future__ import annotations

import polars as pl

UTC_MICROSECONDS = pl.Datetime("us", "UTC")
_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")


def as_moments(came: pl.Series) -> pl.Series:
    """Read times; what has no zone is UTC; numbers are not times, for nobody says their unit.

    >>> as_moments(pl.Series(["2013-01-01T06:00:00+01:00", "2013-01-02", "soon"])).to_list()
    [datetime.datetime(2013, 1, 1, 5, 0, tzinfo=zoneinfo.ZoneInfo(key='UTC')), \
datetime.datetime(2013, 1, 2, 0, 0, tzinfo=zoneinfo.ZoneInfo(key='UTC')), None]
    >>> as_moments(pl.Series([1357020000])).to_list()
    [None]
    """
    dtype = came.dtype
    if isinstance(dtype, pl.Datetime):
        with_zone = came.dt.replace_time_zone("UTC") if dtype.time_zone is None else came.dt.convert_time_zone("UTC")
        return with_zone.dt.cast_time_unit("us")
    if dtype == pl.Date:
        return came.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _read(came.cast(pl.String))
    return pl.Series(came.name, [None], dtype=UTC_MICROSECONDS).new_from_index(0, len(came))


def _read(text: pl.Series) -> pl.Series:
    clean = pl.col("t").str.strip_chars()
    day_only = clean.str.len_chars() == 10
    full = pl.when(day_only).then(clean + "T00:00:00").otherwise(clean).str.replace(r"^(.{10})[ t]", "${1}T")
    zoned = full.str.replace(r" ?[zZ]$", "+00:00")
    zoned = pl.when(zoned.str.contains(r"[+-]\d{2}(:?\d{2})?$")).then(zoned).otherwise(zoned + "+00:00")
    # A bare date ends in -31, which looks like a zone; it was given a time above.
    parsed = [zoned.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False) for form in _FORMATS]
    return pl.DataFrame({"t": text}).select(pl.coalesce(parsed).alias(text.name))[text.name]
