"""The event tables on Delta Lake, partitioned by day, on a disk or an object store.

Takes rows of a batch exactly once and the span to read; gives lazy frames over the few files that hold it;
never removes a file that a version still needs.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyarrow.dataset import Dataset

from everfit.errors import DiskFull, Refused, Unavailable
from everfit.observe.intake import LABEL_COLUMNS, PREDICTION_COLUMNS, REFUSED_COLUMNS, SHADOW_COLUMNS
from everfit.ports import Table
from everfit.retrain.recipe import LakeVersion

NO_TABLE = -1  # the version of a table that has no rows yet; Delta's first version is 0
COLUMNS = {
    Table.PREDICTIONS: PREDICTION_COLUMNS,
    Table.LABELS: LABEL_COLUMNS,
    Table.REFUSED: REFUSED_COLUMNS,
    Table.SHADOW: SHADOW_COLUMNS,
}
MOMENT_OF = {
    Table.PREDICTIONS: "_time",
    Table.LABELS: "_arrived",
    Table.REFUSED: "_arrived",
    Table.SHADOW: "_time",
}
_TRIES = 20  # against writers of other sources; each loss means that somebody else has won
_MANY, _SMALL = 4, 16 * 2**20  # a day with this many files below this many bytes is worth merging
_VERSIONS_KEPT = 16  # pinned versions whose list of files is remembered
# Whatever a version names stays: nothing expires by age, for a dataset may be pinned for years.
_FOR_EVER = "interval 36500 days"
_HOOKS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of one version of a table."""

    list: pl.DataFrame  # path, bytes, day, low, high
    schema: dict[str, pl.DataType]  # of the table, without the partition


def foreign_table(where: str) -> Dataset:
    """A Delta table that is not ours, to be read in batches, in its newest version.

    Raises:
        Refused: it is not one, or of a kind that cannot be read.
    """
    try:
        return DeltaTable(where).to_pyarrow_dataset()
    except (DeltaError, OSError) as error:
        raise Refused(f"{where}: cannot be read as a Delta table ({error}); write its rows as Parquet") from error


