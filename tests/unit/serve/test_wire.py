"""Frames between the server and its challenger: what goes in comes out, and nonsense is nothing but an error."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import numpy as np
import orjson
import polars as pl
import pytest

from everfit.errors import ModelUnusable
from everfit.serve.wire import (
    HEAD,
    MOST_BYTES,
    Rows,
    Scores,
    pack_rows,
    pack_scores,
    parts_of,
    receive,
    send,
    unpack_rows,
    unpack_scores,
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_plain_rows_come_out_as_they_went_in(pair: tuple[socket.socket, socket.socket]) -> None:
    rows = Rows(2, np.array([[1.5, np.nan], [0.0, -2.0]]), [["UA", None], ["é", ""]], np.array([[1e15], [np.nan]]))
    send(pair[0], 7, pack_rows(rows))
    frame = receive(pair[1])
    assert frame is not None
    found = unpack_rows(frame[1])
    assert (frame[0], found.count, found.texts) == (7, 2, [["UA", None], ["é", ""]])
    assert rows.numbers is not None
    assert rows.moments is not None
    np.testing.assert_array_equal(np.asarray(found.numbers), rows.numbers)
    np.testing.assert_array_equal(np.asarray(found.moments), rows.moments)


def test_frames_come_out_as_they_went_in() -> None:
    frame = pl.DataFrame({"a": [1.0, None], "b": ["x", None]})
    found = unpack_rows(pack_rows(Rows(2, frame=frame)))
    assert found.frame is not None
    assert found.frame.equals(frame)


def test_the_end_of_the_stream_is_no_frame(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(HEAD.pack(10, 1) + b"cut")
    pair[0].close()
    assert receive(pair[1]) is None


def test_a_frame_beyond_all_sizes_is_not_read(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(HEAD.pack(MOST_BYTES + 1, 1))
    with pytest.raises(ModelUnusable, match="came from the challenger"):
        receive(pair[1])


def test_scores_that_are_no_numbers_are_failures() -> None:
    told = pack_scores(Scores(np.array([[0.5, 0.5], [np.nan, 0.1], [np.inf, 0.0], [0.2, 0.8]]), (3,), 0.5))
    assert unpack_scores(told, 4, 2).failed == (1, 2, 3)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"{", b""], id="no JSON"),
        pytest.param([orjson.dumps({"failed": [], "scored": 0.0}), b"\0" * 8], id="too few scores"),
        pytest.param([orjson.dumps({"failed": ["x"], "scored": 0.0}), b"\0" * 32], id="no place"),
        pytest.param([orjson.dumps([1]), b"\0" * 32], id="no object"),
    ],
)
def test_nonsense_from_the_child_is_an_error(parts: Sequence[bytes]) -> None:
    with pytest.raises(ModelUnusable, match="nonsense"):
        unpack_scores(parts, 2, 2)


@pytest.mark.parametrize("body", [b"\1", b"\5\0\0\0\0\0\0\0ab"])
def test_a_frame_whose_parts_do_not_fit_is_an_error(body: bytes) -> None:
    with pytest.raises(ModelUnusable, match="cut off"):
        parts_of(body)
