"""How much rows of one key count: Kish's sum of squares, and by how much new rows raise it."""

from __future__ import annotations

import numpy as np
import pytest

from everfit.rollout.keys import effect_of


@pytest.mark.parametrize(
    "rows, fresh, effect",
    [
        pytest.param([], [], 1.0, id="nothing came"),
        pytest.param([1] * 50, [1] * 50, 1.0, id="each row for itself"),
        pytest.param([20] * 5, [20] * 5, 20.0, id="twenty rows a key in one look are worth one"),
        pytest.param([2, 20], [1, 0], 3.0, id="keys without new rows do not count"),
        pytest.param([1000, *[1] * 1000], [1000, *[1] * 1000], 500.5, id="one large customer beside many small ones"),
    ],
)
def test_the_effect(rows: list[int], fresh: list[int], effect: float) -> None:
    assert effect_of(rows, fresh) == pytest.approx(effect)


def test_in_many_looks_or_in_one_the_sum_of_squares_is_the_same() -> None:
    chance = np.random.default_rng(1)
    total, squares = np.zeros(30), 0.0
    for _ in range(40):
        fresh = chance.poisson(0.5, 30)
        total = total + fresh
        squares += effect_of(total, fresh) * fresh.sum() if fresh.any() else 0.0
    assert squares == pytest.approx(float((total**2).sum()))