class DeltaLake:
    """`ports.Lake`: Delta tables under one root. Thread-safe; other processes may write too."""

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        """Name the place; nothing is read or made yet.

        Args:
            root: a folder or the address of a bucket with a prefix.
            storage_options: credentials and region of the object store, as deltalake and polars take them.
        """
        self._root = str(root).rstrip("/")
        self._storage = dict(storage_options or {})
        self._lock = threading.RLock()
        self._tables: dict[Table, DeltaTable] = {}
        self._files: dict[tuple[Table, int], _Files] = {}

    def add(self, table: Table, rows: pl.DataFrame, *, source: str, batch: int) -> None:
        """Append rows exactly once: a `batch` at or below the last one of this `source` and table is skipped.

        Raises:
            Refused: a column has another type than the table's.
            DiskFull: no space; nothing was added.
        """
        if rows.is_empty():
            return
        with self._lock:
            for _ in range(_TRIES):
                found = self._newest(table) or self._made(table, rows)
                # Asked and written on one view of the table: what another writer commits meanwhile is a conflict.
                if (found.transaction_version(source) or 0) >= batch:
                    return
                if self._write(table, found, rows, Transaction(source, batch)):
                    return
        raise Unavailable(f"the {table} table was busy {_TRIES} times in a row; it will be tried again")

    def added(self, table: Table, source: str) -> int:
        """The last batch of a source that the table holds; 0 if none."""
        with self._lock:
            newest = self._newest(table)
            return (newest.transaction_version(source) or 0) if newest else 0

    def read(
        self, table: Table, *, since: datetime | None, until: datetime | None, version: int | None = None
    ) -> pl.LazyFrame:
        """Rows whose `_time` (labels and refused: `_arrived`) lies in `[since, until)`, in no sure order."""
        with self._lock:
            files = self._files_of(table, version)
        if files is None:
            return pl.LazyFrame(schema=COLUMNS[table])
        moment = MOMENT_OF[table]
        chosen = files.list.filter(_may_hold(since, until))["path"].to_list()
        order = [*files.schema][: [*files.schema].index("_arrived") + 1 + (table is Table.PREDICTIONS)]
        names = [*order, "_day", *(name for name in files.schema if name not in order)]
        if not chosen:
            return pl.LazyFrame(schema={**files.schema, "_day": pl.Date()}).select(names)
        rows = pl.scan_parquet(
            chosen,
            schema=files.schema,
            missing_columns="insert",
            hive_partitioning=False,
            storage_options=self._storage or None,
        )
        if since is not None:
            rows = rows.filter(pl.col(moment) >= since)
        if until is not None:
            rows = rows.filter(pl.col(moment) < until)
        return rows.with_columns(_day=pl.col(moment).dt.date()).select(names)

    def version(self) -> LakeVersion:
        """The newest version of the tables; `NO_TABLE` (-1) for one that has no rows yet."""
        with self._lock:
            found = [self._newest(table) for table in (Table.PREDICTIONS, Table.LABELS)]
        predictions, labels = (table.version() if table else NO_TABLE for table in found)
        return LakeVersion(predictions, labels)

    def tidy(self, before: datetime) -> int:
        """Merge the small files of days before a moment; how many files less. Pinned versions stay readable."""
        with self._lock:
            return sum(self._merge(table, before) for table in Table)

    def _merge(self, table: Table, before: datetime) -> int:
        newest, files = self._newest(table), self._files_of(table, None)
        if newest is None or files is None:
            return 0
        old = files.list.filter(pl.col("day") < before.date(), pl.col("bytes") < _SMALL)
        crowded = old.group_by("day").len().filter(pl.col("len") >= _MANY)["day"].sort().to_list()
        if not crowded:
            return 0
        days = [day.isoformat() for day in crowded]
        try:
            done = newest.optimize.compact(partition_filters=[("_day", "in", days)], post_commithook_properties=_HOOKS)
        except CommitFailedError:
            return 0  # somebody else merged the same days; the next time finds what is left
        except (DeltaError, OSError) as error:
            raise self._meant(error, table) from error
        return int(done["numFilesRemoved"]) - int(done["numFilesAdded"])

    def _made(self, table: Table, rows: pl.DataFrame) -> DeltaTable:
        """An empty table with the columns of these rows, or the one that somebody else has made just now."""
        shape = rows.clear().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        try:
            made = DeltaTable.create(
                self._uri(table),
                shape,
                mode="error",
                partition_by=["_day"],
                configuration=_configuration(table),
                storage_options=self._storage or None,
            )
        except (DeltaError, OSError) as error:
            if (found := self._newest(table)) is not None:
                return found
            raise self._meant(error, table) from error
        self._tables[table] = made
        return made

    def _write(self, table: Table, found: DeltaTable, rows: pl.DataFrame, transaction: Transaction) -> bool:
        """Whether the commit was won."""
        known = _columns_of(found)
        for name, dtype in rows.schema.items():
            if known.get(name, dtype) != dtype:  # else text such as "1" would be cast without a word
                raise Refused(f"the {table} table holds {known[name]} in {name!r}, these rows hold {dtype}")
        # What the rows lack is null; what the table lacks becomes a column of it.
        nulls = [
            pl.Series(name, [None], dtype=dtype).new_from_index(0, rows.height)
            for name, dtype in known.items()
            if name not in rows.columns
        ]
        widens = any(name not in known for name in rows.columns)
        try:
            write_deltalake(
                found,
                rows.with_columns(nulls).to_arrow(compat_level=pl.CompatLevel.oldest()),
                partition_by=["_day"],
                mode="append",
                schema_mode="merge" if widens else None,
                commit_properties=CommitProperties(app_transactions=[transaction]),
                post_commithook_properties=_HOOKS,
            )
        except CommitFailedError:
            self._tables.pop(table, None)
            return False
        except (DeltaError, OSError) as error:
            self._tables.pop(table, None)
            raise self._meant(error, table) from error
        return True

    def _uri(self, table: Table) -> str:
        return f"{self._root}/{table.value}"

    def _newest(self, table: Table) -> DeltaTable | None:
        """The table with all commits that are there by now; None before the first."""
        found = self._tables.get(table)
        if found is None:
            found = self._asked(table, lambda: self._opened(table, None))
            if found is not None:
                self._tables[table] = found
            return found
        self._asked(table, found.update_incremental)
        return found

    def _opened(self, table: Table, version: int | None) -> DeltaTable | None:
        try:
            return DeltaTable(self._uri(table), version=version, storage_options=self._storage or None)
        except TableNotFoundError:
            return None

    def _files_of(self, table: Table, version: int | None) -> _Files | None:
        """The files of a version, or of the newest one; None if there is no table."""
        if version == NO_TABLE:
            return None
        if version is not None and (table, version) in self._files:
            return self._files[table, version]
        newest = self._newest(table)
        if newest is None:
            if version is not None:
                raise Unavailable(f"version {version} of the {table} table is gone from {self._uri(table)}")
            return None
        wanted = newest.version() if version is None else version
        if (table, wanted) not in self._files:
            opened = newest if wanted == newest.version() else self._asked(table, lambda: self._opened(table, wanted))
            if opened is None:
                raise Unavailable(f"version {wanted} of the {table} table is gone from {self._uri(table)}")
            while len(self._files) >= _VERSIONS_KEPT:
                self._files.pop(next(iter(self._files)))
            self._files[table, wanted] = _files_in(opened, table, self._uri(table))
        return self._files[table, wanted]

    def _asked(self, table: Table, question: Callable[[], T]) -> T:
        try:
            return question()
        except (DeltaError, OSError) as error:
            raise self._meant(error, table) from error

    def _meant(self, error: Exception, table: Table) -> Unavailable:
        no_space = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        if no_space:
            return DiskFull(f"no space is left for {self._uri(table)}; nothing was added: make room")
        return Unavailable(f"the {table} table at {self._uri(table)} does not answer: {error}")


