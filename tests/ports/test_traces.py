"""Traces arrive at a receiver that `OTEL_EXPORTER_OTLP_ENDPOINT` names, from a real server."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.ports import test_workers
from tests.ports.test_workers import Serve
from tests.unit.serve.fakes import ROW

serve = test_workers.serve
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Receiver(ThreadingHTTPServer):
    """Keeps what is sent to /v1/traces."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.taken: list[ExportTraceServiceRequest] = []


class Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, Receiver)
        if self.path == "/v1/traces":
            self.server.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the test reads what was taken."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_spans_reach_the_receiver_that_the_environment_names(serve: Callable[..., Serve], receiver: Receiver) -> None:
    server = serve(models=("flights",), OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{receiver.server_port}")
    server.wait_for(1)
    body = {"dataframe_records": [ROW]}
    heads = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    assert httpx.post(f"{server.url()}/invocations", json=body, headers=heads).status_code == 200
    assert server.end() == 0, server.text()  # what waits is sent before it ends
    spans = [
        (span.name, span.trace_id.hex())
        for told in receiver.taken
        for resource in told.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert {("/invocations", TRACE), ("everfit.queue", TRACE), ("everfit.predict", TRACE)} <= set(spans)
