"""What a policy was worth: its gain over never retraining, as a share of what retraining every window brings.

Takes what policies did; gives scores, costs and gains side by side; never divides by a gain that is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from everfit.replay.matrix import Cut, Floats, Matrix
from everfit.replay.play import Played

CLIP = (-1.0, 1.5)  # gains beyond this are told as this: where retraining brings little, their ratio is wild
MATTERS = 0.003  # a stream on which retraining every window brings less has no gain to speak of


@dataclass(frozen=True, slots=True)
class Prices:
    """The user's money."""

    per_retrain: float  # of a training run
    per_error: float  # of a wrong answer (regression: of a whole miss)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One policy beside the others."""

    name: str
    score: float  # mean over windows, in points
    retrains: int  # runs whose model served
    gain: float | None  # share of what retraining every window brings; None: that brings nothing
    share: float  # training runs per window
    played: Played
    errors: float  # wrong answers over all rows of the scored windows (regression: whole misses)
    cost: float | None = None  # of runs and errors, in the user's money; None: no prices were given

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        played = self.played
        return {
            "name": self.name,
            "score": self.score,
            "retrains": self.retrains,
            "training_runs": played.runs,
            "rows_trained": played.rows,
            "seconds": played.seconds,
            "gain": self.gain,
            "share": self.share,
            "errors": self.errors,
            "cost": self.cost,
            "per_window": [None if np.isnan(score) else score for score in played.scores.tolist()],
            "served": [list(cell) for cell in played.served],
            "decisions": [
                {"window": each.window, "trained_on": list(each.trained_on), "why": each.why, "failed": each.failed}
                for each in played.decisions
            ],
        }


def gain(score: float, never: float, always: float) -> float | None:
    """The share of what retraining every window brings, clipped to [-1, 1.5]; None when that is nothing.

    >>> round(gain(0.78, 0.70, 0.80), 2), gain(0.5, 0.70, 0.80), gain(0.8, 0.7, 0.7)
    (0.8, -1.0, None)
    """
    brings = always - never
    return float(np.clip((score - never) / brings, *CLIP)) if brings > MATTERS else None  # NaN brings nothing, too


def results(played: Mapping[str, Played], cut: Cut, prices: Prices | None = None) -> tuple[Result, ...]:
    """Put policies side by side; `never` and `every1` must be among them.

    A gain is read on the windows in which the policy has a score: the first model of a spec may serve later.
    """
    found = []
    for name, each in played.items():
        errors = float(errors_of(each, cut).sum())
        retrains = len({decision.trained_on for decision in each.decisions} & set(each.served))
        cost = None if prices is None else prices.per_retrain * each.runs + prices.per_error * errors
        share = each.runs / cut.windows
        there = np.isfinite(each.scores)
        never, always = (_mean(played[other].scores[there]) for other in ("never", "every1"))
        found.append(Result(name, each.score, retrains, gain(each.score, never, always), share, each, errors, cost))
    return tuple(found)


def _mean(scores: Floats) -> float:
    known = scores[np.isfinite(scores)]
    return float(known.mean()) if len(known) else np.nan


def errors_of(played: Played, cut: Cut) -> Floats:
    """Wrong answers of each scored window, (scored windows,): the mean miss of its scored rows, for all its rows."""
    rows = np.diff(cut.edges)[cut.start :]
    return np.where(rows > 0, np.nan_to_num(played.missed) * rows, 0.0)


def lost_by_age(matrix: Matrix) -> Floats:
    """What recent models score less than the freshest one, (models, ages), models in the order of time.

    The first column is age 1, the freshest model itself. Differences are read on the few rows that every model is
    looked at. Ages that fewer than five models reached are not told; NaN: a window without rows or a defined score.
    """
    cut = matrix.cut
    looks = {cell: look.mean(axis=1) for cell, look in matrix.looks().items()}
    fresh = np.full(cut.windows, np.nan)
    for cell in matrix.every():
        fresh[cell[1] + 1] = matrix.row(cell).few[cell[1] + 1].mean()
    lost = np.full((len(looks), cut.windows - cut.start), np.nan)
    for place, (cell, look) in enumerate(looks.items()):
        reached = cut.windows - cell[1] - 1
        lost[place, :reached] = (fresh - look)[cell[1] + 1 :]
    few = np.isfinite(lost).sum(axis=0) < 5
    return lost[:, : int(few.argmax()) if few.any() else lost.shape[1]]


def ages(matrix: Matrix) -> tuple[float, ...]:
    """Mean score of recent models by age: how fast a model goes stale without retraining.

    Every age is read on the same windows as the freshest model's, and told as the freshest mean less the mean
    loss: hard and easy windows do not pass for age.
    """
    fresh = np.array([matrix.score(cell, cell[1] + 1) for cell in matrix.every()])
    if not np.isfinite(fresh).any():
        return ()
    return tuple(float(np.nanmean(fresh) - each) for each in np.nanmean(lost_by_age(matrix), axis=0))
