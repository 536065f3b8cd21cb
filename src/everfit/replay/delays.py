"""What it costs when labels come later: the same policies, played again with labels so many windows later.

Takes what was played at each label delay; gives scores by delay, and a sentence; never invents labels that come sooner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from everfit.replay.apart import POINTS, apart, hundred, span
from everfit.replay.gains import Result
from everfit.replay.play import Played
from everfit.replay.record import DelayCost

DAY = timedelta(days=1)


def best_fixed(results: Sequence[Result], price: float) -> str:
    """The fixed schedule of the largest score less the price of its runs.

    `every1` is always among the results.
    """
    fixed = [each for each in results if each.name.startswith("every") and each.name[5:].isdigit()]
    return max(fixed, key=lambda each: each.score - price * each.played.runs / len(each.played.scores)).name


def delay_costs(played: Mapping[int, Played]) -> tuple[DelayCost, ...]:
    """One policy at several label delays, each beside the first one of them, on the same windows."""
    first = next(iter(played.values()))
    return tuple(
        DelayCost(delay, each.name, each.score, apart(first.scores - each.scores)) for delay, each in played.items()
    )


def delay_words(costs: Sequence[DelayCost], per_window: timedelta | None, unit: str = POINTS) -> str | None:
    """What labels that come later cost, in a sentence; None when nothing was played.

    Args:
        costs: the policy that is told comes first, the asked delay before later ones.
        per_window: how long a window is; None: not known.
        unit: what a hundredth of a score is.

    >>> from everfit.replay.apart import Apart
    >>> at_once, late = DelayCost(0, "a", 0.80, Apart(0, 0, 0)), DelayCost(5, "a", 0.78, Apart(0.02, 0.01, 0.03))
    >>> delay_words([at_once, late], timedelta(hours=48))
    'labels that come 5 windows later cost a 2.0 points (1.0 to 3.0): 0.4 points a window, 0.2 points a day'
    >>> delay_words([at_once, DelayCost(5, "a", 0.81, Apart(-0.01, -0.02, 0.01))], timedelta(hours=48))
    'labels that come 5 windows later cost a nothing that is told from noise (-2.0 to 1.0 points): at most 0.2 points \
a window, 0.1 points a day'
    """
    first = costs[0].policy if costs else ""
    of = [each for each in costs if each.policy == first]
    if len(of) < 2:
        return None
    later, lost = of[-1].delay - of[0].delay, of[-1].lost
    said = f"labels that come {later} {'window' if later == 1 else 'windows'} later"
    if lost.low > 0:
        each = _each(lost.mean / later, per_window, unit)
        return f"{said} cost {first} {hundred(lost.mean, unit)} ({span(lost)}): {each}"
    if lost.high <= 0:
        return f"{said} cost {first} nothing ({span(lost)} {unit})"
    most = _each(lost.high / later, per_window, unit)
    return f"{said} cost {first} nothing that is told from noise ({span(lost)} {unit}): at most {most}"


def _each(lost: float, per_window: timedelta | None, unit: str) -> str:
    """What a window of label delay costs, and a day."""
    said = f"{hundred(lost, unit)} a window"
    return said if not per_window else f"{said}, {hundred(lost / (per_window / DAY), unit)} a day"
