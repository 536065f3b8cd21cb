"""What is measured on a window: at its close, and again when its labels have matured.

Takes a span and where the model stands; gives the window's fact; never decides. The rows come from the lake,
everything else is the rooms' work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import polars as pl

from everfit.clock import BEGINNING
from everfit.decide.history import WindowRecord
from everfit.detect.battery import read_drift
from everfit.detect.catalogue import Metric
from everfit.detect.decay import Baseline, advance, smallest_drop
from everfit.detect.metrics import UserFunction
from everfit.detect.outcomes import Outcomes, outcomes_from
from everfit.detect.performance import measure
from everfit.detect.promise import Rates, rates
from everfit.detect.proven import with_window
from everfit.detect.service import read_failures, read_latency
from everfit.detect.signal import Alarm, NotEnough, Reading, Signal
from everfit.facts import WindowClosed, WindowMatured
from everfit.flows.faults import Came, failed_rows, read_rows
from everfit.flows.forecast import Forecast
from everfit.flows.hand import Hand
from everfit.flows.monitors import Monitors
from everfit.observe.labels import Coverage, arrival, coverage, join
from everfit.observe.window import Span, place_of
from everfit.ports import Lake, Table
from everfit.profile.table import ANSWERS, SCORE, Profile, portray
from everfit.spec import Spec, metrics_of
from everfit.standing import Kept, Standing

MOST_SLICES = 20  # values of a slicing column that are measured each for itself


Shadow = Callable[[Kept, pl.DataFrame], pl.DataFrame]  # the champion's `_score` and `_prediction` for rows
Shadows = Callable[[Sequence[Kept], pl.DataFrame], dict[str, pl.DataFrame | str]]  # of several, or why one has none


@dataclass(frozen=True, slots=True)
class Measure:
    """Reads windows of one model."""

    spec: Spec
    lake: Lake
    hand: Hand
    shadow: Shadow | None = None  # scores rows that nobody scored, such as those of files
    functions: Mapping[str, UserFunction] = field(default_factory=dict)  # metrics of the user's own
    shadows: Shadows | None = None  # scores the models of the bench; None: there is no bench

    # ---- rows --------------------------------------------------------------------------------------------------------
    def times(self, since: datetime, until: datetime) -> pl.Series:
        """Event times of the rows in a span, in order."""
        rows = self.lake.read(Table.PREDICTIONS, since=since, until=until)
        return rows.select("_id", "_time").collect().unique("_id")["_time"].sort()

    def first_after(self, moment: datetime) -> datetime | None:
        """Event time of the first row at or after a moment."""
        rows = self.lake.read(Table.PREDICTIONS, since=moment, until=None)
        first: datetime | None = rows.select(pl.col("_time").min()).collect().item()
        return first

    def labelled(self, now: datetime) -> int:
        """Rows whose label came and had the time to mature."""
        if now <= BEGINNING + self.spec.observe.labels_mature_after:
            return 0  # a replay before its first event
        until = now - self.spec.observe.labels_mature_after
        rows = self.lake.read(Table.PREDICTIONS, since=None, until=until).select("_id").unique()
        labels = self.lake.read(Table.LABELS, since=None, until=None).select("_id").unique()
        found: int = rows.join(labels, on="_id").select(pl.len()).collect().item()
        return found

    def joined(self, span: Span, as_of: datetime | None) -> pl.DataFrame:
        """Rows of a span with the labels that had come by a moment."""
        rows = self.lake.read(Table.PREDICTIONS, since=span.start, until=span.end).collect()
        labels = self.lake.read(Table.LABELS, since=span.start - timedelta(days=1), until=None).collect()
        return join(rows, labels, as_of=as_of)

    # ---- a window at its close ---------------------------------------------------------------------------------------
    def close(self, standing: Standing, span: Span) -> WindowClosed:
        """Profile, drift, faults, estimates and provisional performance of a window that just ended."""
        champion, joined = standing.champion, self.joined(span, None)
        lake, reference = self.lake.version(), self.reference(champion)
        if champion is None or reference is None:
            return WindowClosed(span, joined.height, lake, None, self._provisional(joined, None), (), None)
        came = Came(span, joined, self._refused(span), _portrayed(joined, reference), reference)
        drift = read_drift(came.current, reference, self.spec.watch)
        seen = self.monitors.after(standing, span, came.current, drift)
        faults, broken = read_rows(standing, came, self.spec.watch, self._length, self.rates.quality)
        readings = (
            *seen.readings,
            *self.forecast.read(standing, joined, seen),
            *faults,
            *self._service(came),
            *self._provisional(joined, champion),
        )
        key = self.hand.put(came.current.to_bytes(with_bins=False), came.current)
        return WindowClosed(
            span, joined.height, lake, champion.candidate.id, readings, (*seen.alarms, *broken), key,
            dict(seen.guarded), seen.learning,
        )  # fmt: skip

    @property
    def _length(self) -> timedelta | None:
        length = self.spec.observe.window
        return length if isinstance(length, timedelta) else None

    @property
    def rates(self) -> Rates:
        """False alarms per window, by monitor."""
        return rates(self.spec.watch.false_alarms, self._length)

    @property
    def monitors(self) -> Monitors:
        """Of drift."""
        return Monitors(self.spec, self.hand)

    @property
    def forecast(self) -> Forecast:
        """Without labels."""
        return Forecast(self.spec, self.hand)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured, the primary metric first."""
        return metrics_of(self.spec, self.functions)

    def reference(self, champion: Kept | None) -> Profile | None:
        """The profile of the rows that the champion was proven on."""
        if champion is None or champion.reference is None:
            return None
        return self.hand.get(champion.reference, Profile.from_bytes)

    def _refused(self, span: Span) -> pl.DataFrame:
        """What was put aside in a window, with its reason."""
        refused = self.lake.read(Table.REFUSED, since=span.start, until=None).collect()
        return refused.filter(pl.col("_time").is_between(span.start, span.end, closed="left"))

    def _service(self, came: Came) -> tuple[Reading, ...]:
        """How the server did: latency of the answers, and the share of rows that a model failed on."""
        needed, took = self.spec.watch.at_least, came.joined["_latency_ms"].drop_nulls().to_numpy()
        failed = failed_rows(came.refused)
        return (*read_latency(took, needed=needed), *read_failures(failed, len(took), needed=needed))

    def _provisional(self, joined: pl.DataFrame, champion: Kept | None) -> tuple[Reading, ...]:
        share = coverage(joined)
        came = _coverage(share)
        if champion is None or share.labelled < self.spec.watch.at_least:
            return (came,)
        reading = measure(self.metrics[0], self._outcomes(joined, champion), needed=self.spec.watch.at_least)
        return (came, replace(reading, name=reading.name.replace("performance.", "provisional.")))

    # ---- a window whose labels matured -------------------------------------------------------------------------------
    def mature(self, standing: Standing, span: Span, at: datetime) -> WindowMatured:
        """Performance of a window on the labels that had come when they were mature. Rows without one are censored."""
        joined = self.joined(span, at)
        record = next(window for window in standing.history.windows if window.span == span)
        champion = standing.bench.get(record.champion) if record.champion else None
        share = coverage(joined)
        readings: list[Reading] = [_coverage(share), *_arrivals(joined, at)]
        late = int(joined["_late"].sum()) if joined.height else 0
        readings.append(Signal("quality.late", "*", late / max(1, joined.height), joined.height))
        if champion is not None:
            joined = self._all_scored(joined, champion)
            needed = self.spec.watch.at_least
            outcomes = self._outcomes(joined, champion)
            readings += [measure(metric, outcomes, needed=needed) for metric in self.metrics]
            readings += self._slices(joined, champion)
            baseline = standing.baseline
            if baseline is not None and served(standing, record) and not self._expected(span):
                matured = WindowMatured(span, joined.height, share.labelled, tuple(readings))
                return self._held(standing, baseline, matured, outcomes)
        return WindowMatured(span, joined.height, share.labelled, tuple(readings))

    def _held(
        self, standing: Standing, baseline: Baseline, matured: WindowMatured, outcomes: Outcomes
    ) -> WindowMatured:
        """Hold a window of the champion to what it proved: the evidence of decay, one window further."""
        primary, rate = self.metrics[0], self.rates.performance
        place = place_of(matured.span.start, self.spec.observe)
        after, found = advance(standing.decay, baseline, primary, outcomes, rate, place=place)
        smallest = smallest_drop(primary, baseline, rate)
        reading = Signal("decay", "*", found.value, found.rows, p_value=found.p_value, smallest=smallest)
        hurt = replace(reading, name=f"performance.{primary.name}", value=found.level or 0.0)
        alarms = (Alarm(hurt, found.threshold, "performance", found.said),) if found.alarm else ()
        matured = replace(matured, readings=(*matured.readings, reading), decay=after, alarms=alarms)
        if found.alarm or not baseline.learning:
            return matured
        return replace(matured, baseline=with_window(baseline, primary, outcomes, place))

    def _expected(self, span: Span) -> bool:
        """Whether a window touches a span that was named ahead: it is told, and no evidence."""
        return any(event.since < span.end and span.start < event.to for event in self.spec.watch.expected)

    def _all_scored(self, joined: pl.DataFrame, champion: Kept) -> pl.DataFrame:
        """Rows that came without a score are scored by the champion after the fact, as it would have answered."""
        unscored = pl.col("_score").is_null()
        rows = joined.filter(unscored)
        if self.shadow is None or rows.is_empty():
            return joined
        scored = rows.with_columns(self.shadow(champion, rows).select("_score", "_prediction"))
        return pl.concat([joined.filter(~unscored), scored]).sort("_time", "_id")

    def _slices(self, joined: pl.DataFrame, champion: Kept) -> list[Reading]:
        found: list[Reading] = []
        for column in self.spec.watch.slices:
            if column not in joined.columns:
                continue
            for value in joined[column].drop_nulls().value_counts(sort=True)[column].head(MOST_SLICES):
                outcomes = self._outcomes(joined.filter(pl.col(column) == value), champion)
                name = f"{column}={value}"
                found.append(measure(self.metrics[0], outcomes, needed=self.spec.watch.at_least, column=name))
        return found

    def _outcomes(self, joined: pl.DataFrame, champion: Kept) -> Outcomes:
        made = champion.candidate
        return outcomes_from(joined, task=made.task, classes=made.classes, positive=made.positive)


