"""What is the matter? A data fault, a bad release, calibration, drift without harm, decay, or nothing.

Takes the history; gives one `Diagnosis` with its sentence; never decides what to do about it. Faults of the data come
first, for they look like everything else; a bad release comes before decay, for going back costs no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Literal

import scipy

from everfit.decide.history import History, WindowRecord
from everfit.decide.holding import CONFIDENT, error_of, level_of
from everfit.decide.look import loss
from everfit.detect.signal import Alarm
from everfit.observe.window import Span

FAULTS: Mapping[str, str] = {
    "quality.nulls": "null spike",
    "quality.missing": "missing column",
    "quality.refused": "refused rows: type or range",
    "quality.range": "values far out: unit",
    "quality.unit": "unit change",
    "quality.unseen": "renamed category",
    "quality.shifted": "shifted category",
    "quality.frozen": "frozen column",
    "quality.duplicates": "duplicate flood",
    "quality.repeats": "repeated rows",
    "quality.quiet": "source gone quiet",
    "quality.type": "type change",
}
BEHIND = 10  # windows of the previous champion that say what was usual before the release
FEWEST = 3  # of them; with fewer nothing is known of what was usual
MORE_ERRORS = 0.01  # a share of failed requests that rises by more than this is no accident of the hour
RARE = 1e-4  # chance of a jump by accident, for each window that is looked at
OPEN = 30  # windows for which an alarm is what is the matter
LATELY = 3  # mature windows whose mean is held against the proven level
WORSE_CALIBRATED = 0.02  # calibration error is a mean distance of probabilities: two points of a hundred


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is broken, since when."""

    column: str  # "*" for whole rows
    name: str  # of the reading, such as "quality.nulls"
    first_bad: Span
    alarm: Alarm  # the newest one

    @property
    def kind(self) -> str:
        """In words."""
        return FAULTS.get(self.name, self.name)


@dataclass(frozen=True, slots=True)
class DataBug:
    """The rows are broken, and have been since a window that is named."""

    faults: tuple[Fault, ...]
    said: str
    kind: Literal["data_bug"] = "data_bug"

    @property
    def columns(self) -> tuple[str, ...]:
        """What is broken, each once."""
        return tuple(dict.fromkeys(fault.column for fault in self.faults))

    @property
    def kinds(self) -> tuple[str, ...]:
        """How it is broken, in words, each once."""
        return tuple(dict.fromkeys(fault.kind for fault in self.faults))

    @property
    def first_bad(self) -> Span:
        """The first broken window."""
        return min(fault.first_bad for fault in self.faults)


@dataclass(frozen=True, slots=True)
class BadRelease:
    """The champion did harm as soon as it came."""

    release: str  # names the release, so that it is rolled back once
    signal: str  # what rose: "serve.errors", "serve.latency_p50", "performance.roc_auc"
    value: float
    before: float | None  # the worst under the champion before it; None where there is no such number
    said: str
    kind: Literal["bad_release"] = "bad_release"


@dataclass(frozen=True, slots=True)
class CalibrationDrift:
    """Probabilities are off while the ranking holds: a new calibration mends that, without training."""

    rise: float  # of the calibration error over its proven level
    said: str
    kind: Literal["calibration_drift"] = "calibration_drift"


@dataclass(frozen=True, slots=True)
class HarmlessDrift:
    """Columns moved and performance holds."""

    columns: tuple[str, ...]
    said: str
    kind: Literal["harmless_drift"] = "harmless_drift"


@dataclass(frozen=True, slots=True)
class Decay:
    """Performance fell: what was learned is no longer so."""

    window: Span
    columns: tuple[str, ...]  # that drifted as well
    said: str
    kind: Literal["decay"] = "decay"


@dataclass(frozen=True, slots=True)
class Healthy:
    """Nothing is the matter, as far as it is known."""

    said: str
    kind: Literal["healthy"] = "healthy"


