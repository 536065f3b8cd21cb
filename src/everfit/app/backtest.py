"""`everfit backtest`: from what a user typed to an answer, with everything that was inferred said before it starts.

Takes names of files and wishes, perhaps a spec; gives a `Plan` and its `Backtest`; never reads a label before its
time, and never trains what the cache holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from everfit.adapters.pool import Limits, Progress
from everfit.adapters.trainer_code import check_trainer
from everfit.adapters.whole import read_whole
from everfit.app.inferred import delay_of, duration_of, guessed_time, must_exist, no_features, policies_of, typed
from everfit.app.live_policies import OF_SPEC, live_policies, over_spec
from everfit.app.project import model_name
from everfit.detect.catalogue import METRICS
from everfit.errors import Refused, UsageError
from everfit.observe.options import FeatureOptions, Rows
from everfit.replay.backtest import run
from everfit.replay.cutting import in_order
from everfit.replay.history import History, prepare
from everfit.replay.options import BacktestOptions
from everfit.replay.policies import is_known
from everfit.replay.policy_file import FilePolicy, TriggersPolicy, read_policy
from everfit.replay.record import Backtest
from everfit.retrain.options import DEFAULT_TRAINER
from everfit.spec import Spec, read_spec
from everfit.units import duration_text

TRAINER = re.compile(r"[\w.]+:\w+")  # as the spec has it
WINDOWS = 100  # when nobody says how many
FEWEST = 20  # windows below which an answer says next to nothing
ROWS_A_WINDOW = 50  # wanted when nobody says how many windows: with fewer a score is mostly noise
FIRST = 10  # windows of the first training set: of a history of 50 windows and more; else a fifth of it


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user typed, or a spec said; None: nobody did."""

    data: tuple[str, ...]
    cache: Path  # where models are kept
    target: str | None = None
    time: str | None = None
    window: str | int | None = None  # a duration, or a number of windows
    label_delay: str | None = None
    task: str | None = None
    metric: str | None = None
    trainer: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    policies: str | None = None  # names with commas between
    files: tuple[Path, ...] = ()  # policies of the user's own
    exclude: tuple[str, ...] = ()
    spec: tuple[Spec, str] | None = None  # the spec, and its text: what it would have done is played too
    over: tuple[str, ...] = ()  # what was typed in the place of something that the spec says
    features: FeatureOptions = field(default_factory=FeatureOptions)
    slices: str | None = None
    costs: tuple[float | None, float | None] = (None, None)  # of a run, of an error
    rows: int | None = None  # only so many of the newest
    rows_a_window: int | None = None
    jobs: int | None = None
    project: Path = field(default_factory=Path)
    model: str | None = None  # how the recommended spec calls it


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A backtest that can begin."""

    asked: Asked
    frame: pl.DataFrame
    options: BacktestOptions
    history: History
    said: tuple[str, ...]  # what will be done, in a few lines


def plan(asked: Asked, spec_file: Path | None = None) -> Plan:
    """Read the rows and infer what was not said.

    Raises:
        UsageError: a file, a column, an option or a policy is not what it should be; the text says what to do.
        SpecError: the spec is wrong.
    """
    notes: tuple[str, ...] = ()
    if spec_file is not None:
        asked, notes = with_spec(asked, read_spec(spec_file), spec_file)
    if asked.target is None:
        raise UsageError("--target: name the column to predict, or a spec that does: --spec everfit.yaml")
    _check_trainer(asked, "--trainer" if spec_file is None else f"{spec_file}: train.with")
    policies, without = policies_of(asked.policies)
    own, triggers = _own(asked, policies)
    try:
        rows = read_whole(asked.data)
        must_exist("--target", asked.target, rows.columns)
        for option, name in (("--time", asked.time), ("--slices", asked.slices)):
            if name is not None:
                must_exist(option, name, rows.columns)
        time, guessed = (asked.time, "") if asked.time else guessed_time(rows, asked.target)
        came = in_order(typed(rows, asked.features), time)
        frame = came.rows if asked.rows is None else came.rows.tail(asked.rows)
        times = came.times if asked.rows is None or came.times is None else came.times.tail(asked.rows)
        options, left_out = _options(replace(asked, time=time), frame, times)
        options = replace(options, policies=policies, own=own)
        history = prepare(frame, options)
        options = replace(options, own=(*own, *live_policies(asked, triggers, history, options, frame)))
    except Refused as error:
        raise UsageError(str(error)) from error
    said = (*_said(asked, options, history), *filter(None, (guessed, without)), *left_out, *notes, *history.remarks)
    return Plan(asked, frame, options, history, said)


def carry_out(planned: Plan, tell: Callable[[Progress], None] = lambda _: None) -> Backtest:
    """Train what is not in the cache, and play every policy.

    Raises:
        TrainingFailed: there is no first model.
        DiskFull: run it again when there is space; nothing is lost.
    """
    cache = planned.options.cache
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")  # a copy of the rows lies here
    return run(planned.frame, planned.options, tell, planned.history)


def told(planned: Plan, found: Backtest) -> dict[str, Any]:
    """The answer as plain values: the file of `--json`, which `everfit init --from-backtest` reads."""
    options = planned.options
    files = [str(Path(name).absolute()) for name in planned.asked.data]
    return {**found.to_dict(), "data": files, "target": options.target, "time": options.time}


def with_spec(asked: Asked, spec: Spec, file: Path) -> tuple[Asked, tuple[str, ...]]:
    """What the user typed over what the spec says, and where the two differ."""
    wishes = ("target", "time", "task", "metric", "trainer", "label_delay", "window")
    merged, over = over_spec(spec, {name: getattr(asked, name) for name in wishes})
    if asked.metric is None and spec.primary not in METRICS:
        raise UsageError(
            f"{file}: the metric {spec.primary!r} is a function of yours, which a backtest cannot read; "
            "name one of Everfit's with --metric"
        )
    said = [f"{_option(name, merged[name])} {merged[name]} instead of {value}" for name, value in over.items()]
    notes = [f"with {file}: {', '.join(said)}" if said else f"with {file}"]
    notes.append(
        f"policy {OF_SPEC}: all of {file.name}, played by the live flows; the others take its trainer and delay"
    )
    return replace(
        asked,
        **merged,
        parameters=spec.train.parameters if asked.trainer is None else {},
        seed=spec.train.seed,
        exclude=(*asked.exclude, *spec.features.exclude, *filter(None, (spec.id,))),
        features=spec.features,
        rows_a_window=spec.observe.window.rows if isinstance(spec.observe.window, Rows) else None,
        project=file.parent,
        model=spec.model,
        spec=(spec, file.read_text(encoding="utf-8")),
        over=(*over, *(["exclude"] if asked.exclude else [])),
    ), tuple(notes)


def _option(name: str, value: object) -> str:
    """How the command line calls a wish.

    >>> _option("label_delay", "2"), _option("window", 24)
    ('--label-delay', '--windows')
    """
    return "--windows" if isinstance(value, int) else f"--{name.replace('_', '-')}"


def _own(asked: Asked, others: tuple[str, ...]) -> tuple[tuple[FilePolicy, ...], tuple[TriggersPolicy, ...]]:
    """The policies of the user's files, those apart that the live flows play."""
    found = [read_policy(file) for file in asked.files]
    taken = {*others, *([OF_SPEC] if asked.spec else [])}
    for policy, file in zip(found, asked.files, strict=True):
        if policy.name in taken or is_known(policy.name):
            raise UsageError(f"{file}: another policy is called {policy.name!r}; give yours a name of its own")
        taken.add(policy.name)
    live = tuple(each for each in found if isinstance(each, TriggersPolicy))
    return tuple(each for each in found if not isinstance(each, TriggersPolicy)), live


