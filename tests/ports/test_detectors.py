"""The published laws of detectors, kept by river's and by ours; and what river's promise: nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from everfit.checks import Law, check_detector
from everfit.detect.stream import DETECTORS, Detector, Method, detector_named
from everfit.detector_checks import errors
from everfit.errors import UsageError

LAWS = [pytest.param(law, id=f"{name}: {law}") for name, each in DETECTORS.items() for law in check_detector(each)]


@pytest.mark.parametrize("law", LAWS)
def test_law(law: Law) -> None:
    law()


def test_the_detectors_of_the_field_are_there_by_their_names() -> None:
    theirs = {"adwin", "ddm", "eddm", "hddm_a", "hddm_w", "page_hinkley", "kswin"}
    assert set(DETECTORS) == theirs | {"everfit"}
    assert {name for name, method in DETECTORS.items() if method.promises} == {"everfit"}


def test_rivers_detectors_take_no_rate_and_raise_what_they_raise() -> None:
    """Healthy rows of a 10 % error rate that differs from day to day: who asks for one alarm gets any number."""
    week = 0.1 * (1 + 0.5 * np.sin(np.arange(40) / 40 * 2 * np.pi * 5))
    healthy = np.concatenate([errors(500, rate, seed) for seed, rate in enumerate(week)])
    raised = {}
    for name in ("adwin", "eddm", "page_hinkley"):
        with pytest.raises(UsageError, match="takes no rate"):
            DETECTORS[name].begin(healthy, 1 / 20_000)
        raised[name] = len(DETECTORS[name].begin(np.empty(0)).update(healthy))
    assert min(raised.values()) >= 3
    assert max(raised.values()) > 2 * min(raised.values())
    ours = DETECTORS["everfit"].begin(healthy, 1 / 20_000)
    assert len(ours.update(healthy)) <= 3


def broken(update: Callable[[object, np.ndarray], list[int]]) -> Method:
    made = type("Broken", (), {"update": update})
    return Method("broken", promises=True, binary=True, make=lambda healthy, rate: _as_detector(made()))


def _as_detector(made: object) -> Detector:
    return made  # type: ignore[return-value]  # it has `update`, made at run time


def fails(method: Method) -> set[str]:
    found = set()
    for law in check_detector(method):
        try:
            law()
        except AssertionError:
            found.add(str(law).split(":")[0])
    return found


def test_laws_can_be_broken() -> None:
    deaf = fails(broken(lambda self, rows: []))
    assert any("80 %" in said for said in deaf)
    loud = fails(broken(lambda self, rows: list(range(len(rows)))))
    assert any("without errors" in said for said in loud)
    assert any("promised" in said for said in loud)
    assert any("anew" in said for said in loud)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("ddm", np.array([0.5]), "0 or 1"),
        ("everfit", np.array([2.0]), "between 0 and 1"),
        ("adwin", np.array([np.nan]), "between 0 and 1"),
    ],
)
def test_errors_that_are_none_are_refused(name: str, given: np.ndarray, said: str) -> None:
    healthy = errors(1000, 0.1, 0)
    detector = DETECTORS[name].begin(healthy, 1 / 1000 if DETECTORS[name].promises else None)
    with pytest.raises(UsageError, match=said):
        detector.update(given)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UsageError, match="choose one of everfit, adwin"):
        detector_named("adwim")
    with pytest.raises(UsageError, match="needs the rate"):
        DETECTORS["everfit"].begin(errors(1000, 0.1, 0))
    with pytest.raises(UsageError, match="at least 500 healthy ones"):
        DETECTORS["everfit"].begin(errors(300, 0.1, 0), 1 / 1000)
