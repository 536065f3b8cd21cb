"""When to train, on which rows, and which kept model serves: the default policy.

Takes everything that happened to the bench so far (models, runs, who served, scores of matured windows); gives one
`Move` with its sentences and numbers; never acts, and keeps nothing between two calls: the interval, the budget, the
judging of runs and the alarm are read anew from the facts each time, so that live and replay are the same code.

The policy was found by replay over streams of many kinds (docs/why/0023): which rows a model is trained on and which
kept model serves matter more than when to train.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from everfit.decide.bench_options import BenchOptions
from everfit.decide.bench_reads import (
    Ageing,
    Fall,
    Floats,
    Gain,
    Ints,
    Member,
    Rows,
    ageing,
    fall,
    gain,
    values,
)
from everfit.errors import UsageError

OTHER = {Rows.ALL: Rows.RECENT, Rows.RECENT: Rows.ALL}
PAUSES = (2, 4, 8)  # runs between two tries of the range that does not lead; the last one goes on


class Why(StrEnum):
    """What asked for a run."""

    ALARM = "alarm"  # the served score fell
    FOLLOW_UP = "follow-up"  # an alarm's run had mostly old rows
    INTERVAL = "interval"  # the time that past runs' gains ask for has passed


@dataclass(frozen=True, slots=True)
class Run:
    """One training run, whatever became of it."""

    window: int  # at whose end it was started
    why: Why
    rows: Rows
    replaced: int  # place of the member that served then
    made: int | None  # place of the member that it made; None: it failed, or was blocked
    change: int | None = None  # alarm: the last window before the fall
    leader: Rows | None = None  # the range that led then


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Everything that the policy rests on, up to the end of window `now`."""

    members: tuple[Member, ...]  # in the order of their training; the first is the first model
    runs: tuple[Run, ...]  # in order
    served: Ints  # (now + 2,): place of the member that served in each window, -1 before the first; last: serves next
    scores: Floats  # (members, now + 1): score by window; NaN: labels not matured, or not later than its rows
    halves: Floats | None  # (members, now + 1, 2): the same on even and on odd rows
    matured: Ints  # (now + 1,): at the end of each window, the last one whose labels had matured
    now: int  # the window that just ended
    barred: frozenset[int] = frozenset()  # places of members that may not be chosen, whatever their scores
    labelled: Ints | None = None  # (now + 1,): labelled rows of each window; None: not known


@dataclass(frozen=True, slots=True)
class Train:
    """Train one model."""

    rows: Rows
    first: int  # first window of its rows
    last: int  # last window of them
    why: Why
    change: int | None  # for the run's record
    leader: Rows | None  # for the run's record
    said: str


@dataclass(frozen=True, slots=True)
class Serve:
    """Which member serves from the next window on: the one that serves, or another, without training."""

    place: int
    gain: float  # points a window that it is believed to be better by; 0: stay
    said: str


@dataclass(frozen=True, slots=True)
class Move:
    """What to do at the end of a window."""

    serve: Serve
    train: Train | None
    interval: float  # windows between two runs as of now
    budget: float  # runs saved
    fall: Fall | None  # how far the served score has fallen
    ageing: Ageing
    because: tuple[str, ...]  # a sentence each: what was judged, what waits and for what


@dataclass(frozen=True, slots=True)
class Pace:
    """The interval as past runs ask for it."""

    interval: float
    unjudged: int  # runs whose gain is not known yet
    judged: tuple[tuple[Run, Gain], ...]


def next_move(bench: Bench, options: BenchOptions) -> Move:
    """What to do at the end of window `bench.now`: train or not, and which member serves.

    Args:
        bench: the facts; scores in points of [0, 1], larger is better (`bench_reads.as_points`).
        options: what the user chose.

    Raises:
        UsageError: the facts do not fit together.

    >>> scores = np.full((1, 20), np.nan)
    >>> scores[0, 10:] = 0.8
    >>> served = np.r_[np.full(10, -1), np.zeros(11, dtype=int)]
    >>> facts = Bench((Member("first", 0, 9),), (), served, scores, None, np.arange(20), 19)
    >>> move = next_move(facts, BenchOptions())
    >>> move.train.rows.value, move.train.why.value, move.serve.place
    ('all', 'interval', 0)
    """
    _check(bench)
    start = bench.members[0].last
    labelled = int(bench.matured[-1])
    serving = int(bench.served[-1])
    pace = _pace(bench, options)
    fallen = fall(*_served(bench), _starts(bench), options)
    known = ageing(bench.scores, bench.members, labelled, options)
    tokens = _tokens(bench.now - start, [run.window - start for run in bench.runs], options)
    last = bench.runs[-1].window if bench.runs else start
    wanted, said = _wanted(fallen, bench.now - last, pace, bench.runs)
    change = fallen.change if wanted is Why.ALARM and fallen is not None else None
    held = _held(bench, pace, (tokens, change), options) if wanted else None
    train = _train(bench, wanted, (fallen, known), said, options) if wanted and held is None else None
    because = (*_judged_words(pace, options), *([said, held] if wanted and held else []))
    return Move(_serve(bench, serving, (known, options)), train, pace.interval, tokens, fallen, known, because)