def _files_in(opened: DeltaTable, table: Table, uri: str) -> _Files:
    actions = pl.DataFrame(opened.get_add_actions(flatten=True))
    empty = pl.Series([None], dtype=pl.Datetime("us", "UTC")).new_from_index(0, actions.height)
    moment = MOMENT_OF[table]
    low, high = (
        actions[name].cast(pl.Datetime("us", "UTC")) if name in actions.columns else empty
        for name in (f"min.{moment}", f"max.{moment}")
    )
    listed = pl.DataFrame(
        {
            "path": actions["path"].map_elements(lambda path: f"{uri}/{path}", return_dtype=pl.String),
            "bytes": actions["size_bytes"],
            "day": actions["partition._day"].cast(pl.Date),
            "low": low,
            "high": high,
        }
    )
    return _Files(listed, {name: dtype for name, dtype in _columns_of(opened).items() if name != "_day"})


def _columns_of(opened: DeltaTable) -> dict[str, pl.DataType]:
    return dict(pl.DataFrame(opened.schema().to_arrow().empty_table()).schema)


def _configuration(table: Table) -> dict[str, str | None]:
    return {
        "delta.checkpointInterval": "50",  # so many small commits are read in about a millisecond
        "delta.logRetentionDuration": _FOR_EVER,
        "delta.deletedFileRetentionDuration": _FOR_EVER,
        "delta.dataSkippingStatsColumns": MOMENT_OF[table],  # Parquet's own footers know the rest
    }


def _may_hold(since: datetime | None, until: datetime | None) -> pl.Expr:
    """Files that may hold rows of the span; statistics may be cut to milliseconds, so they get one more."""
    answer = pl.lit(True)
    if since is not None:
        late_enough = pl.col("high").is_null() | (pl.col("high") >= since - timedelta(milliseconds=1))
        answer &= (pl.col("day") >= since.date()) & late_enough
    if until is not None:
        answer &= (pl.col("day") <= until.date()) & (pl.col("low").is_null() | (pl.col("low") < until))
    return answer
