"""Traces of requests for OpenTelemetry: the one door to it.

Takes the environment's `OTEL_...`; gives a tracer whose spans go where they say, or None; never sends anything unless
the user named a receiver.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from everfit.clock import ticks, wall
from everfit.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

WANTED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
OFF = "OTEL_SDK_DISABLED"
_NANO = 1_000_000_000


def tracer(environ: Mapping[str, str] = os.environ) -> RequestTracer | None:
    """The tracer that the environment asks for; None if it names no receiver.

    >>> tracer({}) is None
    True

    Raises:
        UsageError: it names one, and the extra is not installed.
    """
    named = any(environ.get(name) for name in WANTED) and environ.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
    if not named or environ.get(OFF, "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError(
            f"traces need the extra: pip install 'everfit[otel]' ({error}); or unset {' and '.join(WANTED)}"
        ) from error
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above

    return RequestTracer(BatchSpanProcessor(OTLPSpanExporter()))


class RequestTracer:
    """Spans of requests, given to a processor. Its provider is its own: the process's is left alone."""

    def __init__(self, processor: Any) -> None:
        """Name where finished spans go: a `SpanProcessor`."""
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - as above

        given = Resource.create()  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        named = not str(given.attributes.get("service.name", "unknown_service")).startswith("unknown_service")
        resource = given if named else given.merge(Resource({"service.name": "everfit"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("everfit.serve")
        self._reads = TraceContextTextMapPropagator()

    def begin(self, route: str, parent: str, began: float) -> RequestTrace:
        """A request came; `parent` is its W3C `traceparent`."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - an extra

        # Ticks run evenly and wall time is what a span has: their distance is taken once a request.
        ahead = int(wall().timestamp() * _NANO) - int(ticks() * _NANO)
        context = self._reads.extract({"traceparent": parent}) if parent else None
        span = self._tracer.start_span(
            route,
            context=context,
            kind=SpanKind.SERVER,
            start_time=int(began * _NANO) + ahead,
            attributes={"http.route": route},
        )
        return RequestTrace(self, span, ahead)

    def part(self, of: Span, name: str, began: int, ended: int) -> None:
        """A finished span below another."""
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415 - an extra

        self._tracer.start_span(name, context=set_span_in_context(of), start_time=began).end(end_time=ended)

    def close(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()


class RequestTrace:
    """One request's span."""

    def __init__(self, tracer: RequestTracer, span: Span, ahead: int) -> None:
        self._tracer, self._span, self._ahead = tracer, span, ahead

    def step(self, name: str, began: float, ended: float) -> None:
        """A part of the way, between two moments of `clock.ticks`."""
        if self._span.is_recording():
            at = [int(moment * _NANO) + self._ahead for moment in (began, ended)]
            self._tracer.part(self._span, name, *at)

    def end(self, status: int) -> None:
        """The answer's HTTP status."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - an extra

        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(end_time=int(ticks() * _NANO) + self._ahead)