Diagnosis = DataBug | BadRelease | CalibrationDrift | HarmlessDrift | Decay | Healthy


def diagnose(past: History, primary: str, *, trial: int = 3, slowest: float | None = None) -> Diagnosis:
    """What is the matter with a model now.

    Args:
        past: What happened so far.
        primary: The metric that proof rests on.
        trial: Mature windows for which a release is on trial; 0: never.
        slowest: Milliseconds that the 99th percentile of the answers may take; None: latency is no harm.

    >>> diagnose(History("m"), "roc_auc").said
    'no champion serves yet'
    """
    if bug := data_bug(past.windows):
        return bug
    if past.champion is None:
        return Healthy("no champion serves yet")
    if release := bad_release(past, trial, slowest):
        return release
    return calibration_drift(past) or _decay(past) or _drift(past, primary)


# ---- data ------------------------------------------------------------------------------------------------------------
def data_bug(windows: Sequence[WindowRecord]) -> DataBug | None:
    """What is broken in the rows, window by window: a fault stays until a window shows its column whole again.

    A window without rows of that column lifts nothing. A column that the reference no longer has is forgotten.
    """
    open_: dict[tuple[str, str], Fault] = {}
    for window in windows:
        alarms = {(a.signal.column, a.signal.name): a for a in window.alarms if a.kind == "quality"}
        broken = {column for column, _ in alarms}
        open_ = {key: fault for key, fault in open_.items() if key in alarms or not _whole(key[0], window, broken)}
        for key, alarm in alarms.items():
            first = open_[key].first_bad if key in open_ else window.span
            open_[key] = Fault(*key, first, alarm)
    if not open_:
        return None
    faults = tuple(open_.values())
    said = "; ".join(f"{fault.alarm.said} ({fault.kind}, since {fault.first_bad})" for fault in faults)
    return DataBug(faults, said)


def _whole(column: str, window: WindowRecord, broken: set[str]) -> bool:
    """Whether a window shows that a column is whole."""
    if column in broken or window.rows == 0:
        return False
    read = [r for r in window.readings if r.name == "drift.psi"]
    if column == "*" or not read:
        return column == "*"
    mine = [r for r in read if r.column == column]
    return not mine or any(r.rows > 0 for r in mine)


# ---- a release -------------------------------------------------------------------------------------------------------
def bad_release(past: History, trial: int, slowest: float | None = None) -> BadRelease | None:
    """Whether the champion did harm within its first windows, which the one before it had not done.

    Args:
        past: What happened so far.
        trial: Mature windows for which a release is on trial; 0: it never is.
        slowest: Milliseconds that the 99th percentile of the answers may take; None: latency is no harm.
    """
    live = past.champion
    if live is None or live.back or past.previous is None or trial == 0:
        return None
    served = past.served
    if not served or sum(1 for window in served if window.mature is not None) > trial:
        return None
    before = [w for w in past.windows if w.champion == past.previous and w.span.end <= live.live_since][-BEHIND:]
    slow = _slower(live.release, served, before, slowest)
    return _failing(live.release, served, before) or slow or _worse(past, before)


def _failing(release: str, served: Sequence[WindowRecord], before: Sequence[WindowRecord]) -> BadRelease | None:
    usual = [s.value for w in before if (s := w.find("serve.errors")) is not None]
    if len(usual) < FEWEST:
        return None
    line = min(1.0, max(usual) + MORE_ERRORS)
    for window in served:
        signal = window.find("serve.errors")
        if signal is None or signal.rows == 0 or signal.value <= line:
            continue
        failed = round(signal.value * signal.rows)
        if float(scipy.special.bdtrc(failed - 1, signal.rows, line)) <= RARE:
            said = f"{signal.value:.1%} of the requests failed in {window.span}, at most {max(usual):.1%} before"
            return BadRelease(release, signal.name, signal.value, max(usual), said)
    return None


