"""Two answers to one question: did a decision that was taken again come out the same?

Takes the decision of the ledger and the one of the re-run; gives the first difference as a sentence; never decides.
Sentences are not compared: a newer Everfit may say the same in other words.
"""

from __future__ import annotations

from math import isclose

from everfit.decide.decision import AskHuman, Decision, FixData, Reason, Recall

TICK = 1.0  # seconds between asking and writing down: a rest is read from a clock that runs


def difference(then: Decision, now: Decision) -> str:
    """The first thing in which two decisions differ; empty when they agree.

    >>> from everfit.decide.decision import Retrain, Wait
    >>> difference(Wait(()), Retrain(()))
    'the ledger says wait, the re-run says retrain'
    """
    if then.kind != now.kind:
        return f"the ledger says {then.kind}, the re-run says {now.kind}"
    if about(then) != about(now):
        return f"the ledger says {then.kind} {about(then)}, the re-run {about(now)}"
    if len(then.because) != len(now.because):
        missing = {r.trigger for r in then.because} ^ {r.trigger for r in now.because}
        what = f": {', '.join(sorted(missing))}" if missing else ""
        return f"the ledger has {len(then.because)} reasons, the re-run {len(now.because)}{what}"
    pairs = zip(then.because, now.because, strict=True)
    return next((said for a, b in pairs if (said := _reasons(a, b))), "")


def about(decision: Decision) -> str:
    """What a decision names besides its reasons."""
    match decision:
        case AskHuman(question=question):
            return question
        case FixData(columns=columns):
            return ", ".join(columns)
        case Recall(candidate=candidate):
            return candidate
        case _:
            return ""


def _reasons(then: Reason, now: Reason) -> str:
    if then.trigger != now.trigger:
        return f"the ledger's reason is {then.trigger}, the re-run's is {now.trigger}"
    if then.evidence != now.evidence:
        return (
            f"{then.trigger} rests on other evidence: {then.evidence or 'none'} in the ledger, {now.evidence or 'none'}"
        )
    if not _close(then.limit, now.limit, 0.0):
        return f"{then.trigger}: the line was {then.limit}, in the re-run it is {now.limit}"
    if not _close(then.value, now.value, TICK if then.trigger == "cool_down" else 0.0):
        return f"{then.trigger}: {then.value} was read, in the re-run it is {now.value}"
    return ""


def _close(a: float | None, b: float | None, off_by: float) -> bool:
    if a is None or b is None:
        return a is b
    return isclose(a, b, rel_tol=1e-6, abs_tol=max(off_by, 1e-12))