def _check_trainer(asked: Asked, place: str) -> None:
    trainer = asked.trainer or DEFAULT_TRAINER
    if not TRAINER.fullmatch(trainer):
        raise UsageError(f"{place}: {trainer!r} is no function; write module:function, such as train:fit")
    try:
        check_trainer(asked.project, trainer)
    except UsageError as error:
        raise UsageError(str(error).replace("train.with", place, 1)) from error


def _options(asked: Asked, rows: pl.DataFrame, times: pl.Series | None) -> tuple[BacktestOptions, list[str]]:
    """The options of the replay, and which columns were left out and why; `times` are those of the rows, in order."""
    assert asked.target is not None
    for name in asked.exclude:
        must_exist("--exclude", name, rows.columns)
    reserved = {asked.target, *asked.exclude, *filter(None, (asked.time,))}
    unfit, said = no_features(rows, reserved, asked.features.include)
    return BacktestOptions(
        asked.target,
        asked.cache,
        time=asked.time,
        exclude=(*asked.exclude, *unfit),
        task=asked.task,
        metric=asked.metric,
        **_cut(asked, rows.height, times),
        label_delay=0 if asked.label_delay is None else delay_of(asked.label_delay, clock=times is not None),
        trainer=asked.trainer or DEFAULT_TRAINER,
        parameters=asked.parameters,
        project=asked.project,
        seed=asked.seed,
        cost_per_retrain=asked.costs[0],
        cost_per_error=asked.costs[1],
        slices=asked.slices,
        model=asked.model or model_name(Path(asked.data[0])),
        limits=Limits(jobs=asked.jobs or os.cpu_count() or 1),
    ), said