def _check(bench: Bench) -> None:
    shapes = bench.scores.shape == (len(bench.members), bench.now + 1) and len(bench.matured) == bench.now + 1
    if not bench.members or not shapes or len(bench.served) != bench.now + 2:
        raise UsageError(
            f"a bench of {len(bench.members)} models at window {bench.now} needs scores of shape "
            f"({len(bench.members)}, {bench.now + 1}), and who served in windows 0 to {bench.now + 1}"
        )


def _tokens(windows: int, runs: Sequence[int], options: BenchOptions) -> float:
    """Runs saved after so many windows, of which some were spent."""
    tokens = options.start
    spent = np.bincount(np.array(runs, dtype=np.int64), minlength=windows + 1) if runs else np.zeros(windows + 1)
    for window in range(1, windows + 1):
        # What the run of this window took is taken after the window's share came, as the move did it.
        tokens = min(options.saved, tokens + options.budget)
        if window < windows:
            tokens -= float(spent[window])
    return tokens


def _served(bench: Bench) -> tuple[Floats, Floats | None]:
    """The served score by window, and its halves."""
    windows = np.arange(bench.now + 1)
    places = bench.served[: bench.now + 1]
    score = np.where(places >= 0, bench.scores[places, windows], np.nan)
    return score, None if bench.halves is None else bench.halves[places, windows]


def _starts(bench: Bench) -> list[int]:
    """Where the level may be read: after the last alarm's run and after each run since."""
    at = max((place for place, run in enumerate(bench.runs) if run.why is Why.ALARM), default=None)
    if at is None:
        return [bench.members[0].last, *(run.window for run in bench.runs)]
    return [run.window for run in bench.runs[at:]]


def _pace(bench: Bench, options: BenchOptions) -> Pace:
    """Walk through the windows: each run is judged as soon as it could be, and moves the interval."""
    walk = _Walk(float(options.recent), bench.members[0].last)
    runs = iter(bench.runs)
    coming = next(runs, None)
    for window in range(walk.last + 1, bench.now + 1):
        walk.judge(bench, window, options)
        while coming is not None and coming.window <= window < bench.now:
            walk.begin(coming, options)
            coming = next(runs, None)
    return Pace(walk.interval, len(walk.waiting), tuple(walk.judged))


@dataclass(slots=True)
class _Walk:
    """The interval on its way through the windows."""

    interval: float
    last: int  # window of the last run
    in_vain: int = 0  # runs in a row that did not pay
    waiting: list[tuple[Run, int]] = field(default_factory=list)  # with the windows since the run before
    judged: list[tuple[Run, Gain]] = field(default_factory=list)

    def judge(self, bench: Bench, window: int, options: BenchOptions) -> None:
        """At the end of a window: let every run that can be judged move the interval."""
        for run, gap in list(self.waiting):
            found = _judge(bench, run, gap, (window, window - self.last >= self.interval), options)
            if found is None:
                continue
            self.waiting.remove((run, gap))
            self.judged.append((run, found))
            if run.why is not Why.ALARM:  # that one had few rows of its own: its follow-up comes whatever it brought
                paid = (found.mean - options.sure * found.error) * gap > options.price
                self.in_vain = 0 if paid else self.in_vain + 1
                self.interval = _moved(self.interval, self.in_vain, options)

    def begin(self, run: Run, options: BenchOptions) -> None:
        """A run is started."""
        if run.why is Why.ALARM:  # what came before was of another time: it is not judged any more
            self.interval, self.in_vain, self.waiting = float(options.follow_up), 0, []
        elif run.why is Why.FOLLOW_UP:
            self.interval = max(self.interval, float(options.shortest))
        if run.made is not None:
            self.waiting.append((run, run.window - self.last))
        self.last = run.window


def _moved(interval: float, in_vain: int, options: BenchOptions) -> float:
    if in_vain == 0:
        return max(float(options.shortest), interval / options.sooner)
    factor = options.later * (options.much_later if in_vain > 1 else 1.0)
    return min(float(options.longest), factor * interval)


def _judge(bench: Bench, run: Run, gap: int, at: tuple[int, bool], options: BenchOptions) -> Gain | None:
    """The run's gain on what was labelled at that window; None while it is too early."""
    assert run.made is not None
    window, due = at
    first, end = bench.members[run.made].last + 1, int(bench.matured[window]) + 1
    many = end - first
    if many < 2 or (many < min(options.judge_after, gap) and not due):
        return None
    return gain(bench.scores, bench.halves, run.made, run.replaced, (first, end))


def _wanted(fallen: Fall | None, since: int, pace: Pace, runs: Sequence[Run]) -> tuple[Why | None, str]:
    """What asks for a run now, and the sentence."""
    after = "the last run" if runs else "the first model"
    if fallen is not None and fallen.lost >= fallen.line and since >= 2:
        return Why.ALARM, (
            f"the score fell {_points(fallen.lost)} point-windows below its level of {fallen.level:.3f} "
            f"(line {_points(fallen.line)})"
        )
    if since < pace.interval:
        return None, ""
    if runs and runs[-1].why is Why.ALARM:
        return Why.FOLLOW_UP, f"{since} windows of fresher rows have come since the alarm's run"
    return Why.INTERVAL, f"{since} windows have passed since {after}, the interval is {pace.interval:.0f}"


