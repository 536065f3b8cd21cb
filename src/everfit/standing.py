"""Where a model stands: what follows from its ledger, as records.

Takes nothing; gives `Standing`, `Story` and `Kept`, which `everfit.fold` fills; never reads a ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from everfit.decide.decision import Decision, Recall, Retrain, RollBack
from everfit.decide.history import History, WindowRecord
from everfit.detect.backdrop import Backdrop
from everfit.detect.decay import Baseline, Decay
from everfit.facts import BenchScored, Fact, Guarded, WentLive
from everfit.ids import content_key
from everfit.judge.verdict import Verdict
from everfit.lifecycle import State
from everfit.observe.schema import Schema
from everfit.observe.window import Span
from everfit.retrain.candidate import Candidate
from everfit.retrain.dataset import Dataset
from everfit.retrain.recipe import Recipe

WATCH, PEOPLE = "watch", "people"
F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Story:
    """One training run or release: its facts so far."""

    run: str
    facts: tuple[Fact, ...]
    times: tuple[datetime, ...]

    def find(self, kind: type[F]) -> F | None:
        """The last fact of a kind."""
        return next((fact for fact in reversed(self.facts) if isinstance(fact, kind)), None)

    def when(self, kind: type) -> datetime | None:
        """When the last fact of a kind was written, in the model's clock."""
        pairs = zip(reversed(self.facts), reversed(self.times), strict=True)
        return next((at for fact, at in pairs if isinstance(fact, kind)), None)


@dataclass(frozen=True, slots=True)
class Kept:
    """A model that was trained, with all that is known about it."""

    candidate: Candidate
    run: str
    version: int  # 0 until registered
    state: State
    verdict: Verdict | None
    reference: str | None  # key of the profile of its proving rows
    recipe: Recipe
    dataset: Dataset | None
    per_window: Mapping[str, float] = field(default_factory=dict)  # what a window of the live model is held against
    backdrop: Backdrop = field(default_factory=Backdrop)  # what windows of the live model are held to
    live_since: datetime | None = None  # last time it went live


@dataclass(frozen=True, slots=True)
class Standing:
    """All that follows from a model's ledger."""

    history: History
    schema: Schema | None = None
    stories: Mapping[str, Story] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)  # run -> state of its candidate
    bench: Mapping[str, Kept] = field(default_factory=dict)  # candidate -> what is known
    decisions: tuple[tuple[datetime, Span | None, Decision], ...] = ()
    releases: tuple[tuple[datetime, WentLive], ...] = ()
    scored: tuple[tuple[BenchScored, str | None], ...] = ()  # windows of the bench, with the champion of that moment
    told: Mapping[str, datetime] = field(default_factory=dict)
    closed_until: datetime | None = None  # end of the last window that was closed or skipped
    undecided: Span | None = None  # a window that was measured and on which nothing was decided yet
    watch_step: int = 0  # facts of the watch so far
    people_step: int = 0
    decay: Decay = field(default_factory=Decay)  # the champion's evidence of decay
    grown: Baseline | None = None  # what the champion is held to, where windows joined what its proof knew
    guarded: Mapping[str, Guarded] = field(default_factory=dict)  # drift monitors; none before its first window
    former: Mapping[str, Guarded] = field(default_factory=dict)  # of champions before: what was spent counts on
    learning: str = ""  # why the promise of false alarms does not hold yet
    dismissed: tuple[Span, ...] = ()  # windows that a person found benign since the last one was closed
    number: int = 0  # entries folded
    at: datetime | None = None  # time of the last entry

    @property
    def champion(self) -> Kept | None:
        """The model that serves, if any."""
        live = self.history.champion
        return self.bench.get(live.candidate) if live else None

    @property
    def baseline(self) -> Baseline | None:
        """What the champion's performance is held to; None where its proof knew too little."""
        return self.grown or (self.champion.backdrop.baseline if self.champion else None)

    @property
    def immature(self) -> list[WindowRecord]:
        """Windows that were closed and whose labels had not matured yet, oldest first."""
        return [window for window in self.history.windows if window.mature is None]

    @property
    def unstarted(self) -> Retrain | Recall | RollBack | None:
        """The last decision, if its run was not begun: a crash came between."""
        if not self.decisions or not isinstance(decision := self.decisions[-1][2], Retrain | Recall | RollBack):
            return None
        return None if run_of(decision) in self.stories else decision


def run_of(decision: Retrain | Recall | RollBack) -> str:
    """The run that a decision causes: named by its evidence, so that the same evidence never causes two.

    >>> from everfit.decide.decision import Reason
    >>> one, other = Reason("weekly", None, None, "it is Sunday", "k1"), Reason("weekly", 1, 2, "", "k1")
    >>> run_of(Retrain((one,))) == run_of(Retrain((other,)))
    True
    """
    kind = {"retrain": "renew", "recall": "recall", "roll_back": "release-back"}[decision.kind]
    return f"{kind}-{content_key(sorted({reason.evidence for reason in decision.because}))}"
