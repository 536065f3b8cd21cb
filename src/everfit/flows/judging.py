"""A candidate and what it is held against, on the same rows: the verdict, and what the live model is held to.

Takes where a model stands and who is to be judged; gives the fact `Judged`; never looks at a row that one of both
learned from. A fresh candidate is judged on its held-out rows; a kept one that the bench calls back, on the windows of
the bench that came after both had been trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from everfit.detect.catalogue import Metric
from everfit.detect.harm import Permuted, importance_from, permuted
from everfit.detect.outcomes import Outcomes
from everfit.detect.performance import level
from everfit.facts import Judged
from everfit.flows.durable import Alive
from everfit.flows.proof import Proving, backdrop
from everfit.flows.scoring import Scoring, outcomes_of, same_order
from everfit.judge.evidence import BASELINE, Case, Measured, trivial_baseline
from everfit.judge.gates import BenchWord
from everfit.judge.prove import judge_candidate
from everfit.observe.window import Span, cut_windows
from everfit.retrain.candidate import Candidate
from everfit.retrain.dataset import trained_on
from everfit.retrain.recipe import Recipe
from everfit.spec import Spec
from everfit.standing import Kept


@dataclass(frozen=True, slots=True)
class Matter:
    """What is judged on which rows."""

    run: str
    candidate: Candidate
    recipe: Recipe
    train: pl.DataFrame  # that the candidate learned from
    rows: pl.DataFrame  # labelled ones that prove it
    span: Span  # their event time
    against: Kept | None  # None: the trivial baseline
    word: BenchWord | None = None  # of the bench, where it stands for the paired interval


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges candidates of one spec."""

    spec: Spec
    scoring: Scoring
    metrics: tuple[Metric, ...]  # the primary one first

    def judged(self, matter: Matter, alive: Alive) -> Judged:
        """Compare, and learn what windows of the live model are held to."""
        candidate, rows = matter.candidate, matter.rows
        asked, moved = asked_of(rows, matter.recipe)
        answered = self.scoring.scored(matter.run, candidate, asked, matter.recipe, alive)
        scored = answered[: rows.height]
        outcomes = outcomes_of(scored, candidate)
        against, name = self._against(matter, scored, alive)
        case = Case(candidate.id, name, self.metrics[0], self.metrics, matter.span)
        measured = self._measured(scored, candidate)
        verdict = judge_candidate(case, outcomes, against, self.spec.judge, measured, word=matter.word)
        importance = {}
        if outcomes.rows == rows.height:
            scores = np.array(answered["_score"][rows.height :].to_list(), dtype=np.float64)
            importance = importance_from(moved, scores, outcomes, self.metrics[0])
        proving = Proving(matter.train, scored, candidate)
        reference, rest = backdrop(proving, self.spec, self.scoring.ports.notes, importance)
        return Judged(verdict, reference, self._per_window(scored, candidate), rest)

    def _against(self, matter: Matter, scored: pl.DataFrame, alive: Alive) -> tuple[Outcomes, str]:
        champion, candidate = matter.against, matter.candidate
        if champion is None:
            return self._baseline(matter.train, scored, candidate), BASELINE
        theirs = self.scoring.scored(matter.run, champion.candidate, matter.rows, matter.recipe, alive)
        return outcomes_of(same_order(theirs, champion.candidate, candidate), candidate), champion.candidate.id

    def _baseline(self, train: pl.DataFrame, scored: pl.DataFrame, candidate: Candidate) -> Outcomes:
        truth = "_value" if candidate.task == "regression" else "_label"
        scores = trivial_baseline(train[truth].to_list(), scored.height, task=candidate.task, classes=candidate.classes)
        return outcomes_of(scored.with_columns(_score=pl.Series(scores.tolist(), dtype=pl.List(pl.Float64))), candidate)

    def _per_window(self, scored: pl.DataFrame, candidate: Candidate) -> dict[str, float]:
        """The mean level in windows of the proving rows. A metric of a week is not the mean of its days'.

        On the demo's year ROC AUC is 0.757 over all rows and 0.695 as the mean of the days: `everfit demo` prints both.
        """
        parts = cut_windows(scored, self.spec.observe, at_least=self.spec.watch.at_least)
        whole = [outcomes_of(part, candidate) for part in parts]
        levels = {metric.name: [level(metric, each) for each in whole] for metric in self.metrics}
        found = {metric: [value for value in values if value is not None] for metric, values in levels.items()}
        return {metric: sum(values) / len(values) for metric, values in found.items() if values}

    def _measured(self, scored: pl.DataFrame, candidate: Candidate) -> Measured:
        slices = {name: scored[name].to_numpy() for name in self.spec.judge.slices.by if name in scored.columns}
        latency = None
        if "_latency_ms" in scored.columns and (timed := scored["_latency_ms"].drop_nulls()).len():
            latency = timedelta(milliseconds=float(np.quantile(timed.to_numpy(), 0.99)))
        return Measured(slices=slices, size=candidate.file.size, latency_p99=latency)


def asked_of(rows: pl.DataFrame, recipe: Recipe) -> tuple[pl.DataFrame, Permuted]:
    """Rows that a candidate is asked about: those that prove it, then some of them with one column permuted."""
    moved = permuted(rows, trained_on(recipe))
    return pl.concat([rows, moved.frame]), moved
