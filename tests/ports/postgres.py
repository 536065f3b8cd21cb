"""A private PostgreSQL server for tests: its own data folder and socket, gone when the tests end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def binary(name: str) -> Path | None:
    """One of PostgreSQL's programs, on the path or where Debian puts it."""
    found = shutil.which(name)
    places = [Path(found)] if found else sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return places[0] if places else None


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Start a server; its URL. Skips with a reason where PostgreSQL is missing, except in CI."""
    initdb, pg_ctl = binary("initdb"), binary("pg_ctl")
    if initdb is None or pg_ctl is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is missing in CI: .ci/run installs it")
        pytest.skip("PostgreSQL's programs are not on this machine: apt-get install postgresql")
    as_owner: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        as_owner = ["runuser", "-u", "postgres", "--"]
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and parent != Path("/") and str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    data = folder / "data"

    def do(*command: object) -> None:
        subprocess.run([*as_owner, *map(str, command)], check=True, cwd=folder, stdout=subprocess.DEVNULL)

    do(initdb, "-D", data, "-A", "trust", "-U", "everfit", "-N")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    do(pg_ctl, "-D", data, "-o", options, "-l", folder / "log", "-w", "start")
    try:
        yield f"postgresql+psycopg://everfit@/postgres?host={folder}"
    finally:
        do(pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")
