"""Files of every kind give the same rows in parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from everfit.adapters.columns import Rows, open_rows
from everfit.errors import Refused
from everfit.observe.options import FeatureOptions
from everfit.observe.schema import learn
from everfit.profile.stream import learn_parts, portray_parts
from everfit.profile.table import Profile

ROWS = 3000
FRAME = pl.DataFrame(
    {
        "x": [i * 0.25 if i % 11 else None for i in range(ROWS)],
        "n": range(ROWS),
        "shop": [f"shop {i % 7}" if i % 5 else None for i in range(ROWS)],
        "open": [i % 3 == 0 for i in range(ROWS)],
        "due": [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=i) for i in range(ROWS)],
    }
)


def portrait(opened: Rows) -> Profile:
    schema = learn(opened.head, reserved=(), options=FeatureOptions())
    lesson = learn_parts(opened.parts(schema.names()), schema.features)
    return portray_parts(opened.batches(schema.names()), lesson.bins)


def told(profile: Profile) -> dict[str, object]:
    return {n: (c.kind.value, c.count, c.nulls, c.counts.tolist()) for n, c in profile.columns.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    FRAME.write_parquet(folder / "rows.parquet", row_group_size=700)
    FRAME.write_csv(folder / "rows.csv")
    FRAME.write_csv(folder / "rows.tsv", separator="\t")
    FRAME.write_csv(folder / "rows.csv.gz", separator=";", compression="gzip")
    FRAME.write_ipc(folder / "rows.arrow", record_batch_size=800)
    FRAME.write_ipc_stream(folder / "stream.ipc")
    FRAME.write_ndjson(folder / "rows.jsonl")
    for day in range(3):
        FRAME[day * 1000 : (day + 1) * 1000].write_parquet(folder / f"day-{day}.parquet")
    write_deltalake(folder / "table", FRAME.with_columns(week=pl.col("n") // 1500), partition_by=["week"])
    return folder


@pytest.mark.parametrize(
    "name", ["rows.csv", "rows.tsv", "rows.csv.gz", "rows.arrow", "stream.ipc", "rows.jsonl", "day-*.parquet"]
)
def test_every_kind_of_file_gives_the_same_portrait(files: Path, name: str) -> None:
    assert told(portrait(open_rows(str(files / name)))) == told(portrait(open_rows(str(files / "rows.parquet"))))


def test_a_delta_table_is_read_with_its_partitions(files: Path) -> None:
    seen = portrait(open_rows(str(files / "table")))
    assert seen.columns["week"].counts.sum() == ROWS
    assert told(seen)["x"] == told(portrait(open_rows(str(files / "rows.parquet"))))["x"]


def test_files_of_a_glob_may_have_different_columns(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1.0, 2.0], "b": pl.Series([None, None], dtype=pl.Float64)}).write_parquet(
        tmp_path / "1.parquet"
    )
    pl.DataFrame({"a": [3.0], "c": ["late"]}).write_parquet(tmp_path / "2.parquet")
    opened = open_rows(str(tmp_path / "*.parquet"))
    assert opened.empty == {"b"}
    seen = portrait(opened)
    assert {name: column.nulls for name, column in seen.columns.items()} == {"a": 0, "b": 3, "c": 2}
    pl.DataFrame({"b": [3.0]}).write_parquet(tmp_path / "3.parquet")
    assert open_rows(str(tmp_path / "*.parquet")).empty == frozenset()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("gone.parquet", None, "no such file", id="not there"),
        pytest.param("empty.csv", b"", "empty", id="empty"),
        pytest.param("odd.xls", b"x", "not read", id="another kind"),
        pytest.param("torn.parquet", b"PAR1 torn", "cannot be read as .parquet", id="torn Parquet"),
        pytest.param("torn.arrow", b"ARROW1 torn", "cannot be read", id="torn Arrow"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=said) as refused:
        open_rows(str(tmp_path / name))
    assert name in str(refused.value)


def test_a_damaged_row_group_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    FRAME.write_parquet(path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[100:4000] = b"\xff" * 3900
    path.write_bytes(data)
    opened = open_rows(str(path)) if _opens(path) else None
    with pytest.raises(Refused, match=r"rows\.parquet"):
        portrait(opened) if opened else open_rows(str(path))


def _opens(path: Path) -> bool:
    try:
        open_rows(str(path))
    except Refused:
        return False
    return True
