"""What a backtest hands on: what each policy would have done, and what follows from it.

Takes what was played; gives frozen records and their plain values for the JSON file; never holds rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from everfit.replay.advise import Advice
from everfit.replay.apart import Apart
from everfit.replay.gains import Result
from everfit.replay.matrix import Cell
from everfit.replay.oracle import Hindsight


@dataclass(frozen=True, slots=True)
class Read:
    """How the frame was understood."""

    rows: int  # with a label
    features: tuple[str, ...]
    classes: tuple[str, ...]  # empty for regression
    trainer: str
    start: int  # windows of the first training set
    edges: tuple[int, ...]  # row at which each window begins, and the number of rows
    begins: tuple[datetime, ...]  # when each window begins, and the last row; empty without a column of times
    per_window: timedelta | None  # how long a window is (equal rows: at the median); None without times


@dataclass(frozen=True, slots=True)
class RangeGain:
    """What other training rows gained over the recent ones, at equal age on the same windows."""

    rows: str  # "all" or "change"
    models: int  # trained on these rows, each compared with the recent model of the same last window
    over_recent: float  # points, mean over models
    error: float | None  # standard error of that; None: one model


@dataclass(frozen=True, slots=True)
class Slice:
    """One value of the chosen column."""

    value: str
    rows: int  # scored rows
    misses: Mapping[str, float]  # policy -> share of rows that it got wrong (regression: mean miss in [0, 1])


@dataclass(frozen=True, slots=True)
class DelayCost:
    """What a policy scores when labels come that much later."""

    delay: int  # windows, in all
    policy: str
    score: float
    lost: Apart  # points a window that the asked delay scores more


@dataclass(frozen=True, slots=True)
class Unplayed:
    """A policy that ended without a number."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Backtest:
    """What each policy would have done."""

    task: str
    metric: str
    windows: int
    label_delay: int  # windows
    policies: tuple[Result, ...]
    oracle: tuple[Hindsight, ...]
    ageing: tuple[float, ...]  # mean score of a model 1, 2, ... windows after its rows
    advice: Advice
    seconds: tuple[float, float]  # of training and of scoring, behind all models
    failures: Mapping[Cell, str]  # models that could not be trained, and why
    read: Read
    remarks: tuple[str, ...]  # what the user should know about these rows, a sentence each
    ranges: tuple[RangeGain, ...]
    slices: tuple[Slice, ...]  # empty unless a column was chosen
    delays: tuple[DelayCost, ...]  # of Everfit and the best fixed schedule, the asked delay first
    unplayed: tuple[Unplayed, ...] = ()  # specs and triggers that ended without a model, or in an error

    def to_dict(self) -> dict[str, Any]:
        """As the plain values of the JSON file."""
        return {
            "task": self.task,
            "metric": self.metric,
            "windows": self.windows,
            "label_delay": self.label_delay,
            "policies": [each.to_dict() for each in self.policies],
            "oracle": [
                {"retrains": each.retrains, "score": each.score, "at_most": each.at_most} for each in self.oracle
            ],
            "ageing": list(self.ageing),
            "recommended": self.advice.to_dict(),
            "seconds": {"training": self.seconds[0], "scoring": self.seconds[1]},
            "failures": [{"trained_on": list(cell), "said": said} for cell, said in sorted(self.failures.items())],
            "read": _read(self.read),
            "remarks": list(self.remarks),
            "ranges": [
                {"rows": each.rows, "models": each.models, "over_recent": each.over_recent, "error": each.error}
                for each in self.ranges
            ],
            "slices": [{"value": each.value, "rows": each.rows, "misses": dict(each.misses)} for each in self.slices],
            "delays": [
                {
                    "label_delay": each.delay,
                    "policy": each.policy,
                    "score": each.score,
                    "lost": each.lost.mean,
                    "interval": [each.lost.low, each.lost.high],
                }
                for each in self.delays
            ],
            "unplayed": [{"name": each.name, "why": each.why} for each in self.unplayed],
        }


def _read(read: Read) -> dict[str, Any]:
    return {
        "rows": read.rows,
        "features": list(read.features),
        "classes": list(read.classes),
        "trainer": read.trainer,
        "start": read.start,
        "edges": list(read.edges),
        "begins": [each.isoformat() for each in read.begins],
        "seconds_per_window": None if read.per_window is None else read.per_window.total_seconds(),
    }
