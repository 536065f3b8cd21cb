"""Files as a source of rows: Parquet, CSV, Arrow and JSON lines.

Takes a pattern or a path; gives files with the key of their content, and their rows; never decides which
file is new: the caller keeps the keys that it has taken.
"""

from __future__ import annotations

import glob
import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import Any

import polars as pl

from everfit.errors import Refused

_HEAD = 65536  # bytes of a CSV that are looked at for its separator
_SEPARATORS = (",", ";", "\t", "|")
# What spreadsheets, R and Python write for a value that is not there.
_NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file and what it holds."""

    path: Path
    key: str  # of its content: a copy under another name is the same file, a changed file is another


def new_files(pattern: str, project: Path) -> list[SourceFile]:
    """Files that match a pattern, by name; relative patterns begin at the project's folder.

    A file is read whole for its key once, and again only when its size or its time changed. Write a file
    under another name and rename it when it is complete: half a Parquet file is refused and looked at again
    when it changes, but half a CSV cannot be told from a whole one.
    """
    found = glob.glob(str(project / Path(pattern).expanduser()), recursive=True)
    paths = (Path(path) for path in sorted(found))
    return [source_file(path) for path in paths if path.is_file()]


def source_file(path: Path) -> SourceFile:
    """One file with its key.

    Raises:
        Refused: it is not there or cannot be read.
    """
    try:
        about = path.stat()
        return SourceFile(path, _key(path, about.st_size, about.st_mtime_ns))
    except OSError as error:
        raise Refused(
            f"{path}: cannot be read ({error.strerror or error}); check the name and its permissions"
        ) from error


def read_rows(path: Path) -> pl.DataFrame:
    """The rows of a file; what a CSV says of times is read later, with the spec at hand.

    Raises:
        Refused: it is empty, cut off, or not of a kind that can be read.
    """
    kind = kind_of_file(path)
    read = READERS.get(kind)
    if read is None:
        raise Refused(f"{path}: files of kind {kind or 'none'!r} are not read; there are: {', '.join(READERS)}")
    try:
        if path.stat().st_size == 0:
            raise Refused(f"{path}: the file is empty; write at least a header and a row")
        rows = read(path)
    except OSError as error:
        raise Refused(
            f"{path}: cannot be read ({error.strerror or error}); check the name and its permissions"
        ) from error
    except (pl.exceptions.PolarsError, ValueError, EOFError, zlib.error) as error:  # the last two: a torn gzip
        said = str(error).splitlines()[0][:200]
        raise Refused(f"{path}: cut off or not {kind} ({said}); write it again, then rename it here") from error
    if rows.is_empty():
        raise Refused(f"{path}: there is no row in the file; write at least one")
    return rows


@lru_cache(maxsize=65536)
def _key(path: Path, _size: int, _changed: int) -> str:
    """Key of the content; size and time are only there so that an unchanged file is not read again."""
    with path.open("rb") as content:
        return file_digest(content, "blake2b").hexdigest()[:32]


def kind_of_file(path: Path) -> str:
    """The ending that tells how a file is read, in small letters; of a packed one both endings.

    >>> kind_of_file(Path("a.b.PARQUET")), kind_of_file(Path("days.csv.gz"))
    ('.parquet', '.csv.gz')
    """
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() + ending if ending == ".gz" else ending


def csv_options(path: Path) -> dict[str, Any]:
    """How a CSV is read: its separator, what stands for null, and types from all rows."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as content:
        header = content.read(_HEAD).split(b"\n", 1)[0].decode("utf-8", "replace")
    separator = max(_SEPARATORS, key=header.count)
    return {"separator": separator, "null_values": _NULLS, "infer_schema_length": None}


def _csv(path: Path) -> pl.DataFrame:
    rows = pl.read_csv(path, **csv_options(path))
    twice = [name for name in rows.columns if "_duplicated_" in name]
    if twice:
        raise Refused(f"{path}: the column {twice[0].split('_duplicated_')[0]!r} comes twice; rename one of them")
    return rows


def _parquet(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path, hive_partitioning=False)


def _arrow(path: Path) -> pl.DataFrame:
    with path.open("rb") as content:
        stream = content.read(6) != b"ARROW1"
    return pl.read_ipc_stream(path) if stream else pl.read_ipc(path)


def _json_lines(path: Path) -> pl.DataFrame:
    return pl.read_ndjson(path, infer_schema_length=None)


READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".csv.gz": _csv,  # polars unpacks it
    ".tsv.gz": _csv,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".ipc": _arrow,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
