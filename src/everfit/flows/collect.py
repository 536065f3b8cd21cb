"""Moving: what waits in the journal becomes rows of the lake, each event once.

Takes the ports, the model's rules and what is known of it; gives an account of what was moved; never moves
a row twice, whatever was killed in between, and drops a batch from the journal only when the lake has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

import polars as pl

from everfit.errors import Refused
from everfit.observe.intake import (
    LABEL_COLUMNS,
    PREDICTION_COLUMNS,
    REFUSED_COLUMNS,
    SHADOW_COLUMNS,
    Rules,
    payloads,
)
from everfit.observe.options import FeatureOptions
from everfit.observe.schema import Schema, conform, frame_dtypes, learn
from everfit.ports import Batch, Journal, Lake, Table

LEARN_FROM = 200  # rows from which the columns are learned: fewer say too little of a rarely filled column
DUPLICATE = "duplicate: this id was taken before"
OTHER_LABEL = "a different label for this id was taken before"
_UNTIMED = datetime(1970, 1, 1, tzinfo=UTC)  # the day under which refused rows without any time are kept
_OF = ("_batch", "_place")  # where a row waits: its batch's number and its place there


@dataclass(frozen=True, slots=True)
class Collecting:
    """What collecting goes by."""

    rules: Rules
    source: str  # names the journal in the lake: the journal's own key, for its numbers mean nothing elsewhere
    features: FeatureOptions = field(default_factory=FeatureOptions)
    most_rows: int = 200_000  # moved at once


@dataclass(frozen=True, slots=True)
class Collected:
    """What was moved."""

    schema: Schema | None  # None: too few rows yet to learn it
    learned: bool = False  # just now: nothing was moved; write the schema down, then collect again
    rows: int = 0  # predictions
    labels: int = 0
    shadow: int = 0  # what a challenger said of rows, or that it failed on them
    duplicates: int = 0  # events that were there already
    conflicts: int = 0  # labels that contradict the one taken first; among the refused
    refused: int = 0
    late: int = 0  # predictions of windows that were closed already
    newest: datetime | None = None  # event time of the newest prediction moved
    newest_label: datetime | None = None  # arrival of the newest label moved
    upto: int = 0  # the last batch moved now; 0: nothing was moved
    settled: int = 0  # every batch up to this number is safe in the lake, by this call or an earlier one
    missing: tuple[str, ...] = ()  # features that did not come in some batch
    extra: tuple[str, ...] = ()  # columns that came and are no features


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Predictions that fit, and what did not."""

    rows: pl.DataFrame
    refused: list[pl.DataFrame]
    missing: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Rows that are new, their fingerprints, and what was left out."""

    rows: pl.DataFrame
    said: Mapping[str, str]
    again: pl.DataFrame  # came before, and say nothing else
    contradicting: pl.DataFrame


def collect(
    journal: Journal,
    lake: Lake,
    how: Collecting,
    *,
    schema: Schema | None,
    closed_until: datetime | None,
    learn_now: bool = False,
) -> Collected:
    """Move waiting batches into the lake, each event once, oldest first.

    Killed between any two steps and called again, the result is the same: what is chosen from a batch
    depends only on the batches before it, and the lake knows which it has.

    Args:
        journal: where rows wait.
        lake: where they go.
        how: the rules, the source's name and sizes.
        schema: the model's columns; None to learn them from what waits.
        closed_until: the end of the last closed window; predictions before it are marked late.
        learn_now: learn the columns from however few rows there are.
    """
    last = journal.last()  # before looking: what comes while we look is not ours to call settled
    waiting = journal.waiting(how.most_rows)
    if not waiting:
        return Collected(schema, settled=last)
    if schema is None:
        return _learned(waiting, how, learn_now=learn_now)
    fitted = _fit([batch for batch in waiting if batch.table is Table.PREDICTIONS], schema)
    predictions = _choose(fitted.rows, journal, Table.PREDICTIONS)
    labels = _choose(_joined(_of(waiting, Table.LABELS), LABEL_COLUMNS), journal, Table.LABELS)
    refused = [_joined(_of(waiting, Table.REFUSED), REFUSED_COLUMNS), *fitted.refused]
    if labels.contradicting.height:
        refused.append(_refusal(labels.contradicting, Table.LABELS, pl.lit(OTHER_LABEL), pl.lit(how.rules.target)))
    for chosen, table in ((predictions, Table.PREDICTIONS), (labels, Table.LABELS)):
        if chosen.again.height:  # counted per window from here; what they say is in the lake already
            refused.append(_refusal(chosen.again, table, pl.lit(DUPLICATE), pl.lit(None, dtype=pl.String)))
    late = pl.lit(False) if closed_until is None else pl.col("_time") < closed_until
    moved = predictions.rows.with_columns(_late=late, _day=pl.col("_time").dt.date())
    aside = pl.concat(refused).with_columns(pl.col("_arrived").fill_null(pl.col("_time")).fill_null(_UNTIMED))
    aside = aside.with_columns(_day=pl.col("_arrived").dt.date())
    told = labels.rows.with_columns(_day=pl.col("_arrived").dt.date())
    shadow = _joined(_of(waiting, Table.SHADOW), SHADOW_COLUMNS).with_columns(_day=pl.col("_time").dt.date())
    upto = waiting[-1].number
    parts = ((Table.REFUSED, aside), (Table.LABELS, told), (Table.SHADOW, shadow), (Table.PREDICTIONS, moved))
    for table, rows in parts:
        # A batch may be in the lake though the journal still has it: killed before it could forget.
        fresh = rows.filter(pl.col("_batch") > lake.added(table, how.source)).drop(_OF)
        if fresh.height:
            lake.add(table, fresh, source=how.source, batch=upto)
    journal.forget(upto, {Table.PREDICTIONS: predictions.said, Table.LABELS: labels.said})
    return Collected(
        schema,
        rows=moved.height,
        labels=told.height,
        shadow=shadow.height,
        duplicates=(twice := predictions.again.height + labels.again.height),
        conflicts=labels.contradicting.height,
        refused=aside.height - twice,
        late=int(moved["_late"].sum()),
        newest=_newest(moved["_time"]),
        newest_label=_newest(told["_arrived"]),
        upto=upto,
        settled=upto,
        missing=tuple(sorted(fitted.missing)),
        extra=tuple(sorted(fitted.extra)),
    )


def _learned(waiting: Sequence[Batch], how: Collecting, *, learn_now: bool) -> Collected:
    """The schema if enough rows wait. Nothing moves before it is written down: a kill would learn another."""
    frames = [batch.rows for batch in _of(waiting, Table.PREDICTIONS)]
    rows = sum(frame.height for frame in frames)
    enough = rows >= LEARN_FROM or rows >= how.most_rows or (learn_now and rows > 0)
    if not enough:
        return Collected(None)
    try:
        known = pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise Refused(
            f"the first rows contradict each other in a column's type ({error}); exclude that column"
        ) from error
    return Collected(learn(known, reserved=how.rules.reserved, options=how.features), learned=True)


def _of(waiting: Sequence[Batch], table: Table) -> list[Batch]:
    return [batch for batch in waiting if batch.table is table]


def _placed(batches: Sequence[Batch]) -> list[pl.DataFrame]:
    """Rows with the number of their batch and their place in it; batches of one shape are put together."""
    shaped = sorted(((str(batch.rows.schema), batch) for batch in batches), key=lambda pair: pair[0])
    frames = []
    for _, alike in groupby(shaped, key=lambda pair: pair[0]):
        numbered = [batch.rows.with_columns(_batch=pl.lit(batch.number, pl.Int64)) for _, batch in alike]
        frames.append(pl.concat(numbered).with_row_index("_place"))
    return frames


def _joined(batches: Sequence[Batch], columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Rows in the order in which they came, with exactly these columns."""
    wanted = {**columns, "_batch": pl.Int64(), "_place": pl.UInt32()}
    frames = [pl.DataFrame(schema=wanted)]
    for frame in _placed(batches):
        lacks = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in wanted.items() if name not in frame.columns]
        frames.append(frame.with_columns(lacks).select(pl.col(name).cast(dtype) for name, dtype in wanted.items()))
    return pl.concat(frames).sort(_OF)


