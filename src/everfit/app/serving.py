"""The server role: one model's answers and the intake, on one address.

Takes an app; gives a running server; never imports the registry, the lake or the ledger's database.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from everfit.adapters.models import load
from everfit.app.wiring import App
from everfit.clock import EventClock, WallClock
from everfit.serve.server import run_server
from everfit.serve.serving import LogMode, Serving


def run(app: App) -> None:
    """Serve until told to stop."""
    settings, replay = app.settings, app.replay
    serving = Serving(
        model=app.spec.model,
        task=app.spec.task,
        rules=app.rules,
        gateway=settings.serving,
        journal=app.journal,
        loader=load,
        clock=EventClock(lambda: said_time(settings.clock_file)) if replay else WallClock(),
        clock_file=settings.clock_file,
        log=LogMode.HELD if settings.held_log else LogMode.ASYNC,
        replay=replay,
    )
    run_server(serving, settings.host, settings.port)


def said_time(clock_file: Path) -> datetime | None:
    """The model's time as the control loop last said it."""
    try:
        now = json.loads(clock_file.read_text())["now"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return datetime.fromisoformat(now) if now else None
