"""The rows of requests that are the challenger's to answer: asked aside, so that others need not wait for them.

Takes requests with the places of such rows; gives each back once, with what the challenger said of them or why it did
not; never holds one longer than the deadline, and never loses one: what comes too late is the champion's to answer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from everfit.errors import ModelUnusable
from everfit.ports import Batch
from everfit.serve.body import Body, Stacked
from everfit.serve.challenger import Failed, Failing
from everfit.serve.counts import Counts
from everfit.serve.plain import Portion, joined
from everfit.serve.predict import VARIANT as CHAMPION
from everfit.serve.predict import Current
from everfit.serve.protocol import Answered, Face
from everfit.serve.rival import VARIANT, Rival, Said, shadow_rows
from everfit.serve.serving import Trying

RECENT = 512  # requests that the champion's p99 is taken from
AGAIN = 64  # requests after which it is taken anew


class Pace:
    """How long a request waits for the challenger: as long as the slowest percent does for the champion, and more."""

    def __init__(self, trying: Trying) -> None:
        self._trying = trying
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._count = 0
        self.wait = trying.wait

    def add(self, seconds: float) -> None:
        """The champion answered a request in so many seconds."""
        self._recent.append(seconds)
        self._count += 1
        if self._count % AGAIN == 0:
            p99 = sorted(self._recent)[int(0.99 * (len(self._recent) - 1))]
            self.wait = min(max(self._trying.wait, self._trying.slower * p99), self._trying.hang)


@dataclass(frozen=True, slots=True)
class Lent:
    """A request of which some rows are the challenger's."""

    now: Current  # under which it was read
    rival: Rival
    body: Body  # all its rows
    places: Sequence[int]  # those of the challenger
    before: float = 0.0  # seconds that it had waited and was read for when it was lent
    said: Said | None = None  # of those rows, once it was asked

    def rest(self) -> list[int]:
        """The rows that the champion must answer."""
        answered = set(self._answered())
        return [place for place in range(len(self.body.ids)) if place not in answered]

    def untried(self) -> list[int]:
        """The rows that never were the challenger's."""
        lent = set(self.places)
        return [place for place in range(len(self.body.ids)) if place not in lent]

    def finished(self, champion: np.ndarray, took: float, waited: float) -> tuple[Answered, list[Batch | Portion]]:
        """The answer, with the champion's scores of the rest, and what the logs keep.

        A row's latency is what it would be if its model were the only one: what came `before`, and the seconds that
        its model scored for (`took`: the champion). The way to another process and back is nobody's. A row that the
        challenger failed on has `waited`, as its client has: the shadow table says why.
        """
        rest, answered = self.rest(), self._answered()
        lent = set(self.places)
        parts: list[Batch | Portion] = []
        sides: list[tuple[list[int], np.ndarray, Face]] = [(rest, champion, self.now.face)]
        if rest:
            latencies = [1000 * (waited if place in lent else self.before + took) for place in rest]
            parts.append(self.body.take(rest).part(champion, self.now.face, CHAMPION, latencies))
        if answered and self.said is not None and self.said.scores is not None:
            good = [at for at, why in enumerate(self.said.failed) if why is None]
            scores = self.said.scores[good]
            sides.append((answered, scores, self.rival.face))
            mine = self.body.take(answered)
            latency = 1000 * (self.before + self.said.scored)
            parts.append(mine.part(scores, self.rival.face, VARIANT, [latency] * len(answered)))
        return _together(self.body.ids, sides), [*parts, *self.missed()]

    def _answered(self) -> list[int]:
        if self.said is None or self.said.scores is None:
            return []
        return [place for place, why in zip(self.places, self.said.failed, strict=True) if why is None]

    def missed(self) -> list[Batch]:
        """The shadow table's rows for what the challenger failed on, if it is to blame."""
        said = self.said
        if said is None:
            return []
        bad = [at for at, why in enumerate(said.failed) if why]
        if not bad:
            return []
        failed = Said([said.failed[at] for at in bad], took=said.took)
        return [shadow_rows(self.body.take([self.places[at] for at in bad]), self.rival, failed)]


def _together(ids: list[str], sides: Sequence[tuple[list[int], np.ndarray, Face]]) -> Answered:
    """Answers of two models in the order of the rows. Where both answered, each row's version is told."""
    none: list[Any] = [None]
    predictions, scores, versions = (none * len(ids) for _ in range(3))
    used = [side for side in sides if side[0]] or [sides[0]]
    for places, found, face in used:
        for place, prediction, score in zip(places, face.predictions(found), face.scores(found), strict=True):
            predictions[place], scores[place], versions[place] = prediction, score, face.version
    face = used[0][2]
    if len(used) > 1:
        face = replace(face, told={**face.told, "versions": versions})
    return Answered(face, ids, predictions, scores)


