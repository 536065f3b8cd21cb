"""What people say to a release under way: go on, go back, roll back; and that a kept version is to be released.

Takes an app and words; gives facts in the ledger, and for the way back the traffic where it belongs; never waits for a
worker's step: a step that slept meanwhile finds another key live and does not point.
"""

from __future__ import annotations

from dataclasses import dataclass

from everfit.app.wiring import App
from everfit.clock import wall
from everfit.errors import Conflict, ModelUnusable, UsageError
from everfit.facts import ReleaseEnded, ReleasePlanned, Steered, WentLive
from everfit.flows.bench import spans_for
from everfit.flows.durable import Progress, advance, begin
from everfit.flows.looks import began
from everfit.flows.recall import asked_for
from everfit.flows.release import has_tried, place_of, release, way_back
from everfit.flows.traffic import end_trial
from everfit.ids import content_key
from everfit.lifecycle import MOVES, Move, State
from everfit.ports import Write
from everfit.rollout.plan import Approval, Publish, Timed, live_at
from everfit.settings import whoami
from everfit.standing import Kept, Standing, Story

TRIES = 20  # a person's word is written after whatever was written meanwhile


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A release that is no roll-back and has not ended."""

    story: Story
    plan: ReleasePlanned
    index: int  # of its stage

    @property
    def is_tried(self) -> bool:
        """Whether the candidate has traffic or copies of it, and does not serve yet."""
        return has_tried(self.story) and self.story.find(WentLive) is None


def under_way(standing: Standing) -> UnderWay | None:
    """The newest release that goes on; None if there is none, or a person has ended it already."""
    for run, story in reversed(list(standing.stories.items())):
        plan = story.find(ReleasePlanned) if run.startswith("release-") else None
        said, ended = story.find(Steered), story.find(ReleaseEnded)
        if plan is None or plan.back or ended is not None or (said is not None and said.word == "abort"):
            continue
        return UnderWay(story, plan, place_of(story, plan))
    return None


def promote(app: App, why: str, *, full: bool = False) -> UnderWay:
    """Skip the present wait and go on to the next stage, or with `full` to all traffic.

    Raises:
        UsageError: no release is under way, or nothing waits that a promotion could skip.
    """
    going = _going(app)
    if problem := _not_promotable(going, full=full):
        raise UsageError(problem)
    _steer(app, going, "full" if full else "promote", why)
    return going


def abort(app: App, why: str) -> tuple[int, int]:
    """End a release under way and point traffic back to the champion alone, now. Gives (from, to) as versions.

    Raises:
        UsageError: no release is under way, or a first champion goes live, beside which there is nothing.
        ModelUnusable: the champion cannot be pointed to.
    """
    going = _going(app)
    if going.story.find(WentLive) is not None:
        left, to = roll_back(app, why)
        return left.version, to.version
    standing = app.standing()
    champion = standing.bench.get(going.plan.previous or "")
    if champion is None:
        raise UsageError(f"version {going.plan.version} is the first to go live: there is nothing to go back to")
    _steer(app, going, "abort", why)
    end_trial(app.steps(), standing, going.story)  # the worker ends the story: that may need the registry
    return going.plan.version, champion.version


def roll_back(app: App, why: str) -> tuple[Kept, Kept]:
    """Go back, now: from a challenger that is tried to the champion alone, else to the champion before.

    Gives (from, to).

    Raises:
        UsageError: there is nothing to go back to.
        ModelUnusable: the model to go back to cannot serve; the present one still does.
    """
    standing = app.standing()
    going = under_way(standing)
    if going is not None and going.is_tried:
        abort(app, why)
        return standing.bench[going.plan.candidate], standing.bench[going.plan.previous or ""]
    if going is not None and standing.history.previous is None:
        raise UsageError(
            f"{app.spec.model} has no previous champion to go back to; "
            f"`everfit abort` ends the release of version {going.plan.version}"
        )
    _way_back(app)
    _end_releases(app, why)
    champion, to = _way_back(app)  # one of those releases may have gone live before its word was ours
    previous = to.candidate.id
    run = f"release-back-{content_key(champion.candidate.id, previous, wall())}"
    plan = way_back(champion, to, f"{whoami()}: {why or 'no reason given'}")
    desk, follower, steps = app.desk("person"), app.follower(), app.steps()
    begin(desk, app.spec.model, run, plan)
    while not _is_live(app, run):
        if (
            advance(desk, follower, run, lambda now, story, alive: release(steps, now, story, alive))
            is Progress.WAITING
        ):
            break
    if not _is_live(app, run):
        ended = app.standing().stories[run].find(ReleaseEnded)
        said = ended.said if ended else "its run waits; a worker goes on with it"
        raise ModelUnusable(f"version {to.version} does not serve, version {champion.version} still does: {said}")
    return champion, to


def _going(app: App) -> UnderWay:
    going = under_way(app.standing())
    if going is None:
        raise UsageError(
            f"no release of {app.spec.model} is under way; `everfit plan` shows what the next one would do"
        )
    return going


def _not_promotable(going: UnderWay, *, full: bool) -> str:
    """Why a promotion would change nothing."""
    stages, index = going.plan.stages, going.index
    stage = stages[index] if index < len(stages) else None
    name = f"the release of version {going.plan.version}"
    if isinstance(stage, Approval):
        return f"{name} waits for an answer: everfit approve {going.story.run} | everfit reject {going.story.run}"
    if full and index > live_at(stages):
        return f"all traffic goes to version {going.plan.version} already; `everfit promote` ends its bake"
    if full and isinstance(stage, Publish):
        return f"{name} is being published; try again in a moment"
    if not full and (not isinstance(stage, Timed) or began(going.story, index) is None):
        return f"{name} waits for nothing now; it goes on by itself"
    return ""


def _steer(app: App, going: UnderWay, word: str, why: str) -> None:
    """Write a word into a release's own story, so that whoever works on it reads it next."""
    run = going.story.run
    for _ in range(TRIES):
        story = app.standing().stories[run]
        if story.find(ReleaseEnded) is not None:
            raise UsageError(f"the release of version {going.plan.version} has ended meanwhile; see `everfit history`")
        index = going.index if word == "promote" else place_of(story, going.plan)
        fact = Steered(index, word, why or "no reason given", whoami())
        try:
            app.store.append(Write(app.spec.model, run, len(story.facts) + 1, fact, app.clock.now(), whoami()))
        except Conflict:
            continue
        return
    raise Conflict("others write to this release without pause; try again")


