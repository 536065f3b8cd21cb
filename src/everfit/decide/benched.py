"""What the bench asks of the policy: a training run, or that another kept model serves.

Takes the history with its bench, and the rules; gives a look for the trigger, the record of the run, and the recall;
never trains, and never asks twice for the same bench window: between two of them the bench is the same, and so is what
it asks for.
"""

from __future__ import annotations

from datetime import datetime

from everfit.decide.bench import Bench, Move, Train, Why, next_move
from everfit.decide.bench_reads import Rows
from everfit.decide.budget import frozen, source_of
from everfit.decide.decision import BenchRun, Reason, Recall
from everfit.decide.history import History
from everfit.decide.look import Look, Sight, unknown
from everfit.decide.options import OnBench, Rules
from everfit.ids import content_key

ROWS_SET = {"all": Rows.ALL, "last": Rows.RECENT}  # `train.rows` of the spec, as a range of the bench


def bench_asks(trigger: OnBench, sight: Sight) -> Look:
    """Whether the bench asks for a training run now.

    >>> from everfit.decide.options import Deciding
    >>> sight = Sight(History("m"), Rules((), Deciding(), "roc_auc", 700), datetime(2013, 2, 1))
    >>> bench_asks(OnBench(name="bench", bench=True), sight).fires is None
    True
    """
    past, rules = sight.past, sight.rules
    source = source_of(rules.limits, "bench", "decide.bench")
    if past.bench is None:
        return unknown(trigger.name, "no window of the bench has mature labels yet", source=source)
    bench, move = past.bench, next_move(past.bench, rules.limits.bench)
    evidence = content_key("bench", int(bench.matured[-1]))
    answered = next((run.run for run in past.runs if evidence in run.evidence), None)
    value, line, changed = _read(bench, move)
    if answered is not None:
        said = f"what the bench asked for at window {bench.now} was answered by {answered}"
        return Look(False, (Reason(trigger.name, value, line, said, "", source, "the next bench window may ask anew"),))
    if move.train is None:
        said = "; ".join(move.because) or f"the bench asks for no run: {changed}"
        return Look(False, (Reason(trigger.name, value, line, said, "", source, changed),))
    said = "; ".join((_said(move.train, rules), *move.because))
    if (there := _too_few(bench, move.train, rules)) is not None:
        said = f"{said}; it waits: {there:,} labelled rows since the change, {rules.least_rows:,} needed"
        changed = "more labelled rows (train.at_least)"
        return Look(False, (Reason(trigger.name, there, rules.least_rows, said, "", source, changed),))
    return Look(True, (Reason(trigger.name, value, line, said, evidence, source, changed),))


def bench_run(past: History, rules: Rules) -> BenchRun | None:
    """What the bench asks of a run that is started now; None where it asks for none.

    >>> from everfit.decide.options import Deciding
    >>> bench_run(History("m"), Rules((), Deciding(), "roc_auc", 700)) is None
    True
    """
    bench = past.bench
    train = next_move(bench, rules.limits.bench).train if bench is not None else None
    if bench is None or train is None:
        return None
    rows = train.rows if rules.rows is None else ROWS_SET[rules.rows]
    first = 0 if rows is Rows.ALL else train.first
    replaced = bench.members[int(bench.served[-1])].key
    return BenchRun(bench.now, train.why, rows, first, train.last, replaced, train.change, train.leader)


def recall(past: History, rules: Rules, now: datetime) -> Recall | Reason | None:
    """Whether another kept model is to serve: the recall, or what it waits for; None if the one that serves stays.

    A recall waits for nothing but what changes the serving model itself. Training for the bench goes on beside it.

    >>> from everfit.decide.options import Deciding
    >>> recall(History("m"), Rules((), Deciding(), "roc_auc", 700), datetime(2013, 2, 1)) is None
    True
    """
    bench, options, live = past.bench, rules.limits.bench, past.champion
    if bench is None or not options.recall or live is None:
        return None
    serving, serve = int(bench.served[-1]), next_move(bench, options).serve
    if serve.place == serving or bench.members[serving].key != live.candidate:
        return None  # the second: a person changed it meanwhile, and the next bench window will tell
    candidate = bench.members[serve.place].key
    evidence = content_key("recall", int(bench.matured[-1]), candidate)
    if evidence in past.used:
        return None
    source = source_of(rules.limits, "bench", "decide.bench.margin")
    changed = f"a lead of {options.margin:g} or less would not have changed who serves"
    held = frozen(rules.limits, now) or _changing(past)
    if held is None:
        because = Reason("recall", serve.gain, options.margin, serve.said, evidence, source, changed)
        return Recall(candidate, (because,))
    said = f"{serve.said}; it waits: {held.said}"
    return Reason("recall", serve.gain, options.margin, said, "", source, held.otherwise)


def changing(past: History) -> Reason | None:
    """Why no run may begin that is judged against the champion: another model is about to serve.

    >>> changing(History("m")) is None
    True
    """
    if past.recalling is not None or past.releasing is not None:
        run = past.releasing or (past.recalling and past.recalling.run)
        said = f"{run} is under way: another model may be about to serve"
        return Reason("releasing", None, None, said, "", "one release at a time", "once it has ended")
    return None


def _changing(past: History) -> Reason | None:
    """Why nothing is recalled: a person's pause, or what serves is about to change by something else."""
    if past.paused:
        return Reason("paused", None, None, "a person paused this model", "", "a person", "`everfit resume`")
    run = past.running
    if past.going_back or (run is not None and run.bench is None):
        said = f"{past.going_back or (run and run.run)} is under way and may change who serves"
        return Reason("running", None, None, said, "", "one release at a time", "once it has ended")
    return changing(past)


def _said(train: Train, rules: Rules) -> str:
    if rules.rows is None:
        return train.said
    return f"{train.said}; on which rows is not the bench's word but the spec's (train.rows: {rules.rows})"


def _too_few(bench: Bench, train: Train, rules: Rules) -> int | None:
    """Labelled rows since a change, where they are fewer than anything is trained on: such a run would be blocked."""
    if train.rows is not Rows.CHANGE or rules.rows is not None or bench.labelled is None:
        return None
    there = int(bench.labelled[train.first : train.last + 1].sum())
    return there if there < rules.least_rows else None


def _read(bench: Bench, move: Move) -> tuple[float, float, str]:
    """What was read, the line, and what would have changed the answer: the fall for an alarm, else the interval."""
    start = bench.members[0].last
    since = bench.now - (bench.runs[-1].window if bench.runs else start)
    fallen, train = move.fall, move.train
    if fallen is not None and train is not None and train.why is Why.ALARM:
        return fallen.lost, fallen.line, f"a fall of less than {fallen.line:.3g} would not have alarmed"
    windows = f"{since} window{'s' if since != 1 else ''} since the last run, the interval is {move.interval:.0f}"
    return since, move.interval, f"{windows}: a run comes when they have passed, or when the score falls"
