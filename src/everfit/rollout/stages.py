"""The steps of a roll-out in the words that users know: mirror, weight, pause, analysis, bake.

Takes the spec's short form or list of steps; gives the full list, checked; never performs a step.

`weight` sets the challenger's share of traffic, `mirror` gives it copies of the requests and lets nobody see its
answers, `analysis` lets the guard look for that long and goes on only on its word, `pause` waits for a while or for a
person, `bake` keeps the guard looking after all traffic has moved and the old model warm.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from everfit.units import Duration, Share, duration_text

WORDS = ("mirror", "weight", "pause", "analysis", "bake")
PROMOTED = "until promoted"


class _Step(BaseModel, frozen=True, extra="forbid"):
    """One step of the list."""


class Mirror(_Step, frozen=True):
    """Copies of the requests go to the challenger; nobody sees its answers; the guard pairs the outputs by request."""

    mirror: Duration = Field(description="for how long")
    share: Share = Field(1.0, description="of the requests that are copied")


class Weight(_Step, frozen=True):
    """The challenger answers this share of the keys."""

    weight: Share = Field(description="share of the keys, sticky; 100% is live")


class Pause(_Step, frozen=True):
    """Nothing changes for a while, or until a person says `everfit promote`; the guard looks on and may roll back."""

    pause: Duration | Literal["until promoted"] = Field(description="a duration, or `until promoted`")


class Analysis(_Step, frozen=True):
    """The guard looks for that long, and longer while it is inconclusive; only its word leads on."""

    analysis: Duration = Field(description="at least this long")


class Bake(_Step, frozen=True):
    """All traffic has moved; the guard looks on and the old model stays warm."""

    bake: Duration = Field(description="for how long")


def _word(value: Any) -> str:
    present = [word for word in WORDS if (word in value if isinstance(value, dict) else hasattr(value, word))]
    return present[0] if present else ""


Step = Annotated[
    Annotated[Mirror, Tag("mirror")]
    | Annotated[Weight, Tag("weight")]
    | Annotated[Pause, Tag("pause")]
    | Annotated[Analysis, Tag("analysis")]
    | Annotated[Bake, Tag("bake")],
    Discriminator(
        _word,
        custom_error_type="step",
        custom_error_message="a step is one of mirror, weight, pause, analysis, bake; write for instance `weight: 5%`",
    ),
]


class Staging(BaseModel, frozen=True, extra="forbid"):
    """How traffic moves: the short form, or `steps` in full.

    >>> [_word(step) for step in Staging(mirror="24h", weights=("5%", "50%"), bake="24h").expanded()]
    ['mirror', 'weight', 'analysis', 'weight', 'analysis', 'weight', 'bake']
    """

    mirror: Duration = Field(timedelta(0), description="copies of the requests go to the challenger first; 0 = no")
    weights: tuple[Share, ...] = Field((), description="shares before all; empty = all at once, the old one warm")
    interval: Duration = Field(timedelta(hours=1), description="the guard looks for this long at each weight, at least")
    bake: Duration = Field(timedelta(0), description="the guard looks on after going live")
    steps: tuple[Step, ...] = Field((), description="the full list of steps instead of the four words above")

    @model_validator(mode="after")
    def _one_form(self) -> Staging:
        given = sorted(self.model_fields_set - {"steps"})
        if self.steps and given:
            raise ValueError(f"`steps` says it all: leave out {', '.join(given)}, or write them as steps")
        problem = problem_of(self.expanded())
        if problem:
            raise ValueError(problem)
        return self

    def expanded(self) -> tuple[Step, ...]:
        """The full list of steps; what is missing at its end is to go live.

        >>> Staging().expanded()
        (Weight(weight=1.0),)
        """
        steps = list(self.steps) or self._short()
        if not any(isinstance(step, Weight) and step.weight == 1 for step in steps):
            steps.append(Weight(weight=1.0))
        return tuple(steps)

    def _short(self) -> list[Step]:
        first: list[Step] = [Mirror(mirror=self.mirror)] if self.mirror else []
        for share in (share for share in self.weights if share < 1):
            first += [Weight(weight=share), Analysis(analysis=self.interval)]
        last: list[Step] = [Bake(bake=self.bake)] if self.bake else []
        return [*first, Weight(weight=1.0), *last]


def problem_of(steps: Sequence[Step]) -> str | None:
    """Why this list makes no sense, in one sentence; None where it does.

    >>> problem_of([Weight(weight=0.5), Weight(weight=0.05)])
    'step 2: weight 5% after 50%: weights must rise; to go back there is `everfit abort`'
    """
    share = 0.0
    for at, step in enumerate(steps, 1):
        said = _misplaced(step, share)
        if said:
            return f"step {at}: {said}"
        share = step.weight if isinstance(step, Weight) else share
    return None


def explain(steps: Sequence[Step]) -> list[str]:
    """Say what the steps would do, one line each, for `everfit plan`.

    >>> print(*explain(Staging(weights=("5%",), bake="24h").expanded()), sep="\\n")
    answer 5% of the keys with the challenger; the same keys each time
    let the guard look for 1h; go on only if it finds nothing against the challenger
    answer everything with the challenger; the champion stays warm to go back to
    let the guard look on for 1d; it goes back by itself if the challenger is worse
    """
    return [_line(step) for step in steps]


def longest(steps: Sequence[Step]) -> timedelta | None:
    """How long the steps take if nothing is inconclusive; None if a person is waited for.

    >>> longest(Staging(mirror="1d", weights=("5%",), interval="1h", bake="1d").expanded())
    datetime.timedelta(days=2, seconds=3600)
    """
    total = timedelta(0)
    for step in steps:
        held = lasting(step)
        if held is None:
            return None
        total += held
    return total


def lasting(step: Step) -> timedelta | None:
    """How long one step is planned to take; None until a person says so."""
    match step:
        case Mirror(mirror=held) | Analysis(analysis=held) | Bake(bake=held):
            return held
        case Pause(pause=held):
            return held if isinstance(held, timedelta) else None
        case Weight():
            return timedelta(0)


def _misplaced(step: Step, share: float) -> str | None:
    match step:
        case Weight(weight=weight) if weight <= share:
            after = f" after {_percent(share)}" if share else ""
            return f"weight {_percent(weight)}{after}: weights must rise; to go back there is `everfit abort`"
        case Mirror() if share > 0:
            return "mirror after a weight: the challenger already answers; mirror first"
        case Analysis() if share == 0:
            return "analysis before any weight: there is nothing to compare; begin with `mirror` or `weight`"
        case Bake() if share < 1:
            return "bake before all traffic has moved; put `weight: 100%` before it, or use `analysis`"
        case _:
            return None


def _line(step: Step) -> str:
    match step:
        case Mirror(mirror=held, share=share):
            copied = "every request" if share == 1 else f"{_percent(share)} of the requests"
            return f"mirror {copied} to the challenger for {duration_text(held)}; nobody sees its answers"
        case Weight(weight=1.0):
            return "answer everything with the challenger; the champion stays warm to go back to"
        case Weight(weight=weight):
            return f"answer {_percent(weight)} of the keys with the challenger; the same keys each time"
        case Pause(pause=held):
            waits = f"for {duration_text(held)}" if isinstance(held, timedelta) else "until `everfit promote`"
            return f"wait {waits}; the guard looks on"
        case Analysis(analysis=held):
            return (
                f"let the guard look for {duration_text(held)}; go on only if it finds nothing against the challenger"
            )
        case Bake(bake=held):
            return f"let the guard look on for {duration_text(held)}; it goes back by itself if the challenger is worse"


def _percent(share: float) -> str:
    return f"{share * 100:.10g}%"
