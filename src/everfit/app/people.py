"""What people and other systems say to a model: ask, answer, pause, tell of an event.

Takes an app and words; gives facts in the ledger; never waits for what follows from them. What is said to a release
under way stands in `everfit.app.steering`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from everfit.app.wiring import App
from everfit.clock import wall
from everfit.decide.history import WindowRecord
from everfit.errors import Conflict, UsageError
from everfit.facts import (
    Answered,
    ApprovalAsked,
    Dismissed,
    EventHeard,
    Paused,
    ReleaseEnded,
    Resumed,
    RetrainAsked,
)
from everfit.ids import content_key
from everfit.ports import Write
from everfit.settings import whoami
from everfit.standing import PEOPLE, Standing

F = TypeVar("F", EventHeard, RetrainAsked, Answered, Dismissed, Paused, Resumed)
TRIES = 20  # a person's word is written after whatever was written meanwhile


def say(app: App, fact_of: Callable[[Standing], F]) -> F:
    """Write a person's word into the ledger."""
    for _ in range(TRIES):
        standing = app.standing()
        fact = fact_of(standing)
        step = standing.people_step + 1
        try:
            app.store.append(Write(app.spec.model, PEOPLE, step, fact, app.clock.now(), whoami(), ends=True))
        except Conflict:
            continue
        return fact
    raise Conflict("others write to this ledger without pause; try again")


def ask_retrain(app: App, why: str) -> RetrainAsked:
    """Ask for a training run, whatever the triggers say."""
    key = content_key("asked", why, whoami(), wall())
    return say(app, lambda _: RetrainAsked(why or "no reason given", key))


def hear(app: App, name: str, key: str | None) -> EventHeard:
    """Tell of an outside event. The same key is heard once."""
    key = key or content_key("event", name, wall())

    def heard(standing: Standing) -> EventHeard:
        if any(past.key == key for past in standing.history.heard):
            raise UsageError(f"event {key} was heard before; leave --key away to tell of a new one")
        return EventHeard(name, key)

    return say(app, heard)


def pause(app: App, why: str) -> Paused:
    """Start nothing until somebody resumes."""

    def paused(standing: Standing) -> Paused:
        if standing.history.paused:
            raise UsageError(f"{app.spec.model} is paused already; `everfit resume` goes on")
        return Paused(why or "no reason given")

    return say(app, paused)


def resume(app: App, why: str) -> Resumed:
    """Let decisions count again."""

    def resumed(standing: Standing) -> Resumed:
        if not standing.history.paused:
            raise UsageError(f"{app.spec.model} is not paused")
        return Resumed(why or "no reason given")

    return say(app, resumed)


def dismiss(app: App, since: datetime | None, why: str) -> Dismissed:
    """Say that a window which alarmed for drift was benign; without `since` the last one that did.

    Its alarm counts as false, and the window is usual for this champion from here on.

    Raises:
        UsageError: no window of this champion alarmed for drift, or none that begins then, or it was dismissed before.
    """
    before = {entry.fact.window for entry in app.store.read(app.spec.model) if isinstance(entry.fact, Dismissed)}

    def dismissed(standing: Standing) -> Dismissed:
        champion = standing.history.champion
        name = champion.candidate if champion else None
        alarmed = [w.span for w in standing.history.windows if w.champion == name and _drifted(w)]
        windows = [span for span in alarmed if span not in before]  # twice it would count as two healthy windows
        found = [span for span in windows if since is None or span.start == since]
        if not found:
            starts = ", ".join(f"{span.start:%Y-%m-%dT%H:%M}" for span in windows[-5:]) or "none"
            raise UsageError(
                "no such window of this champion alarmed for drift and was not dismissed yet; "
                f"the last that did begin at: {starts}"
            )
        return Dismissed(found[-1], why or "no reason given")

    return say(app, dismissed)


def moment(text: str | None) -> datetime | None:
    """Read a time that a person typed; UTC where no zone is named.

    >>> moment("2026-11-27")
    datetime.datetime(2026, 11, 27, 0, 0, tzinfo=datetime.timezone.utc)

    Raises:
        UsageError: it is not a time.
    """
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time; write for instance 2026-11-27T00:00") from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _drifted(window: WindowRecord) -> bool:
    return any(alarm.kind == "drift" for alarm in window.alarms)


def questions(standing: Standing) -> dict[str, str]:
    """Open questions to people: their key, and what they are about."""
    found: dict[str, str] = {}
    for run, story in standing.stories.items():
        asked = story.find(ApprovalAsked)
        if asked and not story.find(Answered) and not story.find(ReleaseEnded):
            found[asked.question] = f"release of candidate {asked.candidate} ({run})"
    open_question = standing.history.question
    if open_question and open_question.key not in standing.history.answered:
        found[open_question.key] = "a training run"
    return found


def answer(app: App, question: str | None, why: str, *, approved: bool) -> tuple[str, str]:
    """Answer a question; the only open one if none is named. Gives its key and what it was about."""
    standing = app.standing()
    waiting = questions(standing)
    if not waiting:
        raise UsageError(f"nothing waits for an answer at {app.spec.model}; `everfit status` shows what does")
    if question is None and len(waiting) > 1:
        raise UsageError(f"several questions are open, name one: {', '.join(waiting)}")
    key = question or next(iter(waiting))
    if key not in waiting:
        raise UsageError(f"no open question {key!r}; open: {', '.join(waiting)}")
    fact = Answered(key, approved, why or "no reason given")
    if key in standing.stories:
        step = len(standing.stories[key].facts) + 1
        app.store.append(Write(app.spec.model, key, step, fact, app.clock.now(), whoami()))
    else:
        say(app, lambda _: fact)
    return key, waiting[key]
