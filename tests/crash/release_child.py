"""The process that works on a release with shadow and canary, and is killed: traffic is the same in every process.

Takes a folder and how many effects it may have; gives the names of the effects that it had, in a file; never ends
tidily when the fuse blows. Time stands at the last fact and goes on to the next moment at which a run wakes.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from everfit.clock import rest
from everfit.facts import StageBegan, Steered
from everfit.flows.durable import Worker
from everfit.observe.intake import LABEL_COLUMNS, PREDICTION_COLUMNS, SHADOW_COLUMNS
from everfit.ports import Lake, Ports, Table
from everfit.spec import Spec
from everfit.testing import FrozenClock
from tests.crash.flows_child import Fuse, frail, ports_in
from tests.world import FIRST, NOW, World, spec_of

STAGES = """rollout:
  steps:
    [{mirror: 8s}, {weight: 50%}, {analysis: 8s}, {pause: until promoted}, {weight: 80%}, {weight: 100%}, {bake: 8s}]
  guard:
    requests_at_least: 20
    labels_mature_after: 1m
    checks: [{of: errors, at_least: 20}, {of: loss, at_least: 60}]
"""
MINUTES, A_MINUTE = 2, 1200
WORSE = "worse"  # a file: the challenger's answers are worse from the canary on


def trial_world(folder: Path, hold: float, fuse: Fuse | None = None) -> World:
    """The project in a folder, at the time of its last fact."""
    ports = ports_in(folder)
    entries = ports.ledger.read("m")
    clock = FrozenClock(max([NOW, *(entry.at for entry in entries)]))
    ports = Ports(**{name: getattr(ports, name) for name in ports.__dataclass_fields__} | {"clock": clock})
    world = World(
        frail(ports, fuse) if fuse else ports, folder, trial_spec(), Worker(f"w:{os.getpid()}", timedelta(seconds=hold))
    )
    kept = {each.version: name for name, each in world.standing().bench.items()}
    if len(kept) == 2:
        flow(ports.lake, kept, worse=(folder / WORSE).exists())
    return world


def trial_spec() -> Spec:
    """A release through shadow and canary."""
    return spec_of(FIRST, STAGES)


def flow(lake: Lake, kept: dict[int, str], *, worse: bool) -> None:
    """Two minutes of answers and copies of both models, as they would be whatever the route says."""
    chance, many = np.random.default_rng(3), MINUTES * A_MINUTE
    times = [NOW + timedelta(minutes=number / A_MINUTE) for number in range(many)]
    logit = chance.normal(size=many) * 1.5 - 1
    truth = chance.random(many) < 1 / (1 + np.exp(-logit))
    for version, other in ((1, Table.PREDICTIONS), (2, Table.PREDICTIONS), (1, Table.SHADOW), (2, Table.SHADOW)):
        lean = -1.0 if worse and version == 2 and other is Table.PREDICTIONS else 1.0
        score = 1 / (1 + np.exp(-lean * (logit + 0.5 * chance.normal(size=many))))
        rows = _rows(times, score, kept[version], version)
        if other is Table.PREDICTIONS:  # of every request one model gives the answer
            rows = rows.with_columns(_variant=pl.lit("champion" if version == 1 else "challenger"))
            lake.add(
                other, _whole(rows.gather_every(2, version - 1), PREDICTION_COLUMNS), source=f"s{version}", batch=1
            )
        else:  # and the other one of them a copy
            lake.add(other, _whole(rows.gather_every(2, 2 - version), SHADOW_COLUMNS), source=f"s{version}", batch=1)
    labels = pl.DataFrame({"_id": [f"r{number}" for number in range(many)], "_label": [str(int(t)) for t in truth],
                           "_arrived": [at + timedelta(seconds=0.2) for at in times]})  # fmt: skip
    lake.add(
        Table.LABELS, _whole(labels.with_columns(_day=pl.col("_arrived").dt.date()), LABEL_COLUMNS), source="t", batch=1
    )


def _rows(times: list[datetime], score: np.ndarray, candidate: str, version: int) -> pl.DataFrame:
    return pl.DataFrame({
        "_id": [f"r{number}" for number in range(len(times))], "_time": times, "_arrived": times,
        "_day": [at.date() for at in times], "_score": [[1 - s, s] for s in score],
        "_prediction": [str(int(s > 0.5)) for s in score], "_model": candidate, "_version": version,
        "_latency_ms": 5.0,
    })  # fmt: skip


def _whole(rows: pl.DataFrame, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in columns.items() if name not in rows.columns]
    return rows.with_columns(*missing).select(pl.col(name).cast(dtype) for name, dtype in columns.items())


def work(folder: str, left: int, hold: float) -> None:
    """Advance whatever is due, and time to the next moment at which a run wakes, until all wait for a person."""
    fuse = Fuse(left)
    world = trial_world(Path(folder), hold, fuse)
    clock = world.ports.clock
    assert isinstance(clock, FrozenClock)
    world.seconds = [0.0]
    todo = world.work()
    while waking := world.ports.ledger.sleepers("m"):
        if all(_asks(world, run) for run in waking):
            break
        clock.forward(max(min(waking.values()) - clock.now(), timedelta(0)))
        world.seconds[0] = (clock.now() - NOW).total_seconds()
        if todo.tick():
            continue
        if all(todo.waits(run) for run in world.ports.ledger.due("m", clock.now())):
            clock.forward(timedelta(seconds=1))  # it looked and there was nothing new
        else:
            rest(0.01)  # the lease of the one that was killed runs out
    (Path(folder) / "effects.json").write_text(json.dumps(fuse.had))


def _asks(world: World, run: str) -> bool:
    """Whether a release waits until a person promotes it."""
    story = world.story(run)
    began = story.find(StageBegan)
    return began is not None and began.until is None and story.find(Steered) is None
