"""Predictions in the words of the Open Inference Protocol v2: tensors, as JSON or as bytes.

Takes bodies; gives rows as `protocol` does, and answers; never knows a socket, and names the tensor in every error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import orjson

from everfit.errors import Refused
from everfit.observe.options import Kind
from everfit.serve.binary import DTYPES, pack, unpack
from everfit.serve.model import Signature
from everfit.serve.plain import Beside, Layout, Plain
from everfit.serve.protocol import Answered, Asked, natural_classes
from everfit.serve.rows import flat, from_columns, from_lists, read_json

KIND_TENSORS = {Kind.NUMBER: "FP64", Kind.CATEGORY: "BYTES", Kind.FLAG: "BOOL", Kind.MOMENT: "BYTES"}
OUTPUTS = ("predict", "score")
EXTENSIONS = ("binary_tensor_data",)
_JSON_TYPES: dict[str, frozenset[type]] = {
    **{name: frozenset({int, type(None)}) for name in DTYPES},
    **{name: frozenset({int, float, type(None)}) for name in ("FP16", "FP32", "FP64")},
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input. `values` are flat."""

    name: str
    shape: list[int]
    values: list[Any] | np.ndarray

    def column(self) -> list[Any]:
        """Its values as Python has them."""
        return self.values if isinstance(self.values, list) else self.values.tolist()


@dataclass(frozen=True, slots=True)
class _Told:
    tensors: list[Tensor]
    beside: Beside
    rows: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output that the client wants."""

    name: str
    binary: bool


class V2Ask:
    """One request's body, read at most once. `header` is the length of its JSON when bytes of tensors follow."""

    def __init__(self, body: bytes, header: int | None, model: str, parsed: Any = None) -> None:
        """Keep a body; it is read when a model is known. `parsed` is its JSON, where that came in another form."""
        self._body, self._header, self._model, self._parsed = body, header, model, parsed
        self._told: _Told | None = None
        self.request: str | None = None  # echoed
        self.wanted: tuple[Wanted, ...] = ()

    def plain(self, layout: Layout) -> Plain | None:
        """The rows, where they are plain.

        Raises:
            Refused: it is no body of `infer`.
        """
        told = self._read()
        if (matrix := _matrix_of(told)) is not None:
            _fits(matrix, layout.names)
            if isinstance(matrix.values, np.ndarray) and layout.is_matrix:
                return layout.matrix(matrix.values.reshape(matrix.shape).astype(np.float64), told.beside)
            return layout.lists(layout.names, _rows(matrix), told.beside)
        columns = [tensor.column() for tensor in told.tensors]
        return layout.lists([tensor.name for tensor in told.tensors], list(zip(*columns, strict=True)), told.beside)

    def asked(self, names: Sequence[str]) -> Asked:
        """The rows as a frame; a matrix has its columns in the order of `names`.

        Raises:
            Refused: it is no body of `infer`.
        """
        told = self._read()
        if (matrix := _matrix_of(told)) is not None:
            _fits(matrix, names)
            return Asked(from_lists(names, _rows(matrix)), told.beside.ids, told.beside.times)
        columns = {tensor.name: tensor.column() for tensor in told.tensors}
        return Asked(from_columns(columns), told.beside.ids, told.beside.times)

    def answer(self, answered: Answered) -> tuple[bytes, int | None]:
        """The answer's body, and the length of its JSON when bytes of tensors follow."""
        told, tensors = self.parts(answered)
        head = orjson.dumps(told)
        if not any(wanted.binary for wanted in self.wanted):
            return head, None
        return head + b"".join(tensors), len(head)

    def parts(self, answered: Answered) -> tuple[dict[str, Any], list[bytes]]:
        """The answer as a plain object, and the bytes of each output that is wanted as bytes, else empty."""
        parameters: dict[str, Any] = {"candidate": answered.face.candidate, "ids": answered.ids}
        if answered.number is not None:
            parameters["number"] = answered.number
        if versions := answered.face.told.get("versions"):  # two models answered: each row's version
            parameters["versions"] = versions
        made = [_output(wanted, answered) for wanted in self.wanted]
        body = {
            **({} if self.request is None else {"id": self.request}),
            "model_name": self._model,
            "model_version": str(answered.face.version),
            "parameters": parameters,
            "outputs": [told for told, _ in made],
        }
        return body, [data for _, data in made]

    def _read(self) -> _Told:
        if self._told is None:
            length = len(self._body) if self._header is None else self._header
            if length > len(self._body):
                raise Refused(f"the body has {len(self._body)} bytes; Inference-Header-Content-Length says {length}")
            told = read_json(self._body[:length]) if self._parsed is None else self._parsed
            if not isinstance(told, dict):
                raise Refused("the body must be an object with inputs")
            parameters = _parameters(told, "parameters")
            self.request = _request(told.get("id"))
            self.wanted = _wanted(told.get("outputs"), binary=_flag(parameters, "binary_data_output"))
            rest = self._body[length:]
            tensors = _tensors(told.get("inputs"), rest, binary=self._header is not None)
            rows = {tensor.shape[0] for tensor in tensors}
            if len(rows) > 1:
                said = ", ".join(f"{tensor.name!r} has {tensor.shape[0]}" for tensor in tensors[:4])
                raise Refused(f"tensors differ in length: {said}; send as many values for each")
            count = rows.pop()
            ids, times = (_beside(parameters, key, count) for key in ("ids", "times"))
            self._told = _Told(tensors, Beside(ids, times), count)
        return self._told


