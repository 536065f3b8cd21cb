"""What a trigger sees: yes, no or not known, with what was read, the line, and what would have changed it.

Takes readings of windows that were judged one by one; gives one `Look` over several of them; never reads a window
itself. Unknown is an answer of its own: a window that says nothing is passed over, and counts neither way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import BaseModel

from everfit.decide.decision import Reason
from everfit.decide.history import History
from everfit.decide.options import Rules
from everfit.decide.rules import Rule
from everfit.detect.performance import METRICS
from everfit.ids import content_key
from everfit.observe.window import Span


@dataclass(frozen=True, slots=True)
class Look:
    """What one trigger sees now."""

    fires: bool | None  # None: not known, and the reasons say what is missing
    reasons: tuple[Reason, ...]  # several for `all` and `any`


@dataclass(frozen=True, slots=True)
class Holding:
    """Whether a rule held in one window, and what was read."""

    holds: bool | None  # None: the window says nothing
    value: float | None
    said: str
    span: Span | None = None  # the window; None where there is none to name
    otherwise: str = ""  # what would have changed it


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything that a trigger may look at, and its place in the spec."""

    past: History
    rules: Rules
    now: datetime
    place: str = "triggers[0]"
    named: bool = True  # the spec names it; else it is a default

    def inside(self, part: str) -> Sight:
        """The same for a trigger inside this one."""
        return replace(self, place=f"{self.place}.{part}")

    def source(self, record: BaseModel, field: str, path: str) -> str:
        """Where a threshold came from."""
        word = "spec" if self.named and field in record.model_fields_set else "default"
        return f"{word}: {self.place}.{path}"

    def calibrated(self, monitors: int = 0) -> str:
        """Where an alarm's line came from."""
        promise = f": at most {self.rules.promise}" if self.rules.promise else ""
        return f"calibrated{promise}" + (f" over {monitors} monitors" if monitors else "")


def loss(metric: str, level: float, value: float) -> float:
    """By how much a value is worse than a level; negative when it is better.

    >>> round(loss("roc_auc", 0.75, 0.70), 3), round(loss("log_loss", 0.5, 0.4), 3)
    (0.05, -0.1)
    """
    known = METRICS.get(metric.partition("@")[0])
    greater = known is None or known.greater_is_better  # of a user's own function the spec asks that greater is better
    return level - value if greater else value - level


def unknown(name: str, said: str, limit: float | None = None, source: str = "") -> Look:
    """A look that says what is missing."""
    return Look(None, (Reason(name, None, limit, said, "", source, "with more rows or labels it could be judged"),))


def turning(what: str, value: float, line: float, *, fires: bool) -> str:
    """What would have changed an answer.

    >>> turning("a drop", 0.031, 0.02, fires=True)
    'a drop of 0.02 or less would not have fired; it was 0.031'
    """
    if fires:
        return f"{what} of {line:g} or less would not have fired; it was {value:.3g}"
    return f"{what} above {line:g} would have fired; it was {value:.3g}"


def over_windows(trigger: Rule, seen: Sequence[Holding], sight: Sight, *, limit: float | None, source: str) -> Look:
    """One answer over the newest windows: `for: N`, or N of the last M that can be judged.

    It fires once N hold; it does not once so few are left that N cannot hold; between the two it is not known. The
    evidence is the newest window in which the rule held, so that a window that came since, but says nothing or says
    no, never makes old evidence new.
    """
    known = [holding for holding in seen if holding.holds is not None]
    if not known:
        said = seen[-1].said if seen else "no window of this champion can be judged yet"
        return unknown(trigger.name, said, limit, source)
    recent = known[-trigger.among :]
    held = [holding for holding in recent if holding.holds]
    fires = _three(len(held), len(recent), trigger.needed, trigger.among)
    last = held[-1] if fires else recent[-1]
    champion = sight.past.champion.candidate if sight.past.champion else ""
    evidence = content_key(trigger.name, champion, last.span and last.span.end) if fires else ""
    said = last.said + _counted(trigger, len(held), len(recent), fires=fires)
    return Look(fires, (Reason(trigger.name, last.value, limit, said, evidence, source, last.otherwise),))


def _three(held: int, judged: int, needed: int, among: int) -> bool | None:
    if held >= needed:
        return True
    return None if held + among - judged >= needed and held else False


def _counted(trigger: Rule, held: int, judged: int, *, fires: bool | None) -> str:
    if trigger.among == 1:
        return ""
    if fires is None:
        return f"; it held in {held} of {judged} windows, {trigger.needed} of {trigger.among} needed"
    if fires and trigger.needed == trigger.among:
        return f", {trigger.needed} windows in a row"
    return f"; it held in {held} of the last {judged} windows (line {trigger.needed})"
