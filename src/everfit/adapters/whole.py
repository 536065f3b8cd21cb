"""Everything that a user named, in one frame: a backtest orders rows by time before it cuts them.

Takes names of files, globs and Delta tables; gives all their rows, with texts that are times as times; never guesses
what a column means.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from everfit.adapters.columns import DELTA_LOG
from everfit.adapters.sources import kind_of_file, read_rows
from everfit.errors import Refused
from everfit.observe.moments import as_moments

LOOK = 1000  # rows of a text that are looked at before all of it is read as times
TEXTS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".jsonl", ".ndjson")  # kinds that have no type for a time


def read_whole(names: Sequence[str]) -> pl.DataFrame:
    """The rows of files, globs and Delta tables, in the order in which they are named; columns that one lacks are null.

    Raises:
        Refused: nothing is there, it cannot be read, or a column is of two kinds.
    """
    found = [frame for name in names for frame in _frames(name)]
    if len(found) == 1:
        return found[0]
    try:
        return pl.concat([_in_utc(frame) for frame in found], how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        said = str(error).splitlines()[0][:200]
        raise Refused(f"{', '.join(names)}: the files do not fit together ({said}); give columns one type") from error


def _frames(name: str) -> Iterator[pl.DataFrame]:
    if (Path(name) / DELTA_LOG).is_dir():
        yield _delta(name)
        return
    paths = [Path(name)] if Path(name).exists() else [Path(path) for path in sorted(glob.glob(name, recursive=True))]
    files = [path for path in paths if path.is_file()]
    if not files:
        raise Refused(f"{name}: there is no such file; write a file, a glob such as 'days/*.parquet' or a Delta table")
    for path in files:
        rows = read_rows(path)
        yield _with_times(rows) if kind_of_file(path) in TEXTS else rows


def _delta(name: str) -> pl.DataFrame:
    from everfit.adapters.lake import foreign_table  # noqa: PLC0415 - only who reads a Delta table waits for it

    rows = pl.from_arrow(foreign_table(name).to_table())
    assert isinstance(rows, pl.DataFrame)
    if rows.is_empty():
        raise Refused(f"{name}: there is no row in the table; write at least one")
    return rows


def _in_utc(rows: pl.DataFrame) -> pl.DataFrame:
    """Times with and without a zone are one type: what has none is UTC."""
    return rows.with_columns(as_moments(column) for column in rows if column.dtype in (pl.Datetime, pl.Date))


def _with_times(rows: pl.DataFrame) -> pl.DataFrame:
    """Texts of which every one can be read as a time, as times."""
    read = {}
    for column in rows:
        if column.dtype != pl.String or column.null_count() == len(column):
            continue
        if _all_times(column.head(LOOK)) and _all_times(column):
            read[column.name] = as_moments(column)
    return rows.with_columns(**read)


def _all_times(text: pl.Series) -> bool:
    return as_moments(text).null_count() == text.null_count()
