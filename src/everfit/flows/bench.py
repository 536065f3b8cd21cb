"""The bench, live: its windows, what every kept model scores on them, and the facts that its policy rests on.

Takes where a model stands and its options; gives the window that is due, the fact of its scores, and the `Bench` of
`everfit.decide.bench`; never decides. All of it follows from the ledger, so that a decision can be taken again.

Windows of the bench are numbered as in a backtest: the first model's rows are windows 0 to `recent` - 1, and from the
window on in which it went live they are groups of `every` closed windows of the watch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from everfit.decide.bench import Bench, Run
from everfit.decide.bench_options import BenchOptions
from everfit.decide.bench_reads import Floats, Member
from everfit.decide.decision import BenchRun, Recall
from everfit.decide.history import History, WindowRecord
from everfit.facts import RecallBegan
from everfit.lifecycle import State
from everfit.observe.options import Observing, Rows
from everfit.observe.window import Span
from everfit.standing import Kept, Standing

CALLABLE = (State.BENCHED, State.KEPT_BACK, State.PROVEN, State.RETIRED)  # the others are under way, or were taken back


@dataclass(frozen=True, slots=True)
class Turn:
    """One window of the bench that has ended."""

    number: int
    span: Span
    champion: str | None  # candidate that served in its last window
    scored: bool  # its scores stand in the ledger
    mature: bool  # all of its labels have come


@dataclass(frozen=True, slots=True)
class Turns:
    """All windows of the bench that have ended since the first model went live, oldest first."""

    base: int  # number of the first one
    every: int  # windows of the watch in each, from the last scored one on
    found: tuple[Turn, ...]

    @property
    def due(self) -> Turn | None:
        """The next one to be scored, if all of its labels are mature."""
        coming = next((turn for turn in self.found if not turn.scored), None)
        return coming if coming is not None and coming.mature else None

    def last_before(self, moment: datetime) -> int:
        """Number of the last window that has rows before a moment: `base` - 1 where they are older than all."""
        return self.base - 1 + bisect_left([turn.span.start for turn in self.found], moment)


def turns_of(standing: Standing, options: BenchOptions, observe: Observing | None = None) -> Turns | None:
    """The windows of the bench so far; None before a first model went live.

    Args:
        standing: where the model stands; what was scored keeps its number and its span.
        options: `recent` and `every` count for what is not scored yet.
        observe: how the watch cuts windows; needed until the first one was scored, to know how many make one.
    """
    if not standing.releases:
        return None
    scored = [fact for fact, _ in standing.scored]
    every = options.every or (scored[-1].every if scored else _every(standing, options, observe))
    base = scored[0].number if scored else options.recent
    records = standing.history.windows
    ends = {record.span.end: record.champion for record in records}
    done = [Turn(fact.number, fact.span, ends.get(fact.span.end), True, True) for fact in scored]
    since = scored[-1].span.end if scored else None
    left = [record for record in records if since is None or record.span.start >= since]
    for place in range(0, len(left) - every + 1, every):
        done.append(_turn(base + len(done), left[place : place + every]))
    return Turns(base, every, tuple(done))


def _turn(number: int, records: Sequence[WindowRecord]) -> Turn:
    span = Span(records[0].span.start, records[-1].span.end)
    mature = all(record.mature is not None for record in records)
    return Turn(number, span, records[-1].champion, scored=False, mature=mature)


def _every(standing: Standing, options: BenchOptions, observe: Observing | None) -> int:
    """So many windows that the first model learned from `recent` of the bench's: the policy was measured like that."""
    first = standing.bench[standing.releases[0][1].candidate]
    if observe is None:
        return 1
    if isinstance(observe.window, Rows):
        learned = first.candidate.train_rows / observe.window.rows
    else:
        learned = (first.recipe.train.end - first.recipe.train.start) / observe.window
    return max(1, round(learned / options.recent))


# ---- the facts of the policy -----------------------------------------------------------------------------------------
def with_bench(standing: Standing, options: BenchOptions) -> History:
    """The history, with the bench as of its last scored window."""
    return replace(standing.history, bench=bench_of(standing, options))