def _cut(asked: Asked, rows: int, times: pl.Series | None) -> dict[str, Any]:
    """How history is cut."""
    if isinstance(asked.window, str):
        size = duration_of("--window", asked.window, "7d or 6h")
        if times is None or size <= timedelta(0):
            return {"window": size}  # which `prepare` refuses
        return {"window": size, "start": _first(int((times[-1] - times[0]) / size) + 1)}
    if isinstance(asked.window, int):
        many = asked.window
    elif asked.rows_a_window is not None:
        many = rows // asked.rows_a_window
    else:
        many = max(FEWEST, min(WINDOWS, rows // ROWS_A_WINDOW))
    return {"windows": many, "start": _first(many)}


def _first(windows: int) -> int:
    """Windows of the first training set: a tenth of a hundred, and not much less of a short history.

    >>> _first(100), _first(30), _first(8)
    (10, 6, 2)
    """
    return min(FIRST, max(2, windows // 5))


def _said(asked: Asked, options: BacktestOptions, history: History) -> Iterator[str]:
    """What will be done, in a few lines."""
    cut, begins = history.cut, history.begins
    many = "" if history.task == "regression" else f" ({_classes(history)})"
    yield f"{', '.join(asked.data)}: {history.rows.height:,} labelled rows, {len(history.schema.features)} features"
    yield f"{history.task}: {options.target}{many}; metric {history.metric}"
    size = f"about {history.rows.height // cut.windows:,} rows"
    size = size if options.window is None else f"{duration_text(options.window)}, {size}"
    since = f", {begins[0]:%Y-%m-%d} to {begins[-1]:%Y-%m-%d}" if begins else ""
    yield f"{cut.windows} windows of {size}{since}; the first {cut.start} train the first model"
    if history.rows.height < ROWS_A_WINDOW * cut.windows:
        yield f"scores of windows of less than {ROWS_A_WINDOW} rows are mostly noise: give more rows, or fewer windows"
    trainer = "gradient boosting" if options.trainer == DEFAULT_TRAINER else options.trainer
    late = f"{history.delay} {'window' if history.delay == 1 else 'windows'} late" if history.delay else "at once"
    yield f"labels come {late}; trainer: {trainer}, {options.limits.jobs} at a time; models are kept in {options.cache}"


def _classes(history: History) -> str:
    found = history.rows[history.target].unique().sort().to_list()
    return ", ".join(found) if len(found) <= 6 else f"{len(found)} classes"
