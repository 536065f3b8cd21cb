"""Laws of distances and alarms."""

from __future__ import annotations

from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from everfit.detect.battery import drift_alarms, read_drift
from everfit.detect.distribution import (
    category_groups,
    chi_square,
    holm,
    jensen_shannon,
    ks,
    psi,
    wasserstein,
)
from everfit.detect.options import Watching
from everfit.detect.signal import Signal
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile.table import learn_bins, portray
from tests.examples import examples

Two = tuple[list[int], list[int]]
law = examples(100)
pairs = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 500), min_size=n, max_size=n).filter(any)] * 2)
)


@law
@given(pairs)
def test_distances_are_never_negative_and_nothing_for_equal_counts(two: Two) -> None:
    e, a = two
    values = np.arange(float(len(e)))
    for distance in (
        psi,
        jensen_shannon,
        lambda x, y: ks(x, y).value,
        lambda x, y: wasserstein(x, y, values, 1.0),
        lambda x, y: chi_square(x, y).value,
    ):
        assert distance(e, a) >= 0
        assert distance(e, e) == pytest.approx(0, abs=1e-9)
        assert distance(e, a) == pytest.approx(distance(a, e), abs=1e-9), "which side is the reference plays no role"
    assert 0 <= ks(e, a).p_value <= 1
    assert 0 <= chi_square(e, a).p_value <= 1
    assert jensen_shannon(e, a) <= 1


@law
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_categories_plays_no_role(two: Two, chance: Random) -> None:
    e, a = ([*side, 0, 0] for side in two)
    assume(len(set(e[:-2])) == len(e) - 2)  # of equally frequent ones the first takes the earlier place
    order = chance.sample(range(len(e) - 2), len(e) - 2)
    turned = [[side[i] for i in order] + side[-2:] for side in (e, a)]
    before, after = category_groups(e, a), category_groups(turned[0], turned[1])
    for distance in (psi, jensen_shannon, lambda x, y: chi_square(x, y).p_value):
        assert distance(*after) == pytest.approx(distance(*before), abs=1e-12)


def readings(then: pl.DataFrame, now: pl.DataFrame, kind: Kind) -> list[float | None]:
    schema = Schema((Column("x", kind),), ())
    bins = learn_bins(then, schema)
    found = read_drift(portray(now, bins), portray(then, bins), Watching(at_least=1))
    return [
        part
        for r in found
        if isinstance(r, Signal) and r.name in {"drift.psi", "drift.ks", "drift.js"}
        for part in (r.value, r.effect, r.p_value)
    ]


@examples(30)
@given(st.integers(0, 1000), st.floats(-1, 1), st.booleans())
def test_an_increasing_transform_changes_nothing(seed: int, shift: float, tied: bool) -> None:
    chance = np.random.default_rng(seed)
    then, now = chance.normal(size=600), chance.normal(shift, 1, size=300)
    if tied:
        then, now = then.round(1), now.round(1)
    plain = readings(pl.DataFrame({"x": then}), pl.DataFrame({"x": now}), Kind.NUMBER)
    bent = readings(pl.DataFrame({"x": np.exp(then)}), pl.DataFrame({"x": np.exp(now)}), Kind.NUMBER)
    assert bent == pytest.approx(plain)


@examples(30)
@given(st.integers(0, 1000), st.permutations("abcdefgh"))
def test_renaming_categories_on_both_sides_changes_nothing(seed: int, names: list[str]) -> None:
    chance = np.random.default_rng(seed)
    shares = np.arange(1, 9) / 36
    then, now = chance.choice(list("abcdefgh"), 997, p=shares), chance.choice(list("abcdefgh"), 300)
    assume(len(set(np.unique(then, return_counts=True)[1])) == 8)
    renamed = dict(zip("abcdefgh", names, strict=True))
    plain = readings(pl.DataFrame({"x": then}), pl.DataFrame({"x": now}), Kind.CATEGORY)
    sides = [pl.DataFrame({"x": [renamed[str(v)] for v in side]}) for side in (then, now)]
    other = readings(sides[0], sides[1], Kind.CATEGORY)
    assert other == pytest.approx(plain)


@law
@given(st.lists(st.floats(0, 1), max_size=20), st.floats(0, 1), st.integers(1, 5))
def test_a_column_that_says_nothing_never_adds_an_alarm(p_values: list[float], alpha: float, more: int) -> None:
    alone, joined = holm(p_values, alpha), holm([*p_values, *[1.0] * more], alpha)
    assume(alpha < 1)
    assert not any(joined[len(p_values) :])
    assert all(before or not after for before, after in zip(alone, joined, strict=False))


@law
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 0.5))
def test_holm_is_between_bonferroni_and_no_correction(p_values: list[float], alpha: float) -> None:
    for p, rejected in zip(p_values, holm(p_values, alpha), strict=True):
        assert rejected or p > alpha / len(p_values)
        assert not rejected or p <= alpha


@pytest.mark.simulation
def test_without_drift_alarms_stay_within_the_budget() -> None:
    """Independent rows, 20 columns, 100 windows for each of 3 references; no material effect is asked for."""
    alpha, alarmed, windows = 0.05, 0, 0
    for seed in range(3):
        chance = np.random.default_rng(seed)

        def rows(many: int, chance: np.random.Generator = chance) -> pl.DataFrame:
            columns: dict[str, object] = {f"n{i}": chance.normal(size=many) for i in range(10)}
            columns |= {f"t{i}": np.maximum(chance.normal(size=many), 0) for i in range(4)}
            columns |= {f"c{i}": chance.integers(0, 5 * 10**i, many).astype(str) for i in range(4)}
            columns |= {f"r{i}": chance.choice(["a", "b", "c"], many, p=[0.98, 0.015, 0.005]) for i in range(2)}
            return pl.DataFrame(columns)

        then = rows(20_000)
        schema = Schema(tuple(Column(n, Kind.NUMBER if n[0] in "nt" else Kind.CATEGORY) for n in then.columns), ())
        bins = learn_bins(then, schema)
        reference = portray(then, bins)
        for _ in range(100):
            found = read_drift(portray(rows(500), bins), reference, Watching())
            alarmed += bool(drift_alarms(found, alpha=alpha, effect=-1e9))
            windows += 1
    error = np.sqrt(alpha * (1 - alpha) / windows)
    assert alarmed / windows <= alpha + 3 * error
