"""What is to be done, with the reasons and the facts they rest on.

Takes nothing; gives the union `Decision`; never acts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everfit.decide.bench import Why
from everfit.decide.bench_reads import Rows


@dataclass(frozen=True, slots=True)
class Reason:
    """One clause for the machine beside one sentence for the person."""

    trigger: str  # the trigger's name, or the limit's: "cool_down", "budget", "first_champion"
    value: float | None  # what was read
    limit: float | None  # the line it was held against
    said: str
    evidence: str  # key of the fact: the same evidence never causes two runs
    source: str = ""  # where the line came from: "spec: triggers[0].performance.drop", "default: decide.cool_down"
    otherwise: str = ""  # what would have changed the answer


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing now."""

    because: tuple[Reason, ...]
    kind: Literal["wait"] = "wait"


@dataclass(frozen=True, slots=True)
class BenchRun:
    """What the bench asks of a training run. Windows are those of the bench, by number."""

    window: int  # at whose end it was asked for
    why: Why
    rows: Rows
    first: int  # first window of its rows
    last: int  # last window of them; all of its rows are learned from, and none is held out
    replaced: str  # candidate that served then
    change: int | None = None  # alarm: the last window before the fall
    leader: Rows | None = None  # the range that led then


@dataclass(frozen=True, slots=True)
class Retrain:
    """Start a training run."""

    because: tuple[Reason, ...]
    kind: Literal["retrain"] = "retrain"
    probe: bool = False  # train on few rows first, and go on only if that looks worth it
    bench: BenchRun | None = None  # the bench asks for it: its model waits there and is proven by later windows


@dataclass(frozen=True, slots=True)
class AskHuman:
    """A training run is due, and the spec wants a person's word first."""

    question: str  # key to approve or reject
    because: tuple[Reason, ...]
    kind: Literal["ask_human"] = "ask_human"
    bench: BenchRun | None = None  # the run that is due, where the bench asks for it


@dataclass(frozen=True, slots=True)
class FixData:
    """The rows are broken. Retraining is blocked until they are mended; the columns are named."""

    columns: tuple[str, ...]
    because: tuple[Reason, ...]
    kind: Literal["fix_data"] = "fix_data"


@dataclass(frozen=True, slots=True)
class RollBack:
    """Go back to the previous champion."""

    because: tuple[Reason, ...]
    kind: Literal["roll_back"] = "roll_back"


@dataclass(frozen=True, slots=True)
class Recall:
    """Let a kept model serve, without training: the bench finds it better. The reason's value is by how much."""

    candidate: str
    because: tuple[Reason, ...]
    kind: Literal["recall"] = "recall"


Decision = Wait | Retrain | AskHuman | FixData | RollBack | Recall
