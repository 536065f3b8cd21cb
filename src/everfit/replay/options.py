"""What the user may choose about a backtest.

Takes plain values; gives a frozen record; never reads the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everfit.adapters.pool import Limits
from everfit.decide.bench_options import BenchOptions
from everfit.replay.policies import NAMES

if TYPE_CHECKING:
    from everfit.replay.policy_file import Policy


@dataclass(frozen=True, slots=True)
class BacktestOptions:
    """What to replay."""

    target: str
    cache: Path  # where trained models and their scores are kept
    time: str | None = None  # orders the rows and is no feature; None: they are in order
    exclude: tuple[str, ...] = ()  # columns that are no features
    task: str | None = None  # None: inferred
    metric: str | None = None  # None: the task's default
    windows: int = 100  # of equal rows
    window: timedelta | None = None  # instead: windows of this length from the first row on
    start: int = 10  # windows of the first training set
    label_delay: int | timedelta = 0  # windows, or how long labels take: then rounded up to windows
    trainer: str = "everfit:gradient_boosting"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    project: Path = Path()
    seed: int = 0
    most: int = 500  # rows scored in a window: of larger ones so many, evenly spaced, the same for all models; 0: all
    price: float = BenchOptions().price  # of a run, in score times windows, for the advice when there is no money
    cost_per_retrain: float | None = None  # the user's money for a run
    cost_per_error: float | None = None  # the user's money for a wrong answer (regression: for a whole miss)
    slices: str | None = None  # a column whose values are told apart
    later: tuple[int, ...] = (1, 2, 5)  # windows of further label delay that are played too; (): none
    policies: tuple[str, ...] = NAMES
    own: tuple[Policy, ...] = ()  # read from files: replay.policy_file.read_policy
    model: str = "model"  # how the recommended spec calls it
    limits: Limits = field(default_factory=Limits)
