"""The processes that the kill tests kill: one that appends numbered batches, one that moves them into the lake.

Takes a folder and orders on its command line; gives one line on standard output for everything that it acknowledged or
is about to do; never ends tidily unless it is told so.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from everfit.adapters.journal import SqliteJournal
from everfit.adapters.lake import DeltaLake
from everfit.flows.collect import Collecting, collect
from everfit.observe.intake import Rules, take_history
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.ports import Batch, Table

DAY0 = datetime(2013, 1, 1, tzinfo=UTC)
RULES = Rules("binary", target="late", time="at", id="flight")
SCHEMA = Schema((Column("hour", Kind.NUMBER),), ())
ROWS = 7  # in a batch
MOST = 10_000  # batches a thread appends at most, so that an orphan ends by itself


def batches(name: str) -> list[Batch]:
    """Predictions with their labels, and one row that is refused when it is moved."""
    rows = pl.DataFrame({
        "flight": [f"{name}-{place}" for place in range(ROWS)],
        "at": [DAY0 + timedelta(hours=place) for place in range(ROWS)],
        "hour": ["1"] * (ROWS - 1) + ["one"],
        "late": [1] * (ROWS - 1) + [None],
    })  # fmt: skip
    predictions, labels = take_history(rows, RULES, now=None, issue=str)
    return [Batch(Table.PREDICTIONS, predictions.rows), Batch(Table.LABELS, labels.rows)]


def append(folder: Path, name: str) -> None:
    """Append from three threads and print the name of every batch that was acknowledged."""
    journal = SqliteJournal(folder / "journal.db")
    printing = threading.Lock()

    def work(thread: int) -> None:
        for number in range(MOST):
            said = f"{name}.{thread}.{number}"
            journal.append(batches(said))
            with printing:
                print(said, flush=True)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Frail:
    """Real ports that say what they are about to do, and end the process at one of their effects."""

    def __init__(self, folder: Path, die_at: int, *, after: bool) -> None:
        self.journal = SqliteJournal(folder / "journal.db")
        self.lake = DeltaLake(str(folder / "lake"))
        self.waiting, self.known, self.last, self.append = (
            self.journal.waiting, self.journal.known, self.journal.last, self.journal.append,
        )  # fmt: skip
        self.added, self.read, self.version, self.tidy = (
            self.lake.added, self.lake.read, self.lake.version, self.lake.tidy,
        )  # fmt: skip
        self._left, self._after = die_at, after

    def _effect(self, name: str, do: Callable[[], None]) -> None:
        self._left -= 1
        print(name, flush=True)
        if self._left == 0 and not self._after:
            os._exit(9)
        do()
        if self._left == 0:
            os._exit(9)

    def forget(self, upto: int, taken: Mapping[Table, Mapping[str, str]]) -> None:
        """The journal's, with a fault point."""
        self._effect("forget", lambda: self.journal.forget(upto, taken))

    def add(self, table: Table, rows: pl.DataFrame, *, source: str, batch: int) -> None:
        """The lake's, with a fault point."""
        self._effect(f"add {table}", lambda: self.lake.add(table, rows, source=source, batch=batch))


def move(folder: Path, most_rows: int, die_at: int, when: str) -> None:
    """Move everything that waits; `die_at` 0 lives."""
    ports = Frail(folder, die_at, after=when == "after")
    how = Collecting(RULES, source=ports.journal.key, most_rows=most_rows)
    while collect(ports, ports, how, schema=SCHEMA, closed_until=None).upto:
        pass
    ports.journal.close()


def main(orders: Sequence[str]) -> None:
    """`append FOLDER NAME` or `move FOLDER MOST_ROWS DIE_AT before|after`."""
    folder = Path(orders[1])
    if orders[0] == "append":
        append(folder, orders[2])
    else:
        move(folder, int(orders[2]), int(orders[3]), orders[4])


if __name__ == "__main__":
    main(sys.argv[1:])
