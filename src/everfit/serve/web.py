"""Requests and replies on the wire, for every route alike.

Takes what an ASGI server hands on; gives whole bodies, unpacked, and replies, packed where the client takes that;
every failure is `{"error": "..."}`; never a row's content in it.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from polars.exceptions import PanicException

from everfit.clock import ticks
from everfit.errors import EverfitError, ModelUnusable, Refused, Unavailable
from everfit.serve.counts import Counts
from everfit.serve.tracing import Trace, Tracer

JSON = "application/json"
STATUS: tuple[tuple[type[EverfitError], int], ...] = ((Refused, 400), (Unavailable, 503))  # else 500
PACKED = {"gzip": 31, "deflate": 15}  # zlib's numbers for its two wrappings
WORTH_PACKING = 1024  # bytes; below, packing costs more than it saves
UNPACK_AT_ONCE = 2**18  # bytes; what unpacks to more leaves the event loop alone

_say = logging.getLogger("everfit.serve")
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


class Fault(Exception):
    """A request that cannot be answered: its status and why."""

    def __init__(self, status: int, said: str, *headers: tuple[str, str]) -> None:
        """Say what the client reads."""
        super().__init__(said)
        self.status, self.headers = status, headers


class Load:
    """The bytes of all requests that a server has in hand, from their arrival to their answer."""

    def __init__(self, most: int) -> None:
        """Say how many there may be."""
        self._most, self._now = most, 0

    def take(self, size: int) -> bool:
        """Whether so many more may come."""
        if self._now + size > self._most:
            return False
        self._now += size
        return True

    def leave(self, size: int) -> None:
        """So many are answered."""
        self._now -= size


class Share:
    """What one request has of a `Load`."""

    __slots__ = ("_counts", "_load", "_mine")

    def __init__(self, load: Load, counts: Counts) -> None:
        """It has nothing yet."""
        self._load, self._counts, self._mine = load, counts, 0

    def take(self, size: int) -> None:
        """Let so many bytes more come.

        Raises:
            Unavailable: the server has too much in hand.
        """
        if not self._load.take(size):
            self._counts.overloaded()
            raise Unavailable("too much is under way to this server; come again a little later")
        self._mine += size

    def leave(self) -> None:
        """The request is answered."""
        self._load.leave(self._mine)
        self._mine = 0


@dataclass(frozen=True, slots=True)
class Asking:
    """One request."""

    heads: dict[bytes, bytes]  # names in small letters
    receive: _Receive
    parts: dict[str, str]  # of the path
    query: bytes
    began: float  # ticks
    share: Share
    trace: Trace | None = None  # where somebody follows requests

    def head(self, name: bytes) -> str:
        """A header's value; empty if it did not come."""
        return self.heads.get(name, b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    body: bytes
    status: int = 200
    kind: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


_Answering = Callable[[Asking], Awaitable[Reply]]


def json_reply(content: Any, status: int = 200, *headers: tuple[str, str]) -> Reply:
    """A reply in JSON."""
    return Reply(orjson.dumps(content), status, JSON, headers)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route as an ASGI application. What it raises becomes a reply, and every reply is counted."""

    path: str
    answering: _Answering
    counts: Counts = field(repr=False)  # of requests that name no model
    each: Mapping[str, Counts] = field(repr=False)  # of those that name one
    load: Load = field(repr=False)
    tracer: Tracer | None = None

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        heads, began = dict(scope["headers"]), ticks()
        parts: dict[str, str] = scope.get("path_params") or {}
        trace = None
        if self.tracer is not None:
            trace = self.tracer.begin(self.path, heads.get(b"traceparent", b"").decode("latin-1"), began)
        counts = self.each.get(parts["name"], self.counts) if "name" in parts else self.counts
        share = Share(self.load, counts)
        asking = Asking(heads, receive, parts, scope["query_string"], began, share, trace)
        try:
            reply = await self.answering(asking)
        except asyncio.CancelledError:  # it is let go when the server ends and cannot wait any longer
            reply = failure(Unavailable("the server is ending; send the request again"), self.path)
        except (Exception, PanicException) as error:  # the last border: no failure is without an answer
            reply = failure(error, self.path)
        finally:
            share.leave()
        if len(reply.body) >= WORTH_PACKING and b"accept-encoding" in heads:
            reply = packed(reply, asking.head(b"accept-encoding"))
        counts.answered(self.path, reply.status, ticks() - began)
        if trace is not None:
            trace.end(reply.status)
        head = [(b"content-type", reply.kind.encode()), (b"content-length", str(len(reply.body)).encode())]
        head += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": head})
        await send({"type": "http.response.body", "body": reply.body})


def failure(error: BaseException, path: str) -> Reply:
    """What a client reads of a failure.

    >>> failure(Refused("field 'a': not a number"), "/invocations").status
    400
    """
    fault = fault_of(error, path)
    return json_reply({"error": str(fault)}, fault.status, *fault.headers)


def fault_of(error: BaseException, path: str) -> Fault:
    """The status of a failure, and what a client may read of it."""
    if isinstance(error, Fault):
        return error
    if not isinstance(error, EverfitError):
        # What nobody expected is logged, and the client learns that it is our fault.
        _say.error("a request failed", extra={"path": path}, exc_info=error)
        return Fault(500, "the server failed; its log says why")
    status = next((number for kind, number in STATUS if isinstance(error, kind)), 500)
    if status == 500:
        _say.error("a request failed", extra={"path": path, "reason": str(error)})
    if isinstance(error, ModelUnusable):  # what a model raises may quote the row
        return Fault(500, "the model cannot score these rows; the server's log says why")
    again = [("retry-after", "1")] if status == 503 else []
    return Fault(status, str(error), *again)


async def body_of(asking: Asking, most: int, *kinds: str) -> tuple[bytes, str]:
    """The whole body, unpacked, and its content type. `kinds` are those that are taken.

    Raises:
        Fault: it is of another kind, too large, or not packed as it says.
        Unavailable: the server has too much in hand.
    """
    kind = asking.head(b"content-type").split(";")[0].strip().lower() or kinds[0]
    if kind not in kinds:
        raise Fault(415, f"content type {kind[:80]} is not taken here; send {' or '.join(kinds)}")
    packing = asking.head(b"content-encoding").strip().lower() or "identity"
    if packing not in {"identity", *PACKED}:
        raise Fault(
            415, f"content encoding {packing[:80]} is not taken; send {', '.join(PACKED)}, or the body as it is"
        )
    told = asking.head(b"content-length")
    if told.isdigit() and int(told) > most:
        raise _too_large(most)
    body = await _whole(asking, most)
    if packing == "identity":
        return body, kind
    whole = _unpacked(body, packing, UNPACK_AT_ONCE)
    if whole is None:
        whole = await asyncio.to_thread(_unpacked, body, packing, most)
    if whole is None:  # a small body may unpack to a huge one
        raise _too_large(most)
    asking.share.take(len(whole))
    return whole, kind


def packed(reply: Reply, accepted: str) -> Reply:
    """The reply in the first packing that the client takes; as it is if it takes none.

    >>> packed(Reply(b"a" * 2000), "br, gzip;q=0.5").headers
    (('content-encoding', 'gzip'), ('vary', 'accept-encoding'))
    """
    for each in accepted.lower().split(","):
        name, _, weight = each.partition(";")
        if name.strip() in PACKED and weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            making = zlib.compressobj(1, zlib.DEFLATED, PACKED[name.strip()])
            body = making.compress(reply.body) + making.flush()
            headers = (*reply.headers, ("content-encoding", name.strip()), ("vary", "accept-encoding"))
            return Reply(body, reply.status, reply.kind, headers)
    return reply


async def _whole(asking: Asking, most: int) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await asking.receive()
        if message["type"] == "http.disconnect":
            raise Fault(400, "the client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        asking.share.take(len(part))
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unpacked(body: bytes, packing: str, most: int) -> bytes | None:
    """The body, or None if it has more bytes than that."""
    taking = zlib.decompressobj(PACKED[packing])
    try:
        whole = taking.decompress(body, most + 1)
    except zlib.error:
        raise Fault(400, f"the body is not {packing} data") from None
    if len(whole) > most:
        return None
    if not taking.eof:
        raise Fault(400, f"the body ends within its {packing} data")
    if taking.unused_data:  # a second member would be lost without a word, and thousands of them cost too much
        raise Fault(400, f"bytes follow the body's {packing} data; pack it as one")
    return whole


def _too_large(most: int) -> Fault:
    # The connection stays: who is still sending would meet its end before he reads why.
    return Fault(413, f"the body is larger than {most // 2**20} MB; send it in parts")
