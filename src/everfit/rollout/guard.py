"""What may stop or reverse a roll-out: one verdict per interval, with its sentence.

Takes what an interval showed of champion and challenger, what was weighed before, options and the time; gives proceed,
hold, ask or roll back, and the state to keep; never takes silence for success.

All checks, slices and looks of one release share one promise: if the challenger is no worse than allowed, it is rolled
back for being worse in at most `false_rollbacks` of the releases. Each check owns a share of one unit of evidence, and
the guard rolls back when the sum reaches 1 / false_rollbacks: a weighted mean of evidence is evidence, whatever hangs
together with what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter

from everfit.errors import Refused, UsageError
from everfit.rollout.checks import Check, Guarding
from everfit.rollout.findings import Finding, evidence_text, finding_of, said_of, where_most
from everfit.rollout.latency import Order, log_evidence_of, weigh_latency
from everfit.rollout.sequential import (
    Floats,
    Sample,
    Weighed,
    as_one,
    knowing,
    log_evidence,
    log_sum,
    sample_of,
    weigh_apart,
    weigh_paired,
)
from everfit.units import duration_text

ALL = "*"


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What one interval showed of both models, for one check."""

    check: str  # "errors" | "latency" | "loss"
    champion: Sample | Floats  # losses or 0/1 in the check's unit; milliseconds for latency
    challenger: Sample | Floats
    slice: str = ALL  # "origin=JFK"
    paired: bool = False  # the same rows in the same order (shadow); else different rows of the same time
    effect: float = 1.0  # design effect: how many rows count as one
    earlier: bool = False  # rows of a step before, whose labels came now: evidence, and no row of this step


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One interval."""

    requests: tuple[int, int]  # answered by the champion and by the challenger (mirrored ones count)
    compared: tuple[Compared, ...] = ()


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the guard knows so far: plain numbers (`as_facts`)."""

    began: datetime  # of the release: labels of its first rows are awaited from here
    since: datetime  # of the present step
    until: datetime  # planned end of the present step
    looked: datetime | None = None
    looks: int = 0  # in the present step, as all below that is not evidence
    requests: tuple[int, int] = (0, 0)
    rows: Mapping[str, float] = field(default_factory=dict)  # check -> rows of the challenger
    weighed: Mapping[str, Weighed] = field(default_factory=dict)  # evidence of the whole release, by place
    orders: Mapping[str, Order] = field(default_factory=dict)
    usual: Mapping[str, float] = field(default_factory=dict)  # check -> the champion's level before the release
    passed_over: int = 0  # slices beyond the number that the promise was divided by
    over: str | None = None  # why it was rolled back; then nothing changes any more


@dataclass(frozen=True, slots=True)
class Proceed:
    """Nothing stands against the next step, and there was enough to see it."""

    said: str
    findings: tuple[Finding, ...]
    kind: Literal["proceed"] = "proceed"


@dataclass(frozen=True, slots=True)
class Hold:
    """Not yet: the step is still running, or it is inconclusive."""

    said: str
    findings: tuple[Finding, ...]
    kind: Literal["hold"] = "hold"


@dataclass(frozen=True, slots=True)
class Ask:
    """Inconclusive for as long as it may be: a person says promote or abort."""

    said: str
    findings: tuple[Finding, ...]
    kind: Literal["ask"] = "ask"


@dataclass(frozen=True, slots=True)
class RollBack:
    """The challenger is worse than allowed, or stayed inconclusive and the spec says abort."""

    said: str
    findings: tuple[Finding, ...]
    why: Literal["worse", "inconclusive"]
    kind: Literal["roll_back"] = "roll_back"


Verdict = Proceed | Hold | Ask | RollBack


def begin(
    now: datetime, planned: timedelta = timedelta(0), usual: Mapping[str, float] = MappingProxyType({})
) -> Guarded:
    """The state at the beginning of a release whose first step is planned to take `planned`.

    Args:
        now: The beginning.
        planned: Of the first step.
        usual: The champion's level before, by check (errors, loss): harm is then found sooner in the first look.
    """
    return Guarded(began=now, since=now, until=now + planned, usual=dict(usual))


