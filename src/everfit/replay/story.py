"""The story of a model's time, told from its ledger and from what rivals would have done.

Takes a `Standing` and each policy's daily metric; gives the `ReportStory` that a report shows; never reads a ledger or
a row, and never smooths a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import pairwise
from statistics import fmean
from typing import Protocol

from everfit.decide.decision import Decision, Reason, Wait
from everfit.detect.signal import Reading, Signal
from everfit.facts import Judged, RecallBegan, ReleaseEnded, ReleasePlanned, RenewBegan, WentLive
from everfit.observe.window import Span
from everfit.replay.told import (
    CandidateLine,
    ChampionLine,
    Compared,
    DecisionLine,
    DriftMap,
    Figure,
    Point,
    ReportStory,
    TakenBack,
)
from everfit.spec import Spec
from everfit.standing import Kept, Standing

OURS = "everfit"
END = datetime.max.replace(tzinfo=UTC)
NOTES = (
    "Every policy is scored on the same rows: those that all of them answered and whose label came.",
    "“All rows pooled” also rewards telling bad days from good ones; “mean of the days” asks only how well rows of the "
    "same day are told apart. They can disagree, so both are shown.",
    "“Proven” is the mean of the days of the rows on which the judge compared a candidate, which nobody trained on; "
    "“live” is the mean of the whole days on which it served.",
    "Drift is measured against the rows that the champion of the day was proven on: the map pales when a champion with "
    "a newer reference comes. A short window differs from a longer reference by its nature (one weekday, one spell of "
    "weather). Drift explains; alone it is no reason to retrain.",
)


class Scored(Protocol):
    """How good one policy was, on the rows that all policies answered."""

    @property
    def pooled(self) -> float:
        """The metric over all rows at once."""
        ...

    @property
    def daily(self) -> Mapping[date, float]:
        """The metric of each day."""
        ...

    @property
    def mean_of_days(self) -> float:
        """The mean of the days' metric."""
        ...


def story_from(
    spec: Spec,
    standing: Standing,
    results: Mapping[str, Scored] | None = None,
    trainings: Mapping[str, int] | None = None,
) -> ReportStory:
    """Tell the story.

    Args:
        spec: The model's spec.
        standing: Where the model stands.
        results: Policy ("everfit" and its rivals) to how good it was; without it Everfit's own readings are shown.
        trainings: Policy to how often it trained, for the rivals; Everfit's own are counted.
    """
    results = results or {}
    metric = spec.primary
    daily = _daily(standing, metric, results.get(OURS))
    runs = {OURS: max(0, len(standing.history.runs) - 1), "never": 0, **(trainings or {})}
    return ReportStory(
        title=f"How {spec.model} was kept fit",
        subtitle=_subtitle(spec, daily),
        metric=metric,
        facts=tuple(_facts(standing, results, metric)),
        daily=daily,
        rivals={name: dict(result.daily) for name, result in results.items() if name != OURS},
        champions=tuple(_champions(standing, daily, metric)),
        taken_back=tuple(_taken_back(standing)),
        decisions=tuple(_decisions(standing)),
        drift=_drift(standing),
        candidates=tuple(_candidates(standing)),
        comparison=tuple(Compared(n, r.pooled, r.mean_of_days, runs.get(n)) for n, r in results.items()),
        notes=NOTES,
    )


def _subtitle(spec: Spec, daily: Sequence[Point]) -> str:
    what = f"{spec.task} model for “{spec.target}”"
    return f"{what}, {daily[0].day:%d %B %Y} to {daily[-1].day:%d %B %Y}" if daily else what


def _facts(standing: Standing, results: Mapping[str, Scored], metric: str) -> Iterator[Figure]:
    history = standing.history
    outcomes = [run.outcome for run in history.runs]
    backs = sum(1 for _, fact in standing.releases if fact.back)
    promoted = max(0, outcomes.count("promoted") - 1)
    if ours := results.get(OURS):
        yield Figure(metric, f"{ours.pooled:.4f}", "Everfit, all rows pooled")
        for name, rival in results.items():
            if name != OURS:
                yield Figure(f"gain over “{name}”", f"{ours.pooled - rival.pooled:+.4f}", f"{metric}, all rows pooled")
    yield Figure(
        "predictions", f"{history.rows:,}", f"in {len(history.windows):,} windows; {history.labels:,} labels came"
    )
    yield Figure("trainings", f"{max(0, len(outcomes) - 1)}", "after the first champion")
    yield Figure("promoted", f"{promoted}", f"proven better first; {outcomes.count('kept_back')} kept back")
    if backs:
        yield Figure("rolled back", f"{backs}", "to the model before")


def _daily(standing: Standing, metric: str, ours: Scored | None) -> tuple[Point, ...]:
    """Everfit's days: as compared with its rivals if that is known, else as its own watch measured them."""
    measured: dict[date, Point] = {}
    for window in standing.history.windows:
        for reading in window.mature or ():
            if isinstance(reading, Signal) and (reading.name, reading.column) == (f"performance.{metric}", "*"):
                day = window.span.start.date()
                measured[day] = Point(day, reading.value, reading.low, reading.high, window.labelled)
    if ours is None:
        return tuple(measured[day] for day in sorted(measured))
    rows = {day: point.rows for day, point in measured.items()}
    return tuple(Point(day, value, rows=rows.get(day)) for day, value in sorted(ours.daily.items()))


