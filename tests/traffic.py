"""Traffic in memory: requests that come minute by minute, answered as the gateway's route says, and labels that follow.

Takes a world; gives rows in its lake as a server would log them; never answers by itself: models are named numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from everfit.observe.intake import FAILED, LABEL_COLUMNS, PREDICTION_COLUMNS, REFUSED_COLUMNS, SHADOW_COLUMNS
from everfit.ports import Route, Table
from everfit.rollout.split import key_of, variant_of
from everfit.testing import FrozenClock
from tests.world import World

A_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Model:
    """How a model answers."""

    noise: float = 0.5  # of its score, in logits; more is worse
    fails: float = 0.0  # share of requests that it fails on
    slow: float = 1.0  # times the usual latency


@dataclass
class Traffic:
    """Requests of one model's users."""

    world: World
    per_minute: int = 120
    models: dict[int, Model] = field(default_factory=dict)  # by version; others are good
    labels_after: timedelta = timedelta(seconds=20)  # how long labels take
    elsewhere: bool = False  # servers that are not ours: nobody answers for a model that failed
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    _sent: int = 0
    _coming: list[tuple[datetime, str, bool]] = field(default_factory=list)

    def run(self, minutes: int, *, until: str = "") -> int:
        """Let minutes pass, each with its requests and the worker's work; stop early at a release's end.

        Args:
            minutes: At most.
            until: Run of the release that ends it.
        """
        for minute in range(minutes):
            if until and "ReleaseEnded" in self.world.kinds(until):
                return minute
            self.minute()
        return minutes

    def minute(self) -> None:
        """One minute of requests, then whatever is due."""
        clock = self.world.ports.clock
        assert isinstance(clock, FrozenClock)
        start = clock.now()
        clock.forward(A_MINUTE)
        route = self.world.ports.gateway.live("m")
        if route is not None and self.per_minute:
            self._answer(route, start)
        self._label(clock.now())
        self.world.finish()

    def _answer(self, route: Route, start: datetime) -> None:
        rows: dict[Table, list[dict[str, Any]]] = {Table.PREDICTIONS: [], Table.SHADOW: [], Table.REFUSED: []}
        for number in range(self.per_minute):
            at = start + A_MINUTE * (number / self.per_minute)
            for table, row in self._one(route, at):
                rows[table].append(row)
        schemas = {Table.PREDICTIONS: PREDICTION_COLUMNS, Table.SHADOW: SHADOW_COLUMNS, Table.REFUSED: REFUSED_COLUMNS}
        for table, found in rows.items():
            if found:
                frame = pl.DataFrame(found, schema_overrides=dict(schemas[table]))
                self.world.ports.lake.add(table, frame, source="server", batch=self._sent + 1)

    def _one(self, route: Route, at: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
        self._sent += 1
        name, trial = f"r{self._sent}", route.trial
        logit = self.chance.normal() * 1.5 - 1
        truth = bool(self.chance.random() < 1 / (1 + np.exp(-logit)))
        self._coming.append((at + self.labels_after, name, truth))
        shares = [("challenger", trial.weight)] if trial else []
        variant = variant_of(key_of(None, name), trial.salt if trial else "", shares)
        if trial and variant == "challenger":
            if (row := self._said(trial.candidate, trial.version, logit)) is not None:
                yield Table.PREDICTIONS, {**row, **_when(name, at), "_variant": "challenger"}
                return
            yield Table.SHADOW, {**_failed(trial.candidate, trial.version), **_when(name, at)}
            if self.elsewhere:
                return
        row = self._said(route.candidate, route.version, logit)
        if row is None and self.elsewhere:
            yield Table.SHADOW, {**_failed(route.candidate, route.version), **_when(name, at)}
            return
        if row is None:
            said = {"_table": "predictions", "_reason": FAILED, "_column": None, "_payload": "{}"}
            yield Table.REFUSED, {**said, "_time": at, "_arrived": at, "_day": at.date()}
            return
        yield Table.PREDICTIONS, {**row, **_when(name, at), "_variant": "champion"}
        if trial and self.chance.random() < trial.mirror:
            copy = self._said(trial.candidate, trial.version, logit)
            told = {**copy, "_failed": None} if copy else _failed(trial.candidate, trial.version)
            yield Table.SHADOW, {**told, **_when(name, at)}

    def _said(self, candidate: str, version: int, logit: float) -> dict[str, Any] | None:
        model = self.models.get(version, Model())
        if self.chance.random() < model.fails:
            return None
        score = 1 / (1 + np.exp(-(logit + model.noise * self.chance.normal())))
        took = model.slow * self.chance.gamma(4.0, 1.0)
        return {
            "_score": [1 - score, score], "_prediction": "1" if score > 0.5 else "0", "_model": candidate,
            "_version": version, "_latency_ms": took,
        }  # fmt: skip

    def _label(self, now: datetime) -> None:
        came = [label for label in self._coming if label[0] < now]
        self._coming = [label for label in self._coming if label[0] >= now]
        if came:
            frame = pl.DataFrame(
                [{"_id": name, "_label": str(int(truth)), "_value": None, "_arrived": at, "_day": at.date()}
                 for at, name, truth in came], schema_overrides=dict(LABEL_COLUMNS),
            )  # fmt: skip
            self.world.ports.lake.add(Table.LABELS, frame, source="server", batch=self._sent + 1)


def _when(name: str, at: datetime) -> dict[str, Any]:
    return {"_id": name, "_time": at, "_arrived": at, "_day": at.date()}


def _failed(candidate: str, version: int) -> dict[str, Any]:
    return {"_score": None, "_prediction": None, "_model": candidate, "_version": version, "_latency_ms": None,
            "_failed": "crash"}  # fmt: skip
