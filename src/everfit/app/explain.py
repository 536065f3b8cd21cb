"""Why something happened, and the same question asked again.

Takes a version, a run or the number of a decision; gives the evidence, the lines and where each came from, and what
would have changed the answer, as plain dictionaries; never changes anything. A re-run folds the ledger up to just
before the decision, asks the policy again under the rules of that day, and measures the window again on the rows that
the lake held then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isclose
from typing import Any

import polars as pl

from everfit.app.views import reason_view, said_of, vars_of, version_view, versions_of, window_view
from everfit.app.wiring import App
from everfit.decide.again import difference
from everfit.decide.decision import Decision, Recall, Retrain
from everfit.decide.diagnose import DataBug, Diagnosis, diagnose
from everfit.decide.history import FleetRecord, History, RecallRecord, RunRecord
from everfit.decide.options import Rules, read_rules
from everfit.decide.policy import decide
from everfit.detect.signal import NotEnough, Reading
from everfit.errors import EverfitError, UsageError
from everfit.facts import (
    DataChecked,
    Decided,
    Fact,
    Judged,
    RecallBegan,
    RecallEnded,
    ReleasePlanned,
    RenewBegan,
    RenewEnded,
    StepFailed,
    WindowClosed,
)
from everfit.flows.bench import with_bench
from everfit.flows.measure import Measure
from everfit.flows.rules import rules_of
from everfit.fold import fold
from everfit.ledger import Entry
from everfit.observe.window import Span
from everfit.ports import Lake, Table
from everfit.retrain.recipe import LakeVersion
from everfit.standing import Kept, Standing, Story, run_of

INSTANT = timedelta(microseconds=1)  # what arrived at the very moment was seen


def explain(app: App, what: str | None) -> dict[str, Any]:
    """Why a version came, what became of a run, or why a decision fell; the last one where nothing is named.

    Raises:
        UsageError: there is no such decision, version or run.
    """
    standing = app.standing()
    entries = app.store.read(app.spec.model)
    number = decision_number(entries, what)
    if number is not None:
        return {"decision": decision_view(entries, number, app.spec.primary)}
    if what is None:
        return {"decision": None}
    run, kept = _run_named(standing, what)
    return _explain_run(standing, standing.stories[run]) | ({"version": version_view(kept)} if kept else {})


def _run_named(standing: Standing, what: str) -> tuple[str, Kept | None]:
    """The run that a word means: its own name, or a version or candidate that came of it."""
    if what in standing.stories:
        return what, None
    versions = versions_of(standing)
    kept = next((k for k in versions if what in (str(k.version), f"v{k.version}", k.candidate.id)), None)
    if kept is None:
        known = ", ".join(f"v{k.version}" for k in versions) or "none yet"
        raise UsageError(
            f"{what!r} is no decision, version, candidate or run of {standing.history.model}; versions: {known}; "
            "`everfit history` shows the numbers of decisions"
        )
    return kept.run, kept


def decision_number(entries: Sequence[Entry], what: str | None) -> int | None:
    """The entry that a word means: `412` or `#412`; the last decision where nothing is named; None if it means none."""
    if what is None:
        return next((entry.number for entry in reversed(entries) if entry.kind == Decided.__name__), None)
    digits = what.removeprefix("#")
    if not digits.isdigit():
        return None
    found = next((entry for entry in entries if entry.number == int(digits)), None)
    return found.number if found is not None and found.kind == Decided.__name__ else None


def decision_view(entries: Sequence[Entry], number: int, primary: str) -> dict[str, Any]:
    """One decision: what it rests on, its lines and their source, what would have changed it, what was the matter."""
    entry, fact = _decided(entries, number)
    past = fold(entries[: number - 1]).history
    decision = fact.decision
    window = next((w for w in past.windows if w.span == fact.window), None)
    return {
        "number": number,
        "at": entry.at.isoformat(),
        "kind": decision.kind,
        "window": str(fact.window) if fact.window else None,
        "because": [reason_view(reason) for reason in decision.because],
        "diagnosis": _diagnosis(diagnose(past, primary)),
        "facts": window_view(window) if window else None,
        "rules": fact.rules or None,
    }


def _decided(entries: Sequence[Entry], number: int) -> tuple[Entry, Decided]:
    entry = entries[number - 1]
    fact = entry.fact
    if not isinstance(fact, Decided):
        raise UsageError(f"entry {number} is {entry.kind}, not a decision; `everfit history` shows their numbers")
    return entry, fact


def _diagnosis(found: Diagnosis) -> dict[str, Any]:
    view: dict[str, Any] = {"kind": found.kind, "said": found.said}
    if isinstance(found, DataBug):
        view |= {"columns": found.columns, "kinds": found.kinds, "first_bad": str(found.first_bad)}
    return view


def _explain_run(standing: Standing, story: Story) -> dict[str, Any]:
    began = story.find(RenewBegan) or story.find(RecallBegan)
    checked, judged, failed = story.find(DataChecked), story.find(Judged), story.find(StepFailed)
    ended = story.find(RenewEnded) or story.find(RecallEnded)
    known: tuple[RunRecord | RecallRecord, ...] = (*standing.history.runs, *standing.history.recalls)
    verdict = judged.verdict if judged else None
    return {
        "run": story.run,
        "began": story.times[0].isoformat(),
        "because": [reason_view(reason) for reason in began.because] if began else [],
        "findings": [finding.said for finding in checked.findings] if checked else [],
        "verdict": verdict.kind if verdict else None,
        "said": ended.said if ended else failed.said if failed else None,
        "gain": vars_of(verdict.evidence.gain) if verdict and verdict.evidence.gain else None,
        "rows": verdict.evidence.rows if verdict else None,
        "gates": [vars_of(gate) for gate in verdict.gates] if verdict else [],
        "outcome": next((run.outcome for run in known if run.run == story.run), None),
        "steps": [type(fact).__name__ for fact in story.facts],
        "release": [said for fact in _release_facts(standing, story.run) if (said := said_of(fact))],
    }


def _release_facts(standing: Standing, run: str) -> list[Fact]:
    """What happened when a run's candidate was released, or in that release itself."""
    planned = [(story, story.find(ReleasePlanned)) for story in standing.stories.values()]
    return [fact for story, plan in planned if plan and run in (story.run, plan.cause) for fact in story.facts]


