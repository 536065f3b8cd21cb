"""The client against a server on a real socket, which says what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from everfit.client import Client, ClockFace, Receipt, connect
from everfit.errors import EverfitError, Refused, Unavailable, UsageError
from everfit.observe.moments import as_moments

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


class Server(ThreadingHTTPServer):
    """Answers as Everfit's server does, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[tuple[str, str, bytes]] = []
        self.settled = 0
        self.fails: tuple[int, bytes] | None = None


class Answering(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.settled += 1  # every look finds one batch more
        self._answer({"now": NOON.isoformat(), "settled": self.server.settled})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, self.headers["content-type"], body))
        if self.path == "/invocations":
            self._answer({"predictions": ["1"], "scores": [[0.1, 0.9]], "ids": ["i"], "model": {"version": 3}})
        else:
            self._answer({"acknowledged": 2, "refused": 1, "reasons": {"no id": 1}, "number": 7})

    def _answer(self, told: dict[str, Any]) -> None:
        status, body = self.server.fails or (200, json.dumps(told).encode())
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is written into the test's output."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with connect(f"http://127.0.0.1:{server.server_port}/") as connected:
        yield connected


ROWS = {"flight": ["a", "b"], "at": [NOON, NOON], "hour": [5.0, None]}


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(pl.DataFrame(ROWS), id="polars"),
        pytest.param(pl.LazyFrame(ROWS), id="lazy polars"),
        pytest.param(pa.table(ROWS), id="pyarrow"),
        pytest.param(pd.DataFrame(ROWS, index=[7, 8]), id="pandas"),
        pytest.param([dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)], id="records"),
    ],
)
def test_rows_of_any_kind_are_sent_as_arrow(client: Client, server: Server, rows: Any) -> None:
    assert client.predictions(rows) == Receipt(2, 1, {"no id": 1}, 7)
    path, kind, body = server.asked[0]
    assert (path, kind) == ("/v1/predictions", "application/vnd.apache.arrow.stream")
    sent = pl.read_ipc_stream(body)
    assert sent.columns == ["flight", "at", "hour"]
    assert as_moments(sent["at"]).to_list() == [NOON, NOON]
    assert sent["hour"].fill_nan(None).to_list() == [5.0, None]


def test_labels_go_their_own_way(client: Client, server: Server) -> None:
    assert client.labels(pl.DataFrame({"flight": ["a"], "late": [1]})).number == 7
    assert server.asked[0][0] == "/v1/labels"


def test_the_champion_is_asked_in_json(client: Client, server: Server) -> None:
    rows = pl.DataFrame({"at": [NOON], "day": [NOON.date()], "hour": [float("nan")], "origin": ["JFK"]})
    answer = client.predict(rows)
    assert (answer.predictions, answer.ids, answer.model) == (["1"], ["i"], {"version": 3})
    told = json.loads(server.asked[0][2])["dataframe_split"]
    assert told["columns"] == ["at", "day", "hour", "origin"]
    at, day, hour, origin = told["data"][0]
    assert datetime.fromisoformat(at) == NOON
    assert (day, hour, origin) == ("2013-01-01", None, "JFK")


def test_the_clock_is_read_and_settling_waits_for_it(client: Client) -> None:
    assert client.clock() == ClockFace(NOON, 1)
    assert client.settle(4).settled == 4
    with pytest.raises(Unavailable, match="batch 1000 is not settled"):
        client.settle(1000, timeout=timedelta(0))


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        pytest.param(400, b'{"error": "field at"}', Refused, "field at", id="the client's fault"),
        pytest.param(413, b'{"error": "too large"}', Refused, "too large", id="too large"),
        pytest.param(503, b'{"error": "no space"}', Unavailable, "no space", id="no space"),
        pytest.param(502, b"<html>gateway</html>", Unavailable, "gateway", id="something between us"),
        pytest.param(404, b'{"error": "no such path"}', UsageError, "no such path", id="another server"),
    ],
)
def test_failures_are_told_in_our_words(
    client: Client, server: Server, status: int, body: bytes, error: type[EverfitError], said: str
) -> None:
    server.fails = (status, body)
    with pytest.raises(error, match=said):
        client.labels(pl.DataFrame({"flight": ["a"]}))


def test_a_server_that_is_away_is_named() -> None:
    with Server() as gone:
        port = gone.server_port
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(Unavailable, match="everfit up"):
        client.clock()


def test_what_is_no_frame_or_no_address_is_refused(client: Client) -> None:
    with pytest.raises(Refused, match="cannot be read as rows"):
        client.labels(object())
    with pytest.raises(UsageError, match="http://host:port"):
        connect("somewhere/else")


def test_one_model_of_several_is_named_in_every_address(server: Server) -> None:
    with connect(f"http://127.0.0.1:{server.server_port}", model="a b") as one:
        one.predictions(pl.DataFrame({"a": [1]}))
        one.labels(pl.DataFrame({"a": [1]}))
        server.fails = (200, json.dumps({"predictions": [1], "model": {}}).encode())
        one.predict([{"a": 1}])
    paths = [path for path, _, _ in server.asked]
    assert paths == ["/v1/models/a%20b/predictions", "/v1/models/a%20b/labels", "/endpoints/a%20b/invocations"]
