"""What one check found, as numbers and as a sentence.

Takes the state of a check; gives a finding; never decides what follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from everfit.judge.verdict import Interval
from everfit.rollout.checks import Check
from everfit.rollout.latency import Order, allowed_over, log_evidence_of
from everfit.rollout.sequential import Tolerance, Weighed, interval_of, log_evidence
from everfit.units import duration_text


@dataclass(frozen=True, slots=True)
class Finding:
    """One check on all rows or on one slice, over the whole release so far."""

    place: str  # "errors", "loss on the same rows", "loss where origin=JFK"
    check: str
    slice: str  # "*" for all rows
    rows: tuple[float, float]  # of the champion and of the challenger
    levels: tuple[float, float] | None  # mean of the champion and of the challenger; None without rows of both
    difference: Interval | None  # challenger less champion, look by look, 95 % at every look
    log_evidence: float  # that it is worse than allowed
    log_fine: float  # that it is not
    share: float  # of the promise
    said: str


def finding_of(place: str, check: Check, seen: Weighed | Order, share: float) -> Finding:
    """Say what a check found.

    >>> from everfit.rollout.sequential import rate_of, weigh_apart
    >>> state = weigh_apart(Weighed(), rate_of(100, 1000), rate_of(12, 100))
    >>> finding_of("errors", Check(of="errors"), state, 1.0).said
    'errors 12.0% against 10.0% on 100 rows (2.0 points more, 95% -10.4 to 14.4; 0.5 points allowed)'
    """
    slice_ = place.split(" where ", 1)[1] if " where " in place else "*"
    if isinstance(seen, Order):
        said, levels = _latency_said(place, check, seen)
        return Finding(
            place,
            check.of,
            slice_,
            seen.rows,
            levels,
            None,
            log_evidence_of(seen),
            log_evidence_of(seen, fine=True),
            share,
            said,
        )
    levels = _levels(seen, check.largest)
    difference = interval_of(seen)
    if difference is not None:
        ends = (max(-1.0, difference.low), min(1.0, difference.high))  # no loss is more than the largest one worse
        difference = Interval(*(part * check.largest for part in (difference.value, *ends)))
    said = _said(place, check, seen, levels, difference)
    return Finding(
        place,
        check.of,
        slice_,
        seen.rows,
        levels,
        difference,
        log_evidence(seen),
        log_evidence(seen, fine=True),
        share,
        said,
    )


def said_of(findings: Sequence[Finding]) -> str:
    """The checks over all rows in one sentence."""
    told = [finding.said for finding in findings if finding.slice == "*"]
    slices = len(findings) - len(told)
    return "; ".join(told) + (f"; {slices} slices too" if slices else "")


def where_most(worst: Finding, findings: Sequence[Finding], line: float) -> str:
    """The slice that a difference over all rows comes from, in words; empty where none stands out.

    Args:
        worst: Over all rows.
        findings: All of them.
        line: Log of the evidence that a slice must have for itself; its gap must be twice that of all rows.
    """
    inside = [found for found in findings if found.place.startswith(f"{worst.place} where ") and found.levels]
    most = max(inside, key=lambda found: found.log_evidence, default=None)
    if most is None or most.log_evidence < line or _gap(most) < 2 * _gap(worst):
        return ""
    return f"; most of it {most.said.removeprefix(worst.place).strip()}"


def _gap(finding: Finding) -> float:
    return finding.levels[1] - finding.levels[0] if finding.levels else 0.0


def _levels(seen: Weighed, unit: float) -> tuple[float, float] | None:
    if not all(seen.rows):
        return None
    return unit * seen.totals[0] / seen.rows[0], unit * seen.totals[1] / seen.rows[1]


def _said(
    place: str, check: Check, seen: Weighed, levels: tuple[float, float] | None, difference: Interval | None
) -> str:
    if levels is None:
        return f"{place}: {seen.rows[1]:,.0f} rows of the challenger and {seen.rows[0]:,.0f} of the champion"
    points = check.of == "errors"
    champion, challenger = (f"{level:.1%}" if points else f"{level:.4g}" for level in levels)
    told = f"{place} {challenger} against {champion} on {seen.rows[1]:,.0f} rows"
    if difference is None:
        return told
    return f"{told} ({_difference(difference, points)}; {_allowed(check.allowed, points)} allowed)"


def _difference(difference: Interval, points: bool) -> str:
    size = 100 if points else 1
    form = ".1f" if points else ".3g"
    value, low, high = (size * part for part in (difference.value, difference.low, difference.high))
    more = "more" if value >= 0 else "less"
    unit = " points" if points else ""
    return f"{abs(value):{form}}{unit} {more}, 95% {low:{form}} to {high:{form}}"


def _allowed(allowed: Tolerance, points: bool) -> str:
    if allowed.relative:
        return f"{allowed.relative * 100:.4g}% of it"
    return f"{allowed.by * 100:.4g} points" if points else f"{allowed.by:.4g}"


def _latency_said(place: str, check: Check, seen: Order) -> tuple[str, tuple[float, float] | None]:
    compared = [(i, test) for i, test in enumerate(seen.tests) if test.looks]
    if not compared:
        return f"{place}: {seen.rows[1]:,.0f} rows of the challenger, none compared yet", None
    at, test = max(compared, key=lambda pair: log_evidence(pair[1]))
    levels = (test.totals[0] / max(1.0, test.rows[0]), test.totals[1] / max(1.0, test.rows[1]))
    limit = allowed_over(seen.limits[at], check.allowed.relative, check.slack / timedelta(milliseconds=1))
    slower = f"{levels[1]:.1%} of {seen.rows[1]:,.0f} requests over {limit:.3g} ms"
    usual = f"the champion's over {seen.limits[at]:.3g} ms are {levels[0]:.1%}"
    slack = f", and {duration_text(check.slack)}," if check.slack else ""
    return f"{place}: {slower}; {usual} ({_allowed(check.allowed, points=False)}{slack} slower allowed)", levels


def allowed_text(check: Check) -> str:
    """What a check tolerates, in words.

    >>> allowed_text(Check(of="errors")), allowed_text(Check(of="latency"))
    ('0.5 points', '10% of it')
    """
    return _allowed(check.allowed, points=check.of == "errors")


def evidence_text(log_evidence_: float) -> str:
    """Evidence as people read it.

    >>> evidence_text(7.0), evidence_text(50.0)
    ('1,097', 'over 100,000,000')
    """
    return f"{math.exp(log_evidence_):,.0f}" if log_evidence_ < math.log(1e8) else "over 100,000,000"
