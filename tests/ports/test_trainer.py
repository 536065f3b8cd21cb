"""Training in a child process, with every way in which a trainer can go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from everfit.adapters.models import load, read_meta
from everfit.adapters.process import LOG_AT_MOST
from everfit.adapters.trainer import ProcessTrainer
from everfit.checks import check_trainer
from everfit.clock import rest, ticks
from everfit.errors import LeaseLost, ModelUnusable, TrainingFailed
from everfit.ports import Job, Trainer
from everfit.testing import MemoryTrainer
from everfit.trainer_checks import Bout

TRAIN = """
import os, subprocess, sys, time
import numpy as np
import pandas as pd
import polars as pl
from sklearn.linear_model import LogisticRegression

def fit(frame, target, seed, C=1.0):
    model = LogisticRegression(C=C, random_state=seed)
    numbers = frame.drop(columns=target).select_dtypes("number").fillna(0)
    return Numbers(model.fit(numbers, frame[target]), list(numbers.columns))

class Numbers:
    def __init__(self, model, names):
        self.model, self.names, self.classes_ = model, names, model.classes_
    def predict(self, frame):
        return self.model.predict(frame[self.names].fillna(0))
    def predict_proba(self, frame):
        return self.model.predict_proba(frame[self.names].fillna(0))

class Answers:
    def __init__(self, answer, verb="predict"):
        self.answer = answer
        setattr(self, verb, lambda frame: answer(frame))

def of_polars(frame: pl.DataFrame, target: str):
    share = frame[target].mean()
    return Answers(lambda rows: np.full(rows.height, share))

def hard(frame, target):
    return Answers(lambda rows: np.where(rows["price"] > 0, 1, 0))

def shows_types(frame, target):
    raise TypeError(str({name: str(kind) for name, kind in frame.dtypes.items()}))

def raises(frame):
    raise ValueError("the rows are odd")

def leaves(frame):
    sys.exit(3)

def vanishes(frame):
    os._exit(0)

def crashes(frame):
    os.kill(os.getpid(), 11)

def hangs(frame):
    time.sleep(3600)

def eats(frame):
    held = []
    while True:
        held.append(np.ones(4_000_000))
        time.sleep(0.01)

def prints(frame, target):
    for _ in range(300):
        print("x" * 100_000)
    return hard(frame, target)

def says_nothing(frame): return None
def gives_a_dict(frame): return {"model": 1}
def gives_a_path(frame): return "nowhere"
def shaped_wrong(frame): return Answers(lambda rows: np.ones((3, 2)), "predict_proba")
def not_a_number(frame): return Answers(lambda rows: np.full((len(rows), 2), np.nan), "predict_proba")
def no_chances(frame): return Answers(lambda rows: np.full((len(rows), 2), 0.7), "predict_proba")
def strange_class(frame): return Answers(lambda rows: np.full(len(rows), "maybe"))
def cannot_predict(frame): return Answers(lambda rows: 1 / 0)

def leaves_offspring(frame):
    for own_session in (False, True):
        command = [sys.executable, "-c", "import time; time.sleep(3600)"]
        child = subprocess.Popen(command, start_new_session=own_session)
        with open("offspring.txt", "a") as file:
            file.write(f"{child.pid}\\n")
    time.sleep(3600)

not_callable = 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train.py").write_text(TRAIN)
    # A module of the project must not stand before the standard library.
    (tmp_path / "project" / "random.py").write_text("raise RuntimeError('this is not random')")
    return tmp_path / "project"


@pytest.fixture
def job(tmp_path: Path, project: Path) -> Callable[..., Job]:
    def build(trainer: str, seconds: float = 60, **changes: object) -> Job:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        rows = some_rows(400)
        rows.write_parquet(folder / "train.parquet")
        some_rows(100, seed=1).drop("late").write_parquet(folder / "holdout.parquet")
        told: dict[str, object] = {
            "folder": folder,
            "project": project,
            "trainer": trainer,
            "parameters": {},
            "seed": 0,
            "task": "binary",
            "target": "late",
            "features": ("price", "shop", "open"),
            "categories": ("shop",),
            "classes": ("0", "1"),
            "timeout": timedelta(seconds=seconds),
            "memory": 4 * 10**9,
        }
        return Job(**(told | changes))  # type: ignore[arg-type]  # a table of cases gives any field

    return build


def some_rows(many: int, seed: int = 0) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    price = chance.normal(size=many)
    return pl.DataFrame(
        {
            "price": pl.Series(price).set(pl.Series(price > 2), None),
            "shop": chance.choice(["a", "b", "c"], many),
            "open": chance.random(many) > 0.5,
            "late": (price + chance.normal(size=many) > 0).astype(int).astype(str),
        }
    )


