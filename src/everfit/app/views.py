"""What people see of a model: its status and its history. Why something happened stands in `explain`.

Takes a standing; gives plain dictionaries and sentences, the same for the terminal, `--json` and pages; never reads a
port but those of the app it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from everfit.app.people import questions
from everfit.app.releases import release_view
from everfit.app.wiring import App
from everfit.clock import BEGINNING
from everfit.decide.accounts import RunTold, accounts
from everfit.decide.decision import Decision, Reason, Wait
from everfit.decide.history import WindowRecord
from everfit.detect.signal import NotEnough, Reading
from everfit.facts import (
    Answered,
    ApprovalAsked,
    Decided,
    Dismissed,
    EventHeard,
    Fact,
    GuardLooked,
    Judged,
    Paused,
    RecallBegan,
    RecallEnded,
    ReleaseEnded,
    RenewBegan,
    RenewEnded,
    Resumed,
    RetrainAsked,
    SchemaLearned,
    Silence,
    StageBegan,
    StageDone,
    Steered,
    StepFailed,
    Told,
    WentLive,
)
from everfit.standing import Kept, Standing

END = datetime.max.replace(tzinfo=UTC)


# What `everfit status` shows of a window; `everfit explain` shows all.
SHOWN = ("performance.", "provisional.", "estimated.", "labels.", "decay", "drift.harm", "drift.together", "serve.")


def status(app: App) -> dict[str, Any]:
    """Where the model stands now."""
    standing = app.standing()
    past = standing.history
    champion = standing.champion
    running = past.running
    return {
        "model": app.spec.model,
        "task": app.spec.task,
        "now": _iso(app.clock.now()),
        "clock": "events" if app.replay else "wall",
        "champion": version_view(champion) if champion else None,
        "previous": past.previous and standing.bench[past.previous].version,
        "last_window": window_view(past.windows[-1]) if past.windows else None,
        "last_mature": next((window_view(w) for w in reversed(past.windows) if w.mature is not None), None),
        "windows": len(past.windows),
        "learning": _learning(standing),
        "decision": _decision(standing.decisions[-1]) if standing.decisions else None,
        "running": running.run if running else None,
        "release": release_view(standing, app.store.sleepers(app.spec.model)),
        "runs": len(past.runs),
        "questions": questions(standing),
        "paused": past.paused,
        "versions": [version_view(kept) for kept in versions_of(standing)],
        "intake": {"waiting": app.journal.pending(), "acknowledged": app.journal.last()},
        "servers": app.gateway.servers(app.spec.model),
    }


def _learning(standing: Standing) -> list[str]:
    """Why the promise of false alarms does not hold yet: of drift, and of performance; empty once it does."""
    baseline = standing.baseline
    decay = baseline.learning if baseline else "decay: too few held-out windows with labels"
    told = [standing.learning, f"performance: {decay}" if baseline and decay else decay]
    return [each for each in told if each] if standing.champion else []


def version_view(kept: Kept) -> dict[str, Any]:
    """One model version."""
    verdict = kept.verdict
    return {
        "version": kept.version,
        "candidate": kept.candidate.id,
        "state": kept.state.value,
        "live_since": _iso(kept.live_since),
        "trained": [_iso(kept.recipe.train.start), _iso(kept.recipe.train.end)],
        "rows": kept.candidate.train_rows,
        "verdict": verdict.kind if verdict else None,
        "said": verdict.said if verdict else None,
        "proven": dict(verdict.evidence.candidate_levels) if verdict else {},
        "run": kept.run,
    }


def history(app: App) -> dict[str, Any]:
    """What happened, in order, and what became of each trigger's runs.

    Entries are decisions that were more than waiting, runs, releases, and words of people.
    """
    shown: list[dict[str, Any]] = []
    for entry in app.store.read(app.spec.model):
        said = said_of(entry.fact)
        if said is not None:
            shown.append({"number": entry.number, "at": _iso(entry.at), "by": entry.by, "run": entry.run,
                          "kind": entry.kind, "said": said})  # fmt: skip
    told = accounts(runs_told(app.standing(), app.spec.primary), app.spec.primary)
    return {"entries": shown, "triggers": [vars_of(each) for each in told]}


def runs_told(standing: Standing, metric: str) -> Iterator[RunTold]:
    """Each training run with what its windows say of it."""
    for record in standing.history.runs:
        story = standing.stories[record.run]
        began, judged = story.find(RenewBegan), story.find(Judged)
        gain = judged.verdict.evidence.gain if judged else None
        triggers = tuple(dict.fromkeys(reason.trigger for reason in began.because)) if began else record.triggers
        kept = next((kept for kept in standing.bench.values() if kept.run == record.run), None)
        place = next((n for n, (_, fact) in enumerate(standing.releases) if kept and _came(fact, kept)), None)
        before, after = _around(standing, place, metric) if place is not None else ((), ())
        yield RunTold(triggers, record.outcome, gain.value if gain else None, before, after)


def _came(fact: WentLive, kept: Kept) -> bool:
    return fact.candidate == kept.candidate.id and not fact.back


def _around(standing: Standing, place: int, metric: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The metric in the mature windows of the champion before a release, and in those of the one that came."""
    moments = [BEGINNING, *(at for at, _ in standing.releases), END]
    sides = []
    for first, until in ((place, place + 1), (place + 1, place + 2)):
        since, end = moments[first], moments[until]
        whole = [w for w in standing.history.windows if since <= w.span.start and w.span.end <= end]
        sides.append(tuple(s.value for w in whole if (s := w.find_mature(f"performance.{metric}")) is not None))
    return sides[0], sides[1]


