"""What the server and its challenger's process say to each other: numbered frames over a socket.

Takes rows as arrays or as a frame; gives bytes, and scores back from bytes; never unpickles anything, for a challenger
that nobody trusts yet must not be able to run code in the server.
"""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import polars as pl

from everfit.errors import ModelUnusable

HEAD = struct.Struct("<QQ")  # the frame's length and its number
MOST_BYTES = 2**30  # of one frame; a child that says more is broken
_PART = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to score: plain values as `Loaded.score_plain` takes them, or a frame of the features."""

    count: int
    numbers: np.ndarray | None = None  # (rows, numbers and then flags)
    texts: Sequence[Sequence[str | None]] = ()  # one list a category
    moments: np.ndarray | None = None  # (rows, moments), microseconds
    frame: pl.DataFrame | None = None  # if this is there, the others are not


@dataclass(frozen=True, slots=True)
class Scores:
    """A challenger's answer to `Rows`."""

    scores: np.ndarray  # (rows, outputs); NaN in rows that it failed on
    failed: tuple[int, ...]  # the places of those rows
    scored: float  # seconds that its process scored for, as it says; never more than `took`
    took: float = 0.0  # seconds from the question to the answer, as the server saw them


def send(channel: socket.socket, number: int, parts: Sequence[bytes]) -> None:
    """Send one frame."""
    body = b"".join(piece for part in parts for piece in (_PART.pack(len(part)), part))
    channel.sendall(HEAD.pack(len(body), number) + body)


def receive(channel: socket.socket) -> tuple[int, list[bytes]] | None:
    """The next frame; None at the end of the stream.

    Raises:
        ModelUnusable: it is no frame.
    """
    head = _exactly(channel, HEAD.size)
    if head is None:
        return None
    length, number = HEAD.unpack(head)
    if length > MOST_BYTES:
        raise ModelUnusable(f"a frame of {length} bytes came from the challenger's process")
    body = _exactly(channel, length)
    return None if body is None else (number, parts_of(body))


def parts_of(body: bytes) -> list[bytes]:
    """The parts of a frame.

    >>> parts_of(_PART.pack(2) + b"ab" + _PART.pack(0))
    [b'ab', b'']

    Raises:
        ModelUnusable: they do not fill the frame exactly.
    """
    found, at = [], 0
    while at < len(body):
        if at + _PART.size > len(body):
            raise ModelUnusable("a frame from the challenger's process is cut off")
        (length,) = _PART.unpack_from(body, at)
        at += _PART.size + length
        if at > len(body):
            raise ModelUnusable("a frame from the challenger's process is cut off")
        found.append(body[at - length : at])
    return found


def pack_rows(rows: Rows) -> list[bytes]:
    """Rows as the parts of a frame.

    >>> unpack_rows(pack_rows(Rows(1, np.ones((1, 2)), [["UA"]], np.zeros((1, 0))))).texts
    [['UA']]
    """
    if rows.frame is not None:
        packed = io.BytesIO()
        rows.frame.write_ipc_stream(packed)
        return [b"frame", packed.getvalue()]
    numbers, moments = (np.zeros((rows.count, 0)) if each is None else each for each in (rows.numbers, rows.moments))
    head = {"rows": rows.count, "numbers": numbers.shape[1], "moments": moments.shape[1], "texts": rows.texts}
    return [b"plain", orjson.dumps(head), _bytes(numbers), _bytes(moments)]


def unpack_rows(parts: Sequence[bytes]) -> Rows:
    """Rows from the parts of a frame."""
    if parts[0] == b"frame":
        frame = pl.read_ipc_stream(io.BytesIO(parts[1]))
        return Rows(frame.height, frame=frame)
    head: dict[str, Any] = orjson.loads(parts[1])
    count = int(head["rows"])
    return Rows(
        count, _array(parts[2], count, head["numbers"]), head["texts"], _array(parts[3], count, head["moments"])
    )


def pack_scores(scores: Scores) -> list[bytes]:
    """Scores as the parts of a frame."""
    rows, width = scores.scores.shape
    head = {"rows": rows, "width": width, "failed": list(scores.failed), "scored": scores.scored}
    return [orjson.dumps(head), _bytes(scores.scores)]


def unpack_scores(parts: Sequence[bytes], rows: int, width: int) -> Scores:
    """Scores from the parts of a frame: the server believes nothing of them that it has not checked.

    >>> unpack_scores(pack_scores(Scores(np.ones((2, 1)), (), 0.1)), 2, 1).scores.tolist()
    [[1.0], [1.0]]

    Raises:
        ModelUnusable: they are not what was asked for.
    """
    try:
        head = orjson.loads(parts[0])
        failing = tuple(int(place) for place in head["failed"])
        found = Scores(_array(parts[1], rows, width), failing, float(head["scored"]))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ModelUnusable(f"the challenger's process answered nonsense ({type(error).__name__})") from error
    good = np.isfinite(found.scores).all(axis=1)
    failed = {*np.flatnonzero(~good).tolist(), *(place for place in found.failed if 0 <= place < rows)}
    return Scores(found.scores, tuple(sorted(failed)), found.scored)


def _bytes(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, dtype=np.float64).tobytes()


def _array(data: bytes, rows: int, width: int) -> np.ndarray:
    return np.frombuffer(data, dtype=np.float64).reshape(rows, width)


def _exactly(channel: socket.socket, count: int) -> bytes | None:
    found = bytearray()
    while len(found) < count:
        part = channel.recv(min(count - len(found), 2**20))
        if not part:
            return None
        found += part
    return bytes(found)
