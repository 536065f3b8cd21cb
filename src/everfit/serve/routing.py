"""Which model answers: the server's side of the folder gateway.

Takes `routing.json` as the gateway writes it; gives one reference that is replaced at once, and
`servers/<pid>.json`, which says what answers here; never takes the old model away before the new one has
scored a row, and never waits for a challenger.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from everfit.clock import ticks, wall
from everfit.errors import ModelUnusable
from everfit.ports import Predictor, Route, Trial
from everfit.serve.challenger import Challenger
from everfit.serve.counts import Counts
from everfit.serve.model import Loaded, Signature, load_published
from everfit.serve.serving import Trying

LOOK_EVERY = 0.05  # seconds; a stat costs a few microseconds
BEAT_EVERY = 5.0  # the gateway takes a server for dead after 60 s of silence
AGAIN_AFTER = (1.0, 60.0)  # seconds until a failed load is tried again: first, and at most
LAST = "last.json"  # the route that was followed last, for a restart while `routing.json` cannot be
LAST_WAIT = 2.0  # seconds that a challenger's process may take to end with the server

_say = logging.getLogger("everfit.serve.routing")
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Served:
    """A model, the route that made it answer, and the challenger that is tried beside it."""

    route: Route
    model: Loaded
    challenger: Challenger | None = None


class Live:
    """Follows the route of one model. `current` may be read from any thread; one thread calls `look`."""

    def __init__(
        self,
        home: Path,
        loader: Callable[[Path], Predictor],
        counts: Counts,
        *,
        port: int = 0,
        trying: Trying = Trying(),  # noqa: B008 - it is frozen
        before: Callable[[Served], None] = lambda _: None,
    ) -> None:
        """Name the model's folder. `before` is told what is about to answer, in the thread that swaps."""
        self._home = home
        self._loader = loader
        self._counts = counts
        self._port, self._before = port, before
        self._current: Served | None = None
        self._warm: dict[str, Loaded] = {}  # the live model and the one to go back to
        self._loading: tuple[str, Future[Loaded]] | None = None
        self._trying = trying
        self._challenger: Challenger | None = None
        self._refused = ""  # why this route's challenger cannot be tried at all
        self._followed: str | None = None  # the key that this server follows wholly, its challenger warm
        self._told_trouble = ""
        self._stamp: _Stamp | None = None
        self._error = ""
        self._again = _Retry()
        self._beat_at, self._is_mute = 0.0, False
        self._begun, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="everfit-routing", daemon=True)

    @property
    def current(self) -> Served | None:
        """What answers now; read it once for a request."""
        return self._current

    @property
    def file(self) -> Path:
        """Where this server says of itself what it serves."""
        return self._home / "servers" / f"{os.getpid()}.json"

    def start(self) -> None:
        """Register this server and begin to follow the route."""
        self._report()
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Until the route that is there answers, or is known not to; no longer than that."""
        self._begun.wait(seconds)

    def stop(self) -> None:
        """End, and take this server off the list."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        if (challenger := self._challenger) is not None:
            challenger.close()
            challenger.join(LAST_WAIT)
        with contextlib.suppress(OSError):  # a file that stays is ignored: its pid is gone
            self.file.unlink(missing_ok=True)

    def look(self) -> None:
        """Follow the route if it changed; try again what failed; say that this server is up."""
        stamp = self._stamp_now()
        if stamp is not None and (stamp != self._stamp or self._again.due()):
            self._stamp = stamp
            previous = self._follow()
            self._settle()
            self._report()  # before the way back is warmed: the gateway waits for it
            if self._current is not None or self._error:
                self._begun.set()
            self._keep_warm(previous)
            return
        if stamp is None:  # nothing was released yet
            self._begun.set()
        if self._settle() or ticks() >= self._beat_at:
            self._report()

    def _watch(self) -> None:
        while not self._ending.is_set():
            try:
                self.look()
            except Exception:  # whatever happens here, the model that answers goes on answering
                _say.exception("looking at the route failed")
            self._ending.wait(LOOK_EVERY)

    def _stamp_now(self) -> _Stamp | None:
        try:
            found = (self._home / "routing.json").stat()
        except OSError:
            return None  # not pointed yet, or the disk is away: keep what there is
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _follow(self) -> str | None:
        try:
            told = _routing(self._home / "routing.json")
            if not self._obey(told):
                return None  # it changed while its model was loaded: the next look follows the newer one
        except Exception as error:  # a broken model or file: the old one keeps serving, and the gateway reads why
            self._error = str(error)
            self._again.failed()
            self._counts.swap_failed()
            _say.error("the route cannot be followed", extra={"model": self._home.name, "reason": self._error})
            self._fall_back()
            return None
        self._error = ""
        self._again.worked()
        self._remember(told)
        previous = told.get("previous")
        return str(previous) if previous else None

    def _obey(self, told: dict[str, Any]) -> bool:
        """Let what was read rule; False if another route came meanwhile."""
        trial = told.get("trial")
        route = Route(told["candidate"], int(told["version"]), told["key"], Trial(**trial) if trial else None)
        if not self._swap(route):
            return False
        self._counts.routed(int(told.get("number", 0)))
        return True

    def _fall_back(self) -> None:
        """After a restart: what was followed before it, as if there had been none."""
        if self._current is None:
            with contextlib.suppress(Exception):  # there is none, or its model is broken too
                self._obey(_routing(self._home / LAST))

    def _remember(self, told: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end serving
            self._write(self._home / LAST, told)

    @staticmethod
    def _write(file: Path, told: dict[str, Any]) -> None:
        """Replace a file at once; workers may do so at the same time."""
        fresh = file.with_name(f"{file.stem}.{os.getpid()}.tmp")
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(orjson.dumps(told))
        fresh.replace(file)

    def _swap(self, route: Route) -> bool:
        """Let a route rule, unless another came meanwhile."""
        before = self._current
        if before is not None and before.route == route:
            return True
        loaded = self._warm.get(route.candidate) or self._loaded(route.candidate)
        if loaded is None:
            return False
        self._warm[route.candidate] = loaded
        rival = self._tried(route, loaded.signature)
        self._before(coming := Served(route, loaded, rival))
        # One assignment: a request sees the old or the new, never a mixture.
        self._current = coming
        leaving, self._challenger = self._challenger, rival
        if leaving is not None and leaving is not rival:
            leaving.close()
        if before is None or before.model is not loaded:
            self._counts.swapped(route.version)
            told = {"model": self._home.name, "candidate": route.candidate, "version": route.version}
            _say.info("model swapped", extra=told)
        return True

    def _loaded(self, candidate: str) -> Loaded | None:
        """Load beside the looks, so that pointing elsewhere need not wait; None if somebody did."""
        if self._loading is None or self._loading[0] != candidate:
            asked: Future[Loaded] = Future()
            loading = threading.Thread(target=self._load, args=(candidate, asked), name="everfit-load", daemon=True)
            self._loading = candidate, asked
            loading.start()
        asked = self._loading[1]
        while not asked.done():
            wait([asked], LOOK_EVERY)
            if self._stamp_now() not in {None, self._stamp} or self._ending.is_set():
                return None
            if ticks() >= self._beat_at:
                self._report()
        self._loading = None
        return asked.result()

    def _load(self, candidate: str, asked: Future[Loaded]) -> None:
        try:
            asked.set_result(load_published(self._home / candidate, self._loader))
        except Exception as error:  # whatever it is, the thread that looks raises it
            asked.set_exception(error)

    def _tried(self, route: Route, signature: Signature) -> Challenger | None:
        """The challenger of a route: the one that runs, if it is the same model, else a new one that begins to load."""
        self._refused, trial, running = "", route.trial, self._challenger
        if trial is None:
            return None
        folder = self._home / trial.candidate
        if running is not None and running.folder == folder and not running.trouble:
            running.forgive()
            return running
        try:
            made = Challenger(
                folder, self._loader, self._trying, lambda reason: self._counts.died(trial.version, reason)
            )
            _comparable(made.signature, signature)
        except ModelUnusable as error:
            self._refused = str(error)
            return None
        made.start()
        return made

    def _settle(self) -> bool:
        """Whether there is news of the challenger, which the gateway must be told."""
        if self._current is None:
            return False
        key, challenger, before = self._current.route.key, self._challenger, (self._followed, self._told_trouble)
        is_followed = self._current.route.trial is None or (challenger is not None and challenger.is_warm)
        self._followed = key if is_followed else self._followed
        self._told_trouble = self._refused or (challenger.trouble if challenger else "")
        return before != (self._followed, self._told_trouble)

    def _keep_warm(self, previous: str | None) -> None:
        if self._error or self._current is None:
            return
        # After a restart the way back must be as short as before it.
        if previous and previous not in self._warm:
            with contextlib.suppress(ModelUnusable):  # it is only a convenience: pointing back would say what is wrong
                if (loaded := self._loaded(previous)) is not None:
                    self._warm[previous] = loaded
        for name in self._warm.keys() - {self._current.route.candidate, previous}:
            del self._warm[name]

    def _report(self) -> None:
        route, trouble = self._current.route if self._current else None, None
        if route and route.trial and self._told_trouble:
            trouble = {"key": route.key, "version": route.trial.version, "said": self._told_trouble}
        told = {
            "pid": os.getpid(),
            "port": self._port,
            "candidate": route.candidate if route else None,
            "version": route.version if route else None,
            "key": self._followed,
            "trouble": trouble,
            "at": wall().isoformat(),
            "error": self._error or None,
        }
        try:
            self._write(self.file, told)
            self._beat_at = ticks() + BEAT_EVERY
            self._is_mute = False
        except OSError as error:  # a full disk must not end serving; the next look tries again
            self._beat_at = ticks() + AGAIN_AFTER[0]
            if not self._is_mute:
                _say.warning("cannot say what is served", extra={"model": self._home.name, "reason": str(error)})
            self._is_mute = True


class _Retry:
    # Doubles the pause: a broken model must not cost a load every 50 ms, and a disk that was away must not
    # need a person.
    def __init__(self) -> None:
        self._pause = AGAIN_AFTER[0]
        self._at: float | None = None

    def due(self) -> bool:
        return self._at is not None and ticks() >= self._at

    def failed(self) -> None:
        self._at = ticks() + self._pause
        self._pause = min(2 * self._pause, AGAIN_AFTER[1])

    def worked(self) -> None:
        self._at, self._pause = None, AGAIN_AFTER[0]


def _comparable(challenger: Signature, champion: Signature) -> None:
    """Raise ModelUnusable if a challenger cannot answer what the champion is asked, in the champion's words."""
    known = set(champion.schema.features)
    if unknown := [column.name for column in challenger.schema.features if column not in known]:
        raise ModelUnusable(
            f"the challenger takes {unknown[0]!r}, which requests to the champion need not have; "
            "release it without a trial"
        )
    ours, theirs = ((each.task, each.classes, each.positive) for each in (champion, challenger))
    if ours != theirs:
        raise ModelUnusable("the challenger answers other classes than the champion; release it without a trial")


def _routing(file: Path) -> dict[str, Any]:
    try:
        told = orjson.loads(file.read_bytes())
        if not {"candidate", "version", "key"} <= told.keys():
            raise ValueError("candidate, version or key is missing")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelUnusable(f"{file} cannot be read as a route: {error}") from error
    return dict(told)