def bench_of(standing: Standing, options: BenchOptions) -> Bench | None:
    """Everything that the policy of the bench rests on; None before a window of it was scored.

    It changes with every scored window and stays the same between two of them, save for what was begun since.
    """
    turns = turns_of(standing, options)
    if turns is None or not standing.scored:
        return None
    newest, serves = standing.scored[-1]
    kept = _in_order(standing)
    members = tuple(member_of(each, standing, turns) for each in kept)
    places = {member.key: place for place, member in enumerate(members)}
    scores, halves = _scores(standing, members, places)
    served = np.full(newest.now + 2, -1, dtype=np.int64)
    for turn in turns.found:
        if turn.number <= newest.now:
            served[turn.number] = places.get(turn.champion or "", -1)
    served[-1] = places.get(serves or "", 0)
    matured = np.full(newest.now + 1, turns.base - 1, dtype=np.int64)
    labelled = np.zeros(newest.now + 1, dtype=np.int64)
    for fact, _ in standing.scored:
        matured[fact.now :] = fact.number
        labelled[fact.number] = fact.labelled
    runs = tuple(_run(standing, record.run, record.bench, places) for record in standing.history.runs if record.bench)
    facts = Bench(members, runs, served, scores, halves, matured, newest.now)
    barred = {place for place, each in enumerate(kept) if why_barred(standing, each, facts, options)}
    return replace(facts, barred=frozenset(barred), labelled=labelled)


def _in_order(standing: Standing) -> list[Kept]:
    """Every trained model in the order of training; the first champion is the first."""
    first = standing.releases[0][1].candidate
    return [standing.bench[first], *(kept for key, kept in standing.bench.items() if key != first)]


def member_of(kept: Kept, standing: Standing, turns: Turns) -> Member:
    """A kept model as the policy sees it: which windows of the bench it learned from."""
    name = f"version {kept.version}" if kept.version else ""
    asked = next((record.bench for record in standing.history.runs if record.run == kept.run), None)
    if asked is not None:
        return Member(kept.candidate.id, asked.first, asked.last, asked.rows, name)
    first = standing.bench[standing.releases[0][1].candidate]
    if kept is first:
        return Member(kept.candidate.id, 0, turns.base - 1, None, name)
    begin, last = turns.last_before(kept.recipe.train.start), turns.last_before(kept.recipe.train.end)
    return Member(kept.candidate.id, begin if begin >= turns.base else 0, last, None, name)


def _run(standing: Standing, run: str, asked: BenchRun, places: Mapping[str, int]) -> Run:
    made = next((places[key] for key, kept in standing.bench.items() if kept.run == run), None)
    return Run(asked.window, asked.why, asked.rows, places.get(asked.replaced, 0), made, asked.change, asked.leader)


def _scores(standing: Standing, members: Sequence[Member], places: Mapping[str, int]) -> tuple[Floats, Floats]:
    """Points by member and window, and on both halves of its rows; readings of another metric do not count."""
    facts = [fact for fact, _ in standing.scored]
    newest = facts[-1]
    unit = _unit(standing)
    points = np.full((len(members), newest.now + 1, 3), np.nan)
    alike = [fact for fact in facts if fact.metric == newest.metric and (unit or fact.greater_is_better)]
    read = [(places[name], fact.number, levels) for fact in alike for name, levels in fact.levels.items()]
    if read:
        which, windows, levels = zip(*read, strict=True)
        found = np.array(levels, dtype=np.float64)  # None becomes NaN
        points[which, windows] = found if newest.greater_is_better else 1.0 - found / (unit or 1.0)
    lasts = np.array([member.last for member in members])
    points[np.arange(newest.now + 1)[None, :] <= lasts[:, None]] = np.nan
    return points[:, :, 0], points[:, :, 1:]


def _unit(standing: Standing) -> float | None:
    """The loss that is worth one point, of the metric that counts now; None for a gain, or before there were labels."""
    facts = [fact for fact, _ in standing.scored]
    return next((fact.unit for fact in facts if fact.metric == facts[-1].metric and fact.unit), None)


