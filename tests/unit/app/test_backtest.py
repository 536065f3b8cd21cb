"""What a backtest infers, and what a spec says for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import write_deltalake

from everfit.app.backtest import Asked, Plan, plan
from everfit.app.inferred import delay_of
from everfit.errors import SpecError, UsageError
from everfit.replay.policy_file import LivePolicy
from everfit.retrain.options import Last
from everfit.spec import parse_spec

ROWS = 2400
BEGIN = datetime(2026, 1, 1)
CHANCE = np.random.default_rng(3)
HISTORY = pl.DataFrame(
    {
        "at": [BEGIN + timedelta(hours=place) for place in range(ROWS)],
        "id": [f"order {place}" for place in range(ROWS)],
        "price": CHANCE.normal(size=ROWS),
        "raw": [b"x"] * ROWS,
        "_ours": range(ROWS),
        "late": CHANCE.integers(0, 2, ROWS),
    }
)
SPEC = """
model: shop
task: binary
target: late
time: at
id: id
features: {exclude: [_ours, raw]}
observe: {window: 5d, labels_mature_after: 6d}
train: {with: train:fit, parameters: {depth: 3}, seed: 7, rows: {last: 30d}}
judge: {primary: log_loss}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    HISTORY.write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "train.py").write_text("def fit(frame, depth): ...\n")
    (tmp_path / "everfit.yaml").write_text(SPEC)
    return tmp_path


def planned(folder: Path, *names: str, spec: bool = False, **wishes: object) -> Plan:
    asked = Asked(tuple(str(folder / name) for name in names or ("rows.parquet",)), folder / "cache", **wishes)  # type: ignore[arg-type]
    return plan(asked, folder / "everfit.yaml" if spec else None)


def test_nothing_but_the_target_is_needed(folder: Path) -> None:
    found = planned(folder, target="late")
    assert (found.history.task, found.history.metric, found.options.time) == ("binary", "roc_auc", "at")
    assert (found.history.cut.windows, found.history.cut.start, found.history.delay) == (48, 9, 0)
    assert found.history.schema.names() == ["price"]
    said = "\n".join(found.said)
    assert "left out: raw, _ours, which cannot be features" in said
    assert "left out: id, of which nearly every row has a value of its own" in said
    assert "rows are ordered by 'at', the only column with a time in every row" in said
    assert not (folder / "cache").exists(), "a plan writes nothing"


def test_rows_without_times_are_taken_as_they_lie(folder: Path) -> None:
    HISTORY.drop("at", "raw").write_csv(folder / "plain.csv")
    found = planned(folder, "plain.csv", target="late")
    assert found.options.time is None
    assert any("in the order of the file" in said for said in found.said)


def test_two_columns_of_times_are_not_guessed_between(folder: Path) -> None:
    HISTORY.with_columns(sent=pl.col("at") + timedelta(hours=1)).write_parquet(folder / "two.parquet")
    found = planned(folder, "two.parquet", target="late")
    assert found.options.time is None
    assert any("columns of times: at, sent; none was chosen: name one with --time" in said for said in found.said)
    assert planned(folder, "two.parquet", target="late", time="sent").options.time == "sent"


def test_a_spec_says_columns_trainer_metric_delay_and_window(folder: Path) -> None:
    found = planned(folder, spec=True)
    options, history = found.options, found.history
    assert (options.target, options.time, options.trainer, options.parameters) == (
        "late",
        "at",
        "train:fit",
        {"depth": 3},
    )
    assert (options.seed, options.project, options.model, history.metric) == (7, folder, "shop", "log_loss")
    assert (options.window, history.cut.windows, history.delay) == (timedelta(days=5), 20, 2)
    assert history.schema.names() == ["price"]
    assert any("policy spec: all of everfit.yaml, played by the live flows" in said for said in found.said)


