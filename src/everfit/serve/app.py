"""The server's routes.

Takes a `Serving`; gives an ASGI application; never blocks its event loop, and answers every failure with
`{"error": "..."}` that names the field and not the row.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from everfit.errors import Unavailable
from everfit.ports import Table
from everfit.serve.batch import Scorer
from everfit.serve.counts import Counts
from everfit.serve.intake import take_in
from everfit.serve.log import PredictionLog
from everfit.serve.openapi import document
from everfit.serve.protocol import CSV, MlflowAsk
from everfit.serve.routing import Live, Served
from everfit.serve.rows import ARROW
from everfit.serve.serving import Serving
from everfit.serve.v2 import EXTENSIONS, V2Ask, metadata_v2
from everfit.serve.web import JSON, STATUS, Asking, Endpoint, Fault, Reply, body_of, json_reply

__all__ = ["STATUS", "build_app"]

NUMBER_HEADER = "everfit-number"
BYTES = "application/octet-stream"
HEADER_LENGTH = "inference-header-content-length"
_V2 = "/v2/models/{name}"


def build_app(serving: Serving, *, port: int = 0) -> Starlette:
    """The application of one model; `port` is only told to the gateway."""
    return _App(serving, port).starlette()


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
    def __init__(self, serving: Serving, port: int) -> None:
        self.serving = serving
        self._wanted = 0  # the latest batch that a client waits for
        self.counts = Counts(serving.model)
        self.live = Live(serving.home, serving.loader, self.counts, port=port)
        self.log = PredictionLog(serving.journal)
        # One thread scores: models need not be thread-safe, and two would only take the processor from each
        # other.
        self.scorer = Scorer(serving, lambda: self.live.current, self.log, self.counts)
        self.counts.watch(lambda: self.scorer.waiting, lambda: self.log.waiting, lambda: self.log.lag)

    def starlette(self) -> Starlette:
        table = [
            ("GET", "/ping", self.ping),
            ("GET", "/health", self.ping),
            ("GET", "/version", self.version),
            ("GET", "/metrics", self.metrics),
            ("GET", "/openapi.json", self.openapi),
            ("GET", "/v1/clock", self.clock),
            ("POST", "/v1/predictions", self.take_predictions),
            ("POST", "/v1/labels", self.take_labels),
            ("POST", "/invocations", self.invocations),
            ("POST", "/endpoints/{name}/invocations", self.invocations),
            ("GET", "/v2", self.about),
            ("GET", "/v2/health/live", self.is_live),
            ("GET", "/v2/health/ready", self.is_ready),
            ("GET", "/v2/models", self.models),
            ("POST", "/v2/repository/index", self.index),
        ]
        for at in (_V2, _V2 + "/versions/{version}"):
            table += [
                ("GET", at, self.metadata),
                ("GET", at + "/ready", self.is_ready),
                ("POST", at + "/infer", self.infer),
            ]
        ends = {(verb, path): Endpoint(path, call, self.counts) for verb, path, call in table}
        routes = [Route(path, end, methods=[verb]) for (verb, path), end in ends.items()]
        app = _Quick(routes=routes, lifespan=self.lifespan, exception_handlers={HTTPException: self.lost})
        name = self.serving.model
        app.quick = {"/invocations": (ends["POST", "/invocations"], {})}
        for path in ("/endpoints/{name}/invocations", _V2 + "/infer"):
            app.quick[path.format(name=name)] = ends["POST", path], {"name": name}
        return app

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.log.start()
        self.live.start()
        self.scorer.start()
        yield
        await asyncio.to_thread(self.live.stop)
        await asyncio.to_thread(self.scorer.close)
        await asyncio.to_thread(self.log.close)

    def lost(self, request: Request, error: Exception) -> Response:
        """What the router itself refuses: no such path, or not with this verb."""
        status, headers = (
            (error.status_code, dict(error.headers or {})) if isinstance(error, HTTPException) else (500, {})
        )
        said = f"there is no {request.url.path} here; see /openapi.json"
        if status == 405:
            said = f"{request.method} is not taken here; try {headers.get('Allow', 'another method')}"
        self.counts.answered("", status, 0.0)
        return Response(orjson.dumps({"error": said}), status, headers, media_type=JSON)

    # ---- predictions ---------------------------------------------------------------------------------

    async def invocations(self, asking: Asking) -> Reply:
        self._is_ours(asking)
        body, kind = await body_of(asking, self.serving.limits.body, JSON, CSV)
        ask = MlflowAsk(body, kind)
        answered = await self.scorer.submit(ask, asking.began, len(body))
        return json_reply(ask.answer(answered), 200, *_number(answered.number))

    async def infer(self, asking: Asking) -> Reply:
        self._is_ours(asking)
        body, _ = await body_of(asking, self.serving.limits.body, JSON, BYTES)
        header = asking.head(HEADER_LENGTH.encode())
        if header and not (header.isascii() and header.isdigit() and len(header) < 19):
            raise Fault(400, "Inference-Header-Content-Length must be a whole number")
        ask = V2Ask(body, int(header) if header else None, self.serving.model)
        answered = await self.scorer.submit(ask, asking.began, len(body), asking.parts.get("version"))
        made, length = ask.answer(answered)
        if length is None:
            return Reply(made, headers=_number(answered.number))
        return Reply(made, 200, BYTES, (*_number(answered.number), (HEADER_LENGTH, str(length))))

    def _now(self) -> Served:
        if (now := self.live.current) is None:
            raise Unavailable(
                f"no champion of {self.serving.model} is live yet; `everfit status` says what it waits for"
            )
        return now

    # ---- intake --------------------------------------------------------------------------------------

    async def take_predictions(self, asking: Asking) -> Reply:
        return await self._take(Table.PREDICTIONS, asking)

    async def take_labels(self, asking: Asking) -> Reply:
        return await self._take(Table.LABELS, asking)

    async def _take(self, table: Table, asking: Asking) -> Reply:
        body, kind = await body_of(asking, self.serving.limits.body, JSON, ARROW)
        receipt = await asyncio.to_thread(take_in, table, body, kind, self.serving)
        self.counts.took(table, receipt.acknowledged, receipt.refused)
        return json_reply(receipt.plain())

    # ---- how it is -----------------------------------------------------------------------------------

    async def ping(self, _: Asking) -> Reply:
        self._now()
        return Reply(b"\n")

    async def version(self, _: Asking) -> Reply:
        return Reply(version("everfit").encode(), kind="text/plain; charset=utf-8")

    async def metrics(self, _: Asking) -> Reply:
        return Reply(self.counts.text(), kind=self.counts.content_type)

    async def openapi(self, _: Asking) -> Reply:
        now = self.live.current
        return json_reply(document(self.serving.model, now.model.signature if now else None))

    async def clock(self, asking: Asking) -> Reply:
        asked = parse_qs(asking.query.decode("latin-1")).get("settle", [""])[-1]
        if asked.isascii() and asked.isdigit() and len(asked) < 19 and int(asked) > self._wanted:
            self._wanted = int(asked)
            await asyncio.to_thread(self._want, asked)
        return json_reply(await asyncio.to_thread(self._read_clock))

    def _want(self, number: str) -> None:
        """Tell the control process that somebody waits for a batch: it need not gather more rows first."""
        beside = self.serving.clock_file.with_name(f"settle.{os.getpid()}")
        beside.write_text(number)
        beside.replace(self.serving.clock_file.with_name("settle"))

    async def about(self, _: Asking) -> Reply:
        return json_reply({"name": "everfit", "version": version("everfit"), "extensions": list(EXTENSIONS)})

    async def is_live(self, _: Asking) -> Reply:
        return json_reply({"live": True})

    async def is_ready(self, asking: Asking) -> Reply:
        self._is_ours(asking)
        if (now := self.live.current) is None:
            return json_reply({"ready": False, "error": f"no champion of {self.serving.model} is live yet"}, 503)
        self._is_version(asking, now)
        return json_reply({"ready": True, **({"name": self.serving.model} if "name" in asking.parts else {})})

    async def models(self, _: Asking) -> Reply:
        return json_reply({"models": [self.serving.model]})

    async def index(self, _: Asking) -> Reply:
        now = self.live.current
        state = {"version": str(now.route.version), "state": "READY"} if now else {"state": "UNAVAILABLE"}
        return json_reply([{"name": self.serving.model, **state, "reason": "" if now else "no champion is live yet"}])

    async def metadata(self, asking: Asking) -> Reply:
        self._is_ours(asking)
        now = self._now()
        self._is_version(asking, now)
        return json_reply(metadata_v2(self.serving.model, now.route.version, now.model.signature))

    def _is_ours(self, asking: Asking) -> None:
        if (name := asking.parts.get("name", self.serving.model)) != self.serving.model:
            raise Fault(404, f"no model {name!r} is served here; there is {self.serving.model!r}")

    @staticmethod
    def _is_version(asking: Asking, now: Served) -> None:
        asked = asking.parts.get("version")
        if asked is not None and asked != str(now.route.version):
            raise Fault(404, f"version {asked!r} does not answer; version {now.route.version} does")

    def _read_clock(self) -> dict[str, Any]:
        try:
            told = orjson.loads(self.serving.clock_file.read_bytes())
        except FileNotFoundError:
            return {"now": None, "settled": 0}
        except (OSError, ValueError) as error:
            raise Unavailable(f"the clock cannot be read: {type(error).__name__}; try again") from error
        return dict(told)


def _number(number: int | None) -> tuple[tuple[str, str], ...]:
    return () if number is None else ((NUMBER_HEADER, str(number)),)
