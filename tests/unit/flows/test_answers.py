"""Scores that training left are taken for the same model and the same rows only."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from everfit.flows.answers import keep_scores, kept_scores
from everfit.retrain.candidate import ModelFile

FILE = ModelFile("made", "skops", 1)
HELD_OUT = pl.DataFrame({"_id": ["a", "b"], "price": [1.0, 2.0]})
SCORES = pl.DataFrame({"_score": [[0.2, 0.8], [0.6, 0.4]], "_prediction": ["1", "0"]})


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    keep_scores(tmp_path, FILE, HELD_OUT, SCORES)
    keep_scores(tmp_path, FILE, HELD_OUT, SCORES)
    found = kept_scores(tmp_path, FILE, HELD_OUT)
    assert found is not None
    assert found.equals(SCORES)
    assert [each.name for each in tmp_path.iterdir()] == ["scores-made.parquet"]


@pytest.mark.parametrize(
    ("file", "rows"),
    [
        pytest.param(ModelFile("other", "skops", 1), HELD_OUT, id="of another model"),
        pytest.param(FILE, HELD_OUT.reverse(), id="of rows in another order"),
        pytest.param(FILE, HELD_OUT.head(1), id="of more rows"),
    ],
)
def test_what_was_said_of_something_else_is_not_taken(tmp_path: Path, file: ModelFile, rows: pl.DataFrame) -> None:
    keep_scores(tmp_path, FILE, HELD_OUT, SCORES)
    assert kept_scores(tmp_path, file, rows) is None


def test_a_damaged_file_is_not_taken(tmp_path: Path) -> None:
    keep_scores(tmp_path, FILE, HELD_OUT, SCORES)
    (tmp_path / "scores-made.parquet").write_bytes(b"nonsense")
    assert kept_scores(tmp_path, FILE, HELD_OUT) is None
