"""Which policy to take, what it should bring, and how sure that is.

Takes what the policies did; gives one advice; never tells a winner's own luck as its gain: the policy is chosen on the
earlier part of history and its gain is read on the later part.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from everfit.replay.apart import POINTS, Apart, apart, hundred, span
from everfit.replay.gains import Prices, Result, errors_of
from everfit.replay.matrix import Cut, Floats

EARLIER = 0.6  # share of the scored windows on which the policy is chosen
DEFAULT = "everfit"  # advised unless another is surely better
LIKELY = 0.8  # one side: of four histories of five where retraining brings nothing, this says so


@dataclass(frozen=True, slots=True)
class Worth:
    """What a run costs: in score times windows, or beside errors in the user's money."""

    price: float
    prices: Prices | None = None
    unit: str = POINTS  # what a hundredth of a score is: see `apart.unit_of`


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """The policy that comes next, over all of history."""

    policy: str
    more: Apart  # what it brings a window over the advised one, less the price of runs: score, or the user's money
    runs_per_window: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "policy": self.policy,
            "difference": self.more.mean,
            "interval": [self.more.low, self.more.high],
            "told_apart": self.more.told,
            "runs_per_window": self.runs_per_window,
        }


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
    runner_up: RunnerUp | None = None  # None: no other policy can be advised

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
            "runner_up": None if self.runner_up is None else self.runner_up.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Brings:
    """What a policy brings over never retraining, on the later part of history."""

    policy: str
    gain: Apart  # of score
    net: Apart  # of score less the price of its runs, or of the user's money
    likely: bool  # whether that is above zero in four cases of five; of the default over all of history
    runs: float  # a window, over all of history
    money: bool  # whether `net` is money

    @property
    def sure(self) -> bool:
        """Whether it is told from noise, and worth its runs."""
        return self.net.low > 0 if self.money else self.gain.low > 0 and self.net.mean > 0


def advise(results: Sequence[Result], cut: Cut, worth: Worth, among: Collection[str] | None = None) -> Advice:
    """Advise the policy of the largest score less the price of its runs, or of the lowest cost in money.

    Chosen on the first six tenths of the scored windows, where Everfit's own policy stands until another is surely
    better: of many policies one is always lucky. Then read on the others. What is not sure there is said not to be; it
    is advised all the same when it is worth its runs in four cases of five, for which the default, that nobody picked
    for its luck, is read on all windows. Else never retraining is advised. `benchmarks/policies.py --advice` measures
    this rule beside others. Intervals are those of `apart`.

    Args:
        results: what the policies did, `never` among them.
        cut: how history is cut.
        worth: what a run, and in money an error, costs: 0.08 is one point of score over eight windows.
        among: names to choose of; None: all.
    """
    of = {each.name: each for each in results}
    many = len(of["never"].played.scores)
    earlier = int(EARLIER * many)
    nets = {each.name: _net(each, cut, worth) for each in results}
    open_to = [name for name in of if among is None or name in among]
    means = {name: _mean(net[:earlier]) for name, net in nets.items()}
    chosen = _chosen(nets, earlier, max(open_to, key=lambda name: (means[name], -of[name].played.runs)))
    over = nets[chosen] - nets["never"]
    later = Brings(
        chosen,
        apart((of[chosen].played.scores - of["never"].played.scores)[earlier:]),
        apart(over[earlier:]),
        apart(over if chosen == DEFAULT else over[earlier:], LIKELY).low > 0,
        of[chosen].played.runs / many,
        worth.prices is not None,
    )
    advised = chosen if later.likely or later.sure else "never"
    second = _runner_up(of, nets, advised, [name for name in open_to if name != advised])
    words = _passed_over(means, advised, worth, open_to)
    if second is not None and (advised == chosen or second.policy != chosen):  # else `said` tells of it
        words = (*words, _next(second, advised, worth))
    if advised == "never":
        said, none = _no_help(later, worth), None if worth.prices is None else (0.0, 0.0, 0.0)
        return Advice("never", 0.0, (0.0, 0.0), 0.0, False, said, none, words, runner_up=second)
    gain, net = later.gain, later.net
    saving = None if worth.prices is None else (net.mean, net.low, net.high)
    said = _helps(later, worth)
    return Advice(
        chosen, gain.mean, (gain.low, gain.high), later.runs, later.sure, said, saving, words, runner_up=second
    )


