"""gRPC: the same answers and the same faults as over HTTP."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from starlette.testclient import TestClient

from everfit.ports import Table
from everfit.serve.app import build_app
from everfit.serve.binary import pack
from everfit.serve.model import Signature
from everfit.serve.protocol import Answered, Face
from everfit.serve.rpc import Rpc, message_of, plain_of
from everfit.serve.rpc_words import CLASSES, SERVICE
from everfit.serve.serving import Limits
from everfit.serve.v2 import V2Ask
from tests.unit.serve.fakes import MODEL, SCHEMA, ListJournal, release, serving, until

VALUES: dict[str, tuple[str, list[Any]]] = {
    "distance": ("FP64", [3.0, -3.0]),
    "carrier": ("BYTES", ["UA", "AA"]),
    "night": ("BOOL", [False, True]),
}
Call = Callable[..., Any]


@pytest.fixture
def journal() -> ListJournal:
    return ListJournal()


@pytest.fixture
def call(tmp_path: Path, journal: ListJournal) -> Iterator[Call]:
    """Calls a method of the service by name, with fields of its request."""
    release(tmp_path, 7)
    door = Rpc("127.0.0.1:0")
    app = build_app(serving(tmp_path, journal), beside=door)
    with TestClient(app) as client, grpc.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        until(lambda: client.get("/ping").status_code == 200)

        def ask(name: str, /, **fields: Any) -> Any:
            method = channel.unary_unary(
                f"/{SERVICE}/{name}",
                request_serializer=CLASSES[f"{name}Request"].SerializeToString,
                response_deserializer=CLASSES[f"{name}Response"].FromString,
            )
            return method(CLASSES[f"{name}Request"](**fields), timeout=10)

        yield ask


def tensors(*, raw: bool) -> dict[str, Any]:
    where = {"FP64": "fp64_contents", "BYTES": "bytes_contents", "BOOL": "bool_contents"}
    inputs: list[dict[str, Any]] = []
    for name, (datatype, values) in VALUES.items():
        told: dict[str, Any] = {"name": name, "datatype": datatype, "shape": [2]}
        sent = [value.encode() for value in values] if datatype == "BYTES" else values
        inputs.append(told if raw else told | {"contents": {where[datatype]: sent}})
    packed = [pack(datatype, values) for datatype, values in VALUES.values()]
    return {"inputs": inputs, **({"raw_input_contents": packed} if raw else {})}


def test_bytes_are_answered_with_bytes(call: Call, journal: ListJournal) -> None:
    told = call("ModelInfer", model_name=MODEL, id="r1", **tensors(raw=True))
    assert (told.id, told.model_name, told.model_version) == ("r1", MODEL, "7")
    assert [(each.name, each.datatype, list(each.shape)) for each in told.outputs] == [
        ("predict", "BOOL", [2]),
        ("score", "FP64", [2]),
    ]
    assert told.raw_output_contents[0] == b"\x01\x00"
    assert np.frombuffer(told.raw_output_contents[1]).tolist() == pytest.approx([0.9526, 0.0474], abs=1e-4)
    until(lambda: journal.rows(Table.PREDICTIONS).height == 2)


def test_values_are_answered_with_values(call: Call, journal: ListJournal) -> None:
    ids = {"ids": {"string_param": '["a", "b"]'}}
    asked = {"outputs": [{"name": "score"}], "parameters": ids, "model_version": "7"}
    told = call("ModelInfer", model_name=MODEL, **asked, **tensors(raw=False))
    assert [each.name for each in told.outputs] == ["score"]
    assert list(told.outputs[0].contents.fp64_contents) == pytest.approx([0.9526, 0.0474], abs=1e-4)
    assert told.parameters["ids"].string_param == '["a","b"]'
    until(lambda: journal.rows(Table.PREDICTIONS).height == 2)


@pytest.mark.parametrize("raw", [True, False], ids=["bytes", "values"])
def test_where_two_models_answered_each_row_has_its_version(*, raw: bool) -> None:
    parsed, rest = plain_of(CLASSES["ModelInferRequest"](model_name=MODEL, **tensors(raw=raw)))
    ask = V2Ask(rest, 0, MODEL, parsed)
    face = Face(
        Signature("binary", SCHEMA, SCHEMA.classes, "true", {}), 1, "c1", [False, True], 1, {"versions": [1, 2]}
    )
    assert ask.asked(SCHEMA.names()).rows.height == 2
    told = message_of(*ask.parts(Answered(face, ["a", "b"], [False, True], [0.25, 0.75])))
    assert (told.model_version, told.parameters["versions"].string_param) == ("1", "[1,2]")
    assert told.parameters["ids"].string_param == '["a","b"]'


def test_how_it_is(call: Call) -> None:
    assert call("ServerLive").live
    assert call("ServerReady").ready
    assert call("ModelReady", name=MODEL).ready
    assert call("ModelReady", name=MODEL, version="7").ready
    assert not call("ModelReady", name=MODEL, version="6").ready
    assert not call("ModelReady", name="other").ready
    assert call("ServerMetadata").name == "everfit"
    told = call("ModelMetadata", name=MODEL)
    assert (told.inputs[0].name, told.inputs[0].datatype, list(told.inputs[0].shape)) == ("distance", "FP64", [-1])
    assert list(told.versions) == ["7"]
    assert [(each.name, each.state) for each in call("RepositoryIndex").models] == [(MODEL, "READY")]


def damaged(**changes: Any) -> dict[str, Any]:
    return {**tensors(raw=False), **changes}


SECRET = {"name": "carrier", "datatype": "FP64", "shape": [1], "contents": {"bytes_contents": [b"secret"]}}


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        pytest.param({"model_name": "other"}, "NOT_FOUND", MODEL, id="an unknown model"),
        pytest.param({"model_version": "3", **tensors(raw=True)}, "NOT_FOUND", "version 7", id="another version"),
        pytest.param({}, "INVALID_ARGUMENT", "inputs", id="no tensors"),
        pytest.param(damaged(raw_input_contents=[b""]), "INVALID_ARGUMENT", "one for each", id="too few bytes"),
        pytest.param(damaged(raw_input_contents=[b"x"] * 3), "INVALID_ARGUMENT", "not both", id="both forms"),
        pytest.param({"inputs": [SECRET]}, "INVALID_ARGUMENT", "'carrier'", id="values of another type"),
        pytest.param(damaged(parameters={"ids": {"int64_param": 3}}), "INVALID_ARGUMENT", "ids", id="ids no list"),
        pytest.param(damaged(parameters={"ids": {"string_param": "{"}}), "INVALID_ARGUMENT", "JSON", id="ids no JSON"),
        pytest.param(damaged(outputs=[{"name": "x"}]), "INVALID_ARGUMENT", "outputs", id="an unknown output"),
    ],
)
def test_faults_have_codes_and_name_the_place(call: Call, fields: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        call("ModelInfer", **{"model_name": MODEL, **fields})
    error: Any = failed.value
    assert error.code().name == code
    assert said in error.details()
    assert "secret" not in error.details()


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[grpc.Channel]:
    """To a server that takes messages of 1 MB, and 2 KB in all."""
    release(tmp_path, 7)
    door = Rpc("127.0.0.1:0")
    limits = Limits(body=2**20, bytes=2048)
    app = build_app(dataclasses.replace(serving(tmp_path, ListJournal()), limits=limits), beside=door)
    with TestClient(app) as client, grpc.insecure_channel(f"127.0.0.1:{door.port}") as made:
        until(lambda: client.get("/ping").status_code == 200)
        yield made


@pytest.mark.parametrize(
    ("method", "sent", "code", "said"),
    [
        pytest.param("ModelInfer", b"\xff\xff", "INVALID_ARGUMENT", "no ModelInferRequest", id="bytes of no message"),
        pytest.param("ModelInfer", b"\x0a\x01\xff", "INVALID_ARGUMENT", "no ModelInferRequest", id="not UTF-8"),
        pytest.param("ModelInfer", b"\x0a\x04none", "NOT_FOUND", "no model 'none'", id="a model that is not here"),
        pytest.param("Infer", b"", "UNIMPLEMENTED", "not found", id="a method that is not offered"),
        pytest.param("ModelInfer", b"\x0a" * 2**21, "RESOURCE_EXHAUSTED", "larger than max", id="a message too large"),
        pytest.param(
            "ModelInfer",
            CLASSES["ModelInferRequest"](model_name=MODEL, raw_input_contents=[b"a" * 4096]).SerializeToString(),
            "UNAVAILABLE", "come again", id="more than the server may have in hand",
        ),
    ],
)  # fmt: skip
def test_every_failure_has_its_code(channel: grpc.Channel, method: str, sent: bytes, code: str, said: str) -> None:
    call: Any = channel.unary_unary(f"/{SERVICE}/{method}")
    with pytest.raises(grpc.RpcError) as failed:
        call(sent, timeout=10)
    status: Any = failed.value
    assert status.code().name == code
    assert said in status.details() or said in status.details().lower()
