"""`everfit up`: every role in a process of its own, started, watched and ended together.

Takes an app and roles; gives running processes until a signal; never does a role's work in the parent. A second `up`
in one folder is refused: the parent holds a lock that ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from everfit.adapters.telemetry import logger
from everfit.app.wiring import App
from everfit.clock import rest, ticks
from everfit.errors import AlreadyRunning, EverfitError, Refused, Unavailable, UsageError
from everfit.flows.durable import held

ROLES = ("server", "control", "worker")
IDLE = {"control": 0.25, "worker": 0.25, "teller": 0.5}  # seconds between looks when nothing moved, live
REPLAY_IDLE = 0.01  # in a replay the driver waits for us
LONGEST_REST = 30.0
GRACE = 20.0  # seconds that a role has to finish what it took
MOST_DEATHS = 5
WRONG_USE = 2  # exit code of a command that cannot be helped by starting it again
QUICK_DEATH = 5.0  # a role that lived shorter than this is started again later and later


def child_environment() -> dict[str, str]:
    """The environment of our processes, unless the user says otherwise.

    One thread each: threads of scikit-learn fight over the cores, and a pool of polars costs more than it brings on
    frames of a request or a window.
    """
    ours = {
        "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    return {**ours, **os.environ}


# ---- one role, in its own process ------------------------------------------------------------------------------------
def run_role(app: App, role: str) -> None:
    """Do one role's work until told to stop."""
    stop = threading.Event() if role == "server" else _until_told()  # a server handles signals itself
    if os.environ.get("EVERFIT_PARENT_PIPE"):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    match role:
        case "server":
            _serve(app)
        case "control":
            _control(app, stop)
        case "worker":
            _worker(app, stop)
        case _:
            raise UsageError(f"{role!r} is not a role; roles: {', '.join(ROLES)}")


def _end_with_parent() -> None:
    """The parent holds the other end of our standard input: when it is gone, so are we."""
    while os.read(0, 1024):  # not through sys.stdin: its lock would be held while the interpreter ends
        continue
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(app: App) -> None:
    from everfit.app.serving import run

    run(app)


def _control(app: App, stop: threading.Event) -> None:
    """Only one control works at a time; the others stand by until its lease ends."""
    desk = app.desk("control")
    idle = REPLAY_IDLE if app.replay else IDLE["control"]

    def shift() -> bool:
        with held(desk.leases, f"control:{app.spec.model}", desk.worker) as holding:
            if holding is None:
                return False
            control = app.control()
            while holding[1]() and not stop.is_set():
                if not control.tick():
                    stop.wait(idle)
        return True

    _loop(shift, stop, 1.0, logger("control", model=app.spec.model))


def _worker(app: App, stop: threading.Event) -> None:
    """Runs are advanced in one thread and people are told in another, so that a slow channel holds up nothing."""
    log = logger("worker", model=app.spec.model)
    teller = threading.Thread(target=lambda: _loop(app.tell().tick, stop, IDLE["teller"], log), name="teller")
    if app.spec.alerts:
        teller.start()
    threading.Thread(target=lambda: _wake(app, log), name="registry", daemon=True).start()
    _loop(app.work().tick, stop, 3 * REPLAY_IDLE if app.replay else IDLE["worker"], log)
    if app.spec.alerts:
        teller.join(GRACE)


def _wake(app: App, log: Any) -> None:
    """Meet the registry before the first run needs it: importing MLflow and making its database take seconds."""
    try:
        app.ports.registry.aliases(app.spec.model)
    except EverfitError as error:
        log.warning("the registry is away; runs wait for it", reason=str(error))


def _loop(tick: Callable[[], bool], stop: threading.Event, idle: float, log: Any) -> None:
    """Tick until told to stop. What is away is waited for, longer and longer; every other error ends the role."""
    pause = 1.0
    while not stop.is_set():
        try:
            moved = tick()
            pause = 1.0
        except (Unavailable, Refused) as error:  # rows that contradict each other wait in the journal for a person
            log.warning("cannot go on yet", reason=str(error), again_in=pause)
            stop.wait(pause)
            pause = min(2 * pause, LONGEST_REST)
            continue
        if not moved:
            stop.wait(idle)


