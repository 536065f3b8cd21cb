"""Files of every kind, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from everfit.adapters.sources import new_files, read_rows, source_file
from everfit.errors import Refused

ROWS = pl.DataFrame({"id": [1, 2], "origin": ["JFK", None], "hour": [5.5, 6.0]})


def write(path: Path) -> Path:
    match path.suffix:
        case ".parquet":
            ROWS.write_parquet(path)
        case ".csv":
            ROWS.write_csv(path)
        case ".tsv":
            ROWS.write_csv(path, separator="\t")
        case ".arrow":
            ROWS.write_ipc(path)
        case ".ipc":
            ROWS.write_ipc_stream(path)
        case _:
            ROWS.write_ndjson(path)
    return path


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv", "arrow", "ipc", "jsonl"])
def test_rows_come_from_files_of_every_kind(tmp_path: Path, suffix: str) -> None:
    assert read_rows(write(tmp_path / f"rows.{suffix}")).equals(ROWS)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        pytest.param("a;b\n1;x\n2;y\n", [1, 2], id="semicolons"),
        pytest.param("a,b\n1,x\nNA,y\n", [1, None], id="NA is no value"),
        pytest.param("a,b\n1,x\nNaN,y\n", [1, None], id="NaN is no value"),
        pytest.param("a,b\n" + "1,x\n" * 20_000 + "1.5,x\n", [1.0] * 20_000 + [1.5], id="a late float"),
        pytest.param("a,b\n" + "1,x\n" * 20_000 + "one,x\n", ["1"] * 20_000 + ["one"], id="a late word"),
        pytest.param("a,b\n2013-01-01 05:00,x\n", ["2013-01-01 05:00"], id="times stay text"),
    ],
)
def test_csv_is_read_as_people_write_it(tmp_path: Path, text: str, column: list[Any]) -> None:
    (tmp_path / "rows.csv").write_text(text)
    assert read_rows(tmp_path / "rows.csv")["a"].to_list() == column


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("rows.parquet", b"", "file is empty", id="an empty Parquet"),
        pytest.param("rows.csv", b"", "file is empty", id="an empty CSV"),
        pytest.param("rows.csv", b"a,b\n", "there is no row", id="a header alone"),
        pytest.param("rows.csv", b"a,a\n1,2\n", "'a' comes twice", id="a column twice"),
        pytest.param("rows.csv", b"a,b\n1,2,3,4\n", "cut off or not .csv", id="a crooked CSV"),
        pytest.param("rows.csv", b"a,b\n\xff\xfe,2\n", "cut off or not .csv", id="not UTF-8"),
        pytest.param("rows.parquet", b"PAR1hello", "cut off or not .parquet", id="not Parquet"),
        pytest.param("rows.arrow", b"ARROW1hello", "cut off or not .arrow", id="not Arrow"),
        pytest.param("rows.jsonl", b'{"a": 1}\n{"a":', "cut off or not .jsonl", id="half a line of JSON"),
        pytest.param("rows.xlsx", b"x", "'.xlsx' are not read; there are: .parquet", id="an unknown kind"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_file(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=f"{name}.*{said}"):
        read_rows(tmp_path / name)


def test_a_truncated_parquet_is_refused_and_another_file_when_it_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    [half] = new_files("*.parquet", tmp_path)
    with pytest.raises(Refused, match="rename it"):
        read_rows(half.path)
    path.write_bytes(content)
    [whole] = new_files("*.parquet", tmp_path)
    assert whole.key != half.key
    assert read_rows(whole.path).equals(ROWS)


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("b.csv", "a.csv", "copy.csv"):
        (tmp_path / "data" / name).write_text(f"x\n{name[0]}\n")
    (tmp_path / "data" / "copy.csv").write_text("x\na\n")
    (tmp_path / "data" / "sub.csv").mkdir()
    found = new_files("data/*.csv", tmp_path)
    assert [file.path.name for file in found] == ["a.csv", "b.csv", "copy.csv"]
    assert found[0].key == found[2].key != found[1].key
    assert new_files(str(tmp_path / "data" / "a.csv"), Path("/elsewhere")) == found[:1]
    assert new_files("none/*.csv", tmp_path) == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="nowhere"):
        source_file(tmp_path / "nowhere.csv")
    with pytest.raises(Refused, match="nowhere"):
        read_rows(tmp_path / "nowhere.csv")


def test_json_lines_may_leave_out_keys(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in ({"a": 1}, {"a": 2, "b": "x"})]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    assert read_rows(tmp_path / "rows.jsonl").rows() == [(1, None), (2, "x")]
