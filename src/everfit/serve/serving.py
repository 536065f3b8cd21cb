"""What a model server is told before it starts.

Takes nothing; gives the frozen `Serving`; never reads the world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from everfit.clock import Clock
from everfit.observe.intake import Rules
from everfit.ports import Journal, Predictor


class LogMode(StrEnum):
    """Whether an answer waits until its prediction is safe on disk."""

    ASYNC = "async"  # it does not; a kill may lose the last moments of the prediction log, never an intake row
    HELD = "held"  # it does, and says the journal's number


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a server takes on. Beyond it answers 503 and says when to come again."""

    body: int = 64 * 2**20  # bytes of one request, after it was unpacked
    waiting: int = 2048  # requests that wait for the model
    waiting_bytes: int = 256 * 2**20  # and the bytes of their bodies
    patience: float = 10.0  # seconds that a request may wait; later its client is gone
    batch_rows: int = 4096  # rows that are scored at once; a larger request goes alone


@dataclass(frozen=True, slots=True)
class Serving:
    """One model's server."""

    model: str
    task: str
    rules: Rules
    gateway: Path  # the gateway's root folder
    journal: Journal
    loader: Callable[[Path], Predictor]
    clock: Clock
    clock_file: Path  # what the control process says of its time and of the rows that it has settled
    log: LogMode = LogMode.ASYNC
    replay: bool = False  # the events' clock rules: no event can be in the future
    limits: Limits = Limits()

    @property
    def home(self) -> Path:
        """The model's folder in the gateway."""
        return self.gateway / self.model

    def limit(self) -> datetime | None:
        """The moment that events must not lie beyond; None in a replay."""
        return None if self.replay else self.clock.now()
