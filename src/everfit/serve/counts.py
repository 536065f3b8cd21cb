"""What the server counts, in Prometheus' text format.

Takes events of the server; gives the text of `/metrics`; never sends it anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds
SCORING = (0.00005, 0.0001, 0.00025, 0.0005, *BUCKETS)  # seconds
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096)
# The client library reads this when it is imported: counters then live in files that all workers share.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
_Among = Literal["livesum", "livemax", "mostrecent"]  # what a gauge of several workers says


def forget_worker(folder: Path, pid: int) -> None:
    """Take the lengths of a worker that ended out of the folder that all share; what it counted stays."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]  # the library's own


class Meters:
    """The metrics of one server: a registry of its own, so that two servers in one process do not meet."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._reads: list[tuple[Any, Callable[[], float]]] = []
        self.shared = os.environ.get(SHARED, "")  # the folder that all workers share; empty: there is one
        variant, failing = ("version", "variant"), ("version", "failed")
        self.requests = self._counter("everfit_requests", "answers by route and status", "route", "status")
        self.errors = self._counter("everfit_errors", "answers that are failures: client or server", "route", "side")
        self.predicted = self._counter("everfit_predictions", "rows scored by model version", *variant)
        self.unscored = self._counter("everfit_model_failures", "requests that a model failed on", *variant)
        self.taken = self._counter("everfit_rows_acknowledged", "rows taken by table", "table")
        self.refused = self._counter("everfit_rows_refused", "rows refused by table", "table")
        self.swaps = self._counter("everfit_swaps", "routes followed")
        self.failed = self._counter("everfit_swap_failures", "routes that could not be followed")
        self.overloads = self._counter("everfit_overloads", "requests refused because too many waited")
        self.seconds = self._histogram("everfit_request_seconds", "time to an answer", BUCKETS, "route")
        self.scoring = self._histogram("everfit_scoring_seconds", "time to score a batch", SCORING, *variant)
        self.together = self._histogram("everfit_batch_requests", "requests scored at once", SIZES, *variant)
        self.rows = self._histogram("everfit_batch_rows", "rows scored at once", SIZES, *variant)
        self.version = self._gauge("everfit_model_version", "the version that answers", "mostrecent")
        self.queue = self._gauge("everfit_requests_waiting", "requests that wait for the model", "livesum")
        self.waiting = self._gauge("everfit_log_rows_waiting", "predictions not yet on disk", "livesum")
        self.lag = self._gauge(
            "everfit_log_lag_seconds", "age of the oldest prediction that is not yet on disk", "livemax"
        )

        self.route = self._gauge("everfit_routing_version", "rises with every route that is followed", "mostrecent")
        self.deaths = self._counter("everfit_challenger_deaths", "ends of its process", "version", "reason")
        self.missed = self._counter(
            "everfit_canary_failures", "rows that were the challenger's and that the champion answered", *failing
        )
        self.shadow = self._counter("everfit_shadow_rows", "rows that a challenger got a copy of", "version", "failed")
        self.dropped = self._counter(
            "everfit_shadow_dropped", "rows that it got no copy of, for want of time", "version"
        )

    def read(self, gauge: Any, value: Callable[[], float]) -> None:
        """Ask for a gauge's value whenever `look` is called."""
        self._reads.append((gauge, value))

    def look(self) -> None:
        """Write down what is only known by asking: at each scrape, and now and then for those of other workers."""
        for gauge, value in self._reads:
            gauge.set(value())

    def text(self) -> bytes:
        """What `/metrics` answers: of all workers, where they share a folder."""
        self.look()
        if not self.shared:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody, self.shared)  # type: ignore[no-untyped-call]  # the library's own
        return generate_latest(everybody)

    def _counter(self, name: str, said: str, *labels: str) -> Counter:
        return Counter(name, said, ("model", *labels), registry=self._registry)

    def _gauge(self, name: str, said: str, among: _Among) -> Gauge:
        return Gauge(name, said, ("model",), registry=self._registry, multiprocess_mode=among)

    def _histogram(self, name: str, said: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, said, ("model", *labels), buckets=buckets, registry=self._registry)


