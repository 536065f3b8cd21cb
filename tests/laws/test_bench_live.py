"""What live does and what a backtest says are one policy: on the same scores the fold of the ledger moves alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from everfit.decide.bench_options import BenchOptions
from everfit.decide.decision import BenchRun, Decision, Recall, Retrain
from everfit.decide.options import Deciding, Rules, default_triggers
from everfit.decide.policy import decide
from everfit.facts import (
    BenchScored,
    CandidateRegistered,
    CandidateTrained,
    DataChecked,
    DatasetPinned,
    Fact,
    Judged,
    RecallBegan,
    RecallEnded,
    RecipeChosen,
    ReleaseEnded,
    ReleasePlanned,
    RenewBegan,
    RenewEnded,
    StepFailed,
    WentLive,
    WindowClosed,
    WindowMatured,
)
from everfit.flows.bench import with_bench
from everfit.fold import fold, step
from everfit.judge.verdict import Better
from everfit.ledger import Entry, sealed
from everfit.observe.window import Span
from everfit.replay.matrix import Cell
from everfit.replay.play import Played, play_bench
from everfit.retrain.dataset import Dataset
from everfit.retrain.recipe import LakeVersion
from everfit.standing import WATCH, Standing, run_of
from tests.unit.builders import DAY, START, candidate, day, going_live, recipe, training, verdict
from tests.unit.replay.histories import Formula, flip_at, matrix_of, returning, stale

BASE, WINDOWS = 10, 60
RULES = Rules(default_triggers(), Deciding(bench=BenchOptions(recent=BASE)), "roc_auc", first_rows=700)


@dataclass
class Ledger:
    """A ledger that is written by a policy alone: trainers and scores are formulas, and a release takes no time."""

    cells: Formula
    delay: int
    now: int = BASE - 1
    entry: Entry | None = None
    standing: Standing | None = None
    steps: dict[str, int] = field(default_factory=dict)
    trained: dict[str, Cell] = field(default_factory=dict)  # candidate -> windows of its rows
    runs: list[tuple[int, Cell]] = field(default_factory=list)
    served: list[Cell] = field(default_factory=list)

    def write(self, run: str, *facts: Fact) -> Standing:
        """Facts of one story."""
        at = START + (self.now - BASE + 1) * DAY
        for fact in facts:
            self.steps[run] = self.steps.get(run, 0) + 1
            self.entry = sealed(self.entry, (run, self.steps[run]), fact, at, ("m", "test"))
            self.standing = step(self.standing or fold([], model="m"), self.entry)
        assert self.standing is not None
        return self.standing

    def begin(self) -> None:
        """The first model, of windows 0 to 9."""
        self.trained[candidate(1).id] = (0, BASE - 1)
        self.write("renew-1", *training(1))
        self.write("release-1", *going_live(1))

    def window(self, now: int) -> None:
        """A window ends, the labels of an earlier one are mature, and the policy is asked until it waits."""
        self.now = now
        standing = self.write(WATCH, WindowClosed(day(now - BASE), 20, LakeVersion(1, 1), self.live, (), (), None))
        self.served.append(self.trained[self.live])
        labelled = now - self.delay
        if labelled < BASE:
            return
        span = day(labelled - BASE)
        standing = self.write(WATCH, WindowMatured(span, 20, 20, ()), self.scores(labelled, span))
        while (decision := self.ask(standing)).kind != "wait":
            assert isinstance(decision, Retrain | Recall)
            standing = self.train(decision) if isinstance(decision, Retrain) else self.recall(decision)

    @property
    def live(self) -> str:
        assert self.standing is not None
        assert self.standing.history.champion is not None
        return self.standing.history.champion.candidate

    def ask(self, standing: Standing) -> Decision:
        return decide(with_bench(standing, RULES.limits.bench), RULES, START + (self.now - BASE + 1) * DAY)

    def scores(self, number: int, span: Span) -> BenchScored:
        levels: dict[str, tuple[float | None, float | None, float | None]] = {}
        for name, cell in self.trained.items():
            if cell[1] < number:
                whole, even, odd = (float(each) for each in self.cells.scored(cell, (number, number)).levels[0])
                levels[name] = (whole, even, odd)
        return BenchScored(number, self.now, 1, span, 20, 20, "roc_auc", True, levels, {})

    def train(self, decision: Retrain) -> Standing:
        asked = decision.bench
        assert isinstance(asked, BenchRun)
        cell = (asked.first, asked.last)
        self.runs.append((self.now, cell))
        run, number = run_of(decision), len(self.runs) + 1
        chosen = replace(recipe(number), train=Span(START - 30 * DAY, START + (asked.last - BASE + 1) * DAY))
        made = replace(candidate(number), recipe=chosen.id)
        rows = Dataset(chosen.id, 400, 0, 0, "f00d", ("0", "1"))
        self.write(run, RenewBegan(decision.because, first=False, bench=asked), RecipeChosen(chosen))
        self.write(run, DatasetPinned(rows), DataChecked((), fit=True))
        if self.cells.take(cell).failed:
            return self.write(run, StepFailed("train", "TrainingFailed", "odd"), RenewEnded("failed", "odd"))
        self.trained[made.id] = cell
        ended = RenewEnded("benched", "it waits")
        return self.write(run, CandidateTrained(made), CandidateRegistered(made.id, number), ended)

    def recall(self, decision: Recall) -> Standing:
        run, name, before = run_of(decision), decision.candidate, self.live
        evidence = replace(verdict().evidence, candidate=name, against=before)
        self.write(run, RecallBegan(name, before, self.now, 1, 0.1, 0.003, decision.because))
        self.write(run, Judged(Better(evidence, (), "it wins"), None), RecallEnded("planned", "it wins"))
        plan = ReleasePlanned(name, 2, before, (), run, back=False)
        return self.write(
            f"release-{run}", plan, WentLive(name, 2, before, False, run), ReleaseEnded("live", "it serves")
        )


def lived(cells: Formula, delay: int) -> Ledger:
    """The ledger of a whole history."""
    ledger = Ledger(cells, delay)
    ledger.begin()
    for now in range(BASE, WINDOWS):
        ledger.window(now)
    return ledger


def check(played: Played, ledger: Ledger) -> None:
    """The same runs on the same rows at the same windows, and the same model in every window."""
    assert ledger.runs[: played.runs] == [(each.window, each.trained_on) for each in played.decisions]
    assert all(now == WINDOWS - 1 for now, _ in ledger.runs[played.runs :])  # a backtest ends before its last window
    assert ledger.served == list(played.served)


MORE = pytest.mark.simulation
CASES = [
    pytest.param(flip_at(25), 2, id="flip-2"),
    pytest.param(flip_at(25), 0, id="flip-0", marks=MORE),
    *(pytest.param(score, delay, id=f"{name}-{delay}", marks=MORE)
      for name, score in [("stale", stale), ("returning", returning(12))] for delay in (0, 2)),
]  # fmt: skip


@pytest.mark.parametrize("score, delay", CASES)
def test_live_moves_as_the_backtest_says(score: Callable[[int, int, int], float], delay: int) -> None:
    matrix, cells = matrix_of(score, WINDOWS, noise=0.01, seed=3)
    played = play_bench(matrix, delay)
    assert played.runs > 2
    assert played.changes > 0
    check(played, lived(cells, delay))


def test_a_run_that_failed_counts_alike() -> None:
    matrix, cells = matrix_of(stale, WINDOWS, noise=0.01)
    first = play_bench(matrix).decisions[0].trained_on
    matrix, cells = matrix_of(stale, WINDOWS, noise=0.01)
    cells.failing.add(first)
    played = play_bench(matrix)
    assert played.decisions[0].failed
    check(played, lived(cells, 0))
