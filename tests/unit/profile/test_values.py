"""What every type of column means for a portrait."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from everfit.errors import Refused
from everfit.observe.options import Kind
from everfit.profile.values import dimension_of, names, numbers, pieces, short

NAN = float("nan")
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
SECONDS = NOON.timestamp()


@pytest.mark.parametrize(
    ("array", "kind", "expected", "nulls"),
    [
        pytest.param(pa.array([1, None], pa.int64()), Kind.NUMBER, [1, NAN], 1, id="whole numbers"),
        pytest.param(pa.array([1.5, NAN, None]), Kind.NUMBER, [1.5, NAN, NAN], 1, id="NaN is no null"),
        pytest.param(pa.array([0.5, None], pa.float16()), Kind.NUMBER, [0.5, NAN], 1, id="half precision"),
        pytest.param(pa.array([2**63], pa.uint64()), Kind.NUMBER, [2.0**63], 0, id="large whole numbers"),
        pytest.param(pa.array([True, False, None]), Kind.NUMBER, [1, 0, NAN], 1, id="flags"),
        pytest.param(pa.array([Decimal("1.25"), None]), Kind.NUMBER, [1.25, NAN], 1, id="decimals"),
        pytest.param(pa.array(["1.5", "one", None]), Kind.NUMBER, [1.5, NAN, NAN], 2, id="text that is a number"),
        pytest.param(pa.array([timedelta(days=1), None]), Kind.NUMBER, [86400, NAN], 1, id="durations"),
        pytest.param(pa.array([time(1, 0, 1)]), Kind.NUMBER, [3601], 0, id="times of day"),
        pytest.param(pa.array([date(2013, 1, 1), None]), Kind.MOMENT, [SECONDS - 43200, NAN], 1, id="dates"),
        pytest.param(pa.array([NOON]), Kind.MOMENT, [SECONDS], 0, id="moments"),
        pytest.param(pa.array(["2013-01-01T12:00:00Z", "soon"]), Kind.MOMENT, [SECONDS, NAN], 1, id="moments as text"),
        pytest.param(pa.array(["é" * 3, "", None]), Kind.TEXT, [3, 0, NAN], 1, id="prose by its length"),
        pytest.param(pa.array([[3, 4], [1], None]), Kind.VECTOR, [5, NAN, NAN], 1, id="vectors by their norm"),
        pytest.param(pa.array([[3.0, None], [0.0, 0.0]]), Kind.VECTOR, [NAN, 0], 0, id="a vector with a hole"),
        pytest.param(pa.array([[3, 4], None], pa.list_(pa.int8(), 2)), Kind.VECTOR, [5, NAN], 1, id="fixed lists"),
        pytest.param(pa.nulls(2), Kind.MOMENT, [NAN, NAN], 2, id="nothing"),
        pytest.param(pa.nulls(2, pa.binary()), Kind.NUMBER, [NAN, NAN], 2, id="nothing of an unfit type"),
        pytest.param(pa.array([], pa.float64()), Kind.NUMBER, [], 0, id="no rows"),
    ],
)
def test_numbers(array: pa.Array, kind: Kind, expected: list[float], nulls: int) -> None:
    read = numbers(array, kind, "x", dimension=2)
    np.testing.assert_array_equal(read.values, np.array(expected, dtype=np.float64))
    assert read.nulls(0, len(array)) == nulls


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        pytest.param(pa.array(["b", "a", None, "b"]), ["b", "a", "b"], id="text"),
        pytest.param(pa.array(["b", None, "a"]).dictionary_encode(), ["b", "a"], id="dictionaries"),
        pytest.param(pa.DictionaryArray.from_arrays([0, 1, 2], ["x", None, "x"]), ["x", "x"], id="odd dictionaries"),
        pytest.param(pa.array([True, None, False]), ["true", "false"], id="flags"),
        pytest.param(pa.array([7, None, 7]), ["7", "7"], id="whole numbers"),
        pytest.param(pl.Series(["u", None], dtype=pl.Enum(["u"])).to_arrow(), ["u"], id="enums"),
    ],
)
def test_names(array: pa.Array, expected: list[str]) -> None:
    read = names(array, "x")
    assert [read.names[int(code)].as_py() for code in read.codes] == expected
    codes, nulls = read.span(1, len(array))
    assert len(codes) + nulls == len(array) - 1


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([{"a": 1}]), Kind.NUMBER),
        (pa.array([b"a"]), Kind.NUMBER),
        (pa.array([1.0]), Kind.MOMENT),
        (pa.array([1.0]), Kind.VECTOR),
        (pa.array([["a"]]), Kind.VECTOR),
        (pa.array([[1.0]]), Kind.TEXT),
    ],
)
def test_what_does_not_fit_is_refused_by_name(array: pa.Array, kind: Kind) -> None:
    with pytest.raises(Refused, match="'price'"):
        numbers(array, kind, "price")
    with pytest.raises(Refused, match="'price'"):
        names(pa.array([[1.0]]), "price")


def test_very_long_names_stay_themselves() -> None:
    long = pa.array(["x" * 5000, "x" * 4999 + "y", "short"], type=pa.large_string())
    found = short(long).to_pylist()
    assert len({*found}) == 3
    assert found[2] == "short"
    assert max(map(len, found)) < 100


def test_the_most_frequent_dimension_is_the_columns() -> None:
    assert dimension_of(pa.array([[1.0], [1.0, 2.0], [3.0, 4.0], None])) == 2
    assert dimension_of(pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2))) == 2
    assert dimension_of(pa.nulls(3)) is None


def test_a_series_is_its_arrow_pieces() -> None:
    assert [len(piece) for piece in pieces(pl.Series([1, 2]))] == [2]
    assert [len(piece) for piece in pieces(pa.chunked_array([[1], [2, 3]]))] == [1, 2]
