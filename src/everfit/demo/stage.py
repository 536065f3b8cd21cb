"""The demo's folder and processes, begun as a user would begin them.

Takes a folder; gives a project with a spec, and the address of a running `everfit up`; never leaves a process behind.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from everfit.client import Client
from everfit.clock import rest, ticks
from everfit.demo.flights import PARAMETERS
from everfit.errors import EverfitError, UsageError

MARK = ".everfit-demo"  # only a folder with this file is ever emptied
WEEKLY_DAYS = 90  # the rival learns from the last 90 days: on all rows it would take most of the demo's five minutes
PATIENCE = 60.0  # seconds until the server must listen

SPEC = """\
# The demo's spec: will a flight arrive more than 15 minutes late?
model: flight-delay
task: binary
target: late
time: scheduled
id: flight_id
observe:
  window: 1d
  labels_mature_after: 1d               # nearly every flight has landed by then; cancelled ones never get a label
train:
  parameters: {parameters}
watch:
  metrics: [log_loss]
  slices: [origin]
judge: {{primary: roc_auc, holdout: 7d, gap: 1d, slices: {{by: [origin]}}}}
rollout:
  mirror: 12h                           # copies of the requests go to the challenger first
  weights: [25%]                        # then it answers a quarter of the flights
  interval: 1d
  guard:                                # no latency: other work on this machine would decide
    checks: [{{of: errors}}, {{of: loss}}]
    inconclusive: promote
  keep: 100                             # the first champion is compared with at the end
decide: {{bench: {{every: 5}}}}            # five days a bench window: one of two days says little
# No triggers are named: the bench decides when to train, on which rows, and which kept model serves.
"""


@dataclass(slots=True)
class Stage:
    """Where the demo plays."""

    folder: Path
    up: subprocess.Popen[bytes]
    url: str

    def everfit(self, *words: str) -> str:
        """Type a command, as a user would; what it says."""
        return command(self.folder, *words)

    def restart(self, parameters: Mapping[str, object]) -> None:
        """Write other training parameters into the spec, and begin `everfit up` again at the same address.

        Raises:
            EverfitError: it does not serve its champion again.
        """
        self.up.terminate()
        self.up.wait()
        write_spec(self.folder, parameters)
        self.up, _ = _begun(self.folder, port=self.url.rpartition(":")[2])
        with Client(self.url) as client:
            until = ticks() + PATIENCE
            while not client.is_ready():
                if ticks() > until:
                    raise EverfitError(f"`everfit up` does not serve again; see {self.folder / '.everfit' / 'up.log'}")
                rest(0.05)


def command(folder: Path, *words: str) -> str:
    """Run an `everfit` command in a project.

    Raises:
        EverfitError: it said no; with what it said.
    """
    words = (sys.executable, "-m", "everfit", *words, "-C", str(folder))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EverfitError(f"{' '.join(words[2:])}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def prepare(folder: Path) -> None:
    """Make an empty project.

    Raises:
        UsageError: the folder holds something that is not a demo's.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise UsageError(f"{folder} is not empty and not a demo's folder; name another one with --dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("This folder is emptied whenever the demo begins.\n")
    write_spec(folder, PARAMETERS)


def write_spec(folder: Path, parameters: Mapping[str, object]) -> None:
    """Write everfit.yaml with parameters of the training."""
    (folder / "everfit.yaml").write_text(SPEC.format(parameters=json.dumps(dict(parameters)).replace('"', "")))


@contextmanager
def running(folder: Path) -> Iterator[Stage]:
    """`everfit up --clock events` on a free port, until the block ends."""
    stage = Stage(folder, *_begun(folder, port="0"))
    try:
        yield stage
    finally:
        stage.up.terminate()
        stage.up.wait()


def _begun(folder: Path, *, port: str) -> tuple[subprocess.Popen[bytes], str]:
    """Begin `everfit up`; its process and its address, once it listens."""
    environment = {**os.environ, "EVERFIT_PORT": port, "EVERFIT_LOG": "warning"}
    words = [sys.executable, "-m", "everfit", "up", str(folder), "--clock", "events"]
    with (folder / "up.out").open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        return process, _address(folder, process)
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the server says it listens."""
    since = ticks()
    while ticks() < since + PATIENCE and process.poll() is None:
        for line in (folder / "up.out").read_text().splitlines():
            if line.startswith("serving at "):
                return line.removeprefix("serving at ")
        rest(0.05)
    raise EverfitError(f"`everfit up` does not serve: {(folder / 'up.out').read_text().strip()}")


@contextmanager
def rivals(folder: Path, flights: pl.DataFrame, span: tuple[datetime, datetime]) -> Iterator[subprocess.Popen[bytes]]:
    """What retraining every week would have given, made beside the replay in a process of its own."""
    rows, out = folder / "flights.parquet", folder / "rivals"
    out.mkdir(exist_ok=True)
    flights.write_parquet(rows)
    begin, until = (moment.isoformat() for moment in span)
    words: Sequence[str] = [
        "-m",
        "everfit.demo.rivals",
        str(rows),
        str(out),
        "--first-until",
        begin,
        "--reach",
        str(WEEKLY_DAYS),
    ]
    with (out / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words, "--from", begin, "--until", until], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