def _fit(batches: Sequence[Batch], schema: Schema) -> _Fitted:
    """Give predictions the schema's columns and types; what does not fit is refused with its column."""
    columns = {**PREDICTION_COLUMNS, **frame_dtypes(schema)}
    wanted = {**columns, "_batch": pl.Int64(), "_place": pl.UInt32()}
    frames, refused = [pl.DataFrame(schema=wanted)], []
    missing: set[str] = set()
    extra: set[str] = set()
    for frame in _placed(batches):
        done = conform(frame, schema)
        missing |= set(done.missing)
        extra |= set(done.extra)
        lacks = [pl.lit(None, dtype=dtype).alias(n) for n, dtype in wanted.items() if n not in done.rows.columns]
        frames.append(done.rows.with_columns(lacks).select(pl.col(n).cast(dtype) for n, dtype in wanted.items()))
        if done.refused.height:
            bad = frame[done.refused["_index"].to_list()]
            reasons = done.refused.select("_reason", "_column")
            refused.append(_refusal(bad, Table.PREDICTIONS, reasons["_reason"], reasons["_column"]))
    return _Fitted(pl.concat(frames).sort(_OF), refused, frozenset(missing), frozenset(extra))


def _refusal(
    rows: pl.DataFrame, table: Table, reason: pl.Series | pl.Expr, column: pl.Series | pl.Expr
) -> pl.DataFrame:
    said = payloads(rows.drop(*_OF, "_model", "_version", "_variant", "_latency_ms", "_day", strict=False))
    time = pl.col("_time") if "_time" in rows.columns else pl.lit(None, dtype=REFUSED_COLUMNS["_time"])
    return rows.select(
        _table=pl.lit(table.value), _reason=reason, _column=column, _payload=said, _time=time,
        _arrived=pl.col("_arrived"), _day=pl.lit(None, dtype=pl.Date),
        _batch=pl.col("_batch"), _place=pl.col("_place"),
    )  # fmt: skip


