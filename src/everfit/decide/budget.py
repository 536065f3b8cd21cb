"""Limits on every trigger: freezes, rest after a run, a budget of runs for the model and for all models together.

Takes the history, the options and the time; gives the reason to wait, or None; never looks at triggers.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel

from everfit.decide.decision import Reason
from everfit.decide.history import History
from everfit.decide.options import Deciding
from everfit.units import duration_text


def limit(
    past: History,
    options: Deciding,
    now: datetime,
    *,
    value: float | None = None,
    rested: bool = False,
    bench: bool = False,
) -> Reason | None:
    """Why nothing may be started now, if so.

    Args:
        past: What happened so far.
        options: The limits.
        now: The model's time.
        value: What the run is worth, for its place among those of other models; None where it is not known.
        rested: The rest after the last run does not count: a follow-up is asked for.
        bench: The bench asks, which has an interval and a budget of its own: the spec's count where it sets them.

    >>> limit(History("m"), Deciding(), datetime(2013, 2, 1)) is None
    True
    """
    counts = options.model_fields_set if bench else {"cool_down", "budget"}
    resting = None if rested or "cool_down" not in counts else _resting(past, options, now)
    spent = _spent(past, options, now) if "budget" in counts else None
    return frozen(options, now) or resting or spent or _fleet(past, options, value)


def source_of(options: BaseModel, field: str, path: str) -> str:
    """Where a limit came from.

    >>> source_of(Deciding(), "cool_down", "decide.cool_down")
    'default: decide.cool_down'
    """
    return f"{'spec' if field in options.model_fields_set else 'default'}: {path}"


def frozen(options: Deciding, now: datetime) -> Reason | None:
    """The freeze in which nothing is retrained and nothing recalled, if there is one now.

    >>> frozen(Deciding(), datetime(2013, 2, 1)) is None
    True
    """
    for freeze in options.freeze:
        if freeze.since <= now < freeze.to:
            said = f"nothing is retrained before {freeze.to:%Y-%m-%d %H:%M}: a freeze"
            return Reason("freeze", None, None, said, "", "spec: decide.freeze", "after the freeze it may start")
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
        # Broken data cost no training: once mended, there is no need to wait. A model on the bench is not judged yet.
        fruitless += run.outcome not in {"blocked", "benched"}
    doubled: timedelta = options.cool_down * 2 ** min(fruitless, 20)
    return min(doubled, max(options.rest_at_most, options.cool_down))


def _resting(past: History, options: Deciding, now: datetime) -> Reason | None:
    ended = max((run.ended for run in past.runs if run.ended is not None), default=None)
    rest = rest_after(past, options)
    if ended is None or now >= ended + rest:
        return None
    left = duration_text(timedelta(seconds=round((ended + rest - now).total_seconds())))
    said = f"resting for {left} more ({duration_text(rest)} after the last run)"
    source = source_of(options, "cool_down", "decide.cool_down")
    changed = f"from {ended + rest:%Y-%m-%d %H:%M} on it may start"
    return Reason("cool_down", (now - ended).total_seconds(), rest.total_seconds(), said, "", source, changed)


def _spent(past: History, options: Deciding, now: datetime) -> Reason | None:
    budget = options.budget
    started = sorted(run.started for run in past.runs if run.started > now - budget.per)
    runs = len(started)
    if runs < budget.runs:
        return None
    said = f"{runs} runs were started within {duration_text(budget.per)}; the budget is {budget.runs}"
    source = source_of(options, "budget", "decide.budget")
    free = started[-budget.runs] + budget.per
    return Reason("budget", runs, budget.runs, said, "", source, f"from {free:%Y-%m-%d %H:%M} on one is free")


def _fleet(past: History, options: Deciding, value: float | None) -> Reason | None:
    """All models together: what is left of their budget goes to the most valuable runs first."""
    budget, fleet = options.fleet, past.fleet
    if budget is None or fleet is None:
        return None
    source, per = "spec: decide.fleet", duration_text(budget.per)
    left, ours = budget.runs - fleet.runs_in_period, value or 0.0
    if left <= 0:
        said = f"all models together started {fleet.runs_in_period} runs within {per}; the budget is {budget.runs}"
        return Reason("fleet", ours, budget.runs, said, "", source, "a larger budget, or the end of the period")
    before = [(model, worth) for model, worth in fleet.wishes if (-worth, model) < (-ours, past.model)]
    if len(before) < left:
        return None
    first = min(before, key=lambda each: (-each[1], each[0]))
    said = (
        f"{left} of {budget.runs} runs are left within {per}, and {len(before)} models want one more dearly, "
        f"first {first[0]} ({first[1]:.4g} against {ours:.4g})"
    )
    return Reason("fleet", ours, sorted((w for _, w in before), reverse=True)[left - 1], said, "", source,
                  "a run of more value would have gone first")  # fmt: skip
