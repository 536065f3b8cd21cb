"""Rows from bodies: every value is kept or refused by name, never echoed and never lost."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

from everfit.errors import Refused
from everfit.serve.rows import column, from_arrow, from_csv, from_lists, from_records, read_json


def arrow(frame: pl.DataFrame) -> bytes:
    table, sink = frame.to_arrow(), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([1, None], [1, None], id="whole numbers stay whole"),
        pytest.param([1, 2.5], [1.0, 2.5], id="whole numbers beside others become numbers"),
        pytest.param([True, "yes"], ["true", "yes"], id="several types become text"),
        pytest.param([2**70], [str(2**70)], id="a number beyond 64 bits keeps every digit as text"),
        pytest.param([None, None], [None, None], id="nothing stays nothing"),
        pytest.param([], [], id="an empty column is empty"),
    ],
)
def test_column(values: list[object], expected: list[object]) -> None:
    assert column("a", values).to_list() == expected


@pytest.mark.parametrize(
    ("records", "names"),
    [
        pytest.param([{"a": [1]}], "'a'", id="a list in a field names the field"),
        pytest.param([{"a": {"b": "secret"}}], "'a'", id="an object in a field names the field"),
        pytest.param([{"a": "\ud800secret"}], "'a'", id="half a character names the field"),
        pytest.param([1, 2], "list of objects", id="plain values are not rows"),
        pytest.param("secret", "list of objects", id="text is not rows"),
    ],
)
def test_records_that_cannot_be_read(records: object, names: str) -> None:
    with pytest.raises(Refused, match=names) as caught:
        from_records(records)
    assert "secret" not in str(caught.value)


def test_lists_must_be_as_long_as_the_columns() -> None:
    with pytest.raises(Refused, match="row 1 has 1 values for 2 columns"):
        from_lists(["a", "b"], [[1, 2], [1]])


def test_a_column_that_comes_twice_is_named() -> None:
    with pytest.raises(Refused, match="'a' comes twice"):
        from_lists(["a", "a"], [[1, 2]])


def test_json_errors_do_not_quote_the_body() -> None:
    with pytest.raises(Refused, match="not JSON") as caught:
        read_json(b'{"secret": }')
    assert "secret" not in str(caught.value)


def test_nan_of_python_clients_is_read() -> None:
    assert str(read_json(b'[{"a": NaN}]')) == "[{'a': nan}]"


def test_arrow_comes_back_as_it_was() -> None:
    frame = pl.DataFrame({"a": [1.5, None], "b": pl.Series(["x", "y"], dtype=pl.Categorical)})
    assert from_arrow(arrow(frame)).to_dict(as_series=False) == {"a": [1.5, None], "b": ["x", "y"]}


@pytest.mark.parametrize("keep", [0, 3, 40, 200])
def test_a_cut_arrow_stream_is_refused(keep: int) -> None:
    whole = arrow(pl.DataFrame({"a": list(range(1000))}))
    with pytest.raises(Refused, match="not a whole Arrow IPC stream"):
        from_arrow(whole[:keep])


def test_csv_keeps_leading_zeros_and_reads_empty_as_null() -> None:
    assert from_csv(b"a,b\n007,\n").to_dicts() == [{"a": "007", "b": None}]


def test_csv_without_rows_of_equal_length_is_refused() -> None:
    with pytest.raises(Refused, match="not CSV"):
        from_csv(b"a,b\n1,2,3\n")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(pa.array([1], pa.duration("s")), id="a span of time"),
        pytest.param(pa.array([1], pa.time32("s")), id="a time of day"),
        pytest.param(pa.array([(1, 1, 1)], pa.month_day_nano_interval()), id="an interval"),
        pytest.param(pa.array([1], pa.decimal256(70, 2)), id="a number of 256 bits, over which polars panics"),
        pytest.param(pa.RunEndEncodedArray.from_arrays([1], [1]), id="runs"),
        pytest.param(pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]), id="a union"),
        pytest.param(pa.array([[1]], pa.list_(pa.duration("s"))), id="a list of them"),
    ],
)
def test_types_of_arrow_that_nobody_can_judge_are_refused_by_name(values: pa.Array) -> None:
    table, sink = pa.table({"a": [1], "odd": values}), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    with pytest.raises(Refused, match="field 'odd' has Arrow's type"):
        from_arrow(bytes(sink.getvalue()))


def test_a_byte_order_mark_is_refused_whatever_follows() -> None:
    for body in (b"\xef\xbb\xbf[1]", b"\xef\xbb\xbf[NaN]", "[NaN]".encode("utf-16")):
        with pytest.raises(Refused, match="not JSON"):
            read_json(body)
