"""Somebody forces a bad model live: which words, in which order, and only when they can be said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from everfit.demo.flights import PARAMETERS
from everfit.demo.meddler import GREEDY, Meddler
from everfit.facts import Fact, ReleaseEnded, ReleasePlanned, RenewEnded
from everfit.fold import fold
from tests.unit.builders import START, chained, going_live, training


@dataclass
class Typed:
    """A terminal that writes down what was typed."""

    words: list[str] = field(default_factory=list)

    def everfit(self, *words: str) -> str:
        self.words.append(" ".join(words[:2]))
        return "said"

    def restart(self, parameters: Mapping[str, object]) -> None:
        self.words.append("greedy" if parameters == GREEDY else "as before" if parameters == PARAMETERS else "?")


@dataclass
class Days:
    """A ledger that grows, and the person who looks at it once a day."""

    stories: list[tuple[str, list[Fact]]]
    typed: Typed = field(default_factory=Typed)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meddler = Meddler(self.typed, START + timedelta(days=1), self.said.append)

    def after(self, *stories: tuple[str, list[Fact]], days: int = 2) -> list[str]:
        """What was typed after a day on which this was written into the ledger."""
        self.stories += stories
        self.typed.words.clear()
        self.meddler.after_day(START + timedelta(days=days), fold(chained(*self.stories)))
        return list(self.typed.words)


def forced() -> list[Fact]:
    """A release that a person wants, begun."""
    plan, published = going_live(2, 1)[:2]
    assert isinstance(plan, ReleasePlanned)
    return [replace(plan, by="somebody"), published]


def test_the_bad_model_is_trained_and_recalled_all_the_same() -> None:
    days = Days([("renew-1", training(1)), ("release-1", going_live(1))])
    assert days.after(days=0) == []  # not yet
    assert days.after() == ["greedy", "retrain --why"]
    assert days.after() == []  # the run was not begun yet
    *begun, ended = training(2, better=False)
    assert days.after(("renew-2", begun)) == []  # nor is it over
    days.stories[-1] = ("renew-2", [*begun, ended])
    assert days.after() == ["as before"]
    other = going_live(1)[:1]
    assert days.after(("release-3", other)) == []  # something else is on its way
    days.stories.pop()
    assert days.after() == ["recall 2"]
    assert days.after() == []
    assert days.meddler.story(fold(chained(*days.stories))) is None  # it was typed; nothing came of it yet
    over = ReleaseEnded("rolled_back", "worse")
    assert days.after(("release-2", [*forced(), over])) == []
    story = days.meddler.story(fold(chained(*days.stories)))
    assert story is not None
    assert story.find(ReleaseEnded) == over


def test_nothing_is_said_of_a_model_that_was_never_trained() -> None:
    days = Days([("renew-1", training(1)), ("release-1", going_live(1))])
    assert days.meddler.story(fold(chained(*days.stories))) is None


def test_the_spec_is_put_back_although_the_run_was_blocked() -> None:
    days = Days([("renew-1", training(1)), ("release-1", going_live(1))])
    days.after()
    blocked: list[Fact] = [*training(2)[:3], RenewEnded("blocked", "a column is null")]
    assert days.after(("renew-2", blocked)) == ["as before"]
    assert days.said[-1] == "  the run is blocked; everfit.yaml is put back"
    assert days.after() == []
