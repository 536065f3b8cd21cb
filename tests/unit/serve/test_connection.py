"""One connection of a client: what is no request is told so, who is slow is not waited for, and nobody is cut off."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from everfit.serve.connection import MOST_HEAD, Connection

BODY = b'{"rows": [1, 2, 3]}'
UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n"


class Hasty(Connection):
    """Waits less long, so that a test need not."""

    arrive_within = 0.1
    last_request = 0.1
    gate: asyncio.Event  # before each answer


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Tell what came: the verb, the path and the body."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await Hasty.gate.wait()
    told = json.dumps([scope["method"], scope["path"], body.decode()]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
    await send({"type": "http.response.body", "body": told})


class Line:
    """A client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: ServerState) -> None:
        self.reader, self.writer, self.state = reader, writer, state

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def to_the_end(self) -> tuple[list[int], bytes]:
        """The statuses and all that came until the server closed."""
        heard = await asyncio.wait_for(self.reader.read(-1), 10)
        return [int(number) for number in re.findall(rb"HTTP/1.1 (\d+)", heard)], heard

    async def answer(self) -> tuple[int, Any]:
        """The next answer: its status and its JSON."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        return int(head.split()[1]), json.loads(await self.reader.readexactly(int(length[1])))


def post(*headers: bytes, body: bytes = BODY, path: bytes = b"/x") -> bytes:
    told = b"".join(header + b"\r\n" for header in headers)
    return b"POST %s HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n%s" % (path, told, len(body), body)


def talk(story: Callable[[Line], Awaitable[Any]], kind: type[Connection] = Connection) -> Any:
    """Play a story on one connection; what it gave."""

    async def play() -> Any:
        Hasty.gate = asyncio.Event()
        Hasty.gate.set()
        config, state = Config(application, http=kind, lifespan="off", log_config=None), ServerState()
        config.load()
        made = lambda: kind(config=config, server_state=state, app_state={})  # noqa: E731 - a name for the line below
        server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            return await story(Line(reader, writer, state))
        finally:
            writer.close()
            server.close()

    return asyncio.run(play())


def heard(*pieces: bytes, kind: type[Connection] = Connection) -> tuple[list[int], bytes]:
    """What a client hears until the server closes."""

    async def story(line: Line) -> Any:
        await line.say(*pieces)
        return await line.to_the_end()

    found: tuple[list[int], bytes] = talk(story, kind)
    return found


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x16\x03\x01\x02", id="TLS on a port without it"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 without asking"),
        pytest.param(b"POST / HTTP/1.1\r\nbad header\r\n\r\n", id="a header without a colon"),
        pytest.param(post(b"transfer-encoding: chunked"), id="two lengths"),
        pytest.param(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", id="a chunk without a length"),
    ],
)
def test_what_is_no_request_is_told_so_in_json(garbage: bytes) -> None:
    statuses, said = heard(garbage)
    assert statuses == [400]
    assert json.loads(said.split(b"\r\n\r\n", 1)[1]) == {"error": "the request is not HTTP/1.1"}


def test_garbage_after_a_request_does_not_cost_its_answer() -> None:
    statuses, said = heard(post() + b"garbage\r\n\r\n")
    assert statuses == [200]
    assert b"connection: close" in said


def test_a_head_without_end_is_refused() -> None:
    line = b"x-%d: " + b"a" * 1000 + b"\r\n"
    statuses, said = heard(b"POST / HTTP/1.1\r\n", *(line % number for number in range(MOST_HEAD // 1000 * 2)))
    assert statuses == [431]
    assert b"larger than 64 KB" in said


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"POST /x HTTP/1.1\r\nhost: x\r\n", id="within its head"),
        pytest.param(b"POST /x HTTP/1.1\r\ncontent-length: 100\r\n\r\n{", id="within its body"),
    ],
)
def test_a_request_that_does_not_arrive_is_not_waited_for(beginning: bytes) -> None:
    statuses, said = heard(beginning, kind=Hasty)
    assert statuses == [408]
    assert b"did not arrive within 0.1 s" in said


def test_a_slow_answer_is_not_a_slow_request() -> None:
    async def story(line: Line) -> Any:
        Hasty.gate.clear()
        await line.say(post())
        await asyncio.sleep(3 * Hasty.arrive_within)  # the danger: the time for requests ends while one is answered
        Hasty.gate.set()
        return await line.answer()

    assert talk(story, Hasty) == (200, ["POST", "/x", BODY.decode()])


@pytest.mark.parametrize("cut", [0, 20, 150], ids=["in one piece", "within the head", "within the body"])
def test_who_asks_for_another_protocol_is_answered_in_this_one(cut: int) -> None:
    # As Java's client and `curl --http2` do; uvicorn loses the body of such a request.
    whole = post(UPGRADE[:-2], b"x-more: 1")

    async def story(line: Line) -> Any:
        await line.say(whole[:cut])
        await asyncio.sleep(0.01)
        await line.say(whole[cut:] + post(path=b"/next"))
        return [await line.answer(), await line.answer()]

    assert talk(story) == [(200, ["POST", "/x", BODY.decode()]), (200, ["POST", "/next", BODY.decode()])]


def test_a_tunnel_is_refused() -> None:
    statuses, said = heard(b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n")
    assert statuses == [405]
    assert b"CONNECT is not taken" in said


def test_at_the_end_a_request_under_way_and_one_that_follows_are_answered() -> None:
    async def story(line: Line) -> Any:
        await line.say(post(path=b"/first"))
        first = await line.answer()
        for each in list(line.state.connections):
            each.shutdown()
        await line.say(post(path=b"/last"))  # it was on its way when the server was told to end
        return first, await line.to_the_end()

    first, (statuses, said) = talk(story, Hasty)
    assert first[0] == 200
    assert statuses == [200]
    assert b"connection: close" in said
    assert b"/last" in said


def test_at_the_end_a_quiet_connection_is_closed() -> None:
    async def story(line: Line) -> Any:
        await line.say(post())
        await line.answer()
        for each in list(line.state.connections):
            each.shutdown()
        return await line.to_the_end()

    assert talk(story, Hasty) == ([], b"")
