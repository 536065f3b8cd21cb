"""Detectors of change on a stream of rows' errors, one row after the other: the field's by their names, and Everfit's.

Takes the errors of healthy rows and then those that come; gives the places of the rows that alarm; never stores state:
a detector is begun again and fed the champion's matured rows, which gives the same alarms.

The field's detectors come from river and take no rate of false alarms: what they raise depends on the data (measured
in benchmarks/soundness_performance.py). `everfit` is the decay detector on windows of 100 rows; it takes a rate and
keeps it. This file is river's only door. Sources: ADWIN (Bifet and Gavalda 2007), DDM (Gama et al. 2004), EDDM
(Baena-Garcia et al. 2006), HDDM (Frias-Blanco et al. 2015), Page-Hinkley (Page 1954), KSWIN (Raab et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from threading import Lock
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from everfit.detect.decay import Baseline, Decay, advance_losses, counted
from everfit.detect.outcomes import Floats
from everfit.detect.proven import learn_losses
from everfit.errors import UsageError

WINDOW = 100  # rows; +5 points of a 10 % error rate are found after 900 rows, with windows of 1,000 after 1,000
SEED = 20_130_101  # of KSWIN, which draws; the same rows give the same alarms
INSTALL = "python -m pip install 'everfit[online]'"


class Detector(Protocol):
    """Watches a stream of errors. How rows are grouped into calls plays no role."""

    def update(self, errors: Floats) -> list[int]:
        """Places of the rows that alarm, counted from the first row after the healthy ones."""
        ...


@dataclass(frozen=True, slots=True)
class Method:
    """A detector that can be begun."""

    name: str
    promises: bool  # whether it takes a rate of false alarms, and keeps it
    binary: bool  # whether its errors must be 0 or 1
    make: Callable[[Floats, float], Detector]

    def begin(self, healthy: Floats, rate: float | None = None) -> Detector:
        """A fresh detector that has seen the errors of healthy rows.

        Args:
            healthy: Errors in [0, 1] of rows that the model was not trained on.
            rate: False alarms per row that are allowed, on average; only for detectors that promise.

        >>> detector = DETECTORS["everfit"].begin(np.zeros(2000), 1 / 365_000)
        >>> detector.update(np.zeros(1000)), detector.update(np.ones(100))
        ([], [1099])

        Raises:
            UsageError: a rate was given to a detector that takes none, or not given to one that needs it; errors are
                not what it takes; river is not installed.
        """
        if rate is not None and not self.promises:
            raise UsageError(f"{self.name} takes no rate of false alarms, so it cannot keep one; use 'everfit'")
        if rate is None and self.promises:
            raise UsageError(f"{self.name} needs the rate of false alarms to keep, per row")
        return self.make(_checked(healthy, self), rate or 0.0)


def detector_named(name: str) -> Method:
    """Find a detector by its name.

    >>> detector_named("adwin").promises
    False

    Raises:
        UsageError: there is none of this name.
    """
    if name not in DETECTORS:
        raise UsageError(f"{name!r} is not a detector; choose one of {', '.join(DETECTORS)}")
    return DETECTORS[name]


@dataclass(slots=True)
class _Windows:
    """The decay detector on a stream: an alarm falls on the last row of its window."""

    baseline: Baseline
    rate: float
    state: Decay = field(default_factory=Decay)
    waiting: Floats = field(default_factory=lambda: np.empty(0))
    seen: int = 0

    def update(self, errors: Floats) -> list[int]:
        rows, found = np.concatenate([self.waiting, _checked(errors, DETECTORS["everfit"])]), []
        for start in range(0, len(rows) - WINDOW + 1, WINDOW):
            window = counted(rows[start : start + WINDOW])
            self.state, evidence = advance_losses(self.state, self.baseline, window, self.rate * WINDOW)
            self.seen += WINDOW
            if evidence.alarm:
                found.append(self.seen - 1)
        self.waiting = rows[len(rows) // WINDOW * WINDOW :]
        return found


@dataclass(slots=True)
class _River:
    """One of river's detectors."""

    method: Method
    detector: Any
    seen: int = 0

    def update(self, errors: Floats) -> list[int]:
        found = []
        for error in _checked(errors, self.method).tolist():
            self.detector.update(bool(error) if self.method.binary else error)
            if self.detector.drift_detected:
                found.append(self.seen)
            self.seen += 1
        return found


def _everfit(healthy: Floats, rate: float) -> Detector:
    windows = [counted(healthy[at : at + WINDOW]) for at in range(0, len(healthy) - WINDOW + 1, WINDOW)]
    baseline = learn_losses("errors", windows)
    if not isinstance(baseline, Baseline):
        raise UsageError(f"{baseline.said}; a window is {WINDOW} rows, so give at least {5 * WINDOW} healthy ones")
    return _Windows(baseline, rate)


_IMPORTING = Lock()  # two threads that import two modules of river at once end in a deadlock error of Python's


def _river(module: str, kind: str, *, back: int | None = None, **options: Any) -> Callable[[Floats, float], Detector]:
    """Begin a detector of river that looks back so many rows. Only here the module is imported: that takes seconds."""

    def make(healthy: Floats, rate: float) -> Detector:
        try:
            with _IMPORTING:
                made = getattr(import_module(module), kind)(**options)
        except ModuleNotFoundError as error:
            if error.name != "river":
                raise
            raise UsageError(f"{kind} comes from river, which is not installed; install it with: {INSTALL}") from error
        begun = _River(next(method for method in DETECTORS.values() if method.make is make), made)
        begun.update(healthy if back is None else healthy[-back:])
        begun.seen = 0
        return begun

    return make


def _checked(errors: Floats, method: Method) -> Floats:
    """A copy of the errors, if they are what the detector takes."""
    found = np.array(errors, dtype=np.float64).reshape(-1)
    if not bool(((found >= 0) & (found <= 1)).all()):
        raise UsageError(f"{method.name} takes errors between 0 and 1; scale or clip them first")
    if method.binary and not bool(np.isin(found, (0.0, 1.0)).all()):
        raise UsageError(f"{method.name} takes errors that are 0 or 1; use adwin, page_hinkley, kswin or everfit")
    return found


DRIFT = "river.drift"
DETECTORS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("everfit", promises=True, binary=False, make=_everfit),
            Method("adwin", promises=False, binary=False, make=_river(DRIFT, "ADWIN")),
            Method("ddm", promises=False, binary=True, make=_river(f"{DRIFT}.binary", "DDM")),
            Method("eddm", promises=False, binary=True, make=_river(f"{DRIFT}.binary", "EDDM")),
            Method("hddm_a", promises=False, binary=True, make=_river(f"{DRIFT}.binary", "HDDMA")),
            Method("hddm_w", promises=False, binary=True, make=_river(f"{DRIFT}.binary", "HDDMW")),
            Method("page_hinkley", promises=False, binary=False, make=_river(DRIFT, "PageHinkley")),
            Method("kswin", promises=False, binary=False, make=_river(DRIFT, "KSWIN", back=100, seed=SEED)),
        )
    }
)
