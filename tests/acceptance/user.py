"""A person at the command line: types commands, reads what they say, waits for what they were promised.

Takes a folder and words; gives exit codes and text; never looks inside Everfit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from everfit.clock import rest, ticks

PATIENCE = 120.0  # seconds; CI machines are slow, and nothing here takes half of it


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        """Its JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class User:
    """Somebody in a folder."""

    folder: Path

    def types(self, *words: object) -> Said:
        """Type `everfit WORDS...`."""
        run = subprocess.run(
            [sys.executable, "-m", "everfit", *map(str, words)], cwd=self.folder, env=environment(),
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        return Said(run.returncode, run.stdout, run.stderr)

    def sees(self, *words: object) -> Any:
        """The JSON of a command that succeeds."""
        said = self.types(*words, "--json")
        assert said.code == 0, said
        return said.told

    def waits(self, project: str, until: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Look at the status until something is so."""
        end = ticks() + PATIENCE
        while True:
            told: dict[str, Any] = self.sees("status", "-C", project)
            if until(told):
                return told
            assert ticks() < end, json.dumps(told, indent=1) + self.log(project)
            rest(0.3)

    def log(self, project: str) -> str:
        """What the processes logged."""
        return (self.folder / project / ".everfit" / "up.log").read_text()

    def url(self, told: dict[str, Any], path: str) -> str:
        """An address of the server that the status names."""
        return f"http://127.0.0.1:{told['servers'][0]['port']}{path}"

    def posts(self, told: dict[str, Any], path: str, body: Any) -> Any:
        """Send JSON; the answer's JSON."""
        answer = httpx.post(self.url(told, path), json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @contextmanager
    def up(self, project: str) -> Iterator[subprocess.Popen[str]]:
        """`everfit up` while the block runs; it must end by itself when asked to."""
        command = [sys.executable, "-m", "everfit", "up", project]
        running = subprocess.Popen(
            command, cwd=self.folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            yield running
        finally:
            running.terminate()
            out, _ = running.communicate(timeout=PATIENCE)
        assert running.returncode == 0, out
        assert "stopped" in out


def environment() -> dict[str, str]:
    """A free port, and one thread for each process."""
    ours = {"EVERFIT_PORT": "0", "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "COLUMNS": "200"}
    return {name: value for name, value in os.environ.items() if not name.startswith("EVERFIT_")} | ours
