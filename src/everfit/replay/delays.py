"""What it costs when labels come later: the same policies, played again with labels so many windows later.

Takes a way to play and the label delay; gives scores by delay, and a sentence; never invents labels that come sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from everfit.replay.gains import Result
from everfit.replay.record import DelayCost

DAY = timedelta(days=1)


def best_fixed(results: Sequence[Result], price: float) -> str:
    """The fixed schedule of the largest score less the price of its runs.

    `every1` is always among the results.
    """
    fixed = [each for each in results if each.name.startswith("every") and each.name[5:].isdigit()]
    return max(fixed, key=lambda each: each.score - price * each.played.runs / len(each.played.scores)).name


def delay_words(costs: Sequence[DelayCost], per_window: timedelta | None) -> str | None:
    """What labels that come later cost, in a sentence; None when nothing was played.

    >>> delay_words([DelayCost(0, "everfit", 0.80), DelayCost(5, "everfit", 0.78)], timedelta(hours=48))
    'labels that come 5 windows later cost everfit 2.0 points: 0.4 a window, 0.20 a day'
    """
    first = costs[0].policy if costs else ""
    of = [each for each in costs if each.policy == first]
    if len(of) < 2:
        return None
    later = of[-1].delay - of[0].delay
    lost = 100 * (of[0].score - of[-1].score)
    said = f"labels that come {later} windows later cost {first} {lost:.1f} points: {lost / later:.1f} a window"
    return said if not per_window else f"{said}, {lost / later / (per_window / DAY):.2f} a day"
