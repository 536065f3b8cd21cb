"""The drift monitors of a champion: what they read, what alarms, what they remember."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from everfit.decide.history import WindowRecord
from everfit.detect.backdrop import Backdrop
from everfit.detect.battery import read_drift
from everfit.detect.signal import Signal
from everfit.detect.usual import Usual
from everfit.flows.hand import Hand
from everfit.flows.monitors import Monitored, Monitors
from everfit.flows.proof import FEATURES
from everfit.observe.window import Span
from everfit.profile.table import Profile, portray
from everfit.spec import Spec, parse_spec
from everfit.standing import Standing
from everfit.testing import FrozenClock, in_memory
from tests.world import DAY0, DAYS, FIRST, NOW, SPEC, World, fill, rows, spec_of


class Watched:
    """A champion with its monitors, and days that follow each other."""

    def __init__(self, folder: Path) -> None:
        self.ports = in_memory(FrozenClock(NOW))
        fill(self.ports.lake, rows())
        self.world = World(self.ports, folder, spec_of())
        self.world.learn()
        self.world.renewed("renew-1", FIRST)
        self.now = self.world.standing()
        assert self.now.champion is not None
        assert self.now.champion.reference is not None
        self.reference = Profile.from_bytes(self.ports.notes.get(self.now.champion.reference))
        self.chance = np.random.default_rng(11)
        self.day = DAYS

    @property
    def known(self) -> int:
        """Healthy windows that are known."""
        key = self.now.guarded[FEATURES].usual if self.now.guarded else self.now.champion.backdrop.usual[FEATURES]  # type: ignore[union-attr]
        return Usual.from_bytes(self.ports.notes.get(key)).windows

    def frame(self, many: int = 30, moved: float = 0.0) -> pl.DataFrame:
        """Rows as the world's, `strong` moved by so many deviations."""
        strong, noise = self.chance.normal(size=many), self.chance.normal(size=many)
        return pl.DataFrame({
            "weak": 0.3 * strong + noise, "strong": strong + moved, "idle": self.chance.normal(size=many),
            "shop": self.chance.choice(["a", "b", "c"], many),
        })  # fmt: skip

    def pass_day(self, frame: pl.DataFrame, spec: Spec | None = None) -> Monitored:
        """Close one more day."""
        spec = spec or self.world.spec
        current = portray(frame, self.reference.bins)
        span = Span(DAY0 + timedelta(days=self.day), DAY0 + timedelta(days=self.day + 1))
        drift = read_drift(current, self.reference, spec.watch)
        seen = Monitors(spec, Hand(self.ports.notes)).after(self.now, span, current, drift)
        self.now = replace(self.now, guarded=seen.guarded, learning=seen.learning)
        self.day += 1
        return seen


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_the_windows_behind_a_champion_are_what_is_usual(watched: Watched) -> None:
    assert watched.known == 40
    assert watched.now.champion is not None
    assert watched.now.champion.backdrop.baseline is not None


def test_a_day_like_the_others_is_read_and_alarms_nothing(watched: Watched) -> None:
    seen = watched.pass_day(watched.frame())
    assert not seen.alarms
    assert not seen.learning
    psi = {r.column: r for r in seen.readings if isinstance(r, Signal) and r.name == "drift.psi"}
    assert psi["strong"].p_value is not None
    assert psi["strong"].p_value > 0.001
    assert psi["strong"].smallest is not None
    assert psi["strong"].unit == "share"
    assert 0.2 < psi["strong"].smallest < 0.6  # thirty rows see no less than a third of them move
    assert watched.known == 40  # the history is full: healthy days do not join it, or slow drift would hide in it


def test_a_column_that_moved_is_named_with_what_moved(watched: Watched) -> None:
    seen = watched.pass_day(watched.frame(moved=3.0))
    assert [alarm.signal.column for alarm in seen.alarms if alarm.signal.name == "drift.psi"] == ["strong"]
    assert "strong drifted" in seen.alarms[0].said


def test_a_small_shift_that_stays_is_found_over_windows(watched: Watched) -> None:
    alarms = [alarm for _ in range(60) for alarm in watched.pass_day(watched.frame(moved=0.8)).alarms]
    slow = [alarm for alarm in alarms if alarm.signal.name == "drift.slow"]
    assert slow
    assert {alarm.signal.column for alarm in slow} == {"strong"}


def test_a_day_that_was_named_ahead_is_told_and_changes_nothing(watched: Watched) -> None:
    day, next_day = (f"{DAY0 + timedelta(days=watched.day + more):%Y-%m-%d}" for more in (0, 1))
    named = f"watch: {{at_least: 20, expected: [{{name: sale, from: {day}, to: {next_day}}}]}}"
    spec = parse_spec(SPEC.replace("watch: {at_least: 20}", named))
    watched.pass_day(watched.frame())
    watched.day -= 1
    before = dict(watched.now.guarded)
    seen = watched.pass_day(watched.frame(moved=3.0), spec)
    assert not seen.alarms
    assert seen.guarded == before
    psi = {r.column: r for r in seen.readings if isinstance(r, Signal) and r.name == "drift.psi"}
    assert psi["strong"].p_value is not None
    assert psi["strong"].p_value < 0.001


def test_a_handful_of_rows_leaves_everything_as_it_was(watched: Watched) -> None:
    watched.pass_day(watched.frame())
    before = dict(watched.now.guarded)
    assert watched.pass_day(watched.frame(many=5, moved=3.0)).guarded == before


def test_a_day_that_a_person_found_benign_is_usual_from_then_on(watched: Watched) -> None:
    frame = watched.frame(moved=3.0)
    assert watched.pass_day(frame).alarms
    span = Span(DAY0 + timedelta(days=watched.day - 1), DAY0 + timedelta(days=watched.day))
    key = watched.ports.notes.put(portray(frame, watched.reference.bins).to_bytes(with_bins=False))
    watched.now = _with_window(watched.now, span, key)
    watched.pass_day(watched.frame())
    assert watched.known == 41


def test_without_any_history_the_first_days_are_learned_from(watched: Watched) -> None:
    champion = watched.now.champion
    assert champion is not None
    bare = {champion.candidate.id: replace(champion, backdrop=Backdrop())}
    watched.now = replace(watched.now, bench=bare)
    said = [watched.pass_day(watched.frame()).learning for _ in range(21)]
    assert said[0] == "features: 1 of 20 healthy windows"
    assert said[-1] == ""
    assert watched.known == 20


def _with_window(now: Standing, span: Span, profile: str) -> Standing:

    record = WindowRecord(span, 30, (), None, profile=profile)
    return replace(now, history=replace(now.history, windows=(record,)), dismissed=(span,))
