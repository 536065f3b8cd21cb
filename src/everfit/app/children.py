"""Processes of ours that are started, watched and ended together.

Takes what each is to do; gives running processes until told to stop; never does their work itself. One that dies is
started again, later and later if it dies at once.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from everfit.app.wiring import App
from everfit.clock import rest, ticks
from everfit.errors import AlreadyRunning, EverfitError

GRACE = 20.0  # seconds that a process has to finish what it took
LONGEST_REST = 30.0
MOST_DEATHS = 5
WRONG_USE = 2  # exit code of a command that cannot be helped by starting it again
QUICK_DEATH = 5.0  # a process that lived shorter than this is started again later and later
PARENT_PIPE = "EVERFIT_PARENT_PIPE"  # set for our processes: their standard input ends with the parent
SOCKET = "EVERFIT_SOCKET"  # the number of the listening socket that a process was handed


@dataclass(frozen=True, slots=True)
class Part:
    """What one process is to do."""

    name: str  # as people read it
    command: tuple[str, ...]
    socket: socket.socket | None = None  # a listening socket that it is handed
    environ: Mapping[str, str] = field(default_factory=dict)
    ended: Callable[[int], None] | None = None  # told the number of a process that died


@dataclass(slots=True)
class Child:
    """One process."""

    part: Part
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=ticks)
    deaths: int = 0


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


def end_with_parent() -> None:
    """In a process of ours: the parent holds the other end of our standard input; when it is gone, so are we."""
    if os.environ.get(PARENT_PIPE):
        threading.Thread(target=_read_to_the_end, daemon=True).start()


def _read_to_the_end() -> None:
    while os.read(0, 1024):  # not through sys.stdin: its lock would be held while the interpreter ends
        continue
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def folder_lock(app: App, roles: tuple[str, ...]) -> Iterator[None]:
    """Hold a folder's roles. Workers are many; a server and a control are one in a folder.

    Raises:
        AlreadyRunning: another `everfit up` or `serve` holds one of these roles here.
    """
    app.settings.state.mkdir(parents=True, exist_ok=True)
    single = [role for role in roles if role != "worker"]
    with ExitStack() as stack:
        for role in single:
            stack.enter_context(_lock(app.settings.state / f"up-{role}.lock", app.settings.project))
        yield


@contextmanager
def _lock(path: Path, project: Path) -> Iterator[None]:
    import fcntl  # noqa: PLC0415 - not everywhere

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


def until_told() -> threading.Event:
    """An event that a signal sets."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    return stop


def run_together(
    parts: Sequence[Part],
    log: Path | None,
    stop: threading.Event,
    begun: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Run processes until told to stop; `begun` is called once all are started.

    What they say goes to the file `log`, or to where our own errors go.

    Raises:
        EverfitError: one of them cannot run; the text says why.
    """
    with ExitStack() as stack:
        said = None if log is None else stack.enter_context(log.open("ab"))
        children: list[Child] = []
        stack.callback(_end, children)
        children += [_start(part, said) for part in parts]
        begun()
        while not stop.wait(0.5):
            children[:] = [_revived(child, log, said, say) for child in children]


def _start(part: Part, said: IO[bytes] | None, deaths: int = 0) -> Child:
    handed = () if part.socket is None else (part.socket.fileno(),)
    environ = {**child_environment(), **part.environ, PARENT_PIPE: "1"}
    if handed:
        environ[SOCKET] = str(handed[0])
    process = subprocess.Popen(
        part.command, stdin=subprocess.PIPE, stdout=said, stderr=said, start_new_session=True,
        env=environ, pass_fds=handed,
    )  # fmt: skip
    return Child(part, process, deaths=deaths)


def _revived(child: Child, log: Path | None, said: IO[bytes] | None, say: Callable[[str], None]) -> Child:
    code = child.process.poll()
    if code is None:
        return child
    if child.part.ended:
        child.part.ended(child.process.pid)
    lived = ticks() - child.started
    deaths = child.deaths + 1 if lived < QUICK_DEATH else 0
    if deaths > MOST_DEATHS or code == WRONG_USE:
        last = log.read_text(errors="replace").strip().splitlines()[-1:] if log else ["what it said stands above"]
        raise EverfitError(f"{child.part.name} cannot run (exit code {code}): {''.join(last)}")
    say(f"{child.part.name} ended with code {code}; starting it again")
    rest(min(2.0**deaths - 1, LONGEST_REST))
    return _start(child.part, said, deaths)


def _end(children: list[Child]) -> None:
    """Ask every process to finish, then insist. Nobody comes in any more: who connected would wait for our own end."""
    for child in children:
        if child.part.socket is not None:
            child.part.socket.close()
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
        if child.part.ended:
            child.part.ended(child.process.pid)
