"""Every decision of a replay is taken again from its ledger and the rows of its day, and comes out the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl
import pytest

from everfit.app.explain import decision_number, decision_view, rerun_decision, rerun_window
from everfit.decide.decision import Decision, Retrain
from everfit.errors import UsageError
from everfit.facts import Decided, WindowClosed
from everfit.flows.rules import rules_of
from everfit.ledger import Entry, sealed
from everfit.observe.window import Span
from tests.replaying import Replay
from tests.world import DAY0, rows

MORE = """
triggers:
  - {name: nightly, schedule: "0 0 * * *"}
  - {name: decay, performance: {metric: roc_auc, drop: 0.05}}
  - {name: grown, new_data_share: 40%}
decide: {cool_down: 2d, rest_at_most: 30d}
"""


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    made = Replay(tmp_path_factory.mktemp("lived"), MORE)
    made.feed(rows(0, 20))
    for number in range(20, 24):
        made.feed(rows(number, 1))
    for number in range(24, 26):  # a fault, and whole rows again
        made.feed(rows(number, 1).with_columns(strong=pl.lit(None, dtype=pl.Float64)))
    made.feed(rows(26, 4))
    return made


def entries_of(replay: Replay) -> list[Entry]:
    return replay.ports.ledger.read("m")


def decisions_of(replay: Replay) -> list[int]:
    return [entry.number for entry in entries_of(replay) if entry.kind == "Decided"]


def test_every_decision_agrees_when_it_is_taken_again(lived: Replay) -> None:
    entries, rules = entries_of(lived), rules_of(lived.world.spec)
    answers = {number: rerun_decision(entries, number, rules) for number in decisions_of(lived)}
    assert [answer.said for answer in answers.values() if not answer.agrees] == []
    kinds = {_decision(entries, number).kind for number in answers}
    assert kinds >= {"retrain", "wait", "fix_data"}


def test_every_window_is_measured_again_as_it_was_although_rows_came_since(lived: Replay) -> None:
    entries, measure = entries_of(lived), lived.control.watch.measure
    answers = [rerun_window(entries, number, measure) for number in decisions_of(lived)]
    assert [answer.said for answer in answers if not answer.agrees] == []
    assert sum("agrees" in answer.said[0] for answer in answers) > 5


def test_other_rules_give_another_answer_and_the_difference_is_said(lived: Replay) -> None:
    entries, rules = entries_of(lived), rules_of(lived.world.spec)
    number = next(n for n in decisions_of(lived) if _is_nightly(entries, n))
    answer = rerun_decision(entries, number, replace(rules, triggers=rules.triggers[1:]))
    assert not answer.agrees
    assert "the ledger says retrain" in answer.said[0]


def test_a_reading_that_was_changed_is_named(lived: Replay) -> None:
    entries = entries_of(lived)
    place = next(n for n, entry in enumerate(entries) if isinstance(entry.fact, WindowClosed) and entry.fact.rows)
    closed = entries[place].fact
    assert isinstance(closed, WindowClosed)
    lie = replace(closed, readings=tuple(replace(r, rows=r.rows + 1) for r in closed.readings))
    entries[place] = sealed(entries[place - 1], ("watch", entries[place].step), lie, entries[place].at, ("m", "liar"))
    number = next(n for n in decisions_of(lived) if n > place and _window(entries, n) == closed.span)
    answer = rerun_window(entries, number, lived.control.watch.measure)
    assert not answer.agrees
    assert closed.readings[0].name in answer.said[0]


def test_a_decision_is_shown_with_its_lines_their_source_and_what_would_have_changed_it(lived: Replay) -> None:
    entries = entries_of(lived)
    number = next(n for n in decisions_of(lived) if _is_nightly(entries, n))
    view = decision_view(entries, number, "roc_auc")
    (reason,) = [each for each in view["because"] if each["trigger"] == "nightly"]
    assert reason["source"] == "spec: triggers[0].schedule"
    assert reason["otherwise"]
    assert view["diagnosis"]["kind"] == "healthy"
    broken = next(n for n in decisions_of(lived) if _decision(entries, n).kind == "fix_data")
    shown = decision_view(entries, broken, "roc_auc")
    assert shown["diagnosis"]["columns"] == ("strong",)
    assert shown["diagnosis"]["kinds"] == ("null spike",)
    assert Span(*_days(24)) == _window(entries, broken)


def test_a_number_means_a_decision_and_nothing_else(lived: Replay) -> None:
    entries = entries_of(lived)
    last = decisions_of(lived)[-1]
    assert decision_number(entries, None) == last
    assert decision_number(entries, f"#{last}") == decision_number(entries, str(last)) == last
    assert decision_number(entries, "1") is None  # the columns were learned
    assert decision_number(entries, "v1") is None
    with pytest.raises(UsageError, match="not a decision"):
        decision_view(entries, 1, "roc_auc")


def _days(first: int) -> tuple[datetime, datetime]:
    return DAY0 + timedelta(days=first), DAY0 + timedelta(days=first + 1)


def _decision(entries: list[Entry], number: int) -> Decision:
    fact = entries[number - 1].fact
    assert isinstance(fact, Decided)
    return fact.decision


def _window(entries: list[Entry], number: int) -> Span | None:
    fact = entries[number - 1].fact
    assert isinstance(fact, Decided)
    return fact.window


def _is_nightly(entries: list[Entry], number: int) -> bool:
    decision = _decision(entries, number)
    return isinstance(decision, Retrain) and decision.because[0].trigger == "nightly"
