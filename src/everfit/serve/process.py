"""The challenger's process, as its keeper in the server holds it.

Takes a loader's name and a published model; gives two sockets, the bytes that it has resident, and an end that takes
what it started with it; never runs in the server's own process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import psutil

from everfit.clock import ticks
from everfit.ports import Predictor
from everfit.serve.wire import send

FAMILY_EVERY = (
    1.0  # seconds between looks for processes that it started: each reads what all processes say of themselves
)


class Process:
    """A child that answers questions. Made by `start`, ended once by `end`, both in one thread that outlives it."""

    def __init__(self, popen: subprocess.Popen[bytes], questions: socket.socket, answers: socket.socket) -> None:
        """Hold a child and this side of its sockets."""
        self.questions, self.answers = questions, answers
        self._popen, self._seen = popen, psutil.Process(popen.pid)
        self._family: list[psutil.Process] = []
        self._counted = -FAMILY_EVERY  # when the family was counted last, in ticks

    @classmethod
    def start(cls, folder: Path, loader: Callable[[Path], Predictor]) -> Process:
        """Start a child and tell it what to load; its first answer says whether it could.

        Raises:
            OSError: the system gives no process.
        """
        pairs = socket.socketpair(), socket.socketpair()
        ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        numbers = [each.fileno() for each in theirs]
        command = [sys.executable, "-m", "everfit.serve.child", *map(str, numbers), str(os.getpid())]
        try:
            popen = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=numbers, start_new_session=True)
        except OSError:
            for each in ours:
                each.close()
            raise
        finally:
            for each in theirs:
                each.close()
        made = cls(popen, *ours)
        told = {"folder": str(folder), "loader": name_of(loader), "path": sys.path}
        with contextlib.suppress(OSError):  # it is gone already: its end of the answers says so
            send(made.questions, 0, [orjson.dumps(told)])
        return made

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    def memory(self) -> int:
        """Bytes that it and what it started have resident; 0 when it is gone."""
        if ticks() >= self._counted + FAMILY_EVERY:
            self._counted = ticks()
            with contextlib.suppress(psutil.Error):
                self._family = [self._seen, *self._seen.children(recursive=True)]
        total = 0
        for each in self._family:
            with contextlib.suppress(psutil.Error):
                total += int(each.memory_info().rss)
        return total

    def end(self) -> int:
        """Kill it with all that it started; its exit code, minus the signal if one ended it before."""
        for each in (self.questions, self.answers):
            each.close()
        code = self._popen.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)  # it leads its own group; the group may outlive it
        self._popen.wait()
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        return self._popen.returncode if code is None else code


def name_of(loader: Callable[[Path], Predictor]) -> str:
    """A loader as the child finds it again: its module and its name there.

    >>> from everfit.ids import issued_id
    >>> name_of(issued_id)
    'everfit.ids:issued_id'
    """
    return f"{loader.__module__}:{loader.__qualname__}"
