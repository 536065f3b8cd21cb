"""From asked rows to an answer and to the rows of the prediction log.

Takes rows as a client sent them and the model that answers now; gives an `Answer` with its log batch, or a
`Denial` or `Failure` with the record that is kept of it; never scores a row that does not fit the model's features.

Two ways have one outcome: `check` and `answer` for one request in any form, `score_stack` for the plain rows of many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from everfit.clock import ticks
from everfit.errors import ModelUnusable
from everfit.ids import issued_id
from everfit.observe.intake import FAILED, PREDICTION_COLUMNS, REFUSED_COLUMNS, payloads, take_predictions
from everfit.observe.schema import Schema, conform, frame_dtypes
from everfit.ports import Batch, Table
from everfit.serve.body import Framed, Stacked
from everfit.serve.plain import Layout, Portion, Stack
from everfit.serve.protocol import Answered, Asked, Face, face_of
from everfit.serve.rival import Rival, rival_of
from everfit.serve.routing import Served
from everfit.serve.rows import check_ids, column
from everfit.serve.serving import Serving

VARIANT = "champion"


@dataclass(frozen=True, slots=True)
class Current:
    """What answers now, with what can be worked out of it once."""

    served: Served
    face: Face
    layout: Layout
    rival: Rival | None = None  # what is tried beside it


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows that fit the model, before they are scored."""

    body: Framed
    asked: pl.DataFrame  # as they came
    keys: list[Any] | None  # what a trial splits by; None where they have no such column


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows were scored."""

    answered: Answered
    log: Batch


@dataclass(frozen=True, slots=True)
class Denial:
    """Rows could not be scored, by the client's fault. What is kept shows changes upstream as data faults."""

    said: str
    log: Batch


@dataclass(frozen=True, slots=True)
class Failure:
    """The model failed on rows that fit. What is kept shows how often a version fails."""

    error: ModelUnusable
    log: Batch


def current_of(served: Served, serving: Serving) -> Current:
    """Work out what every answer of a model needs."""
    signature, route = served.model.signature, served.route
    face = face_of(signature, route.version, served.model.candidate)
    trial, challenger, rival = route.trial, served.challenger, None
    if trial is not None and challenger is not None:
        theirs = face_of(challenger.signature, trial.version, trial.candidate)
        rival = rival_of(trial, challenger, theirs, face)
    return Current(served, face, Layout(signature.schema, serving.rules, serving.key), rival)


def score_stack(stack: Stack, now: Current) -> tuple[Answered, np.ndarray]:
    """Score the plain rows of many requests at once: what is answered, and the scores.

    Raises:
        ModelUnusable: the model failed; nobody knows on which row.
    """
    scores = Stacked(stack).score(now.served.model)
    return Answered(now.face, stack.ids, now.face.predictions(scores), now.face.scores(scores)), scores


def portion_of(stack: Stack, scores: np.ndarray, now: Current, latencies: list[float]) -> Portion:
    """What the log keeps of a scored stack; `latencies` are milliseconds, one a row."""
    return Stacked(stack).part(scores, now.face, VARIANT, latencies)


def check(asked: Asked, now: Current, serving: Serving) -> Checked | Denial:
    """Judge every value of rows."""
    schema = now.face.signature.schema
    if asked.rows.is_empty():
        return Checked(Framed(pl.DataFrame(schema=_dtypes(schema)), schema.names()), asked.rows, None)
    envelope = _envelope(asked, schema, serving)
    check_ids(envelope, serving.rules.id or "_id")
    if absent := [name for name in schema.names() if name not in asked.rows.columns]:
        faults = [(place, "missing", absent[0]) for place in range(asked.rows.height)]
        kept = _kept(asked.rows, faults, serving)
        return Denial(_said(kept, absent), Batch(Table.REFUSED, kept))
    taken = take_predictions(envelope, serving.rules, serving.limit(), issued_id)
    if taken.refused.height:
        return Denial(_said(taken.refused, ()), Batch(Table.REFUSED, taken.refused))
    conformed = conform(taken.rows.drop("_score", "_prediction", strict=False), schema)
    if conformed.refused.height:
        kept = _kept(asked.rows, conformed.refused.rows(), serving)
        return Denial(_said(kept, ()), Batch(Table.REFUSED, kept))
    keys = asked.rows[serving.key].to_list() if serving.key in asked.rows.columns else None
    return Checked(Framed(conformed.rows, schema.names()), asked.rows, keys)


def answer(checked: Checked, now: Current, serving: Serving, began: float) -> Answer | Failure:
    """Score rows that fit, and write down. `began` are the ticks at which the request came."""
    body, face = checked.body, now.face
    try:
        scores = body.score(now.served.model)
    except ModelUnusable as error:
        failed = [(place, FAILED, None) for place in range(checked.asked.height)]
        kept = _kept(checked.asked, failed, serving).with_columns(body.frame["_time"])
        return Failure(error, Batch(Table.REFUSED, kept))
    answered = Answered(face, body.ids, face.predictions(scores), face.scores(scores))
    return Answer(answered, body.part(scores, face, VARIANT, [(ticks() - began) * 1000] * len(body.ids)))


def _dtypes(schema: Schema) -> dict[str, pl.DataType]:
    ours = {name: PREDICTION_COLUMNS[name] for name in ("_id", "_time", "_arrived")}
    return ours | frame_dtypes(schema)


def _envelope(asked: Asked, schema: Schema, serving: Serving) -> pl.DataFrame:
    # Only what we know of: a column beyond the features must not be refused for its name, nor logged.
    rules, rows = serving.rules, asked.rows
    known = {*schema.names(), rules.time, rules.id, "_id", "_time"}
    kept = rows.select(name for name in rows.columns if name in known)
    if asked.ids is not None and (rules.id or "_id") not in kept.columns:
        kept = kept.with_columns(column(rules.id or "_id", asked.ids))
    if asked.times is not None and rules.time not in kept.columns:
        kept = kept.with_columns(column(rules.time, asked.times))
    if rules.time not in kept.columns and "_time" not in kept.columns:
        at = _always(rules.time, serving.clock.now(), rows.height)
        # A frame without columns has no height: a request of fields that nobody knows is still so many rows.
        kept = kept.with_columns(at) if kept.columns else at.to_frame()
    return kept


def _kept(rows: pl.DataFrame, faults: Sequence[tuple[int, str, str | None]], serving: Serving) -> pl.DataFrame:
    """The record of rows that got no answer: place, reason and column of each fault."""
    now = serving.clock.now()
    return pl.DataFrame(
        {
            "_table": [Table.PREDICTIONS.value] * len(faults),
            "_reason": [reason for _, reason, _ in faults],
            "_column": [name for _, _, name in faults],
            "_payload": payloads(rows[[place for place, _, _ in faults]]),
            "_time": [now] * len(faults),
            "_arrived": [now] * len(faults),
        },
        schema={name: dtype for name, dtype in REFUSED_COLUMNS.items() if name != "_day"},
    )


def _said(refused: pl.DataFrame, missing: list[str] | tuple[()]) -> str:
    if missing:
        listed = ", ".join(repr(name) for name in missing)
        return f"missing features: {listed}; send each feature of the model (null where it is not known)"
    found = Counter(refused.select("_column", "_reason").iter_rows())
    told = [f"field {name!r}: {reason} in {count} rows" for (name, reason), count in found.most_common(5)]
    return "; ".join(told)


def _always(name: str, value: object, rows: int) -> pl.Series:
    return pl.Series(name, [value], dtype=PREDICTION_COLUMNS["_time"]).new_from_index(0, rows)
