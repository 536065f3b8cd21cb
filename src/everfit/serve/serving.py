"""What a model server is told before it starts.

Takes nothing; gives the frozen `Serving`; never reads the world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    waiting: int = 2048  # requests that wait for the model, and as many for the journal
    bytes: int = 256 * 2**20  # bodies of all requests that the server has in hand, from arrival to answer
    patience: float = 10.0  # seconds that a request may wait; later its client is gone
    batch_rows: int = 4096  # rows that are scored at once; a larger request goes alone


@dataclass(frozen=True, slots=True)
class Trying:
    """What a challenger may take of the server that it is tried in."""

    wait: float = 0.1  # seconds that a request waits for its answer, at least; then the champion answers
    slower: float = 4.0  # or so many times the champion's p99, whichever is longer
    hang: float = 5.0  # seconds without an answer after which its process is ended
    load: float = 120.0  # seconds that loading it may take
    memory: int = 2 * 2**30  # bytes that its process may have resident
    deaths: int = 5  # of its process, for one route; after them it stays down
    pauses: tuple[float, float] = (0.5, 30.0)  # seconds before its process is started again: first, and at most
    share: float = 0.5  # of one core, for copies of requests; what does not fit is dropped
    copies: int = 4096  # rows that wait to be copied; beyond, they are dropped

    def in_replay(self) -> Trying:
        """As it is in a replay: time stands still there, so nothing is late and no copy is dropped.

        >>> Trying().in_replay().share
        1.0
        """
        return replace(self, wait=self.load, hang=self.load, share=1.0)


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
    key: str | None = None  # the column whose values stay with one model while another is tried; None: the row's id
    trying: Trying = Trying()

    @property
    def home(self) -> Path:
        """The model's folder in the gateway."""
        return self.gateway / self.model

    def limit(self) -> datetime | None:
        """The moment that events must not lie beyond; None in a replay."""
        return None if self.replay else self.clock.now()