def _champions(standing: Standing, daily: Sequence[Point], metric: str) -> Iterator[ChampionLine]:
    for (at, fact), (until, _) in pairwise([*standing.releases, (END, None)]):
        if fact is None:
            continue
        kept = standing.bench[fact.candidate]
        days = [point.value for point in daily if at.date() < point.day < until.date()]
        yield ChampionLine(
            version=fact.version,
            since=at,
            until=None if until == END else until,
            reason=_why_live(standing, fact, kept),
            proven=_proven(kept, metric),
            live=fmean(days) if days else None,
            days=len(days),
            rows=kept.dataset.train_rows if kept.dataset else None,
            verdict=kept.verdict.said if kept.verdict else "",
        )


def _why_live(standing: Standing, fact: WentLive, kept: Kept) -> str:
    if fact.back:
        return f"rolled back: {fact.why}"
    began = standing.stories[kept.run].find(RenewBegan) if kept.run in standing.stories else None
    return _sentences(began.because) if began else fact.why


def _proven(kept: Kept, metric: str) -> float | None:
    levels = kept.verdict.evidence.candidate_levels if kept.verdict else {}
    return kept.per_window.get(metric, levels.get(metric))


def _taken_back(standing: Standing) -> Iterator[TakenBack]:
    """Releases that did not end with their model serving, in order."""
    for story in standing.stories.values():
        plan, ended, at = story.find(ReleasePlanned), story.find(ReleaseEnded), story.when(ReleaseEnded)
        if plan is None or ended is None or at is None or ended.outcome == "live":
            continue
        cause = standing.stories.get(plan.cause)
        recalled = cause.find(RecallBegan) if cause else None
        wanted = _sentences(recalled.because) if recalled else "it was proven better"
        yield TakenBack(plan.version, at, ended.outcome, wanted, ended.said)


def _candidates(standing: Standing) -> Iterator[CandidateLine]:
    went_live = {fact.candidate for _, fact in standing.releases}
    for key, kept in sorted(standing.bench.items(), key=lambda each: each[1].version):
        story = standing.stories.get(kept.run)
        at = story.when(Judged) if story else None
        if kept.verdict is None or at is None:
            continue
        evidence = kept.verdict.evidence
        against = standing.bench.get(evidence.against)
        gain = evidence.gain
        yield CandidateLine(
            version=kept.version,
            at=at,
            against=f"v{against.version}" if against else evidence.against,
            gain=gain.value if gain else None,
            low=gain.low if gain else None,
            high=gain.high if gain else None,
            verdict=kept.verdict.kind,
            said=kept.verdict.said,
            promoted=key in went_live,
        )


def _decisions(standing: Standing) -> list[DecisionLine]:
    """Every decision; waits that follow each other by the same triggers, and what is said again, count as one line."""
    lines: list[DecisionLine] = []
    before: tuple[str, ...] = ()
    for at, window, decision in standing.decisions:
        told = [reason.trigger if isinstance(decision, Wait) else reason.said for reason in decision.because]
        now = (decision.kind, *told)
        if now == before:
            lines[-1] = _decision_line(lines[-1].at, window, decision, times=lines[-1].times + 1)
        else:
            lines.append(_decision_line(at, window, decision, times=1))
        before = now
    return lines


def _decision_line(at: datetime, window: Span | None, decision: Decision, *, times: int) -> DecisionLine:
    details = [_detail(reason) for reason in decision.because]
    if window is not None:
        details.append(f"{'the last of these windows' if times > 1 else 'window'}: {window}")
    said = _sentences(decision.because) or "nothing calls for anything"
    return DecisionLine(at, decision.kind, said, tuple(details), times)


def _detail(reason: Reason) -> str:
    """A reason's clause.

    >>> _detail(Reason("decay", 0.0312, 0.02, "it fell", "e1"))
    'decay: it fell (read 0.0312, limit 0.02)'
    """
    values = (("read", reason.value), ("limit", reason.limit))
    read = [f"{word} {_number(value)}" for word, value in values if value is not None]
    return f"{reason.trigger}: {reason.said}" + (f" ({', '.join(read)})" if read else "")


def _number(value: float) -> str:
    """Four digits, or all of a count.

    >>> _number(0.03125), _number(25000)
    ('0.03125', '25,000')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _sentences(because: Sequence[Reason]) -> str:
    return "; ".join(dict.fromkeys(reason.said for reason in because))


def _drift(standing: Standing) -> DriftMap | None:
    """Debiased PSI by column and day; None if nothing was measured."""
    found: dict[tuple[str, date], list[float]] = {}
    alarms: set[tuple[str, date]] = set()
    for window in standing.history.windows:
        day = window.span.start.date()
        for reading in window.readings:
            if (effect := _psi(reading)) is not None:
                found.setdefault((_shown(reading.column), day), []).append(effect)
        alarms |= {(_shown(alarm.signal.column), day) for alarm in window.alarms if alarm.kind == "drift"}
    if not found:
        return None
    columns = tuple(sorted({column for column, _ in found}))
    days = tuple(sorted({day for _, day in found}))
    values = tuple(
        tuple(fmean(found[column, day]) if (column, day) in found else None for day in days) for column in columns
    )
    return DriftMap(days, columns, values, frozenset(each for each in alarms if each[0] in columns))


def _shown(column: str) -> str:
    """A column as its owner knows it."""
    return "the model's score" if column == "_score" else column


def _psi(reading: Reading) -> float | None:
    if not isinstance(reading, Signal) or reading.name != "drift.psi":
        return None
    return max(0.0, reading.value if reading.effect is None else reading.effect)