def held() -> bool:
    return True


def test_the_default_trainer_makes_a_model_that_scores_in_another_child(job: Callable[..., Job]) -> None:
    told = job("everfit:gradient_boosting", parameters={"max_iter": 20})
    made = ProcessTrainer().train(told, held)
    assert (made.format, read_meta(made.folder).classes) == ("skops", ("0", "1"))
    scored = ProcessTrainer().score(made.folder, told.folder / "holdout.parquet", told, held)
    assert scored.columns == ["_score", "_prediction", "_latency_ms"]
    assert scored.height == 100
    assert scored["_score"].list.sum().is_close(1.0).all()
    assert set(scored["_prediction"]) == {"0", "1"}
    assert made.scores is not None
    assert made.scores.equals(scored)
    again = ProcessTrainer().train(told, held)
    assert (again.folder / "model.skops").read_bytes() == (made.folder / "model.skops").read_bytes()


def test_rows_that_are_to_be_timed_are_scored_in_a_child_of_their_own(job: Callable[..., Job]) -> None:
    told = job("train:hard", timed_rows=3)
    (told.folder / "scores.parquet").write_text("of an earlier try")
    made = ProcessTrainer().train(told, held)
    assert made.scores is None
    scored = ProcessTrainer().score(made.folder, told.folder / "holdout.parquet", told, held)
    assert scored["_latency_ms"].drop_nulls().len() == 3


def test_a_regression_gives_one_value_a_row(job: Callable[..., Job]) -> None:
    told = job("everfit:gradient_boosting", task="regression", target="price", features=("shop", "open"), classes=())
    rows = some_rows(400).drop_nulls()
    rows.write_parquet(told.folder / "train.parquet")
    made = ProcessTrainer().train(told, held)
    scored = ProcessTrainer().score(made.folder, told.folder / "holdout.parquet", told, held)
    assert scored["_score"].list.len().unique().to_list() == [1]
    assert scored["_prediction"].null_count() == 100


def test_a_trainer_of_the_project_serves_without_the_project(job: Callable[..., Job], project: Path) -> None:
    told = job("train:fit", parameters={"C": 0.5})
    made = ProcessTrainer().train(told, held)
    assert made.format == "cloudpickle"
    (project / "train.py").unlink()
    scores = load(made.folder).score(some_rows(5))
    assert scores.shape == (5, 2)
    assert not (project / "__pycache__").exists()


def test_a_trainer_may_take_polars_and_answer_with_one_number_a_row(job: Callable[..., Job]) -> None:
    made = ProcessTrainer().train(job("train:of_polars"), held)
    scores = load(made.folder).score(some_rows(3))
    assert 0 < scores[0, 1] < 1
    assert np.allclose(scores.sum(axis=1), 1)


def test_a_model_that_only_decides_gives_scores_of_0_and_1(job: Callable[..., Job]) -> None:
    made = ProcessTrainer().train(job("train:hard"), held)
    assert set(np.unique(load(made.folder).score(some_rows(50)))) == {0.0, 1.0}


def test_flags_are_numbers_categories_are_categories_and_whole_classes_are_numbers(
    job: Callable[..., Job],
) -> None:
    with pytest.raises(TrainingFailed) as caught:
        ProcessTrainer().train(job("train:shows_types"), held)
    for said in ("'price': 'float64'", "'shop': 'category'", "'open': 'float64'", "'late': 'int64'"):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        pytest.param("train:raises", r"ValueError: the rows are odd \(train.py, line \d+\)", id="it raises"),
        pytest.param("train:leaves", "SystemExit: 3", id="it exits"),
        pytest.param("train:vanishes", "exit code 0 and left no result", id="it ends without a word"),
        pytest.param("train:crashes", "crashed .SIGSEGV", id="it crashes"),
        pytest.param("train:says_nothing", "returned nothing", id="it returns nothing"),
        pytest.param("train:gives_a_dict", "a dict has no predict", id="it returns something that cannot predict"),
        pytest.param("train:gives_a_path", "no MLflow model is there", id="it returns a path to nothing"),
        pytest.param("train:shaped_wrong", "shape .3, 2. to 100 rows", id="the model answers for other rows"),
        pytest.param("train:not_a_number", "not finite numbers", id="the model answers with nan"),
        pytest.param("train:no_chances", "no probabilities", id="the model's chances do not add up"),
        pytest.param(
            "train:strange_class",
            "answered with .maybe., which is neither",
            id="the model predicts an unknown class",
        ),
        pytest.param("train:cannot_predict", "raised while predicting: ZeroDivisionError", id="the model raises"),
        pytest.param("train:fitt", "no function 'fitt'; did you mean 'fit'", id="the function is not there"),
        pytest.param("train:not_callable", "no function 'not_callable'", id="it is no function"),
        pytest.param("trian:fit", "no module 'trian' in", id="the module is not there"),
    ],
)
def test_what_goes_wrong_is_said_in_a_sentence_with_the_log(job: Callable[..., Job], trainer: str, said: str) -> None:
    told = job(trainer)
    with pytest.raises(TrainingFailed, match=said) as caught:
        ProcessTrainer().train(told, held)
    assert str(told.folder / "log.txt") in str(caught.value)


