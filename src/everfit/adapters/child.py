"""The child process in which models are trained and scored: `python -m everfit.adapters.child VERB ...`.

Takes `train TASK.json`, or `score SOCKET BYTES SECONDS`; gives the exit code of the work, which a second process does;
never outlives the process that started it, and leaves none of its own offspring behind.

Two processes, because a thread cannot be relied on: code that holds the interpreter's lock would keep it from
noticing that the parent died. The warden (this module, before anything heavy is imported) does nothing but
wait: for the work to end, or for its standard input to close, which the death of the parent does on every
system, even by `kill -9`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Fork the worker, guard it, and end as it ended: its exit code, or 128 and the signal that killed it."""
    verb, *told = sys.argv[1:]
    worker = os.fork()
    if worker == 0:
        _leave_the_pipe()
        # Threads or exit hooks of the user's libraries must not keep a finished worker alive.
        code = _train(Path(told[0])) if verb == "train" else _score(*told)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    if verb == "score":
        os.close(int(told[0]))  # the worker's alone: when it ends, the line is cut
    _guard(worker)


def _train(task: Path) -> int:
    from everfit.adapters.fitting import work  # noqa: PLC0415 - heavy: only the worker may import it

    return work(task)


def _score(number: str, bound: str, idle: str) -> int:
    os.set_inheritable(int(number), False)
    from everfit.adapters.answering import stay  # noqa: PLC0415 - heavy: only the worker may import it

    return stay(int(number), int(bound), float(idle))


def _leave_the_pipe() -> None:
    """Lead a group of one's own, die with the warden (Linux; elsewhere the pipe sees to it), read nothing."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        death_of_parent = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_of_parent, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _guard(worker: int) -> None:
    def on_end() -> None:
        # Not reaped yet, so that its group's number cannot be given to anybody else before the group is
        # killed.
        os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
        _kill_group(worker)
        _, status = os.waitpid(worker, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)

    threading.Thread(target=on_end, daemon=True).start()
    while os.read(0, 1024):
        continue
    _kill_group(worker)
    os._exit(1)


def _kill_group(leader: int) -> None:
    for kill in (os.killpg, os.kill):  # the second: the worker may not lead its group yet
        try:
            kill(leader, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
