"""Wires the adapters of one project folder to the flows.

Takes a folder with a spec, and the settings of its environment; gives an `App` whose parts are made when first used;
never holds a rule of its own.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from everfit.adapters.alerts import AppriseTeller
from everfit.adapters.functions import functions_of
from everfit.adapters.gateway import FolderGateway
from everfit.adapters.journal import SqliteJournal
from everfit.adapters.lake import DeltaLake
from everfit.adapters.models import Shelf
from everfit.adapters.outside import OutsideGateway
from everfit.adapters.published import Published
from everfit.adapters.registry import MlflowRegistry
from everfit.adapters.store import SqlStore
from everfit.adapters.telemetry import logger
from everfit.adapters.trainer import ProcessTrainer
from everfit.app.files import Inbox, Receiving
from everfit.app.gateways import check_suited, gateway_for
from everfit.clock import Clock, EventClock, LedClock, WallClock
from everfit.flows.control import Control
from everfit.flows.durable import Desk, Follower, Worker
from everfit.flows.hand import Hand
from everfit.flows.measure import Measure
from everfit.flows.steps import Steps
from everfit.flows.tell import Tell
from everfit.flows.watch import Watch
from everfit.flows.work import Work, flows_of
from everfit.observe.intake import Rules
from everfit.ports import Ports
from everfit.settings import Settings, settings_for
from everfit.spec import Spec, read_spec
from everfit.standing import Standing

REPLAY = "replay"  # a mark: this project's time is that of its events


@dataclass(frozen=True)
class App:
    """One project folder."""

    settings: Settings
    spec: Spec

    # ---- ports -------------------------------------------------------------------------------------------------------
    @cached_property
    def store(self) -> SqlStore:
        """Ledger, leases and notes."""
        return SqlStore(self.settings.database)

    @cached_property
    def journal(self) -> SqliteJournal:
        """The durable intake of this machine."""
        return SqliteJournal(self.settings.journal)

    @cached_property
    def lake(self) -> DeltaLake:
        """The event tables."""
        return DeltaLake(self.settings.lake, dict(self.settings.lake_options) or None)

    @cached_property
    def gateway(self) -> FolderGateway | OutsideGateway:
        """Published models and routing.

        Raises:
            UsageError: `EVERFIT_GATEWAY` names no gateway, not all that one needs, or one that cannot do the roll-out.
        """
        gateway = gateway_for(self.settings, Published(self.spec.model, self.rules, self.spec.rollout.key))
        check_suited(self.spec.rollout, gateway.can)
        return gateway

    @property
    def replay(self) -> bool:
        """Whether this project's time is that of its events."""
        return self.store.marked(f"{REPLAY}:{self.spec.model}") == "yes"

    def use_clock(self, *, events: bool) -> None:
        """Fix whose time counts. A project keeps the clock that it began with: its ledger is written in it."""
        self.store.mark(f"{REPLAY}:{self.spec.model}", "yes" if events else "no")

    @cached_property
    def clock(self) -> Clock:
        """The wall's time, or that of the events."""
        return EventClock(self._event_time) if self.replay else WallClock()

    def _event_time(self) -> datetime | None:
        marked = self.store.marked(f"now:{self.spec.model}")
        return datetime.fromisoformat(marked) if marked else None

    def _set_event_time(self, moment: datetime) -> None:
        self.store.mark(f"now:{self.spec.model}", moment.isoformat())

    @cached_property
    def ports(self) -> Ports:
        """The whole outside world."""
        store = self.store
        return Ports(
            clock=self.clock,
            journal=self.journal,
            lake=self.lake,
            ledger=store,
            leases=store,
            notes=store,
            trainer=ProcessTrainer(),
            models=Shelf(self.settings.state / "models"),
            registry=MlflowRegistry(self.settings.mlflow, self.settings.state / "mlflow-artifacts"),
            gateway=self.gateway,
            teller=AppriseTeller(self.spec.alerts),
        )

    # ---- flows -------------------------------------------------------------------------------------------------------
    @property
    def rules(self) -> Rules:
        """What an event must look like."""
        spec = self.spec
        return Rules(spec.task, spec.target, spec.time, spec.id, spec.positive, spec.observe.ahead_at_most)

    @property
    def receiving(self) -> Receiving:
        """What taking a file needs."""
        return Receiving(self.rules, self.journal, self.store, self.clock.now)

    def desk(self, role: str) -> Desk:
        """A place to work at, under a name that the ledger and the leases know."""
        name = f"{role}:{platform.node()}:{os.getpid()}"
        return Desk(self.store, self.store, self.clock.now, Worker(name, self.settings.lease))

    def follower(self) -> Follower:
        """Follows the ledger of the model."""
        return Follower(self.store, self.spec.model)

    @cached_property
    def _followed(self) -> Follower:
        return self.follower()

    def standing(self) -> Standing:
        """Where the model stands."""
        return self._followed.standing()

    def steps(self) -> Steps:
        """What runs do to the world."""
        steps = Steps(
            self.spec, self.settings.project, self.settings.runs, self.ports, replay=self.replay,
            functions=self.functions,
        )  # fmt: skip
        if isinstance(self.gateway, OutsideGateway):  # machines may have to start before they answer with another
            return replace(steps, swap_at_most=self.gateway.patience)
        return steps

    @cached_property
    def functions(self) -> Mapping[str, Callable[..., Any]]:
        """Functions of the user's own that the spec names.

        Raises:
            UsageError: one of them cannot be found.
        """
        return functions_of(self.spec.functions, self.settings.project)

    def measure(self) -> Measure:
        """Reads windows."""
        steps = self.steps()
        return Measure(self.spec, self.lake, Hand(self.store), steps.shadow, self.functions, steps.shadows)

    def control(self) -> Control:
        """The control loop."""
        measure = self.measure()
        led = LedClock(self._event_time, self._set_event_time) if self.replay else None
        desk = self.desk("control") if led is None else replace(self.desk("control"), now=led.now)
        watch = Watch(self.spec, desk, measure, self.follower(), self.functions)
        inbox = Inbox(self.spec.observe.source, self.settings.project, self.receiving)
        return Control(
            watch, self.journal, self.lake, self.store, self.rules, self.settings.clock_file,
            source=self.journal.key, bring=inbox.bring, clock=led,
        )  # fmt: skip

    def work(self) -> Work:
        """The worker loop."""
        log = logger("worker", model=self.spec.model)

        def report(run: str, follows: str, error: Exception) -> None:
            log.error("step failed", run=run, follows=follows, exc_info=error)

        return Work(self.desk("worker"), self.follower(), flows_of(self.steps()), report)

    def tell(self) -> Tell:
        """The loop that tells people."""
        return Tell(self.desk("teller"), self.follower(), self.store, self.ports.teller)


def open_app(folder: Path | str = ".") -> App:
    """Open a project folder.

    Raises:
        SpecError: there is no spec, or it is wrong.
        UsageError: a setting cannot be read.
    """
    settings = settings_for(Path(folder))
    return App(settings, read_spec(settings.spec))
