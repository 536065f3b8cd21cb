"""What the server counts, in Prometheus' text format.

Takes events of the server; gives the text of `/metrics`; never sends it anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds
SCORING = (0.00005, 0.0001, 0.00025, 0.0005, *BUCKETS)  # seconds
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096)


class Counts:
    """The counters of one app: a registry of its own, so that two apps in one process do not meet."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        self._model = model
        variant = ("version", "variant")
        self._requests = self._counter("everfit_requests", "answers by route and status", "route", "status")
        self._errors = self._counter("everfit_errors", "answers that are failures: client or server", "route", "side")
        self._predicted = self._counter("everfit_predictions", "rows scored by model version", "version")
        self._unscored = self._counter("everfit_model_failures", "requests that a model failed on", *variant)
        self._taken = self._counter("everfit_rows_acknowledged", "rows taken by table", "table")
        self._refused = self._counter("everfit_rows_refused", "rows refused by table", "table")
        self._swaps = self._counter("everfit_swaps", "routes followed")
        self._failed = self._counter("everfit_swap_failures", "routes that could not be followed")
        self._overloads = self._counter("everfit_overloads", "requests refused because too many waited")
        self._seconds = self._histogram("everfit_request_seconds", "time to an answer", BUCKETS, "route")
        self._scoring = self._histogram("everfit_scoring_seconds", "time to score a batch", SCORING, *variant)
        self._together = self._histogram("everfit_batch_requests", "requests scored at once", SIZES, *variant)
        self._rows = self._histogram("everfit_batch_rows", "rows scored at once", SIZES, *variant)
        self._version = self._gauge("everfit_model_version", "the version that answers")
        self._queue = self._gauge("everfit_requests_waiting", "requests that wait for the model")
        self._waiting = self._gauge("everfit_log_rows_waiting", "predictions not yet on disk")
        self._lag = self._gauge("everfit_log_lag_seconds", "age of the oldest prediction that is not yet on disk")
        # A label's child is found by a lock and a dictionary each time; requests keep theirs.
        self._for_answer = lru_cache(512)(self._answer_children)
        self._for_batch = lru_cache(16)(self._batch_children)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
        for counter in (children := self._for_answer(route, status))[1:]:
            counter.inc()
        children[0].observe(seconds)

    def scored(self, version: int, variant: str, requests: int, rows: int, seconds: float) -> None:
        """A batch was scored."""
        predicted, together, sizes, scoring = self._for_batch(version, variant)
        predicted.inc(rows)
        together.observe(requests)
        sizes.observe(rows)
        scoring.observe(seconds)

    def failed(self, version: int, variant: str) -> None:
        """A model failed on a request."""
        self._unscored.labels(self._model, str(version), variant).inc()

    def overloaded(self, requests: int = 1) -> None:
        """Requests were refused because too many waited."""
        self._overloads.labels(self._model).inc(requests)

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

    def watch(self, queue: Callable[[], int], waiting: Callable[[], int], lag: Callable[[], float]) -> None:
        """Read lengths and the log's lag whenever somebody scrapes."""
        for gauge, read in ((self._queue, queue), (self._waiting, waiting), (self._lag, lag)):
            gauge.labels(self._model).set_function(read)

    def text(self) -> bytes:
        """What `/metrics` answers."""
        return generate_latest(self._registry)

    def _answer_children(self, route: str, status: int) -> tuple[Any, ...]:
        seconds = self._seconds.labels(self._model, route)
        answered = self._requests.labels(self._model, route, str(status))
        if status < 400:
            return seconds, answered
        return seconds, answered, self._errors.labels(self._model, route, "client" if status < 500 else "server")

    def _batch_children(self, version: int, variant: str) -> tuple[Any, ...]:
        told = (self._model, str(version), variant)
        histograms = (metric.labels(*told) for metric in (self._together, self._rows, self._scoring))
        return (self._predicted.labels(self._model, str(version)), *histograms)

    def _counter(self, name: str, said: str, *labels: str) -> Counter:
        return Counter(name, said, ("model", *labels), registry=self._registry)

    def _gauge(self, name: str, said: str) -> Gauge:
        return Gauge(name, said, ("model",), registry=self._registry)

    def _histogram(self, name: str, said: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, said, ("model", *labels), buckets=buckets, registry=self._registry)
