"""The life of a candidate: one table of states and moves.

Takes a state and a move; gives the next state; never performs anything. Two rules: an illegal move raises and changes
nothing, and no path reaches LIVE without a verdict: PROVE, or KEEP_BACK and a person who recalls it all the same. The
diagram in the docs is drawn from `MOVES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from everfit.errors import IllegalMove


class State(StrEnum):
    """Where a candidate stands."""

    PLANNED = "planned"  # its recipe is written down
    PINNED = "pinned"  # its rows are named for ever
    CHECKED = "checked"  # its rows are fit to train on
    BLOCKED = "blocked"  # its rows are not; somebody must mend the data
    TRAINED = "trained"
    REGISTERED = "registered"
    BENCHED = "benched"  # learned from all mature rows; scored in shadow until the bench finds it better
    KEPT_BACK = "kept_back"  # judged, and not proven better
    PROVEN = "proven"
    AWAITING = "awaiting_approval"
    APPROVED = "approved"
    REFUSED = "refused"  # a person said no
    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"
    RETIRED = "retired"  # was live, was replaced, is scored on the bench
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


class Move(StrEnum):
    """What may happen to a candidate."""

    PIN = "pin"
    CHECK = "check"
    BLOCK = "block"
    TRAIN = "train"
    REGISTER = "register"
    BENCH = "bench"
    PROVE = "prove"
    KEEP_BACK = "keep_back"
    ASK = "ask"
    APPROVE = "approve"
    REFUSE = "refuse"
    MIRROR = "mirror"
    SHARE = "share"
    SERVE = "serve"
    RETIRE = "retire"
    ROLL_BACK = "roll_back"
    RECALL = "recall"  # a person lets a version serve that has a verdict, whatever became of it
    FAIL = "fail"


MOVES: dict[tuple[State, Move], State] = {
    (State.PLANNED, Move.PIN): State.PINNED,
    (State.PINNED, Move.CHECK): State.CHECKED,
    (State.PINNED, Move.BLOCK): State.BLOCKED,
    (State.CHECKED, Move.TRAIN): State.TRAINED,
    (State.TRAINED, Move.REGISTER): State.REGISTERED,
    (State.REGISTERED, Move.BENCH): State.BENCHED,
    (State.BENCHED, Move.PROVE): State.PROVEN,
    (State.BENCHED, Move.KEEP_BACK): State.KEPT_BACK,
    (State.REGISTERED, Move.PROVE): State.PROVEN,
    (State.REGISTERED, Move.KEEP_BACK): State.KEPT_BACK,
    (State.KEPT_BACK, Move.PROVE): State.PROVEN,
    (State.KEPT_BACK, Move.KEEP_BACK): State.KEPT_BACK,
    (State.PROVEN, Move.PROVE): State.PROVEN,
    (State.PROVEN, Move.KEEP_BACK): State.KEPT_BACK,
    (State.PROVEN, Move.ASK): State.AWAITING,
    (State.AWAITING, Move.APPROVE): State.APPROVED,
    (State.AWAITING, Move.REFUSE): State.REFUSED,
    (State.PROVEN, Move.MIRROR): State.SHADOW,
    (State.APPROVED, Move.MIRROR): State.SHADOW,
    (State.PROVEN, Move.SHARE): State.CANARY,
    (State.APPROVED, Move.SHARE): State.CANARY,
    (State.SHADOW, Move.SHARE): State.CANARY,
    (State.CANARY, Move.SHARE): State.CANARY,
    (State.PROVEN, Move.SERVE): State.LIVE,
    (State.APPROVED, Move.SERVE): State.LIVE,
    (State.SHADOW, Move.SERVE): State.LIVE,
    (State.CANARY, Move.SERVE): State.LIVE,
    (State.LIVE, Move.RETIRE): State.RETIRED,
    (State.RETIRED, Move.SERVE): State.LIVE,
    (State.RETIRED, Move.PROVE): State.PROVEN,
    (State.RETIRED, Move.KEEP_BACK): State.RETIRED,
    (State.RETIRED, Move.MIRROR): State.SHADOW,
    (State.RETIRED, Move.SHARE): State.CANARY,
    (State.ROLLED_BACK, Move.SERVE): State.LIVE,
    (State.KEPT_BACK, Move.RECALL): State.APPROVED,
    (State.AWAITING, Move.RECALL): State.APPROVED,
    (State.REFUSED, Move.RECALL): State.APPROVED,
    (State.ROLLED_BACK, Move.RECALL): State.APPROVED,
    (State.APPROVED, Move.RECALL): State.APPROVED,
    (State.PROVEN, Move.RECALL): State.PROVEN,
    (State.RETIRED, Move.RECALL): State.RETIRED,
    (State.SHADOW, Move.ROLL_BACK): State.ROLLED_BACK,
    (State.CANARY, Move.ROLL_BACK): State.ROLLED_BACK,
    (State.LIVE, Move.ROLL_BACK): State.ROLLED_BACK,
    (State.PLANNED, Move.FAIL): State.FAILED,
    (State.PINNED, Move.FAIL): State.FAILED,
    (State.CHECKED, Move.FAIL): State.FAILED,
    (State.TRAINED, Move.FAIL): State.FAILED,
    (State.REGISTERED, Move.FAIL): State.FAILED,
    (State.PROVEN, Move.FAIL): State.FAILED,
    (State.KEPT_BACK, Move.FAIL): State.FAILED,
}


def after(state: State, move: Move) -> State:
    """Where `move` leads from `state`.

    >>> after(State.PROVEN, Move.SERVE).value
    'live'

    Raises:
        IllegalMove: the table has no such move.
    """
    try:
        return MOVES[state, move]
    except KeyError:
        legal = ", ".join(m for s, m in MOVES if s is state) or "none: this is an end"
        raise IllegalMove(f"a {state} candidate cannot {move}; legal moves: {legal}") from None


def walk(moves: Iterable[Move], start: State = State.PLANNED) -> State:
    """Follow moves one by one from `start`.

    >>> walk([Move.PIN, Move.CHECK]).value
    'checked'
    """
    for move in moves:
        start = after(start, move)
    return start


def diagram() -> str:
    """Draw the table as a Mermaid state diagram."""
    lines = [f"    {state} --> {to}: {move}" for (state, move), to in MOVES.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.PLANNED}", *lines])
