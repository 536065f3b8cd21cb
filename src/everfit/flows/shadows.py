"""A window of the bench whose labels have matured: what every kept model would have scored on it.

Takes where a model stands, the window and how windows are read; gives the fact `BenchScored`; never decides, and never
scores a model on rows that it learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from everfit.detect.catalogue import Metric
from everfit.detect.outcomes import Outcomes, outcomes_from
from everfit.detect.performance import level
from everfit.facts import BenchScored
from everfit.flows.bench import Turn, Turns, member_of
from everfit.flows.measure import Measure
from everfit.flows.scoring import outcomes_of
from everfit.judge.evidence import trivial_baseline
from everfit.lifecycle import State
from everfit.observe.labels import is_labelled, join
from everfit.observe.window import Span, mature_at
from everfit.ports import Lake, Table
from everfit.retrain.candidate import Candidate
from everfit.standing import Kept, Standing

MOST = 20_000  # rows scored in a window, evenly spaced: the error of an accuracy is then 0.4 points at most
Levels = tuple[float | None, float | None, float | None]


def labelled_rows(lake: Lake, spans: Sequence[Span], *, as_of: datetime) -> pl.DataFrame:
    """Rows of some spans whose labels had come by a moment, in the order of time."""
    parts = [lake.read(Table.PREDICTIONS, since=span.start, until=span.end).collect() for span in spans]
    labels = lake.read(Table.LABELS, since=spans[0].start - timedelta(days=1), until=None).collect()
    joined = join(pl.concat(parts, how="diagonal_relaxed"), labels, as_of=as_of)
    return joined.filter(is_labelled()).sort("_time", "_id")


def score_turn(standing: Standing, turns: Turns, turn: Turn, measure: Measure) -> BenchScored:
    """Score every kept model on a window of the bench. Rows that one of them answered alone keep what it answered."""
    spec, metric = measure.spec, measure.metrics[0]
    matured = mature_at(turn.span, spec.observe)
    rows = labelled_rows(measure.lake, [turn.span], as_of=matured)
    asked = rows[np.linspace(0, rows.height - 1, min(MOST, rows.height)).astype(np.int64)]
    kept = [each for each in standing.bench.values() if _can_be_scored(each, standing, turns, turn)]
    levels, failed = _levels(kept, asked, measure)
    known = any(fact.unit for fact, _ in standing.scored if fact.metric == metric.name)
    unit = None if metric.greater_is_better or known else best_constant(metric, asked, spec.task)
    ended = max(found.number for found in turns.found)
    before = standing.scored[-1][0].now if standing.scored else 0
    every_row = measure.lake.read(Table.PREDICTIONS, since=turn.span.start, until=turn.span.end)
    return BenchScored(
        number=turn.number, now=max(ended, before), every=turns.every, span=turn.span,
        rows=every_row.select(pl.col("_id").n_unique()).collect().item(), labelled=rows.height, metric=metric.name,
        greater_is_better=metric.greater_is_better, levels=levels, failed=failed, unit=unit,
    )  # fmt: skip


def best_constant(metric: Metric, rows: pl.DataFrame, task: str) -> float | None:
    """The loss of the best constant prediction on labelled rows; None where it is not defined, or 0.

    >>> from everfit.detect.performance import METRICS
    >>> best_constant(METRICS["mae"], pl.DataFrame({"_value": [1.0, 2.0, 6.0]}), "regression")
    1.6666666666666667
    """
    if task == "regression":
        truth = rows["_value"].drop_nulls()
        best = truth.mean() if metric.name == "rmse" else truth.median()
        scores, classes = np.full((rows.height, 1), best, dtype=np.float64), ()
    else:
        classes = tuple(rows["_label"].drop_nulls().unique().sort())
        scores = trivial_baseline(rows["_label"].to_list(), rows.height, task=task, classes=classes)
    constant = rows.with_columns(_score=pl.Series(scores.tolist(), dtype=pl.List(pl.Float64)))
    found = level(metric, outcomes_from(constant, task=task, classes=classes)) if rows.height else None
    return found or None


def _can_be_scored(kept: Kept, standing: Standing, turns: Turns, turn: Turn) -> bool:
    return kept.state is not State.FAILED and member_of(kept, standing, turns).last < turn.number


def _levels(kept: Sequence[Kept], rows: pl.DataFrame, measure: Measure) -> tuple[dict[str, Levels], dict[str, str]]:
    """By candidate the metric on all, even and odd rows, or why it could not be scored."""
    if rows.is_empty() or measure.shadows is None:
        return {each.candidate.id: (None, None, None) for each in kept}, {}
    alone = [each for each in kept if _answered_alone(rows, each.candidate)]
    others = [each for each in kept if each not in alone]
    told = measure.shadows(others, rows) if others else {}
    told = {**told, **{each.candidate.id: rows.select("_score") for each in alone}}
    candidates = {each.candidate.id: each.candidate for each in kept}
    levels = {
        key: _read(rows, said, candidates[key], measure) for key, said in told.items() if not isinstance(said, str)
    }
    return levels, {key: said for key, said in told.items() if isinstance(said, str)}


def _answered_alone(rows: pl.DataFrame, candidate: Candidate) -> bool:
    """Whether the server answered all rows with one model: then these answers are its scores."""
    return bool(((rows["_model"] == candidate.id) & rows["_score"].is_not_null()).fill_null(value=False).all())


def _read(rows: pl.DataFrame, said: pl.DataFrame, candidate: Candidate, measure: Measure) -> Levels:
    scored = rows.with_columns(said["_score"])
    metric = measure.metrics[0]
    parts: tuple[Outcomes, Outcomes, Outcomes] = (
        outcomes_of(scored, candidate),
        outcomes_of(scored[::2], candidate),
        outcomes_of(scored[1::2], candidate),
    )
    whole, even, odd = (level(metric, part) for part in parts)
    return whole, even, odd