@dataclass(frozen=True, slots=True)
class _Waiting:
    lent: Lent
    back: Callable[[Lent], None]


def _alike(waiting: _Waiting) -> int:
    return id(waiting.lent.now if isinstance(waiting.lent.body, Stacked) else waiting)


class Canary:
    """Start it once, close it once; `lend` may be called from any thread."""

    def __init__(self, pace: Pace, counts: Counts, most_rows: int) -> None:
        """Say how long to wait, where to count, and how many rows to ask about at once."""
        self._pace, self._counts, self._most = pace, counts, most_rows
        self._queue: deque[_Waiting] = deque()
        self._change = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="everfit-canary", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def lend(self, lent: Lent, back: Callable[[Lent], None]) -> bool:
        """Take a request and call `back` with it once; False if this is closed, and nothing was taken."""
        with self._change:
            if self._closing:
                return False
            self._queue.append(_Waiting(lent, back))
            self._change.notify()
            return True

    def close(self) -> None:
        """Give everything back, and end."""
        with self._change:
            self._closing = True
            self._change.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while taken := self._take():
            # What waits together is asked together, as for the champion.
            for _, alike in groupby(taken, key=_alike):
                self._ask(list(alike))

    def _take(self) -> list[_Waiting]:
        with self._change:
            self._change.wait_for(lambda: self._queue or self._closing)
            taken: list[_Waiting] = []
            rows = 0
            while self._queue and (not taken or rows < self._most):
                taken.append(self._queue.popleft())
                rows += len(taken[-1].lent.places)
            return taken

    def _ask(self, group: list[_Waiting]) -> None:
        rival, counts = group[0].lent.rival, self._counts
        bodies = [each.lent.body.take(each.lent.places) for each in group]
        count = sum(len(each.lent.places) for each in group)
        try:
            said = ask(rival, together(bodies), self._pace.wait)
        except Exception:  # whatever it is, every request must be answered
            said = Said([Failing.ERROR] * count)
        if good := sum(why is None for why in said.failed) if said.scores is not None else 0:
            counts.scored(rival.face.version, VARIANT, len(group), good, said.took)
        at = 0
        for each in group:
            upto = at + len(each.lent.places)
            scores = None if said.scores is None else said.scores[at:upto]
            mine = replace(said, failed=said.failed[at:upto], scores=scores)
            for why in filter(None, mine.failed):
                counts.missed(rival.face.version, why)
            each.back(replace(each.lent, said=mine))
            at = upto


def ask(rival: Rival, body: Body, wait: float) -> Said:
    """Ask a challenger about rows; what it failed on has a word, or null where it is not to blame."""
    rows = body.rows(rival.names)
    try:
        found = rival.challenger.ask(rows, wait)
    except Failed as failed:
        return Said([failed.why] * rows.count, took=wait if failed.why is Failing.TIMEOUT else 0.0)
    words: list[str | None] = [None] * rows.count
    for place in found.failed:
        words[place] = Failing.ERROR
    return Said(words, found.scores, found.took, found.scored)


def together(bodies: Sequence[Body]) -> Body:
    """Rows of several requests of one layout as one."""
    if len(bodies) == 1:
        return bodies[0]
    return Stacked(joined([body.stack for body in bodies if isinstance(body, Stacked)]))


def champion_scores(group: Sequence[Lent]) -> list[np.ndarray | ModelUnusable]:
    """The champion's scores of the rest of each request: together, and one by one when it fails on them."""
    lists = [lent.rest() for lent in group]
    bodies = [lent.body.take(rest) for lent, rest in zip(group, lists, strict=True)]
    model = group[0].now.served.model
    if len(group) > 1 and all(isinstance(body, Stacked) for body in bodies):
        try:
            whole = together(bodies).score(model) if any(lists) else np.zeros((0, model.signature.width()))
        except ModelUnusable:
            return [each for lent in group for each in champion_scores([lent])]
        ends = np.cumsum([len(rest) for rest in lists])[:-1]
        return list(np.split(whole, ends))
    return [_scores_or_error(body, rest, lent) for body, rest, lent in zip(bodies, lists, group, strict=True)]


def _scores_or_error(body: Body, rest: list[int], lent: Lent) -> np.ndarray | ModelUnusable:
    model = lent.now.served.model
    if not rest:
        return np.zeros((0, model.signature.width()))
    try:
        return body.score(model)
    except ModelUnusable as error:
        return error
