"""Where traffic is split by a key, rows of one key hang together: the guard's promise must hold all the same."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from everfit.rollout.checks import Check, Guarding
from everfit.rollout.guard import Compared, RollBack, Seen, begin, look
from everfit.rollout.keys import effect_of

RUNS, LOOKS, KEYS, A_KEY, PROMISE = 300, 40, 60, 20, 0.1
MOST = PROMISE + 3 * math.sqrt(PROMISE * (1 - PROMISE) / RUNS)
START = datetime(2013, 1, 1, tzinfo=UTC)
GUARD = Guarding(checks=(Check(of="errors", at_least=20),), false_rollbacks=PROMISE)


def arrivals(chance: np.random.Generator, *, at_once: bool) -> np.ndarray:
    """How many rows each key sends in each look, shape (looks, keys): all in one, or spread."""
    if at_once:
        found = np.zeros((LOOKS, KEYS))
        found[chance.integers(LOOKS, size=KEYS), np.arange(KEYS)] = A_KEY
        return found
    return chance.multinomial(A_KEY, np.full(LOOKS, 1 / LOOKS), size=KEYS).T.astype(float)


def taken_back(seed: int, *, worse: float = 0.0, at_once: bool = False, knows: bool = True) -> bool:
    """Whether a release is rolled back: of a key all rows fail or none, on either model alike."""
    chance = np.random.default_rng(seed)
    came = [arrivals(chance, at_once=at_once) for _ in range(2)]
    fails = [chance.random(KEYS) < 0.2 + lift for lift in (0.0, worse)]
    state = begin(START, timedelta(hours=1))
    for at in range(LOOKS):
        sides = [np.repeat(bad, rows[at].astype(int)).astype(float) for bad, rows in zip(fails, came, strict=True)]
        effects = [effect_of(rows[: at + 1].sum(axis=0), rows[at]) for rows in came]
        effect = max(effects) if knows else 1.0
        seen = Seen((sides[0].size, sides[1].size), (Compared("errors", sides[0], sides[1], effect=effect),))
        state, verdict = look(state, seen, GUARD, START + timedelta(minutes=at + 1))
        if isinstance(verdict, RollBack):
            return True
    return False


@pytest.mark.simulation
@pytest.mark.parametrize("at_once", [True, False], ids=["a key comes in one look", "a key comes in many looks"])
def test_twenty_rows_a_key_do_not_raise_more_false_alarms_than_promised(at_once: bool) -> None:
    assert np.mean([taken_back(seed, at_once=at_once) for seed in range(RUNS)]) <= MOST


@pytest.mark.simulation
def test_without_the_effect_they_do_and_with_it_harm_is_still_found() -> None:
    few = range(100)
    assert np.mean([taken_back(seed, at_once=True, knows=False) for seed in few]) > MOST
    assert np.mean([taken_back(seed, worse=0.7) for seed in few]) > 0.8
