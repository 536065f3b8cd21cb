"""What the user may choose about the bench: when to train, on which rows, and which kept model serves.

Takes plain values from the spec; gives a frozen record; never reads the world. Every default was measured on the
streams of `benchmarks/policies.py`, without tuning to any one of them (docs/why/0023).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Share = Annotated[float, Field(gt=0, le=1)]


class BenchOptions(BaseModel, frozen=True, extra="forbid"):
    """When to train, on which rows, and which kept model serves. A window is one of the bench; 0.01 is one point."""

    every: PositiveInt | None = Field(
        None,
        description="windows of `observe.window` in one bench window; default: so many that the first model learned "
        "from `recent` bench windows",
    )
    recall: bool = Field(True, description="let a kept model that the bench finds better serve, without training")
    recent: PositiveInt = Field(10, description="windows of the range `recent`: those of the first training set")
    budget: Share = Field(
        0.18, description="training runs per window that may be saved up; binds only under steady drift"
    )
    saved: PositiveFloat = Field(4.0, description="runs that may be saved up at most: a change needs a burst of them")
    start: NonNegativeFloat = Field(0.5, description="runs saved at the start: the first model is fresh")
    price: PositiveFloat = Field(0.08, description="a run must gain this sum of score over its windows to have paid")
    sure: NonNegativeFloat = Field(1.0, description="standard errors that are taken off a run's gain before it counts")
    shortest: PositiveInt = Field(3, description="windows between two runs that nothing but their gain asked for")
    longest: PositiveInt = Field(90, description="windows between two runs when none of them pays")
    sooner: PositiveFloat = Field(2.0, description="a run that paid: the interval is divided by this")
    later: PositiveFloat = Field(2.0, description="a run that did not pay: the interval is multiplied by this")
    much_later: PositiveFloat = Field(1.5, description="and by this too from the second such run in a row on")
    judge_after: PositiveInt = Field(
        5, description="labelled windows on which a run's gain is read, or up to the next run"
    )
    unjudged: PositiveInt = Field(2, description="no further run while so many wait to be judged")
    alarm: PositiveFloat = Field(0.05, description="lost score, summed over windows, that is material")
    alarm_sd: PositiveFloat = Field(5.0, description="and that is no noise, in standard deviations of a window's score")
    slack: NonNegativeFloat = Field(0.75, description="loss that a window may have, in standard deviations")
    follow_up: PositiveInt = Field(2, description="windows from an alarm's run to the next one, which has fresher rows")
    unsettled: NonNegativeInt = Field(
        10, description="windows after an alarm in which only rows since the change are used"
    )
    fewest: PositiveInt = Field(2, description="windows since a change that are worth training on")
    memory: PositiveInt = Field(20, description="windows back that tell which range leads, and how models age")
    look: PositiveInt = Field(30, description="windows back that two models are compared on")
    decay: Share = Field(0.8, description="weight of a window against the one after it: about five windows count")
    prior: NonNegativeFloat = Field(3.0, description="windows' worth of belief that a newer model is better")
    newer: NonNegativeFloat = Field(0.001, description="by how much a window, until the rows say otherwise")
    margin: NonNegativeFloat = Field(0.003, description="a model must be better by this to replace the one that serves")
    proof: NonNegativeInt = Field(1, description="labelled windows that a fresh model must have won before it serves")
