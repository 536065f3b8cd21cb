"""Asks a server as its users do, with other people's clients, unmodified.

`python client_script.py PORT MODEL GRPC_PORT triton`, or `... others`. Runs in an environment of its own (see
`test_conformance.py`), without Everfit in it; prints one line for each check.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

ROWS = {"distance": [3.0, -3.0], "carrier": ["UA", "AA"], "night": [False, True]}
KINDS = {"distance": ("FP64", np.float64), "carrier": ("BYTES", np.object_), "night": ("BOOL", np.bool_)}
EXPECTED = [True, False]


def triton(port: int, model: str) -> None:
    client = import_module("tritonclient.http")
    with client.InferenceServerClient(f"127.0.0.1:{port}") as server:
        assert server.is_server_live()
        assert server.is_server_ready()
        assert server.is_model_ready(model)
        assert server.is_model_ready(model, "1")
        assert not server.is_model_ready("other")
        assert "binary_tensor_data" in server.get_server_metadata()["extensions"]
        told = server.get_model_metadata(model)
        assert [each["name"] for each in told["inputs"]] == list(ROWS)
        assert server.get_model_repository_index()[0]["state"] == "READY"
        print("triton: health, metadata, index")
        for binary in (True, False):
            for packing in (None, "gzip", "deflate"):
                triton_infer(client, server, model, binary=binary, packing=packing)
        print("triton: infer with bytes and JSON, packed and not")
        error = failure(lambda: server.infer(model, [triton_inputs(client, binary=True)[0]]))
        assert error.status() == "400", error.status()
        assert "carrier" in error.message()
        assert "other" in failure(lambda: server.get_model_metadata("other")).message()
        print("triton: failures say what is wrong")


def triton_inputs(client: Any, *, binary: bool) -> list[Any]:
    made = []
    for name, values in ROWS.items():
        datatype, dtype = KINDS[name]
        tensor = client.InferInput(name, [2], datatype)
        made.append(tensor.set_data_from_numpy(np.array(values, dtype=dtype), binary_data=binary))
    return made


def triton_infer(client: Any, server: Any, model: str, *, binary: bool, packing: str | None) -> None:
    packed = {"request_compression_algorithm": packing, "response_compression_algorithm": packing}
    inputs = triton_inputs(client, binary=binary)
    default = server.infer(model, inputs, request_id="r1", **packed)  # without outputs it asks for bytes
    assert default.get_response()["id"] == "r1"
    assert default.as_numpy("predict").tolist() == EXPECTED
    outputs = [client.InferRequestedOutput("score", binary_data=binary)]
    chosen = server.infer(model, inputs, outputs=outputs, model_version="1", parameters={"ids": ["a", "b"]}, **packed)
    assert [each["name"] for each in chosen.get_response()["outputs"]] == ["score"]
    score = chosen.as_numpy("score")
    assert score.dtype == np.float64
    assert (score > 0.5).tolist() == EXPECTED
    assert chosen.get_response()["parameters"]["ids"] == ["a", "b"]


def triton_grpc(port: int, model: str) -> None:
    client = import_module("tritonclient.grpc")
    with client.InferenceServerClient(f"127.0.0.1:{port}") as server:
        assert server.is_server_live()
        assert server.is_server_ready()
        assert server.is_model_ready(model)
        assert server.is_model_ready(model, "1")
        assert not server.is_model_ready(model, "2")
        assert not server.is_model_ready("other")
        assert "binary_tensor_data" in server.get_server_metadata().extensions
        told = server.get_model_metadata(model, as_json=True)
        assert [each["name"] for each in told["inputs"]] == list(ROWS)
        assert server.get_model_repository_index().models[0].state == "READY"
        assert "other" in failure(lambda: server.get_model_metadata("other")).message()
        print("triton by gRPC: health, metadata, index")
        for packing in (None, "gzip", "deflate"):
            inputs = []
            for name, values in ROWS.items():
                datatype, dtype = KINDS[name]
                inputs.append(client.InferInput(name, [2], datatype).set_data_from_numpy(np.array(values, dtype=dtype)))
            outputs = [client.InferRequestedOutput("score"), client.InferRequestedOutput("predict")]
            answer = server.infer(
                model, inputs, "1", outputs, "g1", parameters={"ids": '["c", "d"]'}, compression_algorithm=packing
            )
            assert answer.get_response().id == "g1"
            assert answer.as_numpy("predict").tolist() == EXPECTED
            assert (answer.as_numpy("score") > 0.5).tolist() == EXPECTED
            assert answer.get_response().parameters["ids"].string_param == '["c","d"]'
        error = failure(lambda: server.infer(model, inputs[:1]))
        assert error.status() == "StatusCode.INVALID_ARGUMENT", error.status()
        assert "carrier" in error.message()
        assert failure(lambda: server.infer("other", inputs)).status() == "StatusCode.NOT_FOUND"
        print("triton by gRPC: infer, packed and not, and failures")


async def kserve_grpc(port: int, model: str) -> None:
    client = import_module("kserve")
    server = client.InferenceGRPCClient(f"127.0.0.1:{port}")
    assert await server.is_server_live()
    assert await server.is_server_ready()
    assert await server.is_model_ready(model)
    for binary in (True, False):
        inputs = []
        for name, values in ROWS.items():
            datatype, dtype = KINDS[name]
            tensor = client.InferInput(name, [2], datatype)
            tensor.set_data_from_numpy(np.array(values, dtype=dtype), binary_data=binary)
            inputs.append(tensor)
        asked = client.InferRequest(model_name=model, infer_inputs=inputs, request_id="k2")
        answer = await server.infer(asked)
        assert answer.id == "k2"
        assert answer.outputs[0].as_numpy().tolist() == EXPECTED
    await server.close()
    print("kserve by gRPC: health and infer with bytes and values")


async def kserve(port: int, model: str) -> None:
    client, types = import_module("kserve"), import_module("kserve.protocol.infer_type")
    server = client.InferenceRESTClient(client.RESTConfig(protocol="v2", retries=1, timeout=30))
    base = f"http://127.0.0.1:{port}"
    assert await server.is_server_live(base)
    assert await server.is_server_ready(base)
    assert await server.is_model_ready(base, model)
    for binary in (True, False):
        inputs = []
        for name, values in ROWS.items():
            datatype, dtype = KINDS[name]
            tensor = client.InferInput(name, [2], datatype)
            tensor.set_data_from_numpy(np.array(values, dtype=dtype), binary_data=binary)
            inputs.append(tensor)
        outputs = [types.RequestedOutput("predict", parameters={"binary_data": binary})]
        asked = client.InferRequest(model_name=model, infer_inputs=inputs, request_id="k1", request_outputs=outputs)
        answer = await server.infer(base, asked, model_name=model)
        assert answer.id == "k1"
        assert answer.outputs[0].as_numpy().tolist() == EXPECTED
    await server.close()
    print("kserve: health and infer with bytes and JSON")


def mlflow(port: int, model: str) -> None:
    server = import_module("mlflow.pyfunc.scoring_server.client").ScoringServerClient("127.0.0.1", port)
    server.wait_server_ready()
    assert server.get_version()
    answer = server.invoke(pd.DataFrame(ROWS), params={"unused": 1})
    assert answer.get_predictions()[0].tolist() == EXPECTED
    records = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
    assert server.invoke(records).get_predictions()[0].tolist() == EXPECTED
    said = str(failure(lambda: server.invoke(pd.DataFrame({"distance": [3.0]}))))
    assert "400" in said
    assert "carrier" in said
    print("mlflow: ScoringServerClient")
    deployed = import_module("mlflow.deployments").get_deploy_client(f"http://127.0.0.1:{port}")
    told = deployed.predict(endpoint=model, inputs={"dataframe_records": records})
    assert told["predictions"] == EXPECTED
    print("mlflow: deployments client")


def failure(call: Callable[[], object]) -> Any:
    """What a call raises."""
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("it was answered")


def main() -> None:
    port, model, grpc, who = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    if who == "triton":  # a process of its own: both clients bring the same messages, and protobuf takes them once
        triton(port, model)
        triton_grpc(grpc, model)
        return
    asyncio.run(kserve(port, model))
    asyncio.run(kserve_grpc(grpc, model))
    mlflow(port, model)


if __name__ == "__main__":
    main()
