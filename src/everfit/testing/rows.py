"""Journal and lake in memory.

Takes what the real ones take; gives what they give; never touches a disk.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from everfit.errors import Unavailable
from everfit.observe.intake import LABEL_COLUMNS, PREDICTION_COLUMNS, REFUSED_COLUMNS, SHADOW_COLUMNS
from everfit.ports import Batch, Table
from everfit.retrain.recipe import LakeVersion

_COLUMNS = {
    Table.PREDICTIONS: (PREDICTION_COLUMNS, "_time"),
    Table.LABELS: (LABEL_COLUMNS, "_arrived"),
    Table.REFUSED: (REFUSED_COLUMNS, "_arrived"),
    Table.SHADOW: (SHADOW_COLUMNS, "_time"),
}


class MemoryJournal:
    """`ports.Journal` in memory.

    >>> journal = MemoryJournal()
    >>> journal.append([Batch(Table.LABELS, pl.DataFrame({"_id": ["a"]}))])
    1
    """

    def __init__(self) -> None:
        self.key = "memory"
        self._lock = threading.Lock()
        self._waiting: list[Batch] = []
        self._taken: dict[Table, dict[str, str]] = {}
        self._last = 0

    def append(self, batches: Sequence[Batch]) -> int:
        """Keep batches; the number of the last."""
        with self._lock:
            for batch in batches:
                if batch.rows.height:
                    self._last += 1
                    self._waiting.append(Batch(batch.table, batch.rows, self._last))
            return self._last

    def waiting(self, most_rows: int) -> list[Batch]:
        """The oldest batches, in order; at least one if any is there."""
        found: list[Batch] = []
        rows = 0
        for batch in self._waiting:
            if found and rows + batch.rows.height > most_rows:
                break
            found.append(batch)
            rows += batch.rows.height
        return found

    def known(self, table: Table, ids: Sequence[str]) -> dict[str, str]:
        """Which of these ids were taken before, with what they said."""
        taken = self._taken.get(table, {})
        return {id_: taken[id_] for id_ in ids if id_ in taken}

    def forget(self, upto: int, taken: Mapping[Table, Mapping[str, str]]) -> None:
        """Drop batches up to a number and remember their ids."""
        with self._lock:
            self._waiting = [batch for batch in self._waiting if batch.number > upto]
            for table, ids in taken.items():
                known = self._taken.setdefault(table, {})
                known.update({id_: said for id_, said in ids.items() if id_ not in known})

    def last(self) -> int:
        """The number of the last batch."""
        return self._last

    def pending(self) -> int:
        """How many rows wait."""
        return sum(batch.rows.height for batch in self._waiting)

    def close(self) -> None:
        """Nothing to let go."""


@dataclass
class _Pile:
    """One table."""

    parts: list[pl.DataFrame] = field(default_factory=list)  # one a version
    batches: dict[str, int] = field(default_factory=dict)


class MemoryLake:
    """`ports.Lake` in memory.

    >>> MemoryLake().version()
    LakeVersion(predictions=-1, labels=-1)
    """

    def __init__(self) -> None:
        self._piles = {table: _Pile() for table in Table}

    def add(self, table: Table, rows: pl.DataFrame, *, source: str, batch: int) -> None:
        """Append rows exactly once."""
        pile = self._piles[table]
        if rows.height and pile.batches.get(source, 0) < batch:
            pile.parts.append(rows)
            pile.batches[source] = batch

    def added(self, table: Table, source: str) -> int:
        """The last batch of a source."""
        return self._piles[table].batches.get(source, 0)

    def read(
        self, table: Table, *, since: datetime | None, until: datetime | None, version: int | None = None
    ) -> pl.LazyFrame:
        """Rows of a span, at a version or the newest."""
        columns, moment = _COLUMNS[table]
        pile = self._piles[table]
        if version is not None and version >= len(pile.parts):
            raise Unavailable(f"version {version} of the {table} table does not exist")
        parts = pile.parts if version is None else pile.parts[: version + 1]
        rows = pl.concat([pl.DataFrame(schema=columns), *parts], how="diagonal").lazy()
        if since is not None:
            rows = rows.filter(pl.col(moment) >= since)
        return rows if until is None else rows.filter(pl.col(moment) < until)

    def version(self) -> LakeVersion:
        """The newest version of the tables; -1 for one without rows."""
        predictions, labels = (len(self._piles[table].parts) - 1 for table in (Table.PREDICTIONS, Table.LABELS))
        return LakeVersion(predictions, labels)

    def tidy(self, before: datetime) -> int:
        """Nothing to merge."""
        return 0
