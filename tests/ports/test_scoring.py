"""The scoring child that stays: what it keeps, what ends it, and that a model fails for itself alone."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from everfit.adapters.frames import Meta, features_in
from everfit.adapters.models import write_model
from everfit.adapters.trainer import ProcessTrainer
from everfit.clock import rest, ticks
from everfit.errors import LeaseLost, ModelUnusable
from everfit.ports import Job

ROWS = pl.DataFrame({"price": [-1.0, 1.0, 2.0, -2.0]})
ODD = 1000.0  # a price at which models of these tests show their mood: training and keeping them never meets it


class Moody:
    """Says 1 for a price above its line; at an odd price it does what its mood is, in the child's folder."""

    def __init__(self, mood: Callable[[], object], line: float = 0.0) -> None:
        self.mood, self.line = mood, line

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        if frame["price"].max() >= ODD:  # type: ignore[operator]  # a column of floats
            self.mood()
        return np.where(frame["price"] > self.line, 1, 0)


def tells() -> None:
    with Path("pids.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")


def prints() -> None:
    print("a model says hello")


def raises() -> None:
    raise ValueError("the price is odd")


def leaves() -> None:
    sys.exit(3)


def vanishes() -> None:
    os._exit(0)


def crashes() -> None:
    os.kill(os.getpid(), 11)


def crashes_once() -> None:
    if not Path("crashed").exists():
        Path("crashed").touch()
        os.kill(os.getpid(), 11)


def hangs() -> None:
    tells()
    time.sleep(3600)


def eats() -> None:
    held = []
    while True:
        held.append(np.ones(4_000_000))
        time.sleep(0.01)


def hoards() -> None:
    tells()
    np.hoard = np.ones(50_000_000)  # type: ignore[attr-defined]  # 400 MB that outlive the question


def breeds() -> None:
    for own_session in (False, True):
        command = [sys.executable, "-c", "import time; time.sleep(3600)"]
        child = subprocess.Popen(command, start_new_session=own_session)
        with Path("pids.txt").open("a") as file:
            file.write(f"{child.pid}\n")
    hangs()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    for name in ("run", "project"):
        (tmp_path / name).mkdir()
    return Job(
        folder=tmp_path / "run", project=tmp_path / "project", trainer="train:fit", parameters={}, seed=0,
        task="binary", target="late", features=("price",), categories=(), classes=("0", "1"),
        timeout=timedelta(seconds=60), memory=4 * 10**9,
    )  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.parquet"
    pl.DataFrame({"price": [-1.0, ODD, 5.0]}).write_parquet(file)
    return file


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    def build(mood: Callable[[], object], line: float = 0.0, name: str = "") -> Path:
        folder = tmp_path / (name or f"{mood.__name__}-{line}")
        meta = Meta("binary", features_in(ROWS), ("0", "1"), "1", frame="polars")
        write_model(Moody(mood, line), folder, meta, ROWS)
        return folder

    return build


@pytest.fixture
def trainer() -> ProcessTrainer:
    return ProcessTrainer()


Build = Callable[..., Path]


def held() -> bool:
    return True


def pids(job: Job) -> list[int]:
    file = job.project / "pids.txt"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"


def wait_for(true: Callable[[], bool], seconds: float = 60) -> None:
    since = ticks()
    while not true():
        assert ticks() - since < seconds, "it did not come about"
        rest(0.02)


def test_one_child_answers_question_after_question(trainer: ProcessTrainer, job: Job, rows: Path, model: Build) -> None:
    models = {"a": model(tells), "b": model(tells, 10.0)}
    found = trainer.score_each(models, rows, job, held)
    alone = trainer.score(models["b"], rows, job, held)
    assert {name: each["_prediction"].to_list() for name, each in found.items() if isinstance(each, pl.DataFrame)} == {
        "a": ["0", "1", "1"],
        "b": ["0", "1", "0"],
    }
    assert alone["_prediction"].to_list() == ["0", "1", "0"]
    assert len(pids(job)) == 3
    assert len(set(pids(job))) == 1
    assert list(job.folder.iterdir()) == [job.folder / "score-log.txt"]  # no scores are left lying


