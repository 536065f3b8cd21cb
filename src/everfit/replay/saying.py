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


def hindsight_of(found: Backtest) -> list[str]:
    """How the best in hindsight was read, and which policies lie above it and why, in sentences; none without it.

    A policy of more runs than it has, or of other rows and stored models, may be better than any schedule of recent
    rows. One that is itself such a schedule lies above it by luck, or since the better schedule was not told from luck.
    """
    if not found.oracle:
        return []
    best = found.oracle[-1]
    said = (
        f"best in hindsight, at most {best.retrains} retrains of recent rows: {points(best.score)} (chosen on half of "
        f"the rows and read on the other half, so luck earns nothing) to {points(best.at_most)} (chosen and read on "
        "the same rows, luck and all)"
    )
    above = [each for each in ranked(found) if each.score > best.score]
    more = [each.name for each in above if each.played.runs > best.retrains]
    rest = [each for each in above if each.name not in more]
    other = [each.name for each in rest if any(_length(cell) != found.read.start for cell in each.played.served)]
    alike = [each.name for each in rest if each.name not in other]
    reasons = (
        (more, "more runs"),
        (other, "models of other rows, which these schedules do not have"),
        (alike, "schedules that half of the rows did not tell from luck"),
    )
    parts = [f"{', '.join(names)} with {why}" for names, why in reasons if names]
    return [_sentence(each, ()) for each in (said, *([f"above the lower figure: {'; '.join(parts)}"] if parts else ()))]


def _length(cell: tuple[int, int]) -> int:
    return cell[1] - cell[0] + 1


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
