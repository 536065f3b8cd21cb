"""A server process for the tests: `python -m tests.ports.serving_process ROOT LOG [GRPC PORT]`."""

from __future__ import annotations

import sys
from pathlib import Path

from everfit.adapters.journal import SqliteJournal
from everfit.adapters.models import load
from everfit.adapters.telemetry import configure
from everfit.clock import WallClock
from everfit.serve.server import bind, run_server
from everfit.serve.serving import LogMode, Serving
from tests.unit.serve.fakes import MODEL, RULES


def main() -> None:
    root, log = Path(sys.argv[1]), LogMode(sys.argv[2])
    configure("info", json=True)
    journal = SqliteJournal(root / "journal.db")
    serving = Serving(
        MODEL, "binary", RULES, root / "serving", journal, load, WallClock(), root / "clock.json", log=log
    )
    grpc = f"127.0.0.1:{sys.argv[3]}" if len(sys.argv) > 3 else ""
    run_server([serving], bind("127.0.0.1", 0), grpc=grpc)
    journal.close()


if __name__ == "__main__":
    main()
