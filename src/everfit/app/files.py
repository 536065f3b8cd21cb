"""Files as a source of events: what `everfit ingest` and a `files` source bring into the journal.

Takes paths; gives what was acknowledged and refused; never takes the same file twice from a source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from everfit.adapters.sources import SourceFile, new_files, read_rows
from everfit.adapters.telemetry import logger
from everfit.errors import Refused, UsageError
from everfit.ids import content_key
from everfit.observe.intake import Rules, Taken, take_history, take_labels, take_predictions
from everfit.observe.options import FilesSource, HttpSource
from everfit.ports import Batch, Journal, Notes, Table

MEANINGS = ("auto", "history", "predictions", "labels")


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of a file."""

    predictions: int
    labels: int
    refused: int
    reasons: dict[str, int]
    number: int  # the journal's number; 0 if nothing was taken


@dataclass(frozen=True, slots=True)
class Receiving:
    """What taking a file needs."""

    rules: Rules
    journal: Journal
    notes: Notes
    now: Callable[[], datetime]  # labels without a time of their own arrive now


def bring_file(file: SourceFile, to: Receiving, meaning: str = "auto") -> Brought:
    """Read a file and make its rows durable, all of them or none.

    Raises:
        Refused: the file cannot be read, or is not what it should be.
    """
    rows = read_rows(file.path)
    if to.rules.id is not None and to.rules.id not in rows.columns:
        raise Refused(f"{file.path}: the id column {to.rules.id!r} is not there; columns: {', '.join(rows.columns)}")
    took = _take(rows, to, meaning, file)
    refused = pl.concat([taken.refused for _, taken in took])
    batches = [Batch(table, taken.rows) for table, taken in took if taken.rows.height]
    if refused.height:
        batches.append(Batch(Table.REFUSED, refused))
    number = to.journal.append(batches) if batches else 0
    counts = {table: taken.rows.height for table, taken in took}
    reasons = {reason: count for _, taken in took for reason, count in taken.reasons().items()}
    return Brought(counts.get(Table.PREDICTIONS, 0), counts.get(Table.LABELS, 0), refused.height, reasons, number)


def _take(rows: pl.DataFrame, to: Receiving, meaning: str, file: SourceFile) -> list[tuple[Table, Taken]]:
    rules = to.rules
    places = iter(range(rows.height))

    def issue() -> str:  # the same row of the same file has the same id, so that bringing it again changes nothing
        return content_key(file.key, next(places))

    match _meaning(rows, rules) if meaning == "auto" else meaning:
        case "history":
            predictions, labels = take_history(rows, rules, now=None, issue=issue)
            return [(Table.PREDICTIONS, predictions), (Table.LABELS, labels)]
        case "predictions":
            return [(Table.PREDICTIONS, take_predictions(rows, rules, None, issue))]
        case "labels":
            return [(Table.LABELS, take_labels(_arriving(rows, to), rules, None))]
        case other:
            raise UsageError(f"{other!r} is not a kind of file; kinds: {', '.join(MEANINGS)}")


def _arriving(rows: pl.DataFrame, to: Receiving) -> pl.DataFrame:
    """Labels with the time of their arrival: their own, or now."""
    if {"time", "arrived", to.rules.time} & set(rows.columns):
        return rows
    return rows.with_columns(arrived=pl.lit(to.now()))


def _meaning(rows: pl.DataFrame, rules: Rules) -> str:
    """What a file holds, by its columns."""
    features = set(rows.columns) - rules.reserved
    if rules.time in rows.columns and features:
        return "history" if rules.target in rows.columns else "predictions"
    if rules.id in rows.columns and {rules.target, "label"} & set(rows.columns):
        return "labels"
    wanted = f"predictions need {rules.time!r} and features; labels need {rules.id or 'an id'!r} and {rules.target!r}"
    raise Refused(f"cannot tell what this file holds: {wanted}; columns: {', '.join(rows.columns)}")


@dataclass(slots=True)
class Inbox:
    """The spec's source of files: every new file is picked up once."""

    source: HttpSource | FilesSource
    project: Path
    to: Receiving
    _told: dict[str, str] = field(default_factory=dict)  # files that cannot be read, and why: said once

    def bring(self) -> int:
        """Pick up what is new; how many files were taken."""
        if not isinstance(self.source, FilesSource):
            return 0
        taken = self._bring(self.source.path, "auto")
        return taken + (self._bring(self.source.labels, "labels") if self.source.labels else 0)

    def _bring(self, pattern: str, meaning: str) -> int:
        taken = 0
        for file in new_files(pattern, self.project):
            mark = f"file:{file.key}"
            if self.to.notes.marked(mark) is not None:
                continue
            try:
                brought = bring_file(file, self.to, meaning)
            except Refused as error:
                self._report(file, error)
                continue
            self.to.notes.mark(mark, file.path.name)
            taken += 1
            logger("inbox").info("file taken", file=file.path.name, rows=brought.predictions, labels=brought.labels)
        return taken

    def _report(self, file: SourceFile, error: Refused) -> None:
        """A file that cannot be read is looked at again when it changes, and reported once."""
        if self._told.get(str(file.path)) != file.key:
            self._told[str(file.path)] = file.key
            logger("inbox").error("file refused", file=file.path.name, reason=str(error))