def test_what_is_typed_wins_over_the_spec_and_is_said(folder: Path) -> None:
    found = planned(folder, spec=True, metric="accuracy", label_delay="1", window=24)
    assert (found.history.metric, found.history.delay, found.history.cut.windows) == ("accuracy", 1, 24)
    said = "\n".join(found.said)
    for words in (
        "--metric accuracy instead of log_loss",
        "--label-delay 1 instead of 6d",
        "--windows 24 instead of 5d",
    ):
        assert words in said, said


def test_a_spec_is_a_policy_of_its_own_played_by_the_live_flows(folder: Path) -> None:
    (policy,) = planned(folder, spec=True).options.own
    assert isinstance(policy, LivePolicy)
    assert (policy.name, policy.text) == ("spec", (folder / "everfit.yaml").read_text())
    assert planned(folder, target="late").options.own == ()


def test_a_metric_of_the_users_own_needs_another_one(folder: Path) -> None:
    own = "watch: {metrics: [{name: ours, function: 'train:fit'}]}\njudge: {primary: ours}\n"
    (folder / "everfit.yaml").write_text(SPEC.replace("judge: {primary: log_loss}\n", own))
    with pytest.raises(UsageError, match=r"'ours' is a function of yours, .* --metric"):
        planned(folder, spec=True)
    assert planned(folder, spec=True, metric="accuracy").history.metric == "accuracy"


def test_rows_a_window_and_types_come_from_the_spec(folder: Path) -> None:
    text = SPEC.replace("window: 5d", "window: {rows: 100}").replace("raw]}", "raw], types: {late2: category}}")
    (folder / "everfit.yaml").write_text(text)
    HISTORY.with_columns(late2=pl.col("price").round(0).cast(pl.Int64)).write_parquet(folder / "more.parquet")
    found = planned(folder, "more.parquet", spec=True)
    assert found.history.cut.windows == 24
    assert {column.name: column.kind.value for column in found.history.schema.features} == {
        "price": "number",
        "late2": "category",
    }


def test_several_files_and_kinds_are_one_history(folder: Path) -> None:
    known = HISTORY.drop("raw", "_ours")
    known[:800].with_columns(extra=1.0).write_parquet(folder / "day-2.parquet")
    known[800:1600].write_csv(folder / "day-1.csv.gz", compression="gzip")
    write_deltalake(str(folder / "table"), known[1600:].to_arrow())
    found = planned(folder, "day-*.parquet", "day-1.csv.gz", "table", target="late")
    assert found.history.rows.height == ROWS
    assert found.history.begins[0] == BEGIN.replace(tzinfo=UTC)
    assert found.history.schema.names() == ["price", "extra"]
    assert found.history.rows["extra"].null_count() == 1600


def test_files_that_do_not_fit_together_are_refused(folder: Path) -> None:
    HISTORY.with_columns(price=pl.lit([1])).write_parquet(folder / "odd.parquet")
    with pytest.raises(UsageError, match="do not fit together"):
        planned(folder, "rows.parquet", "odd.parquet", target="late")


def test_the_newest_rows_are_the_last_in_time(folder: Path) -> None:
    HISTORY.sample(fraction=1, shuffle=True, seed=1).write_parquet(folder / "mixed.parquet")
    found = planned(folder, "mixed.parquet", target="late", rows=1000)
    assert found.history.rows.height == 1000
    assert found.history.begins[0] == (BEGIN + timedelta(hours=1400)).replace(tzinfo=UTC)


def test_prices_and_slices_are_handed_on(folder: Path) -> None:
    found = planned(folder, target="late", costs=(20.0, 0.5), slices="price", jobs=3)
    assert (found.options.cost_per_retrain, found.options.cost_per_error, found.options.slices) == (20.0, 0.5, "price")
    assert found.options.limits.jobs == 3


@pytest.mark.parametrize(
    "text, clock, delay",
    [
        ("2", True, 2),
        ("0w", False, 0),
        ("2w", False, 2),
        ("2w", True, timedelta(weeks=2)),
        ("3d", True, timedelta(days=3)),
    ],
)
def test_a_label_delay_is_windows_or_a_duration(text: str, clock: bool, delay: int | timedelta) -> None:
    assert delay_of(text, clock=clock) == delay


