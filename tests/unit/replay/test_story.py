"""The story: what a ledger tells, in the words of the report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import pytest

from everfit.decide.decision import Reason, Retrain, Wait
from everfit.detect.signal import Alarm, Signal
from everfit.facts import Decided, Fact, RecallBegan, ReleaseEnded, ReleasePlanned, WindowClosed, WindowMatured
from everfit.fold import fold
from everfit.replay.report import render
from everfit.replay.story import story_from
from everfit.retrain.recipe import LakeVersion
from everfit.spec import Spec
from tests.unit.builders import DAY, START, candidate, chained, day, going_live, reading, training

SPEC = Spec(model="delay", task="binary", target="late", time="scheduled")
HELD, FELL = Reason("decay", 0.01, 0.02, "roc_auc holds", "e"), Reason("decay", 0.05, 0.02, "roc_auc fell", "f")


@dataclass(frozen=True)
class Result:
    pooled: float
    daily: dict[date, float]
    mean_of_days: float = 0.7


def psi(column: str, effect: float) -> Signal:
    return Signal("drift.psi", column, effect + 0.02, 900, effect=effect)


def watched() -> list[Fact]:
    facts: list[Fact] = []
    for number in range(4):
        moved = psi("hour", 0.1 * number)
        alarms = (Alarm(moved, 0.2, "drift", "hour moved"),) if number == 3 else ()
        name = candidate(1).id
        facts += [
            WindowClosed(day(number), 900, LakeVersion(1, 1), name, (moved, psi("origin", -0.01)), alarms, None),
            WindowMatured(day(number), 900, 800, (reading(0.7 + number / 100), reading(0.5, metric="log_loss"))),
            Decided(Wait((HELD,)), day(number)),
        ]
    return [*facts, Decided(Retrain((FELL,)), day(3)), Decided(Wait((HELD,)), day(4))]


def entries() -> list[tuple[str, list[Fact]]]:
    return [
        ("renew-1", training(1)), ("release-1", going_live(1)), ("watch", watched()),
        ("renew-2", training(2, level=0.8)), ("release-2", going_live(2, 1)), ("renew-3", training(3, better=False)),
    ]  # fmt: skip


STANDING = fold(chained(*entries()))


def test_days_are_told_as_the_watch_measured_them() -> None:
    story = story_from(SPEC, STANDING)
    assert [point.value for point in story.daily] == pytest.approx([0.7, 0.71, 0.72, 0.73])
    assert (story.daily[0].low, story.daily[0].high, story.daily[0].rows) == (0.69, 0.71, 800)


def test_with_rivals_all_are_told_on_the_same_rows() -> None:
    days = {START.date(): 0.66, (START + DAY).date(): 0.67}
    story = story_from(SPEC, STANDING, {"everfit": Result(0.7, days), "weekly": Result(0.69, days)}, {"weekly": 48})
    assert [(point.value, point.low, point.rows) for point in story.daily] == [(0.66, None, 800), (0.67, None, 800)]
    assert list(story.rivals) == ["weekly"]
    assert [(each.name, each.trainings) for each in story.comparison] == [("everfit", 2), ("weekly", 48)]
    assert story.facts[1].value == "+0.0100"


def test_champions_are_told_with_why_they_came() -> None:
    first, second = story_from(SPEC, STANDING).champions
    assert (first.version, first.reason, first.proven, first.rows) == (1, "it fell", 0.75, 20_000)
    assert (first.until, second.until) == (second.since, None)
    assert first.verdict == "it beats it"


def test_a_champion_that_came_back_says_so() -> None:
    back = fold(chained(*entries(), ("release-back", going_live(1, 2, back=True))))
    assert story_from(SPEC, back).champions[-1].reason == "rolled back: because"


def test_a_release_that_was_taken_back_is_told_with_whose_word_it_was() -> None:
    bad = candidate(3).id
    word = Reason("recalled", None, None, "anna recalls version 3", "e", "a person")
    recalled = RecallBegan(bad, candidate(2).id, 0, 0, 0.0, 0.0, (word,), by="anna")
    plan, published = going_live(3, 2)[:2]
    assert isinstance(plan, ReleasePlanned)
    forced = replace(plan, cause="recall-1", by="anna")
    over = ReleaseEnded("rolled_back", "worse on the same rows")
    more: list[tuple[str, list[Fact]]] = [("recall-1", [recalled]), ("release-3", [forced, published, over])]
    story = story_from(SPEC, fold(chained(*entries(), *more)))
    assert [(each.version, each.outcome, each.wanted, each.said) for each in story.taken_back] == [
        (3, "rolled_back", "anna recalls version 3", "worse on the same rows")
    ]
    assert "worse on the same rows" in render(story)
    assert story_from(SPEC, STANDING).taken_back == ()


def test_candidates_are_told_whatever_became_of_them() -> None:
    lines = story_from(SPEC, STANDING).candidates
    assert [(each.version, each.verdict, each.promoted) for each in lines] == [
        (1, "better", True),
        (2, "better", True),
        (3, "not_better", False),
    ]
    assert (lines[2].gain, lines[2].low, lines[2].high) == (-0.01, -0.018, -0.002)


def test_what_is_decided_again_for_the_same_reason_is_one_line() -> None:
    lines = story_from(SPEC, STANDING).decisions
    assert [(each.kind, each.times) for each in lines] == [("wait", 4), ("retrain", 1), ("wait", 1)]
    assert lines[1].details[0] == "decay: roc_auc fell (read 0.05, limit 0.02)"


def test_drift_is_told_without_its_noise() -> None:
    drift = story_from(SPEC, STANDING).drift
    assert drift is not None
    assert drift.columns == ("hour", "origin")
    assert drift.values[0] == pytest.approx((0.0, 0.1, 0.2, 0.3))
    assert drift.values[1] == (0.0, 0.0, 0.0, 0.0)
    assert drift.alarms == {("hour", START.date() + timedelta(days=3))}


def test_an_empty_ledger_is_a_story_too() -> None:
    story = story_from(SPEC, fold([], model="delay"))
    assert (story.daily, story.champions, story.drift) == ((), (), None)
    assert "How delay was kept fit" in render(story)
