"""One connection of a client: HTTP/1.1 as uvicorn speaks it, within limits of size and time. A door to `httptools`.

Takes bytes of a socket; gives whole heads to the application, and a reply in JSON where there is no request to answer;
never waits for ever for the rest of a request, and never closes on a client that is about to send the next one.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MOST_HEAD = 64 * 2**10  # bytes of a request's line and headers, beyond the piece that they end in
ARRIVE_WITHIN = 60.0  # seconds from a request's first byte to its last: 64 MB at 9 Mbit/s
LAST_REQUEST = 0.5  # seconds that a connection stays open after it was given up: its client may be sending
_UPGRADING = {b"upgrade", b"http2-settings"}  # headers that ask for another protocol


class Connection(HttpToolsProtocol):
    """Uvicorn makes one for each connection."""

    arrive_within = ARRIVE_WITHIN
    last_request = LAST_REQUEST

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As uvicorn makes it."""
        super().__init__(*args, **kwargs)
        self._head_size = 0
        self._is_in_head = self._is_coming = self._is_refused = self._is_ending = False
        self._late: asyncio.TimerHandle | None = None

    # ---- what uvicorn's loop calls -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """A client that never says anything is as quiet as one between two requests."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, with what was still to come."""
        self._expect(False)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a request that is not whole yet has so much time left."""
        self._unset_keepalive_if_required()
        if self._is_refused:
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, "the request is not HTTP/1.1")
            return
        if self._is_in_head:
            self._head_size += len(data)
            if self._head_size > MOST_HEAD:
                said = f"the request's line and headers are larger than {MOST_HEAD // 2**10} KB"
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, said)
                return
        self._expect(self._is_coming)

    def shutdown(self) -> None:
        """The server ends: what is on its way is answered, and the answer says that it was the last."""
        self._is_ending = True
        if (cycle := self._unanswered()) is None:
            self.loop.call_later(self.last_request, self._leave)
        else:
            cycle.keep_alive = False

    # ---- what the parser calls -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_head = self._is_coming = True
        self._head_size = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._is_in_head = False
        super().on_headers_complete()
        if self._is_ending and (cycle := self._unanswered()) is not None:
            cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """It is whole."""
        self._is_coming = False
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        # Uvicorn's word for "do not begin an answer yet": `_stay` brings the request again without the wish.
        return True

    # ---- steps ---------------------------------------------------------------------------------------

    def _stay(self, rest: bytes) -> None:
        """Answer in HTTP/1.1 who would rather speak another protocol, as Java's client does by default.

        A server may leave the wish aside (RFC 9110, 7.8). The parser takes what follows such a head for the other
        protocol, body and all, so the head is read again without the headers that say it.
        """
        method: str = self.scope["method"]
        if method == "CONNECT":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "CONNECT is not taken here")
            return
        kept = [(name, value) for name, value in self.headers if name not in {*_UPGRADING, b"connection"}]
        told = [value for name, value in self.headers if name == b"connection"]
        words = [word.strip() for value in told for word in value.split(b",")]
        wanted = b", ".join(word for word in words if word.lower() not in _UPGRADING)
        kept += [(b"connection", wanted)] if wanted else []
        head = [method.encode(), b" ", self.url, b" HTTP/1.1\r\n"]
        head += [piece for name, value in kept for piece in (name, b": ", value, b"\r\n")]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets its own
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def _unanswered(self) -> RequestResponseCycle | None:
        """The latest request, if its answer is not out yet."""
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle

    def _expect(self, more: bool) -> None:
        if more and self._late is None:
            self._late = self.loop.call_later(self.arrive_within, self._give_up)
        elif not more and self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request did not arrive within {self.arrive_within:g} s")

    def _refuse(self, status: HTTPStatus, said: str) -> None:
        """Answer what is no request, and close: nobody knows where the next one begins."""
        self._expect(False)
        if self._is_refused or self.transport.is_closing():
            return
        cycle = self._unanswered()
        if cycle is not None and not cycle.more_body:
            cycle.keep_alive = False  # a whole request before it is being answered: that answer is the last
            return
        # A body whose request was refused already is only read to its end.
        is_told = cycle.response_started if cycle is not None else self._is_coming and not self._is_in_head
        if not is_told:
            body = orjson.dumps({"error": said})
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            rest = f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write((head + rest).encode() + body)
            self.transport.write_eof()
        # Who is still sending would meet a reset before the answer: what comes now is taken and not read.
        self._is_refused = True
        self.loop.call_later(self.last_request, self.transport.close)

    def _leave(self) -> None:
        if self._unanswered() is None:
            self.transport.close()
