"""Rows of one key in the lake: what they count, by model, by look, and without a key."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from everfit.flows.arrivals import Pair, Stretch
from everfit.flows.keyed import Keyed, keyed
from everfit.flows.trial import Trial
from everfit.observe.intake import PREDICTION_COLUMNS
from everfit.observe.window import Span
from everfit.ports import Table
from everfit.rollout.checks import Check, Guarding
from everfit.testing import FrozenClock, MemoryLake, in_memory
from tests.traffic import Traffic
from tests.world import FIRST, NOW, World, fill, spec_of

WHOLE = Span(NOW, NOW + timedelta(hours=1))
EMPTY = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in PREDICTION_COLUMNS.items()]


def answers(keys: list[str | None], key: str | None = "customer") -> Keyed:
    """Answers of one model, a minute apart, by key."""
    lake = MemoryLake()
    rows = pl.DataFrame({
        "_id": [f"r{number}" for number in range(len(keys))], "customer": pl.Series(keys, dtype=pl.String),
        "_arrived": [NOW + timedelta(minutes=number) for number in range(len(keys))],
    })  # fmt: skip
    rows = rows.with_columns(_time=pl.col("_arrived"), _day=pl.col("_arrived").dt.date(), _model=pl.lit("c1"))
    missing = [each for each in EMPTY if each.meta.output_name() not in rows.columns]
    lake.add(Table.PREDICTIONS, rows.with_columns(*missing), source="s", batch=1)
    return keyed(lake, key, WHOLE, ["c1", "c2"], timedelta(days=1))


@pytest.mark.parametrize(
    "keys, fresh, effect",
    [
        pytest.param(["a"] * 4, range(4), 4.0, id="all rows of one key count as one"),
        pytest.param(["a"] * 4, [3], 7.0, id="the fourth row of a key that was seen before"),
        pytest.param(["a"] * 4, [0], 1.0, id="what came later does not count"),
        pytest.param(["a", "b", "c", "d"], range(4), 1.0, id="each its own"),
        pytest.param([None, None, "", ""], range(4), 1.0, id="a row without a key stands for itself"),
        pytest.param(["a"] * 4, [], 1.0, id="nothing is weighed"),
    ],
)
def test_the_effect_of_some_rows(keys: list[str | None], fresh: list[int], effect: float) -> None:
    ids = pl.Series([f"r{number}" for number in fresh], dtype=pl.String)
    assert answers(keys).effect(ids) == effect


@pytest.mark.parametrize("key", [None, "never_logged"])
def test_without_a_key_that_is_known_rows_stand_for_themselves(key: str | None) -> None:
    assert answers(["a"] * 4, key).effect(pl.Series(["r0", "r1"])) == 1.0


class OneCustomer(Traffic):
    """All requests are of one customer."""

    def _said(self, candidate: str, version: int, logit: float) -> dict[str, Any] | None:
        row = super()._said(candidate, version, logit)
        return {**row, "shop": "a"} if row else None


def test_what_the_guard_sees_carries_the_effect(tmp_path: Path) -> None:
    world = World(in_memory(FrozenClock(NOW)), tmp_path)
    fill(world.ports.lake)
    world.learn()
    world.renewed("renew-1", FIRST)
    began = world.ports.clock.now()
    OneCustomer(world, per_minute=30).run(2)
    champion = next(iter(world.standing().bench.values()))
    guard = Guarding(checks=(Check(of="errors"), Check(of="loss")))
    span = Span(began, world.ports.clock.now())
    for more, least in (("", 1.0), ("rollout: {key: shop}\n", 30.0)):
        other = replace(champion, candidate=replace(champion.candidate, recipe="another"))
        pair = Pair(champion, other, (Stretch(began, 0.5),))
        seen = Trial(spec_of(FIRST, more), world.ports.lake).look(pair, guard, span).seen
        assert {each.check for each in seen.compared} == {"errors", "loss"}
        assert all(each.effect >= least if more else each.effect == 1 for each in seen.compared)