def metadata_v2(model: str, version: int, signature: Signature) -> dict[str, Any]:
    """What `/v2/models/<name>` answers."""
    inputs = [
        {"name": column.name, "datatype": KIND_TENSORS[column.kind], "shape": [-1]}
        for column in signature.schema.features
    ]
    scores = [-1, signature.width()] if signature.task == "multiclass" else [-1]
    predicted = {"name": "predict", "datatype": _predicted(signature), "shape": [-1]}
    return {
        "name": model,
        "versions": [str(version)],
        "platform": "everfit",
        "inputs": inputs,
        "outputs": [predicted, {"name": "score", "datatype": "FP64", "shape": scores}],
    }


def _predicted(signature: Signature) -> str:
    natural = natural_classes(signature)
    return {"b": "BOOL", "i": "INT64", "f": "FP64"}.get(natural.dtype.kind, "BYTES")


def _output(wanted: Wanted, answered: Answered) -> tuple[dict[str, Any], bytes]:
    values, shape = answered.predictions, [len(answered.ids)]
    datatype = _predicted(answered.face.signature)
    if wanted.name == "score":
        values, datatype = answered.scores, "FP64"
        if answered.face.shown is None:
            shape, values = [*shape, answered.face.signature.width()], [each for row in values for each in row]
    told: dict[str, Any] = {"name": wanted.name, "datatype": datatype, "shape": shape}
    if not wanted.binary:
        return told | {"data": values}, b""
    data = pack(datatype, values)
    return told | {"parameters": {"binary_data_size": len(data)}}, data


def _tensors(told: Any, rest: bytes, *, binary: bool) -> list[Tensor]:
    if not isinstance(told, list) or not told:
        raise Refused("inputs must be a list with one tensor for each feature, or one with all of them")
    found: list[Tensor] = []
    names, at = set(), 0
    for place, each in enumerate(told):
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str):
            raise Refused(f"inputs[{place}] must be an object with name, shape, datatype and data")
        if name in names:
            raise Refused(f"field {name!r} comes twice; send each tensor once")
        names.add(name)
        size = _size(name, each)
        if size is not None and (not binary or at + size > len(rest)):
            raise Refused(f"tensor {name!r}: binary_data_size is {size}, and {len(rest) - at} bytes are left")
        found.append(_tensor(name, each, None if size is None else rest[at : at + size]))
        at += size or 0
    if at != len(rest):
        raise Refused(f"{len(rest) - at} bytes follow the last tensor; each needs its binary_data_size")
    return found


