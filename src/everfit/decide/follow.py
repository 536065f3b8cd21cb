"""The second training after a loss: once, when rows of after the alarm have come.

Takes the history and the rules; gives the reason to train again, or what is waited for; never follows a follow-up.
The first training after an alarm learns from rows of which most are older than the change; detectors then go quiet, so
nothing else asks for the second one (measured on 13 streams: without it the gain of a policy falls from 1.03 to 0.99).
"""

from __future__ import annotations

from everfit.decide.budget import source_of
from everfit.decide.decision import Reason
from everfit.decide.history import History, RunRecord, WindowRecord
from everfit.decide.options import Rules
from everfit.decide.rules import about_harm
from everfit.ids import content_key

FOLLOW_UP = "follow_up"
DONE = ("promoted", "kept_back")  # runs that trained and judged


def follow_up(past: History, rules: Rules) -> tuple[Reason | None, bool]:
    """The reason for a follow-up, and whether it is due; (None, False) when none is to come.

    It follows the last run that trained, if a trigger about a loss caused it and it was no follow-up itself. It is due
    once `decide.follow_up` windows have matured since that run began: these rows the run could not learn from.

    >>> from everfit.decide.options import Deciding
    >>> follow_up(History("m"), Rules((), Deciding(), "roc_auc", 500))
    (None, False)
    """
    needed = rules.limits.follow_up
    run = next((run for run in reversed(past.runs) if run.outcome not in ("failed", "blocked")), None)
    if needed == 0 or run is None or not _for_a_loss(run, rules):
        return None, False
    evidence = content_key(FOLLOW_UP, run.run)
    if evidence in past.used:
        return None, False
    fresh = sum(1 for window in past.windows if _since(window, run))
    source = source_of(rules.limits, "follow_up", "decide.follow_up")
    due = fresh >= needed
    said = (
        f"{run.run} answered a loss with mostly old rows; {fresh} windows have matured since (line {needed})"
        f"{': training once more on the fresh rows' if due else ''}"
    )
    changed = "" if due else f"it comes when {needed - fresh} more have matured"
    return Reason(FOLLOW_UP, fresh, needed, said, evidence if due else "", source, changed), due


def _for_a_loss(run: RunRecord, rules: Rules) -> bool:
    harmful = {trigger.name for trigger in rules.triggers if about_harm(trigger)}
    return (
        run.ended is not None
        and run.outcome in DONE
        and FOLLOW_UP not in run.triggers
        and bool(harmful & set(run.triggers))
    )


def _since(window: WindowRecord, run: RunRecord) -> bool:
    """Whether a window's labels matured after a run began; where that was not kept, whether it ended after."""
    return window.mature is not None and (window.matured_at or window.span.end) > run.started
