"""The story of a training run, as a table of what follows what.

Takes the facts so far; gives the next one through a step; never touches the world itself and never decides whether to
train. Read it from top to bottom: that is the order of the facts in the ledger.
"""

from __future__ import annotations

from everfit.errors import DataBlocked, ModelUnusable, TrainingFailed
from everfit.flows.durable import Alive, Next
from everfit.flows.steps import Steps
from everfit.ledger import (
    CandidateRegistered,
    CandidateTrained,
    DataChecked,
    DatasetPinned,
    Fact,
    Judged,
    RecipeChosen,
    RenewEnded,
    StepFailed,
)
from everfit.standing import Standing, Story

FINAL = (DataBlocked, TrainingFailed, ModelUnusable)  # trying again would bring the same


def renew(steps: Steps, now: Standing, story: Story, alive: Alive) -> Next:
    """The next fact of a training run."""
    if over := _over(story):
        return Next(over, ends=True)
    try:
        return _next(steps, now, story, alive)
    except FINAL as error:
        return Next(StepFailed(_step_after(story), type(error).__name__, str(error)))


def _next(steps: Steps, now: Standing, story: Story, alive: Alive) -> Next:
    chosen, pinned = story.find(RecipeChosen), story.find(DatasetPinned)
    if chosen is None:
        return Next(RecipeChosen(steps.choose_recipe(now)))
    if pinned is None:
        return Next(DatasetPinned(steps.pin(story.run, chosen.recipe)))
    if story.find(DataChecked) is None:
        return Next(steps.check_data(now, story.run, chosen.recipe))
    trained = story.find(CandidateTrained)
    if trained is None:
        return Next(CandidateTrained(steps.train(story.run, chosen.recipe, pinned.dataset, alive)))
    registered = story.find(CandidateRegistered)
    if registered is None:
        version = steps.register(story, chosen.recipe, pinned.dataset, trained.candidate)
        return Next(CandidateRegistered(trained.candidate.id, version))
    judged = story.find(Judged)
    if judged is None:
        return Next(steps.judge(now, story.run, trained.candidate, alive))
    steps.describe(registered.version, judged)
    if judged.verdict.kind != "better":
        return Next(RenewEnded("kept_back", judged.verdict.said), ends=True)
    steps.plan_release(now, trained.candidate, registered.version, story.run)
    return Next(RenewEnded("proven", judged.verdict.said), ends=True)


def _over(story: Story) -> Fact | None:
    """The last fact of a run that cannot go on."""
    failed, checked = story.find(StepFailed), story.find(DataChecked)
    if failed is not None:
        return RenewEnded("failed", failed.said)
    if checked is not None and not checked.fit:
        return RenewEnded("blocked", "; ".join(finding.said for finding in checked.findings if finding.blocks))
    return None


def _step_after(story: Story) -> str:
    names = {"RenewBegan": "choose the recipe", "RecipeChosen": "pin the rows", "DatasetPinned": "check the rows",
             "DataChecked": "train", "CandidateTrained": "register", "CandidateRegistered": "judge"}  # fmt: skip
    return names.get(type(story.facts[-1]).__name__, "end")
