"""Windows of the bench: how many of the watch's make one, how they are numbered, and which rows a run of them means."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from everfit.decide.bench import Why
from everfit.decide.bench_options import BenchOptions
from everfit.decide.bench_reads import Rows
from everfit.decide.decision import BenchRun
from everfit.detect.performance import METRICS
from everfit.facts import BenchScored, Fact, WindowClosed, WindowMatured
from everfit.flows.bench import bench_of, span_of_rows, turns_of
from everfit.flows.shadows import best_constant
from everfit.fold import fold
from everfit.observe.options import Observing
from everfit.observe.options import Rows as RowWindow
from everfit.observe.window import Span
from everfit.retrain.recipe import LakeVersion
from everfit.standing import Standing
from tests.unit.builders import DAY, START, candidate, chained, day, going_live, training

FIRST = candidate(1).id
DAILY = Observing()


def closed(number: int) -> Fact:
    return WindowClosed(day(number), 30, LakeVersion(1, 1), FIRST, (), (), None)


def matured(number: int) -> Fact:
    return WindowMatured(day(number), 30, 30, ())


def scored(number: int, span: Span, *, every: int = 1, level: float | None = 0.8, **changes: object) -> Fact:
    given = {"now": number, "metric": "roc_auc", "greater_is_better": True, **changes}
    return BenchScored(number=number, every=every, span=span, rows=30, labelled=30,
                       levels={FIRST: (level, level, level)}, failed={}, **given)  # type: ignore[arg-type]  # fmt: skip


def standing(*watch: Fact) -> Standing:
    """A first model that learned from 22 days is live, and something was watched."""
    return fold(chained(("renew-1", training(1)), ("release-1", going_live(1)), ("watch", list(watch))))


def numbers(now: Standing, options: BenchOptions, observe: Observing = DAILY) -> list[tuple[int, Span]]:
    turns = turns_of(now, options, observe)
    assert turns is not None
    return [(turn.number, turn.span) for turn in turns.found]


# ---- how many make one -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "observe, options, every",
    [
        (DAILY, BenchOptions(), 2),  # 22 days were learned from, and a window of the bench is a tenth of that
        (DAILY, BenchOptions(recent=22), 1),
        (DAILY, BenchOptions(recent=50), 1),  # never less than one
        (DAILY, BenchOptions(every=5), 5),
        (Observing(window=timedelta(hours=1)), BenchOptions(), 53),
        (Observing(window=RowWindow(rows=100)), BenchOptions(), 20),  # 20,000 rows were learned from
    ],
)
def test_a_window_is_a_tenth_of_what_the_first_model_learned_from(
    observe: Observing, options: BenchOptions, every: int
) -> None:
    turns = turns_of(standing(closed(0)), options, observe)
    assert turns is not None
    assert turns.every == every


def test_before_a_model_is_live_there_is_no_bench() -> None:
    now = fold(chained(("renew-1", training(1))))
    assert turns_of(now, BenchOptions(), DAILY) is None
    assert bench_of(now, BenchOptions()) is None


# ---- numbers ---------------------------------------------------------------------------------------------------------
def test_windows_are_groups_of_closed_ones_and_a_silence_is_passed_over() -> None:
    days = [closed(0), closed(1), closed(5), closed(6), closed(7)]  # nothing came on days 2 to 4
    assert numbers(standing(*days), BenchOptions()) == [
        (10, Span(day(0).start, day(1).end)),
        (11, Span(day(5).start, day(6).end)),
    ]


def test_one_is_due_when_the_labels_of_all_its_windows_are_mature_one_after_the_other() -> None:
    days = [closed(n) for n in range(4)]
    for ready, due in (([0], None), ([0, 1], 10), ([0, 1, 2, 3], 10), ([2, 3], None)):
        turns = turns_of(standing(*days, *(matured(n) for n in ready)), BenchOptions(), DAILY)
        assert turns is not None
        assert (turns.due and turns.due.number) == due


def test_what_was_scored_keeps_its_number_when_the_spec_changes() -> None:
    now = standing(
        *(closed(n) for n in range(6)), *(matured(n) for n in range(6)), scored(10, day(0)), scored(11, day(1))
    )
    changed = BenchOptions(every=2, recent=7)
    assert [number for number, _ in numbers(now, changed)] == [10, 11, 12, 13]
    assert numbers(now, changed)[2][1] == Span(day(2).start, day(3).end)
    assert [number for number, _ in numbers(now, BenchOptions())] == [10, 11, 12, 13, 14, 15]  # as long as the last


# ---- what the policy sees --------------------------------------------------------------------------------------------
def test_levels_become_points_and_what_was_not_read_is_not_known() -> None:
    now = standing(*(closed(n) for n in range(3)), scored(10, day(0)), scored(11, day(1), level=None))
    bench = bench_of(now, BenchOptions())
    assert bench is not None
    assert bench.scores[0, 10] == 0.8
    assert bench.scores[0, 11] != bench.scores[0, 11]
    assert bench.served.tolist() == [-1] * 10 + [0, 0, 0]
    assert bench.labelled is not None
    assert bench.labelled.tolist()[9:] == [0, 30, 30]
    assert bench.members[0].called == "version 1"


def test_readings_of_another_metric_do_not_count() -> None:
    loss: dict[str, Any] = {"metric": "log_loss", "greater_is_better": False}
    now = standing(
        closed(0), closed(1), closed(2), scored(10, day(0)), scored(11, day(1), level=0.5, unit=0.7, **loss),
        scored(12, day(2), level=0.35, **loss),
    )  # fmt: skip
    bench = bench_of(now, BenchOptions())
    assert bench is not None
    assert bench.scores[0].tolist()[11:] == pytest.approx([1 - 0.5 / 0.7, 0.5])
    assert bench.scores[0, 10] != bench.scores[0, 10]


# ---- rows of a run ---------------------------------------------------------------------------------------------------
TIMES = pl.Series([START + (n - 40) * DAY / 2 for n in range(100)])  # two rows a day, from 20 days before on


@pytest.mark.parametrize("first, observe, start", [
    (11, DAILY, day(1).start),
    (10, DAILY, day(0).start),
    (7, DAILY, day(-3).start),  # the first model's rows, cut as those after it
    (1, DAILY, day(-9).start),
    (0, DAILY, day(-20).start),  # all of them
    (7, Observing(window=RowWindow(rows=4)), day(-6).start),  # twelve rows back
    (1, Observing(window=RowWindow(rows=100)), day(-20).start),
])  # fmt: skip
def test_the_rows_of_a_run(first: int, observe: Observing, start: datetime) -> None:
    now = standing(closed(0), closed(1), scored(10, day(0)), scored(11, day(1)))
    turns = turns_of(now, BenchOptions(), observe)
    assert turns is not None
    asked = BenchRun(11, Why.INTERVAL, Rows.RECENT, first, 11, FIRST)
    assert span_of_rows(asked, turns, observe, TIMES) == Span(start, day(1).end)


# ---- the unit of a loss ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "metric, task, rows, loss",
    [
        ("log_loss", "binary", {"_label": ["0", "1"] * 50}, 0.6931),
        ("mae", "regression", {"_value": [0.0, 1.0, 5.0]}, 5 / 3),
        ("rmse", "regression", {"_value": [0.0, 3.0]}, 1.5),
        ("mae", "regression", {"_value": [2.0, 2.0]}, None),
    ],
)
def test_a_loss_is_told_in_the_loss_of_the_best_constant(
    metric: str, task: str, rows: dict[str, list[object]], loss: float | None
) -> None:
    found = best_constant(METRICS[metric], pl.DataFrame(rows), task)
    assert found == (None if loss is None else pytest.approx(loss, abs=1e-4))
