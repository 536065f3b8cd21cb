"""A served model whose world turns: on some days the telling column points the other way.

Takes days as signs; gives the model, its ledger and its versions after them; never starts a process.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from everfit.facts import (
    Fact,
    WentLive,
)
from everfit.testing import FrozenClock, in_memory
from tests.learning import LearningTrainer
from tests.unit.flows.served import Served
from tests.world import NOW

TURNS = "+++++--------+++++"
EVERY_DAY = "decide: {bench: {every: 1}}\n"
TURNED = (-pl.col("strong")).alias("strong")
DAY = timedelta(days=1)


def turning(folder: Path, days: str, more: str = EVERY_DAY, **how: Any) -> Served:
    """A served model whose world turns: `-` is a day on which the telling column points the other way."""
    ports = replace(in_memory(FrozenClock(NOW)), trainer=LearningTrainer())
    given: dict[str, Any] = {"scored": False, "ports": ports} | how
    made = Served(folder, more, **given)
    serve(made, days)
    return made


def serve(served: Served, days: str) -> None:
    """Let days pass."""
    for day in days:
        served.serve(*([TURNED] if day == "-" else []))
        served.world.finish()


def facts(served: Served, kind: type[Fact]) -> list[Any]:
    """All facts of a kind, in order."""
    return [entry.fact for entry in served.ports.ledger.read("m") if isinstance(entry.fact, kind)]


def lives(served: Served) -> list[int]:
    """Versions in the order in which they went live."""
    return [fact.version for fact in facts(served, WentLive)]


def version(served: Served, number: int) -> Any:
    """A version as it stands."""
    return next(kept for kept in served.now.bench.values() if kept.version == number)
