"""Arrays and plain facts as bytes, for what detectors learned and must keep.

Takes a dictionary of facts and one of arrays; gives bytes that are the same for the same content; never pickles.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everfit.errors import Refused

Arrays = Mapping[str, NDArray[Any]]


def pack(facts: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Write facts (JSON) and arrays compactly.

    >>> facts, arrays = unpack(pack({"rows": 2}, {"codes": np.array([1, 2], dtype=np.uint8)}))
    >>> facts, arrays["codes"].tolist()
    ({'rows': 2}, [1, 2])
    """
    little = {name: np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("<")) for name, a in arrays.items()}
    shapes = {name: [array.dtype.str, list(array.shape)] for name, array in little.items()}
    head = json.dumps({"facts": facts, "arrays": shapes}, ensure_ascii=False).encode()
    body = b"".join(array.tobytes() for array in little.values())
    return zlib.compress(len(head).to_bytes(4, "little") + head + body, level=6)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `pack` wrote.

    Raises:
        Refused: these bytes are damaged, or something else.
    """
    try:
        whole = zlib.decompress(data)
        start = 4 + int.from_bytes(whole[:4], "little")
        head = json.loads(whole[4:start])
        arrays: dict[str, NDArray[Any]] = {}
        for name, (dtype, shape) in head["arrays"].items():
            array = np.frombuffer(whole, dtype=np.dtype(dtype), count=int(np.prod(shape)), offset=start)
            arrays[name] = array.reshape(shape)
            start += array.nbytes
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise Refused(f"what a detector learned is damaged ({error}); learn it again from its rows") from error
    return dict(head["facts"]), arrays
