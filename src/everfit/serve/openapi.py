"""The server's OpenAPI document, for clients that are generated and for whoever reads.

Takes a model's name and what it takes; gives the document as a plain object; never names a route that the
application does not have, nor leaves one out: a test holds both together.
"""

from __future__ import annotations

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


def document(model: str, signature: Signature | None) -> dict[str, Any]:
    """The document for one model; without a signature, rows are any objects.

    >>> sorted(document("orders", None)["paths"])[:3]
    ['/endpoints/{name}/invocations', '/health', '/invocations']
    """
    row: dict[str, Any] = dict(_OBJECT)
    if signature is not None:
        features = signature.schema.features
        row |= {"required": signature.schema.names(), "properties": {each.name: _KINDS[each.kind] for each in features}}
    schemas = {"Error": _ERROR, "Row": row, "Rows": _rows(), "Tensors": _tensors(), "Records": _records()}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Everfit: {model}", "version": version("everfit")},
        "paths": _paths(),
        "components": {"schemas": schemas},
    }


def _paths() -> dict[str, Any]:
    asking = {JSON: _ref("Rows"), "text/csv": {"type": "string"}}
    records = {JSON: _ref("Records"), "application/vnd.apache.arrow.stream": {"type": "string", "format": "binary"}}
    tensors = {JSON: _ref("Tensors")}
    paths: dict[str, Any] = {
        "/ping": {"get": _told("200 when a model answers, else 503")},
        "/health": {"get": _told("as /ping")},
        "/version": {"get": _told("the server's version", kind="text/plain")},
        "/metrics": {"get": _told("counters for Prometheus", kind="text/plain")},
        "/openapi.json": {"get": _told("this document")},
        "/v1/clock": {"get": _told("the model's time, and the journal's number up to which all was done")},
        "/v1/predictions": {"post": _taken("take predictions that were made elsewhere", records)},
        "/v1/labels": {"post": _taken("take labels", records)},
        "/invocations": {"post": _taken("ask the model, in MLflow's words", asking)},
        "/endpoints/{name}/invocations": {"post": _taken("as /invocations", asking)},
        "/v2": {"get": _told("the server and its extensions")},
        "/v2/health/live": {"get": _told("the process is up")},
        "/v2/health/ready": {"get": _told("a model answers")},
        "/v2/models": {"get": _told("the models of this server")},
        "/v2/repository/index": {"post": _told("the models of this server and their state")},
    }
    for at in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        paths |= {
            at: {"get": _told("inputs and outputs")},
            f"{at}/ready": {"get": _told("this model answers")},
            f"{at}/infer": {"post": _taken("ask the model with tensors, as JSON or with bytes", tensors)},
        }
    for path, verbs in paths.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        if names:
            parameters = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]
            verbs["parameters"] = parameters
    return paths


def _told(summary: str, kind: str = JSON) -> dict[str, Any]:
    content = {kind: {"schema": {} if kind == JSON else {"type": "string"}}}
    responses: dict[str, Any] = {"200": {"description": summary, "content": content}}
    responses |= {status: _fault(said) for status, said in _FAULTS.items() if status in {"404", "503"}}
    return {"summary": summary, "responses": responses}


def _taken(summary: str, content: dict[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": {kind: {"schema": schema} for kind, schema in content.items()}}
    good: dict[str, Any] = {"200": {"description": "the answer", "content": {JSON: {"schema": _OBJECT}}}}
    faults = {status: _fault(said) for status, said in _FAULTS.items()}
    return {"summary": summary, "requestBody": body, "responses": good | faults}


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
