"""Builders of facts for tests: small, with everything that a test does not care about filled in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from everfit.decide.decision import Reason
from everfit.decide.history import Champion, History, RunRecord, WindowRecord
from everfit.detect.signal import Alarm, Signal
from everfit.facts import (
    CandidateRegistered,
    CandidateTrained,
    DataChecked,
    DatasetPinned,
    Fact,
    Judged,
    RecipeChosen,
    ReleaseEnded,
    ReleasePlanned,
    RenewBegan,
    RenewEnded,
    StageDone,
    WentLive,
)
from everfit.judge.verdict import Better, Evidence, Interval, NotBetter, Verdict
from everfit.ledger import Entry, sealed
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.observe.window import Span
from everfit.retrain.candidate import Candidate, ModelFile
from everfit.retrain.dataset import Dataset
from everfit.retrain.recipe import LakeVersion, Recipe
from everfit.rollout.options import Rolling
from everfit.rollout.plan import plan_release, plan_rollback

START = datetime(2013, 2, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SCHEMA = Schema((Column("hour", Kind.NUMBER), Column("origin", Kind.CATEGORY)), ("0", "1"))


def day(number: int) -> Span:
    """The day that begins `number` days after the start."""
    return Span(START + number * DAY, START + (number + 1) * DAY)


def reading(value: float, *, metric: str = "roc_auc", half: float = 0.01, rows: int = 900) -> Signal:
    """A performance reading with an interval of `half` to both sides."""
    return Signal(f"performance.{metric}", "*", value, rows, value - half, value + half)


def window(
    number: int, value: float | None = None, *, champion: str = "c1", alarms: tuple[Alarm, ...] = ()
) -> WindowRecord:
    """A window of a day; with a value its labels have matured."""
    mature = (reading(value),) if value is not None else None
    return WindowRecord(day(number), 900, alarms, champion, (), mature, 800 if value is not None else 0)


def champion(level: float = 0.75, *, since: datetime = START, name: str = "c1") -> Champion:
    """A champion that was proven at a level."""
    return Champion(name, 1, since, {"roc_auc": level}, {}, since - DAY, since - 8 * DAY)


def run(number: int, outcome: str = "promoted", *, at: datetime = START, evidence: str = "") -> RunRecord:
    """A run that ended when it began."""
    ended = None if outcome == "running" else at
    return RunRecord(f"renew-{number}", at, frozenset({evidence or f"e{number}"}), ended, outcome)


def history(*windows: WindowRecord, **changes: object) -> History:
    """A history with a champion and windows."""
    return History("m", **{"champion": champion(), "windows": windows, **changes})  # type: ignore[arg-type]  # a builder


def recipe(number: int = 1) -> Recipe:
    """A recipe that differs by its seed."""
    train, holdout = Span(START - 30 * DAY, START - 8 * DAY), Span(START - 8 * DAY, START - DAY)
    return Recipe(
        "m",
        "binary",
        "late",
        SCHEMA,
        LakeVersion(1, 1),
        train,
        holdout,
        START,
        "train:fit",
        "c0de",
        {},
        number,
    )


def candidate(number: int = 1) -> Candidate:
    """A candidate of the recipe of that number."""
    made = recipe(number)
    file = ModelFile(f"f{number}", "skops", 1000)
    return Candidate(made.id, file, "binary", SCHEMA, ("0", "1"), "1", made.train.end, 20_000)


def verdict(number: int = 1, *, better: bool = True, level: float = 0.75) -> Verdict:
    """A verdict on the candidate of that number."""
    gain = Interval(0.01, 0.002, 0.018) if better else Interval(-0.01, -0.018, -0.002)
    evidence = Evidence(candidate(number).id, "baseline", 6000, day(-8), "roc_auc", gain, {"roc_auc": level}, {})
    return (Better if better else NotBetter)(evidence, (), "it beats it" if better else "it does not")


def training(number: int, *, better: bool = True, level: float = 0.75) -> list[Fact]:
    """The facts of a whole training run."""
    made = candidate(number)
    return [
        RenewBegan((Reason("decay", 0.03, 0.02, "it fell", f"e{number}"),), first=number == 1),
        RecipeChosen(recipe(number)),
        DatasetPinned(Dataset(made.recipe, 20_000, 6000, 40, "f00d", ("0", "1"))),
        DataChecked((), fit=True),
        CandidateTrained(made),
        CandidateRegistered(made.id, number),
        Judged(verdict(number, better=better, level=level), "note"),
        RenewEnded("proven" if better else "kept_back", "said"),
    ]


def going_live(number: int, previous: int | None = None, *, back: bool = False) -> list[Fact]:
    """The facts of a whole release or roll-back."""
    to = candidate(number).id
    old = candidate(previous).id if previous else None
    stages = plan_rollback(old or "", to) if back else plan_release(to, old, Rolling())
    done: list[Fact] = [StageDone(0, "publish")] if not back else []
    return [
        ReleasePlanned(to, number, old, stages, f"renew-{number}", back),
        *done,
        WentLive(to, number, old, back, "because"),
        StageDone(2, "alias"),
        ReleaseEnded("live", "it serves"),
    ]


def chained(*stories: tuple[str, list[Fact]], at: datetime = START) -> list[Entry]:
    """Entries of stories told one after the other, an hour apart."""
    entries: list[Entry] = []
    for name, facts in stories:
        for number, fact in enumerate(facts, 1):
            last = entries[-1] if entries else None
            entries.append(sealed(last, (name, number), fact, at + len(entries) * timedelta(hours=1), ("m", "test")))
    return entries