def next_step(state: Guarded, now: datetime, planned: timedelta = timedelta(0)) -> Guarded:
    """The state at the beginning of the next step: evidence is kept, minimum evidence is asked for anew."""
    return replace(state, since=now, until=now + planned, looks=0, requests=(0, 0), rows={})


def look(state: Guarded, seen: Seen, options: Guarding, now: datetime) -> tuple[Guarded, Verdict]:
    """Take one interval into account and say what follows.

    Labels that came late are weighed in the interval in which they came: give both models' rows of equal age, or the
    model whose bad cases are known sooner looks worse.

    Args:
        state: `begin(...)`, or what the last look gave.
        seen: What came since the last look, each row once.
        options: What is compared and what is promised.
        now: The interval's end, later than the last look.

    Raises:
        Refused: a loss or latency is missing or out of bounds.
        UsageError: looked already at this time, or a check that the options do not have.

    >>> from datetime import UTC, timedelta
    >>> from everfit.rollout.sequential import rate_of
    >>> noon, hour = datetime(2026, 1, 1, 12, tzinfo=UTC), timedelta(hours=1)
    >>> options = Guarding(checks=(Check(of="errors", at_least=100),))
    >>> bad = Seen((1900, 100), (Compared("errors", rate_of(190, 1900), rate_of(40, 100)),))
    >>> look(begin(noon, hour), bad, options, noon + hour)[1].kind
    'roll_back'
    >>> look(begin(noon, hour), Seen((2000, 0)), options, noon + hour)[1].said
    'hold: errors has 0 of 100 rows; the challenger got no request in this interval; extended until 2026-01-02 13:00Z'
    """
    if state.over is not None:
        return state, RollBack(state.over, _findings(state, options), "worse")
    if state.looked is not None and now <= state.looked:
        raise UsageError(f"already looked at {state.looked}; give the next interval, with its end as `now`")
    after = _weigh(state, seen, options, now)
    findings = _findings(after, options)
    evidence, line = total_evidence(after, options), -math.log(options.false_rollbacks)
    if evidence >= line:
        worst = _worst(findings)
        told = f"{worst.said}{where_most(worst, findings, line)}"
        needed = f"evidence {evidence_text(evidence)}, {1 / options.false_rollbacks:,.0f} needed"
        verdict: Verdict = RollBack(f"rolled back: {told}; {needed}", findings, "worse")
        return replace(after, over=verdict.said), verdict
    return after, _not_worse(after, seen, options, now, findings)


def total_evidence(state: Guarded, options: Guarding) -> float:
    """Log of the evidence, over all checks and slices, that the challenger is worse somewhere; 0 = none."""
    shares, logs = [], []
    for place, check, share in _places(state, options):
        shares.append(share)
        logs.append(_evidence_at(state, place, check))
    kept = max(0.0, 1 - sum(shares))  # of places where nothing was seen yet
    return log_sum((*logs, 0.0), (*shares, kept))


def as_facts(state: Guarded) -> dict[str, Any]:
    """The state as JSON, for the ledger.

    >>> from datetime import UTC
    >>> state = begin(datetime(2026, 1, 1, tzinfo=UTC))
    >>> from_facts(as_facts(state)) == state
    True
    """
    found: dict[str, Any] = _STATE.dump_python(state, mode="json")
    return found


def from_facts(facts: Mapping[str, Any]) -> Guarded:
    """The state from what `as_facts` wrote."""
    return _STATE.validate_python(dict(facts))


_STATE = TypeAdapter(Guarded)


def _weigh(state: Guarded, seen: Seen, options: Guarding, now: datetime) -> Guarded:
    after = replace(
        state,
        looked=now,
        looks=state.looks + 1,
        requests=(state.requests[0] + seen.requests[0], state.requests[1] + seen.requests[1]),
    )
    for compared in seen.compared:
        check = options.check(compared.check)
        if compared.slice == ALL or check.slices:
            after = _weigh_one(after, compared, check, options)
    return after


