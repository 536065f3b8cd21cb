"""What is compared: two models on the same rows, or a candidate and a trivial baseline.

Takes outcomes of both on rows that neither was trained on; gives `Evidence`; never judges it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everfit.detect.catalogue import Metric, name_of
from everfit.detect.performance import Outcomes, level, paired_gain
from everfit.judge.verdict import Evidence, Interval
from everfit.observe.window import Span

BASELINE = "baseline"  # what the first champion is held against: it knows the training labels and no feature


@dataclass(frozen=True, slots=True)
class Case:
    """Who is compared with whom, by what."""

    candidate: str
    against: str  # candidate id of the champion, or BASELINE
    metric: Metric | str
    also: tuple[Metric | str, ...] = ()  # metrics that are shown and do not decide
    span: Span | None = None  # event time of the rows


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured besides the scores; None: it was not."""

    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # column -> its value in each row
    size: int | None = None  # bytes of the candidate's files
    latency_p99: timedelta | None = None  # of the candidate, for a request of one row


def gather(case: Case, candidate: Outcomes, against: Outcomes, confidence: float) -> Evidence:
    """Compare on the same rows: levels of both, and the paired gain where the rows allow an interval.

    >>> truth = np.arange(400) % 2
    >>> sure = np.stack([1 - truth, truth], axis=1) * 1.0
    >>> a = Outcomes(truth, sure, ("0", "1"), "1", "binary", np.arange(400) // 8)
    >>> evidence = gather(Case("c2", "c1", "accuracy"), a, replace(a, scores=1 - sure), 0.95)
    >>> evidence.gain, evidence.rows
    (Interval(value=1.0, low=1.0, high=1.0), 400)
    """
    metrics = (case.metric, *(each for each in case.also if name_of(each) != name_of(case.metric)))
    gain = paired_gain(case.metric, candidate, against, confidence=confidence)
    return Evidence(
        candidate=case.candidate,
        against=case.against,
        rows=candidate.rows,
        span=case.span,
        metric=name_of(case.metric),
        gain=None if gain is None else Interval(*gain),
        candidate_levels=_levels(metrics, candidate),
        against_levels=_levels(metrics, against),
    )


def same_rows(a: Outcomes, b: Outcomes) -> bool:
    """Whether two outcomes can be of the same rows: their truths are equal, one by one."""
    return bool(np.array_equal(a.truth, b.truth))


def of_slice(outcomes: Outcomes, rows: NDArray[np.bool_]) -> Outcomes:
    """The outcomes of some of the rows."""
    return replace(outcomes, truth=outcomes.truth[rows], scores=outcomes.scores[rows], blocks=outcomes.blocks[rows])


def trivial_baseline(
    train_labels: Sequence[Any], rows: int, *, task: str, classes: Sequence[str] = ()
) -> NDArray[np.float64]:
    """Scores of a model that knows the training labels only: the shares of the classes, or the median.

    >>> trivial_baseline(["1", "0", "0", "0"], 1, task="binary", classes=("0", "1")).tolist()
    [[0.75, 0.25]]
    >>> trivial_baseline([1.0, 2.0, 9.0], 2, task="regression").tolist()
    [[2.0], [2.0]]
    """
    if task == "regression":
        return np.full((rows, 1), float(np.median(np.asarray(train_labels, dtype=np.float64))))
    labels = np.asarray(train_labels, dtype=str)
    counts = np.array([(labels == name).sum() for name in classes], dtype=np.float64)
    return np.tile(counts / max(counts.sum(), 1.0), (rows, 1))


def _levels(metrics: Sequence[Metric | str], outcomes: Outcomes) -> dict[str, float]:
    """Levels of the metrics that these rows define."""
    found = {name_of(metric): level(metric, outcomes) for metric in metrics}
    return {name: value for name, value in found.items() if value is not None}
