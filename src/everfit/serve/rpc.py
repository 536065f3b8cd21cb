"""The Open Inference Protocol v2 by gRPC: a second door to the same models. The one door to `grpc`.

Takes an address and the server's services; gives answers as the HTTP routes do; never reads a tensor itself: messages
become what `v2` reads. `ids`, `times` and, of an answer of two models, `versions` are parameters that hold a JSON list
as text, since gRPC's hold no lists.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any

import grpc
import orjson
from google.protobuf.message import DecodeError
from polars.exceptions import PanicException

from everfit.clock import ticks
from everfit.errors import Refused, Unavailable, UsageError
from everfit.serve.rows import read_json
from everfit.serve.rpc_words import CLASSES, CONTENTS, SERVICE
from everfit.serve.service import Service
from everfit.serve.tracing import Trace, Tracer
from everfit.serve.v2 import EXTENSIONS, V2Ask
from everfit.serve.web import Fault, Load, Share, fault_of

LAST_ANSWERS = 10  # seconds that requests in flight may take when the server ends
LISTS = ("ids", "times")
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_Answering = Callable[[Any, Trace | None], Awaitable[Any]]


class Rpc:
    """Start it in the event loop of the services, stop it before they close."""

    def __init__(self, address: str, tracer: Tracer | None = None) -> None:
        """Name the address; nothing listens yet."""
        self._address, self._tracer = address, tracer
        self._services: dict[str, Service] = {}
        self._load = Load(0)
        self._server: Any = None
        self.port = 0  # where it listens, once it does

    async def start(self, services: dict[str, Service], load: Load) -> None:
        """Listen and answer; messages count to the server's `load`.

        Raises:
            UsageError: the address cannot be used.
        """
        self._services, self._load = services, load
        most = max(service.serving.limits.body for service in services.values())
        options = [("grpc.max_receive_message_length", most), ("grpc.so_reuseport", 1)]
        self._server = grpc.aio.server(options=options)
        calls: dict[str, _Answering] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
            "RepositoryIndex": self.repository_index,
        }
        handlers = {name: self._handler(name, call) for name, call in calls.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise UsageError(f"gRPC cannot listen on {self._address}: {error}; choose another port") from error
        await self._server.start()

    async def stop(self) -> None:
        """Take no more, and answer what was taken."""
        if self._server is not None:
            await self._server.stop(LAST_ANSWERS)

    # ---- calls ---------------------------------------------------------------------------------------

    async def server_live(self, _: Any, __: Trace | None) -> Any:
        """The process is up."""
        return CLASSES["ServerLiveResponse"](live=True)

    async def server_ready(self, _: Any, __: Trace | None) -> Any:
        """Every model answers."""
        return CLASSES["ServerReadyResponse"](ready=all(map(_is_ready, self._services.values())))

    async def model_ready(self, asked: Any, _: Trace | None) -> Any:
        """This version of this model answers; one that is not served here does not."""
        try:
            service = self._service(asked.name)
            service.at_version(asked.version)
        except (Fault, Unavailable):
            return CLASSES["ModelReadyResponse"](ready=False)
        return CLASSES["ModelReadyResponse"](ready=_is_ready(service))

    async def server_metadata(self, _: Any, __: Trace | None) -> Any:
        """The server and its extensions."""
        told = {"name": "everfit", "version": version("everfit"), "extensions": EXTENSIONS}
        return CLASSES["ServerMetadataResponse"](**told)

    async def model_metadata(self, asked: Any, _: Trace | None) -> Any:
        """Inputs and outputs."""
        return CLASSES["ModelMetadataResponse"](**self._service(asked.name).metadata(asked.version))

    async def repository_index(self, asked: Any, _: Trace | None) -> Any:
        """The models of this server and their state."""
        states = [each.state() for each in self._services.values()]
        kept = [state for state in states if state["state"] == "READY" or not asked.ready]
        return CLASSES["RepositoryIndexResponse"](models=kept)

    async def model_infer(self, asked: Any, trace: Trace | None) -> Any:
        """Ask the model. Raises as `Service.answer`."""
        began, service = ticks(), self._service(asked.model_name)
        share = Share(self._load, service.counts)
        try:
            share.take(asked.ByteSize())
            parsed, rest = plain_of(asked)
            ask = V2Ask(rest, 0, service.name, parsed)
            answered = await service.answer(ask, began, asked.model_version or None, trace)
        finally:
            share.leave()
        return message_of(*ask.parts(answered))

    def _service(self, name: str) -> Service:
        if (found := self._services.get(name)) is None:
            listed = ", ".join(repr(each) for each in self._services)
            raise Fault(404, f"no model {name!r} is served here; there is {listed}")
        return found

    # ---- around every call ---------------------------------------------------------------------------

    def _handler(self, name: str, call: _Answering) -> Any:
        path, message = f"/{SERVICE}/{name}", CLASSES[f"{name}Request"]

        async def answer(sent: bytes, context: Any) -> Any:
            began, trace, asked = ticks(), None, None
            if self._tracer is not None:
                heads = dict(context.invocation_metadata() or ())
                trace = self._tracer.begin(path, str(heads.get("traceparent", "")), began)
            fault, told = None, None
            try:
                asked = _read(message, sent)
                told = await call(asked, trace)
            except (Exception, PanicException) as error:  # the last border: no failure is without an answer
                fault = fault_of(error, path)
            status = fault.status if fault else 200
            model = getattr(asked, "model_name", "") or getattr(asked, "name", "")
            if model in self._services:
                self._services[model].counts.answered(path, status, ticks() - began)
            if trace is not None:
                trace.end(status)
            if fault is not None:
                await context.abort(_CODES.get(status, grpc.StatusCode.INTERNAL), str(fault))
            return told

        return grpc.unary_unary_rpc_method_handler(
            answer,
            response_serializer=CLASSES[f"{name}Response"].SerializeToString,
        )


def _read(message: Any, sent: bytes) -> Any:
    try:
        return message.FromString(sent)
    except DecodeError:  # grpc itself would say that the server failed
        raise Refused(f"these bytes are no {message.DESCRIPTOR.name}") from None


def _is_ready(service: Service) -> bool:
    try:
        service.ready()
    except Unavailable:
        return False
    return True


def plain_of(asked: Any) -> tuple[dict[str, Any], bytes]:
    """A `ModelInferRequest` as `v2` reads requests: its JSON as a plain object, and the bytes of its tensors.

    Raises:
        Refused: it mixes bytes and values, or a value is not text in UTF-8.
    """
    raw = list(asked.raw_input_contents)
    if raw and len(raw) != len(asked.inputs):
        raise Refused(f"raw_input_contents has {len(raw)} tensors and inputs {len(asked.inputs)}; send one for each")
    inputs = [_input(told, raw[place] if raw else None) for place, told in enumerate(asked.inputs)]
    wanted = [{"name": told.name, "parameters": {"binary_data": bool(raw)}} for told in asked.outputs]
    parameters = {**_parameters(asked.parameters), "binary_data_output": bool(raw)}
    parsed = {"inputs": inputs, "outputs": wanted, "parameters": parameters}
    return ({"id": asked.id} if asked.id else {}) | parsed, b"".join(raw)


def _input(told: Any, raw: bytes | None) -> dict[str, Any]:
    made = {"name": told.name, "datatype": told.datatype, "shape": list(told.shape)}
    if raw is not None:
        if told.HasField("contents"):
            raise Refused(f"tensor {told.name!r}: send contents or raw_input_contents, not both")
        return made | {"parameters": {"binary_data_size": len(raw)}}
    where = CONTENTS.get(told.datatype)
    values = list(getattr(told.contents, where)) if where else []
    if where != "bytes_contents":
        return made | {"data": values}
    try:
        return made | {"data": [value.decode() for value in values]}
    except UnicodeDecodeError:
        raise Refused(f"tensor {told.name!r}: a value is not text in UTF-8") from None


def _parameters(told: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in told.items():
        choice = value.WhichOneof("parameter_choice")
        plain[name] = getattr(value, choice) if choice else None
        if name in LISTS and isinstance(plain[name], str):
            plain[name] = read_json(plain[name].encode())
    return plain


def message_of(told: Mapping[str, Any], tensors: list[bytes]) -> Any:
    """What `V2Ask.parts` gives as a `ModelInferResponse`; lists among its parameters become JSON text."""
    made = CLASSES["ModelInferResponse"](
        model_name=told["model_name"], model_version=told["model_version"], id=told.get("id", "")
    )
    for name, value in told["parameters"].items():
        if isinstance(value, int):
            made.parameters[name].int64_param = value
        else:
            made.parameters[name].string_param = value if isinstance(value, str) else orjson.dumps(value).decode()
    for output, data in zip(told["outputs"], tensors, strict=True):
        tensor = made.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        if "data" not in output:
            made.raw_output_contents.append(data)
            continue
        texts = output["datatype"] == "BYTES"
        values = [str(value).encode() for value in output["data"]] if texts else output["data"]
        getattr(tensor.contents, CONTENTS[output["datatype"]]).extend(values)
    return made
