"""Wrong use of the command line: exit code 2 and a sentence with the next move; 1 where the data say no."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.user import User

SPEC = "model: m\ntask: binary\ntarget: late\ntime: at\n"
ROWS = "at,hour,late\n" + "".join(f"2024-01-{day:02}T0{hour}:00:00Z,{hour},{hour % 2}\n"
                                  for day in range(1, 29) for hour in range(10))  # fmt: skip


@pytest.mark.parametrize(
    "command, spec, said",
    [
        pytest.param(
            "up", SPEC + "obsreve: {}\n", "everfit.yaml:5: obsreve: unknown key; did you mean 'observe'", id="key"
        ),
        pytest.param("check", SPEC.replace("binary", "duel"), "everfit.yaml:2: task", id="value"),
        pytest.param("check", SPEC + "observe: {window: 1x}\n", "everfit.yaml:5: observe.window", id="duration"),
        pytest.param("up", "", "a spec begins with keys", id="an empty file"),
        pytest.param("check", None, "there is no such file; `everfit init` writes one", id="no file"),
    ],
)
def test_a_wrong_spec_ends_with_2(tmp_path: Path, command: str, spec: str | None, said: str) -> None:
    if spec is not None:
        (tmp_path / "everfit.yaml").write_text(spec)
    answer = User(tmp_path).types(command)
    assert answer.code == 2
    assert said in answer.err


@pytest.mark.parametrize(
    "words, code, said",
    [
        pytest.param(["--time", "at", "--target", "lat"], 2, "no column 'lat'; columns: at, hour, late", id="target"),
        pytest.param(["--time", "hour", "--target", "late"], 1, "no row can be taken", id="a time that is none"),
        pytest.param(["--time", "at", "--target", "same"], 2, "nothing to learn", id="a constant target"),
    ],
)
def test_init_says_what_is_wrong_with_the_data(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    lines = ROWS.splitlines()
    (tmp_path / "rows.csv").write_text("\n".join([lines[0] + ",same", *(line + ",1" for line in lines[1:])]))
    answer = User(tmp_path).types("init", "p", "--data", "rows.csv", *words)
    assert (answer.code, said in answer.err) == (code, True), answer


@pytest.mark.parametrize(
    "trainer, said",
    [
        pytest.param("trian:fit", "no module 'trian'", id="a module that is not there"),
        pytest.param("train:fti", "no function 'fti'; did you mean 'fit'", id="a function that is not there"),
        pytest.param("train:fit", None, id="one that is there"),
    ],
)
def test_check_imports_the_trainer(tmp_path: Path, trainer: str, said: str | None) -> None:
    (tmp_path / "everfit.yaml").write_text(f"{SPEC}train: {{with: '{trainer}'}}\n")
    (tmp_path / "train.py").write_text("def fit(frame): ...\n")
    answer = User(tmp_path).types("check", "--json")
    told = next(each for each in answer.told if each["what"] == "trainer")
    assert (answer.code, told["ok"]) == ((0, True) if said is None else (1, False))
    assert said is None or said in told["said"]


def test_only_a_model_of_the_ledger_has_a_bench(tmp_path: Path) -> None:
    (tmp_path / "everfit.yaml").write_text(SPEC)
    ada = User(tmp_path)
    answer = ada.types("bench", "nobody")
    assert (answer.code, "'nobody' is no model of this ledger; it knows none yet" in answer.err) == (2, True), answer
    assert "m: no window of the bench has mature labels yet" in ada.types("bench").out
    assert ada.sees("bench", "m")["models"] == []
