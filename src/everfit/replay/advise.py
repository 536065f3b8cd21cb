"""Which policy to take, what it should bring, and how sure that is.

Takes what the policies did; gives one advice; never tells a winner's own luck as its gain: the policy is chosen on the
earlier part of history and its gain is read on the later part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from everfit.replay.gains import Result
from everfit.replay.matrix import Floats

EARLIER = 0.6  # share of the scored windows on which the policy is chosen
RESAMPLES = 2000
CONFIDENCE = 0.9  # of the interval: 5 % on either side
SEED = 20_130_101  # the same history gives the same advice


@dataclass(frozen=True, slots=True)
class Advice:
    """What the backtest recommends."""

    policy: str
    expected_gain: float  # points a window over never retraining, on windows that it was not chosen on
    interval: tuple[float, float]  # of that, 90 %
    runs_per_window: float  # what it costs, over all of history
    helps: bool  # whether retraining is worth its price, and surely better than never
    said: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values; the spec to paste is added by who knows the window."""
        return {
            "policy": self.policy,
            "expected_gain": self.expected_gain,
            "interval": list(self.interval),
            "runs_per_window": self.runs_per_window,
            "helps": self.helps,
            "said": self.said,
        }


def advise(results: Sequence[Result], price: float) -> Advice:
    """Choose the policy of the largest score less the price of its runs.

    `price` is what a run costs in score times windows: 0.08 is one point of score over eight windows. The interval is
    a circular block bootstrap of the window differences to never (Politis and Romano 1992), blocks of the square root
    of their number, because windows near one another hang together.
    `never` must be among the results.
    """
    never = next(each for each in results if each.name == "never")
    many = len(never.played.scores)
    earlier = int(EARLIER * many)
    worth = [_net(each, earlier, price) for each in results]
    best = results[int(np.argmax(worth))]
    apart = (best.played.scores - never.played.scores)[earlier:]
    gain = float(np.nanmean(apart)) if len(apart) else 0.0
    low, high = _interval(apart)
    runs = best.played.runs / many
    helps = best.name != "never" and low > 0 and gain > price * runs
    return Advice(best.name, gain, (low, high), runs, helps, _words(best.name, (gain, low, high), runs, helps))


def _net(each: Result, earlier: int, price: float) -> float:
    """Mean score of the earlier windows less the runs that were made for them."""
    first = each.played.first_window
    runs = sum(decision.window < first + earlier for decision in each.played.decisions)
    return float(np.nanmean(each.played.scores[:earlier])) - price * runs / max(1, earlier)


def _interval(apart: Floats) -> tuple[float, float]:
    known = apart[np.isfinite(apart)]
    many = len(known)
    if many < 4 or np.ptp(known) == 0:
        return (float(known.mean()), float(known.mean())) if many else (0.0, 0.0)
    length = round(np.sqrt(many))
    starts = np.random.default_rng(SEED).integers(0, many, size=(RESAMPLES, -(-many // length)))
    places = (starts[:, :, None] + np.arange(length)) % many
    means = known[places.reshape(RESAMPLES, -1)[:, :many]].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _words(name: str, gain: tuple[float, float, float], runs: float, helps: bool) -> str:
    if name == "never":
        return "retraining does not help here: no policy gained more than its runs cost"
    mean, low, high = (100 * each for each in gain)
    over = f"{mean:.1f} points a window over never retraining ({low:.1f} to {high:.1f})"
    brings = f"{over} for {100 * runs:.0f} runs in 100 windows"
    if helps:
        return f"{name}: {brings}; chosen on the earlier part of history, read on the later"
    return f"retraining is not proven to help here: the best policy, {name}, brings {brings}"
