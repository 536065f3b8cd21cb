"""Files of any size as parts to be portrayed: Parquet by row group and column, CSV and Arrow by batches, Delta tables.

Takes a file, a glob or the folder of a Delta table; gives the first rows and parts that fetch themselves; never holds
more than the parts that are asked for.

Measured on 1,000,000 rows x 50 columns of Parquet: one column of one row group at a time, text as dictionaries, without
memory maps, is the cheapest way to read (0.2 s of CPU; by batches of 65,536 rows 0.25 s, text as text 0.34 s).
"""

from __future__ import annotations

import glob
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from everfit.adapters.sources import READERS, csv_options, kind_of_file, read_rows
from everfit.errors import EverfitError, Refused
from everfit.observe.moments import as_moments
from everfit.observe.schema import LOOKED_AT
from everfit.profile.stream import Part

BATCH = 65_536  # rows of a batch of CSV and Delta
BUFFER = 65_536  # bytes of Parquet that are fetched ahead; without it a first look at 10,000 rows fetches the row group
CELLS = 1_000_000  # values of a part of Parquet: small row groups of wide files are read several columns at once
DELTA_LOG = "_delta_log"
Wanted = Sequence[str]
FAULTS = (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError)  # what readers raise about a file


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that are read in parts, as often as wanted."""

    name: str  # what the user called them
    head: pl.DataFrame  # the first rows; of Parquet only text has values in it
    parts: Callable[[Wanted], Iterator[Part]]  # these columns of all rows, in their order
    batches: Callable[[Wanted], Iterator[Part]]  # the same, each part with all the columns; slower
    empty: frozenset[str] = frozenset()  # columns that hold no value, as far as was looked: their type says nothing


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a kind that is read in parts."""

    path: Path
    head: pl.DataFrame
    empty: frozenset[str]
    parts: Callable[[Wanted, int], Iterator[Part]]  # columns, number of the first row
    batches: Callable[[Wanted, int], Iterator[Part]]


def open_rows(where: str) -> Rows:
    """Open a file, the files of a glob, or a Delta table.

    Raises:
        Refused: nothing is there, or it cannot be read.
    """
    if (Path(where) / DELTA_LOG).is_dir():
        return _delta(where)
    paths = (
        [Path(where)] if Path(where).exists() else [Path(found) for found in sorted(glob.glob(where, recursive=True))]
    )
    files = [path for path in paths if path.is_file()]
    if not files:
        raise Refused(f"{where}: there is no such file; write a file, a glob such as 'days/*.parquet' or a Delta table")
    opened = [_opened(path) for path in files]
    head, empty = opened[0].head, opened[0].empty
    for file in opened[1:]:
        more, none = file.head, file.empty
        empty = (empty & none) | (empty - set(more.columns)) | (none - set(head.columns))
        new = [name for name in more.columns if name not in head.columns]
        head = pl.concat([head, more.select(new)], how="diagonal") if new else head
    parts, batches = ([(file.path, getattr(file, which)) for file in opened] for which in ("parts", "batches"))
    return Rows(where, head, partial(_in_turn, parts), partial(_in_turn, batches), empty)


def _in_turn(files: Sequence[tuple[Path, Callable[[Wanted, int], Iterator[Part]]]], wanted: Wanted) -> Iterator[Part]:
    """The parts of one file after the other, with row numbers that go on."""
    row = 0
    for path, parts in files:
        after = row
        try:
            for part in parts(wanted, row):
                after = max(after, part.row + part.rows)
                yield part
        except FAULTS as error:
            raise _refused(path, error) from error
        row = after


def _opened(path: Path) -> _File:
    kinds: dict[str, Callable[[Path], _File]] = {
        ".parquet": _parquet,
        ".csv": _csv,
        ".tsv": _csv,
        ".csv.gz": _whole,
        ".tsv.gz": _whole,
        ".arrow": _arrow,
        ".feather": _arrow,
        ".ipc": _arrow,
        ".jsonl": _whole,
        ".ndjson": _whole,
    }
    kind = kind_of_file(path)
    if kind not in kinds:
        raise Refused(f"{path}: files of kind {kind or 'none'!r} are not read; there are: {', '.join(READERS)}")
    try:
        if path.stat().st_size == 0:
            raise Refused(f"{path}: the file is empty; write at least a header and a row")
        return kinds[kind](path)
    except EverfitError:
        raise
    except FAULTS as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> Refused:
    said = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return Refused(f"{path}: cannot be read as {path.suffix.lower()} ({said}); write it again")


def _parquet(path: Path) -> _File:
    file = _Parquet(path)
    return _File(path, *file.head(), file.parts, file.batches)


