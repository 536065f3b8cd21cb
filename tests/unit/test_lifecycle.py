"""The lifecycle table: illegal moves are tested as carefully as legal ones."""

from __future__ import annotations

import itertools

import pytest

from everfit.errors import IllegalMove
from everfit.lifecycle import MOVES, Move, State, after, diagram, walk


@pytest.mark.parametrize("state, move", list(itertools.product(State, Move)), ids=str)
def test_what_the_table_does_not_have_raises(state: State, move: Move) -> None:
    if (state, move) in MOVES:
        assert after(state, move) is MOVES[state, move]
        return
    with pytest.raises(IllegalMove, match="cannot"):
        after(state, move)


def test_no_path_reaches_live_without_proof() -> None:
    """Every state that can be reached without a verdict is searched; LIVE is not among them."""
    reached, edge = {State.PLANNED}, [State.PLANNED]
    while edge:
        state = edge.pop()
        for (at, move), to in MOVES.items():
            if at is state and move not in (Move.PROVE, Move.KEEP_BACK) and to not in reached:
                reached.add(to)
                edge.append(to)
    assert State.LIVE not in reached
    assert State.BENCHED in reached  # the search did walk


def test_what_was_kept_back_serves_only_when_it_is_proven_or_a_person_recalls_it() -> None:
    assert {move for (state, move), to in MOVES.items() if state is State.KEPT_BACK and to is not State.KEPT_BACK} == {
        Move.PROVE, Move.RECALL, Move.FAIL
    }  # fmt: skip


def test_a_model_can_leave_and_serve_again() -> None:
    path = [Move.PIN, Move.CHECK, Move.TRAIN, Move.REGISTER, Move.PROVE, Move.SERVE, Move.RETIRE, Move.SERVE]
    assert walk(path) is State.LIVE


def test_the_diagram_has_every_move() -> None:
    assert diagram().count("-->") == len(MOVES) + 1
