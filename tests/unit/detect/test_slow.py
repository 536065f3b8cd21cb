"""Evidence that adds up over windows."""

from __future__ import annotations

import numpy as np
import pytest
from tests.days import days, normal_counts, plain_lens, portrayed

from everfit.detect.slow import MOST, STEPS, Slow, advance, advance_by, begin, evidence
from everfit.detect.usual import Usual, column_chances, learn_usual, usual_of
from everfit.errors import Refused, UsageError

RATE = 0.5 / 365
COLUMNS = 10


def usual(rng: np.random.Generator, effect: float = 0.05) -> Usual:
    return usual_of(plain_lens(COLUMNS), normal_counts(rng, rng.normal(0, effect, (40, COLUMNS))), np.arange(40))


def test_a_shift_too_small_for_any_window_is_found_over_windows() -> None:
    rng = np.random.default_rng(1)
    known = usual(rng)
    effects = rng.normal(0, 0.05, (30, COLUMNS))
    effects[:, 4] += 0.15
    apart = known.apart(normal_counts(rng, effects), np.arange(30))
    single = column_chances(known.ruler, apart.t, known.spread.freedom).min(axis=1) * COLUMNS
    slow, first = begin(known), None
    for at, scores in enumerate(evidence(known, apart)):
        step = advance_by(slow, scores, known, RATE)
        slow = step.slow
        if step.alarm:
            first = first or (at, step.column)
    assert first is not None
    assert first[0] < 20
    assert first[1] == "x4"
    assert (single[: first[0] + 1] > RATE).all()


def test_it_begins_anew_after_an_alarm() -> None:
    known = usual(np.random.default_rng(2))
    full = Slow(np.full_like(begin(known).sums, 1e6))
    step = advance_by(full, np.zeros((2, len(known.ruler.used))), known, RATE)
    assert step.alarm
    assert step.value > step.threshold == 1 / RATE
    assert not step.slow.sums.any()


def test_a_shift_that_does_not_matter_is_tolerated() -> None:
    rng = np.random.default_rng(3)
    known = usual(rng)
    apart = known.apart(normal_counts(rng, np.full((1, COLUMNS), 0.2)), np.array([40]))
    assert evidence(known, apart, tolerance=0.3).max() < evidence(known, apart).max() == MOST


def test_profiles_and_state_go_through_storage() -> None:
    rng = np.random.default_rng(4)
    windows = portrayed(days(rng, 26))
    known = learn_usual(windows[:24])
    first = advance(begin(known), windows[24], known, RATE)
    again = Slow.from_bytes(first.slow.to_bytes())
    assert again.sums.tolist() == first.slow.sums.tolist()
    assert first.slow.sums.shape == (2, len(STEPS), len(known.ruler.used))
    one, other = (advance(state, windows[25], known, RATE) for state in (first.slow, again))
    assert one.value == other.value
    with pytest.raises(Refused):
        Slow.from_bytes(b"nothing")


def test_it_waits_for_history_and_for_its_own_champion() -> None:
    rng = np.random.default_rng(5)
    windows = portrayed(days(rng, 24))
    with pytest.raises(UsageError, match="wait for 20"):
        advance(begin(learn_usual(windows)), windows[0], learn_usual(windows[:19]), RATE)
    with pytest.raises(UsageError, match="another champion"):
        advance(begin(usual(rng)), windows[0], learn_usual(windows), RATE)
