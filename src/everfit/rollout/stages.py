"""The steps of a roll-out as a spec writes them: mirror, weight, pause, analysis, bake.

Takes single steps and lists of them; gives frozen records and what is wrong with a list; never performs a step.

`weight` sets the challenger's share of traffic, `mirror` gives it copies of the requests and lets nobody see its
answers, `analysis` lets the guard look for that long and goes on only on its word, `pause` waits for a while or for a
person, `bake` keeps the guard looking after all traffic has moved and the old model warm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator

from everfit.units import Duration, Share, parse_duration

UNTIL_PROMOTED = "until promoted"
RISE = "weights must rise; to go back there is `everfit abort`"
WORDS = ("mirror", "weight", "pause", "analysis", "bake")


class _Step(BaseModel, frozen=True, extra="forbid"):
    """One step of the list."""


class MirrorStep(_Step, frozen=True):
    """Copies of the requests go to the challenger; nobody sees its answers; the guard pairs the outputs by request."""

    mirror: Duration = Field(description="for how long")
    share: Share = Field(1.0, gt=0, description="of the requests that are copied")


class WeightStep(_Step, frozen=True):
    """The challenger answers this share of the keys."""

    weight: Share = Field(gt=0, description="share of the keys, sticky; 100% is live")


class PauseStep(_Step, frozen=True):
    """Nothing changes for a while, or until a person says `everfit promote`; the guard looks on and may roll back."""

    pause: Duration | Literal["until promoted"] = Field(description="a duration, or `until promoted`")

    @field_validator("pause", mode="before")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        try:
            return value if value == UNTIL_PROMOTED else parse_duration(value)
        except ValueError:
            raise ValueError(f"{value!r} is neither a duration such as 30m nor `{UNTIL_PROMOTED}`") from None


class AnalysisStep(_Step, frozen=True):
    """The guard looks for that long, and longer while it is inconclusive; only its word leads on."""

    analysis: Duration = Field(description="at least this long")


class BakeStep(_Step, frozen=True):
    """All traffic has moved; the guard looks on and the old model stays warm."""

    bake: Duration = Field(description="for how long")


def word_of(value: Any) -> str:
    """Which of the words a step is about; empty if none, or if they are two.

    >>> word_of({"weight": "5%"})
    'weight'
    """
    present = [word for word in WORDS if (word in value if isinstance(value, dict) else hasattr(value, word))]
    return present[0] if len(present) == 1 else ""


Step = Annotated[
    Annotated[MirrorStep, Tag("mirror")]
    | Annotated[WeightStep, Tag("weight")]
    | Annotated[PauseStep, Tag("pause")]
    | Annotated[AnalysisStep, Tag("analysis")]
    | Annotated[BakeStep, Tag("bake")],
    Discriminator(
        word_of,
        custom_error_type="step",
        custom_error_message="a step is exactly one of mirror, weight, pause, analysis, bake; "
        "write for instance `weight: 5%`",
    ),
]


def problem_of_weights(weights: Sequence[float]) -> str | None:
    """Why the short form's shares make no sense, in one sentence; None where they do.

    >>> problem_of_weights([0.5, 0.05])
    '5% after 50%: weights must rise; to go back there is `everfit abort`'
    """
    for before, weight in zip((0.0, *weights), weights, strict=False):
        if weight <= before:
            return f"{_percent(weight)} after {_percent(before)}: {RISE}" if before else "0% of the keys is no step"
    return None


def problem_of(steps: Sequence[Step]) -> str | None:
    """Why this list makes no sense, in one sentence; None where it does.

    >>> problem_of([WeightStep(weight=0.5), WeightStep(weight=0.05)])
    'step 2: weight 5% after 50%: weights must rise; to go back there is `everfit abort`'
    """
    share = 0.0
    for at, step in enumerate(steps, 1):
        said = _misplaced(step, share)
        if said:
            return f"step {at}: {said}"
        share = step.weight if isinstance(step, WeightStep) else share
    return None


def _misplaced(step: Step, share: float) -> str | None:
    match step:
        case WeightStep(weight=weight) if weight <= share:
            return f"weight {_percent(weight)} after {_percent(share)}: {RISE}"
        case MirrorStep() if share > 0:
            return "mirror after a weight: the challenger already answers; mirror first"
        case AnalysisStep() if share == 1:
            return "analysis after all traffic has moved: nobody is left to compare with; write `bake` instead"
        case AnalysisStep() if share == 0:
            return (
                "analysis before any weight: there is nothing to compare; put `weight` before it (a mirror has its own)"
            )
        case BakeStep() if share < 1:
            return "bake before all traffic has moved; put `weight: 100%` before it, or use `analysis`"
        case _:
            return None


def _percent(share: float) -> str:
    return f"{share * 100:.10g}%"
