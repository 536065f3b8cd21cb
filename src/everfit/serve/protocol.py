"""Two protocols for predictions: MLflow's `/invocations` and the Open Inference Protocol v2.

Takes bodies; gives an `Asked`, and answers as plain objects; never knows a socket, and names the field in
every error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import polars as pl

from everfit.errors import Refused
from everfit.observe.options import Kind
from everfit.serve.model import Signature
from everfit.serve.rows import from_columns, from_csv, from_lists, from_records, read_json

MLFLOW_KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
TENSOR_TYPES: dict[str, tuple[type, ...]] = {
    "BOOL": (bool,),
    "BYTES": (str,),
    **dict.fromkeys(("FP64", "FP32", "FP16"), (int, float)),
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"), (int,)),
}
KIND_TENSORS = {Kind.NUMBER: "FP64", Kind.CATEGORY: "BYTES", Kind.FLAG: "BOOL", Kind.MOMENT: "BYTES"}
OUTPUTS = ("predict", "score")


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows to score, as a client sent them."""

    rows: pl.DataFrame
    ids: list[Any] | None = None  # v2 may bring them beside the tensors
    times: list[Any] | None = None
    request: str | None = None  # v2: echoed
    outputs: tuple[str, ...] = OUTPUTS


@dataclass(frozen=True, slots=True)
class Answered:
    """Scored rows on their way back."""

    signature: Signature
    version: int
    candidate: str
    ids: list[str]
    scores: np.ndarray
    labels: list[str] | None  # classes as text; None for regression
    number: int | None = None  # the journal's number, when the answer waited for it


def ask_mlflow(body: bytes, content_type: str, names: Sequence[str]) -> Asked:
    """Read a body of `/invocations`; rows without names are in the order of `names`.

    >>> body = b'{"dataframe_split": {"columns": ["a"], "data": [[1]]}}'
    >>> ask_mlflow(body, "application/json", []).rows.to_dicts()
    [{'a': 1}]

    Raises:
        Refused: it is not one.
    """
    if content_type == "text/csv":
        return Asked(from_csv(body))
    told = read_json(body)
    found = [key for key in MLFLOW_KEYS if isinstance(told, dict) and key in told]
    if len(found) != 1:
        raise Refused(f"the body must be an object with exactly one of {', '.join(MLFLOW_KEYS)}")
    match found[0]:
        case "dataframe_split":
            return Asked(_split(told["dataframe_split"]))
        case "dataframe_records":
            return Asked(from_records(told["dataframe_records"]))
        case "instances":
            return Asked(_named_or_not(told["instances"], names))
        case _:
            return Asked(_inputs(told["inputs"], names))


def ask_v2(body: bytes) -> Asked:
    """Read a body of `/v2/models/<name>/infer`: one tensor a column, of shape [n] or [n, 1].

    Raises:
        Refused: it is not one.
    """
    told = read_json(body)
    tensors = told.get("inputs") if isinstance(told, dict) else None
    if not isinstance(tensors, list) or not tensors:
        raise Refused("inputs must be a list with one tensor for each feature")
    columns: dict[str, list[Any]] = {}
    for place, tensor in enumerate(tensors):
        name, values = _tensor(place, tensor)
        if name in columns:
            raise Refused(f"field {name!r} comes twice; send each tensor once")
        columns[name] = values
    rows = from_columns(columns)
    parameters = told.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Refused("parameters must be an object")
    ids, times = (_beside(parameters, key, rows.height) for key in ("ids", "times"))
    request = told.get("id")
    if request is not None and not isinstance(request, str):
        raise Refused("id must be text")
    return Asked(rows, ids, times, request, _outputs(told.get("outputs")))


def answer_mlflow(answered: Answered) -> dict[str, Any]:
    """The body of an answer to `/invocations`."""
    signature = answered.signature
    body: dict[str, Any] = {"predictions": _predictions(answered).tolist()}
    if answered.labels is not None:
        body["scores"] = shown_scores(answered).tolist()
    body["ids"] = answered.ids
    body["model"] = {"version": answered.version, "candidate": answered.candidate}
    if signature.classes:
        body["model"] |= {"classes": list(signature.classes), "positive": positive_of(signature)}
    return body if answered.number is None else body | {"number": answered.number}


def answer_v2(answered: Answered, asked: Asked, model: str) -> dict[str, Any]:
    """The body of an answer to `/v2/models/<name>/infer`."""
    tensors = {"predict": _predictions(answered), "score": shown_scores(answered)}
    parameters: dict[str, Any] = {"candidate": answered.candidate, "ids": answered.ids}
    if answered.number is not None:
        parameters["number"] = answered.number
    body: dict[str, Any] = {
        "model_name": model,
        "model_version": str(answered.version),
        "parameters": parameters,
        "outputs": [_output(name, tensors[name]) for name in asked.outputs],
    }
    return body if asked.request is None else {"id": asked.request, **body}


def metadata_v2(model: str, version: int, signature: Signature) -> dict[str, Any]:
    """What `/v2/models/<name>` answers."""
    inputs = [
        {"name": column.name, "datatype": KIND_TENSORS[column.kind], "shape": [-1]}
        for column in signature.schema.features
    ]
    scores = [-1, signature.width()] if signature.task == "multiclass" else [-1]
    predicted = {"name": "predict", "datatype": _datatype(natural_classes(signature)), "shape": [-1]}
    return {
        "name": model,
        "versions": [str(version)],
        "platform": "everfit",
        "inputs": inputs,
        "outputs": [predicted, {"name": "score", "datatype": "FP64", "shape": scores}],
    }


