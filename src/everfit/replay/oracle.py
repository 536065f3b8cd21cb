"""The best schedule in hindsight: what no policy could beat with so many retrains of recent rows.

Takes a matrix and a number of retrains; gives the schedule and two scores that the best lies between: one that earns no
credit for noise, and one that holds all of it; never takes one for the other.

The first is cross-fitted twice: a schedule is chosen on the even rows and read on the odd ones, and the other way
round; and of the schedules with fewer retrains the one is taken that does best in the even windows, to be read in the
odd ones, and the other way round. So where retraining brings nothing it is that of the first model, but for the luck of
the reading. What is chosen on half of the rows is not the best schedule, though: the best one lies above, in the mean.
The second is chosen and read on the same rows, so the best one lies below it, in the mean.

Later windows are looked at on a few rows only (`Matrix.looks`), which would shift a score by the luck of these rows. So
what a schedule gains over the first model is read on them, and added to the first model's score on all rows. Where
windows are large, a schedule may retrain at every third window only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from everfit.replay.matrix import Floats, Matrix

Schedules = Mapping[int, tuple[int, ...]]  # number of retrains -> steps at which they happen


@dataclass(frozen=True, slots=True)
class Hindsight:
    """The best schedule with so many retrains."""

    retrains: int  # at most
    score: float  # cross-fitted: the mean over windows of rows that it was not chosen on
    at_most: float  # chosen and read on the same rows: what luck brings is in it
    windows: tuple[int, ...]  # at whose ends it retrains, as chosen on all rows


def best_schedules(matrix: Matrix, delay: int, retrains: Sequence[int]) -> list[Hindsight]:
    """The best schedule for each number of retrains, by dynamic programming over (retrains so far, serving model).

    `best[r, m]` is the largest sum of scores up to now with r retrains and model m serving; one window later either m
    goes on, or the model whose rows end at the newest label replaces it: O(windows^2) steps per number of retrains
    (the segment-neighbourhood recursion of Auger and Lawrence 1989, with models in place of segment means).

    Args:
        matrix: with the recent model of every window; they are trained if they are not there.
        delay: windows until labels come.
        retrains: how many to allow; a schedule may use fewer.
    """
    most = max(retrains, default=0)
    halves = served_scores(matrix, delay)
    both = (halves[0] + halves[1]) / 2
    chosen, known_all = [_choose(half, most) for half in halves], _choose(both, most)
    read = np.stack([
        (_gained(halves[1], chosen[0][many]) + _gained(halves[0], chosen[1][many])) / 2 for many in range(most + 1)
    ])  # fmt: skip
    cut = matrix.cut
    first = matrix.recent(cut.start - 1)
    known = max(1, int(np.isfinite(matrix.looks()[first][cut.start :]).all(axis=1).sum()))
    base = float(np.nanmean([matrix.score(first, window) for window in cut.scored]))
    found = []
    for many in retrains:
        score = base + _honest(read[: many + 1]) / known
        luck = base + float(_gained(both, known_all[many]).sum()) / known
        best = int(read[: many + 1].sum(axis=1).argmax())
        windows = tuple(cut.start - 1 + step for step in known_all[best])
        found.append(Hindsight(many, score, max(luck, score), windows))
    return found


def _honest(read: Floats) -> float:
    """What the best of some schedules gains in sum: chosen in every second window, and read in those between.

    Args:
        read: gains, (schedules, windows); of equals the first is taken.

    >>> _honest(np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    4.0
    >>> _honest(np.array([[0.0, 0.0], [1.0, -1.0]]))  # good by luck in one of two windows
    -1.0
    """
    sums = read[:, 0::2].sum(axis=1), read[:, 1::2].sum(axis=1)
    return float(sums[1][sums[0].argmax()] + sums[0][sums[1].argmax()])


def served_scores(matrix: Matrix, delay: int) -> tuple[Floats, Floats]:
    """Scores on even and on odd rows, each (steps, steps): model trained at step i, serving in window start + j.

    Step 0 is the first model; step i is trained at the end of window start - 1 + i. A model with no new rows, or that
    failed, is -inf: it cannot be chosen. A window in which the metric is undefined is 0 for every model.
    """
    cut = matrix.cut
    steps = len(cut.scored)
    both = np.full((2, steps, steps), -np.inf)
    looks = matrix.looks()
    for step in range(steps):
        last = cut.start - 1 + (0 if step == 0 else step - delay)
        if step and last < cut.start:
            continue
        look = looks.get(matrix.recent(last))
        if look is not None:
            both[:, step, step:] = np.nan_to_num(look[cut.start + step :].T)
    return both[0], both[1]


def _choose(scores: Floats, most: int) -> Schedules:
    """For each number of retrains up to `most` the steps at which the best schedule retrains."""
    steps = len(scores)
    sums = np.where(np.isfinite(scores), scores, 0.0).cumsum(axis=1)
    usable = np.isfinite(scores.diagonal())
    # sums[i, j]: model of step i serves windows i .. j (nothing before i); best[j]: largest sum of windows 0 .. j.
    best = sums[0].copy()
    came: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    found: dict[int, tuple[int, ...]] = {0: ()}
    for many in range(1, most + 1):
        before = np.append(-np.inf, best[:-1])  # sum of windows 0 .. i - 1
        options = np.where(usable, before, -np.inf)[:, None] + sums
        options = np.where(np.arange(steps)[:, None] <= np.arange(steps)[None, :], options, -np.inf)
        options[0] = best  # no further retrain
        step = options.argmax(axis=0)
        came.append(step)
        best = options[step, np.arange(steps)]
        found[many] = _trace(came, steps - 1)
    return found


def _trace(came: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]], end: int) -> tuple[int, ...]:
    steps: list[int] = []
    for step in reversed(came):
        at = int(step[end])
        if at > 0:
            steps.append(at)
            end = at - 1
    return tuple(reversed(steps))


def _gained(scores: Floats, schedule: Sequence[int]) -> Floats:
    """What these steps' models, serving one after another, gain over the first model in each window, (steps,)."""
    gained = np.zeros(len(scores))
    for start, end in pairwise([0, *schedule, len(scores)]):
        gained[start:end] = scores[start, start:end] - scores[0, start:end]
    return gained