def test_rows_and_models_that_were_written_anew_are_read_anew(
    trainer: ProcessTrainer, job: Job, rows: Path, model: Build
) -> None:
    place = model(tells, name="model")
    before = trainer.score(place, rows, job, held)["_prediction"].to_list()
    model(tells, 10.0, name="model")
    between = trainer.score(place, rows, job, held)["_prediction"].to_list()
    pl.DataFrame({"price": [11.0]}).write_parquet(rows)
    after = trainer.score(place, rows, job, held)["_prediction"].to_list()
    assert (before, between, after) == (["0", "1", "1"], ["0", "1", "0"], ["1"])
    (place / "model.pickle").write_bytes(b"nonsense")
    with pytest.raises(ModelUnusable, match="cannot be loaded"):
        trainer.score(place, rows, job, held)


def test_another_project_or_limit_of_memory_gets_a_child_of_its_own(
    trainer: ProcessTrainer, job: Job, rows: Path, model: Build, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other, tighter = replace(job, project=tmp_path / "other"), replace(job, memory=3 * 10**9)
    for each in (job, other, job, tighter, tighter):
        trainer.score(model(tells), rows, each, held)
    first, second, third, fourth = [*pids(job)[:2], *pids(other), pids(job)[2]]
    assert len({first, second, third, fourth}) == 4
    assert pids(job)[2:] == [fourth, fourth]
    assert not any(running(pid) for pid in (first, second, third))


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        pytest.param(raises, "ValueError: the price is odd", id="it raises"),
        pytest.param(leaves, "SystemExit: 3", id="it exits"),
        pytest.param(vanishes, "exit code 0 and left no result", id="it ends without a word"),
        pytest.param(crashes, r"crashed \(SIGSEGV\)", id="it crashes"),
        pytest.param(eats, "took more than 800 MB of memory", id="it eats memory"),
        pytest.param(hangs, "ran longer than 5s and was stopped", id="it hangs"),
    ],
)
def test_only_the_guilty_model_fails(
    trainer: ProcessTrainer, job: Job, rows: Path, model: Build, mood: Callable[[], object], said: str
) -> None:
    job = replace(job, timeout=timedelta(seconds=5 if mood is hangs else 60), memory=800_000_000)
    found = trainer.score_each({"a": model(tells), "bad": model(mood), "c": model(tells, 10.0)}, rows, job, held)
    assert isinstance(found["bad"], str)
    with pytest.raises(ModelUnusable, match=said):
        raise ModelUnusable(found["bad"])
    assert str(job.folder / "score-log.txt") in found["bad"]
    others = [found[name] for name in ("a", "c")]
    assert [each["_prediction"].to_list() for each in others if isinstance(each, pl.DataFrame)] == [
        ["0", "1", "1"],
        ["0", "1", "0"],
    ]


def test_a_model_is_blamed_only_for_what_it_does_in_a_fresh_child(
    trainer: ProcessTrainer, job: Job, rows: Path, model: Build
) -> None:
    trainer.score(model(tells), rows, job, held)
    found = trainer.score(model(crashes_once), rows, job, held)
    assert found["_prediction"].to_list() == ["0", "1", "1"]
    (job.project / "crashed").unlink()
    with pytest.raises(ModelUnusable, match="crashed"):
        ProcessTrainer().score(model(crashes_once), rows, job, held)


def test_a_child_that_was_killed_between_two_questions_is_started_anew(
    trainer: ProcessTrainer, job: Job, rows: Path, model: Build
) -> None:
    for _ in range(2):
        trainer.score(model(tells), rows, job, held)
        os.kill(pids(job)[-1], 9)
    assert len(set(pids(job))) == 2


def test_the_child_stops_when_the_lease_is_lost_and_the_next_question_is_answered(
    trainer: ProcessTrainer, job: Job, rows: Path, model: Build
) -> None:
    with pytest.raises(LeaseLost):
        trainer.score(model(breeds), rows, job, lambda: len(pids(job)) < 3)
    wait_for(lambda: not any(running(pid) for pid in pids(job)))
    assert trainer.score(model(tells), rows, job, held).height == 3