def vars_of(record: Any) -> dict[str, Any]:
    """The fields of a slotted record."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def versions_of(standing: Standing) -> list[Kept]:
    """Every model that was kept, the oldest version first."""
    return sorted(standing.bench.values(), key=lambda kept: kept.version)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def reason_view(reason: Reason) -> dict[str, Any]:
    """One reason with its line, where the line came from, and what would have changed the answer."""
    return vars_of(reason)


def _decision(told: tuple[datetime, Any, Decision]) -> dict[str, Any]:
    at, window, decision = told
    return {
        "at": _iso(at),
        "kind": decision.kind,
        "window": str(window) if window else None,
        "because": [reason_view(reason) for reason in decision.because],
    }


def window_view(window: WindowRecord) -> dict[str, Any]:
    """One window as it was read."""
    readings = window.readings if window.mature is None else window.mature
    return {
        "span": [_iso(window.span.start), _iso(window.span.end)],
        "rows": window.rows,
        "labelled": window.labelled,
        "mature": window.mature is not None,
        "readings": [_reading(r) for r in readings if r.name.startswith(SHOWN)],
        "alarms": [alarm.said for alarm in (*window.alarms, *window.mature_alarms)],
    }


def _reading(reading: Reading) -> dict[str, Any]:
    if isinstance(reading, NotEnough):
        return {
            "name": reading.name,
            "column": reading.column,
            "not_enough": True,
            "rows": reading.rows,
            "needed": reading.needed,
        }
    return {
        "name": reading.name,
        "column": reading.column,
        "value": reading.value,
        "low": reading.low,
        "high": reading.high,
    }


def said_of(fact: Fact) -> str | None:
    """One line for people, or None for what only machines want to read."""
    match fact:
        case Decided(decision=decision):
            because = "; ".join(dict.fromkeys(reason.said for reason in decision.because))
            return None if isinstance(decision, Wait) else f"{decision.kind}: {because}"
        case SchemaLearned(schema=schema):
            return f"the columns are learned: {', '.join(schema.names())}"
        case Judged(verdict=verdict):
            return f"{verdict.kind}: {verdict.said}"
        case WentLive(version=version, back=back, why=why):
            return f"version {version} is live{' again: rolled back' if back else ''} ({why})"
        case RenewEnded() | RecallEnded() | ReleaseEnded():
            return f"{fact.outcome}: {fact.said}"
        case StepFailed(step=step, said=said):
            return f"could not {step}: {said}"
        case Steered(word=word, why=why, by=by):
            return f"{by} said {word} to the release: {why}"
        case _:
            return _released(fact) or _word(fact)


def _released(fact: Fact) -> str | None:
    """One line for the stages of a release, and for who asked for it; the guard is heard when it says something new."""
    match fact:
        case StageBegan(stage=stage, until=until):
            return f"{stage} began{f', until {until:%Y-%m-%d %H:%M}' if until else ', until promoted'}"
        case RecallBegan(by=by, because=because) if by:
            return because[0].said
        case StageDone(stage=stage, said=said) if stage in ("weight", "mirror", "pause", "analysis", "bake"):
            return f"{stage} is done{f': {said}' if said else ''}"
        case GuardLooked(verdict=verdict, said=said) if verdict != "hold":
            return said
        case _:
            return None


def _word(fact: Fact) -> str | None:
    """One line for what people and other systems said, and for what they were told."""
    match fact:
        case EventHeard(name=name):
            return f"event {name}"
        case RetrainAsked(why=why):
            return f"retraining was asked for: {why}"
        case Answered(question=question, approved=approved, why=why):
            return f"{'approved' if approved else 'refused'} {question}: {why}"
        case Dismissed(window=window, why=why):
            return f"dismissed the window {window}: {why}"
        case Paused(why=why) | Resumed(why=why):
            return f"{type(fact).__name__.lower()}: {why}"
        case ApprovalAsked(question=question):
            return f"a release waits for a person: everfit approve {question}"
        case Told(title=title, outcome=outcome):
            return f"told {', '.join(f'{channel} ({how})' for channel, how in outcome.items())}: {title}"
        case _:
            return f"no rows came from {fact.span}" if isinstance(fact, Silence) else None
