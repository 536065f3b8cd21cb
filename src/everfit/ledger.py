"""The ledger: what happened, why and by whom, as append-only entries that are chained by their hashes.

Takes facts; gives entries, the chain's check, and JSON both ways; never stores anything itself (that is a port) and
never folds (that is `everfit.fold`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import blake2b
from typing import Any

from pydantic import TypeAdapter

from everfit.errors import LedgerTampered
from everfit.facts import (
    FACTS,
    CandidateRegistered,
    CandidateTrained,
    DataChecked,
    DatasetPinned,
    Fact,
    Judged,
    RenewEnded,
    StepFailed,
)
from everfit.ids import canonical
from everfit.lifecycle import Move

GENESIS = "0" * 40
HASHED = ("model", "number", "run", "step", "kind", "body", "at", "by")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger."""

    model: str
    number: int  # place in the model's chain, from 1
    run: str  # the story it belongs to: "watch", "people", "renew-…", "release-…"
    step: int  # place in that story, from 1; written once
    kind: str  # name of the fact
    body: dict[str, Any]  # the fact as JSON
    at: datetime  # in the model's clock
    by: str  # who wrote it: "control", "worker", "ada@laptop"
    previous: str  # hash of the entry before; GENESIS for the first
    hash: str

    @property
    def fact(self) -> Fact:
        """The fact itself."""
        return fact_of(self.kind, self.body)


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(FACTS[kind])


def body_of(fact: Fact) -> dict[str, Any]:
    """A fact as plain JSON values.

    >>> from everfit.facts import Paused
    >>> body_of(Paused("holiday"))
    {'why': 'holiday'}
    """
    body: dict[str, Any] = _adapter(type(fact).__name__).dump_python(fact, mode="json")
    return body


def fact_of(kind: str, body: dict[str, Any]) -> Fact:
    """The fact that JSON values tell.

    >>> fact_of("Paused", {"why": "holiday"})
    Paused(why='holiday')
    """
    fact: Fact = _adapter(kind).validate_python(body)
    return fact


def chain_hash(previous: str, entry: dict[str, Any]) -> str:
    """The hash of an entry: BLAKE2b over the hash before it and the entry's canonical JSON."""
    return blake2b(previous.encode() + canonical(entry), digest_size=20).hexdigest()


def sealed(previous: Entry | None, run_step: tuple[str, int], fact: Fact, at: datetime, who: tuple[str, str]) -> Entry:
    """Chain a fact to the entry before it. `who` is (model, by)."""
    (run, step), (model, by) = run_step, who
    number, before = (previous.number + 1, previous.hash) if previous else (1, GENESIS)
    kind, body = type(fact).__name__, body_of(fact)
    digest = chain_hash(before, _content(model, number, run, step, kind, body, at, by))
    return Entry(model, number, run, step, kind, body, at, by, before, digest)


def _content(*values: Any) -> dict[str, Any]:
    """What an entry's hash is taken of."""
    return dict(zip(HASHED, values, strict=True))


def verify(entries: list[Entry]) -> None:
    """Check that nothing was changed, removed or put in between.

    Raises:
        LedgerTampered: with the number of the first entry that does not hold.
    """
    before = GENESIS
    for number, entry in enumerate(entries, 1):
        content = _content(*(getattr(entry, name) for name in HASHED))
        if entry.number != number or entry.previous != before or entry.hash != chain_hash(before, content):
            raise LedgerTampered(
                f"entry {number} of {entry.model} does not hold: it was changed, or one before it was removed; "
                f"restore the ledger from a copy made before {entry.at:%Y-%m-%d %H:%M}"
            )
        before = entry.hash


def moves_of(fact: Fact) -> Move | None:
    """The move that a fact of a training run is for its candidate; releases move two models and say so in the fold."""
    match fact:
        case DatasetPinned():
            return Move.PIN
        case DataChecked(fit=fit):
            return Move.CHECK if fit else Move.BLOCK
        case CandidateTrained():
            return Move.TRAIN
        case CandidateRegistered():
            return Move.REGISTER
        case Judged(verdict=verdict):
            return Move.PROVE if verdict.kind == "better" else Move.KEEP_BACK
        case RenewEnded(outcome="benched"):
            return Move.BENCH
        case StepFailed():
            return Move.FAIL
        case _:
            return None
