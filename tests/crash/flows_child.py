"""The process that works on runs and is killed: real ledger, shelf and gateway, and a fuse before every effect.

Takes a folder and how many effects it may have; gives the names of the effects that it had, in a file; never ends
tidily when the fuse blows: `os._exit`, as a power cut would.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.lake import DeltaLake
from everfit.adapters.models import Shelf
from everfit.adapters.registry import MlflowRegistry
from everfit.adapters.store import SqlStore
from everfit.adapters.trainer import ProcessTrainer
from everfit.clock import rest
from everfit.flows.durable import Worker
from everfit.ports import Ports, Registration, Write
from everfit.retrain.options import DEFAULT_TRAINER
from everfit.testing import FrozenClock, MemoryLake, MemoryTrainer, in_memory
from tests.scoring import ScoringTrainer
from tests.world import NOW, World, fill, spec_of

BLOWN = 9
PROBING = "probing.yaml"  # a file with more of the spec: runs are probed, and trainers leave scores
EFFECTS = {
    "trainer": ("train", "score"), "models": ("keep", "drop"), "registry": ("add", "describe", "alias"),
    "gateway": ("publish", "point", "withdraw"), "notes": ("put",), "ledger": ("append",),
}  # fmt: skip


class FileRegistry:
    """`ports.Registry` in a JSON file, for points at which MLflow itself is not the question."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, model: str, registration: Registration) -> int:
        """Register a candidate; its version."""
        with self._told() as told:
            versions: list[str] = told["versions"]
            if registration.candidate.id not in versions:
                versions.append(registration.candidate.id)
            return versions.index(registration.candidate.id) + 1

    def describe(self, model: str, version: int, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Add metrics and tags."""
        with self._told() as told:
            told["said"][str(version)] = dict(tags)

    def alias(self, model: str, names: Mapping[str, int | None]) -> None:
        """Point aliases."""
        with self._told() as told:
            told["aliases"] = {n: v for n, v in {**told["aliases"], **names}.items() if v is not None}

    def aliases(self, model: str) -> dict[str, int]:
        """Where they point."""
        with self._told() as told:
            return dict(told["aliases"])

    def read(self) -> dict[str, Any]:
        """Everything that was told."""
        with self._told() as told:
            return dict(told)

    def _told(self) -> _Locked:
        return _Locked(self._file)


@dataclass(slots=True)
class _Locked:
    """A JSON file that one process at a time reads and replaces."""

    file: Path
    _lock: int = -1
    _told: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> dict[str, Any]:
        self._lock = os.open(self.file.with_suffix(".lock"), os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        empty: dict[str, Any] = {"versions": [], "said": {}, "aliases": {}}
        self._told = json.loads(self.file.read_text()) if self.file.exists() else empty
        return self._told

    def __exit__(self, *_: object) -> None:
        fresh = self.file.with_suffix(".fresh")
        fresh.write_text(json.dumps(self._told))
        fresh.replace(self.file)
        os.close(self._lock)


@dataclass(slots=True)
class Fuse:
    """Counts effects, and ends the process before the one that is too many."""

    left: int  # 0: never blows
    had: list[str] = field(default_factory=list)

    def spend(self, name: str) -> None:
        """One more effect is about to happen."""
        if self.left and len(self.had) + 1 == self.left:
            os._exit(BLOWN)
        self.had.append(name)


class Frail:
    """A port whose effects burn the fuse."""

    def __init__(self, port: Any, name: str, fuse: Fuse) -> None:
        self._port, self._name, self._fuse = port, name, fuse

    def __getattr__(self, verb: str) -> Any:
        do: Callable[..., Any] = getattr(self._port, verb)
        if verb not in EFFECTS[self._name]:
            return do

        def fused(*args: Any, **named: Any) -> Any:
            about = f" {type(args[0].fact).__name__}" if args and isinstance(args[0], Write) else ""
            self._fuse.spend(f"{self._name}.{verb}{about}")
            return do(*args, **named)

        return fused


def ports_in(folder: Path, *, whole: bool = False, database: str | None = None) -> Ports:
    """Ports that outlive a process; with `whole` the lake, the trainer and the registry are real too."""
    store = SqlStore(database or f"sqlite:///{folder / 'ledger.db'}")
    lake: Any = DeltaLake(str(folder / "lake")) if whole else MemoryLake()
    if not whole:
        fill(lake)
    registry: Any = FileRegistry(folder / "registry.json")
    if whole:
        registry = MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    memory = in_memory(FrozenClock(NOW))
    fake = ScoringTrainer() if (folder / PROBING).exists() else MemoryTrainer()
    return Ports(
        clock=memory.clock, journal=memory.journal, lake=lake, ledger=store, leases=store, notes=store,
        trainer=ProcessTrainer() if whole else fake, models=Shelf(folder / "shelf"), registry=registry,
        gateway=FolderGateway(folder / "serving"), teller=memory.teller,
    )  # fmt: skip


def frail(ports: Ports, fuse: Fuse) -> Ports:
    """The same ports with a fuse before every effect."""
    made = {name: Frail(getattr(ports, name), name, fuse) for name in EFFECTS}
    others = {name: getattr(ports, name) for name in ("clock", "journal", "lake", "leases", "teller")}
    return Ports(**made, **others)


def world_in(folder: Path, hold: float, fuse: Fuse | None = None, *, whole: bool = False) -> World:
    """The project in a folder."""
    ports = ports_in(folder, whole=whole)
    parameters = json.loads((folder / "parameters.json").read_text())
    worker = Worker(f"worker:{os.getpid()}", timedelta(seconds=hold))
    keep = "rollout: {keep: 1}\n"  # so that old versions are dropped, which is an effect too
    spec = spec_of(parameters, keep + ((folder / PROBING).read_text() if (folder / PROBING).exists() else ""))
    if whole:
        spec = spec.model_copy(update={"train": spec.train.model_copy(update={"trainer": DEFAULT_TRAINER})})
    return World(frail(ports, fuse) if fuse else ports, folder, spec, worker)


def work(folder: str, left: int, hold: float, whole: bool = False) -> None:
    """Advance whatever is due until all runs have ended, or the fuse blows."""
    fuse = Fuse(left)
    world = world_in(Path(folder), hold, fuse, whole=whole)
    todo, now = world.work(), world.ports.clock.now()
    while world.ports.ledger.due("m", now):
        if not todo.tick():
            rest(0.01)  # the lease of the one that was killed runs out
    (Path(folder) / "effects.json").write_text(json.dumps(fuse.had))