def natural_classes(signature: Signature) -> np.ndarray:
    """The classes as their users write them: whole numbers, flags, else text; empty numbers for regression.

    >>> from everfit.observe.schema import Schema
    >>> natural_classes(Signature("binary", Schema((), ()), ("0", "1"), None, {})).tolist()
    [0, 1]
    """
    classes = signature.classes
    if classes and set(classes) <= {"false", "true"}:
        return np.array([name == "true" for name in classes])
    if all(_is_whole(name) for name in classes):
        return np.array([int(name) for name in classes], dtype=np.int64 if classes else float)
    return np.array(classes, dtype=object)


def positive_of(signature: Signature) -> str | None:
    """The class whose score a binary answer shows: the one that was chosen, else the last in sorted order."""
    if signature.task != "binary":
        return None
    return signature.positive if signature.positive in signature.classes else max(signature.classes)


def shown_scores(answered: Answered) -> np.ndarray:
    """Binary: the positive class's score; multiclass: all in class order; regression: the value."""
    signature = answered.signature
    if signature.task == "multiclass":
        return answered.scores
    positive = positive_of(signature)
    return answered.scores[:, signature.classes.index(positive) if positive is not None else 0]


def _predictions(answered: Answered) -> np.ndarray:
    if answered.labels is None:
        return answered.scores[:, 0]
    natural = dict(zip(answered.signature.classes, natural_classes(answered.signature), strict=True))
    return np.array([natural[label] for label in answered.labels], dtype=natural_classes(answered.signature).dtype)


def _output(name: str, values: np.ndarray) -> dict[str, Any]:
    shape, datatype = list(values.shape), _datatype(values)
    return {"name": name, "datatype": datatype, "shape": shape, "data": values.ravel().tolist()}


def _datatype(values: np.ndarray) -> str:
    return {"b": "BOOL", "i": "INT64", "f": "FP64"}.get(values.dtype.kind, "BYTES")


def _is_whole(text: str) -> bool:
    # As our own text writes them: "07" or "+1" are names, not numbers.
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 19 and str(int(text)) == text


def _split(told: Any) -> pl.DataFrame:
    if not isinstance(told, dict) or not isinstance(told.get("columns"), list):
        raise Refused("dataframe_split must be an object with columns and data")
    return from_lists(told["columns"], told.get("data"))


def _named_or_not(told: Any, names: Sequence[str]) -> pl.DataFrame:
    if isinstance(told, list) and told and isinstance(told[0], list):
        return from_lists(names, told)
    return from_records(told)


def _inputs(told: Any, names: Sequence[str]) -> pl.DataFrame:
    if not isinstance(told, dict):
        return _named_or_not(told, names)
    lists = {name: values if isinstance(values, list) else [values] for name, values in told.items()}
    return from_columns({name: _flat(values) for name, values in lists.items()})


def _tensor(place: int, tensor: Any) -> tuple[str, list[Any]]:
    name = tensor.get("name") if isinstance(tensor, dict) else None
    if not isinstance(name, str):
        raise Refused(f"inputs[{place}] must be an object with name, shape, datatype and data")
    shape, values = tensor.get("shape"), tensor.get("data")
    if not _is_column(shape):
        raise Refused(f"tensor {name!r}: shape must be [n] or [n, 1]; send one tensor for each feature")
    if not isinstance(values, list):
        raise Refused(f"tensor {name!r}: data must be a list; binary data is not taken, send JSON")
    flat = _flat(values)
    if len(flat) != prod(shape):
        raise Refused(f"tensor {name!r}: data has {len(flat)} values and its shape says {prod(shape)}")
    allowed = TENSOR_TYPES.get(str(tensor.get("datatype")))
    if allowed is None:
        raise Refused(f"tensor {name!r}: datatype must be one of {', '.join(TENSOR_TYPES)}")
    if not all(value is None or type(value) in allowed for value in flat):
        raise Refused(f"tensor {name!r}: a value does not fit its datatype {tensor['datatype']}")
    return name, flat


def _is_column(shape: Any) -> bool:
    whole = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    return whole and len(shape) in {1, 2} and shape[1:] in ([], [1])


def _flat(values: list[Any]) -> list[Any]:
    if values and all(isinstance(value, list) and len(value) == 1 for value in values):
        return [value[0] for value in values]
    return values


def _beside(parameters: dict[str, Any], key: str, rows: int) -> list[Any] | None:
    values = parameters.get(key)
    if values is not None and (not isinstance(values, list) or len(values) != rows):
        raise Refused(f"parameters.{key} must be a list with one value for each of the {rows} rows")
    return values


def _outputs(wanted: Any) -> tuple[str, ...]:
    if not wanted:
        return OUTPUTS
    names = (
        [item.get("name") if isinstance(item, dict) else None for item in wanted]
        if isinstance(wanted, list)
        else [None]
    )
    if not set(names) <= set(OUTPUTS):
        raise Refused(f"outputs must be a list of objects with a name, one of {', '.join(OUTPUTS)}")
    return tuple(str(name) for name in dict.fromkeys(names))
