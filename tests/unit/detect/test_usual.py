"""What is usual, and how unusual a window is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from tests.days import day, days, normal_counts, part, plain_lens, portrayed

from everfit.detect.scores import Counted
from everfit.detect.usual import FULL, Usual, column_chances, learn_usual, reach, read_window, usual_of
from everfit.errors import Refused, UsageError
from everfit.profile.table import Profile, portray

SOME_NEW = pl.when(pl.int_range(pl.len()) % 4 == 0).then(pl.lit("new")).otherwise(pl.col("carrier")).alias("carrier")


def history(seed: int, many: int = 24, **how: float) -> tuple[list[Profile], np.random.Generator]:
    rng = np.random.default_rng(seed)
    return portrayed(days(rng, many, **how)), rng


def test_a_window_like_the_others_is_not_unusual() -> None:
    windows, rng = history(1)
    usual = learn_usual(windows)
    tests = read_window(portray(day(rng), windows[0].bins), usual)
    assert [test.column for test in tests] == ["warmth", "carrier", "wet"]
    assert all(test.p_value > 0.01 for test in tests)
    assert all(350 < test.rows <= 400 for test in tests)


@pytest.mark.parametrize(
    "change, column, score",
    [
        pytest.param(pl.col("warmth") + 0.5, "warmth", "place", id="a shift"),
        pytest.param(pl.col("warmth") * 1.8, "warmth", "spread", id="a wider spread"),
        pytest.param(pl.lit(None, pl.Float64).alias("warmth"), "warmth", "absent", id="values that are lost"),
        pytest.param(pl.lit("c3").alias("carrier"), "carrier", "c3", id="one category alone"),
        pytest.param(SOME_NEW, "carrier", "other categories", id="a new category"),
        pytest.param(pl.lit(value=True).alias("wet"), "wet", "false", id="a flag that is stuck"),
    ],
)
def test_what_changed_is_named(change: pl.Expr, column: str, score: str) -> None:
    windows, rng = history(2)
    tests = read_window(portray(day(rng).with_columns(change), windows[0].bins), learn_usual(windows))
    found = {test.column: test for test in tests}
    assert found[column].p_value < 1e-6
    assert found[column].score == score
    assert all(test.p_value > 1e-4 for name, test in found.items() if name != column)


def test_days_that_differ_hide_what_they_would_show_alone() -> None:
    steady, rng = history(3, effect=0.0)
    varied, other = history(3, effect=0.3)
    calm = read_window(portray(day(rng, shift=0.5), steady[0].bins), learn_usual(steady))[0]
    wild = read_window(portray(day(other, shift=0.5), varied[0].bins), learn_usual(varied))[0]
    assert calm.p_value < 1e-6
    assert wild.p_value > 1e-3
    assert calm.smallest_shift < 0.4 < wild.smallest_shift
    assert calm.unit == "sd"


def test_the_smallest_shift_is_found_in_four_of_five_windows() -> None:
    rng = np.random.default_rng(4)
    healthy = normal_counts(rng, rng.normal(0, 0.05, (60, 1)))
    usual = usual_of(plain_lens(1), healthy, np.arange(60))
    apart = usual.apart(part(healthy, slice(0, 1)), np.array([60]))
    shift = float(reach(usual, apart, 0.01)[0]) / 0.967
    changed = normal_counts(rng, shift + rng.normal(0, 0.05, (2000, 1)))
    later = usual.apart(changed, np.arange(2000))
    found = float((column_chances(usual.ruler, later.t, usual.spread.freedom) <= 0.01).mean())
    assert 0.7 < found < 0.95


def test_a_season_is_found_and_asks_for_the_place() -> None:
    rng = np.random.default_rng(5)
    week = 0.5 * np.sin(2 * np.pi * np.arange(60) / 7)[:, None]
    healthy = normal_counts(rng, week)
    usual = usual_of(plain_lens(1), healthy, np.arange(60), (7, 24))
    assert usual.period == 7
    monday = normal_counts(rng, week[[3]])
    assert abs(usual.apart(monday, np.array([63 + 3])).t[0, 0]) < 4
    assert abs(usual.apart(monday, np.array([63 + 5])).t[0, 0]) > 8
    windows = portrayed(days(rng, 24))
    declared = learn_usual(windows, period=7)
    assert declared.period == 7
    with pytest.raises(UsageError, match="season of 7"):
        read_window(windows[0], declared)


def test_too_few_windows_say_nothing() -> None:
    windows, _ = history(6, many=4)
    usual = learn_usual(windows)
    assert usual.learning == f"4 of {FULL} healthy windows"
    with pytest.raises(UsageError, match="4 healthy windows"):
        read_window(windows[0], usual)
    with pytest.raises(UsageError, match="places"):
        learn_usual(windows, places=[1, 2])


def test_benign_windows_join() -> None:
    windows, _ = history(7, many=22)
    usual = learn_usual(windows[:19], places=range(100, 119))
    assert usual.learning is not None
    grown = usual.joined(windows[19]).joined(windows[20], 200)
    assert grown.learning is None
    assert grown.places[-2:].tolist() == [119, 200]
    assert usual.windows == 19, "what was usual stays what it was"


def test_windows_without_rows_are_no_history() -> None:
    windows, _ = history(8, many=8)
    empty = portray(pl.DataFrame(schema={"warmth": pl.Float64}), windows[0].bins)
    usual = learn_usual([*windows[:4], empty, *windows[4:]])
    assert usual.places.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


def test_it_reads_back_what_it_wrote() -> None:
    windows, rng = history(9)
    usual = learn_usual(windows, places=range(50, 74), periods=(7,))
    data = usual.to_bytes()
    again = Usual.from_bytes(data)
    assert again.to_bytes() == data
    now = portray(day(rng, shift=0.3), windows[0].bins)
    assert read_window(now, again, place=80) == read_window(now, usual, place=80)
    assert again.joined(now).windows == 25
    for damaged in (b"", data[:-20], data[:16] + b"x" * 40):
        with pytest.raises(Refused):
            Usual.from_bytes(damaged)


def test_shocks_among_healthy_windows_are_counted() -> None:
    rng = np.random.default_rng(10)
    effects = np.zeros((40, 5))
    effects[17] = 1.0
    shocked = usual_of(plain_lens(5), normal_counts(rng, effects), np.arange(40))
    calm = usual_of(plain_lens(5), normal_counts(rng, effects * 0), np.arange(40))
    assert shocked.shocks(1 / 365) == 1
    assert shocked.shocked(1 / 365)
    assert not calm.shocked(1 / 365)


def test_one_shock_in_a_long_history_may_be_chance() -> None:
    rng = np.random.default_rng(11)
    effects = np.zeros((80, 5))
    effects[17] = 1.0
    one = usual_of(plain_lens(5), normal_counts(rng, effects), np.arange(80))
    effects[51] = 1.0
    two = usual_of(plain_lens(5), normal_counts(rng, effects), np.arange(80))
    assert (one.shocked(1 / 365), two.shocked(1 / 365)) == (False, True)


def test_a_nearly_empty_window_does_not_blind_the_history() -> None:
    rng = np.random.default_rng(12)
    healthy = normal_counts(rng, np.zeros((30, 2)))
    thin = Counted(healthy.bins.copy(), healthy.absent)
    thin.bins[4] = thin.bins[4] // 100
    usual = usual_of(plain_lens(2), thin, np.arange(30))
    assert (usual.rows > 500).all()
