"""The server's OpenAPI document, for clients that are generated and for whoever reads.

Takes a model's name and what it takes; gives the document as a plain object; never names a route that the
application does not have, nor leaves one out: a test holds both together.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from everfit.observe.options import Kind
from everfit.serve.model import Signature

JSON = "application/json"
_KINDS: dict[Kind, dict[str, Any]] = {
    Kind.NUMBER: {"type": ["number", "null"]},
    Kind.CATEGORY: {"type": ["string", "null"]},
    Kind.FLAG: {"type": ["boolean", "null"]},
    Kind.MOMENT: {"type": ["string", "null"], "format": "date-time"},
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_OBJECT = {"type": "object"}
_FAULTS = {
    "400": "the request is wrong; the field is named, its value never shown",
    "404": "there is no such model, version or address",
    "413": "the body is too large",
    "415": "the content type or encoding is not taken",
    "500": "the model failed; the server's log says why",
    "503": "no model is live yet, or too much waits; Retry-After says when to come again",
}
_TEXT = {"text/plain": {"type": "string"}}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_LIST = {"type": "array"}
_NUMBER = {"type": "integer", "minimum": 0}
ANSWER = _object(
    "predictions", "ids", "model", predictions=_LIST, scores=_LIST, ids=_LIST, number=_NUMBER,
    model=_object("version", "candidate", version=_NUMBER),
)  # fmt: skip
RECEIPT = _object(
    "acknowledged", "refused", "reasons", "number",
    acknowledged=_NUMBER, refused=_NUMBER, number=_NUMBER, reasons={"type": "object"},
)  # fmt: skip
READY = _object("ready", ready={"type": "boolean"}, name={"type": "string"}, error={"type": "string"})
INDEX = {"type": "array", "items": _object("name", "state", state={"enum": ["READY", "UNAVAILABLE"]})}
METADATA = _object("name", "versions", "platform", "inputs", "outputs", inputs=_LIST, outputs=_LIST)
TENSORS = _object(
    "model_name", "model_version", "outputs", id={"type": "string"},
    outputs={"type": "array", "items": _object("name", "datatype", "shape")},
)  # fmt: skip
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
        "datatype": {"type": "string"},
        "data": {"type": "array"},
        "parameters": _OBJECT,
    },
}


def document(models: Mapping[str, Signature | None]) -> dict[str, Any]:
    """The document for some models; rows of one without a signature are any objects.

    >>> sorted(document({"orders": None})["paths"])[:3]
    ['/endpoints/{name}/invocations', '/health', '/invocations']
    """
    rows = [_row(signature) for signature in models.values()]
    row = rows[0] if len(rows) == 1 else {"anyOf": rows}
    schemas = {"Error": _ERROR, "Row": row, "Rows": _rows(), "Tensors": _tensors(), "Records": _records()}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Everfit: {', '.join(models)}", "version": version("everfit")},
        "paths": _paths(),
        "components": {"schemas": schemas},
    }


def _row(signature: Signature | None) -> dict[str, Any]:
    if signature is None:
        return _OBJECT
    features = signature.schema.features
    properties = {each.name: _KINDS[each.kind] for each in features}
    return _OBJECT | {"required": signature.schema.names(), "properties": properties}


def _paths() -> dict[str, Any]:
    asking = {JSON: _ref("Rows"), "text/csv": {"type": "string"}}
    records = {JSON: _ref("Records"), "application/vnd.apache.arrow.stream": {"type": "string", "format": "binary"}}
    tensors = {JSON: _ref("Tensors")}
    answered = {JSON: ANSWER}
    paths: dict[str, Any] = {
        "/ping": {"get": _told("200 when every model answers, else 503", _TEXT)},
        "/health": {"get": _told("as /ping", _TEXT)},
        "/version": {"get": _told("the server's version", _TEXT)},
        "/metrics": {"get": _told("counters for Prometheus", _TEXT)},
        "/openapi.json": {"get": _told("this document", {JSON: _OBJECT})},
        "/invocations": {"post": _taken("ask the only model, in MLflow's words", asking, answered)},
        "/endpoints/{name}/invocations": {"post": _taken("ask a model, as /invocations", asking, answered)},
        "/v2": {"get": _told("the server and its extensions", {JSON: _object("name", "version", "extensions")})},
        "/v2/health/live": {"get": _told("the process is up", {JSON: _object("live")})},
        "/v2/health/ready": {"get": _told("every model answers", {JSON: READY})},
        "/v2/models": {"get": _told("the models of this server", {JSON: _object("models")})},
        "/v2/repository/index": {"post": _told("the models of this server and their state", {JSON: INDEX})},
    }
    for at in ("/v1", "/v1/models/{name}"):
        clock = "the model's time, and the journal's number up to which all was done"
        paths |= {
            f"{at}/clock": {"get": _told(clock, {JSON: _object("now", "settled")})},
            f"{at}/predictions": {"post": _taken("take predictions made elsewhere", records, {JSON: RECEIPT})},
            f"{at}/labels": {"post": _taken("take labels", records, {JSON: RECEIPT})},
        }
    for at in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        bytes_too = {JSON: TENSORS, "application/octet-stream": {"type": "string", "format": "binary"}}
        paths |= {
            at: {"get": _told("inputs and outputs", {JSON: METADATA})},
            f"{at}/ready": {"get": _told("this model answers", {JSON: READY})},
            f"{at}/infer": {"post": _taken("ask the model with tensors, as JSON or with bytes", tensors, bytes_too)},
        }
    for path, verbs in paths.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        if names:
            parameters = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]
            verbs["parameters"] = parameters
    return paths


def _told(summary: str, content: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": summary, "content": _schemas(content)}}
    responses |= {status: _fault(said) for status, said in _FAULTS.items() if status in {"400", "404", "503"}}
    return {"summary": summary, "responses": responses}


def _taken(summary: str, content: dict[str, Any], answered: dict[str, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"200": {"description": "the answer", "content": _schemas(answered)}}
    faults = {status: _fault(said) for status, said in _FAULTS.items()}
    body = {"required": True, "content": _schemas(content)}
    return {"summary": summary, "requestBody": body, "responses": good | faults}


def _schemas(content: dict[str, Any]) -> dict[str, Any]:
    return {kind: {"schema": schema} for kind, schema in content.items()}


def _fault(said: str) -> dict[str, Any]:
    return {"description": said, "content": {JSON: {"schema": _ref("Error")}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _rows() -> dict[str, Any]:
    lists = {"type": "array", "items": {"type": "array"}}
    split = {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {"columns": {"type": "array", "items": {"type": "string"}}, "data": lists},
    }
    records = {"type": "array", "items": _ref("Row")}
    forms = {
        "dataframe_split": split,
        "dataframe_records": records,
        "instances": {"anyOf": [records, lists]},
        "inputs": {"anyOf": [{"type": "object", "additionalProperties": {"type": "array"}}, records, lists]},
    }
    return {
        "oneOf": [
            {"type": "object", "required": [name], "properties": {name: schema, "params": _OBJECT}}
            for name, schema in forms.items()
        ]
    }


def _tensors() -> dict[str, Any]:
    outputs = {"type": "array", "items": {"type": "object", "required": ["name"]}}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": _OBJECT,
            "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
            "outputs": outputs,
        },
    }


def _records() -> dict[str, Any]:
    listed = {"type": "array", "items": _OBJECT}
    return {"oneOf": [listed, {"type": "object", "required": ["rows"], "properties": {"rows": listed}}]}
