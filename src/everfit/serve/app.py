"""The server's routes.

Takes a `Serving`; gives an ASGI application; never blocks its event loop, and answers every failure with
`{"error": "..."}` that names the field and not the row.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import orjson
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from everfit.clock import ticks
from everfit.errors import EverfitError, ModelUnusable, Refused, Unavailable
from everfit.ports import Batch, Table
from everfit.serve.counts import Counts
from everfit.serve.intake import take_in
from everfit.serve.log import PredictionLog
from everfit.serve.predict import Answer, Denial, predict
from everfit.serve.protocol import Answered, Asked, answer_mlflow, answer_v2, ask_mlflow, ask_v2, metadata_v2
from everfit.serve.routing import Live, Served
from everfit.serve.rows import ARROW
from everfit.serve.serving import LogMode, Serving

MOST_BYTES = 64 * 2**20
NUMBER_HEADER = "everfit-number"
JSON = "application/json"
STATUS: tuple[tuple[type[EverfitError], int], ...] = ((Refused, 400), (Unavailable, 503))  # else 500

_say = logging.getLogger("everfit.serve")
_Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(serving: Serving, *, port: int = 0) -> Starlette:
    """The application of one model; `port` is only told to the gateway."""
    return _App(serving, port).starlette()


@dataclass(frozen=True, slots=True)
class _Scored:
    asked: Asked
    outcome: Answer | Denial


class _App:
    def __init__(self, serving: Serving, port: int) -> None:
        self.serving = serving
        self._wanted = 0  # the latest batch that a client waits for
        self.counts = Counts(serving.model)
        self.live = Live(serving.home, serving.loader, self.counts, port=port)
        self.log = PredictionLog(serving.journal)
        self.counts.watch_waiting(lambda: self.log.waiting)
        # One thread scores: models need not be thread-safe, and two would only take the processor from each
        # other.
        self.scorer = ThreadPoolExecutor(1, thread_name_prefix="everfit-score")

    def starlette(self) -> Starlette:
        v2 = "/v2/models/{name}"
        table: list[tuple[str, str, _Endpoint]] = [
            ("GET", "/ping", self.ping),
            ("GET", "/health", self.ping),
            ("GET", "/version", self.version),
            ("GET", "/metrics", self.metrics),
            ("GET", "/v1/clock", self.clock),
            ("POST", "/v1/predictions", self.take_predictions),
            ("POST", "/v1/labels", self.take_labels),
            ("POST", "/invocations", self.invocations),
            ("GET", "/v2", self.about),
            ("GET", "/v2/health/live", self.is_live),
            ("GET", "/v2/health/ready", self.is_ready),
        ]
        for at in (v2, v2 + "/versions/{version}"):
            table += [
                ("GET", at, self.metadata),
                ("GET", at + "/ready", self.is_ready),
                ("POST", at + "/infer", self.infer),
            ]
        routes = [Route(path, _counted(self.counts, path, call), methods=[verb]) for verb, path, call in table]
        return Starlette(routes=routes, lifespan=self.lifespan, exception_handlers={HTTPException: _failed_http})

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.log.start()
        self.live.start()
        yield
        await to_thread.run_sync(self.live.stop)
        self.scorer.shutdown()
        await to_thread.run_sync(self.log.close)

    # ---- predictions ---------------------------------------------------------------------------------

    async def invocations(self, request: Request) -> Response:
        body, kind = await _body(request, JSON, "text/csv")
        _, answered = await self._score(lambda now: ask_mlflow(body, kind, now.model.signature.schema.names()))
        return _json(answer_mlflow(answered), headers=_number(answered))

    async def infer(self, request: Request) -> Response:
        self._is_ours(request)
        if "inference-header-content-length" in request.headers:
            raise Refused("binary tensors are not taken; ask your client for JSON (binary_data=False)")
        body, _ = await _body(request, JSON)
        asked, answered = await self._score(lambda now: self._ask_v2(request, body, now))
        return _json(answer_v2(answered, asked, self.serving.model), headers=_number(answered))

    def _ask_v2(self, request: Request, body: bytes, now: Served) -> Asked:
        self._is_version(request, now)
        return ask_v2(body)

    async def _score(self, ask: Callable[[Served], Asked]) -> tuple[Asked, Answered]:
        began = ticks()
        loop = asyncio.get_running_loop()
        scored = await loop.run_in_executor(self.scorer, self._score_now, ask, began)
        number = await self._logged(scored.outcome.log)
        if isinstance(scored.outcome, Denial):
            self.counts.took(Table.PREDICTIONS, 0, scored.outcome.log.rows.height)
            raise Refused(scored.outcome.said)
        answered = scored.outcome.answered
        self.counts.predicted(answered.version, len(answered.ids))
        return scored.asked, replace(answered, number=number)

    async def _logged(self, batch: Batch) -> int | None:
        held = self.serving.log is LogMode.HELD
        if batch.rows.is_empty():
            return self.serving.journal.last() if held else None
        if (done := self.log.offer(batch, held=held)) is None:
            done = await to_thread.run_sync(lambda: self.log.put(batch, held=held))
        if not held:
            return None
        number: int = await asyncio.wrap_future(done)
        return number

    def _score_now(self, ask: Callable[[Served], Asked], began: float) -> _Scored:
        # The model is looked up here and once: rows are read, checked and scored by one and the same.
        now = self._now()
        asked = ask(now)
        return _Scored(asked, predict(asked, now, self.serving, began))

    def _now(self) -> Served:
        if (now := self.live.current) is None:
            raise Unavailable(
                f"no champion of {self.serving.model} is live yet; `everfit status` says what it waits for"
            )
        return now

    # ---- intake --------------------------------------------------------------------------------------

    async def take_predictions(self, request: Request) -> Response:
        return await self._take(Table.PREDICTIONS, request)

    async def take_labels(self, request: Request) -> Response:
        return await self._take(Table.LABELS, request)

    async def _take(self, table: Table, request: Request) -> Response:
        body, kind = await _body(request, JSON, ARROW)
        receipt = await to_thread.run_sync(take_in, table, body, kind, self.serving)
        self.counts.took(table, receipt.acknowledged, receipt.refused)
        return _json(receipt.plain())

    # ---- how it is -----------------------------------------------------------------------------------

    async def ping(self, _: Request) -> Response:
        self._now()
        return Response("\n", media_type=JSON)

    async def version(self, _: Request) -> Response:
        return Response(version("everfit"), media_type="text/plain")

    async def metrics(self, _: Request) -> Response:
        return Response(self.counts.text(), headers={"content-type": self.counts.content_type})

    async def clock(self, request: Request) -> Response:
        asked = request.query_params.get("settle", "")
        if asked.isdecimal() and int(asked) > self._wanted:
            self._wanted = int(asked)
            await to_thread.run_sync(self._want, asked)
        return _json(await to_thread.run_sync(self._read_clock))

    def _want(self, number: str) -> None:
        """Tell the control process that somebody waits for a batch: it need not gather more rows first."""
        beside = self.serving.clock_file.with_name(f"settle.{os.getpid()}")
        beside.write_text(number)
        beside.replace(self.serving.clock_file.with_name("settle"))

    async def about(self, _: Request) -> Response:
        return _json({"name": "everfit", "version": version("everfit"), "extensions": []})

    async def is_live(self, _: Request) -> Response:
        return _json({"live": True})

    async def is_ready(self, request: Request) -> Response:
        name = request.path_params.get("name", self.serving.model)
        if name == self.serving.model and self.live.current is None:
            return _json({"ready": False, "error": f"no champion of {name} is live yet"}, 503)
        if "name" in request.path_params:
            self._is_ours(request)
            self._is_version(request, self._now())
        return _json({"ready": True, **({"name": name} if "name" in request.path_params else {})})

    async def metadata(self, request: Request) -> Response:
        self._is_ours(request)
        now = self._now()
        self._is_version(request, now)
        return _json(metadata_v2(self.serving.model, now.route.version, now.model.signature))

    def _is_ours(self, request: Request) -> None:
        if (name := request.path_params["name"]) != self.serving.model:
            raise HTTPException(404, f"no model {name!r} is served here; there is {self.serving.model!r}")

    def _is_version(self, request: Request, now: Served) -> None:
        asked = request.path_params.get("version")
        if asked is not None and asked != str(now.route.version):
            raise HTTPException(404, f"version {asked!r} does not answer; version {now.route.version} does")

    def _read_clock(self) -> dict[str, Any]:
        try:
            told = orjson.loads(self.serving.clock_file.read_bytes())
        except FileNotFoundError:
            return {"now": None, "settled": 0}
        except (OSError, ValueError) as error:
            raise Unavailable(f"the clock cannot be read: {type(error).__name__}; try again") from error
        return dict(told)


def _counted(counts: Counts, path: str, call: _Endpoint) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        began = ticks()
        response = await _guarded(call, request)
        counts.answered(path, response.status_code, ticks() - began)
        return response

    return endpoint


async def _guarded(call: _Endpoint, request: Request) -> Response:
    try:
        return await call(request)
    except HTTPException as error:
        return _failed_http(request, error)
    except EverfitError as error:
        return _failed(request, error)
    except ClientDisconnect:
        return _json({"error": "the client went away"}, 400)
    except Exception:  # the last border: what nobody expected is logged, and the client learns that it is our fault
        _say.exception("a request failed", extra={"path": request.url.path})
        return _json({"error": "the server failed; its log says why"}, 500)


def _failed(request: Request, error: EverfitError) -> Response:
    status = next((number for kind, number in STATUS if isinstance(error, kind)), 500)
    if status == 500:
        _say.error("a request failed", extra={"path": request.url.path, "reason": str(error)})
    if isinstance(error, ModelUnusable):  # what a model raises may quote the row
        return _json({"error": "the model cannot score these rows; the server's log says why"}, 500)
    return _json({"error": str(error)}, status, {"retry-after": "1"} if status == 503 else None)


def _failed_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    said = error.detail
    if error.status_code == 404 and said == "Not Found":
        said = f"there is no {request.url.path} here; see /v2 and /invocations"
    if error.status_code == 405:
        said = f"{request.method} is not taken here; try {(error.headers or {}).get('Allow', 'another method')}"
    return _json({"error": said}, error.status_code, dict(error.headers or {}))


async def _body(request: Request, *kinds: str) -> tuple[bytes, str]:
    kind = request.headers.get("content-type", JSON).split(";")[0].strip().lower() or JSON
    if kind not in kinds:
        raise HTTPException(415, f"content type {kind} is not taken here; send {' or '.join(kinds)}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "compressed bodies are not taken; send it without content-encoding")
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > MOST_BYTES:
        raise _too_large()
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise _too_large()
        parts.append(part)
    return b"".join(parts), kind


def _too_large() -> HTTPException:
    return HTTPException(
        413, f"the body is larger than {MOST_BYTES // 2**20} MB; send it in parts", {"connection": "close"}
    )


def _number(answered: Answered) -> dict[str, str] | None:
    return None if answered.number is None else {NUMBER_HEADER: str(answered.number)}


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type=JSON)