# ---- asked again -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Rerun:
    """What came of asking again."""

    number: int
    agrees: bool
    said: tuple[str, ...]  # what was compared with what, and the first difference


def rerun(app: App, what: str | None) -> Rerun:
    """Take a decision again from the ledger and the rows of its day, and hold both answers against each other.

    For a version or a run it is the decision that began it.

    Raises:
        UsageError: there is no such decision.
    """
    entries = app.store.read(app.spec.model)
    number = decision_number(entries, what) or _beginning(entries, _run_named(app.standing(), what)[0] if what else "")
    if number is None:
        raise UsageError(f"no decision of the ledger began {what or 'anything yet'}; `everfit history` shows numbers")
    rules, under = _rules(app, _decided(entries, number)[1])
    answer = rerun_decision(entries, number, rules)
    measured = rerun_window(entries, number, app.control().watch.measure)
    said = (under, *answer.said, *measured.said)
    return Rerun(number, answer.agrees and measured.agrees, said)


def _beginning(entries: Sequence[Entry], run: str) -> int | None:
    """The decision that began a run."""
    for entry in entries:
        fact = entry.fact if entry.kind == Decided.__name__ else None
        if isinstance(fact, Decided) and isinstance(fact.decision, Retrain | Recall) and run_of(fact.decision) == run:
            return entry.number
    return None


def _rules(app: App, fact: Decided) -> tuple[Rules, str]:
    today = rules_of(app.spec, app.functions)
    if not fact.rules:
        return today, "the rules of that day are not in the ledger: asked under today's spec"
    try:
        then = read_rules(app.store.get(fact.rules), today.functions)
    except (EverfitError, KeyError, ValueError) as error:
        return today, f"the rules of that day cannot be read ({error}): asked under today's spec"
    same = replace(then, functions={}) == replace(today, functions={})
    return then, "asked under the rules of that day" + ("" if same else "; the spec has changed since")


def rerun_decision(entries: Sequence[Entry], number: int, rules: Rules) -> Rerun:
    """Ask the policy again on the ledger as it was just before a decision."""
    entry, fact = _decided(entries, number)
    before = with_bench(fold(entries[: number - 1], model=entry.model), rules.limits.bench)
    past = _as_it_was(before, fact.decision, rules)
    again = decide(past, rules, entry.at)
    differs = difference(fact.decision, again)
    if differs:
        return Rerun(number, False, (f"the decision does not agree: {differs}",))
    return Rerun(number, True, (f"the decision agrees: {again.kind}",))


