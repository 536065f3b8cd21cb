"""What the server counts, in Prometheus' text format.

Takes events of the server; gives the text of `/metrics`; never sends it anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds


class Counts:
    """The counters of one app: a registry of its own, so that two apps in one process do not meet."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        names = ("model",)
        self._requests = self._counter("everfit_requests", "answers by route and status", (*names, "route", "status"))
        self._predicted = self._counter("everfit_predictions", "rows scored by model version", (*names, "version"))
        self._taken = self._counter("everfit_rows_acknowledged", "rows taken by table", (*names, "table"))
        self._refused = self._counter("everfit_rows_refused", "rows refused by table", (*names, "table"))
        self._swaps = self._counter("everfit_swaps", "routes followed", names)
        self._failed = self._counter("everfit_swap_failures", "routes that could not be followed", names)
        self._seconds = Histogram(
            "everfit_request_seconds",
            "time to an answer",
            (*names, "route"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._version = Gauge("everfit_model_version", "the version that answers", names, registry=self._registry)
        self._waiting = Gauge("everfit_log_rows_waiting", "predictions not yet on disk", names, registry=self._registry)
        self._model = model

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests.labels(self._model, route, str(status)).inc()
        self._seconds.labels(self._model, route).observe(seconds)

    def predicted(self, version: int, rows: int) -> None:
        """Rows were scored."""
        self._predicted.labels(self._model, str(version)).inc(rows)

    def took(self, table: str, rows: int, refused: int) -> None:
        """Rows were taken in, and others refused."""
        self._taken.labels(self._model, table).inc(rows)
        self._refused.labels(self._model, table).inc(refused)

    def swapped(self, version: int) -> None:
        """Another route is followed."""
        self._swaps.labels(self._model).inc()
        self._version.labels(self._model).set(version)

    def swap_failed(self) -> None:
        """A route could not be followed."""
        self._failed.labels(self._model).inc()

    def watch_waiting(self, waiting: Callable[[], int]) -> None:
        """Read the log's length whenever somebody scrapes."""
        self._waiting.labels(self._model).set_function(waiting)

    def text(self) -> bytes:
        """What `/metrics` answers."""
        return generate_latest(self._registry)

    def _counter(self, name: str, said: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, said, labels, registry=self._registry)
