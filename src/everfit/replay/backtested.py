"""One HTML page of a backtest: the advice, when each policy trained and why, what it cost, how models age.

Takes a `Backtest` and what it was made of; gives the page as text, which opens anywhere without a network and runs no
script; never holds a row.
"""

from __future__ import annotations

from collections.abc import Sequence

from everfit.replay.pictures import MEAN_OF, STYLES, every_picture, main_policies, recalls, trailing
from everfit.replay.record import Backtest
from everfit.replay.report import template
from everfit.replay.saying import advice_of, hindsight_of, hundredths, money_of, percent, points, ranked, scale_of, when

RANGES = {"all": "all rows so far", "change": "rows since the change"}
MOST_WINDOWS = 400  # rows of the table of windows; of more every second, third ... is shown


def render(found: Backtest, title: str, about: Sequence[str] = (), sliced: str = "") -> str:
    """The page.

    Args:
        found: what the policies did.
        title: what was replayed.
        about: what was inferred and done, in lines.
        sliced: the column whose values are told apart, if one was chosen.
    """
    main = main_policies(found)
    first = main[0].played.first_window
    step = -(-len(main[0].played.scores) // MOST_WINDOWS)
    means = {each.name: trailing(each.played.scores) for each in main}
    return template("backtested.html.j2").render(
        found=found,
        title=title,
        about=[line for line in about if line not in found.remarks],  # they have a section of their own
        advice=advice_of(found),
        hindsight=hindsight_of(found),
        pictures=every_picture(found),
        main=main,
        recalled=any(recalls(each) for each in main),
        styles=dict(zip([each.name for each in main], STYLES, strict=False)),
        ranked=ranked(found),
        windows=range(first, first + len(main[0].played.scores), step),
        first=first,
        means=means,
        mean_of=MEAN_OF,
        scale=scale_of(found),
        spec=found.advice.spec,
        priced=any(money_of(each) for each in found.policies),
        money_of=money_of,
        range_words=RANGES,
        hundredths=hundredths,
        sliced=sliced,
        slice_names=list(dict.fromkeys(name for each in found.slices for name in each.misses)),
        worst_miss=max([miss for each in found.slices for miss in each.misses.values()], default=0.0) or 1.0,
        when=when,
        percent=percent,
        points=points,
    )