def served(standing: Standing, window: WindowRecord) -> bool:
    """Whether the present champion served a window from its start to its end."""
    live = standing.history.champion
    return live is not None and window.champion == live.candidate and window.span.start >= live.live_since


def _portrayed(joined: pl.DataFrame, reference: Profile) -> Profile:
    """A window's profile; its score is that of the rows that were answered, for the others were not asked for."""
    whole = portray(joined, reference.bins)
    answered, told = joined.filter(pl.col(SCORE).is_not_null()), [name for name in ANSWERS if name in whole.columns]
    if not told or answered.height in (0, joined.height):
        return whole
    seen = portray(answered, reference.bins, of=told).columns
    return replace(whole, columns={**whole.columns, **seen})


def _arrivals(joined: pl.DataFrame, at: datetime) -> tuple[Reading, ...]:
    """How long labels took, in seconds, counting those that were still to come when the window matured."""
    came = arrival(joined, at)
    told = {"labels.delay_p50": came.median, "labels.delay_p90": came.p90}
    return tuple(
        NotEnough(name, "*", came.labelled, came.rows, came.said)
        if delay is None
        else Signal(name, "*", delay.total_seconds(), came.rows)
        for name, delay in told.items()
    )


def _coverage(share: Coverage) -> Reading:
    """The share of rows whose label has come."""
    if share.share is None:
        return NotEnough("labels.coverage", "*", 0, 1)
    return Signal("labels.coverage", "*", share.share, share.rows)
