"""Frames made ready: what is inferred, what gives the target away, and the spec to paste."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from everfit.errors import Refused, UsageError
from everfit.replay.history import History, cell_task, prepare
from everfit.replay.leaks import leaks
from everfit.replay.options import BacktestOptions
from everfit.replay.policy_file import parse_policy
from everfit.replay.recommended import said_by_spec, spec_text
from everfit.spec import parse_spec

ROWS = 1200
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def frame(**columns: Any) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=ROWS)
    y = (x + rng.normal(size=ROWS) > 0).astype(int)
    at = [NOON + timedelta(hours=place) for place in range(ROWS)]
    return pl.DataFrame({"at": at, "x": x, "y": y} | columns)


def asked(folder: Path, **changes: Any) -> BacktestOptions:
    given: dict[str, Any] = {"target": "y", "cache": folder, "time": "at", "windows": 20}
    return BacktestOptions(**(given | changes))


def ready(folder: Path, rows: pl.DataFrame, **changes: Any) -> tuple[History, BacktestOptions]:
    options = asked(folder, **changes)
    return prepare(rows, options), options


@pytest.mark.parametrize(
    "target, task, metric",
    [
        pytest.param(np.arange(ROWS) % 2, "binary", "roc_auc", id="two numbers"),
        pytest.param(np.array(["a", "b", "c"])[np.arange(ROWS) % 3], "multiclass", "log_loss", id="three texts"),
        pytest.param(np.linspace(0, 1, ROWS), "regression", "mae", id="numbers"),
    ],
)
def test_task_and_metric_are_inferred(target: Any, task: str, metric: str, tmp_path: Path) -> None:
    history, _ = ready(tmp_path, frame(y=target))
    assert (history.task, history.metric, history.schema.names()) == (task, metric, ["x"])
    assert history.cut.greater_is_better is (task == "binary")


def test_rows_without_a_label_are_left_out_and_told(tmp_path: Path) -> None:
    rows = frame().with_columns(y=pl.when(pl.int_range(pl.len()) % 10 == 0).then(None).otherwise(pl.col("y")))
    history, _ = ready(tmp_path, rows)
    assert history.rows.height == ROWS - 120
    assert "120 rows have no 'y' and were left out" in history.remarks


def test_a_delay_in_time_becomes_windows(tmp_path: Path) -> None:
    history, _ = ready(tmp_path, frame(), label_delay=timedelta(hours=61))
    assert (history.delay, history.per_window) == (2, timedelta(hours=60))
    with pytest.raises(UsageError, match="needs a column of times"):
        ready(tmp_path, frame().drop("at"), time=None, label_delay=timedelta(hours=1))


def test_windows_of_time_and_empty_ones(tmp_path: Path) -> None:
    rows = frame().filter(~pl.col("at").is_between(NOON + timedelta(days=30), NOON + timedelta(days=35)))
    history, _ = ready(tmp_path, rows, window=timedelta(days=2))
    assert history.cut.windows == 25
    assert any("empty" in said for said in history.remarks)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    for changes in ({"target": "z"}, {"time": "when"}, {"slices": "shop"}):
        with pytest.raises(Refused, match="there is no column"):
            ready(tmp_path, frame(), **changes)


def test_a_cache_that_is_no_folder_is_named(tmp_path: Path) -> None:
    history, _ = ready(tmp_path, frame())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no folder that can be written"):
        cell_task(history, asked(tmp_path / "file"))


def test_the_target_under_another_name_is_pointed_out(tmp_path: Path) -> None:
    y = frame()["y"].to_numpy()
    rng = np.random.default_rng(1)
    rows = frame(
        copy=y * 2.0,
        text=np.where(y == 1, "late", "fine"),
        gaps=pl.Series(np.where(y == 1, 1.0, np.nan)).fill_nan(None),
        ids=[f"id{place}" for place in range(ROWS)],
        good=y + rng.normal(size=ROWS),
    )
    said = leaks(ready(tmp_path, rows)[0])
    assert [each.split("'")[1] for each in said] == ["copy", "text", "gaps"]
    assert "leave it out with --exclude" in said[0]


def test_a_number_that_ranks_as_the_target_is_pointed_out(tmp_path: Path) -> None:
    value = np.random.default_rng(2).normal(size=ROWS)
    rows = frame(y=value, same=np.exp(value), shop=np.array(["a", "b"])[np.arange(ROWS) % 2])
    assert [each.split("'")[1] for each in leaks(ready(tmp_path, rows)[0])] == ["same"]


def test_one_class_of_several_given_away_is_pointed_out(tmp_path: Path) -> None:
    kind = np.array(["a", "b", "c"])[np.arange(ROWS) % 3]
    rows = frame(y=kind, is_b=(kind == "b").astype(float))
    assert [each.split("'")[1] for each in leaks(ready(tmp_path, rows)[0])] == ["is_b"]


@pytest.mark.parametrize("name", ["everfit", "never", "every5", "every7", "drop0.02", "mine", "bench", "mine_drop"])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"window": timedelta(days=2), "label_delay": timedelta(days=3)}, id="windows of time"),
        pytest.param({"time": None, "metric": "accuracy", "exclude": ("at",), "label_delay": 2}, id="an order only"),
        pytest.param({"trainer": "train:fit", "parameters": {"depth": 3}, "seed": 4, "model": "late"}, id="a trainer"),
    ],
)
def test_every_recommended_spec_can_be_read(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    own = tuple(
        parse_policy(text)
        for text in (
            "{name: mine, every: 9}",
            "{name: bench, bench: {price: 0.1}}",
            "{name: mine_drop, rule: drop, by: 0.04}",
        )
    )
    history, options = ready(tmp_path, frame(), own=own, **changes)
    text = spec_text(name, history, options)
    assert text is not None
    spec = parse_spec(text)
    assert (spec.target, spec.task, spec.primary) == ("y", "binary", history.metric)
    assert [trigger.name for trigger in spec.triggers] == (
        [] if name in ("everfit", "bench") else [spec.triggers[0].name]
    )
    if name == "bench":
        assert spec.decide.bench.price == 0.1
    if name == "every7":
        assert spec.triggers[0].model_dump()["new_rows"] in (7 * 60, 7 * 48)


def test_a_rule_that_no_spec_knows_has_no_text(tmp_path: Path) -> None:
    history, options = ready(tmp_path, frame())
    assert spec_text("adwin", history, options) is None
    assert not said_by_spec("mine", {"mine": parse_policy("{name: mine, rule: adwin}")})
