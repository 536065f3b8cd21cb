"""Does the challenger take longer? A test of whole distributions that may be looked at after every batch.

Takes the latencies of both models in one interval, and what was weighed before; gives the evidence so far, as a few
floats; never reads a mean, which one slow request moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from everfit.errors import Refused
from everfit.rollout.sequential import Floats, Sample, Weighed, knowing, log_evidence, log_sum, rate_of, weigh_apart

QUANTILES = (0.5, 0.9, 0.99)  # of the champion's latency, where the distributions are compared
ENOUGH = 100  # rows of the champion that fix these quantiles: below, the 0.99 quantile is the largest row


@dataclass(frozen=True, slots=True)
class Order:
    """A comparison of latencies: one test of exceedance at each of the champion's quantiles."""

    limits: tuple[float, ...] = ()  # milliseconds; empty while too few rows of the champion were seen
    tests: tuple[Weighed, ...] = ()
    rows: tuple[float, float] = (0.0, 0.0)  # that were compared
    learnt: tuple[float, ...] = ()  # milliseconds of the champion's first rows, until they fix the limits


def weigh_latency(
    state: Order,
    champion: ArrayLike,
    challenger: ArrayLike,
    *,
    slower: float = 0.0,
    slack: float = 0.0,
    effect: float = 1.0,
) -> Order:
    """Take one look at latencies into account: is the challenger's time, less `slower`, stochastically longer?

    The champion's quantiles, fixed by its first 100 rows, are the places of comparison: if the challenger takes at most
    (1 + slower) times as long, it exceeds (1 + slower) q no more often than the champion exceeds q. Any places fixed
    beforehand keep the promise (stochastic order: Lindon, Sanden and Shirikian 2022). Until then nothing is compared.

    Args:
        state: Before this look; `Order(limits=...)` where the champion's quantiles are known from before.
        champion: Milliseconds per request.
        challenger: Milliseconds per request of the same time.
        slower: Allowed share, 0.1 = a tenth.
        slack: Allowed milliseconds, where they are more than the share.
        effect: Design effect.

    >>> usual = np.linspace(1, 20, 500)
    >>> state = weigh_latency(Order(), usual, usual * 2)
    >>> log_evidence_of(weigh_latency(state, usual, usual * 2, slower=0.1)) > 10
    True
    """
    a, b = (np.sort(np.asarray(times, dtype=np.float64).ravel()) for times in (champion, challenger))
    if (a.size and not a[0] >= 0) or (b.size and not b[0] >= 0) or not np.isfinite([*a[-1:], *b[-1:]]).all():
        raise Refused("a latency is missing, negative or infinite; count requests without an answer as errors")
    if not state.limits:  # this look only learns: its rows must not be bet on at places that they chose
        learnt = (*state.learnt, *a.tolist())
        if len(learnt) < ENOUGH:
            return Order(learnt=learnt)
        return Order(tuple(float(q) for q in np.quantile(learnt, QUANTILES)))
    rows = (state.rows[0] + len(a), state.rows[1] + len(b))
    tests = state.tests or tuple(knowing(1 - share) for share in QUANTILES[: len(state.limits)])
    moved = tuple(
        weigh_apart(test, _above(a, limit), _above(b, allowed_over(limit, slower, slack)), effect=effect)
        for test, limit in zip(tests, state.limits, strict=True)
    )
    return Order(state.limits, moved, rows)


def log_evidence_of(state: Order, *, fine: bool = False) -> float:
    """Log of the evidence that the challenger takes longer than allowed; with `fine`, that it does not.

    Longer anywhere is longer, so the mean over the places is evidence; fine is only what is fine at every place.

    >>> log_evidence_of(Order())
    0.0
    """
    each = [log_evidence(test, fine=fine) for test in state.tests] or [0.0]
    return min(each) if fine else log_sum(each, [1 / len(each)] * len(each))


def allowed_over(limit: float, slower: float, slack: float) -> float:
    """Where the challenger is held to what the champion does over a limit; milliseconds.

    >>> allowed_over(5.0, 0.1, 5.0), allowed_over(100.0, 0.1, 5.0)
    (10.0, 110.00000000000001)
    """
    return max(limit * (1 + slower), limit + slack)


def _above(ordered: Floats, limit: float) -> Sample:
    over = len(ordered) - int(np.searchsorted(ordered, limit, side="right"))
    return rate_of(over, len(ordered))
