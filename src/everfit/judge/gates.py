"""The questions that a candidate must pass besides the primary one: slices, flips, size, latency.

Takes outcomes, options and measurements; gives gates, each with its sentence; never lets a question that
could not be asked count as passed where a limit was set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everfit.detect.catalogue import Metric, name_of
from everfit.detect.performance import Outcomes, level, paired_gain, positive_is_better
from everfit.judge.evidence import BASELINE, Case, Measured, of_slice
from everfit.judge.options import Judging, Limits, Slices
from everfit.judge.verdict import Evidence, Gate

MANY_DRAWS = 4000  # for the far tails that many slices ask for; 1,000 draws have too few points out there


def primary_gate(evidence: Evidence, options: Judging) -> Gate:
    """Whether the paired interval clears `better_by`.

    >>> from everfit.judge.verdict import Interval
    >>> some = Evidence("c2", "c1", 6120, None, "roc_auc", Interval(0.012, 0.004, 0.02), {}, {})
    >>> primary_gate(some, Judging()).said
    'gain 0.012 roc_auc (0.004 to 0.020), above 0.000 needed'
    """
    gain, limit = evidence.gain, options.better_by
    if evidence.rows < options.at_least:
        said = f"{evidence.rows:,} held-out labelled rows, {options.at_least:,} needed (judge.at_least)"
        return Gate("primary", False, None, limit, said)
    if gain is None:
        said = f"{evidence.metric} is not defined on these {evidence.rows:,} rows"
        return Gate("primary", False, None, limit, said)
    told = f"gain {gain.value:.3f} {evidence.metric} ({gain.low:.3f} to {gain.high:.3f})"
    said = f"{told}, above {limit:.3f} needed"
    return Gate("primary", gain.low > limit, gain.value, limit, said)


@dataclass(frozen=True, slots=True)
class BenchWord:
    """What the bench says of a kept model against the champion. 0.01 is one point."""

    gain: float  # points a window that it is believed to be better by
    margin: float  # that must be passed
    windows: int  # scored for both, after both were trained


def bench_gate(evidence: Evidence, word: BenchWord) -> Gate:
    """Whether the bench's word is above its margin, on at least one window that neither model learned from.

    >>> some = Evidence("c2", "c1", 6120, None, "roc_auc", None, {}, {})
    >>> bench_gate(some, BenchWord(0.021, 0.003, 6)).said
    '2.1 points a window on the bench (0.3 needed), 6 windows with 6,120 rows that neither trained on'
    """
    told = f"{100 * word.gain:.1f} points a window on the bench ({100 * word.margin:.1f} needed)"
    windows = f"{word.windows} window{'s' if word.windows != 1 else ''}"
    said = f"{told}, {windows} with {evidence.rows:,} rows that neither trained on"
    passed = word.gain > word.margin and word.windows > 0 and evidence.rows > 0
    return Gate("primary", passed, word.gain if evidence.rows else None, word.margin, said)


def slice_gates(
    case: Case, candidate: Outcomes, against: Outcomes, measured: Measured, options: Judging
) -> tuple[Gate, ...]:
    """One gate per value of each column of `judge.slices.by`: not passed if proven worse there.

    The confidence is shared out over the slices (Bonferroni), so that many of them do not make a false
    refusal likelier.
    """
    slices = options.slices
    parts = list(_parts(measured, slices))
    judged = sum(int(rows.sum()) >= slices.at_least for _, rows in parts)
    confidence = 1 - (1 - options.confidence) / max(1, judged)
    found = [
        _slice_gate(name, case.metric, of_slice(candidate, rows), of_slice(against, rows), slices, confidence)
        for name, rows in parts
    ]
    unasked = [
        _unasked(f"slice {column}", "its values were not given")
        for column in slices.by
        if column not in measured.slices
    ]
    return (*found, *unasked)


def limit_gates(
    case: Case, candidate: Outcomes, against: Outcomes, measured: Measured, limits: Limits
) -> tuple[Gate, ...]:
    """Gates for the limits that were set: flips, size, latency."""
    gates = []
    if limits.flips is not None and candidate.task != "regression":
        gates.append(_flips_gate(case, candidate, against, limits.flips))
    if limits.size is not None:
        gates.append(_size_gate(measured, limits.size))
    if limits.latency_p99 is not None:
        gates.append(_latency_gate(measured, limits.latency_p99.total_seconds() * 1000))
    return tuple(gates)


def _parts(measured: Measured, slices: Slices) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for column in slices.by:
        if column in measured.slices:
            values = np.array(["null" if value is None else str(value) for value in measured.slices[column]])
            for value in np.unique(values):
                yield f"{column}={value}", values == value


def _slice_gate(
    name: str, metric: Metric | str, candidate: Outcomes, against: Outcomes, slices: Slices, confidence: float
) -> Gate:
    title, limit = f"slice {name}", -slices.worse_by_at_most
    levels = level(metric, candidate), level(metric, against)
    if levels[0] is None or levels[1] is None:
        return Gate(
            title,
            True,
            None,
            None,
            f"{name}: {name_of(metric)} is not defined on its {candidate.rows:,} rows: not judged",
        )
    gain = positive_is_better(metric, levels[0] - levels[1])
    told = f"{name}: gain {gain:.3f} {name_of(metric)} on {candidate.rows:,} rows"
    if candidate.rows < slices.at_least:
        return Gate(title, True, gain, None, f"{told}: shown, not judged")
    if gain >= limit:  # the interval's upper end lies above its middle: nothing can be proven
        return Gate(title, True, gain, limit, f"{told}, no worse than {limit:.3f} allowed")
    interval = paired_gain(metric, candidate, against, confidence=confidence, resamples=MANY_DRAWS)
    if interval is None or interval[2] >= limit:
        return Gate(title, True, gain, limit, f"{told}, not proven worse than {limit:.3f} allowed")
    return Gate(title, False, gain, limit, f"{told} (at most {interval[2]:.3f}), worse than {limit:.3f} allowed")


def _flips_gate(case: Case, candidate: Outcomes, against: Outcomes, limit: float) -> Gate:
    if case.against == BASELINE:
        return Gate("flips", True, None, limit, "there is no champion whose answers could change")
    if candidate.rows == 0:
        return _unasked("flips", "there are no rows")
    flips = float((candidate.scores.argmax(axis=1) != against.scores.argmax(axis=1)).mean())
    return Gate(
        "flips",
        flips <= limit,
        flips,
        limit,
        f"{flips:.1%} of the predicted classes change, {limit:.1%} allowed",
    )


def _size_gate(measured: Measured, limit: int) -> Gate:
    if measured.size is None:
        return _unasked("size", "it was not measured")
    said = f"{measured.size / 1e6:.1f} MB on disk, {limit / 1e6:.1f} MB allowed"
    return Gate("size", measured.size <= limit, measured.size, limit, said)


def _latency_gate(measured: Measured, limit: float) -> Gate:
    if measured.latency_p99 is None:
        return _unasked("latency_p99", "it was not measured")
    took = measured.latency_p99.total_seconds() * 1000
    said = f"{took:.1f} ms for a row (99 of 100), {limit:.1f} ms allowed"
    return Gate("latency_p99", took <= limit, took, limit, said)


def _unasked(name: str, why: str) -> Gate:
    """A question that could not be asked is not passed: it has no value."""
    return Gate(name, False, None, None, f"{name} could not be judged: {why}")
