"""From asked rows to an answer and to the rows of the prediction log.

Takes rows as a client sent them and the model that answers now; gives an `Answer` with its log batch, or a
`Denial` or `Failure` with the record that is kept of it; never scores a row that does not fit the model's features.

Two ways have one outcome: `predict` for one request in any form, `score_stack` for the plain rows of many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from everfit.clock import ticks
from everfit.errors import ModelUnusable
from everfit.ids import issued_id
from everfit.observe.intake import FAILED, PREDICTION_COLUMNS, REFUSED_COLUMNS, payloads, take_predictions
from everfit.observe.schema import Schema, conform, frame_dtypes
from everfit.ports import Batch, Table
from everfit.serve.plain import Layout, Portion, Stack
from everfit.serve.protocol import Answered, Asked, Face, face_of
from everfit.serve.routing import Served
from everfit.serve.rows import column
from everfit.serve.serving import Serving

VARIANT = "champion"
LOGGED = [name for name in PREDICTION_COLUMNS if name not in {"_late", "_day"}]  # the mover adds those two


@dataclass(frozen=True, slots=True)
class Current:
    """What answers now, with what can be worked out of it once."""

    served: Served
    face: Face
    layout: Layout


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
    return Current(served, face, Layout(signature.schema, serving.rules))


def score_stack(stack: Stack, now: Current) -> tuple[Answered, np.ndarray]:
    """Score the plain rows of many requests at once: what is answered, and the scores.

    Raises:
        ModelUnusable: the model failed; nobody knows on which row.
    """
    model = now.served.model
    if model.quick is None:
        scores = model.score(stack.frame())
    else:
        scores = model.score_plain(stack.numbers, stack.texts, stack.moments)
    return Answered(now.face, stack.ids, now.face.predictions(scores), now.face.scores(scores)), scores


def portion_of(stack: Stack, scores: np.ndarray, now: Current, latencies: list[float]) -> Portion:
    """What the log keeps of a scored stack; `latencies` are milliseconds, one a row."""
    signature, route = now.face.signature, now.served.route
    classes = signature.classes
    labels = [classes[place] for place in scores.argmax(axis=1).tolist()] if classes else None
    return Portion(stack, scores, labels, now.face.candidate, route.version, VARIANT, latencies)


def predict(asked: Asked, now: Current, serving: Serving, began: float) -> Answer | Denial | Failure:
    """Check, score, and write down. `began` are the ticks at which the request came."""
    schema = now.face.signature.schema
    if asked.rows.is_empty():
        return _answer(pl.DataFrame(schema=_dtypes(schema)), schema, now, began)
    envelope = _envelope(asked, schema, serving)
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
    try:
        return _answer(conformed.rows, schema, now, began)
    except ModelUnusable as error:
        failed = [(place, FAILED, None) for place in range(asked.rows.height)]
        kept = _kept(asked.rows, failed, serving).with_columns(conformed.rows["_time"])
        return Failure(error, Batch(Table.REFUSED, kept))


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
        kept = kept.with_columns(_always(rules.time, serving.clock.now(), rows.height))
    return kept


def _answer(rows: pl.DataFrame, schema: Schema, now: Current, began: float) -> Answer:
    model, names, face = now.served.model, schema.names(), now.face
    features = rows.select(names)
    scores = model.score(features) if rows.height else np.zeros((0, model.signature.width()))
    classes = np.array(model.signature.classes, dtype=object)
    labels = classes[scores.argmax(axis=1)].tolist() if classes.size else None
    said = pl.DataFrame(
        {"_score": scores.tolist(), "_prediction": labels or [None] * rows.height},
        schema={name: PREDICTION_COLUMNS[name] for name in ("_score", "_prediction")},
    )
    log = rows.select("_id", "_time", "_arrived").hstack(said).with_columns(
        pl.lit(model.candidate).alias("_model"),
        pl.lit(face.version, dtype=pl.Int64).alias("_version"),
        pl.lit(VARIANT).alias("_variant"),
        pl.lit((ticks() - began) * 1000, dtype=pl.Float64).alias("_latency_ms"),
    )  # fmt: skip
    answered = Answered(face, rows["_id"].to_list(), face.predictions(scores), face.scores(scores))
    return Answer(answered, Batch(Table.PREDICTIONS, log.select(LOGGED).hstack(features)))


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
