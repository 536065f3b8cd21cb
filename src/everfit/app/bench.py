"""What people see of the bench: every kept model with its scores, who serves, who would, and what the policy waits for.

Takes where a model stands and the options of its bench; gives plain dictionaries and sentences, the same for the
terminal and `--json`; never decides: the move shown is the policy's own, asked on the facts of the ledger.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from everfit.app.wiring import App
from everfit.decide.bench import Bench, Move, next_move
from everfit.decide.bench_options import BenchOptions
from everfit.decide.bench_reads import Floats, values
from everfit.decide.options import read_rules
from everfit.errors import UsageError
from everfit.facts import BenchScored, Decided
from everfit.flows.bench import bench_of, turns_of, why_barred
from everfit.flows.durable import Follower
from everfit.observe.options import Observing
from everfit.standing import Kept, Standing

LAST = 5  # scores that a model is shown with: about as many windows as count in the policy


def bench(app: App, model: str | None = None) -> dict[str, Any]:
    """The bench of the folder's model, or of another one in the same ledger.

    Raises:
        UsageError: the ledger has no such model.
    """
    if model is None or model == app.spec.model:
        return bench_view(app.standing(), app.spec.decide.bench, app.spec.observe)
    known = app.store.models()
    if model not in known:
        raise UsageError(f"{model!r} is no model of this ledger; it knows {', '.join(sorted(known)) or 'none yet'}")
    return bench_view(Follower(app.store, model).standing(), _options(app, model))


def _options(app: App, model: str) -> BenchOptions:
    """The options by which another folder's model was last decided on: its spec is not here."""
    facts = (entry.fact for entry in reversed(app.store.read(model)) if entry.kind == Decided.__name__)
    rules = next((fact.rules for fact in facts if isinstance(fact, Decided) and fact.rules), None)
    return read_rules(app.store.get(rules)).limits.bench if rules else BenchOptions()


def bench_view(standing: Standing, options: BenchOptions, observe: Observing | None = None) -> dict[str, Any]:
    """The bench of one model as it stands.

    Args:
        standing: where the model stands.
        options: those of its bench.
        observe: how the watch cuts windows; tells how many make one of the bench before the first was scored.
    """
    turns, facts = turns_of(standing, options, observe), bench_of(standing, options)
    newest = standing.scored[-1][0] if standing.scored else None
    view: dict[str, Any] = {
        "model": standing.history.model,
        "metric": newest.metric if newest else None,
        "window": newest.number if newest else None,
        "every": turns.every if turns else None,
        "scored": len(standing.scored),
        "waiting": sum(not turn.scored for turn in turns.found) if turns else 0,
        "running": [run.run for run in (standing.history.running, standing.history.recalling) if run],
        "paused": standing.history.paused,
    }
    if facts is None:
        return view | {"models": [_model(each, standing) for each in _versions(standing)], "policy": None}
    move = next_move(facts, options)
    worth = values(facts.scores, facts.members, int(facts.served[-1]), int(facts.matured[-1]), (move.ageing, options))
    models = [
        _model(each, standing) | _on_the_bench(each, standing, (facts, options), (move, worth))
        for each in _versions(standing)
    ]
    return view | {"models": models, "policy": _policy(facts, move, options)}


def _versions(standing: Standing) -> list[Kept]:
    """Every trained model, the oldest version first; those without a version yet last."""
    return sorted(standing.bench.values(), key=lambda kept: (kept.version == 0, kept.version))


def _model(kept: Kept, standing: Standing) -> dict[str, Any]:
    """What is known of a model without any scores."""
    live = standing.history.champion
    return {
        "version": kept.version,
        "candidate": kept.candidate.id,
        "state": kept.state.value,
        "range": None,
        "rows": kept.candidate.train_rows,
        "trained_until": kept.candidate.trained_until.isoformat(),
        "windows": 0,
        "scores": [],
        "recent": None,
        "value": None,
        "serves": live is not None and live.candidate == kept.candidate.id,
        "would_serve": False,
        "barred": "",
    }


def _on_the_bench(
    kept: Kept, standing: Standing, on: tuple[Bench, BenchOptions], read: tuple[Move, Floats]
) -> dict[str, Any]:
    """What the bench says of a model: `scores` and `recent` in the metric's own unit, `value` in points."""
    (facts, options), (move, worth) = on, read
    place = next(place for place, member in enumerate(facts.members) if member.key == kept.candidate.id)
    scored = [fact for fact, _ in standing.scored if np.isfinite(facts.scores[place, fact.number])]
    last = [level for fact in scored[-LAST:] if (level := _level(fact, kept)) is not None]
    rows = facts.members[place].rows
    return {
        "range": rows.value if rows else None,
        "windows": len(scored),
        "scores": last,
        "recent": sum(last) / len(last) if last else None,
        "value": None if np.isnan(worth[place]) else round(100 * float(worth[place]), 4),
        "would_serve": place == (move.serve.place if options.recall else int(facts.served[-1])),
        "barred": why_barred(standing, kept, facts, options),
    }


def _level(fact: BenchScored, kept: Kept) -> float | None:
    found = fact.levels.get(kept.candidate.id)
    return found[0] if found else None


def _policy(facts: Bench, move: Move, options: BenchOptions) -> dict[str, Any]:
    """Where the policy stands: windows are the bench's, sums of score are in points."""
    start, fallen = facts.members[0].last, move.fall
    since = facts.now - (facts.runs[-1].window if facts.runs else start)
    return {
        "since": since,
        "interval": round(move.interval, 2),
        "budget": round(move.budget, 2),
        "saved": options.saved,
        "fall": None
        if fallen is None
        else {"lost": 100 * fallen.lost, "line": 100 * fallen.line, "level": fallen.level},
        "leader": move.ageing.leader.value if move.ageing.leader else None,
        "all_over_recent": 100 * move.ageing.all_over_recent,
        "per_window": 100 * move.ageing.per_window,
        "serve": move.serve.said
        if options.recall
        else f"recall is off: {facts.members[int(facts.served[-1])].called} stays",
        "train": move.train.said if move.train else None,
        "because": list(move.because),
    }
