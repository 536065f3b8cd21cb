"""A request's way as spans: below the client's own, with the waiting and the scoring as parts."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.testclient import TestClient

from everfit.adapters.traces import RequestTracer, tracer
from everfit.serve.app import build_app
from everfit.serve.rpc import Rpc
from everfit.serve.rpc_words import CLASSES, SERVICE
from tests.unit.serve.fakes import ROW, ListJournal, release, serving, until

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def spans_of(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_is_a_span_below_the_clients_with_its_parts(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    release(tmp_path, 1)
    app = build_app(serving(tmp_path, ListJournal()), tracer=RequestTracer(SimpleSpanProcessor(exporter)))
    with TestClient(app) as client:
        until(lambda: client.get("/ping").status_code == 200)
        exporter.clear()
        body = {"dataframe_records": [ROW]}
        assert client.post("/invocations", json=body, headers={"traceparent": PARENT}).status_code == 200
        assert client.post("/invocations", content=b"{", headers={"traceparent": "nonsense"}).status_code == 400
        first, refused = (each for each in exporter.get_finished_spans() if each.name == "/invocations")
    assert refused.parent is None
    assert dict(refused.attributes or {})["http.response.status_code"] == 400
    assert first.parent is not None
    context = first.context
    assert context is not None
    assert (f"{context.trace_id:032x}", f"{first.parent.span_id:016x}") == tuple(PARENT.split("-")[1:3])
    found = spans_of(exporter)
    for name in ("everfit.queue", "everfit.predict"):
        part = found[name]
        assert part.parent is not None
        assert part.parent.span_id == context.span_id
        assert first.start_time is not None
        assert part.start_time is not None
        assert part.end_time is not None
        assert first.end_time is not None
        assert first.start_time <= part.start_time <= part.end_time <= first.end_time
    assert "UA" not in str([dict(each.attributes or {}) for each in found.values()])


def test_our_own_failures_are_marked(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    app = build_app(serving(tmp_path, ListJournal()), tracer=RequestTracer(SimpleSpanProcessor(exporter)))
    with TestClient(app) as client:
        assert client.get("/ping").status_code == 503
    assert spans_of(exporter)["/ping"].status.status_code is StatusCode.ERROR


def test_calls_by_grpc_are_traced_too(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    traces = RequestTracer(SimpleSpanProcessor(exporter))
    release(tmp_path, 1)
    door = Rpc("127.0.0.1:0", traces)
    app = build_app(serving(tmp_path, ListJournal()), beside=door)
    with TestClient(app), grpc.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        ask = channel.unary_unary(
            f"/{SERVICE}/ServerMetadata",
            request_serializer=CLASSES["ServerMetadataRequest"].SerializeToString,
            response_deserializer=CLASSES["ServerMetadataResponse"].FromString,
        )
        ask(CLASSES["ServerMetadataRequest"](), timeout=10, metadata=(("traceparent", PARENT),))
    context = spans_of(exporter)[f"/{SERVICE}/ServerMetadata"].context
    assert context is not None
    assert f"{context.trace_id:032x}" == PARENT.split("-")[1]


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="nothing is named"),
        pytest.param({"OTEL_TRACES_EXPORTER": "otlp"}, id="an exporter without a receiver"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, id="switched off"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, id="none wanted"),
    ],
)
def test_nothing_is_sent_unless_a_receiver_is_named(environ: dict[str, str]) -> None:
    assert tracer(environ) is None
