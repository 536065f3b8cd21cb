"""The bench live: every day's rows are scored once, when their labels are mature."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from everfit.facts import BenchScored, RecallBegan, RenewEnded
from everfit.flows.bench import bench_of
from everfit.ports import Table
from everfit.testing import FrozenClock, in_memory
from tests.learning import LearningTrainer
from tests.turning import DAY, facts, lives, turning, version
from tests.unit.flows.served import UNWATCHED, Served
from tests.world import DAY0, NOW, fill, rows


def test_a_turn_is_learned_and_when_the_world_turns_back_the_kept_model_is_recalled(tmp_path: Path) -> None:
    served = turning(tmp_path, "+++-----+++", changed=UNWATCHED)
    assert [fact.outcome for fact in facts(served, RenewEnded)] == ["proven", "benched", "benched"]
    recalls = [(fact.candidate, fact.against) for fact in facts(served, RecallBegan)]
    first, second = (version(served, number).candidate.id for number in (1, 2))
    assert recalls == [(second, first), (first, second)]
    assert lives(served) == [1, 2, 1]


@pytest.mark.story
def test_labels_that_come_late_are_waited_for_as_many_windows_as_a_backtest_would(tmp_path: Path) -> None:
    late = {"labels_mature_after: 1h": "labels_mature_after: 2d"}
    served = turning(tmp_path, "++++", changed=late)
    assert [(fact.number, fact.now) for fact in facts(served, BenchScored)] == [(10, 12), (11, 13)]
    bench = bench_of(served.now, served.world.spec.decide.bench)
    assert bench is not None
    assert bench.matured.tolist()[10:] == [9, 9, 10, 11]
    assert bench.served.tolist() == [-1] * 10 + [0] * (len(bench.served) - 10)


def test_what_the_server_answered_with_one_model_is_not_asked_again(tmp_path: Path) -> None:
    served = turning(tmp_path, "+", scored=True)
    champion = served.now.champion
    assert champion is not None
    trainer = served.ports.trainer
    assert isinstance(trainer, LearningTrainer)
    own = served.ports.lake.read(Table.PREDICTIONS, since=None, until=None).collect()
    assert own["_model"].null_count() == own.height  # nobody said whose answers these are: they were asked again
    assert champion.candidate.id in facts(served, BenchScored)[0].levels
    half = pl.lit(champion.candidate.id).alias("_model"), pl.concat_list(pl.lit(0.5), pl.lit(0.5)).alias("_score")
    answered = rows(41, 1)
    _put_answered(served, answered, half)
    assert facts(served, BenchScored)[1].levels[champion.candidate.id] == (0.5, 0.5, 0.5)


def _put_answered(served: Served, frame: pl.DataFrame, answers: tuple[pl.Expr, ...]) -> None:
    """A day that was answered, whatever its rows say."""
    fill(served.ports.lake, frame, batch=99)
    lake: Any = served.ports.lake
    whole = lake.read(Table.PREDICTIONS, since=None, until=None).collect()
    day = whole.filter(pl.col("_id").is_in(frame["flight"].implode()))
    other = in_memory(FrozenClock(NOW)).lake
    kept = whole.filter(~pl.col("_id").is_in(frame["flight"].implode()))
    other.add(
        Table.PREDICTIONS, pl.concat([kept, day.with_columns(*answers)], how="vertical_relaxed"), source="s", batch=1
    )
    other.add(Table.LABELS, lake.read(Table.LABELS, since=None, until=None).collect(), source="s", batch=1)
    served.watch = replace(served.watch, measure=replace(served.watch.measure, lake=other))
    served.day += 1
    served.pass_until(DAY0 + served.day * DAY + timedelta(hours=2))
