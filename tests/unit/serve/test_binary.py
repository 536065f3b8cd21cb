"""Tensors as bytes: what is packed comes back, and nothing is read that was not sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everfit.errors import Refused
from everfit.serve.binary import DTYPES, pack, unpack
from everfit.serve.v2 import V2Ask

VALUES: dict[str, list[Any]] = {"BOOL": [True, False], "BYTES": ["", "Zürich"]}


@pytest.mark.parametrize("datatype", [*DTYPES, "BYTES"])
def test_what_is_packed_comes_back(datatype: str) -> None:
    values = VALUES.get(datatype, [1, 2])
    found = unpack("a", datatype, pack(datatype, values), 2)
    assert list(found) == values


@pytest.mark.parametrize(
    ("datatype", "data", "said"),
    [
        pytest.param("FP64", b"1234567", "7 bytes came, and its shape and datatype need 16", id="half a number"),
        pytest.param("BYTES", b"\x01\x00\x00\x00a", "end before 2 values", id="one text of two"),
        pytest.param("BYTES", b"\x09\x00\x00\x00a", "end within a value", id="half a text"),
        pytest.param("BYTES", b"\xff\xff\xff\xffa", "end within a value", id="a length beyond all memory"),
        pytest.param("BYTES", b"\x01\x00\x00\x00\xff" * 2, "not text in UTF-8", id="no text"),
        pytest.param("BYTES", b"\x00\x00\x00\x00" * 3, "more bytes came", id="a text too many"),
    ],
)
def test_bytes_that_are_refused(datatype: str, data: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said):
        unpack("a", datatype, data, 2)


@given(st.sampled_from(["BYTES", "FP32", "BOOL"]), st.binary(max_size=40), st.integers(0, 5))
def test_any_bytes_are_values_or_refused(datatype: str, data: bytes, count: int) -> None:
    try:
        found = unpack("a", datatype, data, count)
    except Refused:
        return
    assert len(found) == count


def v2(inputs: list[dict[str, Any]], rest: bytes, **more: Any) -> V2Ask:
    head = orjson.dumps({"inputs": inputs, **more})
    return V2Ask(head + rest, len(head), "flights")


def tensor(name: str, datatype: str, size: int | None, shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [2], "parameters": {"binary_data_size": size}}


def test_bytes_follow_the_head_in_the_order_of_the_tensors() -> None:
    numbers, texts = pack("FP32", [0.5, 1.5]), pack("BYTES", ["UA", "AA"])
    ask = v2([tensor("a", "FP32", len(numbers)), tensor("b", "BYTES", len(texts))], numbers + texts)
    assert ask.asked(["a", "b"]).rows.to_dicts() == [{"a": 0.5, "b": "UA"}, {"a": 1.5, "b": "AA"}]


def test_a_matrix_of_bytes_has_the_features_in_order() -> None:
    data = np.arange(6.0).tobytes()
    rows = v2([tensor("x", "FP64", len(data), [2, 3])], data).asked(["a", "b", "c"]).rows
    assert rows.rows() == [(0.0, 1.0, 2.0), (3.0, 4.0, 5.0)]


@pytest.mark.parametrize(
    ("inputs", "rest", "said"),
    [
        pytest.param([tensor("a", "FP64", 16)], b"1234", "4 bytes are left", id="fewer bytes than said"),
        pytest.param([tensor("a", "FP64", 16)], b"1" * 20, "4 bytes follow the last tensor", id="more bytes than said"),
        pytest.param([tensor("a", "FP64", -1)], b"", "whole number", id="a size below zero"),
        pytest.param([tensor("a", "FP64", 8, [10**15])], b"1" * 8, "need 8", id="a shape beyond all memory"),
    ],
)
def test_bodies_with_bytes_that_are_refused(inputs: list[dict[str, Any]], rest: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said):
        v2(inputs, rest).asked(["a"])


def test_a_head_longer_than_the_body_is_refused() -> None:
    with pytest.raises(Refused, match="Inference-Header-Content-Length says 9"):
        V2Ask(b"{}", 9, "flights").asked(["a"])
