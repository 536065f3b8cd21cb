"""The past of a profile: the counts of up to 64 consecutive pieces of its rows, from which windows are cut.

Takes the portraits of pieces in their order; gives bytes, and windows of about a wished size; never keeps a row.

How much healthy windows differ from each other cannot be told from one sum. With its past a stored reference can be cut
into windows of the size of whatever it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from everfit.observe.options import Kind
from everfit.profile.column import ColumnProfile, Piece
from everfit.profile.hashes import BUCKETS
from everfit.profile.packing import pack, unpack
from everfit.profile.table import Profile

PIECES = 64  # of one past: 8 windows of an eighth of the rows, or 64 of a 64th
SMALLEST = 100  # rows of a piece: with fewer a window says too little to be one


def piece_rows(rows: int) -> int:
    """How many rows a piece of so many rows has.

    >>> piece_rows(1_000_000), piece_rows(50)
    (15625, 100)
    """
    return max(SMALLEST, -(-rows // PIECES))


def pack_past(sizes: Sequence[int], columns: Mapping[str, Sequence[Piece]]) -> bytes:
    """Write the counts of consecutive pieces of these sizes; nothing for fewer than two."""
    if len(sizes) < 2:
        return b""
    head = {"rows": list(sizes), "nulls": {name: [piece.nulls for piece in its] for name, its in columns.items()}}
    bits = 16 if max(sizes) < 2**16 else 64  # no count is larger than its piece
    arrays: list[NDArray[np.generic]] = []
    for its in columns.values():
        arrays.append(np.stack([piece.counts for piece in its]).astype(f"<u{bits // 8}"))
        buckets = [piece.buckets for piece in its if piece.buckets is not None]
        arrays += [np.stack(buckets).astype(f"<u{bits // 8}")] if buckets else []
    return pack({**head, "bits": bits}, arrays)


def windows(profile: Profile, rows: int) -> tuple[Profile, ...]:
    """Cut a profile's past into windows of about so many rows; what is left over at the end makes none.

    The windows know counts, nulls and buckets, and neither moments nor distinct values. A window is never smaller than
    a piece of the past, so that it may have more rows than was wished. No past gives no windows.

    >>> windows(Profile(0, {}, bins=None), 100)
    ()
    """
    if not profile.past:
        return ()
    head, buffer = unpack(profile.past)
    sizes: list[int] = head["rows"]
    each = max(1, round(rows / sizes[0]))
    whole = [place for place in range(0, len(sizes), each) if sum(sizes[place : place + each]) >= each * sizes[0] * 0.9]
    starts = [place for place in whole if place + each <= len(sizes)]
    found: list[dict[str, ColumnProfile]] = [{} for _ in starts]
    at, width = 0, head["bits"] // 8
    for name, (kind, bins) in profile.bins.columns.items():
        spread: list[NDArray[np.int64]] = []
        for size in (bins.size, *([BUCKETS] if kind is Kind.CATEGORY else [])):
            grid = np.frombuffer(buffer, dtype=f"<u{width}", count=len(sizes) * size, offset=at)
            at += grid.nbytes
            spread.append(grid.reshape(len(sizes), size).astype(np.int64))
        nulls = np.array(head["nulls"][name])
        for window, start in zip(found if name in profile.columns else [], starts, strict=False):
            span = slice(start, start + each)
            counts, *buckets = [grid[span].sum(axis=0) for grid in spread]
            bucket = buckets[0] if buckets else None
            window[name] = ColumnProfile(kind, bins, sum(sizes[span]), int(nulls[span].sum()), counts, None, bucket)
    return tuple(
        Profile(sum(sizes[start : start + each]), columns, profile.bins)
        for start, columns in zip(starts, found, strict=True)
    )
