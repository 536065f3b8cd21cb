"""Is it worth it? One pure function from everything that happened to one decision.

Takes the history, the rules and the time; gives a `Decision` with its reasons; never acts. The order matters: broken
data come before everything, then what already runs, then a person's wish, then the triggers, then the limits on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from everfit.decide.budget import limit
from everfit.decide.decision import AskHuman, Decision, FixData, Reason, Retrain, Wait
from everfit.decide.history import History
from everfit.decide.options import Deciding, OnPerformance, PerformanceDrop, Trigger
from everfit.decide.triggers import look
from everfit.detect.performance import METRICS
from everfit.ids import content_key


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user asked for, as far as a decision needs it."""

    triggers: tuple[Trigger, ...]
    limits: Deciding
    primary: str
    first_rows: int  # labelled rows that the first champion needs


def default_triggers(primary: str) -> tuple[Trigger, ...]:
    """The triggers of a spec that names none: decay, a proven loss of the primary metric over a few windows.

    >>> default_triggers("roc_auc")[0].name
    'decay'
    """
    if METRICS[primary].low is None or METRICS[primary].high is None:
        return ()  # a loss in the target's own unit: only its user knows what is much
    return (OnPerformance(name="decay", performance=PerformanceDrop(drop=0.02, mean_of=5)),)


def decide(past: History, rules: Rules, now: datetime) -> Decision:
    """What to do now. Total: every history has an answer, and the same history has the same.

    >>> from everfit.decide.options import Deciding
    >>> decide(History("m"), Rules((), Deciding(), "roc_auc", 500), datetime(2013, 2, 1)).kind
    'wait'
    """
    if (wish := _wish(past)) and not _busy(past):
        return Retrain((wish,))
    if broken := _broken(past):
        return broken
    if busy := _busy(past):
        return Wait((busy,))
    wanted, quiet = _first(past, rules) if past.champion is None else _firing(past, rules, now)
    if not wanted:
        return Wait(quiet)
    if held := limit(past, rules.limits, now):
        return Wait((held, *wanted))
    return _asked(past, rules, wanted)


def _broken(past: History) -> FixData | None:
    """The newest window's data are broken: nothing is trained on them."""
    if not past.windows:
        return None
    last = past.windows[-1]
    faults = [alarm for alarm in last.alarms if alarm.kind == "quality"]
    if not faults:
        return None
    reasons = tuple(
        Reason(
            fault.signal.name,
            fault.signal.value,
            fault.line,
            fault.said,
            content_key("fault", fault.signal.column, last.span),
        )
        for fault in faults
    )
    return FixData(tuple(dict.fromkeys(fault.signal.column for fault in faults)), reasons)


def _busy(past: History) -> Reason | None:
    if past.paused:
        return Reason("paused", None, None, "a person paused this model; `everfit resume` goes on", "")
    if run := past.running:
        return Reason("running", None, None, f"{run.run} is under way since {run.started:%Y-%m-%d %H:%M}", "")
    return None


def _wish(past: History) -> Reason | None:
    """A person's word passes rest, budget and freezes: they know something that no trigger does."""
    used = _used(past)
    for asked in reversed(past.asked):
        if asked.key not in used:
            return Reason("asked", None, None, f"{asked.by} asked for it: {asked.name}", asked.key)
    question = past.question
    if question and past.answered.get(question.key) and question.key not in used:
        return Reason("approved", None, None, f"a person approved question {question.key}", question.key)
    return None


def _used(past: History) -> frozenset[str]:
    """Evidence that caused a run already, or that a person did not want to count."""
    return frozenset(key for run in past.runs for key in run.evidence) | past.refused


def _first(past: History, rules: Rules) -> tuple[tuple[Reason, ...], tuple[Reason, ...]]:
    """Without a champion the only question is whether there is enough to learn from."""
    enough = past.labels >= rules.first_rows
    said = f"there is no champion yet and {past.labels:,} labelled rows (needed: {rules.first_rows:,})"
    doublings = (
        past.labels // max(1, rules.first_rows)
    ).bit_length()  # a failed first run is repeated on twice the rows
    reason = Reason("first_champion", past.labels, rules.first_rows, said, content_key("first", doublings))
    return ((reason,), ()) if enough and reason.evidence not in _used(past) else ((), (reason,))


def _firing(past: History, rules: Rules, now: datetime) -> tuple[tuple[Reason, ...], tuple[Reason, ...]]:
    used = _used(past)
    wanted: list[Reason] = []
    quiet: list[Reason] = []
    for trigger in rules.triggers:
        seen = look(trigger, past, rules.primary, now)
        fresh = seen.fires and not any(reason.evidence in used for reason in seen.reasons)
        (wanted if fresh else quiet).extend(seen.reasons)
    return tuple(wanted), tuple(quiet)


def _asked(past: History, rules: Rules, wanted: tuple[Reason, ...]) -> Decision:
    if "retrain" not in rules.limits.approve:
        return Retrain(wanted)
    question = past.question
    if question is not None and question.key not in past.answered:
        return AskHuman(question.key, wanted)  # one question at a time, until it is answered
    return AskHuman(content_key("question", sorted(reason.evidence for reason in wanted)), wanted)
