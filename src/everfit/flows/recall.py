"""The story of a recall: a kept model that the bench finds better, or a person wants, is released if it may be.

Takes the facts so far; gives the next one through a step; never trains, and never decides whom to recall. Read it from
top to bottom: that is the order of the facts in the ledger.

What the bench recalls is judged first, always. A person may recall a version whatever its verdict was, for they could
read it; one without a verdict is judged first, and is kept back if it is not better.
"""

from __future__ import annotations

from datetime import datetime

from everfit.decide.decision import Reason
from everfit.errors import ModelUnusable
from everfit.facts import Judged, RecallBegan, RecallEnded, StepFailed
from everfit.flows.durable import Alive, Next, NotYet
from everfit.flows.steps import Steps, release_of
from everfit.ids import content_key
from everfit.standing import Kept, Standing, Story


def asked_for(standing: Standing, kept: Kept, why: str, by: str, at: datetime) -> RecallBegan:
    """A person's word that a kept version is to serve, as the first fact of its run.

    Args:
        standing: where the model stands: who serves, and which windows of the bench were scored.
        kept: the version.
        why: the reason.
        by: the person.
        at: when they said it: saying it again is another recall.
    """
    said = f"{by} recalls version {kept.version} ({kept.state.value.replace('_', ' ')}): {why}"
    evidence = content_key("recalled", kept.candidate.id, by, at)
    reason = Reason("recalled", None, None, said, evidence, "a person", "without this word it would not")
    newest = standing.scored[-1][0].number if standing.scored else -1
    against = standing.champion.candidate.id if standing.champion else ""
    return RecallBegan(kept.candidate.id, against, newest, 0, 0.0, 0.0, (reason,), by=by)


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
    kept = now.bench[began.candidate]
    try:
        if (next_ := _proof(steps, now, story, began, alive)) is not None:
            return next_
    except ModelUnusable as error:
        return Next(StepFailed("judge", type(error).__name__, str(error)))
    if not planned:
        steps.plan_release(now, kept.candidate, kept.version, story.run, by=began.by)
    return Next(RecallEnded("planned", judged.verdict.said if judged else began.because[0].said), ends=True)


def _proof(steps: Steps, now: Standing, story: Story, began: RecallBegan, alive: Alive) -> Next | None:
    """What comes before the release may be planned; None where nothing is missing.

    Raises:
        ModelUnusable: the model cannot be judged, or its files are gone.
    """
    kept, judged = now.bench[began.candidate], story.find(Judged)
    if judged is None and began.by and kept.verdict is not None:
        steps.ports.models.path(kept.candidate.file)  # a person read its verdict: it must only be there
        return None
    if judged is None:
        return Next(steps.judge_recalled(now, story, began, alive))
    steps.describe(kept.version, judged)
    if judged.verdict.kind != "better":
        return Next(_kept_back(began, kept, judged.verdict.said), ends=True)
    return None


def _kept_back(began: RecallBegan, kept: Kept, said: str) -> RecallEnded:
    """The verdict; and what a person who asked for it may do now that they can read it."""
    again = f"; `everfit recall {kept.version}` once more lets it serve all the same" if began.by else ""
    return RecallEnded("kept_back", said + again)


def _overtaken(now: Standing, began: RecallBegan) -> str:
    """Why the recall is void: what serves changed, or changes, by somebody else's word."""
    past = now.history
    other = past.going_back or past.releasing
    if other is not None:
        return f"{other} began meanwhile and changes who serves"
    if (past.champion.candidate if past.champion else "") != began.against:
        return "another model serves by now than the one that it was to replace"
    return ""