def _slower(
    release: str, served: Sequence[WindowRecord], before: Sequence[WindowRecord], slowest: float | None
) -> BadRelease | None:
    """Answers over the limit of the spec, where those of the version before were under it.

    Without a limit latency says nothing: a busy machine doubles it, and no model is to blame.
    """
    name = "serve.latency_p99"
    usual = [s.value for w in before if (s := w.find(name)) is not None]
    if slowest is None or len(usual) < FEWEST or max(usual) > slowest:
        return None
    for window in served:
        signal = window.find(name)
        if signal is not None and signal.low is not None and signal.low > slowest:
            took = f"{signal.value:.3g} ms in {window.span}, the limit is {slowest:g}, at most {max(usual):.3g} before"
            return BadRelease(release, name, signal.value, slowest, f"the p99 of the answers took {took}")
    return None


def _worse(past: History, before: Sequence[WindowRecord]) -> BadRelease | None:
    """A calibrated alarm of performance, when the champion before had none in windows that could have raised one."""
    mature = [window for window in before if window.mature is not None]
    if past.champion is None or not mature or any(window.decay for window in mature):
        return None
    for window in past.served:
        alarm = window.decay
        if alarm is not None:
            said = f"{alarm.said} in {window.span}; the version before had no such alarm in {len(mature)} windows"
            return BadRelease(past.champion.release, alarm.signal.name, alarm.signal.value, None, said)
    return None


# ---- performance and drift -------------------------------------------------------------------------------------------
def calibration_drift(past: History) -> CalibrationDrift | None:
    """Whether the calibration error rose over its proven level while ROC AUC did not fall, lately."""
    error = _lately(past, "calibration_error")
    ranking = _lately(past, "roc_auc")
    if error is None or ranking is None:
        return None
    rise, noise = error
    lost, ranking_noise = ranking
    if rise <= WORSE_CALIBRATED or rise <= CONFIDENT * noise or lost > CONFIDENT * ranking_noise:
        return None
    said = (
        f"the calibration error rose by {rise:.3g} over its proven level while roc_auc holds: "
        "recalibrate the scores on recent labels; training again is not called for"
    )
    return CalibrationDrift(rise, said)


def _lately(past: History, metric: str, *, least: int = LATELY) -> tuple[float, float] | None:
    """Mean loss of the last mature windows below the proven level, and its standard error; None if too few."""
    level = level_of(past.champion, metric)
    read = [s for w in past.served if (s := w.find_mature(f"performance.{metric}")) is not None][-LATELY:]
    if level is None or len(read) < least:
        return None
    losses = [loss(metric, level, s.value) for s in read]
    within = sqrt(sum(error_of(s) ** 2 for s in read)) / len(read)
    mean = fmean(losses)
    between = sqrt(sum((value - mean) ** 2 for value in losses) / max(1, len(read) - 1) / len(read))
    return mean, max(within, between)


def _decay(past: History) -> Decay | None:
    found = next(((w, a) for w in reversed(past.served[-OPEN:]) if (a := w.decay) is not None), None)
    if found is None:
        return None
    window, alarm = found
    columns = past.served[-1].drifted or window.drifted
    moved = f"; {', '.join(columns)} moved as well" if columns else "; no column moved, so what they mean did"
    return Decay(window.span, columns, f"{alarm.said} in {window.span}{moved}")


def _drift(past: History, primary: str) -> HarmlessDrift | Healthy:
    served = past.served
    columns = served[-1].drifted if served else ()
    if not columns:
        return Healthy("no column moved" if served else "no window of this champion has ended yet")
    moved, lately = ", ".join(columns), _lately(past, primary, least=1)
    if lately is None:
        return Healthy(f"{moved} moved; whether it hurts is not known before labels mature")
    lost, noise = lately
    if lost > CONFIDENT * noise:
        return Healthy(f"{moved} moved, and {primary} is {lost:.3g} worse than proven; no alarm of performance yet")
    return HarmlessDrift(
        columns, f"{moved} moved, and performance holds: {primary} is {-lost:+.3g} from its proven level"
    )