def _as_it_was(past: History, decision: Decision, rules: Rules) -> History:
    """What a decision rests on besides this ledger, as the decision itself recorded it.

    Before the first champion labelled rows are counted in the lake; other models' runs stand in their own ledgers.
    """
    first = next((r for r in decision.because if r.trigger == "first_champion"), None)
    if past.champion is None and first is not None and first.value is not None:
        past = replace(past, labels=int(first.value))
    budget = rules.limits.fleet
    fleet = next((r for r in decision.because if r.trigger == "fleet"), None)
    if budget is not None and fleet is not None and past.fleet is None:
        wishes = () if fleet.limit == budget.runs or fleet.limit is None else ((" other models", fleet.limit),)
        past = replace(past, fleet=FleetRecord(budget.runs - len(wishes), wishes))
    return past


def rerun_window(entries: Sequence[Entry], number: int, measure: Measure) -> Rerun:
    """Measure a decision's window again on the rows that the lake held when it closed."""
    _, fact = _decided(entries, number)
    closed = _closed(entries[: number - 1], fact.window)
    if closed is None:
        return Rerun(number, True, ("no window belongs to it, so nothing was measured again",))
    entry, then = closed
    before = fold(entries[: entry.number - 1], model=entry.model)
    pinned = replace(measure, lake=PinnedLake(measure.lake, then.lake, entry.at))
    now = pinned.close(before, then.span)
    differs = _readings_differ(then.readings, now.readings) or (
        f"{then.rows:,} rows were measured, {now.rows:,} are there" if then.rows != now.rows else ""
    )
    versions = f"predictions@{then.lake.predictions}, labels@{then.lake.labels}"
    if differs:
        return Rerun(number, False, (f"the window {then.span} ({versions}) does not agree: {differs}",))
    said = f"the window {then.span} agrees: {len(now.readings)} readings of {now.rows:,} rows ({versions})"
    return Rerun(number, True, (said,))


def _closed(entries: Sequence[Entry], span: Span | None) -> tuple[Entry, WindowClosed] | None:
    for entry in reversed(entries):
        if span is not None and entry.kind == WindowClosed.__name__:
            fact = entry.fact
            if isinstance(fact, WindowClosed) and fact.span == span:
                return entry, fact
    return None


def _readings_differ(then: Sequence[Reading], now: Sequence[Reading]) -> str:
    """The first reading that differs."""
    was = {(r.name, r.column): r for r in then}
    found = {(r.name, r.column): r for r in now}
    for (name, column), reading in was.items():
        if (name, column) not in found:
            return f"{name} of {column} was read and is not any more"
        if not _alike(reading, found[name, column]):
            return f"{name} of {column} was {_short(reading)} and is {_short(found[name, column])}"
    new = next((key for key in found if key not in was), None)
    return f"{new[0]} of {new[1]} was not read then" if new else ""


def _alike(a: Reading, b: Reading) -> bool:
    if isinstance(a, NotEnough) or isinstance(b, NotEnough):
        return type(a) is type(b) and a.rows == b.rows
    numbers = ((a.value, b.value), (a.low, b.low), (a.high, b.high), (a.effect, b.effect), (a.p_value, b.p_value))
    return a.rows == b.rows and all(_close(x, y) for x, y in numbers)


def _close(a: float | None, b: float | None) -> bool:
    # Sums of floats agree over any partition within 1e-9 of their size (profile.table).
    return a is b if a is None or b is None else isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _short(reading: Reading) -> str:
    return f"not enough ({reading.rows} rows)" if isinstance(reading, NotEnough) else f"{reading.value:.6g}"


@dataclass(frozen=True, slots=True)
class PinnedLake:
    """A lake as it was: `ports.Lake` for reading, at the version of a window's close."""

    lake: Lake
    then: LakeVersion
    at: datetime  # refused and shadow rows have no version of their own; those that came later are left out

    def read(
        self, table: Table, *, since: datetime | None, until: datetime | None, version: int | None = None
    ) -> pl.LazyFrame:
        """Rows of a span as they were."""
        if table is Table.REFUSED:
            last = self.at + INSTANT
            return self.lake.read(table, since=since, until=last if until is None else min(until, last))
        if table is Table.SHADOW:  # nor have these, and they are read by event time
            came = pl.col("_arrived") < self.at + INSTANT
            return self.lake.read(table, since=since, until=until).filter(came)
        pinned = self.then.predictions if table is Table.PREDICTIONS else self.then.labels
        return self.lake.read(table, since=since, until=until, version=pinned if version is None else version)

    def version(self) -> LakeVersion:
        """The pinned version."""
        return self.then

    def add(self, table: Table, rows: pl.DataFrame, *, source: str, batch: int) -> None:
        """Refused: the past is not written to."""
        raise UsageError("a lake of the past cannot be written to")

    def added(self, table: Table, source: str) -> int:
        """The last batch of a source today."""
        return self.lake.added(table, source)

    def tidy(self, before: datetime) -> int:
        """Nothing: the past is not written to."""
        return 0
