"""Drift as alarms: what the monitors found, put into readings and sentences.

Takes readings of how unlike the reference a window is, and what the monitors say of it; gives readings with calibrated
p-values, and alarms; never counts a change as an alarm that is too small to matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from everfit.detect.battery import called, short_p
from everfit.detect.promise import Watched
from everfit.detect.signal import Alarm, Reading, Signal
from everfit.detect.usual import ColumnTest

SAID = {"place": "its values moved", "spread": "its spread changed", "skew": "its skew changed",
        "absent": "its share of missing values changed"}  # fmt: skip


def immaterial(readings: Iterable[Reading], floor: float) -> frozenset[str]:
    """Columns whose change is below a debiased PSI of `floor`, however certain it is.

    >>> small = Signal("drift.psi", "price", 0.011, 1000, effect=0.001)
    >>> sorted(immaterial([small], 0.005)), sorted(immaterial([small], 0.0))
    (['price'], [])
    """
    return frozenset(s.column for s in _psis(readings) if s.effect is not None and s.effect < floor)


def with_tests(readings: Sequence[Reading], watched: Watched, *, columns: Collection[str]) -> tuple[Reading, ...]:
    """Readings of `columns` with the p-value that counts how healthy windows differ, and what would have been found.

    A p-value of sampling noise alone is taken away where no calibrated one is known: it would promise too much. The
    slow detector adds its own reading, `drift.slow`: the evidence, with the blamed column.
    """
    tests = {test.column: test for test in watched.tests}
    found = [_tested(r, tests.get(r.column)) if r.column in columns else r for r in readings]
    if watched.slow is not None:
        rows = tests[watched.slow.column].rows if watched.slow.column in tests else 0
        found.append(Signal("drift.slow", watched.slow.column, watched.slow.value, rows))
    return tuple(found)


def drift_alarms(readings: Sequence[Reading], watched: Watched, floor: float) -> tuple[Alarm, ...]:
    """What the monitors call an alarm, as sentences."""
    psi = {signal.column: signal for signal in _psis(readings)}
    tests = {test.column: test for test in watched.tests}
    alarms = [
        Alarm(psi[column], floor, "drift", _said(psi[column], tests[column]))
        for column in watched.alarms
        if column in psi
    ]
    if watched.slow is not None and watched.slow.alarm:
        slow = next(r for r in reversed(readings) if isinstance(r, Signal) and r.name == "drift.slow")
        effect = psi[slow.column].effect if slow.column in psi else None
        said = f"{called(slow.column)} drifts slowly: evidence {slow.value:.0f} over {watched.slow.threshold:.0f}"
        alarms.append(Alarm(replace(slow, effect=effect), watched.slow.threshold, "drift", said))
    return tuple(alarms)


def _tested(reading: Reading, test: ColumnTest | None) -> Reading:
    if not isinstance(reading, Signal) or reading.name not in ("drift.psi", "drift.ks"):
        return reading
    if test is None or reading.name == "drift.ks":
        return replace(reading, p_value=None)
    return replace(reading, p_value=test.p_value, smallest=test.smallest_shift, unit=test.unit)


def _said(signal: Signal, test: ColumnTest) -> str:
    what = SAID.get(test.score, f"the share of {test.score} changed")
    effect = f", PSI {signal.effect:.2g}" if signal.effect is not None else ""
    return f"{called(signal.column)} drifted: {what} (t = {test.t:.1f}, p = {short_p(test.p_value)}{effect})"


def _psis(readings: Iterable[Reading]) -> list[Signal]:
    return [r for r in readings if isinstance(r, Signal) and r.name == "drift.psi"]
