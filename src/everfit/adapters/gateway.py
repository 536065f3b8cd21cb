"""The built-in gateway: folders that model servers of this machine watch.

Takes published models and routes; gives `<root>/<model>/<candidate>/`, `routing.json` (candidate, version,
key, trial, previous, number, at, keys) and what the files `servers/<pid>.json` say; never talks to a server and never
loads a model.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from everfit.clock import wall
from everfit.errors import Conflict, DiskFull, EverfitError, ModelUnusable, Unavailable, UsageError
from everfit.ids import issued_id
from everfit.ports import ALL_OF_IT, Route, Trial, check_trial
from everfit.retrain.candidate import Candidate

if sys.platform != "win32":
    import fcntl

SILENT_AFTER = timedelta(seconds=60)  # twelve missed heartbeats: the pid now belongs to somebody else
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
KEYS_KEPT = 200  # causes remembered, so that a step that is repeated late does not undo what came after it


class FolderGateway:
    """Implements `everfit.ports.Gateway` with folders below `root`. Threads and processes may share it."""

    can = ALL_OF_IT

    def __init__(self, root: Path) -> None:
        self._root = root

    def publish(self, candidate: Candidate, version: int, folder: Path) -> None:
        """Copy (hard-link where the disk allows) a model's files to where servers load them; twice is once.

        Raises:
            DiskFull: no space for the copy.
            ModelUnusable: the folder to publish is not there.
        """
        self.take(candidate.id, folder)

    def take(self, candidate: str, folder: Path) -> Path:
        """Copy a model's files under a candidate's id, once; where they lie until it is withdrawn. Raises as above."""
        # A candidate does not know the name it will serve under: `point` links it into that model's folder.
        if not (folder / "model.json").is_file():
            raise ModelUnusable(
                f"{folder} holds no model.json, so {candidate} cannot be served; publish a folder that the shelf keeps"
            )
        with _disk(self._root):
            _copy(folder, self._published(candidate))
        return self._published(candidate)

    def point(self, model: str, route: Route, *, after: str | None = None) -> None:
        """Send the traffic of `model` to published candidates; the key that is live already changes nothing.

        Raises:
            ModelUnusable: a candidate was not published, or this key pointed before and another came after it.
            Conflict: another key than `after` is live, or the key pointed to something else before.
            UsageError: a share of the trial lies outside its bounds.
        """
        check_trial(route)
        with _disk(self._root), self._alone(model):
            now = _read(self._routing(model))
            seen: dict[str, str] = dict(now.get("keys", {}))
            if route.key in seen:
                _once(seen[route.key], str(now["key"]), route)
                return
            _fence(str(now.get("key", "")), after, route)
            for candidate in _named(route):
                self._place(model, candidate)
            before = now.get("candidate")
            routing = {
                "candidate": route.candidate,
                "version": route.version,
                "key": route.key,
                "trial": asdict(route.trial) if route.trial else None,
                "previous": before if before != route.candidate else now.get("previous"),
                "number": int(now.get("number", 0)) + 1,  # rises with every change, for people who look at metrics
                "at": wall().isoformat(),
                "keys": dict([*seen.items(), (route.key, _cause(route))][-KEYS_KEPT:]),
            }
            _replace(self._routing(model), routing)

    def live(self, model: str) -> Route | None:
        """Where traffic was last told to go."""
        with _disk(self._root):
            routing = _read(self._routing(model))
        return _route(routing) if routing else None

    def confirmed(self, model: str) -> bool:
        """Whether every server that is up follows the live route. True when no server is up.

        Raises:
            ModelUnusable: a server cannot load the challenger of this route, or not keep it up.
        """
        live = self.live(model)
        if live is None:
            return True
        servers = self.servers(model)
        for server in servers:
            trouble = server.get("trouble") or {}
            if trouble.get("key") == live.key:
                raise ModelUnusable(
                    f"the server {server['pid']} cannot try version {trouble['version']}: {trouble['said']}"
                )
        return all(server.get("key") == live.key for server in servers)

    def servers(self, model: str) -> list[dict[str, Any]]:
        """What each server that is up last said of itself: pid, port, candidate, version, key, trouble, at, error."""
        with _disk(self._root):
            found = [_told(file) for file in sorted(self._home(model).glob("servers/*.json"))]
        return [server for server in found if _up(server, wall())]

    def withdraw(self, model: str, candidate: str) -> None:
        """Remove a published model; nothing happens when it is live, tried or unknown."""
        with _disk(self._root), self._alone(model):
            routing = _read(self._routing(model))
            if routing and candidate in _named(_route(routing)):
                return
            _remove(self._home(model) / _name(candidate))
            _remove(self._published(candidate))

    def _home(self, model: str) -> Path:
        return self._root / _name(model)

    def _routing(self, model: str) -> Path:
        return self._home(model) / "routing.json"

    def _published(self, candidate: str) -> Path:
        return self._root / ".published" / _name(candidate)

    def _place(self, model: str, candidate: str) -> None:
        folder = self._published(candidate)
        if not folder.is_dir():
            raise ModelUnusable(f"candidate {candidate} is not published for {model}; publish it before pointing to it")
        _copy(folder, self._home(model) / _name(candidate))

    @contextmanager
    def _alone(self, model: str) -> Iterator[None]:
        self._home(model).mkdir(parents=True, exist_ok=True)
        with (self._home(model) / ".lock").open("w") as lock:
            if sys.platform != "win32":  # elsewhere the flow's lease is the only guard
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _name(part: str) -> str:
    # These become folder names: a name that climbs out of the root is refused.
    if not part or part in {".", "..", ".published", "servers"} or "/" in part or "\\" in part:
        raise UsageError(f"{part!r} cannot be a folder's name; give models names such as flight-delay")
    return part


def _once(before: str, live: str, route: Route) -> None:
    if before != _cause(route):
        raise Conflict(
            f"the cause {route.key} already pointed to {before}; pointing to {_cause(route)} needs a cause of its own"
        )
    if live != route.key:
        # A step that is repeated late must neither undo what came after it nor be told that it worked.
        raise ModelUnusable(
            f"{route.candidate} went live by {route.key} before, and {live} has pointed elsewhere since; "
            "release it again if it shall serve"
        )


def _fence(live: str, after: str | None, route: Route) -> None:
    if after is not None and after != live:
        raise Conflict(
            f"{route.key} was to follow {after or 'nothing'}, and {live or 'nothing'} is live; "
            "what came in between stands"
        )


def _route(routing: Mapping[str, Any]) -> Route:
    trial = routing.get("trial")
    return Route(routing["candidate"], routing["version"], routing["key"], Trial(**trial) if trial else None)


def _named(route: Route) -> list[str]:
    return [route.candidate, *([route.trial.candidate] if route.trial else [])]


def _cause(route: Route) -> str:
    """What a key stands for."""
    trial = route.trial
    if trial is None:
        return route.candidate
    return f"{route.candidate} beside {trial.candidate} ({trial.weight!r}, {trial.mirror!r}, {trial.salt})"


def _up(server: Mapping[str, Any], now: datetime) -> bool:
    if not {"pid", "at"} <= server.keys() or now - datetime.fromisoformat(server["at"]) > SILENT_AFTER:
        return False
    if sys.platform == "win32":  # there, asking whether a process lives would end it: the heartbeat must do
        return True
    try:
        os.kill(int(server["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and belongs to somebody else
        return True
    return True


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        # Only whole files are ever renamed into place, so somebody else wrote this one.
        raise Unavailable(f"{file} is not JSON; remove it and roll out again") from error
    return content if isinstance(content, dict) else {}


def _told(file: Path) -> dict[str, Any]:
    # Heartbeats are not flushed to the disk: a power cut may leave an empty file of a server that is gone.
    try:
        return _read(file)
    except Unavailable:
        return {}


def _replace(file: Path, content: Mapping[str, Any]) -> None:
    fresh = file.with_name(f".{file.name}.{issued_id()}")
    try:
        with fresh.open("w", encoding="utf-8") as out:
            json.dump(content, out)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    _settle(file.parent)


def _copy(source: Path, target: Path) -> None:
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{issued_id()}")
    try:
        shutil.copytree(source, fresh, copy_function=_link)
        fresh.rename(target)
    except OSError:
        if not target.is_dir():  # else another process published the same content meanwhile
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    _settle(target.parent)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
    return target


def _remove(folder: Path) -> None:
    # Renamed first, so that a server never meets half a model.
    gone = folder.with_name(f".{folder.name}.gone.{issued_id()}")
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def _settle(folder: Path) -> None:
    # The name of a renamed file is safe only when its folder is.
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _disk(root: Path) -> Iterator[None]:
    try:
        yield
    except EverfitError:
        raise
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFull(f"no space left below {root}; free some, and the roll-out goes on by itself") from error
        raise Unavailable(f"the serving folder {root} cannot be used: {error.strerror or error}") from error