def policy_file(folder: Path, text: str) -> Path:
    (folder / "policy.yaml").write_text(text)
    return folder / "policy.yaml"


WEEKLY = """
name: weekly
triggers: [{name: sunday, schedule: "0 2 * * 0"}]
decide: {cool_down: 2d}
train: {rows: {last: 20d}}
"""


def test_triggers_of_a_file_stand_in_the_place_of_those_of_the_spec(folder: Path) -> None:
    (folder / "everfit.yaml").write_text(SPEC + "triggers: [{name: volume, new_rows: 100}]\n")
    own = planned(folder, spec=True, files=(policy_file(folder, WEEKLY),)).options.own
    assert [each.name for each in own] == ["spec", "weekly"]
    spec, weekly = (parse_spec(each.text) for each in own if isinstance(each, LivePolicy))
    assert [trigger.name for trigger in weekly.triggers] == ["sunday"]
    assert weekly.decide.cool_down == timedelta(days=2)
    assert (weekly.train.rows, weekly.train.trainer) == (Last(last=timedelta(days=20)), "train:fit")
    changed = {"triggers": spec.triggers, "decide": spec.decide, "train": spec.train}
    assert weekly.model_copy(update=changed) == spec, "all else is the user's spec"


def test_triggers_without_a_spec_stand_in_what_the_backtest_knows(folder: Path) -> None:
    wishes: dict[str, Any] = {"target": "late", "label_delay": "3d", "window": "5d", "metric": "log_loss"}
    (policy,) = planned(folder, files=(policy_file(folder, WEEKLY),), **wishes).options.own
    assert isinstance(policy, LivePolicy)
    spec = parse_spec(policy.text)
    assert (spec.target, spec.time, spec.task, spec.primary) == ("late", "at", "binary", "log_loss")
    assert (spec.observe.window, spec.observe.labels_mature_after) == (timedelta(days=5), timedelta(days=3))
    assert set(spec.features.exclude) == {"raw", "id"}
    assert (spec.train.at_least, spec.judge.at_least) == (480, 48), (
        "the first model learns from what all first models learn from"
    )


def test_what_is_typed_is_played_by_the_spec_too(folder: Path) -> None:
    typed: dict[str, Any] = {
        "metric": "accuracy",
        "label_delay": "9d",
        "exclude": ("raw", "_ours", "price"),
        "window": "6d",
    }
    with pytest.raises(UsageError, match="no column is left"):
        planned(folder, spec=True, **typed)
    typed["exclude"] = ()
    (policy,) = planned(folder, spec=True, **typed, trainer="train:fit").options.own
    assert isinstance(policy, LivePolicy)
    spec = parse_spec(policy.text)
    assert (spec.primary, spec.observe.labels_mature_after, spec.observe.window) == (
        "accuracy",
        timedelta(days=9),
        timedelta(days=6),
    )
    assert spec.train.parameters == {"depth": 3}


def test_triggers_that_do_not_fit_the_task_name_their_line(folder: Path) -> None:
    text = "name: decay\ntriggers:\n  - {name: fell, performance: {metric: rmse}}\n"
    with pytest.raises(SpecError, match=r"policy.yaml:2: triggers: 'rmse' is not a metric for binary"):
        planned(folder, target="late", files=(policy_file(folder, text),))


def test_iso_texts_order_the_rows_and_others_are_pointed_out(folder: Path) -> None:
    at = pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%S")
    HISTORY.with_columns(at).write_parquet(folder / "texts.parquet")
    assert planned(folder, "texts.parquet", target="late").options.time == "at"
    HISTORY.with_columns(pl.col("at").dt.strftime("%d.%m.%Y %H:%M")).write_parquet(folder / "local.parquet")
    found = planned(folder, "local.parquet", target="late")
    assert found.options.time is None
    assert any("'01.01.2026 00:00' may mean several days: write 2026-01-31T23:15:00" in said for said in found.said)