def _weigh_one(state: Guarded, compared: Compared, check: Check, options: Guarding) -> Guarded:
    place = _place(compared)
    _check_manner(compared, check)
    known = {**state.weighed, **state.orders}
    if compared.slice != ALL and place not in known:
        beside = [other for other in known if other.startswith(place.split(" where ")[0] + " where ")]
        if len(beside) >= options.slices_at_most:
            return replace(state, passed_over=state.passed_over + 1)
    rows = state.rows
    if compared.slice == ALL and not compared.earlier and _is_compared(state, compared, place):
        rows = {**rows, check.of: rows.get(check.of, 0.0) + _rows(compared.challenger)}
    if check.of == "latency":
        moved = weigh_latency(
            state.orders.get(place, Order()),
            _plain(compared.champion),
            _plain(compared.challenger),
            slower=check.allowed.relative,
            slack=check.slack / timedelta(milliseconds=1),
            effect=compared.effect,
        )
        return replace(state, rows=rows, orders={**state.orders, place: moved})
    usual = state.usual.get(check.of)
    fresh = Weighed() if usual is None or compared.paired else knowing(min(1.0, usual / check.largest))
    weighed = _weigh_losses(state.weighed.get(place, fresh), compared, check)
    return replace(state, rows=rows, weighed={**state.weighed, place: weighed})


def _is_compared(state: Guarded, compared: Compared, place: str) -> bool:
    """Alone, the challenger is compared with nothing; and first the champion shows what its usual latencies are."""
    if compared.check == "latency" and not state.orders.get(place, Order()).limits:
        return False
    return _rows(compared.champion) > 0


def _weigh_losses(state: Weighed, compared: Compared, check: Check) -> Weighed:
    if compared.paired:
        pair = [_in_unit(_plain(side), check) for side in (compared.champion, compared.challenger)]
        if check.unit == "interval" and pair[0].size:
            pair = [side.mean(keepdims=True) for side in pair]
        return weigh_paired(state, pair[0], pair[1], check.scaled, effect=compared.effect)
    sides = [
        side if isinstance(side, Sample) else sample_of(_in_unit(side, check))
        for side in (compared.champion, compared.challenger)
    ]
    if check.unit == "interval":
        sides = [as_one(side) for side in sides]
    return weigh_apart(state, sides[0], sides[1], check.scaled, effect=compared.effect)


def _not_worse(state: Guarded, seen: Seen, options: Guarding, now: datetime, findings: tuple[Finding, ...]) -> Verdict:
    waiting = _waiting(state, seen, options, findings)
    if now < state.until:
        missing = f"; so far {'; '.join(waiting)}" if waiting else "; nothing stands against it so far"
        return Hold(f"hold: the step runs until {_time(state.until)}{missing}", findings)
    if not waiting:
        return Proceed(f"proceed: {said_of(findings)}", findings)
    why, last = "; ".join(waiting), _last_moment(state, options)
    looked_enough = options.looks_at_most is not None and state.looks >= options.looks_at_most
    if now < last and not looked_enough:
        return Hold(f"hold: {why}; extended until {_time(last)}", findings)
    lasted = duration_text(timedelta(seconds=round((now - state.since).total_seconds())))
    spent = f"{state.looks} looks" if looked_enough else lasted
    told = f"inconclusive after {spent}: {why}"
    if options.inconclusive == "abort":
        return RollBack(f"rolled back: {told}; the spec says abort", findings, "inconclusive")
    if options.inconclusive == "promote" and seen.requests[1] and state.requests[1] >= options.requests_at_least:
        return Proceed(f"proceed: {told}; the spec says promote", findings)
    no_traffic = "; no traffic is never success" if options.inconclusive == "promote" else ""
    return Ask(f"ask: {told}{no_traffic}; say `everfit promote` or `everfit abort`", findings)


