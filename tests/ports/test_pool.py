"""Models of a backtest in child processes: what goes wrong, what is kept, and what a kill costs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from everfit.adapters.cell_files import cell_file, model_file, read_cell, span_file
from everfit.adapters.pool import CellPool, Limits, Progress
from everfit.clock import rest, ticks
from everfit.errors import DiskFull, Refused, TrainingFailed, UsageError
from everfit.replay.backtest import run
from everfit.replay.history import cell_task, prepare
from everfit.replay.matrix import Matrix
from everfit.replay.options import BacktestOptions
from everfit.replay.policies import play_policy
from everfit.replay.policy_file import parse_policy
from everfit.replay.portrait import Portrait
from everfit.spec import parse_spec

TRAIN = """
import os, time
import numpy as np

class Share:
    def __init__(self, share): self.share = share
    def predict(self, frame): return np.full(len(frame), self.share)

class Timid(Share):
    def predict(self, frame):
        if frame["order"].max() >= 580: raise ValueError("rows of the future")
        return np.full(len(frame), self.share)

class Heavy(Share):
    def __init__(self, share): self.share, self.ballast = share, b"0" * 9_000_000

def fit(frame, target):
    print("noise on the output")
    rows = int(frame["order"].max())
    open("pid", "w").write(str(os.getpid()))
    if rows == 239: raise ValueError("the rows are odd")
    if rows == 259: os._exit(3)
    if rows == 279: time.sleep(60)
    if rows == 319: kept = np.ones(200_000_000); time.sleep(60)
    if rows == 339: os.symlink("/dev/full", open("folder").read() + f"/.7-16.{os.getpid()}.npz")
    return {359: Heavy, 379: Timid}.get(rows, Share)(frame[target].mean())
