"""What to do? One pure function from everything that happened to one decision.

Takes the history, the rules and the time; gives a `Decision` with its reasons; never acts. The order matters: a
person's wish, then broken data, then what already runs, then a release that does harm, then a kept model that fits
better, then the triggers, then what holds them back: calibration alone, worth, limits, a person's word.
"""

from __future__ import annotations

from datetime import datetime

from everfit.decide.benched import bench_run, changing, recall
from everfit.decide.budget import limit
from everfit.decide.decision import AskHuman, BenchRun, Decision, FixData, Reason, Recall, Retrain, RollBack, Wait
from everfit.decide.diagnose import DataBug, HarmlessDrift, bad_release, calibration_drift, data_bug, diagnose
from everfit.decide.follow import follow_up
from everfit.decide.history import History
from everfit.decide.look import Sight
from everfit.decide.options import DEFAULT, Rules, Trigger, default_triggers
from everfit.decide.rules import about_harm, asks_bench
from everfit.decide.triggers import look
from everfit.decide.worth import not_worth, weigh
from everfit.ids import content_key

__all__ = ["Rules", "decide", "default_triggers"]

Fired = tuple[tuple[Trigger, tuple[Reason, ...]], ...]


def decide(past: History, rules: Rules, now: datetime) -> Decision:
    """What to do now. Total: every history has an answer, and the same history has the same.

    >>> from everfit.decide.options import Deciding
    >>> decide(History("m"), Rules((), Deciding(), "roc_auc", 500), datetime(2013, 2, 1)).kind
    'wait'
    """
    busy = _busy(past)
    wish = _wish(past)
    if wish is not None and not busy and (wish.bench is not None or not changing(past)):
        return wish
    if bug := data_bug(past.windows):
        return _fix(bug)
    if past.champion is None:
        return Wait((busy,)) if busy else _first(past, rules, now)
    if back := None if busy else _back(past, rules):
        return back
    another = recall(past, rules, now)
    if isinstance(another, Recall):
        return another
    answer = Wait((busy,)) if busy else _train(past, rules, now)
    return Wait((*answer.because, another)) if another and isinstance(answer, Wait) else answer


# ---- what comes before every trigger ---------------------------------------------------------------------------------
def _busy(past: History) -> Reason | None:
    if past.paused:
        said = "a person paused this model; `everfit resume` goes on"
        return Reason("paused", None, None, said, "", "a person", "`everfit resume`")
    if run := past.running:
        said = f"{run.run} is under way since {run.started:%Y-%m-%d %H:%M}"
        return Reason("running", None, None, said, "", "one run at a time", "once it has ended")
    if past.going_back:  # what serves is about to change: its alarms are answered by that
        said = f"{past.going_back} is under way: the version before is about to serve again"
        return Reason("running", None, None, said, "", "one run at a time", "once it has ended")
    return None


def _wish(past: History) -> Retrain | None:
    """A person's word passes rest, budget and freezes: they know something that no trigger does."""
    used = past.used
    for asked in reversed(past.asked):
        if asked.key not in used:
            said = f"{asked.by} asked for it: {asked.name}"
            changed = "without this word it would not"
            return Retrain((Reason("asked", None, None, said, asked.key, "a person", changed),))
    question = past.question
    if question is None or not past.answered.get(question.key) or question.key in used:
        return None
    said = f"a person approved question {question.key}"
    yes = Reason("approved", None, None, said, question.key, "a person", "a no would have ended it")
    # What made the run due is used up with the question: its evidence, and for a follow-up the names of its triggers.
    rests = [Reason("approved", None, None, said, key, "a person") for key in sorted(question.evidence)]
    named = [Reason(name, None, None, f"{name} had asked for it", question.key) for name in question.triggers]
    return Retrain((yes, *rests, *named), bench=question.bench)


def _fix(bug: DataBug) -> FixData:
    """Nothing is trained on broken rows. The evidence is the fault, so that it is one fault however long it lasts."""
    reasons = tuple(
        Reason(
            fault.name,
            fault.alarm.signal.value,
            fault.alarm.line,
            f"{fault.alarm.said} ({fault.kind}, first in {fault.first_bad})",
            content_key("fault", fault.column, fault.name, fault.first_bad),
            "watch.quality",
            "a window in which it is whole again lifts this by itself",
        )
        for fault in bug.faults
    )
    return FixData(bug.columns, reasons)


def _back(past: History, rules: Rules) -> RollBack | None:
    release = bad_release(past, rules.limits.trial, rules.slowest)
    if release is None:
        return None
    evidence = content_key("release", release.release)
    if evidence in past.rollbacks:
        return None
    changed = f"after {rules.limits.trial} mature windows it would have been a matter for the triggers"
    source = "spec: decide.trial" if "trial" in rules.limits.model_fields_set else "default: decide.trial"
    return RollBack((Reason(release.signal, release.value, release.before, release.said, evidence, source, changed),))