def _held(bench: Bench, pace: Pace, budget: tuple[float, int | None], options: BenchOptions) -> str | None:
    """Why a wanted run must wait, if so. `budget` is what is saved, and the change that an alarm saw."""
    tokens, change = budget
    labelled, newest = int(bench.matured[-1]), bench.members[-1].last
    if labelled <= newest:
        return "no labels have come since the rows of the last model"
    if change is not None and labelled - change < options.fewest:
        return f"an alarm is open; labels of {options.fewest} windows since the change are needed to train on"
    if pace.unjudged >= options.unjudged:
        return f"{pace.unjudged} runs wait to be judged"
    if tokens < 1:
        wait = int(np.ceil((1 - tokens) / options.budget))
        return f"the next run is within budget in {wait} window{'s' if wait > 1 else ''}"
    return None


def _train(bench: Bench, why: Why | None, read: tuple[Fall | None, Ageing], said: str, options: BenchOptions) -> Train:
    """On which rows to train."""
    assert why is not None
    fallen, known = read
    labelled = int(bench.matured[-1])
    alarms = [run for run in bench.runs if run.why is Why.ALARM]
    change = fallen.change if why is Why.ALARM and fallen is not None else (alarms[-1].change if alarms else None)
    unsettled = why is Why.ALARM or (bool(alarms) and bench.now - alarms[-1].window <= options.unsettled)
    rows = _rows(bench, labelled - change if unsettled and change is not None else None, known, options)
    if unsettled and rows is not Rows.CHANGE:
        rows = Rows.RECENT
    recent = max(0, labelled - options.recent + 1)
    first = {Rows.ALL: 0, Rows.RECENT: recent, Rows.CHANGE: recent if change is None else change + 1}[rows]
    words = f"{said}: training on {_rows_words(rows, labelled - first + 1)}{_leader_words(rows, known)}"
    return Train(rows, first, labelled, why, change if why is Why.ALARM else None, known.leader, words)


def _rows(bench: Bench, since_change: int | None, known: Ageing, options: BenchOptions) -> Rows:
    """Rows since the change while there are few; else the range that leads, the other one being tried at times."""
    if since_change is not None and options.fewest <= since_change < options.recent:
        return Rows.CHANGE
    tried = [run.rows for run in bench.runs if run.made is not None and run.rows is not Rows.CHANGE]
    for never in (Rows.ALL, Rows.RECENT):
        if never not in tried:
            return never
    leader = known.leader or Rows.RECENT
    return OTHER[leader] if _other_is_due(bench.runs, leader) else leader


def _other_is_due(runs: Sequence[Run], leader: Rows) -> bool:
    """Whether the other range is tried again: after 2, 4, 8, 8 runs; from 2 again when the leader changes."""
    since, tries, led = 0, 0, None
    for run in runs:
        if run.leader is not led and run.leader is not None:
            since, tries, led = 0, 0, run.leader
        elif led is not None and run.rows is OTHER[led]:
            since, tries = 0, tries + 1
        else:
            since += 1
    return led is leader and since >= PAUSES[min(tries, len(PAUSES) - 1)]


def _serve(bench: Bench, serving: int, read: tuple[Ageing, BenchOptions]) -> Serve:
    """Free at every window: the member of the largest value, if it beats the one that serves by the margin."""
    found = values(bench.scores, bench.members, serving, int(bench.matured[-1]), read)
    found[list(bench.barred - {serving})] = np.nan
    best = int(np.nanargmax(found))
    worth = float(found[best])
    if best == serving or worth <= read[1].margin:
        return Serve(serving, 0.0, f"{bench.members[serving].called} stays")
    words = f"{bench.members[best].called} beats {bench.members[serving].called} by {_points(worth)} points"
    return Serve(best, worth, f"{words} on recent windows: it serves, no training")


def _judged_words(pace: Pace, options: BenchOptions) -> Iterator[str]:
    if not pace.judged:
        return
    run, found = pace.judged[-1]
    sure = found.mean - options.sure * found.error
    yield (
        f"the run of window {run.window} gained {_points(found.mean)} points a window over {found.windows} windows "
        f"(surely {_points(sure)}; a run costs {_points(options.price)} in all): the interval is {pace.interval:.0f}"
    )


def _rows_words(rows: Rows, windows: int) -> str:
    return {
        Rows.ALL: f"all {windows} windows",
        Rows.RECENT: f"the last {windows} windows",
        Rows.CHANGE: f"the {windows} windows since the change",
    }[rows]


def _leader_words(rows: Rows, known: Ageing) -> str:
    if rows is not known.leader or abs(known.all_over_recent) < 0.0005:
        return ""
    better, worse = ("all", "recent") if rows is Rows.ALL else ("recent", "all")
    return f"; models of {better} rows score {_points(abs(known.all_over_recent))} points above those of {worse} rows"


def _points(score: float) -> str:
    return f"{100 * score:.1f}"
