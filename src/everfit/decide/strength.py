"""The weighted score of several strengths, window by window.

Takes weights, lines and the windows that the champion served; gives one `Holding` for each window; never guesses a part
that cannot be read. A strength lies in 0..1: 1 at its line or with an alarm. Size without certainty counts half at
most, for a large reading of few rows is mostly noise. A part that is not known may be anything: the score holds when
even its lowest value is above the line, and does not when even its highest is not.
"""

from __future__ import annotations

from everfit.decide.history import Champion, History, WindowRecord
from everfit.decide.holding import CONFIDENT, error_of, level_of, recent
from everfit.decide.look import Holding, loss
from everfit.decide.rules import OnScore, ScoreLines
from everfit.detect.signal import Signal

UNSURE = 0.5  # the most that size without certainty counts


def scores(trigger: OnScore, past: History, primary: str) -> list[Holding]:
    """Whether the weighted mean of the strengths is above the line, in each window."""
    champion = past.champion
    if champion is None:
        return []
    return [_scored(trigger, champion, window, primary) for window in recent(past)]


def _scored(trigger: OnScore, champion: Champion, window: WindowRecord, primary: str) -> Holding:
    weights, whole = trigger.score.given, sum(trigger.score.given.values())
    parts = {name: strength(name, champion, window, trigger.lines, primary) for name in weights}
    least = sum(weights[name] * value for name, value in parts.items() if value is not None) / whole
    open_ = sum(weights[name] for name, value in parts.items() if value is None) / whole
    told = ", ".join(f"{name} {'unknown' if value is None else f'{value:.2f}'}" for name, value in parts.items())
    said = f"score {'at least ' if open_ else ''}{least:.2f} of {told} (line {trigger.above:g})"
    holds = True if least > trigger.above else None if least + open_ > trigger.above else False
    return Holding(holds, least, said, window.span, _otherwise(trigger, parts, least, fires=bool(holds)))


def _otherwise(trigger: OnScore, parts: dict[str, float | None], least: float, *, fires: bool) -> str:
    weights, whole = trigger.score.given, sum(trigger.score.given.values())
    known = {name: value for name, value in parts.items() if value is not None}
    if not known:
        return ""
    if not fires:
        return f"a score above {trigger.above:g} would have fired; it was {least:.2f}"
    most = max(known, key=lambda name: weights[name] * known[name])
    without = least - weights[most] * known[most] / whole
    return f"without {most} the score would have been {without:.2f}"


def strength(part: str, champion: Champion, window: WindowRecord, lines: ScoreLines, primary: str) -> float | None:
    """How strong one part of a score is in one window, in 0..1; None where the window says nothing of it."""
    match part:
        case "drift":
            return _drift(window, lines.drift)
        case "performance":
            if any(alarm.kind == "performance" for alarm in window.mature_alarms):
                return 1.0
            return _lost(window.find_mature(f"performance.{primary}"), level_of(champion, primary), primary, lines.drop)
        case "estimated":
            return _lost(window.find(f"estimated.{primary}"), level_of(champion, primary), primary, lines.drop)
        case "quality":
            return _quality(window, lines.quality)
        case _:
            return min(1.0, max(0.0, (window.span.end - (champion.made or champion.live_since)) / lines.age))


def _drift(window: WindowRecord, line: float) -> float | None:
    if any(alarm.kind == "drift" for alarm in window.alarms):
        return 1.0
    sizes = [_size(r) for r in window.readings if isinstance(r, Signal) and r.name == "drift.psi"]
    return min(UNSURE, UNSURE * max(sizes) / line) if sizes else None


def _quality(window: WindowRecord, line: float) -> float | None:
    if any(alarm.kind == "quality" for alarm in window.alarms):
        return 1.0
    read = [r for r in window.readings if isinstance(r, Signal) and r.name.startswith("quality.")]
    return min(UNSURE, UNSURE * max(_rise(r) for r in read) / line) if read else None


def _size(signal: Signal) -> float:
    return max(0.0, signal.effect if signal.effect is not None else signal.value)


def _rise(signal: Signal) -> float:
    return max(0.0, signal.effect or 0.0)


def _lost(signal: Signal | None, level: float | None, metric: str, line: float) -> float | None:
    if signal is None or level is None:
        return None
    lost = loss(metric, level, signal.value)
    sure = lost > CONFIDENT * error_of(signal)
    return min(1.0, max(0.0, lost / line)) if sure else min(UNSURE, max(0.0, UNSURE * lost / line))
