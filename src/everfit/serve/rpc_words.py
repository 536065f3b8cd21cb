"""The messages of the Open Inference Protocol's gRPC form, described by our own hand.

Takes nothing; gives message classes and the service's name, made when the module is imported, in a pool of their own;
never meets the generated classes of a client in the same process. Source: the protocol's grpc_predict_v2.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
ONE_OF = "InferParameter"  # its fields exclude each other
_CHOICE = "parameter_choice"

# Fields in the order of their numbers, which begin at 1: name and type; [] is a list, {} a map from text.
MESSAGES: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("live bool",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("ready bool",),
    "ModelReadyRequest": ("name string", "version string"),
    "ModelReadyResponse": ("ready bool",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("name string", "version string", "extensions []string"),
    "ModelMetadataRequest": ("name string", "version string"),
    "ModelMetadataResponse": (
        "name string",
        "versions []string",
        "platform string",
        "inputs []TensorMetadata",
        "outputs []TensorMetadata",
    ),
    "ModelMetadataResponse.TensorMetadata": ("name string", "datatype string", "shape []int64"),
    ONE_OF: (
        "bool_param bool",
        "int64_param int64",
        "string_param string",
        "double_param double",
        "uint64_param uint64",
    ),
    "InferTensorContents": (
        "bool_contents []bool",
        "int_contents []int32",
        "int64_contents []int64",
        "uint_contents []uint32",
        "uint64_contents []uint64",
        "fp32_contents []float",
        "fp64_contents []double",
        "bytes_contents []bytes",
    ),
    "ModelInferRequest": (
        "model_name string",
        "model_version string",
        "id string",
        "parameters {}InferParameter",
        "inputs []InferInputTensor",
        "outputs []InferRequestedOutputTensor",
        "raw_input_contents []bytes",
    ),
    "ModelInferRequest.InferInputTensor": (
        "name string",
        "datatype string",
        "shape []int64",
        "parameters {}InferParameter",
        "contents InferTensorContents",
    ),
    "ModelInferRequest.InferRequestedOutputTensor": ("name string", "parameters {}InferParameter"),
    "ModelInferResponse": (
        "model_name string",
        "model_version string",
        "id string",
        "parameters {}InferParameter",
        "outputs []InferOutputTensor",
        "raw_output_contents []bytes",
    ),
    "ModelInferResponse.InferOutputTensor": (
        "name string",
        "datatype string",
        "shape []int64",
        "parameters {}InferParameter",
        "contents InferTensorContents",
    ),
    "RepositoryIndexRequest": ("repository_name string", "ready bool"),
    "RepositoryIndexResponse": ("models []ModelIndex",),
    "RepositoryIndexResponse.ModelIndex": ("name string", "version string", "state string", "reason string"),
}
# Where a tensor's values are, by its datatype; FP16 comes only as bytes.
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_FIELD = descriptor_pb2.FieldDescriptorProto
_PLAIN: dict[str, Any] = {
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}


def described() -> descriptor_pb2.FileDescriptorProto:
    """The table above as protobuf describes files.

    >>> described().message_type[1].field[0].name
    'live'
    """
    file = descriptor_pb2.FileDescriptorProto(name="everfit/inference.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for name, fields in MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = made[outer].nested_type.add() if outer else file.message_type.add()
        message.name, made[name] = inner, message
        if name == ONE_OF:
            message.oneof_decl.add().name = _CHOICE
        for number, field in enumerate(fields, 1):
            _add(message, name, number, *field.split())
            if name == ONE_OF:
                message.field[-1].oneof_index = 0
    return file


def _add(message: Any, of: str, number: int, name: str, kind: str) -> None:
    many = kind.startswith(("[]", "{}"))
    told = message.field.add()
    told.name, told.number = name, number
    told.label = _FIELD.LABEL_REPEATED if many else _FIELD.LABEL_OPTIONAL
    if kind.startswith("{}"):
        entry = message.nested_type.add()
        entry.name, entry.options.map_entry = f"{name.capitalize()}Entry", True
        _add(entry, of, 1, "key", "string")
        _add(entry, of, 2, "value", kind[2:])
        kind = f"[]{entry.name}"
    kind = kind.removeprefix("[]")
    if kind in _PLAIN:
        told.type = _PLAIN[kind]
        return
    told.type = _FIELD.TYPE_MESSAGE
    told.type_name = f".{PACKAGE}.{kind if kind in MESSAGES else f'{of}.{kind}'}"


def _classes() -> Iterator[tuple[str, Any]]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(described())
    for name in MESSAGES:
        yield name, message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


CLASSES: dict[str, Any] = dict(_classes())