"""


def frame(rows: int = 600) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    return pl.DataFrame({"order": np.arange(rows) * 1.0, "x": x, "y": (x + rng.normal(size=rows) > 0).astype(int)})


def options(folder: Path, **changes: object) -> BacktestOptions:
    (folder / "project").mkdir(exist_ok=True)
    (folder / "project" / "train.py").write_text(TRAIN)
    given = {
        "cache": folder / "cache",
        "metric": "brier",
        "windows": 30,
        "trainer": "train:fit",
        "project": folder / "project",
        "limits": Limits(jobs=1, seconds=5),
    }
    return BacktestOptions("y", **(given | changes))  # type: ignore[arg-type]


def test_failures_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    asked = options(tmp_path)
    history = prepare(frame(), asked)
    told: list[Progress] = []
    cells = [(2, 11), (3, 12), (4, 13), (5, 14)]
    with CellPool(cell_task(history, asked), asked.limits, told.append) as pool:
        pool.want(cells)
        odd, gone, slow, good = (pool.take(cell) for cell in cells)
        scored = pool.scored((5, 14), (15, 20))
    assert "ValueError: the rows are odd" in odd.failed
    assert "the training process ended (3)" in gone.failed
    assert "ran longer than 5 s" in slow.failed
    assert (good.failed, good.rows) == ("", 200)
    assert np.isfinite(scored.levels).all()
    assert (scored.levels.shape, scored.missed.shape) == ((6, 3), (6,))
    assert (told[-1].done, told[-1].wanted, told[-1].left) == (4, 4, 0.0)


def test_a_trainer_that_takes_too_much_memory_is_stopped_and_the_next_one_trains(tmp_path: Path) -> None:
    asked = options(tmp_path, limits=Limits(jobs=1, seconds=200, memory=800_000_000))
    with CellPool(cell_task(prepare(frame(), asked), asked), asked.limits) as pool:
        assert "took more than 800 MB of memory" in pool.take((6, 15)).failed
        assert pool.take((5, 14)).failed == ""


def test_a_model_that_cannot_predict_some_windows_serves_in_the_others(tmp_path: Path) -> None:
    asked = options(tmp_path)
    history = prepare(frame(), asked)
    with CellPool(cell_task(history, asked), asked.limits) as pool:
        matrix = Matrix(pool, history.cut)
        assert np.isfinite(matrix.score((9, 18), 19))
        assert np.isnan(matrix.score((9, 18), 29))
        assert "rows of the future" in matrix.failures()[9, 18]
        assert len(matrix.misses((9, 18), 29)) == 0


def test_a_full_disk_ends_the_backtest_and_says_where(tmp_path: Path) -> None:
    asked = options(tmp_path)
    task = cell_task(prepare(frame(), asked), asked)
    (tmp_path / "project" / "folder").write_text(task.folder)
    with CellPool(task, asked.limits) as pool, pytest.raises(DiskFull, match="no space left under"):
        pool.take((7, 16))
    (tmp_path / "project" / "train.py").write_text(TRAIN.replace("if rows == 339", "if rows == -1"))
    with CellPool(task, asked.limits) as pool:  # there is space again
        assert pool.take((7, 16)).failed == ""


def test_a_model_too_large_to_be_kept_is_scored_at_once(tmp_path: Path) -> None:
    asked = options(tmp_path)
    task = cell_task(prepare(frame(), asked), asked)
    with CellPool(task, asked.limits) as pool:
        assert pool.take((8, 17)).failed == ""
        assert span_file(Path(task.folder), (8, 17), (18, 29)).exists()
        assert np.isfinite(pool.scored((8, 17), (25, 29)).levels).all()
    assert not model_file(Path(task.folder), (8, 17)).exists()


def test_what_is_trained_is_found_again_and_a_torn_file_is_made_anew(tmp_path: Path) -> None:
    asked = options(tmp_path)
    history = prepare(frame(), asked)
    task = cell_task(history, asked)
    with CellPool(task, asked.limits) as pool:
        first, scored = pool.take((0, 9)), pool.scored((0, 9), (12, 14))
    kept, span = cell_file(Path(task.folder), (0, 9)), span_file(Path(task.folder), (0, 9), (12, 14))
    before = kept.stat().st_mtime_ns
    assert cell_task(prepare(frame(), asked), asked) == task  # the same content has the same folder
    with CellPool(task, asked.limits) as pool:
        again = pool.take((0, 9))
        np.testing.assert_array_equal(pool.scored((0, 9), (12, 14)).levels, scored.levels)
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(first.few, again.few)
    kept.write_bytes(kept.read_bytes()[:100])
    span.write_bytes(span.read_bytes()[:100])
    assert read_cell(kept) is None
    with CellPool(task, asked.limits) as pool:
        np.testing.assert_array_equal(pool.take((0, 9)).few, first.few)
        np.testing.assert_array_equal(pool.scored((0, 9), (12, 14)).levels, scored.levels)
        assert len(pool.misses((0, 9), 13)) == 20


def test_a_killed_backtest_leaves_no_child_and_goes_on_where_it_was(tmp_path: Path) -> None:
    asked = options(tmp_path, limits=Limits(jobs=1, seconds=600))
    task = cell_task(prepare(frame(), asked), asked)
    program = (
        "import json, sys; from everfit.adapters.cell_files import CellTask;"
        "from everfit.adapters.pool import CellPool, Limits;"
        "pool = CellPool(CellTask(**json.loads(sys.argv[1])), Limits(jobs=1));"
        "pool.take((0, 9)); pool.want([(4, 13)]); print('slow', flush=True); pool.take((4, 13))"
    )
    with subprocess.Popen([sys.executable, "-c", program, task.to_json()], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"slow\n"
        child = int((tmp_path / "project" / "pid").read_text())
        parent.kill()
    until = ticks() + 20
    while psutil.pid_exists(child) and ticks() < until:
        rest(0.05)
    assert not psutil.pid_exists(child)
    kept = cell_file(Path(task.folder), (0, 9)).stat().st_mtime_ns
    with CellPool(task, asked.limits) as pool:
        assert pool.take((0, 9)).failed == ""
        assert pool.take((5, 14)).failed == ""
    assert cell_file(Path(task.folder), (0, 9)).stat().st_mtime_ns == kept


def test_other_rows_or_code_are_other_models(tmp_path: Path) -> None:
    asked = options(tmp_path)
    one = cell_task(prepare(frame(), asked), asked)
    assert cell_task(prepare(frame(620), asked), asked).folder != one.folder
    (tmp_path / "project" / "train.py").write_text(TRAIN + "\n# changed\n")
    assert cell_task(prepare(frame(), asked), asked).folder != one.folder


def test_a_backtest_of_the_default_trainer_from_rows_to_gains(tmp_path: Path) -> None:
    asked = options(
        tmp_path,
        trainer="everfit:gradient_boosting",
        parameters={"max_iter": 3},
        metric=None,
        windows=14,
        label_delay=1,
        policies=("everfit", "every2", "ks_any"),
        limits=Limits(jobs=2, seconds=100),
    )
    found = run(frame(700), asked)
    assert (found.task, found.metric, found.windows, found.label_delay) == ("binary", "roc_auc", 14, 1)
    plain = found.to_dict()
    assert [each["name"] for each in plain["policies"]] == ["everfit", "never", "every1", "every2", "ks_any"]
    always = plain["policies"][2]
    assert (always["training_runs"], always["rows_trained"]) == (2, 2 * 500)
    assert always["decisions"][0] == {"window": 11, "trained_on": [1, 10], "why": "1 windows have passed", "failed": ""}
    assert always["seconds"] > 0
    assert len(always["per_window"]) == 4
    assert found.failures == {}
    assert found.read.features == ("order", "x")
    assert [each.delay for each in found.delays if each.policy == "everfit"] == [1, 2, 3]
    parse_spec(plain["recommended"]["spec"])


def test_new_categories_one_class_in_a_window_own_policies_and_money(tmp_path: Path) -> None:
    shops = np.array(["old", "new"])[(np.arange(700) >= 600).astype(int)]
    rows = frame(700).with_columns(shop=pl.Series(shops), y=pl.when(pl.col("order") >= 650).then(1).otherwise("y"))
    asked = options(
        tmp_path,
        trainer="everfit:gradient_boosting",
        parameters={"max_iter": 3},
        metric=None,
        windows=14,
        later=(),
        slices="shop",
        cost_per_retrain=1.0,
        cost_per_error=2.0,
        policies=("everfit", "every2"),
        own=(parse_policy("{name: mine, every: 3}"),),
        limits=Limits(jobs=2, seconds=100),
    )
    found = run(rows, asked)
    assert "roc_auc is undefined in 1 of 4 scored windows: it needs" in " ".join(found.remarks)
    mine = next(each for each in found.policies if each.name == "mine")
    assert np.isnan(mine.played.scores).tolist() == [False, False, False, True]
    assert mine.to_dict()["per_window"][3] is None
    assert mine.cost == pytest.approx(mine.played.runs + 2 * mine.errors)
    assert {each.value: each.rows for each in found.slices} == {"old": 100, "new": 100}
    assert found.advice.saving is not None
    assert found.delays == ()
    with pytest.raises(UsageError, match="already called 'every2'"):
        run(rows, replace(asked, own=(parse_policy("{name: every2, every: 3}"),)))
    with pytest.raises(UsageError, match="'sometimes' is not a policy"):
        run(rows, replace(asked, policies=("sometimes",)))
    with pytest.raises(Refused, match="roc_auc is defined in no window"):
        run(rows.with_columns(y=pl.when(pl.col("order") < 500).then("y").otherwise(1)), asked)


@pytest.mark.parametrize(
    "rows, error, said",
    [
        pytest.param(frame().drop("y"), Refused, "there is no column 'y'", id="no target"),
        pytest.param(frame().with_columns(y=pl.lit(None)), Refused, "without labels", id="no labels"),
        pytest.param(frame().with_columns(y=pl.lit(1)), Refused, "a single value", id="one class"),
        pytest.param(frame(40), UsageError, "too few for 30 windows", id="fewer rows than windows"),
        pytest.param(frame().with_columns(time=pl.lit(None)), Refused, "600 rows have no time", id="no time"),
    ],
)
def test_frames_that_cannot_be_replayed_are_refused(
    rows: pl.DataFrame, error: type[Exception], said: str, tmp_path: Path
) -> None:
    asked = options(tmp_path, time="time" if "time" in rows.columns else None)
    with pytest.raises(error, match=said):
        prepare(rows, asked)


def test_a_metric_of_another_task_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'mae' is not a metric for binary"):
        prepare(frame(), options(tmp_path, metric="mae"))


def test_rules_on_rows_losses_read_the_kept_files(tmp_path: Path) -> None:
    asked = options(tmp_path, windows=14, limits=Limits(jobs=1, seconds=100))
    history = prepare(frame(700), asked)
    with CellPool(cell_task(history, asked), asked.limits) as pool:
        matrix = Matrix(pool, history.cut)
        played = play_policy("hddm_w", matrix, Portrait(history.rows.drop("y"), history.cut))
        first = matrix.misses((0, 9), 12)
    assert np.isfinite(played.scores).all()
    assert set(np.unique(first)) <= {0.0, 1.0}
    assert len(first) == 50


def test_without_a_first_model_there_is_nothing_to_replay(tmp_path: Path) -> None:
    asked = options(tmp_path, trainer="train:no_such_function")
    with pytest.raises(TrainingFailed, match=r"the first model.*no function 'no_such_function'"):
        run(frame(), asked)


def test_of_large_windows_the_same_even_share_is_scored_for_every_model(tmp_path: Path) -> None:
    asked = options(tmp_path, most=10)
    history = prepare(frame(), asked)
    with CellPool(cell_task(history, asked), asked.limits) as pool:
        one = pool.scored((0, 9), (10, 20))
        window = Matrix(pool, history.cut).misses((0, 9), 15)
    assert len(window) == 10
    truth = frame()["y"].to_numpy()[300:320:2]
    share = frame()["y"].to_numpy()[:200].mean()
    assert one.levels[5, 0] == pytest.approx(np.mean((truth - share) ** 2))
    assert one.missed[5] == pytest.approx(window.mean())
