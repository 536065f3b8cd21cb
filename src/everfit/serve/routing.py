"""Which model answers: the server's side of the folder gateway.

Takes `routing.json` as the gateway writes it; gives one reference that is replaced at once, and
`servers/<pid>.json`, which says what answers here; never takes the old model away before the new one has
scored a row.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from everfit.clock import ticks, wall
from everfit.errors import ModelUnusable
from everfit.ports import Predictor, Route
from everfit.serve.counts import Counts
from everfit.serve.model import Loaded, load_published

LOOK_EVERY = 0.05  # seconds; a stat costs a few microseconds
BEAT_EVERY = 5.0  # the gateway takes a server for dead after 60 s of silence
AGAIN_AFTER = (1.0, 60.0)  # seconds until a failed load is tried again: first, and at most

_say = logging.getLogger("everfit.serve.routing")
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Served:
    """A model and the route that made it answer."""

    route: Route
    model: Loaded


class Live:
    """Follows the route of one model. `current` may be read from any thread; one thread calls `look`."""

    def __init__(self, home: Path, loader: Callable[[Path], Predictor], counts: Counts, *, port: int = 0) -> None:
        self._home = home
        self._loader = loader
        self._counts = counts
        self._port = port
        self._current: Served | None = None
        self._warm: dict[str, Loaded] = {}  # the live model and the one to go back to
        self._stamp: _Stamp | None = None
        self._error = ""
        self._again = _Retry()
        self._beat_at = 0.0
        self._ending = threading.Event()
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

    def stop(self) -> None:
        """End, and take this server off the list."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        with contextlib.suppress(OSError):  # a file that stays is ignored: its pid is gone
            self.file.unlink(missing_ok=True)

    def look(self) -> None:
        """Follow the route if it changed; try again what failed; say that this server is up."""
        stamp = self._stamp_now()
        if stamp is not None and (stamp != self._stamp or self._again.due()):
            self._stamp = stamp
            previous = self._follow()
            self._report()  # before the way back is warmed: the gateway waits for it
            self._keep_warm(previous)
        elif ticks() >= self._beat_at:
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
            route, previous = (
                Route(told["candidate"], int(told["version"]), told["key"]),
                told.get("previous"),
            )
            self._swap(route)
        except Exception as error:  # a broken model or file: the old one keeps serving, and the gateway reads why
            self._error = str(error)
            self._again.failed()
            self._counts.swap_failed()
            _say.error("the route cannot be followed", extra={"reason": self._error})
            return None
        self._error = ""
        self._again.worked()
        return str(previous) if previous else None

    def _swap(self, route: Route) -> None:
        if self._current is not None and self._current.route == route:
            return
        loaded = self._warm.get(route.candidate) or load_published(self._home / route.candidate, self._loader)
        self._warm[route.candidate] = loaded
        self._current = Served(route, loaded)  # one assignment: a request sees the old or the new, never a mixture
        self._counts.swapped(route.version)
        _say.info("model swapped", extra={"candidate": route.candidate, "version": route.version})

    def _keep_warm(self, previous: str | None) -> None:
        if self._error or self._current is None:
            return
        # After a restart the way back must be as short as before it.
        if previous and previous not in self._warm:
            with contextlib.suppress(ModelUnusable):  # it is only a convenience: pointing back would say what is wrong
                self._warm[previous] = load_published(self._home / previous, self._loader)
        for name in self._warm.keys() - {self._current.route.candidate, previous}:
            del self._warm[name]

    def _report(self) -> None:
        route = self._current.route if self._current else None
        told = {
            "pid": os.getpid(),
            "port": self._port,
            "candidate": route.candidate if route else None,
            "version": route.version if route else None,
            "key": route.key if route else None,
            "at": wall().isoformat(),
            "error": self._error or None,
        }
        fresh = self.file.with_suffix(".tmp")
        try:
            fresh.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(orjson.dumps(told))
            fresh.replace(self.file)
            self._beat_at = ticks() + BEAT_EVERY
        except OSError as error:  # a full disk must not end serving; the next look tries again
            self._beat_at = ticks() + AGAIN_AFTER[0]
            _say.warning("cannot say what is served", extra={"reason": str(error)})


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


def _routing(file: Path) -> dict[str, Any]:
    try:
        told = orjson.loads(file.read_bytes())
        if not {"candidate", "version", "key"} <= told.keys():
            raise ValueError("candidate, version or key is missing")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelUnusable(f"{file} cannot be read as a route: {error}") from error
    return dict(told)
