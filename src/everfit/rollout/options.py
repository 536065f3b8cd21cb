"""What the user may choose about going live: how traffic moves, and what may stop it.

Takes plain values from the spec; gives frozen records; never reads the world.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field, PositiveInt, ValidationInfo, field_validator, model_validator

from everfit.rollout.checks import Guarding
from everfit.rollout.stages import (
    AnalysisStep,
    BakeStep,
    MirrorStep,
    Step,
    WeightStep,
    problem_of,
    problem_of_weights,
)
from everfit.units import Duration, Share

SHORT = ("mirror", "weights", "interval", "bake")  # words that `steps` replaces


class Rolling(BaseModel, frozen=True, extra="forbid"):
    """How a proven candidate goes live; by default all at once, the old one warm.

    >>> from everfit.rollout.stages import word_of
    >>> [word_of(step) for step in Rolling(mirror="24h", weights=("5%", "50%"), bake="24h").expanded()]
    ['mirror', 'weight', 'analysis', 'weight', 'analysis', 'weight', 'bake']
    """

    approve: bool = Field(False, description="ask a person before going live")
    mirror: Duration = Field(timedelta(0), description="copies of the requests go to the challenger first; 0 = no")
    weights: tuple[Share, ...] = Field((), description="shares before all; empty = all at once, the old one warm")
    interval: Duration = Field(timedelta(hours=1), description="the guard looks for this long at each weight, at least")
    bake: Duration = Field(
        timedelta(0), description="the guard looks on after going live; the next run waits at least this long"
    )
    steps: tuple[Step, ...] = Field((), description="the full list of steps instead of the four words above")
    key: str | None = Field(
        None, description="the column whose rows are all answered by the same model; default: each row for itself"
    )
    guard: Guarding = Field(Guarding(), description="what may stop a release or take it back")
    keep: PositiveInt = Field(10, description="model versions kept; the champion and the previous one always are")

    @field_validator("key")
    @classmethod
    def _column(cls, value: str | None) -> str | None:
        if value is not None and (not value or value.startswith("_")):
            raise ValueError(f"{value!r} is no column of a request; name one such as customer_id, or leave it away")
        return value

    @field_validator("weights", "steps", mode="before")
    @classmethod
    def _list(cls, value: Any, field: ValidationInfo) -> Any:
        if not isinstance(value, list | tuple):
            wanted = "[5%, 25%, 50%]" if field.field_name == "weights" else "[{weight: 5%}, {analysis: 1h}]"
            raise ValueError(f"{value!r} is not a list; write for instance {wanted}")
        return value

    @field_validator("weights")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if problem := problem_of_weights(value):
            raise ValueError(problem)
        return value

    @field_validator("steps")
    @classmethod
    def _in_order(cls, value: tuple[Step, ...]) -> tuple[Step, ...]:
        if problem := problem_of(value):
            raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _one_form(self) -> Rolling:
        given = [word for word in SHORT if word in self.model_fields_set]
        if self.steps and given:
            raise ValueError(f"steps: they say it all: leave out {', '.join(given)}, or write them as steps")
        return self

    def expanded(self) -> tuple[Step, ...]:
        """The full list of steps; what is missing at its end is to go live.

        >>> Rolling().expanded()
        (WeightStep(weight=1.0),)
        """
        steps = list(self.steps) or self._short()
        if not any(isinstance(step, WeightStep) and step.weight == 1 for step in steps):
            steps.append(WeightStep(weight=1.0))
        return tuple(steps)

    def _short(self) -> list[Step]:
        first: list[Step] = [MirrorStep(mirror=self.mirror)] if self.mirror else []
        for share in (share for share in self.weights if share < 1):
            first += [WeightStep(weight=share), AnalysisStep(analysis=self.interval)]
        last: list[Step] = [BakeStep(bake=self.bake)] if self.bake else []
        return [*first, WeightStep(weight=1.0), *last]