def _end_releases(app: App, why: str) -> None:
    """A release under way must not go live after its roll-back. Its step that is in hand finds another key live."""
    for run in app.store.sleepers(app.spec.model):
        if run.startswith("release-"):
            _end(app, run, why)


def _end(app: App, run: str, why: str) -> None:
    fact = ReleaseEnded("aborted", f"{whoami()} rolled back: {why or 'no reason given'}")
    for _ in range(TRIES):
        story = app.standing().stories[run]
        if story.find(ReleaseEnded) is not None:
            return
        write = Write(app.spec.model, run, len(story.facts) + 1, fact, app.clock.now(), whoami(), ends=True)
        try:
            app.store.append(write)
        except Conflict:
            continue
        return
    raise Conflict("others write to this release without pause; try again")


def _way_back(app: App) -> tuple[Kept, Kept]:
    """The model that serves, and the one to go back to."""
    standing = app.standing()
    champion, previous = standing.champion, standing.history.previous
    if champion is None or previous is None:
        raise UsageError(f"{app.spec.model} has no previous champion to go back to")
    return champion, standing.bench[previous]


def _is_live(app: App, run: str) -> bool:
    """Whether the roll-back serves. Its last stages are left to a worker: they may need the registry."""
    return app.standing().stories[run].find(WentLive) is not None


# ---- a kept version --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Recalled:
    """A recall that was begun by a person."""

    run: str
    kept: Kept

    @property
    def is_judged_first(self) -> bool:
        """Whether it has no verdict yet."""
        return self.kept.verdict is None


def recall(app: App, version: str, why: str) -> Recalled:
    """Let a kept version serve, whatever became of it: it is released like any other, and the guard protects.

    One that has a verdict needs no other; one that was never judged is judged first, on windows of the bench.

    Args:
        app: the project.
        version: such as `3`, `v3` or a candidate's id.
        why: the reason, for the ledger.

    Raises:
        UsageError: no such version, or it may not be released now; the words say what to do.
        ModelUnusable: its files are gone.
    """
    standing = app.standing()
    kept = _kept_named(standing, version)
    if problem := _not_recallable(standing, kept) or ("" if why.strip() else "say why, for the ledger: --why TEXT"):
        raise UsageError(problem)
    app.ports.models.path(kept.candidate.file)
    fact = asked_for(standing, kept, why, whoami(), wall())
    if kept.verdict is None and not spans_for(standing, fact, app.spec.decide.bench.look):
        raise UsageError(
            f"version {kept.version} was never judged, and no window of the bench scored it beside the model that "
            "serves; wait for one (`everfit bench` shows them), or train anew: `everfit retrain`"
        )
    run = f"recall-{fact.because[0].evidence}"
    begin(app.desk("person"), app.spec.model, run, fact)
    return Recalled(run, kept)


def _kept_named(standing: Standing, version: str) -> Kept:
    versions = sorted((kept for kept in standing.bench.values() if kept.version), key=lambda kept: kept.version)
    named = {name: kept for kept in versions for name in (str(kept.version), f"v{kept.version}", kept.candidate.id)}
    if version not in named:
        known = ", ".join(str(kept.version) for kept in versions) or "none yet"
        raise UsageError(f"{version!r} is no version of {standing.history.model}; its versions: {known}")
    return named[version]


def _not_recallable(standing: Standing, kept: Kept) -> str:
    """Why a version cannot be recalled now, and what to do about it."""
    past, name = standing.history, f"version {kept.version}"
    if past.champion is not None and past.champion.candidate == kept.candidate.id:
        return f"{name} serves already"
    going = under_way(standing)
    if going is not None:
        return f"the release of version {going.plan.version} is under way; `everfit abort` it first"
    if busy := past.releasing or past.going_back or (past.recalling and past.recalling.run):
        return f"{busy} is under way and may change who serves; try again when it has ended (`everfit history`)"
    if past.paused:
        return f"{past.model} is paused and nothing is started; `everfit resume` it first"
    if kept.state is not State.BENCHED and (kept.state, Move.RECALL) not in MOVES:
        return f"{name} is {kept.state.value.replace('_', ' ')} and has no proof to be released on; `everfit retrain`"
    return ""
