"""The server role: answers and intake of one project or several, on one address.

Takes apps; gives a running server, or several processes that share its port; never imports the registry or the lake,
and begins without the ledger's database where it began with it before.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path

from everfit.adapters.models import load
from everfit.adapters.traces import tracer
from everfit.app.children import PARENT_PIPE, SOCKET, Part, end_with_parent, folder_lock, run_together, until_told
from everfit.app.wiring import App
from everfit.clock import EventClock, WallClock
from everfit.errors import Unavailable, UsageError
from everfit.serve.counts import SHARED, forget_worker
from everfit.serve.server import bind, run_server
from everfit.serve.serving import LogMode, Serving, Trying
from everfit.settings import Settings

EVENTS = "events"  # what stands in the mark of a project whose time is that of its events
MOST_WORKERS = 256


def run(apps: Sequence[App]) -> None:
    """Serve in this process until told to stop, on the socket that a parent handed down, or on one of its own."""
    end_with_parent()
    settings = apps[0].settings
    given = os.environ.get(SOCKET)
    listening = socket.socket(fileno=int(given)) if given else bind(settings.host, settings.port)
    grpc = "" if settings.grpc_port is None else _address(settings.host, settings.grpc_port)
    run_server([serving_of(app) for app in apps], listening, tracer=tracer(), grpc=grpc)


def serve(apps: Sequence[App], folders: Sequence[Path], say: Callable[[str], None]) -> None:
    """Serve several projects until told to stop, in as many processes as the settings say.

    Raises:
        AlreadyRunning: one of the folders has a server.
        UsageError: a setting does not fit.
    """
    if os.environ.get(PARENT_PIPE):
        run(apps)
        return
    settings = apps[0].settings
    names = [app.spec.model for app in apps]
    if len(set(names)) < len(names):
        raise UsageError(f"one server needs different names, and the models are {', '.join(names)}: change `model:`")
    with ExitStack() as stack:
        for app in apps:
            stack.enter_context(folder_lock(app, ("server",)))
            with suppress(Unavailable):  # the data plane stands alone
                app.store.models()  # the database is created once, before several processes meet it
        if settings.workers == 1:
            run(apps)
            return
        command = (sys.executable, "-m", "everfit", "serve", *map(str, folders))
        parts = workers(settings, command)
        stop = until_told()
        address = f"http://{_address(settings.host, _port(parts))}"
        run_together(parts, None, stop, lambda: say(f"{', '.join(names)}: {len(parts)} workers at {address}"), say)
        say(f"{', '.join(names)}: stopped")


def workers(settings: Settings, command: tuple[str, ...]) -> list[Part]:
    """The server's processes. Each has a socket of its own on one port, which the parent holds too.

    So the system spreads connections evenly, and those that a worker had not taken when it died wait for the next one.

    Raises:
        UsageError: the address cannot be used, or so many processes cannot be.
    """
    many = settings.workers
    if not 1 <= many <= MOST_WORKERS:
        raise UsageError(f"workers: {many} is not from 1 to {MOST_WORKERS}")
    if many == 1:
        return [Part("server", command)]
    if settings.grpc_port == 0:
        raise UsageError("EVERFIT_GRPC_PORT=0: several workers cannot find a free port together; name one")
    folder = settings.state / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ended = lambda pid: forget_worker(folder, pid)  # noqa: E731 - a name for the line below
    sockets = listening(settings.host, settings.port, many)
    return [
        Part(f"server {place}", command, each, {SHARED: str(folder)}, ended) for place, each in enumerate(sockets, 1)
    ]


def listening(host: str, port: int, many: int) -> list[socket.socket]:
    """So many sockets on one port; where the system cannot spread connections among them, one for all.

    Raises:
        UsageError: the address cannot be used.
    """
    if sys.platform != "linux":
        return [bind(host, port)] * many
    first = bind(host, port, shared=True)
    return [first, *(bind(host, first.getsockname()[1], shared=True) for _ in range(many - 1))]


def serving_of(app: App) -> Serving:
    """What the server must know of a project."""
    settings, replay = app.settings, _replay(app)
    trying = Trying(memory=settings.challenger_memory, share=settings.challenger_cpu)
    return Serving(
        model=app.spec.model,
        task=app.spec.task,
        rules=app.rules,
        gateway=settings.serving,
        journal=app.journal,
        loader=load,
        clock=EventClock(lambda: said_time(settings.clock_file)) if replay else WallClock(),
        clock_file=settings.clock_file,
        # In a replay time must not pass a row that was answered and is not in the journal yet.
        log=LogMode.HELD if settings.held_log or replay else LogMode.ASYNC,
        replay=replay,
        key=app.spec.rollout.key,
        trying=trying.in_replay() if replay else trying,
    )


def said_time(clock_file: Path) -> datetime | None:
    """The model's time as the control loop last said it."""
    try:
        now = json.loads(clock_file.read_text())["now"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return datetime.fromisoformat(now) if now else None


def _replay(app: App) -> bool:
    """Whose time counts: from the ledger's database, or as it said the last time when it is away."""
    mark = app.settings.serving / app.spec.model / "time"
    try:
        replay = app.replay
    except Unavailable:
        if not mark.is_file():
            raise
        return mark.read_text() == EVENTS
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(EVENTS if replay else "wall")
    return replay


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _port(parts: Sequence[Part]) -> int:
    held = parts[0].socket
    return int(held.getsockname()[1]) if held else 0
