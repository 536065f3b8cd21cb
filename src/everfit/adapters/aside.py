"""A function of ours in a process of its own, beside others of its kind and out of the way of this one.

Takes a function of a module, what it is given and a question whether to go on; gives its answer; never leaves the
process behind, neither after an error, nor when this one is killed.

Threads of one process take turns with its interpreter, and a replay of live flows computes half of its time.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from everfit.errors import EverfitError, TrainingFailed

LOOK = 0.25  # seconds between two questions whether to go on
Answer = TypeVar("Answer")


def aside(work: Callable[..., Answer], given: tuple[Any, ...], go_on: Callable[[], None]) -> Answer:
    """What `work(*given)` gives. All of it goes through pickle.

    Args:
        work: a function that a module has at its top.
        given: what it is called with.
        go_on: asked four times a second; when it raises, the process is ended.

    Raises:
        EverfitError: what the function raised.
        TrainingFailed: it raised something else, or its process ended without an answer.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, work, given), daemon=True)
    process.start()
    there.close()
    try:
        while not here.poll(LOOK):
            go_on()
        told = _heard(here)
        if told is None:
            process.join()
            raise TrainingFailed(f"its process ended without an answer ({process.exitcode}); is there enough memory?")
    finally:
        process.kill()
        process.join()
        here.close()
    answer, error = told
    if error is not None:
        raise error
    found: Answer = answer
    return found


def _heard(here: Connection) -> tuple[Any, EverfitError | None] | None:
    """The answer, or the error; None when the process is gone."""
    try:
        told: tuple[Any, EverfitError | None] = here.recv()
    except EOFError:
        return None
    return told


def _answer(there: Connection, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    """The other process: Ctrl-C is for the one that asked, and its death is this one's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        death_of_parent = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_of_parent, signal.SIGKILL)
    told: tuple[Any, EverfitError | None]
    try:
        told = work(*given), None
    except EverfitError as error:
        told = None, error
    except Exception as error:  # the user's code may raise anything
        told = None, TrainingFailed(traceback.format_exception_only(error)[-1].strip())
    there.send(told)
