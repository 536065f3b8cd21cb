"""What a backtest found, in words: the sentences that the terminal and the page share.

Takes a `Backtest`; gives sentences, and policies in the order in which they are told; never rounds a figure away that
the sentence is about.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import numpy as np

from everfit.detect.catalogue import metric_named
from everfit.replay.gains import Result
from everfit.replay.record import Backtest


def scale_of(found: Backtest) -> str:
    """What a score is: the metric, or of a loss how far it lies below that of the best constant."""
    if metric_named(found.metric).greater_is_better:
        return found.metric
    return f"1 \N{MINUS SIGN} {found.metric} / that of the best constant"


def ranked(found: Backtest) -> list[Result]:
    """Policies by their mean score, the best first."""
    return sorted(found.policies, key=lambda each: (-each.score, each.played.runs))


def advice_of(found: Backtest) -> list[str]:
    """The advice in a few sentences, the recommendation first."""
    names = {each.name for each in found.policies}
    return [_sentence(said, names) for said in _sentences(found)]


def _sentence(said: str, names: Collection[str]) -> str:
    """With a capital, unless it begins with a policy's name, and with a full stop."""
    begins = said if re.split(r"\W", said, maxsplit=1)[0] in names else said[:1].upper() + said[1:]
    return f"{begins.rstrip('.')}."


def _sentences(found: Backtest) -> Iterator[str]:
    yield found.advice.said
    yield from found.advice.words
    if found.failures:
        many = len(found.failures)
        yield f"{many} {'model' if many == 1 else 'models'} could not be trained; the replay went on with what served"


def when(found: Backtest, window: int) -> str:
    """The day on which a window begins; empty where days are not known."""
    begins = found.read.begins
    return f"{begins[window]:%Y-%m-%d}" if window < len(begins) else ""


def percent(value: float | None) -> str:
    """A share of what retraining every window brings.

    >>> percent(0.937), percent(None)
    ('94 %', '\u2013')
    """
    return "\N{EN DASH}" if value is None or not np.isfinite(value) else f"{100 * value:.0f} %"


def hundredths(value: float) -> str:
    """A difference of scores in points of a hundredth, with its sign.

    >>> hundredths(0.0123), hundredths(-0.004)
    ('+1.2', '-0.4')
    """
    return f"{100 * value:+.1f}"


def money_of(result: Result) -> str:
    """What a policy cost in the user's money; empty when no prices were given."""
    return "" if result.cost is None else f"{result.cost:,.2f}"


def points(value: float | None) -> str:
    """A score as a reader compares them.

    >>> points(0.71234), points(float("nan"))
    ('0.7123', '\u2013')
    """
    return "\N{EN DASH}" if value is None or not np.isfinite(value) else f"{value:.4f}"