class _Parquet:
    """A Parquet file, read by row group and column."""

    def __init__(self, path: Path) -> None:
        self._path, self._about = path, pq.read_metadata(path)
        self._schema = self._about.schema.to_arrow_schema()
        strings = (pa.types.is_string, pa.types.is_large_string)
        self._texts = [field.name for field in self._schema if any(its(field.type) for its in strings)]
        leaves = [self._about.schema.column(place).path for place in range(self._about.num_columns)]
        self._flat = {path: place for place, path in enumerate(leaves) if path in self._schema.names}
        self._mine = threading.local()  # a reader is for one thread

    def parts(self, wanted: Wanted, row: int) -> Iterator[Part]:
        there = [name for name in wanted if name in self._schema.names]
        for group in range(self._about.num_row_groups):
            rows = self._about.row_group(group).num_rows
            each = max(1, CELLS // max(1, rows))
            for first in range(0, max(1, len(there)), each):
                yield Part(row, rows, partial(self._read, group, there[first : first + each]))
            row += rows

    def batches(self, wanted: Wanted, row: int) -> Iterator[Part]:
        there = [name for name in wanted if name in self._schema.names]
        file = self._reader()
        found = file.iter_batches(batch_size=BATCH, columns=there, use_threads=False)
        return _batches((pa.Table.from_batches([batch]) for batch in found), row)

    def head(self) -> tuple[pl.DataFrame, frozenset[str]]:
        """Text is looked at, whether it is prose; the statistics say what is empty: a page of 50 columns is 50 MB."""
        file = pq.ParquetFile(self._path, metadata=self._about, memory_map=False, pre_buffer=False, buffer_size=BUFFER)
        texts = next(file.iter_batches(batch_size=LOOKED_AT, columns=self._texts, use_threads=False), None)
        rows = min(LOOKED_AT, self._about.num_rows)
        columns = {
            field.name: texts.column(field.name)
            if texts is not None and field.name in self._texts
            else pa.nulls(rows, field.type)
            for field in self._schema
        }
        return _frame(pa.table(columns)), frozenset(name for name in self._schema.names if self._is_empty(name))

    def _is_empty(self, name: str) -> bool:
        """Whether the statistics of all row groups say that every value is null; nested columns have none."""
        if name not in self._flat:
            return False
        groups = range(self._about.num_row_groups)
        counts = [self._about.row_group(group).column(self._flat[name]).statistics for group in groups]
        return bool(counts) and all(each is not None and each.has_null_count and not each.num_values for each in counts)

    def _read(self, group: int, columns: list[str]) -> pa.Table:
        try:
            return self._reader().read_row_group(group, columns=columns, use_threads=False)
        except FAULTS as error:
            raise _refused(self._path, error) from error

    def _reader(self) -> pq.ParquetFile:
        if not hasattr(self._mine, "file"):
            self._mine.file = pq.ParquetFile(
                self._path,
                metadata=self._about,
                read_dictionary=self._texts,
                memory_map=False,
                pre_buffer=False,
                buffer_size=BUFFER,
            )
        file: pq.ParquetFile = self._mine.file
        return file


def _csv(path: Path) -> _File:
    options = csv_options(path)
    # Types are looked for once: every `collect` would look again, and looking for times too takes 25 times as long.
    lazy = pl.scan_csv(path, schema=pl.scan_csv(path, **options).collect_schema(), **_without_types(options))
    there = set(lazy.collect_schema().names())

    def parts(wanted: Wanted, row: int) -> Iterator[Part]:
        chosen = lazy.select(name for name in wanted if name in there)
        return _batches((batch.to_arrow() for batch in chosen.collect_batches(chunk_size=BATCH)), row)

    return _File(path, *_looked(_with_times(lazy.head(LOOKED_AT).collect())), parts, parts)


def _without_types(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a reader that is told the types."""
    return {name: value for name, value in options.items() if name != "infer_schema_length"}


def _with_times(head: pl.DataFrame) -> pl.DataFrame:
    """Text that can all be read as times, as times."""
    texts = [column for column in head if column.dtype == pl.String and column.null_count() < len(column)]
    read = [as_moments(column) for column in texts]
    return head.with_columns(
        times for times, text in zip(read, texts, strict=True) if times.null_count() == text.null_count()
    )


def _arrow(path: Path) -> _File:
    with path.open("rb") as content:
        stream = content.read(6) != b"ARROW1"

    def batches() -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(path)) as mapped:
            if stream:
                yield from pa.ipc.open_stream(mapped)
                return
            file = pa.ipc.open_file(mapped)
            yield from (file.get_batch(place) for place in range(file.num_record_batches))

    def parts(wanted: Wanted, row: int) -> Iterator[Part]:
        for batch in batches():
            table = pa.Table.from_batches([batch])
            there = [name for name in wanted if name in table.column_names]
            yield from _batches(iter([table.select(there)]), row)
            row += table.num_rows

    first = next(batches(), None)
    if first is None:
        raise Refused(f"{path}: there is no row in the file; write at least one")
    head = _frame(pa.Table.from_batches([first]).slice(0, LOOKED_AT))
    return _File(path, *_looked(head), parts, parts)


def _whole(path: Path) -> _File:
    """A kind that is read whole: rows of JSON say their types only at the end, and packed ones cannot be skipped."""
    rows = read_rows(path)
    there = set(rows.columns)

    def parts(wanted: Wanted, row: int) -> Iterator[Part]:
        return _batches(iter([rows.select(name for name in wanted if name in there).to_arrow()]), row)

    return _File(path, *_looked(_with_times(rows.head(LOOKED_AT))), parts, parts)


def _delta(where: str) -> Rows:
    from everfit.adapters.lake import foreign_table  # noqa: PLC0415 - only who compares a Delta table waits for it

    table = foreign_table(where)

    def parts(wanted: Wanted) -> Iterator[Part]:
        there = [name for name in wanted if name in table.schema.names]
        scan = table.scanner(
            columns=there, batch_size=BATCH, batch_readahead=1, fragment_readahead=1, use_threads=False
        )
        return _batches((pa.Table.from_batches([batch]) for batch in scan.to_batches()), 0)

    head, empty = _looked(_frame(table.head(LOOKED_AT, use_threads=False)))
    return Rows(where, head, parts, parts, empty)


def _looked(head: pl.DataFrame) -> tuple[pl.DataFrame, frozenset[str]]:
    return head, frozenset(column.name for column in head if column.null_count() == len(column))


def _batches(tables: Iterator[pa.Table], row: int) -> Iterator[Part]:
    for table in tables:
        yield Part(row, table.num_rows, partial(_itself, table))
        row += table.num_rows


def _itself(table: pa.Table) -> pa.Table:
    return table


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()
