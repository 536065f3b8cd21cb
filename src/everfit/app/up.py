"""`everfit up`: every role in a process of its own, started, watched and ended together.

Takes an app and roles; gives running processes until a signal; never does a role's work in the parent. A second `up`
in one folder is refused: the parent holds a lock that ends with it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from everfit.adapters.telemetry import logger
from everfit.app.children import (
    GRACE,
    LONGEST_REST,
    Part,
    end_with_parent,
    folder_lock,
    run_together,
    until_told,
)
from everfit.app.wiring import App
from everfit.errors import EverfitError, Refused, Unavailable, UsageError
from everfit.flows.durable import held

ROLES = ("server", "control", "worker")
IDLE = {"control": 0.25, "worker": 0.25, "teller": 0.5}  # seconds between looks when nothing moved, live
PATIENT = 5  # times the idle rest while a run is under way: asking costs 5 ms of the core that the run needs
REPLAY_IDLE = 0.01  # in a replay the driver waits for us


# ---- one role, in its own process ------------------------------------------------------------------------------------
def run_role(app: App, role: str) -> None:
    """Do one role's work until told to stop."""
    if role == "server":
        _serve(app)  # it handles signals and the parent itself
        return
    stop = until_told()
    end_with_parent()
    match role:
        case "control":
            _control(app, stop)
        case "worker":
            _worker(app, stop)
        case _:
            raise UsageError(f"{role!r} is not a role; roles: {', '.join(ROLES)}")


def _serve(app: App) -> None:
    from everfit.app.serving import run

    run([app])


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
                    stop.wait(PATIENT * idle if control.waits else idle)
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
def up(app: App, roles: tuple[str, ...], say: Callable[[str], None]) -> None:
    """Run roles until a signal comes. A role that dies is started again; the others go on."""
    with folder_lock(app, roles):
        app.store.models()  # the database is created once, before several processes meet it
        app.settings.runs.mkdir(parents=True, exist_ok=True)
        parts = [part for role in roles for part in _parts(app, role)]
        stop, log = until_told(), app.settings.state / "up.log"

        def begun() -> None:
            say(f"{app.spec.model}: {', '.join(part.name for part in parts)} started; logs in {log}")
            _say_address(app, roles, stop, say)

        try:
            run_together(parts, log, stop, begun, say)
        finally:
            say(f"{app.spec.model}: stopped")


def _parts(app: App, role: str) -> list[Part]:
    command = (sys.executable, "-m", "everfit", "up", str(app.settings.project), "--role", role, "--child")
    if role != "server":
        return [Part(role, command)]
    from everfit.app.serving import workers

    return workers(app.settings, command)


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
