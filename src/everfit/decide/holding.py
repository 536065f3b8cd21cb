"""Rules that are asked of each window: performance, estimates, drift, latency, errors.

Takes one rule's options and the windows that the champion served; gives one `Holding` for each window, oldest first;
never weighs several windows (that is `look`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

from everfit.decide.history import Champion, History, WindowRecord
from everfit.decide.look import Holding, loss, turning
from everfit.decide.rules import DriftAbove, EstimatedDrop, LatencyAbove, PerformanceDrop
from everfit.detect.signal import Alarm, NotEnough, Reading, Signal

CONFIDENT = 1.645  # one-sided 95 %: a drop must be more than noise before it counts
NORMAL = 1.96  # half width of a 95 % interval in standard errors
LOOKED = 60  # windows; what lies further back is no reason to act now
MOST_OF_IT = 0.8  # columns are important that together carry this share of the champion's importance


def performance(drop: PerformanceDrop, past: History, primary: str) -> list[Holding]:
    """Whether the metric on mature labels is worse than proven, in each mature window or mean of several."""
    name = drop.metric or primary
    champion = past.champion
    level = level_of(champion, name)
    if champion is None or level is None:
        return [_unknown_level(name)]
    mature = [w for w in recent(past) if w.mature is not None]
    found = [(w, w.find_mature(f"performance.{name}")) for w in mature]
    read = [(w, signal) for w, signal in found if signal is not None]
    ends = range(drop.mean_of, len(read) + 1)
    groups = [read[end - drop.mean_of : end] for end in ends]
    if not groups:
        return [Holding(None, None, _few(name, mature, len(read), drop.mean_of))]
    return [_fallen(name, group, level, drop.drop) for group in groups]


def estimated(drop: EstimatedDrop, past: History, primary: str) -> list[Holding]:
    """Whether the metric, estimated without labels, is worse than proven, in each window."""
    name = drop.metric or primary
    level = level_of(past.champion, name)
    if level is None:
        return [_unknown_level(name)]
    holdings: list[Holding] = []
    for window in recent(past):
        signal = window.find(f"estimated.{name}")
        if signal is None:
            said = said_of(window.readings, f"estimated.{name}", f"{name} was not estimated")
            holdings.append(Holding(None, None, said, window.span))
        else:
            holdings.append(_fallen(f"estimated {name}", [(window, signal)], level, drop.drop))
    return holdings


def drift(options: DriftAbove, past: History) -> list[Holding]:
    """Whether one of the columns drifted by more than the line, in each window."""
    champion = past.champion
    if champion is None:
        return []
    columns = meant(options, champion)
    if columns is not None and not columns:
        said = f"which columns are important to version {champion.version} is not known"
        return [Holding(None, None, said)]
    return [_moved(columns, options.above, window) for window in recent(past)]


def latency(options: LatencyAbove, past: History) -> list[Holding]:
    """Whether answers took longer than one of the limits, in each window."""
    limits = {name: limit.total_seconds() * 1000 for name, limit in options.limits.items()}
    return [_slow(limits, window) for window in recent(past)]


def errors(limit: float, past: History) -> list[Holding]:
    """Whether more requests failed than the limit and than chance allows, in each window."""
    return [_failing(limit, window) for window in recent(past)]


def recent(past: History) -> tuple[WindowRecord, ...]:
    """Windows that rules are asked of: the last sixty that matured, and what came since.

    >>> recent(History("m"))
    ()
    """
    served = past.served
    mature = [place for place, window in enumerate(served) if window.mature is not None]
    first = mature[-LOOKED] if len(mature) >= LOOKED else 0
    return served[min(first, max(0, len(served) - LOOKED)) :]


# ---- parts -----------------------------------------------------------------------------------------------------------
def level_of(champion: Champion | None, metric: str) -> float | None:
    """The level that windows are held against: the mean of windows of the proving rows, else the pooled one."""
    return champion.per_window.get(metric, champion.proven.get(metric)) if champion else None


def error_of(signal: Signal) -> float:
    """Standard error of a reading by its interval; 0 without one."""
    if signal.low is None or signal.high is None:
        return 0.0
    return (signal.high - signal.low) / (2 * NORMAL)


def said_of(readings: Sequence[Reading], name: str, otherwise: str) -> str:
    """What a reading says is missing."""
    few = next((r for r in readings if isinstance(r, NotEnough) and r.name == name), None)
    if few is None:
        return otherwise
    return few.said or f"{few.rows:,} rows for {name}, {few.needed:,} needed"


def important(importance: Mapping[str, float]) -> tuple[str, ...]:
    """The columns that together carry most of the importance, the most important first.

    >>> important({"idle": 0.01, "basket": 0.6, "country": 0.3})
    ('basket', 'country')
    """
    ranked = sorted(((value, name) for name, value in importance.items() if value > 0), key=lambda e: (-e[0], e[1]))
    whole, carried, found = sum(value for value, _ in ranked), 0.0, []
    for value, name in ranked:
        if carried >= MOST_OF_IT * whole:
            break
        carried += value
        found.append(name)
    return tuple(found)


def meant(options: DriftAbove, champion: Champion) -> frozenset[str] | None:
    """The columns that a drift rule means; None for any, empty where it is not known which are important."""
    if options.columns == "any":
        return None
    return frozenset(important(champion.importance) if options.columns == "important" else options.columns)


def size_of(alarm: Alarm) -> float:
    """How far a column moved."""
    return alarm.signal.effect if alarm.signal.effect is not None else alarm.signal.value


def _unknown_level(metric: str) -> Holding:
    return Holding(None, None, f"the champion's proven level of {metric} is not known")


def _few(name: str, mature: list[WindowRecord], read: int, needed: int) -> str:
    if not mature:
        return "no window of this champion has matured yet"
    if read == 0:
        return said_of(mature[-1].mature or (), f"performance.{name}", f"{name} was not measured")
    return f"{name} could be read in {read} mature windows, {needed} needed"


def _fallen(name: str, group: Sequence[tuple[WindowRecord, Signal]], level: float, drop: float) -> Holding:
    values = [signal.value for _, signal in group]
    mean = sum(values) / len(values)
    error = sqrt(sum(error_of(signal) ** 2 for _, signal in group)) / len(group)
    if len(group) > 1:  # windows differ by more than their rows' noise: the larger of the two errors counts
        between = sum((value - mean) ** 2 for value in values) / (len(group) - 1)
        error = max(error, sqrt(between / len(group)))
    lost = loss(name.removeprefix("estimated "), level, mean)
    over = "" if len(group) == 1 else f" over {len(group)} windows"
    beside = f"{abs(lost):.3g} {'worse' if lost >= 0 else 'better'} than its proven {level:.4g}"
    said = f"{name} is {mean:.4g}{over}, {beside} (line {drop:g})"
    holds = lost > drop and lost > CONFIDENT * error
    changed = turning("a drop", lost, drop, fires=holds)
    if lost > drop and not holds:
        changed = f"a drop above {CONFIDENT * error:.3g} would have been more than noise; it was {lost:.3g}"
    return Holding(holds, lost, said, group[-1][0].span, changed)


def _moved(columns: frozenset[str] | None, above: float, window: WindowRecord) -> Holding:
    alarms = [a for a in window.alarms if a.kind == "drift" and (columns is None or a.signal.column in columns)]
    worst = max(alarms, key=size_of, default=None)
    if worst is None:
        read = [r for r in window.readings if r.name == "drift.psi" and (columns is None or r.column in columns)]
        if not any(isinstance(r, Signal) for r in read):
            return Holding(None, None, said_of(read, "drift.psi", "drift was not measured"), window.span)
        said = "none of the columns meant raised a drift alarm"
        return Holding(False, 0.0, said, window.span, f"an alarm with a PSI above {above:g} would have fired")
    size, holds = size_of(worst), size_of(worst) > above
    said = worst.said if holds else f"no column drifted by more than {above:g}"
    return Holding(holds, size, said, window.span, turning("a PSI", size, above, fires=holds))


def _slow(limits: Mapping[str, float], window: WindowRecord) -> Holding:
    found = {name: window.find(f"serve.latency_{name}") for name in limits}
    read = {name: signal.value for name, signal in found.items() if signal is not None}
    if not read:
        said = said_of(window.readings, f"serve.latency_{min(limits)}", "the model server's latency was not measured")
        return Holding(None, None, said, window.span)
    worst = max(read, key=lambda name: read[name] / limits[name])
    value, limit = read[worst], limits[worst]
    said = f"{worst} of the answers is {value:.3g} ms (line {limit:g} ms)"
    return Holding(
        value > limit, value, said, window.span, turning(f"a {worst} in ms", value, limit, fires=value > limit)
    )


def _failing(limit: float, window: WindowRecord) -> Holding:
    signal = window.find("serve.errors")
    if signal is None:
        said = said_of(window.readings, "serve.errors", "failed requests were not counted")
        return Holding(None, None, said, window.span)
    noise = CONFIDENT * sqrt(limit * (1 - limit) / max(1, signal.rows))
    holds = signal.value > limit + noise
    said = f"{signal.value:.2%} of {signal.rows:,} requests failed (line {limit:.2%})"
    return Holding(holds, signal.value, said, window.span, turning("a share", signal.value, limit + noise, fires=holds))
