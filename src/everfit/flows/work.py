"""The worker loop: whatever run is due is advanced by one step, again and again.

Takes the flows and the clock; gives ticks; never decides what to run. Something that is away is tried again, later
and later; an error that nobody expected ends its run with the error's words, so that no run loops for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from everfit.clock import ticks
from everfit.errors import Conflict, IllegalMove, LeaseLost, SpecError, Unavailable, UsageError
from everfit.facts import ReleaseEnded, RenewEnded, StepFailed
from everfit.flows.durable import Alive, Desk, Flow, Follower, Next, NotYet, Progress, advance
from everfit.flows.recall import recall
from everfit.flows.release import release
from everfit.flows.renew import renew
from everfit.flows.steps import Steps
from everfit.fold import next_state
from everfit.standing import Standing, Story

FIRST_REST, LONGEST_REST = 1.0, 300.0  # seconds before something that was away is tried again


def flows_of(steps: Steps) -> dict[str, Flow]:
    """The flow of each kind of run, by the beginning of the run's name."""
    return {
        "renew": lambda now, story, alive: renew(steps, now, story, alive),
        "recall": lambda now, story, alive: recall(steps, now, story, alive),
        "release": lambda now, story, alive: release(steps, now, story, alive),
    }


@dataclass(slots=True)
class Work:
    """One worker's loop over one model's runs."""

    desk: Desk
    follower: Follower
    flows: dict[str, Flow]  # see `flows_of`
    report: Callable[[str, str, Exception], None]  # (run, what follows, error): a log line
    seconds: Callable[[], float] = ticks
    _resting: dict[str, tuple[int, float]] = field(default_factory=dict)  # run -> (tries, not before)
    _waiting: dict[str, tuple[int, float]] = field(default_factory=dict)  # run -> (its facts, not before)

    def tick(self) -> bool:
        """Advance what is due; whether anything moved."""
        due = self.desk.ledger.due(self.follower.model, self.desk.now())
        moved = [self._advance(run) for run in due]
        return any(moved)

    def _advance(self, run: str) -> bool:
        tries, not_before = self._resting.get(run, (0, 0.0))
        flow = self.flows.get(run.split("-", maxsplit=1)[0])
        if flow is None or self.seconds() < not_before or self.waits(run):
            return False
        try:
            moved = self._moved(run, flow)
        except Conflict:
            return False  # the lease was lost while the step ran: whoever took it goes on
        except Unavailable as error:
            rest = min(FIRST_REST * 2**tries, LONGEST_REST)
            self._resting[run] = (tries + 1, self.seconds() + rest)
            self.report(run, f"is tried again in {rest:.0f} s", error)
            return False
        self._resting.pop(run, None)
        return moved

    def waits(self, run: str) -> bool:
        """Whether the flow said that there is nothing to do for a while, and nothing was written to its run since."""
        facts, not_before = self._waiting.get(run, (0, 0.0))
        return self.seconds() < not_before and len(self.follower.standing().stories[run].facts) == facts

    def _moved(self, run: str, flow: Flow) -> bool:
        def guarded(now: Standing, story: Story, alive: Alive) -> Next | NotYet:
            try:
                found = flow(now, story, alive)
                if isinstance(found, NotYet):
                    self._waiting[run] = (len(story.facts), self.seconds() + found.rest)
                return found
            except (Conflict, Unavailable):
                raise
            except Exception as error:  # the border: an unexpected error must end its run, not the worker
                if not alive():
                    raise LeaseLost(
                        f"the lease of {run} was lost; what failed here may have gone well there"
                    ) from error
                self.report(run, "ends here", error)
                return given_up(now, story, error)

        try:
            return advance(self.desk, self.follower, run, guarded) is Progress.MOVED
        except IllegalMove as error:  # the same step would bring the same fact for ever
            self.report(run, "ends here", error)
            fact = error
            return (
                advance(self.desk, self.follower, run, lambda now, story, _: given_up(now, story, fact))
                is Progress.MOVED
            )


def given_up(now: Standing, story: Story, error: Exception) -> Next:
    """The fact that ends a run which cannot go on, under the lease of whoever works on it."""
    said = str(error)
    if not isinstance(error, UsageError | SpecError):  # these name the place and the remedy themselves
        said = f"{type(error).__name__}: {said} (unexpected; the worker's log has the whole trace)"
    failed = StepFailed("go on", type(error).__name__, said)
    try:
        next_state(now, story.run, failed)
    except IllegalMove:  # a model that serves, or rows that were blocked, cannot fail any more: only the run is over
        ends = RenewEnded if story.run.startswith("renew-") else ReleaseEnded
        return Next(ends("failed", said), ends=True)
    return Next(failed)