def ageing_words(lost: Floats, unit: str = POINTS, young: int = 10) -> str | None:
    """How fast a model goes stale, in a sentence; None when too few ages are known.

    Two losses are told: a window over the first ten, and in all at the oldest age that half of the models reached.

    Args:
        lost: what a model scores less than the freshest one, (models, ages), models in the order of time; NaN: unknown.
        unit: what a hundredth of a score is.
        young: windows of age within which the loss of a window is told.

    >>> ageing_words(np.array([[0.0, 0.01, 0.02], [0.0, 0.012, 0.024]] * 4))
    'without retraining a model loses 1.1 points a window in its first 3 windows (1.0 to 1.2)'
    """
    if lost.shape[1] < 3:
        return None
    first = min(young, lost.shape[1])
    reached = np.flatnonzero(np.isfinite(lost).sum(axis=0) >= len(lost) / 2)
    last = max(first, int(reached[-1]) + 1 if len(reached) else 0)
    early, all_in_all = apart(lost[:, first - 1]).over(first - 1), apart(lost[:, last - 1])
    whole = f"{hundred(all_in_all.mean, unit)} by an age of {last} windows ({span(all_in_all)})"
    begin = f"in its first {first} windows ({span(early)})"
    if early.low > 0:
        said = f"without retraining a model loses {hundred(early.mean, unit)} a window {begin}"
        return said if last == first else f"{said}, and {whole}"
    if last > first and all_in_all.low > 0:
        slow = f"a model hardly ages at first: {hundred(early.mean, unit)} a window {begin}"
        return f"{slow}, which is within noise; but it has lost {whole}"
    if all_in_all.high < 0:
        return f"models do not age here: against the freshest they lose {whole}, so old ones are better"
    return f"models hardly age here: they lose {whole}, which is within noise"


def _chosen(nets: Mapping[str, Floats], earlier: int, leader: str) -> str:
    """The leader of the earlier part; the default until it is surely beaten."""
    if DEFAULT not in nets or leader == DEFAULT:
        return leader
    return leader if apart((nets[leader] - nets[DEFAULT])[:earlier]).low > 0 else DEFAULT


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


def _runner_up(
    of: Mapping[str, Result], nets: Mapping[str, Floats], advised: str, others: Sequence[str]
) -> RunnerUp | None:
    """The best of the others over all of history: what a reader of the table asks about."""
    if not others:
        return None
    name = max(others, key=lambda other: (_mean(nets[other]), -of[other].played.runs))
    played = of[name].played
    return RunnerUp(name, apart(nets[name] - nets[advised]), played.runs / len(played.scores))


def _passed_over(means: dict[str, float], chosen: str, worth: Worth, among: Collection[str]) -> tuple[str, ...]:
    """A rule that did better on the earlier part and cannot be chosen is named."""
    best = max(means, key=lambda name: means[name])
    if best in among:
        return ()
    much = _much(means[best] - means[chosen], worth)
    return (f"{best} was {much} a window better than {chosen} on the earlier part, but a spec cannot say it",)


def _next(second: RunnerUp, advised: str, worth: Worth) -> str:
    """The runner-up, how far it is from the advised policy, and whether the two are told apart."""
    more, runs = second.more, f"{100 * second.runs_per_window:.0f} runs in 100 windows"
    much = f"{_much(abs(more.mean), worth)} a window {'more' if more.mean > 0 else 'less'} than {advised}"
    after = "in money" if worth.prices else "after the price of runs"
    limits = f"{more.low:,.2f} to {more.high:,.2f}" if worth.prices else span(more)
    said = f"next is {second.policy} with {runs}: over all of history it brings {much} {after} ({limits})"
    if more.high < 0:
        return said
    if more.low > 0:
        return f"{said}; the earlier part did not show that, so it is hindsight: look again when there is more history"
    why = f": a tie goes to {DEFAULT}, which also watches what no schedule can" if advised == DEFAULT else ""
    return f"{said}; the two are not told apart{why}"  # of two others the net score decides: it pays for the runs


def _helps(later: Brings, worth: Worth) -> str:
    if later.sure:
        return f"{_brings(later, worth)}; chosen on the earlier part of history, read on the later"
    why = "that is not told from noise, but it is worth its runs in at least four cases of five"
    return f"{_brings(later, worth)} on the later part of history; {why}"


def _no_help(later: Brings, worth: Worth) -> str:
    if later.policy == "never":
        return "retraining does not help here: on the earlier part no policy gained more than its runs cost"
    watch = "; it would watch for changes to come, of which history tells nothing" if later.policy == DEFAULT else ""
    if later.net.mean <= 0:
        return f"retraining does not help here: {_brings(later, worth)}, and is not worth them{watch}"
    return f"retraining is not proven to help here: {_brings(later, worth)}, which may well be noise{watch}"


def _brings(later: Brings, worth: Worth) -> str:
    brings = hundred(later.gain.mean, worth.unit)
    said = f"{later.policy} brings {brings} a window over never retraining ({span(later.gain)})"
    if worth.prices is not None:
        net = later.net
        said = f"{said} and saves {net.mean:,.2f} a window ({net.low:,.2f} to {net.high:,.2f})"
    return f"{said} for {100 * later.runs:.0f} runs in 100 windows"


def _much(value: float, worth: Worth) -> str:
    return hundred(value, worth.unit) if worth.prices is None else f"{value:,.2f}"
