"""The first question of every user: what would each policy have done for my model?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from everfit.clock import rest, ticks
from everfit.spec import read_spec
from tests.acceptance.user import PATIENCE, Said, User, environment

ROWS, WINDOWS = 3000, 30
TRAINER = """
import numpy as np


class Line:
    def __init__(self, frame, target):
        x, y = np.c_[np.ones(len(frame)), frame.drop(columns=target).to_numpy(float)], frame[target].to_numpy(float)
        self.weights = np.linalg.lstsq(x, y, rcond=None)[0]

    def predict_proba(self, frame):
        share = np.clip(np.c_[np.ones(len(frame)), frame.to_numpy(float)] @ self.weights, 0.01, 0.99)
        return np.c_[1 - share, share]

    def predict(self, frame):
        return self.predict_proba(frame)[:, 1] > 0.5


def fit(frame, target):
    return Line(frame, target)
"""


def history() -> pl.DataFrame:
    """Three features; at half of the time the first changes its meaning."""
    chance = np.random.default_rng(11)
    x = chance.normal(size=(ROWS, 3))
    sign = np.where(np.arange(ROWS) < ROWS // 2, 1, -1)
    late = (sign * x[:, 0] + 0.3 * x[:, 1] + 0.3 * chance.normal(size=ROWS) > 0).astype(int)
    at = pl.datetime_range(pl.datetime(2026, 1, 1), pl.datetime(2027, 1, 1), "1h", eager=True)[:ROWS]
    return pl.DataFrame({"at": at, "one": x[:, 0], "two": x[:, 1], "<b>three</b>": x[:, 2], "late": late})


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    folder = tmp_path_factory.mktemp("backtest")
    history().sample(fraction=1, shuffle=True, seed=1).write_csv(folder / "rows.csv.gz", compression="gzip")
    (folder / "train.py").write_text(TRAINER)
    return User(folder)


WORDS = ("backtest", "rows.csv.gz", "--target", "late", "--windows", WINDOWS, "--trainer", "train:fit")


@pytest.fixture(scope="module")
def answer(user: User) -> Said:
    return user.types(*WORDS, "--json", "told.json", "--html", "page.html", "--slices", "two", "--jobs", 2)


@pytest.fixture(scope="module")
def told(user: User, answer: Said) -> dict[str, Any]:
    assert answer.code == 0, answer
    found: dict[str, Any] = json.loads((user.folder / "told.json").read_text())
    return found


def test_what_was_inferred_is_said_before_it_starts(answer: Said) -> None:
    for said in (
        "rows.csv.gz: 3,000 labelled rows, 3 features",
        "binary: late (0, 1); metric roc_auc",
        "30 windows of about 100 rows, 2026-01-01 to 2026-05-05; the first 6 train the first model",
        "rows are ordered by 'at', the only column with a time in every row",
        "models are kept in .everfit/backtest",
    ):
        assert said in answer.err, answer.err


def test_the_table_fits_a_screen_and_the_advice_is_in_words(answer: Said, told: dict[str, Any]) -> None:
    lines = answer.out.splitlines()
    assert len(lines) < 34
    marked = [line.split()[1] for line in lines if line.startswith("->")]
    assert marked == [told["recommended"]["policy"], "recommended;"]
    assert sum(line.split()[:1] == ["hindsight"] for line in lines) == 1
    assert all(len(line) <= 80 for line in lines[: lines.index("")])
    assert "next: everfit init FOLDER --from-backtest told.json" in answer.out


def test_json_has_what_was_promised(told: dict[str, Any]) -> None:
    assert (told["task"], told["metric"], told["windows"], told["label_delay"]) == ("binary", "roc_auc", WINDOWS, 0)
    number = (int, float)
    kinds: dict[str, Any] = {
        "name": str, "score": float, "retrains": int, "training_runs": int, "rows_trained": int, "seconds": number,
        "gain": number, "share": number, "per_window": list, "decisions": list,
    }  # fmt: skip
    for policy in told["policies"]:
        for name, kind in kinds.items():
            assert isinstance(policy[name], kind), (policy["name"], name)
        assert len(policy["per_window"]) == WINDOWS - 6
        for decision in policy["decisions"]:
            assert isinstance(decision["window"], int)
            assert isinstance(decision["why"], str)
            first, last = decision["trained_on"]
            assert 0 <= first <= last <= decision["window"]
    assert {"everfit", "never", "every1", "every5"} <= {policy["name"] for policy in told["policies"]}
    assert all(set(each) >= {"retrains", "score"} for each in told["oracle"])
    assert all(isinstance(each, float) for each in told["ageing"])
    best = told["recommended"]
    assert isinstance(best["policy"], str)
    assert isinstance(best["spec"], str)
    assert best["interval"][0] <= best["expected_gain"] <= best["interval"][1]
    assert (told["target"], told["time"]) == ("late", "at")


def test_the_change_is_found(told: dict[str, Any]) -> None:
    scores = {policy["name"]: policy["score"] for policy in told["policies"]}
    assert scores["everfit"] > scores["never"] + 0.2
    assert told["recommended"]["policy"] != "never"


def test_the_page_tells_it_and_trusts_no_name(user: User, told: dict[str, Any]) -> None:
    page = (user.folder / "page.html").read_text()
    assert "<script" not in page
    assert "<b>three</b>" not in page
    assert told["recommended"]["policy"] in page
    assert page.count("<svg") > 3


def test_again_it_trains_nothing_and_answers_the_same(user: User, told: dict[str, Any]) -> None:
    again = user.types(*WORDS, "--json", "-", "--slices", "two", "--quiet")
    assert (again.code, again.err) == (0, ""), again
    assert {**again.told, "seconds": None} == {**told, "seconds": None}
    assert again.told["seconds"]["training"] == told["seconds"]["training"], "the same models"


def test_a_project_begins_with_what_is_recommended(user: User, told: dict[str, Any]) -> None:
    begun = user.types("init", "shop", "--from-backtest", "told.json")
    assert begun.code == 0, begun
    assert "put the module of train:fit beside it" in begun.out
    spec = read_spec(user.folder / "shop" / "everfit.yaml")
    assert (spec.target, spec.time, spec.train.trainer) == ("late", "at", "train:fit")
    assert spec.observe.source.kind == "files"
    (user.folder / "shop" / "train.py").write_text(TRAINER)
    again = user.types("init", "shop", "--from-backtest", "told.json")
    assert (again.code, "is there already" in again.err) == (2, True)
    for words, said in [(("no.json",), "there is no such file"), (("rows.csv.gz",), "not the answer of a backtest")]:
        wrong = user.types("init", "other", "--from-backtest", *words)
        assert (wrong.code, said in wrong.err) == (2, True), wrong


LIVE = """
model: rows
task: binary
target: late
time: at
observe: {window: 100h, labels_mature_after: 0s}
train: {with: "train:fit", at_least: 100000}
judge: {at_least: 50}
"""
VOLUME = """
name: by-volume
triggers: [{name: volume, new_rows: 500}]
train: {at_least: 100}
decide: {bench: {recall: false}}
"""


def test_triggers_are_played_by_the_live_flows_and_a_spec_without_a_model_ends_alone(user: User) -> None:
    (user.folder / "live.yaml").write_text(LIVE)
    (user.folder / "volume.yaml").write_text(VOLUME)
    words = ("backtest", "rows.csv.gz", "--spec", "live.yaml", "--policy", "volume.yaml", "--policies", "every5")
    said = user.types(*words, "--rows", 1500, "--json", "live.json")
    assert said.code == 0, said
    told = json.loads((user.folder / "live.json").read_text())
    (volume,) = [each for each in told["policies"] if each["name"] == "by-volume"]
    assert volume["training_runs"] > 0
    assert all("rows" in each["why"] for each in volume["decisions"])
    assert volume["per_window"][-1] is not None
    assert [each["name"] for each in told["unplayed"]] == ["spec"]
    assert "note: spec has no number: no model ever served; no run began" in said.out
    assert [line.split()[1] for line in said.out.splitlines() if line.split()[:1] == ["spec"]] == ["\N{EN DASH}"]


def test_ctrl_c_keeps_what_was_trained(user: User) -> None:
    slow = TRAINER.replace("def fit(frame, target):", "def fit(frame, target):\n    import time; time.sleep(0.15)")
    (user.folder / "slow.py").write_text(slow)
    words = [*WORDS[:-1], "slow:fit", "--jobs", 1, "--cache", "kept", "--policies", "every5"]
    command = [sys.executable, "-m", "everfit", *map(str, words)]
    running = subprocess.Popen(command, cwd=user.folder, env=environment(), stderr=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, text=True, start_new_session=True)  # fmt: skip
    end = ticks() + PATIENCE
    while not models(user.folder / "kept"):
        assert running.poll() is None, running.communicate()
        assert ticks() < end
        rest(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, err
    assert "stopped; what was trained is kept in kept: the same command goes on" in err
    before = models(user.folder / "kept")
    assert 0 < len(before) < WINDOWS - 6
    assert user.types(*words, "--quiet").code == 0
    after = models(user.folder / "kept")
    assert {name: after[name] for name in before} == before, "nothing was trained again"


def models(folder: Path) -> dict[str, int]:
    """The models that lie in a cache, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*/*.npz") if path.name.count(".") == 1}


def test_a_trainer_that_fails_at_once_says_why(user: User) -> None:
    (user.folder / "lost.py").write_text("import not_there\n\ndef fit(frame, target): ...\n")
    said = user.types(*WORDS[:-1], "lost:fit", "--policies", "every5")
    assert said.code == 1
    assert "No module named 'not_there'" in said.err
    assert "Traceback" not in said.err