def _tensor(name: str, told: dict[str, Any], data: bytes | None) -> Tensor:
    shape, datatype = told.get("shape"), told.get("datatype")
    if not isinstance(shape, list) or len(shape) not in (1, 2) or not all(type(n) is int and n >= 0 for n in shape):
        raise Refused(f"tensor {name!r}: shape must be [n], [n, 1], or [n, features] for all features in one tensor")
    if not isinstance(datatype, str) or datatype not in _JSON_TYPES:
        raise Refused(f"tensor {name!r}: datatype must be one of {', '.join(_JSON_TYPES)}")
    if data is not None:
        return Tensor(name, shape, unpack(name, datatype, data, prod(shape)))
    values = told.get("data")
    if not isinstance(values, list):
        raise Refused(f"tensor {name!r}: data must be a list, or bytes with binary_data_size in its parameters")
    if values and isinstance(values[0], list):
        values = _flattened(name, values)
    if len(values) != prod(shape):
        raise Refused(f"tensor {name!r}: data has {len(values)} values and its shape says {prod(shape)}")
    if not _JSON_TYPES[datatype].issuperset(map(type, values)):
        raise Refused(f"tensor {name!r}: a value does not fit its datatype {datatype}")
    return Tensor(name, shape, values)


def _flattened(name: str, values: list[Any]) -> list[Any]:
    if not all(isinstance(row, list) for row in values):
        raise Refused(f"tensor {name!r}: data must be all lists or no lists")
    single = flat(values)
    return [value for row in values for value in row] if single is values else single


def _matrix_of(told: _Told) -> Tensor | None:
    """The one tensor that holds all features, if it is one."""
    only = told.tensors[0]
    return only if len(told.tensors) == 1 and len(only.shape) == 2 and only.shape[1] != 1 else _narrow(told)


def _narrow(told: _Told) -> Tensor | None:
    wide = next((tensor for tensor in told.tensors if len(tensor.shape) == 2 and tensor.shape[1] != 1), None)
    if wide is not None:
        raise Refused(f"tensor {wide.name!r}: shape must be [n] or [n, 1] where there is one tensor for each feature")
    return None


def _fits(matrix: Tensor, names: Sequence[str]) -> None:
    if matrix.shape[1] != len(names):
        raise Refused(
            f"tensor {matrix.name!r}: shape is {matrix.shape}, and the model has {len(names)} features: "
            f"{', '.join(list(names)[:12])}"
        )


def _rows(matrix: Tensor) -> list[list[Any]]:
    values, width = matrix.column(), matrix.shape[1]
    return [values[at : at + width] for at in range(0, len(values), width)] if width else []


def _size(name: str, told: dict[str, Any]) -> int | None:
    size = _parameters(told, f"tensor {name!r}: parameters").get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise Refused(f"tensor {name!r}: binary_data_size must be a whole number")
    return size


def _parameters(told: dict[str, Any], place: str) -> dict[str, Any]:
    parameters = told.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise Refused(f"{place} must be an object")
    return parameters or {}


def _flag(parameters: dict[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise Refused(f"parameters.{name} must be true or false")
    return value


def _request(told: Any) -> str | None:
    if told is not None and not isinstance(told, str):
        raise Refused("id must be text")
    return told


def _beside(parameters: dict[str, Any], key: str, rows: int) -> list[Any] | None:
    values = parameters.get(key)
    if values is not None and (not isinstance(values, list) or len(values) != rows):
        raise Refused(f"parameters.{key} must be a list with one value for each of the {rows} rows")
    return values


def _wanted(told: Any, *, binary: bool) -> tuple[Wanted, ...]:
    if not told:
        return tuple(Wanted(name, binary) for name in OUTPUTS)
    found: dict[str, Wanted] = {}
    for each in told if isinstance(told, list) else [None]:
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(each, dict) or name not in OUTPUTS:
            raise Refused(f"outputs must be a list of objects with a name, one of {', '.join(OUTPUTS)}")
        parameters = _parameters(each, f"output {name!r}: parameters")
        if parameters.get("classification"):
            raise Refused(f"output {name!r}: classification is not offered; ask for score")
        found[name] = Wanted(name, _flag(parameters, "binary_data") if "binary_data" in parameters else binary)
    return tuple(found.values())
