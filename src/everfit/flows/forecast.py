"""What a window says before its labels come: estimates, rows together, and drift weighed by harm. Never an alarm.

Takes a window's rows and what its monitors said; gives readings; never decides, for none of this can see that what a
score means has changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from everfit.detect.estimate import LOSSES, Estimator, estimate, scored_window
from everfit.detect.estimate_metrics import EXPECTED
from everfit.detect.estimate_past import Residual, reconcile, residual
from everfit.detect.harm import explained_loss, harmful
from everfit.detect.signal import Reading, Signal
from everfit.detect.together import Crowd, test_together
from everfit.flows.hand import Hand
from everfit.flows.monitors import Monitored
from everfit.spec import Spec
from everfit.standing import Kept, Standing

PLAIN = "unreconciled."  # the estimate as it was, beside the one that past errors moved: they are what it is held to


@dataclass(frozen=True, slots=True)
class Forecast:
    """Readings without labels, of one model."""

    spec: Spec
    hand: Hand

    def read(self, standing: Standing, joined: pl.DataFrame, seen: Monitored) -> tuple[Reading, ...]:
        """Read a window that just closed."""
        champion = standing.champion
        if champion is None or joined.height < self.spec.watch.at_least:
            return ()
        return (
            *self._harm(champion, seen),
            *self._together(champion, joined),
            *self._estimated(standing, champion, joined, seen),
        )

    def _harm(self, champion: Kept, seen: Monitored) -> tuple[Reading, ...]:
        weights = champion.backdrop.importance
        return (harmful(seen.readings, weights),) if weights else ()

    def _together(self, champion: Kept, joined: pl.DataFrame) -> tuple[Reading, ...]:
        crowds = champion.backdrop.crowds.values()
        return tuple(test_together(self.hand.get(key, Crowd.from_bytes), joined).reading for key in crowds)

    def _estimated(
        self, standing: Standing, champion: Kept, joined: pl.DataFrame, seen: Monitored
    ) -> tuple[Reading, ...]:
        """Estimates of metrics that have one; where columns drift, the loss of the primary one that they explain."""
        key = champion.backdrop.estimator
        if key is None:
            return ()
        estimator, made = self.hand.get(key, Estimator.from_bytes), champion.candidate
        possible = [name for name in self.spec.metrics if name in (LOSSES if made.task == "regression" else EXPECTED)]
        answered = joined.filter(pl.col("_score").is_not_null()).height
        if not possible or answered < self.spec.watch.at_least:
            return ()  # rows of files are scored when their labels have come
        window = scored_window(estimator, joined)
        found: list[Reading] = []
        for metric in possible:
            plain = estimate(estimator, metric, window, needed=self.spec.watch.at_least)
            found += [replace(plain, name=f"{PLAIN}{metric}"), reconcile(plain, _past(standing, metric))]
        if seen.alarms and self.spec.primary in possible:
            found.append(explained_loss(estimator, self.spec.primary, window).total)
        return tuple(found)


def _past(standing: Standing, metric: str) -> list[Residual]:
    """How far estimates of this champion were off, where labels have come since."""
    pairs = [
        (window.find(f"{PLAIN}{metric}"), window.find_mature(f"performance.{metric}"))
        for window in standing.history.served
    ]
    return [
        residual(estimated, realised)
        for estimated, realised in pairs
        if isinstance(estimated, Signal) and isinstance(realised, Signal)
    ]
