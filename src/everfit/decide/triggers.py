"""Does a trigger hold? Each kind of trigger is one small function.

Takes one trigger and everything it may look at; gives a `Look`: yes, no or not known, with what was read, the line it
was held against and a sentence; never weighs limits such as rest or budget (that is `policy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import assert_never

from everfit.decide import holding
from everfit.decide.benched import bench_asks
from everfit.decide.decision import Reason
from everfit.decide.history import RunRecord, WindowRecord
from everfit.decide.look import Holding, Look, Sight, over_windows, unknown
from everfit.decide.options import (
    OnAge,
    OnAlarm,
    OnAll,
    OnAny,
    OnBench,
    OnDrift,
    OnErrors,
    OnEstimated,
    OnEvent,
    OnFunction,
    OnLabels,
    OnLatency,
    OnNewData,
    OnPerformance,
    OnRows,
    OnSchedule,
    OnScore,
    Trigger,
)
from everfit.decide.schedule import next_fire
from everfit.decide.strength import scores
from everfit.detect.signal import Alarm, Signal
from everfit.ids import content_key
from everfit.units import duration_text

KEPT_OPEN = 30  # mature windows for which an alarm that no run has answered stays open, such as over a freeze
FRUITLESS = ("failed", "blocked")  # runs that trained nothing: what called for them still does


def look(trigger: Trigger, sight: Sight) -> Look:
    """Whether a trigger fires now.

    >>> from datetime import datetime
    >>> from everfit.decide.history import History
    >>> from everfit.decide.options import Deciding, Rules
    >>> sight = Sight(History("m", labels=12), Rules((), Deciding(), "roc_auc", 700), datetime(2013, 2, 1))
    >>> look(OnLabels(name="volume", new_labels=10), sight).fires
    True
    """
    match trigger:
        case OnAll(all=parts) | OnAny(any=parts):
            key = "all" if isinstance(trigger, OnAll) else "any"
            looks = [look(part, sight.inside(f"{key}[{n}]")) for n, part in enumerate(parts)]
            return _combined(trigger.name, looks, decisive=key == "any")
        case OnPerformance() | OnEstimated() | OnDrift() | OnScore() | OnLatency() | OnErrors():
            return _by_window(trigger, sight)
        case OnAlarm():
            return _alarm(trigger, sight)
        case OnBench():
            return bench_asks(trigger, sight)
        case _:
            return _by_count(trigger, sight)


def _by_window(trigger: OnPerformance | OnEstimated | OnDrift | OnScore | OnLatency | OnErrors, sight: Sight) -> Look:
    past, primary = sight.past, sight.rules.primary
    match trigger:
        case OnPerformance(performance=drop):
            seen, limit = holding.performance(drop, past, primary), drop.drop
            source = sight.source(drop, "drop", "performance.drop")
        case OnEstimated(estimated=fall):
            seen, limit = holding.estimated(fall, past, primary), fall.drop
            source = sight.source(fall, "drop", "estimated.drop")
        case OnDrift(drift=drift):
            seen, limit = holding.drift(drift, past), drift.above
            source = sight.source(drift, "above", "drift.above")
        case OnScore(above=limit):
            seen, source = scores(trigger, past, primary), sight.source(trigger, "above", "above")
        case OnLatency(latency=latency):
            slowest = min(latency.limits, key=lambda name: latency.limits[name])
            seen, limit = holding.latency(latency, past), latency.limits[slowest].total_seconds() * 1000
            source = sight.source(latency, slowest, f"latency.{slowest}")
        case OnErrors(errors=limit):
            seen, source = holding.errors(limit, past), sight.source(trigger, "errors", "errors")
        case _:
            assert_never(trigger)
    return over_windows(trigger, seen, sight, limit=limit, source=source)


def _by_count(trigger: OnSchedule | OnLabels | OnRows | OnNewData | OnAge | OnEvent | OnFunction, sight: Sight) -> Look:
    past = sight.past
    match trigger:
        case OnSchedule():
            return _schedule(trigger, sight)
        case OnLabels(new_labels=wanted):
            return _volume(trigger, ("labels", past.labels, past.labels_at_last_run), wanted, sight)
        case OnRows(new_rows=wanted):
            return _volume(trigger, ("rows", past.rows, past.rows_at_last_run), wanted, sight)
        case OnNewData():
            return _new_data(trigger, sight)
        case OnAge():
            return _age(trigger, sight)
        case OnEvent():
            return _event(trigger, sight)
        case OnFunction():
            return _function(trigger, sight)
        case _:
            assert_never(trigger)


# ---- several at once -------------------------------------------------------------------------------------------------
def _combined(name: str, looks: list[Look], *, decisive: bool) -> Look:
    """One answer from several: a yes decides an `any` (`decisive` is yes), a no decides an `all`."""
    answers = [part.fires for part in looks]
    fires = decisive if decisive in answers else None if None in answers else not decisive
    firing = [part for part in looks if part.fires]
    return Look(fires, _together(name, firing if decisive and firing else looks, fires=bool(fires)))


def _together(name: str, looks: Sequence[Look], *, fires: bool) -> tuple[Reason, ...]:
    reasons = [reason for part in looks for reason in part.reasons]
    evidence = content_key(name, sorted(reason.evidence for reason in reasons)) if fires else ""
    return tuple(
        Reason(name or r.trigger, r.value, r.limit, r.said, evidence or r.evidence, r.source, r.otherwise)
        for r in reasons
    )


# ---- calibrated alarms -----------------------------------------------------------------------------------------------
def _alarm(trigger: OnAlarm, sight: Sight) -> Look:
    looks = []
    if trigger.alarm in ("performance", "any"):
        looks.append(_performance_alarm(trigger, sight))
    if trigger.alarm in ("drift", "any"):
        seen = [_drift_alarm(window) for window in holding.recent(sight.past)]
        monitors = _monitors(sight.past.served)
        looks.append(over_windows(trigger, seen, sight, limit=None, source=sight.calibrated(monitors)))
    return looks[0] if len(looks) == 1 else _combined(trigger.name, looks, decisive=True)


def _monitors(windows: Sequence[WindowRecord]) -> int:
    """Columns that are tested for drift in a window."""
    return sum(1 for r in windows[-1].readings if r.name == "drift.psi") if windows else 0


def _drift_alarm(window: WindowRecord) -> Holding:
    alarm = next((a for a in window.alarms if a.kind == "drift"), None)
    if alarm is not None:
        said = "without this alarm it would not have fired"
        return Holding(True, holding.size_of(alarm), alarm.said, window.span, said)
    if not any(isinstance(r, Signal) and r.name == "drift.psi" for r in window.readings):
        return Holding(None, None, holding.said_of(window.readings, "drift.psi", "drift was not measured"), window.span)
    return Holding(False, None, "no drift alarm in the newest window", window.span, "a drift alarm would have fired")


def _performance_alarm(trigger: OnAlarm, sight: Sight) -> Look:
    """An alarm stays open until a run answers it: its detector begins anew afterwards and would not say it again."""
    mature = [window for window in holding.recent(sight.past) if window.mature is not None]
    seen = [_decay_alarm(window, sight.rules.primary) for window in mature]
    if trigger.among > 1:
        return over_windows(trigger, seen, sight, limit=None, source=sight.calibrated())
    found = next(((w, w.decay) for w in reversed(mature[-KEPT_OPEN:]) if w.decay is not None), None)
    if found is None:
        return over_windows(trigger, seen, sight, limit=None, source=sight.calibrated())
    return _open_alarm(trigger, *found, sight)


def _decay_alarm(window: WindowRecord, primary: str) -> Holding:
    alarm = window.decay
    if alarm is not None:
        changed = "without this alarm it would not have fired"
        return Holding(True, alarm.signal.value, alarm.said, window.span, changed)
    read = [r for r in window.mature or () if r.name.startswith("performance.")]
    if not any(isinstance(r, Signal) for r in read):
        said = holding.said_of(read, f"performance.{primary}", f"{primary} was not measured")
        return Holding(None, None, said, window.span)
    return Holding(False, None, "no alarm: performance holds", window.span, "an alarm of performance would have fired")


def _open_alarm(trigger: OnAlarm, window: WindowRecord, alarm: Alarm, sight: Sight) -> Look:
    past = sight.past
    candidate = past.champion.candidate if past.champion else ""
    keys = [content_key(trigger.name, candidate, window.span.end, n) for n in range(len(past.runs) + 1)]
    answers = next((run for run in past.runs if _answered(run, window, keys)), None)
    tried = sum(1 for run in past.runs if run.outcome in FRUITLESS and run.evidence & set(keys))
    line, source, value = alarm.line, sight.calibrated(), alarm.signal.value
    if answers is not None:
        said = f"the alarm of {window.span} ({alarm.said}) was answered by {answers.run}"
        return Look(False, (Reason(trigger.name, value, line, said, "", source, "a new alarm would fire"),))
    changed = "without this alarm it would not have fired"
    return Look(True, (Reason(trigger.name, value, line, alarm.said, keys[tried], source, changed),))


def _answered(run: RunRecord, window: WindowRecord, keys: Sequence[str]) -> bool:
    """Whether a run answered the alarm of a window: it rested on it, or began when the alarm was known."""
    if run.outcome in FRUITLESS:
        return False
    return bool(run.evidence & set(keys)) or (window.matured_at is not None and run.started >= window.matured_at)


# ---- time, volume, what others say -----------------------------------------------------------------------------------
def _schedule(trigger: OnSchedule, sight: Sight) -> Look:
    anchor, now = max((run.started for run in sight.past.runs), default=None), sight.now
    source = sight.source(trigger, "schedule", "schedule")
    if anchor is None:
        return unknown(trigger.name, "a schedule counts from the first run", source=source)
    due = next_fire(trigger.schedule, trigger.timezone, anchor)
    while due <= now and (later := next_fire(trigger.schedule, trigger.timezone, due)) <= now:
        due = later  # after an outage the last missed moment counts once
    when = f"{'was' if due <= now else 'is next'} due {due:%Y-%m-%d %H:%M} UTC"
    said = f"the schedule {trigger.schedule!r} ({trigger.timezone}) {when}"
    evidence = content_key(trigger.name, due) if due <= now else ""
    return Look(due <= now, (Reason(trigger.name, None, None, said, evidence, source, "it depends on the time alone"),))


def _volume(trigger: OnLabels | OnRows, counts: tuple[str, int, int], wanted: int, sight: Sight) -> Look:
    what, total, before = counts
    came, fires = total - before, total - before >= wanted
    said = f"{came:,} new {what} came since the last run (line {wanted:,})"
    changed = f"it fires at {wanted:,} {what}" if not fires else f"fewer than {wanted:,} {what} would not have fired"
    source = sight.source(trigger, f"new_{what}", f"new_{what}")
    evidence = content_key(trigger.name, before)
    return Look(fires, (Reason(trigger.name, came, wanted, said, evidence, source, changed),))


def _new_data(trigger: OnNewData, sight: Sight) -> Look:
    past, line = sight.past, trigger.new_data_share
    source = sight.source(trigger, "new_data_share", "new_data_share")
    base = past.champion.rows if past.champion and past.champion.rows else past.labels_at_last_run
    if base <= 0:
        return unknown(trigger.name, "on how many rows the champion was trained is not known", line, source)
    came = past.labels - past.labels_at_last_run
    share, fires = came / base, came >= line * base
    said = f"{came:,} labelled rows came since the last run, {share:.0%} of the {base:,} it was trained on"
    changed = f"{line * base:,.0f} labelled rows are the line"
    evidence = content_key(trigger.name, past.labels_at_last_run)
    return Look(fires, (Reason(trigger.name, share, line, f"{said} (line {line:.0%})", evidence, source, changed),))


def _age(trigger: OnAge, sight: Sight) -> Look:
    champion, source = sight.past.champion, sight.source(trigger, "age", "age")
    if champion is None:
        return unknown(trigger.name, "there is no champion yet", source=source)
    age: timedelta = sight.now - (champion.made or champion.live_since)
    fires, line = age >= trigger.age, duration_text(trigger.age)
    said = f"version {champion.version} is {age.total_seconds() / 86400:.3g} days old (line {line})"
    # A candidate that was kept back leaves the champion old: it is tried again after as long again.
    evidence = content_key(trigger.name, champion.candidate, int(age / trigger.age)) if fires else ""
    changed = f"it fires at {line}" if not fires else f"a champion younger than {line} would not have fired"
    seconds, limit = age.total_seconds(), trigger.age.total_seconds()
    return Look(fires, (Reason(trigger.name, seconds, limit, said, evidence, source, changed),))


def _event(trigger: OnEvent, sight: Sight) -> Look:
    used, source = sight.past.used, sight.source(trigger, "event", "event")
    heard = [h for h in sight.past.heard if h.name == trigger.event]
    fresh = [h for h in heard if content_key(trigger.name, h.key) not in used]
    if not fresh:
        said, changed = f"event {trigger.event!r} was not heard", f"`everfit event {trigger.event}` would have fired"
        return Look(False, (Reason(trigger.name, None, None, said, "", source, changed),))
    said = f"event {trigger.event!r} was heard from {fresh[-1].by}"
    evidence = content_key(trigger.name, fresh[-1].key)
    return Look(True, (Reason(trigger.name, None, None, said, evidence, source, "without the event it would not"),))


def _function(trigger: OnFunction, sight: Sight) -> Look:
    """A function of the user's. It may be wrong: an error of its is not known, never a yes."""
    name, source = trigger.function, sight.source(trigger, "function", "function")
    function = sight.rules.functions.get(name)
    if function is None:
        return unknown(trigger.name, f"{name} is not loaded", source=source)
    try:
        answer = function(sight.past, sight.now)
    except Exception as error:
        return unknown(trigger.name, f"{name} raised {type(error).__name__}: {error}", source=source)
    if answer is None:
        return unknown(trigger.name, f"{name} says that it does not know", source=source)
    window = sight.past.windows[-1].span.end if sight.past.windows else None
    candidate = sight.past.champion.candidate if sight.past.champion else ""
    fires = bool(answer)
    said = answer if isinstance(answer, str) and answer else f"{name} says {'yes' if fires else 'no'}"
    evidence = content_key(trigger.name, candidate, window) if fires else ""
    return Look(fires, (Reason(trigger.name, None, None, said, evidence, source, "its answer alone decides"),))