def _choose(rows: pl.DataFrame, journal: Journal, table: Table) -> _Chosen:
    """One row for each id, the first that came; later ones are duplicates, or contradict it."""
    said = pl.lit("") if table is Table.PREDICTIONS else pl.coalesce("_label", pl.col("_value").cast(pl.String))
    marked = rows.with_columns(_said=said)
    known = journal.known(table, rows["_id"].unique().to_list()) if rows.height else {}
    before = pl.DataFrame(
        {"_id": list(known), "_known": list(known.values())}, schema={"_id": pl.String, "_known": pl.String}
    )
    marked = marked.join(before, on="_id", how="left", maintain_order="left")
    first = marked["_id"].is_first_distinct() & marked["_known"].is_null()
    truth = pl.coalesce("_known", pl.col("_said").first().over("_id"))
    differs = marked.select(differs=(pl.col("_said") != truth) & ~first)["differs"]
    chosen = marked.filter(first)
    return _Chosen(
        rows=chosen.drop("_said", "_known"),
        said=dict(chosen.select("_id", "_said").iter_rows()),
        again=marked.filter(~first & ~differs).drop("_said", "_known"),
        contradicting=marked.filter(differs).drop("_said", "_known"),
    )


def _newest(times: pl.Series) -> datetime | None:
    newest = times.max()
    return newest.astimezone(UTC) if isinstance(newest, datetime) else None