def test_a_child_that_is_asked_nothing_ends(job: Job, rows: Path, model: Build) -> None:
    trainer = ProcessTrainer(idle=0.2)
    trainer.score(model(tells), rows, job, held)
    wait_for(lambda: not running(pids(job)[0]))
    assert trainer.score(model(tells), rows, job, held).height == 3


def test_a_child_that_holds_too_much_ends_after_its_answer(
    trainer: ProcessTrainer, job: Job, rows: Path, model: Build
) -> None:
    job = replace(job, memory=900_000_000)  # it may keep 450 MB of them
    for mood in (hoards, tells, tells):
        trainer.score(model(mood), rows, job, held)
    hoarding, second, third = pids(job)
    assert hoarding != second == third
    assert not running(hoarding)


def test_the_child_ends_with_its_trainer(job: Job, rows: Path, model: Build) -> None:
    ProcessTrainer().score(model(tells), rows, job, held)
    gc.collect()  # where something still holds it in a cycle
    wait_for(lambda: not running(pids(job)[0]))


@pytest.mark.parametrize("busy", [True, False])
def test_the_child_dies_with_its_parent(job: Job, rows: Path, model: Build, busy: bool) -> None:
    code = (
        "import datetime, time; from pathlib import Path, PosixPath\n"
        "from everfit.adapters.trainer import ProcessTrainer; from everfit.ports import Job\n"
        "trainer = ProcessTrainer()\n"
        f"trainer.score({model(breeds if busy else tells)!r}, {rows!r}, {job!r}, lambda: True)\n"
        "Path('answered').touch()\n"
        "time.sleep(3600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=job.folder)
    wait_for(lambda: len(pids(job)) == 3 if busy else (job.folder / "answered").exists())
    children = [each.pid for each in psutil.Process(parent.pid).children(recursive=True)]
    left_session = pids(job)[1:2] if busy else []  # only a living parent can know it
    parent.kill()
    parent.wait()
    assert pids(job)[-1] in children
    wait_for(lambda: not any(running(pid) for pid in children if pid not in left_session), 10)
    for pid in left_session:
        os.kill(pid, 9)


def test_threads_take_turns_and_each_gets_its_own_answer(
    trainer: ProcessTrainer, job: Job, rows: Path, model: Build
) -> None:
    lines = [0.0, 2.0, 7.0, ODD]
    models = [model(tells, line) for line in lines]

    def ask(place: int) -> list[str]:
        return trainer.score(models[place % 4], rows, job, held)["_prediction"].to_list()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(24)))
    assert answers == [[str(int(price > lines[place % 4])) for price in (-1.0, ODD, 5.0)] for place in range(24)]
    assert len(set(pids(job))) == 1


def test_a_thread_that_waits_for_its_turn_notices_that_its_lease_is_lost(
    trainer: ProcessTrainer, job: Job, rows: Path, model: Build
) -> None:
    stopped: list[bool] = []
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(trainer.score, model(hangs), rows, job, lambda: not stopped)
        wait_for(lambda: len(pids(job)) == 1)
        answers = iter([True, True, False])
        with pytest.raises(LeaseLost):
            trainer.score(model(tells), rows, job, lambda: next(answers))
        stopped.append(True)
        with pytest.raises(LeaseLost):
            first.result()


def test_what_a_model_prints_is_in_its_log(trainer: ProcessTrainer, job: Job, rows: Path, model: Build) -> None:
    for _ in range(2):
        trainer.score_each({"a": model(prints), "b": model(prints, 1.0)}, rows, job, held)
        assert (job.folder / "score-log.txt").read_text().count("a model says hello") == 2


def test_rows_are_timed_one_by_one_when_they_are_to_be(
    trainer: ProcessTrainer, job: Job, rows: Path, model: Build
) -> None:
    found = trainer.score(model(tells), rows, replace(job, timed_rows=2), held)
    assert found["_latency_ms"].is_null().to_list() == [False, False, True]