# ---- who may be recalled ---------------------------------------------------------------------------------------------
def why_barred(standing: Standing, kept: Kept, bench: Bench, options: BenchOptions) -> str:
    """Why a model may not be recalled by itself; empty if it may, or if it serves."""
    key = kept.candidate.id
    place = _place(bench, key)
    serving, labelled = int(bench.served[-1]), int(bench.matured[-1])
    if place == serving:
        return ""
    if kept.state not in CALLABLE or kept.version == 0:
        return f"it is {kept.state.value.replace('_', ' ')}"
    newest = standing.scored[-1][0]
    if newest.number > bench.members[place].last and key not in newest.levels:
        return newest.failed.get(key, "it was not scored on the last window: it is new, or its files are gone")
    together = np.isfinite(_after_both(bench, place, serving, options.look))
    if not together.any():
        return "no scored window came after it and the champion were trained"
    for record in reversed(standing.history.recalls):
        if record.candidate == key and record.outcome in {"kept_back", "failed"}:
            until = record.window + max(1, record.windows)
            return f"it was kept back at window {record.window}, until window {until}" if labelled < until else ""
    return ""


def _place(bench: Bench, candidate: str) -> int:
    return next(n for n, member in enumerate(bench.members) if member.key == candidate)


def _after_both(bench: Bench, place: int, serving: int, look: int) -> Floats:
    """Difference of scores in the last `look` windows whose labels matured; NaN where one was not scored."""
    labelled = int(bench.matured[-1])
    apart: Floats = (bench.scores[place] - bench.scores[serving])[max(0, labelled - look + 1) : labelled + 1]
    return apart


def began_of(standing: Standing, decision: Recall, options: BenchOptions, better_by: float) -> RecallBegan:
    """The first fact of a recall: against whom, on which windows, and by how much it must be better.

    Args:
        standing: where the model stands.
        decision: the recall.
        options: for the margin, and how far back both are compared.
        better_by: what the judge demands besides, in the metric's own unit.
    """
    bench = bench_of(standing, options)
    assert bench is not None  # without one nothing is recalled
    place = _place(bench, decision.candidate)
    serving, newest = int(bench.served[-1]), standing.scored[-1][0]
    windows = int(np.isfinite(_after_both(bench, place, serving, options.look)).sum())
    demanded = better_by if newest.greater_is_better else better_by / (_unit(standing) or 1.0)
    return RecallBegan(
        decision.candidate, bench.members[serving].key, newest.number, windows,
        gain=decision.because[0].value or 0.0, margin=max(options.margin, demanded), because=decision.because,
    )  # fmt: skip


def spans_for(standing: Standing, began: RecallBegan, look: int) -> list[Span]:
    """The bench's windows that prove a recall: scored up to its decision, after the rows of both models."""
    scored = [fact for fact, _ in standing.scored if began.window - look < fact.number <= began.window]
    return [fact.span for fact in scored if fact.levels.get(began.candidate) and fact.levels.get(began.against)]


# ---- rows of a run ---------------------------------------------------------------------------------------------------
def span_of_rows(asked: BenchRun, turns: Turns, observe: Observing, times: pl.Series) -> Span:
    """Event time of the rows that a run of the bench learns from.

    Args:
        asked: its windows.
        turns: the bench's windows.
        observe: how the watch cuts windows.
        times: event times of all rows, in order; those before the first model went live are cut by them.
    """
    end = turns.found[asked.last - turns.base].span.end
    first: datetime = times[0]
    if asked.first >= turns.base:
        return Span(turns.found[asked.first - turns.base].span.start, end)
    begin, back = turns.found[0].span.start, (turns.base - asked.first) * turns.every
    if asked.first == 0:
        return Span(first, end)
    if isinstance(observe.window, timedelta):
        return Span(max(first, begin - back * observe.window), end)
    place = int(times.search_sorted(begin)) - back * observe.window.rows
    return Span(times[max(0, place)], end)
