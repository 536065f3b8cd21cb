"""Limits on every trigger: rest after a run, a budget of runs, freezes.

Takes the history, the options and the time; gives the reason to wait, or None; never looks at triggers.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from everfit.decide.decision import Reason
from everfit.decide.history import History
from everfit.decide.options import Deciding
from everfit.units import duration_text


def limit(past: History, options: Deciding, now: datetime) -> Reason | None:
    """Why nothing may be started now, if so.

    >>> limit(History("m"), Deciding(), datetime(2013, 2, 1)) is None
    True
    """
    return _frozen(options, now) or _resting(past, options, now) or _spent(past, options, now)


def _frozen(options: Deciding, now: datetime) -> Reason | None:
    for freeze in options.freeze:
        if freeze.since <= now < freeze.to:
            return Reason("freeze", None, None, f"nothing is retrained before {freeze.to:%Y-%m-%d %H:%M}: a freeze", "")
    return None


def rest_after(past: History, options: Deciding) -> timedelta:
    """How long to rest after the last run: doubled for each run in a row that brought nothing.

    >>> rest_after(History("m"), Deciding()) == Deciding().cool_down
    True
    """
    fruitless = 0
    for run in reversed(past.runs):
        if run.ended is None or run.outcome == "promoted":
            break
        fruitless += run.outcome != "blocked"  # broken data cost no training: once mended, there is no need to wait
    doubled: timedelta = options.cool_down * 2 ** min(fruitless, 20)
    return min(doubled, max(options.rest_at_most, options.cool_down))


def _resting(past: History, options: Deciding, now: datetime) -> Reason | None:
    ended = max((run.ended for run in past.runs if run.ended is not None), default=None)
    rest = rest_after(past, options)
    if ended is None or now >= ended + rest:
        return None
    left = duration_text(timedelta(seconds=round((ended + rest - now).total_seconds())))
    said = f"resting for {left} more ({duration_text(rest)} after the last run)"
    return Reason("cool_down", (now - ended).total_seconds(), rest.total_seconds(), said, "")


def _spent(past: History, options: Deciding, now: datetime) -> Reason | None:
    budget = options.budget
    runs = sum(1 for run in past.runs if run.started > now - budget.per)
    if runs < budget.runs:
        return None
    said = f"{runs} runs were started within {duration_text(budget.per)}; the budget is {budget.runs}"
    return Reason("budget", runs, budget.runs, said, "")
