"""What `everfit init` writes can be read."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from everfit.app.project import Wanted, begin, begin_from
from everfit.errors import UsageError
from everfit.spec import read_spec


@pytest.mark.parametrize("name", ["null", "no", "2013", "on", "1e3", "shop", "läden"])
def test_a_name_that_means_something_to_yaml_stays_a_name(tmp_path: Path, name: str) -> None:
    rows = pl.DataFrame({
        "at": [datetime(2026, 1, 1) + timedelta(minutes=n) for n in range(600)],
        name: [float(n % 7) for n in range(600)],
        "target": [n % 2 for n in range(600)],
    })  # fmt: skip
    data = tmp_path / f"{name}.csv"
    rows.write_csv(data)
    if name == "läden":
        begun = begin(tmp_path / "p", Wanted(data, "at", "target", None, "shops", None))
    else:
        begun = begin(tmp_path / "p", Wanted(data, "at", name if name == "no" else "target", None, None, None))
    spec = read_spec(begun.spec)
    assert spec.model == ("shops" if name == "läden" else name)
    assert spec.target == (name if name == "no" else "target")


ANSWER: dict[str, Any] = {
    "data": ["/data/rows.parquet"],
    "read": {"rows": 600, "begins": ["2026-01-01T00:00:00+00:00"]},
    "recommended": {
        "policy": "every5",
        "said": "every5: 3 points\na window",
        "spec": "# recommended\nmodel: shop\ntask: binary\ntarget: late\ntime: at\nobserve: {window: 7d}\n"
        "triggers: [{name: every5, new_rows: 500}]\n",
    },
}


def answer(folder: Path, **changes: Any) -> Path:
    """The file of a backtest."""
    file = folder / "told.json"
    file.write_text(json.dumps(ANSWER | changes))
    return file


def test_a_recommended_spec_is_written_with_its_source(tmp_path: Path) -> None:
    begun = begin_from(tmp_path / "p", answer(tmp_path))
    spec = read_spec(begun.spec)
    assert (spec.model, spec.time, [trigger.name for trigger in spec.triggers]) == ("shop", "at", ["every5"])
    source = spec.observe.source
    assert source.kind == "files"
    assert (tmp_path / "p" / source.path).resolve() == Path("/data/rows.parquet")
    assert begun.spec.read_text().startswith("# Recommended by `everfit backtest`: every5: 3 points a window\nmodel:")
    assert (begun.task, begun.rows) == ("binary", 600)


def test_a_backtest_of_many_files_leaves_the_source_to_the_user(tmp_path: Path) -> None:
    begun = begin_from(tmp_path / "p", answer(tmp_path, data=["/a.csv", "/b.csv"]))
    assert read_spec(begun.spec).observe.source.kind == "http"
    assert "a source is one file or glob" in begun.said[1]


def test_a_backtest_without_times_needs_the_name_of_their_column(tmp_path: Path) -> None:
    file = answer(tmp_path, read={"rows": 600, "begins": []})
    with pytest.raises(UsageError, match=r"no column of times; .* --time"):
        begin_from(tmp_path / "p", file)
    assert read_spec(begin_from(tmp_path / "p", file, time="sold_at").spec).time == "sold_at"


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"recommended": {**ANSWER["recommended"], "spec": None}}, "recommends every5, which no spec can say"),
        ({"recommended": {}}, "not the answer of a backtest"),
        ({"read": 3}, "not the answer of a backtest"),
        ({"data": "rows.csv"}, "not the answer of a backtest"),
    ],
)
def test_what_is_no_answer_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        begin_from(tmp_path / "p", answer(tmp_path, **changes))
    assert not (tmp_path / "p").exists()
