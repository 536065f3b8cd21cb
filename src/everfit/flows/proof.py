"""What a proof leaves behind besides its verdict: everything that windows of the live model are held to.

Takes the rows behind a candidate and its scores of those that prove it; gives a reference and a `Backdrop` for the
ledger; never looks at a row that came after the proof.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import polars as pl

from everfit.detect.backdrop import Backdrop
from everfit.detect.battery import Arrivals, read_quality
from everfit.detect.decay import Baseline, learn
from everfit.detect.estimate import learn_estimator
from everfit.detect.faults import reached_by
from everfit.detect.options import Watching
from everfit.detect.outcomes import Outcomes, outcomes_from, with_outcome
from everfit.detect.proven import FEWEST, Seasons
from everfit.detect.signal import Signal
from everfit.detect.together import learn_crowd
from everfit.detect.usual import learn_usual
from everfit.observe.options import Kind
from everfit.observe.schema import Schema
from everfit.observe.window import cut_windows, cycles, place_of
from everfit.ports import Notes
from everfit.profile.table import ANSWERS, Profile, learn_bins, portray
from everfit.retrain.candidate import Candidate
from everfit.spec import Spec

FEATURES, SCORES = "features", "score"  # drift monitors: scores are known of the proving rows only
MOST_WINDOWS = 90  # latest windows behind a champion that say what is usual: with more, power hardly grows
MOST_BEHIND = 500_000  # latest training rows among which they are
CROWD = 30  # windows whose rows say how columns hang together
FEWEST_TOGETHER = 10  # of them; with fewer nothing is known of how far days lie apart


@dataclass(frozen=True, slots=True)
class Proving:
    """The rows of a proof."""

    train: pl.DataFrame  # that the candidate was trained on
    scored: pl.DataFrame  # that prove it, with its `_score`
    candidate: Candidate

    def outcomes(self, rows: pl.DataFrame) -> Outcomes:
        """Truth beside scores, of some of the proving rows."""
        made = self.candidate
        return outcomes_from(rows, task=made.task, classes=made.classes, positive=made.positive)


def backdrop(proving: Proving, spec: Spec, notes: Notes, importance: Mapping[str, float]) -> tuple[str, Backdrop]:
    """Portray the rows behind a candidate, and learn how their windows differ from each other.

    The bins come from all of these rows, the reference from the proving ones, on which the model was proven. What is
    usual of features comes from both; that of scores, and what was proven, from the proving rows alone, for a model is
    surer of rows that it was trained on.

    Returns:
        The key of the reference among the notes, and the rest.
    """
    train, scored, schema = proving.train, proving.scored, proving.candidate.schema
    behind = pl.concat(
        [train.sort("_time").tail(MOST_BEHIND).drop(ANSWERS, strict=False), scored], how="diagonal_relaxed"
    )
    candidate = proving.candidate  # of two classes the score says what is predicted
    named = replace(schema, classes=candidate.classes)
    bins = learn_bins(behind, named, predictions=candidate.task == "multiclass")
    reference, parts = portray(scored, bins), _windows(behind, spec)
    answered = _windows(scored, spec)
    plain = only(reference, of_scores=False)
    told = bins.columns.keys() - plain.columns.keys()
    healthy = {
        FEATURES: ([portray(part, bins, of=plain.columns) for part in parts], parts),
        SCORES: ([portray(part, bins, of=told) for part in answered], answered),
    }
    usual = {
        name: notes.put(learn_usual(its, places=_places(rows, spec), periods=_cycles(spec)).to_bytes())
        for name, (its, rows) in healthy.items()
        if its
    }
    found = Backdrop(
        usual, _worst(healthy[FEATURES][0], plain, spec.watch), reached_by(healthy[FEATURES][0], plain),
        _proven(proving, answered, spec), importance=dict(importance),
    )  # fmt: skip
    held_out = with_outcome(scored, task=proving.candidate.task, classes=proving.candidate.classes)
    estimator = learn_estimator(proving.outcomes(held_out), held_out, schema)
    found = replace(found, estimator=notes.put(estimator.to_bytes()), crowds=_crowds(parts, schema, notes))
    return notes.put(reference.to_bytes()), found


def only(profile: Profile, *, of_scores: bool) -> Profile:
    """A profile of the features alone, or of the score alone."""
    return replace(profile, columns={n: c for n, c in profile.columns.items() if (n in ANSWERS) == of_scores})


def _windows(rows: pl.DataFrame, spec: Spec) -> list[pl.DataFrame]:
    """Windows of rows, the latest, without those that touch an event that was named ahead: the watch tells as much."""
    parts = cut_windows(rows, spec.observe, at_least=spec.watch.at_least)
    named = [(event.since, event.to) for event in spec.watch.expected]
    plain = [p for p in parts if not any(since <= p["_time"][-1] and p["_time"][0] < to for since, to in named)]
    return plain[-MOST_WINDOWS:]


def _places(parts: Iterable[pl.DataFrame], spec: Spec) -> list[int] | None:
    places = [place_of(part["_time"][0], spec.observe) for part in parts]
    known = [place for place in places if place is not None]
    return known if len(known) == len(places) else None


def _cycles(spec: Spec) -> list[int]:
    return cycles(spec.observe, spec.watch.seasons)


def _proven(proving: Proving, parts: list[pl.DataFrame], spec: Spec) -> Baseline | None:
    """What a candidate proved by the primary metric, and how its windows differ; None where the rows say too little.

    Where the proving rows are fewer than five windows they are cut into five parts: days are then not told apart from
    rows, and the state says `learning` for long.
    """
    if len(parts) < FEWEST:
        ordered = proving.scored.sort("_time")
        size = ordered.height // FEWEST
        if size == 0:
            return None
        parts = [ordered[at * size : (at + 1) * size] for at in range(FEWEST)]
    windows, places = [proving.outcomes(part) for part in parts], _places(parts, spec)
    weekly = max(_cycles(spec), default=1)
    seasons = Seasons(weekly, tuple(places)) if places and len(set(places)) == len(places) else Seasons()
    found = learn(spec.primary, windows, tolerance=spec.watch.tolerance, seasons=seasons)
    return found if isinstance(found, Baseline) else None


def _crowds(parts: list[pl.DataFrame], schema: Schema, notes: Notes) -> dict[str, str]:
    """What healthy rows look like together, and the vectors of each column that holds some."""
    if len(parts) < FEWEST_TOGETHER:
        return {}
    vectors = [column.name for column in schema.features if column.kind is Kind.VECTOR]
    return {name: notes.put(learn_crowd(parts[-CROWD:], schema, column=name).to_bytes()) for name in ("*", *vectors)}


def _worst(windows: Iterable[Profile], reference: Profile, options: Watching) -> dict[str, dict[str, float]]:
    """The highest share of each reading of quality in healthy windows: a fault is a jump over it."""
    worst: dict[str, dict[str, float]] = {}
    for window in windows:
        for reading in read_quality(window, reference, Arrivals(), options):
            if isinstance(reading, Signal) and reading.column != "*":
                columns = worst.setdefault(reading.name, {})
                columns[reading.column] = max(columns.get(reading.column, 0.0), reading.value)
    return worst
