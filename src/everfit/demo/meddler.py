"""Near the end of the demo somebody forces a model live that was kept back; what becomes of it?

Takes the demo's terminal and the days as they end; gives the words that this person types and what they are told;
never touches the ledger, a model or the traffic itself: it is a person at a terminal.

The person wants a model that fits its training rows better and turns the learning rate up to 1. Such a model is far too
sure of itself: on later flights its Brier score is twice the champion's.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from everfit.demo.flights import PARAMETERS
from everfit.facts import ReleasePlanned, RenewBegan, RenewEnded
from everfit.standing import Kept, Standing, Story

DAYS = 48  # before the end: all of it is over before the last faults of the year, which stop every training
GREEDY = {**PARAMETERS, "learning_rate": 1.0, "max_iter": 200, "max_leaf_nodes": 63, "min_samples_leaf": 5}
EDIT = ", ".join(f"{name}: {value}" for name, value in GREEDY.items() if PARAMETERS[name] != value)


class Terminal(Protocol):
    """Where the person types."""

    def everfit(self, *words: str) -> str:
        """Type a command; what it says."""

    def restart(self, parameters: Mapping[str, object]) -> None:
        """Write other training parameters into the spec, and start `everfit up` again with it."""


@dataclass(slots=True)
class Meddler:
    """Trains it, and recalls it although it was kept back: one step a day, each as soon as it can be taken."""

    terminal: Terminal
    since: datetime
    say: Callable[[str], None]
    known: frozenset[str] | None = None  # runs that were there before; None: nothing was done yet
    done: int = 0  # steps

    def after_day(self, now: datetime, standing: Standing) -> None:
        """Take the next step, if it can be taken."""
        steps = (self._train, self._put_back, self._recall)
        if now >= self.since and self.done < len(steps) and steps[self.done](standing):
            self.done += 1

    def story(self, standing: Standing) -> Story | None:
        """The release of the bad model, if it came to one."""
        mine = self._mine(standing)
        plans = [(story, story.find(ReleasePlanned)) for story in standing.stories.values()]
        found = [story for story, plan in plans if mine and plan and plan.candidate == mine.candidate.id]
        return found[-1] if found else None

    def _run(self, standing: Standing) -> Story | None:
        known = standing.stories if self.known is None else self.known
        new = (story for run, story in standing.stories.items() if run not in known)
        return next((story for story in new if story.find(RenewBegan)), None)

    def _mine(self, standing: Standing) -> Kept | None:
        run = self._run(standing)
        return next((kept for kept in standing.bench.values() if run and kept.run == run.run), None)

    def _type(self, *words: str) -> bool:
        self.say(f"  $ everfit {shlex.join(words)}")
        self.say(f"  {self.terminal.everfit(*words).strip()}")
        return True

    # ---- the steps ---------------------------------------------------------------------------------------------------
    def _train(self, standing: Standing) -> bool:
        self.known = frozenset(standing.stories)
        self.say(f"  somebody writes into everfit.yaml: {EDIT}; and starts `everfit up` again")
        self.terminal.restart(GREEDY)
        return self._type("retrain", "--why", "it should fit the training rows better")

    def _put_back(self, standing: Standing) -> bool:
        run, mine = self._run(standing), self._mine(standing)
        ended = run.find(RenewEnded) if run else None
        if ended is None:
            return False
        what = f"version {mine.version}" if mine else "the run"
        self.say(f"  {what} is {ended.outcome.replace('_', ' ')}; everfit.yaml is put back")
        self.terminal.restart(PARAMETERS)
        return True

    def _recall(self, standing: Standing) -> bool:
        mine, past = self._mine(standing), standing.history
        if mine is None or past.releasing or past.recalling or past.going_back:  # a recall would have to wait for it
            return False
        return self._type("recall", str(mine.version), "--why", "it fits the training rows better")
