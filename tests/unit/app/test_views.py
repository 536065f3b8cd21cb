"""What people see: what became of each trigger's runs, and ledgers from before reasons said where a line came from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from everfit.app.views import runs_told, said_of
from everfit.decide.accounts import accounts
from everfit.decide.decision import Reason, Retrain
from everfit.facts import Decided, Dismissed, Fact, WindowClosed, WindowMatured
from everfit.fold import fold
from everfit.ledger import Entry
from everfit.retrain.recipe import LakeVersion
from tests.unit.builders import START, candidate, chained, day, going_live, reading, training


def days(first: int, champion: int, *values: float) -> list[Fact]:
    """Windows that a champion served, each with its metric."""
    facts: list[Fact] = []
    for number, value in enumerate(values, first):
        facts.append(WindowClosed(day(number), 900, LakeVersion(1, 1), candidate(champion).id, (), (), None))
        facts.append(WindowMatured(day(number), 900, 800, (reading(value),)))
    return facts


def moved(entries: list[Entry], since: int, by: timedelta) -> list[Entry]:
    """The same entries, some of them later."""
    return [replace(e, at=e.at + by) if e.number > since else e for e in entries]


def test_each_run_is_told_with_the_windows_before_and_after_its_release() -> None:
    stories = [
        ("renew-1", training(1)),
        ("release-1", going_live(1)),
        ("watch", days(2, 1, 0.70, 0.71)),
        ("renew-2", training(2, better=True)),
        ("release-2", going_live(2, 1)),
        ("watch", days(6, 2, 0.76)),
        ("renew-3", training(3, better=False)),
    ]
    plain = chained(*stories)
    second = next(e.number for e in plain if e.run == "renew-2")
    first, better, kept = runs_told(fold(moved(plain, second, timedelta(days=4))), "roc_auc")
    assert (first.triggers, first.outcome, first.before, first.after) == (("decay",), "promoted", (), (0.70, 0.71))
    assert (better.before, better.after, better.gain) == ((0.70, 0.71), (0.76,), 0.01)
    assert (kept.outcome, kept.before, kept.after, kept.gain) == ("kept_back", (), (), -0.01)
    (decay,) = accounts((first, better, kept), "roc_auc")
    assert (decay.runs, decay.promoted, decay.kept_back, decay.helped, decay.unknown) == (3, 2, 1, 1, 1)


def test_a_dismissed_window_is_told_in_the_history() -> None:
    (entry,) = chained(("people", [Dismissed(day(3), "a strike")]))
    assert said_of(entry.fact) == f"dismissed the window {day(3)}: a strike"


def test_a_decision_of_an_old_ledger_is_read_although_its_reasons_say_less() -> None:
    (entry,) = chained(("watch", [Decided(Retrain((Reason("decay", 0.03, 0.02, "it fell", "e1"),)), None)]))
    for name in ("source", "otherwise"):
        del entry.body["decision"]["because"][0][name]
    del entry.body["decision"]["probe"]
    entry.body.pop("rules", None)
    fact = entry.fact
    assert isinstance(fact, Decided)
    assert fact.decision == Retrain((Reason("decay", 0.03, 0.02, "it fell", "e1"),))
    assert entry.at == START
