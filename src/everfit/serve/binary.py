"""Tensors as bytes, as the Open Inference Protocol's binary extension has them.

Takes bytes and a datatype, or values; gives values, or bytes; never reads beyond what was sent.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from everfit.errors import Refused

DTYPES: dict[str, str] = {
    "BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
    "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
}  # fmt: skip
_LENGTH = struct.Struct("<I")


def unpack(name: str, datatype: str, data: bytes, count: int) -> np.ndarray | list[str]:
    """The `count` values of a tensor: an array, or text for BYTES.

    >>> unpack("a", "INT16", b"\\x01\\x00\\x02\\x00", 2).tolist(), unpack("b", "BYTES", b"\\x02\\x00\\x00\\x00UA", 1)
    ([1, 2], ['UA'])

    Raises:
        Refused: the bytes are not so many values.
    """
    if datatype == "BYTES":
        return _texts(name, data, count)
    dtype = np.dtype(DTYPES[datatype])
    if len(data) != count * dtype.itemsize:
        raise Refused(
            f"tensor {name!r}: {len(data)} bytes came, and its shape and datatype need {count * dtype.itemsize}"
        )
    return np.frombuffer(data, dtype=dtype)


def pack(datatype: str, values: Sequence[Any]) -> bytes:
    """Values of a flat tensor as bytes.

    >>> pack("BYTES", ["UA"]), pack("BOOL", [True, False])
    (b'\\x02\\x00\\x00\\x00UA', b'\\x01\\x00')
    """
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    return np.asarray(values, dtype=DTYPES[datatype]).tobytes()


def _texts(name: str, data: bytes, count: int) -> list[str]:
    found, at = [], 0
    try:
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, at)
            text = data[at + 4 : at + 4 + length]
            if len(text) < length:
                raise Refused(f"tensor {name!r}: its bytes end within a value")
            found.append(text.decode())
            at += 4 + length
    except struct.error:
        raise Refused(f"tensor {name!r}: its bytes end before {count} values") from None
    except UnicodeDecodeError:
        raise Refused(f"tensor {name!r}: a value is not text in UTF-8") from None
    if at != len(data):
        raise Refused(f"tensor {name!r}: more bytes came than {count} values need")
    return found
