"""The drift monitors of a champion, one window further.

Takes a window's profile, what is usual and the monitors' states from the notes; gives readings, alarms and the keys of
the next states; never decides, and never changes a state that was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from everfit.detect.drifted import drift_alarms, immaterial, with_tests
from everfit.detect.promise import Monitor, Rates, Watched, When, acknowledged, rates, watch_window
from everfit.detect.signal import Alarm, Reading
from everfit.detect.usual import Usual, learn_usual
from everfit.facts import Guarded
from everfit.flows.hand import Hand
from everfit.flows.proof import FEATURES, SCORES, only
from everfit.observe.window import Span, cycles, place_of
from everfit.profile.table import Profile
from everfit.spec import Spec
from everfit.standing import Standing


@dataclass(frozen=True, slots=True)
class Monitored:
    """What the monitors said of a window."""

    readings: tuple[Reading, ...]  # drift, with p-values that count how healthy windows differ
    alarms: tuple[Alarm, ...]
    guarded: Mapping[str, Guarded]
    learning: str  # why the promise of false alarms does not hold yet; empty once it does


@dataclass(frozen=True, slots=True)
class Monitors:
    """The drift monitors of one model."""

    spec: Spec
    hand: Hand

    def after(self, standing: Standing, span: Span, current: Profile, drift: Sequence[Reading]) -> Monitored:
        """Advance every monitor by a window that just closed.

        Args:
            standing: Where the model stands; it has a champion.
            span: The window.
            current: Its profile.
            drift: How unlike the reference it is, column by column (`battery.read_drift`).
        """
        if current.rows < self.spec.watch.at_least:  # too few rows say nothing, of what is usual neither
            return Monitored(tuple(drift), (), standing.guarded, standing.learning)
        found: tuple[Reading, ...] = tuple(drift)
        small = immaterial(found, self.spec.watch.effect)
        alarms: list[Alarm] = []
        guarded, learning = dict(standing.guarded), ""
        for name in (FEATURES, SCORES):
            mine = only(current, of_scores=name == SCORES)
            if not any(column.present for column in mine.columns.values()):
                continue  # rows of files are scored later: there is no score to look at
            place = place_of(span.start, self.spec.observe)
            when = When(span.start, place, expected=self._expected(span))
            before = self._before(standing, name, mine)
            usual, monitor = before or (self._first(mine, place), self._state(standing, name))
            if before is None:  # nothing was known behind the champion: this window is the first that is
                watched = Watched((), (), (), None, None, usual.learning, monitor, usual)
            else:
                watched = watch_window(mine, when, usual, monitor, self._rates(current, mine), small)
            found = with_tests(found, watched, columns=mine.columns)
            alarms += drift_alarms(found, watched, self.spec.watch.effect)
            guarded[name] = self._kept(standing, name, usual, watched)
            learning = learning or (f"{name}: {watched.learning}" if watched.learning else "")
        return Monitored(found, tuple(alarms), guarded, learning)

    def _first(self, current: Profile, place: int | None) -> Usual:
        seasons = cycles(self.spec.observe, self.spec.watch.seasons)
        return learn_usual([current], places=None if place is None else [place], periods=seasons)

    def _before(self, standing: Standing, name: str, current: Profile) -> tuple[Usual, Monitor] | None:
        """What a monitor knew before this window, with what people said since; None if nothing is known."""
        usual, monitor = self._usual(standing, name), self._state(standing, name)
        if usual is None:
            return None
        for span in standing.dismissed:
            window = next((w for w in standing.history.windows if w.span == span and w.profile), None)
            if window is not None and window.profile is not None:
                benign = Profile.from_bytes(self.hand.notes.get(window.profile), current.bins)
                place = place_of(span.start, self.spec.observe)
                usual, monitor = acknowledged(benign, usual, monitor, place)
        return usual, monitor

    def _state(self, standing: Standing, name: str) -> Monitor:
        """The state before this window. A new champion has no evidence yet, and the account of the one before it."""
        if name in standing.guarded:
            return Monitor.from_bytes(self.hand.notes.get(standing.guarded[name].state))
        if name in standing.former:
            return Monitor.from_bytes(self.hand.notes.get(standing.former[name].state)).renewed()
        return Monitor()

    def _usual(self, standing: Standing, name: str) -> Usual | None:
        key = self._key(standing, name)
        return None if key is None else self.hand.get(key, Usual.from_bytes)

    def _key(self, standing: Standing, name: str) -> str | None:
        known = standing.guarded[name].usual if name in standing.guarded else None
        return known or (standing.champion.backdrop.usual.get(name) if standing.champion else None)

    def _kept(self, standing: Standing, name: str, before: Usual, watched: Watched) -> Guarded:
        state, key = self.hand.notes.put(watched.monitor.to_bytes()), self._key(standing, name)
        if key is None or watched.usual is not before or standing.dismissed:
            key = self.hand.put(watched.usual.to_bytes(), watched.usual)
        return Guarded(key, state)

    def _rates(self, current: Profile, mine: Profile) -> Rates:
        """False alarms per window of one monitor: every column has the same share."""
        length = self.spec.observe.window
        whole = rates(self.spec.watch.false_alarms, length if isinstance(length, timedelta) else None)
        part = len(mine.columns) / len(current.columns)
        return replace(whole, drift=whole.drift * part, slow=whole.slow * part)

    def _expected(self, span: Span) -> bool:
        """Whether a window touches a span that was named ahead."""
        return any(event.since < span.end and span.start < event.to for event in self.spec.watch.expected)