class Counts:
    """The counters of one model; those of a server with several share its meters."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, model: str, meters: Meters | None = None) -> None:
        self._model = model
        self._meters = meters or Meters()
        # A label's child is found by a lock and a dictionary each time; requests keep theirs.
        self._for_answer = lru_cache(512)(self._answer_children)
        self._for_batch = lru_cache(16)(self._batch_children)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
        for counter in (children := self._for_answer(route, status))[1:]:
            counter.inc()
        children[0].observe(seconds)

    def expect(self, version: int, variant: str) -> None:
        """Begin a version's counters with 0, so that its first answer need not (0.3 ms)."""
        self._for_batch(version, variant)

    def scored(self, version: int, variant: str, requests: int, rows: int, seconds: float) -> None:
        """A batch was scored."""
        predicted, together, sizes, scoring = self._for_batch(version, variant)
        predicted.inc(rows)
        together.observe(requests)
        sizes.observe(rows)
        scoring.observe(seconds)

    def failed(self, version: int, variant: str) -> None:
        """A model failed on a request."""
        self._meters.unscored.labels(self._model, str(version), variant).inc()

    def overloaded(self, requests: int = 1) -> None:
        """Requests were refused because too many waited."""
        self._meters.overloads.labels(self._model).inc(requests)

    def took(self, table: str, rows: int, refused: int) -> None:
        """Rows were taken in, and others refused."""
        self._meters.taken.labels(self._model, table).inc(rows)
        self._meters.refused.labels(self._model, table).inc(refused)

    def swapped(self, version: int) -> None:
        """Another route is followed."""
        self._meters.swaps.labels(self._model).inc()
        self._meters.version.labels(self._model).set(version)

    def routed(self, number: int) -> None:
        """Another route is in force, be it only another share."""
        self._meters.route.labels(self._model).set(number)

    def died(self, version: int, reason: str) -> None:
        """A challenger's process ended."""
        self._meters.deaths.labels(self._model, str(version), reason).inc()

    def missed(self, version: int, failed: str, rows: int = 1) -> None:
        """The champion answered rows that were the challenger's."""
        self._meters.missed.labels(self._model, str(version), failed).inc(rows)

    def shadowed(self, version: int, failed: str, rows: int = 1) -> None:
        """A challenger was asked about copies of rows; `failed` is empty where it answered."""
        self._meters.shadow.labels(self._model, str(version), failed or "no").inc(rows)

    def dropped(self, version: int, rows: int) -> None:
        """Copies of rows were dropped."""
        self._meters.dropped.labels(self._model, str(version)).inc(rows)

    def swap_failed(self) -> None:
        """A route could not be followed."""
        self._meters.failed.labels(self._model).inc()

    def watch(self, queue: Callable[[], int], waiting: Callable[[], int], lag: Callable[[], float]) -> None:
        """Read lengths and the log's lag whenever somebody scrapes."""
        meters = self._meters
        for gauge, read in ((meters.queue, queue), (meters.waiting, waiting), (meters.lag, lag)):
            meters.read(gauge.labels(self._model), read)

    def text(self) -> bytes:
        """What `/metrics` answers."""
        return self._meters.text()

    def _answer_children(self, route: str, status: int) -> tuple[Any, ...]:
        seconds = self._meters.seconds.labels(self._model, route)
        answered = self._meters.requests.labels(self._model, route, str(status))
        if status < 400:
            return seconds, answered
        return seconds, answered, self._meters.errors.labels(self._model, route, "client" if status < 500 else "server")

    def _batch_children(self, version: int, variant: str) -> tuple[Any, ...]:
        told, meters = (self._model, str(version), variant), self._meters
        histograms = (metric.labels(*told) for metric in (meters.together, meters.rows, meters.scoring))
        return (self._meters.predicted.labels(*told), *histograms)