# ---- the parent ------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Child:
    """One role's process."""

    role: str
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=ticks)
    deaths: int = 0


@contextmanager
def folder_lock(app: App, roles: tuple[str, ...]) -> Iterator[None]:
    """Hold a folder's roles. Workers are many; a server and a control are one in a folder.

    Raises:
        AlreadyRunning: another `everfit up` holds one of these roles here.
    """
    app.settings.state.mkdir(parents=True, exist_ok=True)
    single = [role for role in roles if role != "worker"]
    with ExitStack() as stack:
        for role in single:
            stack.enter_context(_lock(app.settings.state / f"up-{role}.lock", app.settings.project))
        yield


@contextmanager
def _lock(path: Path, project: Path) -> Iterator[None]:
    import fcntl

    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            who = file.read().strip() or "unknown"
            raise AlreadyRunning(f"`everfit up` already runs in {project} (process {who}); stop it first") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def up(app: App, roles: tuple[str, ...], say: Callable[[str], None]) -> None:
    """Run roles until a signal comes. A role that dies is started again; the others go on."""
    with folder_lock(app, roles):
        app.store.models()  # the database is created once, before several processes meet it
        app.settings.runs.mkdir(parents=True, exist_ok=True)
        stop = _until_told()
        log_file = app.settings.state / "up.log"
        with log_file.open("ab") as log:
            _run(app, roles, (log, stop), say)


def _run(
    app: App, roles: tuple[str, ...], until: tuple[IO[bytes], threading.Event], say: Callable[[str], None]
) -> None:
    log, stop = until
    children = {role: _start(app, role, log) for role in roles}
    say(f"{app.spec.model}: {', '.join(roles)} started; logs in {log.name}")
    try:
        _say_address(app, roles, stop, say)
        while not stop.wait(0.5):
            children |= {role: _revived(app, child, log, say) for role, child in children.items()}
    finally:
        _end(list(children.values()))
        say(f"{app.spec.model}: stopped")


def _until_told() -> threading.Event:
    """An event that a signal sets."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    return stop


def _start(app: App, role: str, log: IO[bytes], deaths: int = 0) -> Child:
    command = [sys.executable, "-m", "everfit", "up", str(app.settings.project), "--role", role, "--child"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        env=child_environment() | {"EVERFIT_PARENT_PIPE": "1"},
    )  # fmt: skip
    return Child(role, process, deaths=deaths)


def _revived(app: App, child: Child, log: IO[bytes], say: Callable[[str], None]) -> Child:
    code = child.process.poll()
    if code is None:
        return child
    lived = ticks() - child.started
    deaths = child.deaths + 1 if lived < QUICK_DEATH else 0
    if deaths > MOST_DEATHS or code == WRONG_USE:
        why = (app.settings.state / "up.log").read_text(errors="replace").strip().splitlines()[-1:]
        raise EverfitError(f"{child.role} cannot run (exit code {code}): {''.join(why)}")
    say(f"{child.role} ended with code {code}; starting it again")
    rest(min(2.0**deaths - 1, LONGEST_REST))
    return _start(app, child.role, log, deaths)


def _say_address(app: App, roles: tuple[str, ...], stop: threading.Event, say: Callable[[str], None]) -> None:
    """Say where the server listens, once it does."""
    if "server" not in roles:
        return
    for _ in range(600):
        found = server_address(app)
        if found or stop.wait(0.1):
            say(f"serving at {found}" if found else "stopped before the server listened")
            return
    say("the server does not listen yet; see the log")


def server_address(app: App) -> str | None:
    """Where the server of this folder listens; None if none is up."""
    for server in app.gateway.servers(app.spec.model):
        if server.get("port"):
            return f"http://{app.settings.host}:{server['port']}"
    return None


def _end(children: list[Child]) -> None:
    """Ask every role to finish, then insist."""
    for child in children:
        if child.process.poll() is None:
            child.process.terminate()
    deadline = ticks() + GRACE
    for child in children:
        try:
            child.process.wait(max(0.1, deadline - ticks()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        if child.process.stdin:
            child.process.stdin.close()
