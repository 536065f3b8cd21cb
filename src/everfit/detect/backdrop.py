"""What windows of a live model are held to: all that its proof left behind.

Takes nothing; gives the record that travels with a verdict through the ledger; never holds rows: what is large lies
among the notes, under the keys that stand here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from everfit.detect.decay import Baseline
from everfit.detect.faults import Reached


@dataclass(frozen=True, slots=True)
class Backdrop:
    """Of one candidate, learned from rows behind it. Large parts are keys among the notes."""

    usual: dict[str, str] = field(default_factory=dict)  # drift monitor -> what healthy windows are like (`Usual`)
    worst: dict[str, dict[str, float]] = field(default_factory=dict)  # reading of quality -> column -> highest share
    reached: Reached = field(default_factory=Reached)  # what healthy windows reach of other faults
    baseline: Baseline | None = None  # what was proven by the primary metric, and how its windows differ
    estimator: str | None = None  # what scores mean, for estimates without labels (`Estimator`)
    crowds: dict[str, str] = field(default_factory=dict)  # "*" or a vector column -> healthy rows of it (`Crowd`)
    importance: dict[str, float] = field(default_factory=dict)  # column -> its share in what the model rests on
