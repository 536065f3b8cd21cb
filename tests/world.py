"""A small synthetic project in which flows run: forty days of rows, columns of which one tells, and a spec.

Takes ports; gives a place from which runs are begun and advanced; never starts a process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from everfit.clock import ticks
from everfit.decide.decision import Reason
from everfit.facts import Fact, ReleasePlanned, RenewBegan, SchemaLearned
from everfit.flows.durable import Desk, Follower, Worker, begin
from everfit.flows.steps import Steps
from everfit.flows.work import Work, flows_of
from everfit.observe.intake import LABEL_COLUMNS, PREDICTION_COLUMNS
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.ports import Lake, Ports, Table, Write
from everfit.rollout.plan import plan_rollback
from everfit.spec import Spec, parse_spec
from everfit.standing import WATCH, Standing, Story

DAY0 = datetime(2013, 1, 1, tzinfo=UTC)
DAYS, A_DAY = 40, 30
NOW = DAY0 + timedelta(days=DAYS, hours=1)
SCHEMA = Schema(
    (
        Column("weak", Kind.NUMBER),
        Column("strong", Kind.NUMBER),
        Column("idle", Kind.NUMBER),
        Column("shop", Kind.CATEGORY),
    ),
    (),
)
SPEC = """
model: m
task: binary
target: late
time: at
id: flight
observe: {window: 1d, labels_mature_after: 1h}
train: {with: "train:fit", at_least: 100}
judge: {at_least: 100}
watch: {at_least: 20}
"""
FIRST, SECOND, WORSE = (
    {"by": "weak"},
    {"by": "strong"},
    {"by": "idle"},
)  # a champion, one that is better, one that is not


def rows(first: int = 0, days: int = DAYS) -> pl.DataFrame:
    """Labelled rows as a file would hold them, the same ones whenever they are asked for."""
    many = DAYS * A_DAY * 2
    chance = np.random.default_rng(20130101)
    strong, noise = chance.normal(size=many), chance.normal(size=many)
    late = chance.random(many) < 1 / (1 + np.exp(-2.5 * strong))
    whole = pl.DataFrame({
        "flight": [f"f{number}" for number in range(many)],
        "at": [DAY0 + timedelta(days=1) * (number / A_DAY) for number in range(many)],
        "weak": 0.3 * strong + noise, "strong": strong, "idle": chance.normal(size=many),
        "shop": chance.choice(["a", "b", "c"], many),
        "late": late.astype(int),
    })  # fmt: skip
    return whole[first * A_DAY : (first + days) * A_DAY]


def fill(lake: Lake, frame: pl.DataFrame | None = None, *, batch: int = 1) -> None:
    """Put rows and their labels, which came an instant later, into a lake."""
    frame = rows() if frame is None else frame
    moment = pl.col("at").cast(pl.Datetime("us", "UTC"))
    empty = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in PREDICTION_COLUMNS.items()]
    predictions = frame.select(*empty, *SCHEMA.names()).with_columns(
        frame.select(_id=pl.col("flight"), _time=moment, _arrived=moment, _late=pl.lit(False), _day=moment.dt.date())
    )
    labels = frame.filter(pl.col("late").is_not_null()).select(
        _id=pl.col("flight"), _label=pl.col("late").cast(pl.String), _value=pl.lit(None, dtype=pl.Float64),
        _arrived=moment, _day=moment.dt.date(),
    )  # fmt: skip
    lake.add(Table.LABELS, labels.select(pl.col(n).cast(t) for n, t in LABEL_COLUMNS.items()), source="s", batch=batch)
    lake.add(Table.PREDICTIONS, predictions, source="s", batch=batch)


def spec_of(parameters: Mapping[str, Any] = FIRST, more: str = "") -> Spec:
    """The spec, with parameters for the trainer and more keys."""
    spec = parse_spec(SPEC + more)
    return spec.model_copy(update={"train": spec.train.model_copy(update={"parameters": dict(parameters)})})


def unwatched(spec: Spec) -> Spec:
    """The spec of a model that nobody watches: no window has so many rows, so a proof does not learn what is usual.

    A proof that learns it portrays each of the forty days and costs three times as much.
    """
    return spec.model_copy(update={"watch": spec.watch.model_copy(update={"at_least": 10_000})})


@dataclass
class World:
    """One model's ports, its spec, and a worker."""

    ports: Ports
    folder: Path
    spec: Spec = field(default_factory=lambda: unwatched(spec_of()))
    worker: Worker = field(default_factory=lambda: Worker("worker"))
    seconds: list[float] = field(default_factory=list)  # a clock for rests; empty: the real one
    reports: list[str] = field(default_factory=list)
    swap_at_most: float = 0.05

    @property
    def desk(self) -> Desk:
        """Where runs are advanced."""
        return Desk(self.ports.ledger, self.ports.leases, self.ports.clock.now, self.worker)

    def follower(self) -> Follower:
        """Follows the ledger."""
        return Follower(self.ports.ledger, self.spec.model)

    def standing(self) -> Standing:
        """Where the model stands."""
        return self.follower().standing()

    def story(self, run: str) -> Story:
        """One run's facts."""
        return self.standing().stories[run]

    def steps(self) -> Steps:
        """What runs do."""
        return Steps(self.spec, self.folder, self.folder / "runs", self.ports, swap_at_most=self.swap_at_most)

    def work(self) -> Work:
        """The worker loop."""

        def report(run: str, follows: str, error: Exception) -> None:
            self.reports.append(f"{run} {follows}: {error}")

        seconds = (lambda: self.seconds[0]) if self.seconds else ticks
        return Work(self.desk, self.follower(), flows_of(self.steps()), report, seconds)

    def learn(self) -> None:
        """Freeze the columns."""
        now = self.ports.clock.now()
        self.ports.ledger.append(Write(self.spec.model, WATCH, 1, SchemaLearned(SCHEMA), now, "control", ends=True))

    def wants(self, parameters: Mapping[str, Any], more: str = "") -> None:
        """Another spec, in which what is watched stays."""
        self.spec = spec_of(parameters, more).model_copy(update={"watch": self.spec.watch})

    def begin(self, run: str, parameters: Mapping[str, Any] | None = None, more: str = "") -> None:
        """Begin a training run, with another spec if parameters are given."""
        if parameters is not None:
            self.wants(parameters, more)
        because = (Reason("asked", None, None, "somebody asked for it", run),)
        begin(self.desk, self.spec.model, run, RenewBegan(because, self.standing().champion is None))

    def finish(self) -> None:
        """Advance whatever is due until nothing moves."""
        work = self.work()
        while work.tick():
            continue

    def renewed(self, run: str, parameters: Mapping[str, Any], more: str = "") -> None:
        """A whole run with what follows from it."""
        self.begin(run, parameters, more)
        self.finish()

    def roll_back(self, run: str = "release-back-1") -> None:
        """Begin a roll-back."""
        now = self.standing()
        assert now.champion is not None
        assert now.history.previous is not None
        live, to = now.champion.candidate.id, now.bench[now.history.previous]
        stages = plan_rollback(live, to.candidate.id)
        begin(
            self.desk,
            self.spec.model,
            run,
            ReleasePlanned(to.candidate.id, to.version, live, stages, "ada: slow", back=True),
        )

    def kinds(self, run: str) -> list[str]:
        """The names of a run's facts."""
        return [type(fact).__name__ for fact in self.story(run).facts]

    def releases(self) -> list[str]:
        """Runs that release, in the order in which they were begun."""
        return [run for run in self.standing().stories if run.startswith("release-")]

    def live(self) -> str | None:
        """The candidate that traffic goes to."""
        route = self.ports.gateway.live(self.spec.model)
        return route.candidate if route else None


def facts_of(entries: Sequence[Any]) -> dict[str, list[tuple[str, object]]]:
    """What a ledger says without who wrote it, when, and how long training took: each story's facts, in order."""
    told: dict[str, list[tuple[str, object]]] = {}
    for entry in entries:
        body = {name: value for name, value in entry.body.items() if name != "seconds"}
        told.setdefault(entry.run, []).append((entry.kind, body))
    return told


def find(world: World, run: str, kind: type[Any]) -> Any:
    """The last fact of a kind in a run, which must be there."""
    found = world.story(run).find(kind)
    assert found is not None, f"{run} has no {kind.__name__}: {world.kinds(run)}"
    return found


def with_port(ports: Ports, **changed: Any) -> Ports:
    """The same ports with some exchanged."""
    return replace(ports, **changed)


__all__ = ["Fact", "World", "facts_of", "fill", "find", "rows", "spec_of", "with_port"]
