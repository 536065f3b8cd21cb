"""Budgets, the account of false alarms, and the monitor of one champion."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from tests.days import day, days, portrayed

from everfit.detect.options import FalseAlarms
from everfit.detect.promise import Monitor, Rates, Spent, When, acknowledged, rates, watch_window
from everfit.detect.usual import Usual, learn_usual
from everfit.errors import Refused
from everfit.profile.table import Profile, portray

DAY = timedelta(days=1)
START = datetime(2026, 3, 1, tzinfo=UTC)
DAILY = rates(FalseAlarms(), DAY)
Story = list[tuple[bool, bool]]  # whether the window fired, and whether the account is used up after it


def champion(seed: int, many: int = 24) -> tuple[Usual, np.random.Generator, list[Profile]]:
    rng = np.random.default_rng(seed)
    windows = portrayed(days(rng, many))
    return learn_usual(windows), rng, windows


def window(rng: np.random.Generator, like: list[Profile], shift: float = 0.0) -> Profile:
    return portray(day(rng, shift=shift), like[0].bins)


def after(n: int) -> When:
    return When(START + n * DAY)


@pytest.mark.parametrize(
    "at_most, fired, spent",
    [
        pytest.param(1, "010", "001", id="one alarm that went away is one false alarm"),
        pytest.param(1, "0110", "0001", id="two windows in a row are one"),
        pytest.param(1, "01110", "00000", id="an alarm that lasted was none"),
        pytest.param(2, "01010", "00001", id="two are allowed"),
        pytest.param(0.5, "10", "01", id="less than one allowed is one"),
    ],
)
def test_the_account(at_most: float, fired: str, spent: str) -> None:
    account, said = Spent(), ""
    for n, each in enumerate(fired):
        account = account.after(START + n * DAY, fired=each == "1", per=365 * DAY)
        said += "1" if account.used_up(at_most) else "0"
    assert said == spent


def test_a_new_period_opens_a_new_account() -> None:
    spent = Spent(START, 1, 0)
    assert spent.after(START + 364 * DAY, fired=False, per=365 * DAY).used_up(1)
    assert not spent.after(START + 365 * DAY, fired=False, per=365 * DAY).used_up(1)


def test_no_window_is_tested_more_loosely_than_one_in_twenty() -> None:
    loose = rates(FalseAlarms(at_most=1000), timedelta(days=7))
    assert loose.total == pytest.approx(0.05)
    assert rates(FalseAlarms(), None).total == pytest.approx(1 / 365)


def test_a_shifted_window_alarms_and_names_the_column() -> None:
    usual, rng, windows = champion(1)
    quiet = watch_window(window(rng, windows), after(0), usual, Monitor(), DAILY)
    assert (quiet.alarms, quiet.informs, quiet.learning) == ((), None, None)
    assert quiet.slow is not None
    assert not quiet.slow.alarm
    loud = watch_window(window(rng, windows, shift=1.0), after(1), usual, quiet.monitor, DAILY)
    assert loud.alarms == loud.unusual == ("warmth",)
    assert loud.usual is usual, "an alarmed window is no history"


def test_a_change_too_small_to_matter_is_no_alarm() -> None:
    usual, rng, windows = champion(2)
    shifted = window(rng, windows, shift=1.0)
    assert watch_window(shifted, after(0), usual, Monitor(), DAILY, immaterial={"warmth"}).alarms == ()


def test_once_the_false_alarms_are_spent_one_window_only_informs() -> None:
    usual, rng, windows = champion(3)
    first = watch_window(window(rng, windows, shift=1.0), after(0), usual, Monitor(), DAILY)
    quiet = watch_window(window(rng, windows), after(1), usual, first.monitor, DAILY)
    again = watch_window(window(rng, windows, shift=1.0), after(2), usual, quiet.monitor, DAILY)
    assert first.alarms == ("warmth",)
    assert (again.unusual, again.alarms) == (("warmth",), ())
    assert again.informs == "1 of 1 false alarms in 365 days are spent: one window only informs"
    next_year = watch_window(window(rng, windows, shift=1.0), after(366), usual, again.monitor, DAILY)
    assert next_year.alarms == ("warmth",)


def test_where_shocks_are_normal_one_window_only_informs_and_drift_still_alarms() -> None:
    rng = np.random.default_rng(4)
    frames = days(rng, 30)
    frames[11] = day(rng, shift=1.5)
    windows = portrayed(frames)
    usual = learn_usual(windows)
    monitor, slow = Monitor(), []
    for n in range(8):
        watched = watch_window(window(rng, windows, shift=1.0), after(n), usual, monitor, DAILY)
        monitor = watched.monitor
        assert watched.alarms == ()
        assert watched.informs is not None
        assert "1 of 30 healthy windows" in watched.informs
        assert watched.slow is not None
        assert watched.slow.threshold == pytest.approx(1 / (DAILY.drift + DAILY.slow))
        slow.append(watched.slow.alarm)
    assert any(slow)


def test_a_declared_event_is_told_and_changes_nothing() -> None:
    usual, rng, windows = champion(5)
    monitor = Monitor(spent=Spent(START, 0, 0))
    when = When(START, expected=True)
    watched = watch_window(window(rng, windows, shift=2.0), when, usual, monitor, DAILY)
    assert (watched.unusual, watched.alarms, watched.slow) == (("warmth",), (), None)
    assert watched.informs == "the window lies in a declared event"
    assert watched.usual is usual
    assert watched.monitor is monitor


def test_learning_grows_by_quiet_windows_only() -> None:
    rng = np.random.default_rng(6)
    frames = days(rng, 3)
    windows = portrayed(frames)
    usual, monitor, said = learn_usual(windows), Monitor(), []
    for n in range(20):
        shift = 3.0 if n == 10 else 0.0
        watched = watch_window(window(rng, windows, shift=shift), after(n), usual, monitor, DAILY)
        assert (watched.slow is None) == (usual.windows < 20)
        assert bool(watched.alarms) == (n == 10)
        usual, monitor = watched.usual, watched.monitor
        said.append(watched.learning)
    assert said[0] == "3 of 20 healthy windows"
    assert said[10:13] == ["13 of 20 healthy windows", "13 of 20 healthy windows", "14 of 20 healthy windows"]
    assert said[-1] is None
    assert usual.windows == 20


def test_an_acknowledged_window_joins_and_counts_once() -> None:
    usual, rng, windows = champion(7)
    odd = window(rng, windows, shift=1.0)
    first = watch_window(odd, after(0), usual, Monitor(), DAILY)
    grown, monitor = acknowledged(odd, usual, first.monitor)
    assert grown.windows == usual.windows + 1
    quiet = watch_window(window(rng, windows), after(1), usual, monitor, DAILY)
    assert quiet.monitor.spent.resolved == 1


def test_the_monitor_goes_through_storage_and_over_to_the_next_champion() -> None:
    usual, rng, windows = champion(8)
    monitor = watch_window(window(rng, windows, shift=1.0), after(0), usual, Monitor(), DAILY).monitor
    again = Monitor.from_bytes(monitor.to_bytes())
    assert again.spent == monitor.spent
    assert again.to_bytes() == monitor.to_bytes()
    assert Monitor.from_bytes(Monitor().to_bytes()).slow is None
    assert again.renewed().slow is None
    assert again.renewed().spent == Spent(START, 0, 0)
    with pytest.raises(Refused):
        Monitor.from_bytes(b"nothing")


def test_a_column_that_is_gone_is_an_alarm() -> None:
    usual, rng, windows = champion(9)
    gone = portray(day(rng).drop("warmth"), windows[0].bins)
    assert watch_window(gone, after(0), usual, Monitor(), DAILY).alarms == ("warmth",)


def test_a_window_without_rows_changes_nothing() -> None:
    usual, rng, windows = champion(10, many=12)
    monitor = watch_window(window(rng, windows, shift=2.0), after(0), usual, Monitor(), DAILY).monitor
    none = portray(pl.DataFrame(schema={"warmth": pl.Float64}), windows[0].bins)
    watched = watch_window(none, after(1), usual, monitor, DAILY)
    assert (watched.alarms, watched.informs) == ((), "the window has no rows")
    assert watched.usual is usual
    assert watched.monitor is monitor


def test_rates_of_all_monitors_are_told() -> None:
    assert Rates(0.1, 0.2, 0.3, 0.4, DAY, 1).total == pytest.approx(1)
