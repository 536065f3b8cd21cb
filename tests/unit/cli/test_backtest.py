"""`everfit backtest`, as a user types it: what is wrong is said before anything is trained, with the remedy."""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from everfit.cli.commands import cli
from everfit.errors import SpecError, UsageError

ROWS = 600
CHANCE = np.random.default_rng(5)
HISTORY = pl.DataFrame(
    {
        "at": [datetime(2026, 1, 1) + timedelta(hours=place) for place in range(ROWS)],
        "place": range(ROWS),
        "word": [f"row {place}" for place in range(ROWS)],
        "price": CHANCE.normal(size=ROWS),
        "shop": CHANCE.choice(["a", "b"], ROWS),
        "same": [1] * ROWS,
        "late": CHANCE.integers(0, 2, ROWS),
    }
)
SPEC = "model: m\ntask: binary\ntarget: late\ntime: at\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("backtest")
    HISTORY.write_parquet(made / "rows.parquet")
    HISTORY.head(0).write_parquet(made / "none.parquet")
    HISTORY.head(15).write_parquet(made / "few.parquet")
    HISTORY.with_columns(at=pl.when(pl.col("place") == 3).then(None).otherwise("at")).write_parquet(
        made / "gap.parquet"
    )
    (made / "torn.parquet").write_bytes((made / "rows.parquet").read_bytes()[:2000])
    (made / "torn.csv.gz").write_bytes(gzip.compress(HISTORY.write_csv().encode())[:900])
    (made / "rows.xlsx").write_bytes(b"PK")
    (made / "everfit.yaml").write_text(SPEC)
    (made / "wrong.yaml").write_text(SPEC + "obsreve: {}\n")
    (made / "train.py").write_text("def fit(frame): ...\n")
    (made / "broken.py").write_text("def fit(frame:\n")
    (made / "wrong-policy.yaml").write_text("name: mine\nrule: droop\n")
    (made / "taken-policy.yaml").write_text("{name: never, every: 7}")
    (made / "triggers-policy.yaml").write_text("name: mine\ntriggers:\n  - {name: decay, performance: {drop: -1}}\n")
    return made


def run(folder: Path, *words: object) -> Result:
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        return CliRunner().invoke(cli, ["backtest", *(str(word) for word in words)], terminal_width=100)


@pytest.mark.parametrize(
    "words, said",
    [
        pytest.param("rows.parquet", "--target: name the column to predict", id="no target"),
        pytest.param("rows.parquet --target lat", "no column 'lat'; did you mean 'late'? Columns: at,", id="target"),
        pytest.param("rows.parquet --target same", "holds a single value", id="a target of one value"),
        pytest.param("rows.parquet --target late --time att", "--time: there is no column 'att'; did you", id="time"),
        pytest.param("rows.parquet --target late --time word", "'row 0' is no time", id="an order of words"),
        pytest.param(
            "gap.parquet --target late --time at", "1 rows have no time; leave them out", id="a row without time"
        ),
        pytest.param("none.parquet --target late", "there is no row in the file", id="no rows"),
        pytest.param("few.parquet --target late", "15 rows are too few for 20 windows", id="fewer rows than windows"),
        pytest.param("rows.parquet --target late --windows 3", "nothing to score", id="too few windows"),
        pytest.param("nowhere.parquet --target late", "there is no such file", id="no file"),
        pytest.param("torn.parquet --target late", "torn.parquet: cut off or not .parquet", id="a torn file"),
        pytest.param("torn.csv.gz --target late", "torn.csv.gz: cut off or not .csv.gz", id="a torn gzip"),
        pytest.param("rows.xlsx --target late", "files of kind '.xlsx' are not read", id="a kind that is not read"),
        pytest.param("rows.parquet --target late --exclude pric", "did you mean 'price'", id="exclude"),
        pytest.param("rows.parquet --target late --slices shpo", "did you mean 'shop'", id="slices"),
        pytest.param("rows.parquet --target late --metric roc_au", "did you mean 'roc_auc'", id="metric"),
        pytest.param("rows.parquet --target late --metric rmse", "'rmse' is not a metric for binary", id="other task"),
        pytest.param("rows.parquet --target late --policies evrefit", "did you mean 'everfit'", id="policy"),
        pytest.param("rows.parquet --target late --policies every0", "'every0' is no policy", id="every nothing"),
        pytest.param("rows.parquet --target late --policies ,", "--policies: name some of", id="no policy"),
        pytest.param("rows.parquet --target late --policy taken-policy.yaml", "is called 'never'", id="a name twice"),
        pytest.param(
            "rows.parquet --target late --time place --policy triggers-policy.yaml", "without times", id="triggers"
        ),
        pytest.param("rows.parquet --target late --window 7x", "--window 7x: not a duration", id="window"),
        pytest.param("rows.parquet --target late --window 0d", "longer than nothing", id="a window of nothing"),
        pytest.param("rows.parquet --target late --window 1d --time place", "column of times", id="window, no time"),
        pytest.param("rows.parquet --target late --window 1d --windows 9", "do not go together", id="both windows"),
        pytest.param("rows.parquet --target late --window 20d", "take --window", id="windows too long"),
        pytest.param("rows.parquet --target late --label-delay soon", "not a duration; write 2 for", id="delay"),
        pytest.param(
            "rows.parquet --target late --label-delay 3d --time place", "column of times", id="delay, no time"
        ),
        pytest.param("rows.parquet --target late --label-delay 99", "no label comes", id="a delay beyond history"),
        pytest.param("rows.parquet --target late --trainer trian:fit", "no module 'trian'", id="trainer's module"),
        pytest.param(
            "rows.parquet --target late --trainer train:fti", "did you mean train:fit", id="trainer's function"
        ),
        pytest.param(
            "rows.parquet --target late --trainer broken:fit", "is not valid Python", id="trainer that is broken"
        ),
        pytest.param("rows.parquet --target late --trainer train", "module:function", id="trainer without function"),
        pytest.param("rows.parquet --target late --html nowhere/a.html", "cannot be written", id="where to write"),
        pytest.param(
            "rows.parquet few.parquet --target word --exclude at", "too many for classes", id="a target of texts"
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(folder: Path, words: str, said: str) -> None:
    found = run(folder, *words.split())
    assert isinstance(found.exception, UsageError), found
    assert said in str(found.exception)
    assert not (folder / ".everfit").exists(), "nothing was begun"


@pytest.mark.parametrize(
    "words, said",
    [
        ("--spec wrong.yaml", "wrong.yaml:5: obsreve: unknown key"),
        ("--spec nowhere.yaml", "nowhere.yaml: there is no such file"),
        (
            "--target late --policy wrong-policy.yaml",
            "wrong-policy.yaml:2: rule: there is no rule 'droop'; did you mean",
        ),
        ("--target late --policy nowhere.yaml", "nowhere.yaml: there is no such file"),
        ("--target late --policy triggers-policy.yaml", "triggers-policy.yaml:3: triggers[0].performance.drop: input"),
    ],
)
def test_a_wrong_file_of_wishes_names_its_line(folder: Path, words: str, said: str) -> None:
    found = run(folder, "rows.parquet", *words.split())
    assert isinstance(found.exception, SpecError)
    assert said in str(found.exception)


@pytest.mark.parametrize("words", ["--windows 0", "--rows 0", "--jobs 0", "--cost-per-error -1"])
def test_numbers_out_of_range_end_with_2(folder: Path, words: str) -> None:
    found = run(folder, "rows.parquet", "--target", "late", *words.split())
    assert found.exit_code == 2
