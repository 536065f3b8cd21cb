"""A request that waits for its answer, and the answer's way back to it.

Takes a body that can be read in two ways; gives records and what is done with their results; never reads a body itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Protocol

from everfit.serve.canary import Lent
from everfit.serve.plain import Layout, Plain
from everfit.serve.protocol import Answered, Asked


class Ask(Protocol):
    """A request's body: plain rows if it has them, else a frame. Both raise `Refused`."""

    def plain(self, layout: Layout) -> Plain | None:
        """The rows, where they are plain."""
        ...

    def asked(self, names: Sequence[str]) -> Asked:
        """The rows as a frame."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request that waits for its answer."""

    ask: Ask
    answer: asyncio.Future[Answered]
    began: float
    version: str | None  # which must answer, if the client says so
    lent: Lent | None = None  # what the challenger said, when it comes back from there


Result = tuple[Call, Answered | Exception]


def resolve(results: list[Result]) -> None:
    """Tell the callers, in their event loop."""
    for call, result in results:
        if call.answer.done():  # the client went away, or the batch failed after this one was answered
            continue
        if isinstance(result, Exception):
            call.answer.set_exception(result)
        else:
            call.answer.set_result(result)


def after(safe: Future[int], results: list[Result]) -> list[Result]:
    """Results of which the log says that they are safe, or why they are not."""
    error = safe.exception()
    if isinstance(error, Exception):
        return [(call, error) for call, _ in results]
    return [(call, numbered(result, safe.result())) for call, result in results]


def numbered(result: Answered | Exception, number: int | None) -> Answered | Exception:
    """A result with the number under which the journal keeps it."""
    return replace(result, number=number) if isinstance(result, Answered) else result


def part_of(answered: Answered, first: int, upto: int) -> Answered:
    """The answer to some of the rows."""
    lists: list[list[Any]] = [answered.ids, answered.predictions, answered.scores]
    ids, predictions, scores = (each[first:upto] for each in lists)
    return Answered(answered.face, ids, predictions, scores, None, answered.scored)
