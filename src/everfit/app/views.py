"""What people see of a model: its status, its history, and why something happened.

Takes a standing; gives plain dictionaries and sentences, the same for the terminal, `--json` and pages; never reads a
port but those of the app it is given.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from everfit.app.people import questions
from everfit.app.wiring import App
from everfit.decide.decision import Decision, Wait
from everfit.decide.history import WindowRecord
from everfit.detect.signal import NotEnough, Reading
from everfit.errors import UsageError
from everfit.ledger import (
    Answered,
    ApprovalAsked,
    DataChecked,
    Decided,
    EventHeard,
    Fact,
    Judged,
    Paused,
    ReleaseEnded,
    RenewBegan,
    RenewEnded,
    Resumed,
    RetrainAsked,
    SchemaLearned,
    Silence,
    StepFailed,
    Told,
    WentLive,
)
from everfit.standing import Kept, Standing, Story


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
        "last_window": _window(past.windows[-1]) if past.windows else None,
        "last_mature": next((_window(w) for w in reversed(past.windows) if w.mature is not None), None),
        "windows": len(past.windows),
        "decision": _decision(standing.decisions[-1]) if standing.decisions else None,
        "running": running.run if running else None,
        "runs": len(past.runs),
        "questions": questions(standing),
        "paused": past.paused,
        "versions": [version_view(kept) for kept in _by_version(standing)],
        "intake": {"waiting": app.journal.pending(), "acknowledged": app.journal.last()},
        "servers": app.gateway.servers(app.spec.model),
    }


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


def history(app: App) -> list[dict[str, Any]]:
    """What happened, in order: decisions that were more than waiting, runs, releases, words of people."""
    shown: list[dict[str, Any]] = []
    for entry in app.store.read(app.spec.model):
        said = _said(entry.fact)
        if said is not None:
            shown.append({"number": entry.number, "at": _iso(entry.at), "by": entry.by, "run": entry.run,
                          "kind": entry.kind, "said": said})  # fmt: skip
    return shown


def explain(app: App, what: str | None) -> dict[str, Any]:
    """Why a version came, what became of a run, or the last decision that was more than waiting.

    Raises:
        UsageError: there is no such version or run.
    """
    standing = app.standing()
    if what is None:
        return _explain_decision(standing)
    if what in standing.stories:
        return _explain_run(standing, standing.stories[what])
    number = what.removeprefix("v")
    kept = next((k for k in _by_version(standing) if str(k.version) == number or k.candidate.id == what), None)
    if kept is None:
        versions = ", ".join(f"v{k.version}" for k in _by_version(standing)) or "none yet"
        raise UsageError(f"{what!r} is no version, candidate or run of {app.spec.model}; versions: {versions}")
    return _explain_run(standing, standing.stories[kept.run]) | {"version": version_view(kept)}


def _explain_decision(standing: Standing) -> dict[str, Any]:
    told = [d for d in standing.decisions if not isinstance(d[2], Wait)]
    chosen = (told or list(standing.decisions))[-1:]
    return {"decision": _decision(chosen[0])} if chosen else {"decision": None}


def _explain_run(standing: Standing, story: Story) -> dict[str, Any]:
    began, checked, judged = story.find(RenewBegan), story.find(DataChecked), story.find(Judged)
    ended, failed = story.find(RenewEnded), story.find(StepFailed)
    verdict = judged.verdict if judged else None
    return {
        "run": story.run,
        "began": _iso(story.times[0]),
        "because": [_reason(reason) for reason in began.because] if began else [],
        "findings": [finding.said for finding in checked.findings] if checked else [],
        "verdict": verdict.kind if verdict else None,
        "said": ended.said if ended else failed.said if failed else None,
        "gain": vars_of(verdict.evidence.gain) if verdict and verdict.evidence.gain else None,
        "rows": verdict.evidence.rows if verdict else None,
        "gates": [vars_of(gate) for gate in verdict.gates] if verdict else [],
        "outcome": next((run.outcome for run in standing.history.runs if run.run == story.run), None),
        "steps": [type(fact).__name__ for fact in story.facts],
    }


def vars_of(record: Any) -> dict[str, Any]:
    """The fields of a slotted record."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _by_version(standing: Standing) -> list[Kept]:
    return sorted(standing.bench.values(), key=lambda kept: kept.version)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _reason(reason: Any) -> dict[str, Any]:
    return vars_of(reason)


def _decision(told: tuple[datetime, Any, Decision]) -> dict[str, Any]:
    at, window, decision = told
    return {
        "at": _iso(at),
        "kind": decision.kind,
        "window": str(window) if window else None,
        "because": [_reason(reason) for reason in decision.because],
    }


def _window(window: WindowRecord) -> dict[str, Any]:
    readings = window.readings if window.mature is None else window.mature
    return {
        "span": [_iso(window.span.start), _iso(window.span.end)],
        "rows": window.rows,
        "labelled": window.labelled,
        "mature": window.mature is not None,
        "readings": [_reading(r) for r in readings if r.name.startswith(("performance.", "provisional.", "labels."))],
        "alarms": [alarm.said for alarm in window.alarms],
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


def _said(fact: Fact) -> str | None:
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
        case RenewEnded(outcome=outcome, said=said) | ReleaseEnded(outcome=outcome, said=said):
            return f"{outcome}: {said}"
        case StepFailed(step=step, said=said):
            return f"could not {step}: {said}"
        case _:
            return _word(fact)


def _word(fact: Fact) -> str | None:
    """One line for what people and other systems said, and for what they were told."""
    match fact:
        case EventHeard(name=name):
            return f"event {name}"
        case RetrainAsked(why=why):
            return f"retraining was asked for: {why}"
        case Answered(question=question, approved=approved, why=why):
            return f"{'approved' if approved else 'refused'} {question}: {why}"
        case Paused(why=why) | Resumed(why=why):
            return f"{type(fact).__name__.lower()}: {why}"
        case ApprovalAsked(question=question):
            return f"a release waits for a person: everfit approve {question}"
        case Told(title=title, outcome=outcome):
            return f"told {', '.join(f'{channel} ({how})' for channel, how in outcome.items())}: {title}"
        case _:
            return f"no rows came from {fact.span}" if isinstance(fact, Silence) else None