@pytest.mark.parametrize(
    ("trainer", "parameters", "said"),
    [
        pytest.param("train:fit", {"CC": 1}, "does not take 'CC'; did you mean 'C'", id="an unknown parameter"),
        pytest.param("everfit:gradient_boosting", {"depth": 1}, "does not take depth", id="of the default trainer"),
    ],
)
def test_an_unknown_parameter_is_named(job: Callable[..., Job], trainer: str, parameters: object, said: str) -> None:
    with pytest.raises(TrainingFailed, match=said):
        ProcessTrainer().train(job(trainer, parameters=parameters), held)


def test_a_trainer_that_hangs_is_stopped(job: Callable[..., Job]) -> None:
    since = ticks()
    with pytest.raises(TrainingFailed, match="ran longer than 2s and was stopped"):
        ProcessTrainer().train(job("train:hangs", seconds=2), held)
    assert ticks() - since < 10


def test_a_trainer_that_eats_memory_is_stopped(job: Callable[..., Job]) -> None:
    with pytest.raises(TrainingFailed, match="took more than 700 MB of memory"):
        ProcessTrainer().train(job("train:eats", memory=700_000_000), held)


def test_a_trainer_that_prints_without_end_loses_the_older_part(job: Callable[..., Job]) -> None:
    made = ProcessTrainer().train(job("train:prints"), held)
    assert made.log.stat().st_size < 2 * LOG_AT_MOST
    assert "what came before was cut off" in made.log.read_text()


def test_the_child_and_its_offspring_are_killed_when_the_lease_is_lost(job: Callable[..., Job], project: Path) -> None:
    told = job("train:leaves_offspring")
    with pytest.raises(LeaseLost):
        ProcessTrainer().train(told, lambda: len(offspring(project)) < 2)
    assert_gone(offspring(project))


def test_the_child_dies_with_its_parent(job: Callable[..., Job], project: Path) -> None:
    told = job("train:leaves_offspring")
    code = (
        "import sys; from pathlib import Path, PosixPath; from datetime import timedelta, datetime\n"
        "from everfit.adapters.trainer import ProcessTrainer; from everfit.ports import Job\n"
        "import datetime\n"
        f"ProcessTrainer().train({told!r}, lambda: True)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    since = ticks()
    while len(offspring(project)) < 2 and ticks() - since < 60:
        rest(0.05)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    left_session = offspring(project)[1]  # it left its session: only a living parent can know it
    assert_gone([each.pid for each in children if each.pid != left_session])
    os.kill(left_session, 9)


def test_a_model_that_cannot_score_the_rows_is_unusable(job: Callable[..., Job]) -> None:
    told = job("train:hard")
    made = ProcessTrainer().train(told, held)
    other = told.folder / "other.parquet"
    some_rows(10).drop("price").write_parquet(other)
    with pytest.raises(ModelUnusable, match="no column price"):
        ProcessTrainer().score(made.folder, other, told, held)
    (made.folder / "model.pickle").write_bytes(b"nonsense")
    with pytest.raises(ModelUnusable, match="cannot be loaded"):
        ProcessTrainer().score(made.folder, told.folder / "holdout.parquet", told, held)


@pytest.mark.parametrize(
    ("trainer", "parameters"),
    [
        pytest.param(ProcessTrainer, {"max_iter": 5}, id="in processes"),
        pytest.param(MemoryTrainer, {"by": "price"}, id="in memory"),
    ],
)
def test_the_laws_are_kept(
    job: Callable[..., Job], trainer: Callable[[], Trainer], parameters: dict[str, object]
) -> None:
    once = trainer()
    for law in check_trainer(lambda: Bout(once, job("everfit:gradient_boosting", parameters=parameters))):
        law()


def offspring(project: Path) -> list[int]:
    file = project / "offspring.txt"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def assert_gone(pids: list[int]) -> None:
    assert pids
    since = ticks()
    left = pids
    while left and ticks() - since < 10:
        left = [pid for pid in left if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
        rest(0.02)
    assert not left