def _first(past: History, rules: Rules, now: datetime) -> Decision:
    """Without a champion the only question is whether there is enough to learn from."""
    said = f"there is no champion yet and {past.labels:,} labelled rows (needed: {rules.first_rows:,})"
    doublings = (
        past.labels // max(1, rules.first_rows)
    ).bit_length()  # a failed first run is repeated on twice the rows
    reason = Reason(
        "first_champion", past.labels, rules.first_rows, said, content_key("first", doublings),
        "train.at_least, judge.at_least, judge.holdout", f"it begins with {rules.first_rows:,} labelled rows",
    )  # fmt: skip
    if past.labels < rules.first_rows or reason.evidence in past.used:
        return Wait((reason,))
    if held := limit(past, rules.limits, now):
        return Wait((held, reason))
    return _asked(past, rules, (reason,))


# ---- triggers, and what holds them back ------------------------------------------------------------------------------
def _train(past: History, rules: Rules, now: datetime) -> Decision:
    fired, quiet = _looked(past, rules, now)
    again, due = follow_up(past, rules)
    answer = _weighed(past, rules, fired, now) if fired else None
    if answer is not None and not isinstance(answer, Wait):
        return answer
    if again is not None and due:
        held = changing(past) or limit(past, rules.limits, now, value=weigh(past, rules).gain, rested=True)
        if held is None:
            return _asked(past, rules, (again,))
        return Wait((held, again, *(answer.because if answer else quiet)))
    if answer is not None:
        return answer
    waiting = () if again is None else (again,)
    return Wait((*quiet, *waiting, *_remarks(past, rules)))


def _looked(past: History, rules: Rules, now: datetime) -> tuple[Fired, tuple[Reason, ...]]:
    """Triggers that fire on evidence that no run has used, and what the others say."""
    used, named = past.used, rules.triggers != DEFAULT
    fired: list[tuple[Trigger, tuple[Reason, ...]]] = []
    quiet: list[Reason] = []
    for number, trigger in enumerate(rules.triggers):
        place = f"triggers[{number}]" if named else f"trigger {trigger.name}"
        seen = look(trigger, Sight(past, rules, now, place, named))
        if seen.fires and not any(reason.evidence in used for reason in seen.reasons):
            fired.append((trigger, seen.reasons))
        else:
            quiet.extend(seen.reasons)
    return tuple(fired), tuple(quiet)


def _weighed(past: History, rules: Rules, fired: Fired, now: datetime) -> Decision:
    """What becomes of triggers that fire: calibration alone, worth and limits hold them back, in this order."""
    wanted = tuple(reason for _, reasons in fired for reason in reasons)
    if all(about_harm(trigger) for trigger, _ in fired) and (scores := _recalibrate(past, rules)):
        return Wait((scores, *wanted))
    weighed = weigh(past, rules)
    if unpaid := not_worth(weighed, rules.limits):
        return Wait((unpaid, *wanted))
    bench = bench_run(past, rules) if any(asks_bench(trigger) for trigger, _ in fired) else None
    held = limit(past, rules.limits, now, value=weighed.gain, bench=bench is not None)
    if held := held or (changing(past) if bench is None else None):
        return Wait((held, *wanted))
    # A probe is held against held-out rows, and the bench holds none out.
    return _asked(past, rules, wanted, probe=rules.limits.worth.probe is not None and bench is None, bench=bench)


def _recalibrate(past: History, rules: Rules) -> Reason | None:
    drift = calibration_drift(past) if rules.limits.recalibrate else None
    if drift is None:
        return None
    changed = "with `decide.recalibrate: false`, or a fall of roc_auc, it would train"
    return Reason("recalibrate", drift.rise, None, drift.said, "", "decide.recalibrate", changed)


def _remarks(past: History, rules: Rules) -> tuple[Reason, ...]:
    """What is worth saying while nothing is done."""
    if scores := _recalibrate(past, rules):
        return (scores,)
    found = diagnose(past, rules.primary, trial=0)
    if isinstance(found, HarmlessDrift):
        return (Reason(found.kind, None, None, found.said, "", "", "a loss of performance would have mattered"),)
    return ()


def _asked(
    past: History, rules: Rules, wanted: tuple[Reason, ...], *, probe: bool = False, bench: BenchRun | None = None
) -> Decision:
    if "retrain" not in rules.limits.approve:
        return Retrain(wanted, probe=probe, bench=bench)
    question = past.question
    if question is not None and question.key not in past.answered:
        return AskHuman(question.key, wanted, bench=bench)  # one question at a time, until it is answered
    return AskHuman(content_key("question", sorted(reason.evidence for reason in wanted)), wanted, bench=bench)
