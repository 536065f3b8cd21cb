"""What every detector on a stream of errors owes; `everfit.checks.check_detector` makes laws of it.

Takes a method; gives nothing, or raises AssertionError when it does not keep a duty; never knows a detector by name.
"""

from __future__ import annotations

import numpy as np

from everfit.detect.outcomes import Floats
from everfit.detect.stream import Detector, Method
from everfit.errors import UsageError

HEALTHY, BAD = 0.05, 0.8  # error rates before and after the change of the laws
BEFORE = 2000  # healthy rows that a detector has seen
QUIET, AFTER = 250, 350  # rows before and after the change
WITHIN = 350  # rows in which so great a change must be found
REST = 10  # rows after an alarm in which there is no other
RATE, ROWS, RUNS = 1 / 2000, 10_000, 60  # of the promise: 5 alarms a run are allowed on average


def errors(rows: int, rate: float, seed: int) -> Floats:
    """Errors that are independent, 0 or 1.

    >>> errors(4, 0.5, 1).tolist()
    [0.0, 0.0, 1.0, 0.0]
    """
    return (np.random.default_rng(seed).random(rows) < rate).astype(np.float64)


def begun(method: Method, seed: int = 1, rows: int = BEFORE) -> Detector:
    """A detector that has seen healthy rows."""
    return method.begin(errors(rows, HEALTHY, seed), RATE if method.promises else None)


def _changed() -> Floats:
    return np.concatenate([errors(QUIET, HEALTHY, 2), errors(AFTER, BAD, 3)])


def _must(holds: bool, said: str) -> None:
    if not holds:
        raise AssertionError(said)


def same_again(method: Method) -> None:
    """The same rows give the same alarms, at places that rise and lie within the stream."""
    stream = _changed()
    once, again = (begun(method).update(stream) for _ in range(2))
    _must(once == again, f"{once} and then {again}")
    _must(once == sorted(set(once)) and all(0 <= place < len(stream) for place in once), f"places: {once}")


def input_is_kept(method: Method) -> None:
    """The errors that it is given stay as they were."""
    healthy, stream = errors(BEFORE, HEALTHY, 1), _changed()
    before = healthy.copy(), stream.copy()
    method.begin(healthy, RATE if method.promises else None).update(stream)
    _must(np.array_equal(before[0], healthy) and np.array_equal(before[1], stream), "errors were changed")


def nothing_from_nothing(method: Method) -> None:
    """An empty stream gives no alarm and changes nothing."""
    detector, stream = begun(method), _changed()
    _must(detector.update(np.empty(0)) == [], "an alarm without a row")
    _must(detector.update(stream) == begun(method).update(stream), "an empty call changed the state")


def grouping_plays_no_role(method: Method) -> None:
    """Rows one by one, in odd groups or all at once give the same alarms."""
    stream = _changed()
    whole = begun(method).update(stream)
    for cuts in ([1, 8, 255, 307, 500], list(range(180, 400))):
        detector, found = begun(method), []
        for part in np.split(stream, cuts):
            found += detector.update(part)
        _must(found == whole, f"{found} in groups, {whole} at once")


def no_error_no_alarm(method: Method) -> None:
    """A model without errors is never alarmed about."""
    detector = method.begin(np.zeros(BEFORE), RATE if method.promises else None)
    found = detector.update(np.zeros(1000))
    _must(found == [], f"alarms at {found[:5]}")


def great_change_is_found(method: Method) -> None:
    """A change from 5 % errors to 80 % is found within 350 rows."""
    for seed in range(2):
        detector = begun(method, seed)
        detector.update(errors(QUIET, HEALTHY, seed + 10))
        found = detector.update(errors(WITHIN, BAD, seed + 20))
        _must(bool(found), "not found")


def begins_anew(method: Method) -> None:
    """After an alarm it begins anew: the next rows do not alarm on the same evidence."""
    found = begun(method).update(_changed())
    _must(len(found) > 0 and bool((np.diff(found) > REST).all()), f"alarms at {found}")


def rate_is_kept(method: Method) -> None:
    """A rate that is promised is kept on healthy rows; one that is not promised cannot be asked for."""
    if not method.promises:
        try:
            method.begin(errors(BEFORE, HEALTHY, 1), RATE)
        except UsageError:
            return
        raise AssertionError("a rate was taken that is not promised")
    counts = [len(begun(method, 2 * run, 5000).update(errors(ROWS, HEALTHY, 2 * run + 1))) for run in range(RUNS)]
    allowed = RATE * ROWS + 3 * float(np.std(counts)) / RUNS**0.5
    _must(float(np.mean(counts)) <= allowed, f"{np.mean(counts):.2f} alarms a stream, {allowed:.2f} allowed")


DUTIES = (
    same_again, input_is_kept, nothing_from_nothing, grouping_plays_no_role, no_error_no_alarm, great_change_is_found,
    begins_anew, rate_is_kept,
)  # fmt: skip
