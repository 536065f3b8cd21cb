"""The rules that others retrain by, to be played beside Everfit's own.

Takes what a rule may see at the end of a window; gives why to retrain, or None; never looks at labels before their
time. Every rule retrains on the last windows and serves the new model at once; rules that watch the served model begin
anew with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np

from everfit.detect.stream import DETECTORS, Detector
from everfit.errors import UsageError
from everfit.replay.matrix import Floats, Matrix
from everfit.replay.play import Played, Rule, Seen, play, play_bench
from everfit.replay.portrait import Portrait


@dataclass(frozen=True, slots=True)
class Never:
    """Keep the first model."""

    def ask(self, seen: Seen) -> str | None:
        """Nothing, ever."""
        return None


@dataclass(frozen=True, slots=True)
class Every:
    """Every so many windows, counted from the first model."""

    windows: int
    start: int  # window at whose end the first model was trained

    def ask(self, seen: Seen) -> str | None:
        """When the windows have passed."""
        passed = (seen.now - self.start) % self.windows == 0
        return f"{self.windows} windows have passed" if passed else None


@dataclass(frozen=True, slots=True)
class AnyKs:
    """Any column differs from the training rows by KS or chi-square."""

    portrait: Portrait
    below: float = 0.05

    def ask(self, seen: Seen) -> str | None:
        """When a p-value is small: of many columns one nearly always is."""
        name, p = min(self.portrait.p_values(seen.now, seen.model).items(), key=lambda each: each[1])
        return f"{name} differs from the training rows (p = {p:.2g})" if p < self.below else None


@dataclass(frozen=True, slots=True)
class DriftedShare:
    """Evidently's dataset drift: a share of the columns drifted."""

    portrait: Portrait
    share: float = 0.5

    def ask(self, seen: Seen) -> str | None:
        """When enough columns drifted."""
        share = self.portrait.drifted_share(seen.now, seen.model)
        return f"{share:.0%} of the columns drifted" if share >= self.share else None


@dataclass(frozen=True, slots=True)
class AnyPsi:
    """PSI of any column above a line."""

    portrait: Portrait
    above: float = 0.2

    def ask(self, seen: Seen) -> str | None:
        """When one lies above."""
        name, psi = max(self.portrait.psi(seen.now, seen.model).items(), key=lambda each: each[1])
        return f"PSI of {name} is {psi:.2f}" if psi > self.above else None


@dataclass(frozen=True, slots=True)
class Drop:
    """The newest window scores lower than the model's first ones by x."""

    by: float
    first: int = 3  # windows that give the level: one alone is noise

    def ask(self, seen: Seen) -> str | None:
        """When it fell by that much."""
        known = seen.scores[np.isfinite(seen.scores)]
        if len(known) < 2:
            return None
        level = known[: min(self.first, len(known) - 1)].mean()
        lost = level - known[-1]
        return f"the score fell by {lost:.3f} from {level:.3f}" if lost > self.by else None


@dataclass(frozen=True, slots=True)
class Cusum:
    """Lost score, summed over windows beyond a slack."""

    line: float = 0.05
    slack: float = 0.01
    first: int = 3

    def ask(self, seen: Seen) -> str | None:
        """When the sum reaches the line."""
        known = seen.scores[np.isfinite(seen.scores)]
        if len(known) <= self.first:
            return None
        level, lost = known[: self.first].mean(), 0.0
        for score in known[self.first :]:
            lost = max(0.0, lost + level - self.slack - score)
        return f"lost score sums to {lost:.3f} (line {self.line:g})" if lost >= self.line else None


@dataclass(slots=True)
class Stream:
    """A detector of change on the rows' errors of the served model."""

    name: str
    _of: int = -1  # the deployment that is watched
    _next: int = 0  # first window that it has not seen
    _level: float = 0.5  # regression: a row with a larger loss counts as wrong where errors must be 0 or 1
    _detector: Detector | None = field(default=None, repr=False)

    def ask(self, seen: Seen) -> str | None:
        """When it alarmed in a window whose labels came."""
        method = DETECTORS[self.name]
        if self._detector is None or self._of != seen.deployed:
            self._detector, self._of, self._next = method.begin(np.empty(0)), seen.deployed, seen.deployed + 1
            self._level = float("nan")
        found = False
        for window in range(self._next, seen.labelled + 1):
            misses: Floats = seen.misses(window).astype(np.float64)
            if np.isnan(self._level) and len(misses):
                self._level = float(np.median(misses)) if 0 < np.median(misses) < 1 else 0.5
            found |= bool(self._detector.update(np.where(misses > self._level, 1.0, 0.0) if method.binary else misses))
        self._next = max(self._next, seen.labelled + 1)
        return f"{self.name} raised an alarm" if found else None


Rules = Mapping[str, Callable[[Matrix, Portrait], Rule]]

RULES: Rules = {
    "never": lambda matrix, _: Never(),
    **{
        f"every{many}": lambda matrix, _, many=many: Every(many, matrix.cut.start - 1)  # type: ignore[misc]
        for many in (1, 3, 5, 10, 20)
    },
    "ks_any": lambda _, portrait: AnyKs(portrait),
    "evidently50": lambda _, portrait: DriftedShare(portrait),
    "psi_any0.2": lambda _, portrait: AnyPsi(portrait),
    "drop0.02": lambda matrix, _: Drop(0.02),
    "drop0.05": lambda matrix, _: Drop(0.05),
    "cusum0.05": lambda matrix, _: Cusum(),
    "adwin": lambda matrix, _: Stream("adwin"),
    "ddm": lambda matrix, _: Stream("ddm"),
    "hddm_w": lambda matrix, _: Stream("hddm_w"),
    "page_hinkley": lambda matrix, _: Stream("page_hinkley"),
}
NAMES = ("everfit", *RULES)


def play_policy(name: str, matrix: Matrix, portrait: Portrait, delay: int = 0) -> Played:
    """Play one policy by its name.

    Raises:
        UsageError: there is none of this name; or it needs river, which is not installed.
    """
    if not is_known(name):
        near = get_close_matches(name, NAMES, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"choose of {', '.join(NAMES)}, or every7 and the like"
        raise UsageError(f"{name!r} is not a policy; {remedy}")
    if name == "everfit":
        return play_bench(matrix, delay)
    rule = RULES[name](matrix, portrait) if name in RULES else Every(int(name[5:]), matrix.cut.start - 1)
    return play(name, rule, matrix, delay)


def is_known(name: str) -> bool:
    """Whether a policy of this name comes out of the box.

    >>> is_known("adwin"), is_known("every7"), is_known("sometimes")
    (True, True, False)
    """
    return name in NAMES or (name.startswith("every") and name[5:].isdigit() and int(name[5:]) > 0)
