"""Finding and naming a trainer's source without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from everfit.adapters.trainer_code import check_trainer, code_key
from everfit.errors import UsageError

SOURCE = """
import outside
from features import price as cost
raise RuntimeError("nobody may run this")
if True:
    def fit(frame): ...
other = fit
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(SOURCE)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "fit.py").write_text("def go(frame): ...")
    (tmp_path / "broken.py").write_text("def (")
    return tmp_path


@pytest.mark.parametrize(
    "trainer", ["train:fit", "train:other", "train:cost", "deep.fit:go", "everfit:gradient_boosting"]
)
def test_a_trainer_is_found(project: Path, trainer: str) -> None:
    check_trainer(project, trainer)


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        pytest.param("trian:fit", "no module 'trian' in .*did you mean train:fit", id="a module that is not there"),
        pytest.param("train:fitt", "no function 'fitt'; did you mean train:fit", id="a function that is not there"),
        pytest.param("broken:fit", "broken.py is not valid Python", id="a file that is not Python"),
        pytest.param("zzzzzz.b:fit", "no module 'zzzzzz.b'", id="a package that is not there"),
    ],
)
def test_a_trainer_that_is_not_there_is_said_with_the_nearest(project: Path, trainer: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_trainer(project, trainer)


def test_the_key_changes_with_any_source_of_the_project_and_with_nothing_else(project: Path) -> None:
    key = code_key(project, "train:fit")
    (project / "data.csv").write_text("a,b")
    (project / ".venv").mkdir()
    (project / ".venv" / "other.py").write_text("")
    assert code_key(project, "train:fit") == key
    assert code_key(project, "train:other") != key
    (project / "deep" / "fit.py").write_text("def go(frame): return 1")
    assert code_key(project, "train:fit") != key
    assert code_key(project, "everfit:gradient_boosting") == code_key(project / "deep", "everfit:gradient_boosting")
