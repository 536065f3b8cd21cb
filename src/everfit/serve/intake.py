"""Rows taken in over HTTP: predictions that were made elsewhere, and labels.

Takes a body; gives a receipt after the rows are safe in the journal, the refused ones beside the others;
never acknowledges a row that a power cut could still lose.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import polars as pl

from everfit.errors import Refused
from everfit.ids import issued_id
from everfit.observe.intake import Taken, take_labels, take_predictions
from everfit.observe.shadow import MARKS, is_shadow, take_shadow
from everfit.ports import Batch, Table
from everfit.serve.rows import ARROW, check_ids, from_arrow, from_records, read_json
from everfit.serve.serving import Serving


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of rows."""

    acknowledged: int
    refused: int
    reasons: dict[str, int]  # why rows were refused, and how many
    number: int  # the journal's number; `/v1/clock` says when it is settled

    def plain(self) -> dict[str, Any]:
        """As the answer's body."""
        return {
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "reasons": self.reasons,
            "number": self.number,
        }


def take_in(table: Table, body: bytes, content_type: str, serving: Serving) -> Receipt:
    """Take rows of a body into the journal, in one commit.

    Raises:
        Refused: the body cannot be read at all; nothing of it was taken.
        DiskFull: nothing was taken.
    """
    rows = _rows(body, content_type)
    if rows.is_empty():
        return Receipt(0, 0, {}, serving.journal.last())
    parts = _taken(table, rows, serving)
    batches = [Batch(each, taken.rows) for each, taken in parts.items()]
    refused = pl.concat([taken.refused for taken in parts.values()])
    number = serving.journal.append([batch for batch in (*batches, Batch(Table.REFUSED, refused)) if batch.rows.height])
    return Receipt(sum(batch.rows.height for batch in batches), refused.height, _reasons(refused), number)


def _rows(body: bytes, content_type: str) -> pl.DataFrame:
    if content_type == ARROW:
        return from_arrow(body)
    told = read_json(body)
    return from_records(told["rows"] if isinstance(told, dict) and "rows" in told else told)


def _taken(table: Table, rows: pl.DataFrame, serving: Serving) -> dict[Table, Taken]:
    """The rows, by the table that they belong to."""
    check_ids(rows, serving.rules.id or "_id")
    if table is Table.LABELS:
        return {table: take_labels(rows, serving.rules, serving.limit())}
    if nested := [name for name, dtype in rows.schema.items() if dtype.is_nested() and name != "_score"]:
        raise Refused(f"field {nested[0]!r} holds lists or objects; send one plain value a row")
    aside, answers = is_shadow(rows), rows.drop(MARKS, strict=False)
    taken: dict[Table, Taken] = {
        table: take_predictions(answers.filter(~aside), serving.rules, serving.limit(), issued_id)
    }
    if aside.any():
        taken[Table.SHADOW] = take_shadow(rows.filter(aside), serving.rules, serving.limit(), issued_id)
    return taken


def _reasons(refused: pl.DataFrame) -> dict[str, int]:
    columns, reasons = refused["_column"].to_list(), refused["_reason"].to_list()
    said = (f"{column}: {reason}" if column else str(reason) for column, reason in zip(columns, reasons, strict=True))
    return dict(Counter(said).most_common())
