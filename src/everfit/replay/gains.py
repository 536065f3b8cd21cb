"""What a policy was worth: its gain over never retraining, as a share of what retraining every window brings.

Takes what policies did; gives scores, costs and gains side by side; never divides by a gain that is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from everfit.replay.matrix import Cut, Matrix
from everfit.replay.play import Played

CLIP = (-1.0, 1.5)  # gains beyond this are told as this: where retraining brings little, their ratio is wild
MATTERS = 0.003  # a stream on which retraining every window brings less has no gain to speak of


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One policy beside the others."""

    name: str
    score: float  # mean over windows, in points
    retrains: int  # runs whose model served
    gain: float | None  # share of what retraining every window brings; None: that brings nothing
    share: float  # training runs per window
    played: Played

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
            "per_window": [None if np.isnan(score) else score for score in played.scores.tolist()],
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
    return float(np.clip((score - never) / brings, *CLIP)) if brings > MATTERS else None


def results(played: Mapping[str, Played], cut: Cut) -> tuple[Result, ...]:
    """Put policies side by side; `never` and `every1` must be among them."""
    never, always = played["never"].score, played["every1"].score
    return tuple(
        Result(
            name,
            each.score,
            len({decision.trained_on for decision in each.decisions} & set(each.served)),
            gain(each.score, never, always),
            each.runs / cut.windows,
            each,
        )
        for name, each in played.items()
    )


def ages(matrix: Matrix) -> tuple[float, ...]:
    """Mean score of recent models by age: how fast a model goes stale without retraining.

    Every age is read on the same windows as the freshest model's, and told as the freshest mean plus the mean
    difference: hard and easy windows do not pass for age. Ages that fewer than five models reached are not told.
    """
    cut = matrix.cut
    rows = [row for cell in matrix.every() if not (row := matrix.row(cell)).failed]
    if not rows:
        return ()
    fresh = np.full(cut.windows, np.nan)
    for row in rows:
        fresh[row.cell[1] + 1] = row.scores[row.cell[1] + 1]
    found = []
    for age in range(1, cut.windows - cut.start + 1):
        at = [(row, row.cell[1] + age) for row in rows if row.cell[1] + age < cut.windows]
        lost = np.array([row.scores[window] - fresh[window] for row, window in at])
        if np.isfinite(lost).sum() < 5:
            break
        found.append(float(np.nanmean(fresh) + np.nanmean(lost)))
    return tuple(found)
