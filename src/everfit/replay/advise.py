"""Which policy to take, what it should bring, and how sure that is.

Takes what the policies did; gives one advice; never tells a winner's own luck as its gain: the policy is chosen on the
earlier part of history and its gain is read on the later part.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from everfit.replay.gains import Prices, Result, errors_of
from everfit.replay.matrix import Cut, Floats

EARLIER = 0.6  # share of the scored windows on which the policy is chosen
RESAMPLES = 2000
CONFIDENCE = 0.9  # of the interval: 5 % on either side
SEED = 20_130_101  # the same history gives the same advice
YOUNG = 10  # windows of age within which a model's ageing is told


@dataclass(frozen=True, slots=True)
class Worth:
    """What a run costs: in score times windows, or beside errors in the user's money."""

    price: float
    prices: Prices | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What the backtest recommends."""

    policy: str
    expected_gain: float  # points a window over never retraining, on windows that it was not chosen on
    interval: tuple[float, float]  # of that, 90 %
    runs_per_window: float  # what it costs, over all of history
    helps: bool  # whether retraining is worth its price, and surely better than never
    said: str  # the advice in a sentence
    saving: tuple[float, float, float] | None = None  # money a window over never retraining, with its interval
    words: tuple[str, ...] = ()  # what else follows, a sentence each
    spec: str | None = None  # the text of the spec that does it

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "policy": self.policy,
            "expected_gain": self.expected_gain,
            "interval": list(self.interval),
            "runs_per_window": self.runs_per_window,
            "helps": self.helps,
            "said": self.said,
            "saving": None if self.saving is None else list(self.saving),
            "words": list(self.words),
            "spec": self.spec,
        }


def advise(results: Sequence[Result], cut: Cut, worth: Worth, among: Collection[str] | None = None) -> Advice:
    """Choose the policy of the largest score less the price of its runs, or of the lowest cost in money.

    The interval is a circular block bootstrap of the window differences to never (Politis and Romano 1992), blocks of
    the square root of their number, because windows near one another hang together. When the chosen policy is not
    surely better than never on the later windows, or costs more than it brings, never is recommended. Everfit's own
    policy is chosen unless another was surely better: of many policies one is always lucky on a short history.

    Args:
        results: what the policies did, `never` among them.
        cut: how history is cut.
        worth: what a run, and in money an error, costs: 0.08 is one point of score over eight windows.
        among: names to choose of; None: all.
    """
    of = {each.name: each for each in results}
    never, many = of["never"], len(of["never"].played.scores)
    earlier = int(EARLIER * many)
    nets = {each.name: _net(each, cut, worth) for each in results}
    means = {name: float(np.nanmean(net[:earlier])) for name, net in nets.items()}
    chosen = max((name for name in means if among is None or name in among), key=lambda name: means[name])
    if "everfit" in nets and interval((nets[chosen] - nets["everfit"])[:earlier])[0] <= 0:
        chosen = "everfit"  # the default, until another is surely better
    best, words = of[chosen], _passed_over(means, chosen, worth, among or means)
    apart = (best.played.scores - never.played.scores)[earlier:]
    gain, runs = _mean(apart), best.played.runs / many
    low, high = interval(apart)
    spared = (nets[chosen] - nets["never"])[earlier:]
    saving = None if worth.prices is None else (_mean(spared), *interval(spared))
    sure = low > 0 and gain > worth.price * runs if saving is None else saving[1] > 0
    if chosen != "never" and not sure:
        said = f"retraining is not proven to help here: {_brings(chosen, (gain, low, high), runs, saving)}"
        why = "so the model may stay as it is"
        return Advice("never", 0.0, (0.0, 0.0), 0.0, False, f"{said}; {why}", saving and (0.0, 0.0, 0.0), words)
    if chosen == "never":
        said = "retraining does not help here: no policy gained more than its runs cost"
    else:
        brings = _brings(chosen, (gain, low, high), runs, saving)
        said = f"{brings}; chosen on the earlier part of history, read on the later"
    return Advice(chosen, gain, (low, high), runs, chosen != "never", said, saving, words)


def ageing_words(ageing: Sequence[float]) -> str | None:
    """How fast a model goes stale, in a sentence; None when too few ages are known.

    >>> ageing_words([0.80, 0.79, 0.78])
    'without retraining a model loses 1.0 points a window in its first 3 windows'
    """
    if len(ageing) < 3:
        return None
    first = min(YOUNG, len(ageing))
    lost = 100 * (ageing[0] - ageing[first - 1]) / (first - 1)
    if lost < 0.05:
        return f"models hardly age here: {100 * (ageing[0] - ageing[-1]):.1f} points in {len(ageing)} windows"
    said = f"without retraining a model loses {lost:.1f} points a window in its first {first} windows"
    if len(ageing) <= YOUNG:
        return said
    return f"{said}, and is {100 * (ageing[0] - ageing[-1]):.1f} points behind after {len(ageing)}"


def interval(apart: Floats) -> tuple[float, float]:
    """The 90 % interval of the mean of neighbouring values, by circular block bootstrap.

    >>> low, high = interval(np.array([0.1] * 20 + [0.3] * 20))
    >>> low < 0.2 < high
    True
    """
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


def _net(each: Result, cut: Cut, worth: Worth) -> Floats:
    """What each scored window was worth: its score less the price of its runs, or less all costs in money."""
    first = each.played.first_window
    at = np.array([decision.window - first for decision in each.played.decisions], dtype=np.int64)
    runs = np.bincount(at, minlength=len(each.played.scores)).astype(np.float64)
    if worth.prices is None:
        return each.played.scores - worth.price * runs
    return -worth.prices.per_error * errors_of(each.played, cut) - worth.prices.per_retrain * runs


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _passed_over(means: dict[str, float], chosen: str, worth: Worth, among: Collection[str]) -> tuple[str, ...]:
    """A rule that did better on the earlier part and cannot be chosen is named."""
    best = max(means, key=lambda name: means[name])
    if best in among:
        return ()
    more = means[best] - means[chosen]
    much = f"{100 * more:.1f} points" if worth.prices is None else f"{more:,.2f}"
    return (f"{best} was {much} a window better than {chosen} on the earlier part, but a spec cannot say it",)


def _brings(name: str, gain: tuple[float, float, float], runs: float, saving: tuple[float, float, float] | None) -> str:
    mean, low, high = (100 * each for each in gain)
    said = f"{name} brings {mean:.1f} points a window over never retraining ({low:.1f} to {high:.1f})"
    if saving is not None:
        said = f"{said} and saves {saving[0]:,.2f} a window ({saving[1]:,.2f} to {saving[2]:,.2f})"
    return f"{said} for {100 * runs:.0f} runs in 100 windows"
