"""The challenger's process: `python -m everfit.serve.child QUESTIONS ANSWERS PARENT`.

Takes a loader, a published model and rows over one socket; gives scores over another; never outlives the server
that started it, and is the first that the system ends when memory runs out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from everfit.clock import ticks
from everfit.errors import ModelUnusable
from everfit.observe.intake import Rules
from everfit.ports import Predictor
from everfit.serve.model import Loaded, load_published
from everfit.serve.plain import Layout, Stack
from everfit.serve.wire import Rows, Scores, pack_scores, receive, send, unpack_rows

_NO_TIMES = np.zeros(0, dtype=np.int64)


def main() -> None:
    """Load what the first frame names, then answer frame after frame until the server is gone."""
    _end_with(int(sys.argv[3]))
    questions, answers = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    for each in (questions, answers):  # whatever the server does with its ends, these wait
        each.setblocking(True)
    first = receive(questions)
    if first is None:
        return
    told = orjson.loads(first[1][0])
    sys.path[:] = told["path"]
    try:
        loaded = load_published(Path(told["folder"]), named(told["loader"]))
    except Exception as error:  # the border to models of every kind; the server must hear why
        send(answers, 0, [orjson.dumps({"error": f"{error}" or type(error).__name__})])
        return
    send(answers, 0, [orjson.dumps({"error": None})])
    layout = Layout(loaded.signature.schema, Rules(loaded.signature.task, target="", time=""))
    while frame := receive(questions):
        number, parts = frame
        send(answers, number, pack_scores(scored(unpack_rows(parts), loaded, layout)))


def named(loader: str) -> Callable[[Path], Predictor]:
    """A loader by its module and its name there.

    >>> named("everfit.ids:issued_id").__name__
    'issued_id'
    """
    module, _, name = loader.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]  # whatever has this name is what the server itself calls


def scored(rows: Rows, loaded: Loaded, layout: Layout) -> Scores:
    """Score rows together, and one by one when the model fails on them: one bad row is one failure."""
    began = ticks()
    try:
        return Scores(_score(rows, loaded, layout), (), ticks() - began)
    except ModelUnusable:
        scores, failed = _one_by_one(rows, loaded, layout)
        return Scores(scores, failed, ticks() - began)


def _one_by_one(rows: Rows, loaded: Loaded, layout: Layout) -> tuple[np.ndarray, tuple[int, ...]]:
    scores = np.full((rows.count, loaded.signature.width()), np.nan)
    failed = []
    for place in range(rows.count):
        try:
            scores[place] = _score(_only(rows, place), loaded, layout)[0]
        except ModelUnusable:
            failed.append(place)
    return scores, tuple(failed)


def _score(rows: Rows, loaded: Loaded, layout: Layout) -> np.ndarray:
    if rows.frame is not None:
        return loaded.score(rows.frame)
    numbers, moments = np.asarray(rows.numbers), np.asarray(rows.moments)
    if loaded.quick is not None:
        return loaded.score_plain(numbers, rows.texts, moments)
    texts = [list(column) for column in rows.texts]
    return loaded.score(Stack(layout, numbers, texts, moments, [], _NO_TIMES, _NO_TIMES).frame())


def _only(rows: Rows, place: int) -> Rows:
    if rows.frame is not None:
        return Rows(1, frame=rows.frame[place : place + 1])
    numbers, moments = np.asarray(rows.numbers), np.asarray(rows.moments)
    texts = [[column[place]] for column in rows.texts]
    return Rows(1, numbers[place : place + 1], texts, moments[place : place + 1])


def _end_with(parent: int) -> None:
    """End when the server does, also while a model holds the interpreter; and be ended before it when memory is out."""
    if sys.platform == "linux":
        death_of_parent = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_of_parent, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    if os.getppid() != parent:  # it died before it could be tied to us
        os._exit(1)
    threading.Thread(target=_watch_the_pipe, daemon=True).start()


def _watch_the_pipe() -> None:
    # Standard input is a pipe that only the server holds: its death closes it, on every system.
    while os.read(0, 1024):
        continue
    os._exit(1)


if __name__ == "__main__":
    main()
