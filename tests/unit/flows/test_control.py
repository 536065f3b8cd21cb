"""The control loop in a replay: windows close, labels mature, rests and schedules follow the events' clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from everfit.clock import BEGINNING, EventClock, LedClock
from everfit.decide.decision import FixData, Retrain
from everfit.facts import Paused, Resumed, RetrainAsked, WindowClosed, WindowMatured
from everfit.flows.control import Control
from everfit.flows.hand import Hand
from everfit.flows.measure import Measure
from everfit.flows.watch import Watch
from everfit.observe.intake import Rules, take_history
from everfit.ports import Batch, Ports, Table, Write
from everfit.standing import PEOPLE
from everfit.testing import MemoryNotes, in_memory
from tests.world import DAY0, SECOND, World, facts_of, rows, spec_of, with_port

RULES = Rules("binary", target="late", time="at", id="flight")
DAILY = 'triggers: [{name: nightly, schedule: "0 0 * * *"}]\ndecide: {cool_down: 2d, rest_at_most: 30d}\n'
EAGER = DAILY.replace("2d", "1m").replace("30d", "1m")
NEVER = "triggers: [{name: launch, event: launch}]\n"


@dataclass
class Replay:
    """A model whose time is that of its events."""

    folder: Path
    more: str
    fresh: bool = False  # a new control for every tick, as if each had been killed
    ports: Ports = field(init=False)
    world: World = field(init=False)
    control: Control = field(init=False)

    def __post_init__(self) -> None:
        notes = MemoryNotes()

        def recorded() -> datetime | None:
            marked = notes.marked("now:m")
            return datetime.fromisoformat(marked) if marked else None

        self.ports = with_port(in_memory(EventClock(recorded)), notes=notes)
        self.world = World(self.ports, self.folder, spec_of(SECOND, self.more))
        self.control = self.new_control()

    def new_control(self) -> Control:
        """A control as a fresh process has it."""
        ports, world = self.ports, self.world
        led = LedClock(
            lambda: None if ports.clock.now() == BEGINNING else ports.clock.now(),
            lambda moment: ports.notes.mark("now:m", moment.isoformat()),
        )
        steps = world.steps()
        measure = Measure(world.spec, ports.lake, Hand(ports.notes), steps.shadow, shadows=steps.shadows)
        watch = Watch(world.spec, replace(world.desk, now=led.now), measure, world.follower())
        return Control(
            watch, ports.journal, ports.lake, ports.notes, RULES, self.folder / "clock.json", source="memory",
            bring=lambda: 0, clock=led,
        )  # fmt: skip

    def feed(self, frame: pl.DataFrame) -> None:
        """Send rows with their labels and let everything that follows from them happen."""
        predictions, labels = take_history(frame, RULES, now=None, issue=str)
        batches = [Batch(Table.PREDICTIONS, predictions.rows), Batch(Table.LABELS, labels.rows)]
        number = self.ports.journal.append(batches)
        (self.folder / "settle").write_text(str(number))
        for _ in range(1000):
            if self.fresh:
                self.control = self.new_control()
            moved = self.control.tick()
            self.world.finish()
            if not moved and not self.ports.ledger.due("m", self.ports.clock.now()):
                return
        raise AssertionError("the control loop does not come to rest")

    def say(self, fact: Paused | Resumed | RetrainAsked) -> None:
        """A person's word."""
        step = self.world.standing().people_step + 1
        self.ports.ledger.append(Write("m", PEOPLE, step, fact, self.ports.clock.now(), "ada", ends=True))

    def starts(self) -> list[float]:
        """Days after the beginning at which runs were started."""
        return [(run.started - DAY0) / timedelta(days=1) for run in self.world.standing().history.runs]


def replay_of(folder: Path, more: str, days: int = 60, *, fresh: bool = False) -> Replay:
    """Twenty days at once, then a day at a time."""
    made = Replay(folder, more, fresh)
    made.feed(rows(0, 20))
    for number in range(20, days):
        made.feed(rows(number, 1))
    return made


