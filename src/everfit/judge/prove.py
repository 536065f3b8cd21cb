"""The verdict: proven better, not better, or unproven.

Takes outcomes of a candidate and of what it is held against, on the same rows; gives a `Verdict` with every
gate; never says Better while the paired interval includes `better_by`.
"""

from __future__ import annotations

from everfit.detect.catalogue import name_of
from everfit.detect.performance import Outcomes
from everfit.judge.evidence import BASELINE, Case, Measured, gather, same_rows
from everfit.judge.gates import BenchWord, bench_gate, limit_gates, primary_gate, slice_gates
from everfit.judge.options import Judging
from everfit.judge.verdict import Better, Evidence, Gate, NotBetter, Unproven, Verdict

NOTHING_MEASURED = Measured()


def judge_candidate(
    case: Case,
    candidate: Outcomes,
    against: Outcomes,
    options: Judging,
    measured: Measured = NOTHING_MEASURED,
    *,
    word: BenchWord | None = None,
) -> Verdict:
    """Judge a candidate on rows that neither model was trained on.

    Better: the paired interval lies above `better_by` and every gate is passed. NotBetter: it lies at or
    below, or a gate is not passed. Unproven: neither can be said of these rows, or a gate could not be asked.

    Where the bench gives its `word`, it stands for the paired interval: it rests on the same rows, weighs recent
    windows more, and has waited for a margin. Every other gate is asked as ever.

    >>> import numpy as np
    >>> truth = np.arange(400) % 2
    >>> right = np.stack([1 - truth, truth], axis=1) * 1.0
    >>> sure = Outcomes(truth, right, ("0", "1"), "1", "binary", np.arange(400) // 8)
    >>> unsure = Outcomes(truth, np.full((400, 2), 0.5), ("0", "1"), "1", "binary", np.arange(400) // 8)
    >>> judge_candidate(Case("3f2a", BASELINE, "roc_auc"), sure, unsure, Judging()).said
    'candidate 3f2a beats the trivial baseline by 0.500 roc_auc (0.500 to 0.500) on 400 rows that neither trained on'
    """
    if not same_rows(candidate, against):
        return _not_the_same_rows(case, candidate, options)
    evidence = gather(case, candidate, against, options.confidence)
    others = (
        *slice_gates(case, candidate, against, measured, options),
        *limit_gates(case, candidate, against, measured, options.limits),
    )
    if word is not None:
        return _weigh_word(evidence, bench_gate(evidence, word), others)
    return _weigh(evidence, primary_gate(evidence, options), others, options)


def _weigh_word(evidence: Evidence, primary: Gate, others: tuple[Gate, ...]) -> Verdict:
    """The bench's word is a yes or a no; only a question that could not be asked leaves it open."""
    gates, failed = (primary, *others), [gate for gate in (primary, *others) if not gate.passed]
    told = "; ".join(gate.said for gate in failed)
    if any(gate.value is not None for gate in failed):
        return NotBetter(evidence, gates, f"{_who(evidence)} is kept back: {told}")
    if failed:
        return Unproven(evidence, gates, f"{_who(evidence)} is unproven: {told}")
    return Better(evidence, gates, f"{_who(evidence)} beats the champion: {primary.said}")


def _weigh(evidence: Evidence, primary: Gate, others: tuple[Gate, ...], options: Judging) -> Verdict:
    gates = (primary, *others)
    failed = [gate for gate in others if not gate.passed and gate.value is not None]
    unasked = [gate for gate in others if not gate.passed and gate.value is None]
    if failed:
        why = "; ".join(gate.said for gate in failed)
        return NotBetter(evidence, gates, f"{_who(evidence)} is kept back: {why}")
    if primary.value is None or evidence.gain is None:
        return Unproven(evidence, gates, f"{_who(evidence)} is unproven: {primary.said}")
    if evidence.gain.high <= options.better_by:
        return NotBetter(evidence, gates, f"{_who(evidence)} does not beat {_compared(evidence, options)}")
    if unasked:
        return Unproven(evidence, gates, f"{_who(evidence)} is unproven: {'; '.join(gate.said for gate in unasked)}")
    if primary.passed:
        return Better(evidence, gates, f"{_who(evidence)} beats {_compared(evidence, options)}")
    return Unproven(evidence, gates, f"{_who(evidence)} is not proven to beat {_compared(evidence, options)}")


def _not_the_same_rows(case: Case, candidate: Outcomes, options: Judging) -> Unproven:
    evidence = Evidence(case.candidate, case.against, candidate.rows, case.span, name_of(case.metric), None, {}, {})
    said = f"{_who(evidence)} is unproven: the two models were not scored on the same rows"
    return Unproven(evidence, (Gate("primary", False, None, options.better_by, said),), said)


def _who(evidence: Evidence) -> str:
    return f"candidate {evidence.candidate[:8]}"


def _compared(evidence: Evidence, options: Judging) -> str:
    """ "the champion by 0.012 roc_auc (0.004 to 0.020) on 6,120 rows that neither trained on"."""
    against = "the trivial baseline" if evidence.against == BASELINE else "the champion"
    gain = evidence.gain
    told = f" by {gain.value:.3f} {evidence.metric} ({gain.low:.3f} to {gain.high:.3f})" if gain else ""
    margin = f", and {options.better_by:g} is needed," if options.better_by else ""
    return f"{against}{told}{margin} on {evidence.rows:,} rows that neither trained on"
