"""The server's routes.

Takes a `Serving` for each model; gives an ASGI application; never blocks its event loop, and answers every failure
with `{"error": "..."}` that names the field and not the row.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Protocol
from urllib.parse import parse_qs

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from everfit.errors import Unavailable, UsageError
from everfit.ports import Table
from everfit.serve.counts import Counts, Meters
from everfit.serve.openapi import document
from everfit.serve.protocol import CSV, MlflowAsk
from everfit.serve.rows import ARROW
from everfit.serve.service import Service
from everfit.serve.serving import Serving
from everfit.serve.tracing import Tracer
from everfit.serve.v2 import EXTENSIONS, V2Ask
from everfit.serve.web import JSON, STATUS, Asking, Endpoint, Fault, Load, Reply, body_of, json_reply

__all__ = ["STATUS", "build_app"]

NUMBER_HEADER = "everfit-number"
BYTES = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
HEADER_LENGTH = "inference-header-content-length"
LOOK_EVERY = 1.0  # seconds between the lengths that a worker writes down for the scrapes of the others
_V2 = "/v2/models/{name}"


class Beside(Protocol):
    """Another door to the same models, opened and closed with this one."""

    async def start(self, services: dict[str, Service], load: Load) -> None:
        """Open it; what it takes counts to what the server has in hand."""
        ...

    async def stop(self) -> None:
        """Close it, when what it took is answered."""
        ...


def build_app(
    *servings: Serving, port: int = 0, tracer: Tracer | None = None, beside: Beside | None = None
) -> Starlette:
    """The application of one model or several; `port` is only told to the gateway.

    Raises:
        UsageError: two models have one name.
    """
    names = [serving.model for serving in servings]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two models are named {twice[0]!r}; one server needs different names: change `model:`")
    return _App(servings, port, tracer, beside).starlette()


class _Quick(Starlette):
    """Goes straight to the routes that ask the model: to match all others first costs as much as an answer."""

    quick: dict[str, tuple[Endpoint, dict[str, str]]]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        found = self.quick.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await super().__call__(scope, receive, send)
            return
        scope["path_params"] = found[1]
        await found[0](scope, receive, send)


class _App:
    def __init__(self, servings: Sequence[Serving], port: int, tracer: Tracer | None, beside: Beside | None) -> None:
        self.meters = Meters()
        self.services = {serving.model: Service(serving, self.meters, port) for serving in servings}
        self.only = next(iter(self.services.values())) if len(self.services) == 1 else None
        self.tracer, self.beside = tracer, beside
        self.load = Load(max(serving.limits.bytes for serving in servings))
        # What belongs to no model is counted without a name where there are several.
        self.counts = self.only.counts if self.only else Counts("", self.meters)

    def starlette(self) -> Starlette:
        table = [
            ("GET", "/ping", self.ping),
            ("GET", "/health", self.ping),
            ("GET", "/version", self.version),
            ("GET", "/metrics", self.metrics),
            ("GET", "/openapi.json", self.openapi),
            ("GET", "/v2", self.about),
            ("GET", "/v2/health/live", self.is_live),
            ("GET", "/v2/health/ready", self.are_ready),
            ("GET", "/v2/models", self.models),
            ("POST", "/v2/repository/index", self.index),
            ("POST", "/invocations", self.invocations),
            ("POST", "/endpoints/{name}/invocations", self.invocations),
        ]
        for at in ("/v1", "/v1/models/{name}"):
            table += [
                ("GET", at + "/clock", self.clock),
                ("POST", at + "/predictions", self.take_predictions),
                ("POST", at + "/labels", self.take_labels),
            ]
        for at in (_V2, _V2 + "/versions/{version}"):
            table += [
                ("GET", at, self.metadata),
                ("GET", at + "/ready", self.is_ready),
                ("POST", at + "/infer", self.infer),
            ]
        each = {name: service.counts for name, service in self.services.items()}
        ends = {
            (verb, path): Endpoint(path, call, self.counts, each, self.load, self.tracer) for verb, path, call in table
        }
        routes = [Route(path, end, methods=[verb]) for (verb, path), end in ends.items()]
        app = _Quick(routes=routes, lifespan=self.lifespan, exception_handlers={HTTPException: self.lost})
        app.router.redirect_slashes = False  # a client that posts does not follow, and would read no reason
        app.quick = {"/invocations": (ends["POST", "/invocations"], {})}
        for name in self.services:
            for path in ("/endpoints/{name}/invocations", _V2 + "/infer"):
                app.quick[path.format(name=name)] = ends["POST", path], {"name": name}
        return app

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await asyncio.gather(*(service.start() for service in self.services.values()))
        looking = asyncio.create_task(self._look()) if self.meters.shared else None
        if self.beside:
            await self.beside.start(self.services, self.load)
        yield
        if looking:
            looking.cancel()
        if self.beside:
            await self.beside.stop()
        await asyncio.gather(*(service.close() for service in self.services.values()))
        if self.tracer:
            await asyncio.to_thread(self.tracer.close)

    async def _look(self) -> None:
        while True:
            self.meters.look()
            await asyncio.sleep(LOOK_EVERY)

    def lost(self, request: Request, error: Exception) -> Response:
        """What the router itself refuses: no such path, or not with this verb."""
        status, headers = (
            (error.status_code, dict(error.headers or {})) if isinstance(error, HTTPException) else (500, {})
        )
        said = f"there is no {request.url.path[:200]} here; see /openapi.json"
        if status == 405:
            said = f"{request.method} is not taken here; try {headers.get('Allow', 'another method')}"
        self.counts.answered("", status, 0.0)
        return Response(orjson.dumps({"error": said}), status, headers, media_type=JSON)

    def _service(self, asking: Asking) -> Service:
        """The model that a path names; without a name, the only one."""
        name = asking.parts.get("name")
        if name is None:
            if self.only is None:
                raise Fault(400, f"{_many(self.services)} are served here; {_REMEDY}")
            return self.only
        if (found := self.services.get(name)) is None:
            raise Fault(404, f"no model {name!r} is served here; there is {_many(self.services)}")
        return found

    # ---- predictions ---------------------------------------------------------------------------------

    async def invocations(self, asking: Asking) -> Reply:
        service = self._service(asking)
        body, kind = await body_of(asking, service.serving.limits.body, JSON, CSV)
        ask = MlflowAsk(body, kind)
        answered = await service.answer(ask, asking.began, None, asking.trace)
        return json_reply(ask.answer(answered), 200, *_number(answered.number))

    async def infer(self, asking: Asking) -> Reply:
        service = self._service(asking)
        body, _ = await body_of(asking, service.serving.limits.body, JSON, BYTES)
        header = asking.head(HEADER_LENGTH.encode())
        if header and not (header.isascii() and header.isdigit() and len(header) < 19):
            raise Fault(400, "Inference-Header-Content-Length must be a whole number")
        ask = V2Ask(body, int(header) if header else None, service.name)
        answered = await service.answer(ask, asking.began, asking.parts.get("version"), asking.trace)
        made, length = ask.answer(answered)
        if length is None:
            return Reply(made, headers=_number(answered.number))
        return Reply(made, 200, BYTES, (*_number(answered.number), (HEADER_LENGTH, str(length))))

    # ---- intake --------------------------------------------------------------------------------------

    async def take_predictions(self, asking: Asking) -> Reply:
        return await self._take(Table.PREDICTIONS, asking)

    async def take_labels(self, asking: Asking) -> Reply:
        return await self._take(Table.LABELS, asking)

    async def _take(self, table: Table, asking: Asking) -> Reply:
        service = self._service(asking)
        body, kind = await body_of(asking, service.serving.limits.body, JSON, ARROW)
        receipt = await service.take_in(table, body, kind)
        return json_reply(receipt.plain())

    # ---- how it is -----------------------------------------------------------------------------------

    async def ping(self, _: Asking) -> Reply:
        for service in self.services.values():
            service.ready()
        return Reply(b"\n", kind=TEXT)

    async def version(self, _: Asking) -> Reply:
        return Reply(version("everfit").encode(), kind=TEXT)

    async def metrics(self, _: Asking) -> Reply:
        return Reply(self.meters.text(), kind=self.meters.content_type)

    async def openapi(self, _: Asking) -> Reply:
        live = {name: service.live.current for name, service in self.services.items()}
        return json_reply(document({name: now.model.signature if now else None for name, now in live.items()}))

    async def clock(self, asking: Asking) -> Reply:
        settle = parse_qs(asking.query.decode("latin-1")).get("settle", [""])[-1]
        return json_reply(await self._service(asking).clock(settle))

    async def about(self, _: Asking) -> Reply:
        return json_reply({"name": "everfit", "version": version("everfit"), "extensions": list(EXTENSIONS)})

    async def is_live(self, _: Asking) -> Reply:
        return json_reply({"live": True})

    async def are_ready(self, _: Asking) -> Reply:
        try:
            for service in self.services.values():
                service.ready()
        except Unavailable as error:
            return json_reply({"ready": False, "error": str(error)}, 503)
        return json_reply({"ready": True})

    async def is_ready(self, asking: Asking) -> Reply:
        service = self._service(asking)
        try:
            service.at_version(asking.parts.get("version"))
            service.ready()
        except Unavailable as error:
            return json_reply({"ready": False, "name": service.name, "error": str(error)}, 503)
        return json_reply({"ready": True, "name": service.name})

    async def models(self, _: Asking) -> Reply:
        return json_reply({"models": list(self.services)})

    async def index(self, _: Asking) -> Reply:
        return json_reply([service.state() for service in self.services.values()])

    async def metadata(self, asking: Asking) -> Reply:
        return json_reply(self._service(asking).metadata(asking.parts.get("version")))


_REMEDY = "name one: /endpoints/<name>/invocations, /v2/models/<name>/infer, /v1/models/<name>/labels"


def _many(services: dict[str, Service]) -> str:
    return ", ".join(repr(name) for name in services)


def _number(number: int | None) -> tuple[tuple[str, str], ...]:
    return () if number is None else ((NUMBER_HEADER, str(number)),)
