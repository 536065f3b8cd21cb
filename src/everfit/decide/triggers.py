"""Does a trigger hold? Each kind of trigger is one small function.

Takes one trigger, the history and the time; gives a `Look`: whether it fires, with what was read, the line it was
held against and a sentence; never weighs limits such as rest or budget (that is `policy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import sqrt
from typing import assert_never

from everfit.decide.decision import Reason
from everfit.decide.history import Champion, History, WindowRecord
from everfit.decide.options import (
    DriftAbove,
    OnAll,
    OnAny,
    OnDrift,
    OnEvent,
    OnLabels,
    OnPerformance,
    OnRows,
    OnSchedule,
    PerformanceDrop,
    Trigger,
)
from everfit.decide.schedule import next_fire
from everfit.detect.performance import METRICS
from everfit.detect.signal import Alarm, Signal
from everfit.ids import content_key

CONFIDENT = 1.645  # one-sided 95 %: a drop must be more than noise before it counts
NORMAL = 1.96  # half width of a 95 % interval in standard errors


@dataclass(frozen=True, slots=True)
class Look:
    """What one trigger sees now."""

    fires: bool
    reasons: tuple[Reason, ...]  # several for `all` and `any`


@dataclass(frozen=True, slots=True)
class Holding:
    """Whether a per-window rule held in one window, and what was read."""

    holds: bool
    value: float
    said: str


def look(trigger: Trigger, past: History, primary: str, now: datetime) -> Look:
    """Whether a trigger fires now. `primary` is the metric meant where a rule names none.

    >>> from everfit.observe.window import Span
    >>> look(OnLabels(name="volume", new_labels=10), History("m", labels=12), "roc_auc", datetime(2013, 2, 1)).fires
    True
    """
    match trigger:
        case OnPerformance(performance=drop):
            return _in_a_row(trigger, _performance(drop, past, primary), past, drop.drop)
        case OnDrift(drift=drift):
            return _in_a_row(trigger, _drift(drift, past), past, drift.above)
        case OnSchedule():
            return _schedule(trigger, past, now)
        case OnLabels(new_labels=wanted):
            return _volume(
                trigger.name, "labels", past.labels - past.labels_at_last_run, wanted, past.labels_at_last_run
            )
        case OnRows(new_rows=wanted):
            return _volume(trigger.name, "rows", past.rows - past.rows_at_last_run, wanted, past.rows_at_last_run)
        case OnEvent():
            return _event(trigger, past)
        case OnAll(all=parts) | OnAny(any=parts):
            return _combined(trigger, [look(part, past, primary, now) for part in parts])
        case _:
            assert_never(trigger)


def _combined(trigger: OnAll | OnAny, looks: list[Look]) -> Look:
    firing = [part for part in looks if part.fires]
    fires = len(firing) == len(looks) if isinstance(trigger, OnAll) else bool(firing)
    shown = firing if isinstance(trigger, OnAny) and firing else looks
    return Look(fires, _together(trigger.name, shown, fires))


def _together(name: str, looks: Sequence[Look], fires: bool) -> tuple[Reason, ...]:
    reasons = [reason for part in looks for reason in part.reasons]
    evidence = content_key(name, sorted(reason.evidence for reason in reasons)) if fires else ""
    return tuple(Reason(name or r.trigger, r.value, r.limit, r.said, evidence or r.evidence) for r in reasons)


def _in_a_row(trigger: OnPerformance | OnDrift, seen: list[Holding], past: History, limit: float) -> Look:
    """A per-window rule fires when it held in the last `for` windows."""
    if not seen:
        return Look(False, (Reason(trigger.name, None, limit, "no window of this champion can be judged yet", ""),))
    recent = seen[-trigger.windows :]
    fires = len(recent) == trigger.windows and all(holding.holds for holding in recent)
    last = recent[-1]
    said = last.said if trigger.windows == 1 or not fires else f"{last.said}, {trigger.windows} windows in a row"
    window = past.windows[-1].span.end if past.windows else None
    champion = past.champion.candidate if past.champion else ""
    evidence = content_key(trigger.name, champion, window, len(seen))
    return Look(fires, (Reason(trigger.name, last.value, limit, said, evidence),))


def _performance(drop: PerformanceDrop, past: History, primary: str) -> list[Holding]:
    name = drop.metric or primary
    champion = past.champion
    level = champion.per_window.get(name, champion.proven.get(name)) if champion else None
    if champion is None or level is None:
        return []
    readings = [found for w in _served_by(champion, past) if (found := _mature(w, name)) is not None]
    means = [readings[max(0, end - drop.mean_of) : end] for end in range(drop.mean_of, len(readings) + 1)]
    return [_fallen(name, group, level, drop.drop) for group in means]


def _served_by(champion: Champion, past: History) -> list[WindowRecord]:
    """Windows that this champion served from their start to their end."""
    return [w for w in past.windows if w.champion == champion.candidate and w.span.start >= champion.live_since]


def _mature(window: WindowRecord, metric: str) -> Signal | None:
    for reading in window.mature or ():
        if isinstance(reading, Signal) and reading.name == f"performance.{metric}" and reading.column == "*":
            return reading
    return None


def _fallen(name: str, group: list[Signal], level: float, drop: float) -> Holding:
    mean = sum(reading.value for reading in group) / len(group)
    error = sqrt(sum(_error_of(reading) ** 2 for reading in group)) / len(group)
    if len(group) > 1:  # windows differ by more than their rows' noise: the larger of the two errors counts
        between = sum((reading.value - mean) ** 2 for reading in group) / (len(group) - 1)
        error = max(error, sqrt(between / len(group)))
    lost = level - mean if METRICS[name].greater_is_better else mean - level
    over = "" if len(group) == 1 else f" over {len(group)} windows"
    said = f"{name} is {mean:.4g}{over}, {lost:.3g} worse than its proven {level:.4g} (line {drop:g})"
    return Holding(lost > drop and lost > CONFIDENT * error, lost, said)


def _error_of(reading: Signal) -> float:
    if reading.low is None or reading.high is None:
        return 0.0
    return (reading.high - reading.low) / (2 * NORMAL)


def _drift(drift: DriftAbove, past: History) -> list[Holding]:
    champion = past.champion
    if champion is None:
        return []
    return [_moved(drift, window) for window in _served_by(champion, past)]


def _moved(drift: DriftAbove, window: WindowRecord) -> Holding:
    alarms = [alarm for alarm in window.alarms if alarm.kind == "drift" and _meant(drift, alarm)]
    worst = max(alarms, key=_size, default=None)
    if worst is None or _size(worst) <= drift.above:
        return Holding(False, _size(worst) if worst else 0.0, f"no column drifted by more than {drift.above:g}")
    return Holding(True, _size(worst), worst.said)


def _meant(drift: DriftAbove, alarm: Alarm) -> bool:
    return drift.columns == "any" or alarm.signal.column in drift.columns


def _size(alarm: Alarm) -> float:
    return alarm.signal.effect if alarm.signal.effect is not None else alarm.signal.value


def _schedule(trigger: OnSchedule, past: History, now: datetime) -> Look:
    anchor = max((run.started for run in past.runs), default=None)
    if anchor is None:
        return Look(False, (Reason(trigger.name, None, None, "a schedule counts from the first run", ""),))
    due = next_fire(trigger.schedule, trigger.timezone, anchor)
    while due <= now and (later := next_fire(trigger.schedule, trigger.timezone, due)) <= now:
        due = later  # after an outage the last missed moment counts once
    when = f"{'was' if due <= now else 'is next'} due {due:%Y-%m-%d %H:%M} UTC"
    said = f"the schedule {trigger.schedule!r} ({trigger.timezone}) {when}"
    return Look(due <= now, (Reason(trigger.name, None, None, said, content_key(trigger.name, due)),))


def _volume(name: str, what: str, came: int, wanted: int, since: int) -> Look:
    said = f"{came:,} new {what} came since the last run (line {wanted:,})"
    return Look(came >= wanted, (Reason(name, came, wanted, said, content_key(name, since)),))


def _event(trigger: OnEvent, past: History) -> Look:
    used = {key for run in past.runs for key in run.evidence}
    fresh = [
        heard for heard in past.heard if heard.name == trigger.event and _event_key(trigger, heard.key) not in used
    ]
    if not fresh:
        return Look(False, (Reason(trigger.name, None, None, f"event {trigger.event!r} was not heard", ""),))
    said = f"event {trigger.event!r} was heard from {fresh[-1].by}"
    return Look(True, (Reason(trigger.name, None, None, said, _event_key(trigger, fresh[-1].key)),))


def _event_key(trigger: OnEvent, key: str) -> str:
    return content_key(trigger.name, key)
