"""The worker loop: whatever run is due is advanced by one step, again and again.

Takes the flows and the clock; gives ticks; never decides what to run. Something that is away is tried again, later
and later; an error that nobody expected ends its run with the error's words, so that no run loops for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from everfit.clock import ticks
from everfit.errors import Conflict, Unavailable
from everfit.flows.durable import Desk, Flow, Follower, Progress, advance
from everfit.ledger import StepFailed
from everfit.ports import Write

FIRST_REST, LONGEST_REST = 1.0, 300.0  # seconds before something that was away is tried again


@dataclass(slots=True)
class Work:
    """One worker's loop over one model's runs."""

    desk: Desk
    follower: Follower
    flows: dict[str, Flow]  # "renew" and "release", by the beginning of the run's name
    report: Callable[[str, str, Exception], None]  # (run, what follows, error): a log line
    _resting: dict[str, tuple[int, float]] = field(default_factory=dict)  # run -> (tries, not before)

    def tick(self) -> bool:
        """Advance what is due; whether anything moved."""
        due = self.desk.ledger.due(self.follower.model, self.desk.now())
        moved = [self._advance(run) for run in due]
        return any(moved)

    def _advance(self, run: str) -> bool:
        tries, not_before = self._resting.get(run, (0, 0.0))
        flow = self.flows.get(run.split("-", maxsplit=1)[0])
        if flow is None or ticks() < not_before:
            return False
        try:
            moved = advance(self.desk, self.follower, run, flow) is Progress.MOVED
        except Conflict:
            return False  # the lease was lost while the step ran: whoever took it goes on
        except Unavailable as error:
            rest = min(FIRST_REST * 2**tries, LONGEST_REST)
            self._resting[run] = (tries + 1, ticks() + rest)
            self.report(run, f"is tried again in {rest:.0f} s", error)
            return False
        except Exception as error:  # the border: an unexpected error must end its run, not the worker
            self.report(run, "ends here", error)
            self._give_up(run, error)
            return True
        self._resting.pop(run, None)
        return moved

    def _give_up(self, run: str, error: Exception) -> None:
        story = self.follower.standing().stories[run]
        said = f"{type(error).__name__}: {error} (unexpected; the worker's log has the whole trace)"
        fact = StepFailed("go on", type(error).__name__, said)
        step = len(story.facts) + 1
        try:
            self.desk.ledger.append(Write(self.follower.model, run, step, fact, self.desk.now(), self.desk.worker.name))
        except Conflict:
            return  # somebody else went on with it
