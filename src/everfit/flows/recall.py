"""The story of a recall: a kept model that the bench finds better is judged, and released if every gate lets it pass.

Takes the facts so far; gives the next one through a step; never trains, and never decides whom to recall. Read it from
top to bottom: that is the order of the facts in the ledger.
"""

from __future__ import annotations

from everfit.errors import ModelUnusable
from everfit.facts import Judged, RecallBegan, RecallEnded, StepFailed
from everfit.flows.durable import Alive, Next, NotYet
from everfit.flows.steps import Steps, release_of
from everfit.standing import Standing, Story


def recall(steps: Steps, now: Standing, story: Story, alive: Alive) -> Next | NotYet:
    """The next fact of a recall."""
    began, judged, failed = story.find(RecallBegan), story.find(Judged), story.find(StepFailed)
    if began is None or story.find(RecallEnded) is not None:
        return NotYet()
    if failed is not None:
        return Next(RecallEnded("failed", failed.said), ends=True)
    planned = release_of(began.candidate, story.run) in now.stories
    if not planned and (said := _overtaken(now, began)):
        return Next(RecallEnded("failed", said), ends=True)
    if judged is None:
        try:
            return Next(steps.judge_recalled(now, story, began, alive))
        except ModelUnusable as error:
            return Next(StepFailed("judge", type(error).__name__, str(error)))
    kept = now.bench[began.candidate]
    steps.describe(kept.version, judged)
    if judged.verdict.kind != "better":
        return Next(RecallEnded("kept_back", judged.verdict.said), ends=True)
    if not planned:
        steps.plan_release(now, kept.candidate, kept.version, story.run)
    return Next(RecallEnded("planned", judged.verdict.said), ends=True)


def _overtaken(now: Standing, began: RecallBegan) -> str:
    """Why the recall is void: what serves changed, or changes, by somebody else's word."""
    past = now.history
    other = past.going_back or past.releasing
    if other is not None:
        return f"{other} began meanwhile and changes who serves"
    if past.champion is None or past.champion.candidate != began.against:
        return "another model serves by now than the one that it was to replace"
    return ""
