"""What is measured on a window: at its close, and again when its labels have matured.

Takes a span and where the model stands; gives the window's fact; never decides. The rows come from the lake,
everything else is the rooms' work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from everfit.clock import BEGINNING
from everfit.detect.battery import Arrivals, raise_alarms, read_drift, read_quality
from everfit.detect.healthy import tempered
from everfit.detect.outcomes import Outcomes, outcomes_from
from everfit.detect.performance import measure
from everfit.detect.signal import NotEnough, Reading, Signal
from everfit.flows.collect import DUPLICATE
from everfit.ledger import WindowClosed, WindowMatured
from everfit.observe.labels import Coverage, coverage, join
from everfit.observe.window import Span
from everfit.ports import Lake, Notes, Table
from everfit.profile.table import Profile, portray
from everfit.spec import Spec
from everfit.standing import Kept, Standing

RECENT = 60  # windows in which the last unbroken one of a column is looked for
MOST_SLICES = 20  # values of a slicing column that are measured each for itself


Shadow = Callable[[Kept, pl.DataFrame], pl.DataFrame]  # the champion's `_score` and `_prediction` for rows


@dataclass(frozen=True, slots=True)
class Measure:
    """Reads windows of one model."""

    spec: Spec
    lake: Lake
    notes: Notes
    shadow: Shadow | None = None  # scores rows that nobody scored, such as those of files

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
        """Profile, drift, quality and provisional performance of a window that just ended."""
        champion = standing.champion
        joined = self.joined(span, None)
        reference = self.reference(champion)
        current = portray(joined, reference.bins) if reference else None
        drift = read_drift(current, reference, self.spec.watch) if current and reference else ()
        if champion is not None:
            drift = tempered(drift, champion.healthy)
        quality = self._quality(standing, span, (current, reference))
        readings = (*drift, *quality, *self._provisional(joined, champion))
        alarms = raise_alarms(readings, self.spec.watch, window=span.end - span.start)
        key = self.notes.put(current.to_bytes(with_bins=False)) if current else None
        name = champion.candidate.id if champion else None
        return WindowClosed(span, joined.height, self.lake.version(), name, readings, alarms, key)

    def reference(self, champion: Kept | None) -> Profile | None:
        """The profile of the rows that the champion was proven on."""
        if champion is None or champion.reference is None:
            return None
        return Profile.from_bytes(self.notes.get(champion.reference))

    def _quality(
        self, standing: Standing, span: Span, compared: tuple[Profile | None, Profile | None]
    ) -> tuple[Reading, ...]:
        current, reference = compared
        if current is None:
            return ()
        refused = self.lake.read(Table.REFUSED, since=span.start, until=None).collect()
        refused = refused.filter(pl.col("_time").is_between(span.start, span.end, closed="left"))
        twice = refused.filter(pl.col("_reason") == DUPLICATE).height
        named = refused["_column"].drop_nulls().value_counts()
        arrivals = Arrivals(refused=refused.height - twice, refused_columns=dict(named.iter_rows()), duplicates=twice)
        return read_quality(current, reference, arrivals, self.spec.watch, usual(standing))

    def _provisional(self, joined: pl.DataFrame, champion: Kept | None) -> tuple[Reading, ...]:
        share = coverage(joined)
        came = _coverage(share)
        if champion is None or share.labelled < self.spec.watch.at_least:
            return (came,)
        reading = measure(self.spec.primary, self._outcomes(joined, champion), needed=self.spec.watch.at_least)
        return (came, replace(reading, name=reading.name.replace("performance.", "provisional.")))

    # ---- a window whose labels matured -------------------------------------------------------------------------------
    def mature(self, standing: Standing, span: Span, at: datetime) -> WindowMatured:
        """Performance of a window on the labels that had come when they were mature. Rows without one are censored."""
        joined = self.joined(span, at)
        record = next(window for window in standing.history.windows if window.span == span)
        champion = standing.bench.get(record.champion) if record.champion else None
        share = coverage(joined)
        readings: list[Reading] = [_coverage(share)]
        late = int(joined["_late"].sum()) if joined.height else 0
        readings.append(Signal("quality.late", "*", late / max(1, joined.height), joined.height))
        if champion is not None:
            joined = self._all_scored(joined, champion)
            needed = self.spec.watch.at_least
            outcomes = self._outcomes(joined, champion)
            readings += [measure(metric, outcomes, needed=needed) for metric in self.spec.metrics]
            readings += self._slices(joined, champion)
        return WindowMatured(span, joined.height, share.labelled, tuple(readings))

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
                found.append(measure(self.spec.primary, outcomes, needed=self.spec.watch.at_least, column=name))
        return found

    def _outcomes(self, joined: pl.DataFrame, champion: Kept) -> Outcomes:
        made = champion.candidate
        return outcomes_from(joined, task=made.task, classes=made.classes, positive=made.positive)


def usual(standing: Standing) -> dict[tuple[str, str], float]:
    """Shares that healthy windows reach as well: those of the rows behind the champion, and the last unbroken window.

    The last one makes a fault a jump: what comes slowly is drift, and must not stop the retraining that it calls for.
    """
    champion = standing.champion
    found: dict[tuple[str, str], float] = {}
    for name, healthy in (champion.healthy if champion else {}).items():
        found["quality.nulls", name], found["quality.range", name] = healthy.nulls, healthy.outside
    settled: set[str] = set()  # columns whose last unbroken window was found
    for window in reversed(standing.history.windows[-RECENT:]):
        broken = {alarm.signal.column for alarm in window.alarms if alarm.kind == "quality"}
        shares = {(r.name, r.column): r.value for r in window.readings if isinstance(r, Signal)}
        for (name, column), value in shares.items():
            if name.startswith("quality.") and column not in broken | settled:
                found[name, column] = max(found.get((name, column), 0.0), value)
        settled |= {column for _, column in shares} - broken
    return found


def _coverage(share: Coverage) -> Reading:
    """The share of rows whose label has come."""
    if share.share is None:
        return NotEnough("labels.coverage", "*", 0, 1)
    return Signal("labels.coverage", "*", share.share, share.rows)