@pytest.fixture(scope="module")
def nightly(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return replay_of(tmp_path_factory.mktemp("nightly"), DAILY)


def test_columns_are_learned_a_champion_comes_and_windows_follow_day_by_day(nightly: Replay) -> None:
    standing = nightly.world.standing()
    assert standing.schema is not None
    assert standing.schema.names() == ["weak", "strong", "idle", "shop"]
    assert standing.champion is not None
    spans = [fact.span for _, fact in _facts(nightly, WindowClosed)]
    assert [span.end - span.start for span in spans] == [timedelta(days=1)] * len(spans)
    assert all(one.end == other.start for one, other in pairwise(spans))
    matured = {fact.span: at for at, fact in _facts(nightly, WindowMatured)}
    assert all(at == span.end + timedelta(hours=1) for span, at in matured.items())
    assert set(spans) - set(matured) <= {spans[-1]}  # the last day's labels have not matured yet


def _facts(replay: Replay, kind: type) -> list[tuple[datetime, Any]]:
    found = [(entry.at, entry.fact) for entry in replay.ports.ledger.read("m")]
    return [(at, fact) for at, fact in found if isinstance(fact, kind)]


def test_a_schedule_fires_at_midnight_of_the_events_until_the_budget_is_spent(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, EAGER, 32)
    _, *others = replay.starts()
    assert others == [20.0 + number for number in range(7)]  # eight runs in thirty days, with the first


def test_rests_on_the_events_clock_are_kept_and_doubled(nightly: Replay) -> None:
    first, *others = nightly.starts()
    gaps = [later - earlier for earlier, later in pairwise([first, *others])]
    outcomes = [run.outcome for run in nightly.world.standing().history.runs]
    assert outcomes[0] == "promoted"
    rest = 2.0
    for gap, outcome in zip(gaps, outcomes[:-1], strict=True):
        rest = 2.0 if outcome == "promoted" else 2 * rest
        assert rest <= gap < rest + 1
    assert len(others) >= 3


def test_a_control_that_is_killed_after_every_tick_writes_the_same_ledger(nightly: Replay, tmp_path: Path) -> None:
    restless = replay_of(tmp_path, DAILY, fresh=True)
    assert facts_of(restless.ports.ledger.read("m")) == facts_of(nightly.ports.ledger.read("m"))


def test_the_same_rows_at_once_or_day_by_day_make_the_same_windows(nightly: Replay, tmp_path: Path) -> None:
    """Only the champion's first day depends on when the first rows came."""
    at_once = Replay(tmp_path, DAILY)
    at_once.feed(rows(0, 20))
    at_once.feed(rows(20, 40))
    one, other = ([(fact.span, fact.rows) for _, fact in _facts(each, WindowClosed)] for each in (nightly, at_once))
    assert one == other


def test_broken_rows_are_a_decision_that_names_the_column_and_nothing_is_trained(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, DAILY, 22)
    runs = len(replay.starts())
    for number in range(22, 26):
        replay.feed(rows(number, 1).with_columns(strong=pl.lit(None, dtype=pl.Float64)))
    decision = replay.world.standing().decisions[-1][2]
    assert isinstance(decision, FixData)
    assert "strong" in decision.columns
    assert "null" in decision.because[0].said
    assert len(replay.starts()) == runs


def test_a_person_asks_pauses_and_resumes(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, NEVER, 22)
    assert len(replay.starts()) == 1
    replay.say(Paused("holiday"))
    replay.say(RetrainAsked("look at it", "k1"))
    replay.feed(rows(22, 1))
    assert len(replay.starts()) == 1
    replay.say(Resumed("back"))
    replay.feed(rows(23, 1))
    assert len(replay.starts()) == 2
    asked = [decision for _, _, decision in replay.world.standing().decisions if isinstance(decision, Retrain)]
    assert asked[-1].because[0].said == "ada asked for it: look at it"
    replay.feed(rows(24, 1))
    assert len(replay.starts()) == 2  # the same word never counts twice


def test_before_any_row_there_is_no_time_and_nothing_to_do(tmp_path: Path) -> None:
    replay = Replay(tmp_path, DAILY)
    assert not replay.control.tick()
    assert replay.ports.clock.now() == BEGINNING
    assert replay.ports.ledger.read("m") == []
    replay.feed(rows(0, 2))  # fewer rows than columns are learned from
    assert replay.starts() == []


def test_a_column_that_changes_its_type_is_named(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, NEVER, 22)
    for number in range(22, 25):
        broken = (
            pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("a lot")).otherwise(pl.col("strong").cast(pl.String))
        )
        replay.feed(rows(number, 1).with_columns(strong=broken))
    decision = replay.world.standing().decisions[-1][2]
    assert isinstance(decision, FixData)
    assert "strong" in decision.columns
    assert "refused" in decision.because[-1].said


def test_labels_of_unknown_ids_are_kept_and_are_no_rows(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, NEVER, 22)
    strangers = rows(22, 1).with_columns(flight=pl.format("nobody-{}", "flight"))
    _, labels = take_history(strangers, RULES, now=None, issue=str)
    replay.ports.journal.append([Batch(Table.LABELS, labels.rows)])
    for number in range(22, 25):
        replay.feed(rows(number, 1))
    closed = [fact.rows for _, fact in _facts(replay, WindowClosed)]
    matured = [(fact.rows, fact.labelled) for _, fact in _facts(replay, WindowMatured)]
    assert set(closed) == {30}
    assert set(matured) == {(30, 30)}


def test_an_event_from_before_the_last_closed_window_is_late_and_reopens_nothing(tmp_path: Path) -> None:
    replay = replay_of(tmp_path, NEVER, 24)
    before = [(fact.span, fact.rows) for _, fact in _facts(replay, WindowClosed)]
    replay.feed(rows(21, 1).with_columns(flight=pl.format("late-{}", "flight")))
    replay.feed(rows(24, 1))
    after = [(fact.span, fact.rows) for _, fact in _facts(replay, WindowClosed)]
    assert after[: len(before)] == before
    kept = replay.ports.lake.read(Table.PREDICTIONS, since=None, until=None).filter("_late").collect()
    assert kept.height == 30
