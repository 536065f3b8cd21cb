"""Errors by slice: a failed copy, a failed answer and a refused request each count in the slice of their request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from everfit.facts import ReleaseEnded
from everfit.flows.arrivals import Pair, Stretch, columns_in, slices_of
from everfit.flows.trial import Trial
from everfit.judge.options import Slices
from everfit.observe.intake import PREDICTION_COLUMNS
from everfit.observe.window import Span
from everfit.ports import Route, Table
from everfit.ports import Trial as Tried
from everfit.rollout.checks import Check, Guarding
from everfit.rollout.sequential import Sample
from everfit.spec import Spec
from everfit.standing import Kept
from everfit.testing import FrozenClock, in_memory
from tests.traffic import Traffic
from tests.world import FIRST, NOW, SECOND, World, fill, find, spec_of

STAGES = """rollout: {mirror: 30m, weights: [40%], interval: 30m,
  guard: {requests_at_least: 20, checks: [{of: errors, at_least: 50, worse_by_at_most: 0.06}]}}
"""
CANARY = STAGES.replace("mirror: 30m, ", "")
GUARD = Guarding(checks=(Check(of="errors", slices=True),))


@dataclass
class Shops(Traffic):
    """Requests of shops: every tenth is of shop a, the others of b."""

    failing: dict[int, tuple[str, ...]] = field(default_factory=dict)  # version -> shops of which it fails on half

    @property
    def _shop(self) -> str:
        return "a" if self._sent % 10 == 0 else "b"

    def _one(self, route: Route, at: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
        for table, row in super()._one(route, at):
            kept = {"_payload": json.dumps({"shop": self._shop})} if table is Table.REFUSED else {}
            yield table, {**row, **kept}

    def _said(self, candidate: str, version: int, logit: float) -> dict[str, Any] | None:
        row = super()._said(candidate, version, logit)
        failed = self._shop in self.failing.get(version, ()) and self.chance.random() < 0.5
        return None if failed or row is None else {**row, "shop": self._shop}


def sliced(spec: Spec) -> Spec:
    """The spec with errors by shop."""
    judge = spec.judge.model_copy(update={"slices": Slices(by=("shop",))})
    checks = tuple(check.model_copy(update={"slices": True}) for check in spec.rollout.guard.checks)
    guard = spec.rollout.guard.model_copy(update={"checks": checks})
    return spec.model_copy(update={"judge": judge, "rollout": spec.rollout.model_copy(update={"guard": guard})})


def project(folder: Path) -> World:
    made = World(in_memory(FrozenClock(NOW)), folder)
    fill(made.ports.lake)
    made.learn()
    return made


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A project without a champion."""
    return project(tmp_path)


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A model that was trained once for all tests."""
    made = project(tmp_path_factory.mktemp("champion"))
    made.renewed("renew-1", FIRST)
    return next(iter(made.standing().bench.values()))


@pytest.mark.parametrize(
    "stages, where",
    [
        pytest.param(STAGES, "errors on the same rows where shop=a", id="in the shadow"),
        pytest.param(CANARY, "errors where shop=a", id="at the canary"),
    ],
)
def test_a_challenger_that_fails_in_one_slice_is_taken_back(world: World, stages: str, where: str) -> None:
    world.renewed("renew-1", FIRST)
    users = Shops(world, per_minute=200, failing={2: ("a",)})
    users.run(2)
    world.begin("renew-2", SECOND, stages)
    world.spec = sliced(world.spec)
    world.finish()
    run = world.releases()[-1]
    users.run(20, until=run)
    ended = find(world, run, ReleaseEnded)
    assert "; it failed by crash (" in ended.said
    assert (ended.outcome, ended.said.split(" against")[0].rsplit(" ", 1)[0]) == (
        "rolled_back",
        f"rolled back: {where}",
    )


def seen(
    world: World, champion: Kept, share: float, failing: dict[int, tuple[str, ...]]
) -> dict[str, tuple[tuple[float, float], ...]]:
    """(failed, asked) of champion and challenger, by slice, after some minutes of traffic in one stage."""
    other = replace(champion, candidate=replace(champion.candidate, recipe="another"), version=2)
    here, beside = (champion, other) if share < 1 else (other, champion)
    trial = Tried(beside.candidate.id, beside.version, share if share < 1 else 0.0, float(share in (0, 1)), "r")
    users, began = Shops(world, per_minute=100, failing=failing), world.ports.clock.now()
    world.ports.gateway.publish(champion.candidate, champion.version, world.folder)
    world.ports.gateway.publish(other.candidate, 2, world.folder)
    world.ports.gateway.point("m", Route(here.candidate.id, here.version, "k", trial))
    users.run(4)
    span = Span(began, world.ports.clock.now())
    pair = Pair(champion, other, (Stretch(began, share),))
    found = Trial(sliced(spec_of()), world.ports.lake).look(pair, GUARD, span).seen.compared
    assert all(each.paired == (share == 0) for each in found)
    return {each.slice: tuple(map(counted, (each.champion, each.challenger))) for each in found}


def counted(side: Any) -> tuple[float, float]:
    return (float(side.counts[1]), side.rows) if isinstance(side, Sample) else (float(side.sum()), float(len(side)))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0], ids=["mirror", "weight", "bake"])
def test_slices_add_up_to_all_rows_and_only_the_bad_one_fails(world: World, champion: Kept, share: float) -> None:
    found = seen(world, champion, share, {2: ("a",)})
    assert set(found) == {"*", "shop=a", "shop=b"}
    for side in (0, 1):
        assert [found["shop=a"][side][n] + found["shop=b"][side][n] for n in (0, 1)] == list(found["*"][side])
    assert found["shop=b"][1][0] == found["*"][0][0] == 0
    failed, asked = found["shop=a"][1]
    assert 0.2 < failed / asked < 0.8


def test_what_the_champion_fails_on_counts_in_its_slice(world: World, champion: Kept) -> None:
    found = seen(world, champion, 0.4, {1: ("a",)})
    failed, asked = found["shop=a"][0]
    assert 0.2 < failed / asked < 0.8
    assert found["shop=b"][0][0] == found["*"][1][0] == 0


def test_what_the_champion_answers_for_the_challenger_is_no_row_of_its_own(world: World, champion: Kept) -> None:
    found = seen(world, champion, 0.4, {2: ("a", "b")})
    assert found["*"][0][1] + found["*"][1][1] == 400


def test_numbers_in_refused_requests_are_slices_like_those_of_the_lake() -> None:
    kept = pl.Series(['{"code": 7, "open": false}', '{"code": "x"}', '{"code": null, "open": "no"}'])
    for dtype, code in ((pl.Int64(), "7"), (pl.Float64(), "7.0"), (pl.String(), "7")):
        lake = pl.Series([7]).cast(dtype).cast(pl.String)[0]
        found = columns_in(kept, {"code": dtype, "open": pl.Boolean()})
        assert found["code"].to_list() == [code, "x" if dtype == pl.String else None, None]
        assert (found["code"][0], found["open"].to_list()) == (lake, ["false", None, "no"])


def test_latencies_of_one_moment_count_as_one(world: World, champion: Kept) -> None:
    """A moment in which the machine does something else strikes all of a model's rows, and not the other's."""
    other = replace(champion, candidate=replace(champion.candidate, recipe="another"), version=2)
    pair = Pair(champion, other, (Stretch(NOW, 0.5),))
    at = [NOW + timedelta(seconds=1 + number // 10) for number in range(40)]
    rows = pl.DataFrame({"_id": [f"r{n}" for n in range(40)], "_arrived": at, "_latency_ms": 5.0}).with_columns(
        _time=pl.col("_arrived"), _day=pl.col("_arrived").dt.date(),
        _model=pl.Series([champion.candidate.id, other.candidate.id] * 20),
    )  # fmt: skip
    empty = [pl.lit(None, dtype).alias(name) for name, dtype in PREDICTION_COLUMNS.items() if name not in rows.columns]
    world.ports.lake.add(Table.PREDICTIONS, rows.with_columns(*empty), source="s", batch=9)
    guard = Guarding(checks=(Check(of="latency"),))
    found = Trial(spec_of(), world.ports.lake).look(pair, guard, Span(NOW, NOW + timedelta(minutes=1))).seen.compared
    assert [(each.check, each.effect) for each in found] == [("latency", 5.0)]


def test_a_column_may_be_called_count_and_ties_are_told_in_order() -> None:
    sides = [pl.DataFrame({"count": ["b", "a", None]}), pl.DataFrame({"count": ["c", "c"]})]
    assert list(slices_of(sides, ["count"])) == [("count", "c"), ("count", "a"), ("count", "b")]