def _waiting(state: Guarded, seen: Seen, options: Guarding, findings: tuple[Finding, ...]) -> list[str]:
    """What is missing before it may proceed, in words."""
    found = []
    for check in options.checks:
        rows = state.rows.get(check.of, 0.0)
        if rows < check.at_least:
            noun = "labelled rows" if check.of == "loss" else "rows"
            due = state.since + options.labels_mature_after
            late = f" (labels of this step's first rows mature at {_time(due)})" if check.of == "loss" else ""
            found.append(f"{check.of} has {rows:,.0f} of {check.at_least:,} {noun}{late}")
    if not seen.requests[1]:
        found.append("the challenger got no request in this interval")
    elif state.requests[1] < options.requests_at_least:
        found.append(f"the challenger has had {state.requests[1]:,} of {options.requests_at_least:,} requests")
    if total_evidence(state, options) >= math.log(options.leaning):  # of all together: of many slices one always leans
        worst = _worst(findings)
        found.append(f"{worst.place} leans against it ({worst.said})")
    proofs = {check.of for check in options.checks if check.prove}
    line = -math.log(options.false_rollbacks)
    unproved = [f for f in findings if f.check in proofs and f.slice == ALL and f.log_fine < line]
    found += [f"{f.place} is not yet proved within what is allowed ({f.said})" for f in unproved]
    return found


def _findings(state: Guarded, options: Guarding) -> tuple[Finding, ...]:
    found = []
    for place, check, share in _places(state, options):
        seen = state.orders.get(place) if check.of == "latency" else state.weighed.get(place)
        if seen is not None:
            found.append(finding_of(place, check, seen, share))
    return tuple(found)


def _places(state: Guarded, options: Guarding) -> list[tuple[str, Check, float]]:
    """Where evidence stands, with the share of the whole that it owns."""
    whole = sum(check.weight for check in options.checks)
    found = []
    for place in (*state.weighed, *state.orders):
        check = options.check(place.split(" ")[0])
        share = check.weight / whole / (2 if check.on == "both" and check.of != "latency" else 1)
        if check.slices:
            share /= 2 * options.slices_at_most if " where " in place else 2
        found.append((place, check, share))
    return found


def _evidence_at(state: Guarded, place: str, check: Check) -> float:
    return log_evidence_of(state.orders[place]) if check.of == "latency" else log_evidence(state.weighed[place])


def _worst(findings: tuple[Finding, ...]) -> Finding:
    return max(findings, key=lambda f: f.log_evidence + math.log(f.share))


def _last_moment(state: Guarded, options: Guarding) -> datetime:
    awaited = any(check.of == "loss" and check.at_least for check in options.checks)
    return state.until + options.extend_up_to + (options.labels_mature_after if awaited else timedelta(0))


def _place(compared: Compared) -> str:
    paired = " on the same rows" if compared.paired else ""
    return f"{compared.check}{paired}" + ("" if compared.slice == ALL else f" where {compared.slice}")


def _check_manner(compared: Compared, check: Check) -> None:
    """Evidence of a manner that owns no part of the promise would break it."""
    manner = "same" if compared.paired else "different"
    if check.on not in {manner, "both"} or (check.of == "latency" and compared.paired):
        raise UsageError(f"{check.of} is not compared on {manner} rows; set `on: both` for it, or leave this out")


def _rows(side: Sample | Floats) -> float:
    return side.rows if isinstance(side, Sample) else float(len(side))


def _plain(side: Sample | Floats) -> Floats:
    if isinstance(side, Sample):
        raise UsageError("counts cannot be paired, and latencies cannot be counted; give one value per request")
    return side


def _in_unit(losses: ArrayLike, check: Check) -> NDArray[np.float64]:
    found = np.asarray(losses, dtype=np.float64) / check.largest
    if found.size and not found.min() >= 0:
        raise Refused(f"a {check.of} is missing or negative; leave out rows without one, and give losses from 0 up")
    return np.minimum(found, 1.0)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}" + ("Z" if at.utcoffset() == timedelta(0) else "")
