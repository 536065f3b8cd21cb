"""Laws of the default policy, over histories by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from everfit.decide.bench import Bench, Move, Run, Why, next_move
from everfit.decide.bench_options import BenchOptions
from everfit.decide.bench_reads import Member, Rows
from everfit.replay.play import play_bench
from tests.examples import examples
from tests.unit.replay.histories import flip_at, matrix_of, returning, stale

OPTIONS = BenchOptions()
WORLDS = (stale, flip_at(25), returning(8))


@st.composite
def benches(draw: st.DrawFn) -> Bench:
    """Any bench that could have come about: models, runs, who served, windows without labels."""
    now, delay = draw(st.integers(10, 60)), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    members, runs = [Member("0", 0, 9)], list[Run]()
    for window in sorted(rng.choice(np.arange(10, now + 1), size=rng.integers(0, min(8, now - 9)), replace=False)):
        last = int(window) - delay
        if last <= members[-1].last or window == now:
            continue
        rows = list(Rows)[rng.integers(3)]
        why, made = list(Why)[rng.integers(3)], len(members) if rng.random() < 0.9 else None
        change = last - 2 if why is Why.ALARM and rng.random() < 0.8 else None
        runs.append(
            Run(int(window), why, rows, int(rng.integers(len(members))), made, change, list(Rows)[rng.integers(2)])
        )
        if made is not None:
            members.append(Member(str(made), int(rng.integers(0, last)), last, rows))
    scores = 0.7 + 0.1 * rng.normal(size=(len(members), now + 1))
    scores[:, rng.random(now + 1) < 0.1] = np.nan
    for place, member in enumerate(members):
        scores[place, : member.last + 1] = np.nan
    scores[:, max(0, now - delay + 1) :] = np.nan
    halves = scores[:, :, None] + 0.02 * rng.normal(size=(*scores.shape, 2)) if draw(st.booleans()) else None
    served = np.where(np.arange(now + 2) < 10, -1, 0)
    for run in runs:
        if run.made is not None and rng.random() < 0.7:
            served[run.window + 1 :] = run.made
    return Bench(tuple(members), tuple(runs), served, scores, halves, np.arange(now + 1) - delay, now)


def told(move: Move) -> tuple[object, ...]:
    return (move.serve, move.train, move.interval, move.budget, move.because)


@given(benches())
@examples(150)
def test_every_bench_has_one_move_and_keeps_the_limits(bench: Bench) -> None:
    move = next_move(bench, OPTIONS)
    assert told(move) == told(next_move(bench, OPTIONS))
    assert 0 <= move.serve.place < len(bench.members)
    assert min(OPTIONS.shortest, OPTIONS.follow_up) <= move.interval <= OPTIONS.longest
    assert move.budget <= OPTIONS.saved
    if move.train is not None:
        assert move.budget >= 1
        assert 0 <= move.train.first <= move.train.last == bench.matured[-1]
        assert move.train.last > bench.members[-1].last
        assert move.train.said


@given(benches(), st.integers(0, 2**32 - 1))
@examples(80)
def test_labels_that_have_not_come_change_nothing(bench: Bench, seed: int) -> None:
    late = replace(bench, scores=bench.scores.copy())
    late.scores[:, bench.matured[-1] + 1 :] = np.random.default_rng(seed).uniform(size=1)
    if bench.matured[-1] < bench.now:
        assert next_move(late, OPTIONS).serve == next_move(bench, OPTIONS).serve


@given(benches())
@examples(80)
def test_a_member_without_a_won_window_never_serves(bench: Bench) -> None:
    move = next_move(bench, OPTIONS)
    if move.serve.place != bench.served[-1]:
        new, old = bench.members[move.serve.place], bench.scores[move.serve.place] - bench.scores[bench.served[-1]]
        assert np.isfinite(old).any() or new.last <= bench.members[int(bench.served[-1])].last


@given(st.integers(0, 2), st.integers(0, 50), st.integers(0, 3))
@examples(12)
def test_the_budget_holds_at_every_window_of_a_play(world: int, seed: int, delay: int) -> None:
    played = play_bench(matrix_of(WORLDS[world], 60, 0.005, seed)[0], delay)
    spent = np.zeros(60)
    for each in played.decisions:
        spent[each.window] += 1
    windows = np.arange(60) - 9
    assert (spent.cumsum()[10:] <= OPTIONS.start + OPTIONS.budget * windows[10:] + 1e-9).all()


@given(st.integers(0, 2), st.integers(0, 50), st.integers(20, 50))
@examples(12)
def test_a_play_never_looks_ahead(world: int, seed: int, cut: int) -> None:
    whole = play_bench(matrix_of(WORLDS[world], 60, 0.005, seed)[0])
    part = play_bench(matrix_of(WORLDS[world], cut, 0.005, seed)[0])
    assert [each.trained_on for each in part.decisions] == [
        each.trained_on for each in whole.decisions if each.window < cut - 1
    ]
    assert part.served == whole.served[: cut - 10]
