"""The story of a training run, as a table of what follows what.

Takes the facts so far; gives the next one through a step; never touches the world itself and never decides whether to
train. Read it from top to bottom: that is the order of the facts in the ledger.
"""

from __future__ import annotations

from everfit.errors import DataBlocked, ModelUnusable, TrainingFailed
from everfit.facts import (
    CandidateRegistered,
    CandidateTrained,
    DataChecked,
    DatasetPinned,
    Fact,
    Judged,
    Probed,
    RecipeChosen,
    RenewBegan,
    RenewEnded,
    StepFailed,
)
from everfit.flows.durable import Alive, Next
from everfit.flows.steps import Steps
from everfit.retrain.dataset import Dataset
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
        began = story.find(RenewBegan)
        return Next(RecipeChosen(steps.choose_recipe(now, began.bench if began else None)))
    if pinned is None:
        return Next(DatasetPinned(steps.pin(story.run, chosen.recipe)))
    if story.find(DataChecked) is None:
        return Next(steps.check_data(now, story.run, chosen.recipe))
    trained = story.find(CandidateTrained)
    if trained is None:
        began = story.find(RenewBegan)
        probing = began is not None and began.probe and now.champion is not None and not story.find(Probed)
        make = steps.probe if probing else steps.train
        return Next(make(now, story.run, chosen.recipe, pinned.dataset, alive))
    return _proven(steps, now, story, pinned.dataset, alive)


def _proven(steps: Steps, now: Standing, story: Story, dataset: Dataset, alive: Alive) -> Next:
    """What follows a model that was trained."""
    candidate = next(kept.candidate for kept in now.bench.values() if kept.run == story.run)
    registered, judged = story.find(CandidateRegistered), story.find(Judged)
    if registered is None:
        version = steps.register(story, now.bench[candidate.id].recipe, dataset, candidate)
        return Next(CandidateRegistered(candidate.id, version))
    if (waits := _benched(story, registered)) is not None:
        return Next(waits, ends=True)
    if judged is None:
        return Next(steps.judge(now, story.run, candidate, alive))
    steps.describe(registered.version, judged)
    if judged.verdict.kind != "better":
        return Next(RenewEnded("kept_back", judged.verdict.said), ends=True)
    steps.plan_release(now, candidate, registered.version, story.run)
    return Next(RenewEnded("proven", judged.verdict.said), ends=True)


def _benched(story: Story, registered: CandidateRegistered) -> RenewEnded | None:
    """The end of a run of the bench: nothing was held out to judge its model on, so later windows will."""
    began = story.find(RenewBegan)
    if began is None or began.bench is None:
        return None
    said = f"version {registered.version} waits on the bench: it is scored in shadow, and may be recalled once it wins"
    return RenewEnded("benched", said)


def _over(story: Story) -> Fact | None:
    """The last fact of a run that cannot go on."""
    failed, checked, probed = story.find(StepFailed), story.find(DataChecked), story.find(Probed)
    if failed is not None:
        return RenewEnded("failed", failed.said)
    if checked is not None and not checked.fit:
        return RenewEnded("blocked", "; ".join(finding.said for finding in checked.findings if finding.blocks))
    return None if probed is None or probed.go_on else RenewEnded("not_worth", probed.said)


def _step_after(story: Story) -> str:
    names = {"RenewBegan": "choose the recipe", "RecipeChosen": "pin the rows", "DatasetPinned": "check the rows",
             "DataChecked": "train", "Probed": "train", "CandidateTrained": "register",
             "CandidateRegistered": "judge"}  # fmt: skip
    return names.get(type(story.facts[-1]).__name__, "end")
