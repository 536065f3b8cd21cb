"""A project folder: begun from a file of data, and checked before anything runs.

Takes a data file and column names, or a folder; gives a spec that works, or sentences about what does not; never
overwrites what is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from everfit.adapters.sources import read_rows
from everfit.app.children import child_environment
from everfit.app.releases import gateway_problem
from everfit.app.wiring import App
from everfit.decide.policy import default_triggers
from everfit.errors import EverfitError, Refused, UsageError
from everfit.observe.intake import Rules, take_history
from everfit.observe.options import FeatureOptions, FilesSource
from everfit.observe.schema import Schema, learn
from everfit.retrain.options import DEFAULT_TRAINER
from everfit.settings import SPEC_FILE
from everfit.spec import Spec, parse_spec
from everfit.units import duration_text

ANSWER = "write one with `everfit backtest DATA --target COL --json FILE`"
FEW_CLASSES = 20  # a whole-number target with more values is a quantity, not a class
ROWS_A_WINDOW = 400  # wanted; windows are then twice what a reading needs at least
WINDOWS = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=7), timedelta(days=30))


@dataclass(frozen=True, slots=True)
class Begun:
    """A project folder that was written."""

    spec: Path
    task: str
    rows: int
    said: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says of their data."""

    data: Path
    time: str
    target: str
    id: str | None = None
    model: str | None = None
    task: str | None = None


def begin(folder: Path, wanted: Wanted) -> Begun:
    """Write `everfit.yaml` for a file of labelled rows.

    Raises:
        UsageError: a column is missing, or the folder holds a spec already.
        Refused: the file cannot be read.
    """
    spec = folder / SPEC_FILE
    if spec.exists():
        raise UsageError(f"{spec} is there already; edit it, or name another folder")
    rows = read_rows(wanted.data)
    for name in filter(None, (wanted.time, wanted.target, wanted.id)):
        if name not in rows.columns:
            raise UsageError(f"{wanted.data}: there is no column {name!r}; columns: {', '.join(rows.columns)}")
    task = wanted.task or _task_of(rows[wanted.target])
    rules = Rules(task=task, target=wanted.target, time=wanted.time, id=wanted.id)
    places = iter(range(rows.height))
    taken, labels = take_history(rows, rules, now=None, issue=lambda: str(next(places)))
    if taken.rows.is_empty():
        raise Refused(f"{wanted.data}: no row can be taken: {', '.join(taken.reasons())}")
    never = names_of_rows(rows, rules.reserved)
    schema = learn(rows, reserved=rules.reserved, options=FeatureOptions(exclude=never))
    folder.mkdir(parents=True, exist_ok=True)
    spec.write_text(_spec_text(wanted, task, taken.rows["_time"], (folder, never)), encoding="utf-8")
    said = (
        f"{rows.height:,} rows, {labels.rows.height:,} of them labelled, {len(schema.features)} features",
        *(f"{count:,} rows would be refused: {reason}" for reason, count in taken.reasons().items()),
    )
    return Begun(spec, task, rows.height, said)


def begin_from(folder: Path, answer: Path, data: Path | None = None, time: str | None = None) -> Begun:
    """Write the spec that a backtest recommends, with its data as the source of rows.

    Args:
        folder: the project's folder.
        answer: the JSON file of `everfit backtest`.
        data: where the rows are, if not where the backtest read them.
        time: the column of event times, for a backtest that had none.

    Raises:
        UsageError: the file is no answer of a backtest, it has no spec or no times, or the folder holds a spec already.
        SpecError: what it recommends is no spec.
    """
    spec = folder / SPEC_FILE
    if spec.exists():
        raise UsageError(f"{spec} is there already; edit it, or name another folder")
    told = _answer(answer)
    files = told["data"] if data is None else [str(data)]
    best = told["recommended"]
    if best["spec"] is None:
        raise UsageError(
            f"{answer}: it recommends {best['policy']}, which no spec can say; begin with --data and --time"
        )
    if time is None and not told["read"]["begins"]:
        raise UsageError(f"{answer}: the backtest had no column of times; name that of your rows with --time")
    wanted: dict[str, Any] = yaml.safe_load(best["spec"])
    wanted |= {} if time is None else {"time": time}
    observe = wanted.pop("observe", {})
    if len(files) == 1 and "source" not in observe:
        observe["source"] = {"kind": "files", "path": os.path.relpath(Path(files[0]).absolute(), folder.absolute())}
    head = {name: wanted.pop(name) for name in ("model", "task", "target", "time", "id") if name in wanted}
    body = yaml.safe_dump(head | {"observe": observe} | wanted, sort_keys=False, allow_unicode=True)
    read = parse_spec(body, str(answer))
    folder.mkdir(parents=True, exist_ok=True)
    spec.write_text(f"# Recommended by `everfit backtest`: {' '.join(best['said'].split())}\n{body}", encoding="utf-8")
    return Begun(spec, read.task, told["read"]["rows"], tuple(_left_to_do(folder, read, files)))


def _answer(file: Path) -> dict[str, Any]:
    """The JSON of a backtest, as far as a project needs it."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        read, best = told["read"], told["recommended"]
        whole = isinstance(read["rows"], int) and isinstance(read["begins"], list) and isinstance(told["data"], list)
        whole = whole and isinstance(best["said"], str) and isinstance(best["spec"], str | None)
    except FileNotFoundError:
        raise UsageError(f"{file}: there is no such file; {ANSWER}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: not the answer of a backtest; {ANSWER}") from error
    if not whole:
        raise UsageError(f"{file}: not the answer of a backtest; {ANSWER}")
    return dict(told)


def _left_to_do(folder: Path, spec: Spec, files: list[str]) -> Iterator[str]:
    """What was done, and what the user must still do."""
    trainer = spec.train.trainer
    yield "as the backtest recommends"
    if len(files) > 1:
        yield f"rows arrive over HTTP: the backtest read {len(files)} files, and a source is one file or glob"
    if trainer != DEFAULT_TRAINER and not (folder / f"{trainer.partition(':')[0].replace('.', '/')}.py").is_file():
        yield f"put the module of {trainer} beside it"


def _task_of(target: pl.Series) -> str:
    values = target.drop_nulls()
    if values.n_unique() < 2:
        raise UsageError(
            f"the target {target.name!r} has {values.n_unique()} different values; there is nothing to learn"
        )
    if target.dtype.is_float() and not (values == values.floor()).all():
        return "regression"
    if values.n_unique() == 2:
        return "binary"
    return "regression" if target.dtype.is_numeric() and values.n_unique() > FEW_CLASSES else "multiclass"


def names_of_rows(rows: pl.DataFrame, reserved: Collection[str]) -> tuple[str, ...]:
    """Text columns in which nearly every row has a value of its own: names, not categories.

    >>> names_of_rows(pl.DataFrame({"id": [f"row {n}" for n in range(300)], "shop": ["a", "b", "c"] * 100}), ())
    ('id',)
    """
    text = [name for name in rows.columns if rows[name].dtype == pl.String and name not in reserved]
    return tuple(name for name in text if rows[name].n_unique() > max(100, rows.height // 2))


def model_name(data: Path) -> str:
    """A model's name from that of its file.

    >>> model_name(Path("late flights (2013).csv.gz")), model_name(Path("days/*.parquet"))
    ('late-flights--2013', 'model')
    """
    stem = data.name.partition(".")[0]
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).strip("-._") or "model"


def _spec_text(wanted: Wanted, task: str, times: pl.Series, rest: tuple[Path, tuple[str, ...]]) -> str:
    folder, excluded = rest
    span: timedelta = times.max() - times.min()  # type: ignore[operator, assignment]  # polars types a moment as any value
    per_window = span / max(1, len(times) / ROWS_A_WINDOW)
    window = next((w for w in WINDOWS if w >= per_window), WINDOWS[-1])
    name = wanted.model or model_name(wanted.data)
    data = os.path.relpath(wanted.data.resolve(), folder.resolve())
    lines = [
        f"model: {_quoted(name)}",
        f"task: {task}",
        f"target: {_quoted(wanted.target)}",
        f"time: {_quoted(wanted.time)}",
        *([f"id: {_quoted(wanted.id)}"] if wanted.id else []),
        "# ---- all below is optional; `everfit schema` lists every key -----------------------",
        *([f"features: {{exclude: [{', '.join(map(_quoted, excluded))}]}}"] if excluded else []),
        "observe:",
        f"  window: {duration_text(window)}",
        f"  source: {{kind: files, path: {_quoted(data)}}}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A name as YAML reads it back: `null`, `no` and `2013` are no text unless they are quoted."""
    plain = text.replace("_", "").replace("-", "").isalnum() and not text[0].isdigit()
    return text if plain and yaml.safe_load(text) == text else json.dumps(text, ensure_ascii=False)


# ---- check -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was looked at."""

    what: str
    ok: bool
    said: str


def check(app: App) -> list[Checked]:
    """Look at everything that can be wrong before a run: trainer, data, columns, database."""
    return [
        Checked("spec", True, f"{app.settings.spec.name} is valid; primary metric {app.spec.primary}"),
        _triggers(app),
        _trainer(app),
        *_source(app),
        _database(app),
        _gateway(app),
    ]


def _gateway(app: App) -> Checked:
    """Whether the gateway can do what the roll-out asks for, before a release finds out."""
    problem = gateway_problem(app)
    name = app.settings.gateway.partition(":")[0] or "the built-in one"  # an address may hold a secret
    return Checked("gateway", not problem, problem or f"{name} can do what rollout asks for")


def _triggers(app: App) -> Checked:
    try:
        loaded = len(app.functions)
    except UsageError as error:
        return Checked("triggers", False, str(error))
    named = ", ".join(trigger.name for trigger in app.spec.triggers or default_triggers())
    return Checked("triggers", True, named + (f"; {loaded} functions of yours are loaded" if loaded else ""))


def _trainer(app: App) -> Checked:
    """Import the trainer in a child, as a run would."""
    name = app.spec.train.trainer
    code = (
        "import sys; from pathlib import Path; from everfit.adapters.fitting import find_trainer; "
        "find_trainer(sys.argv[1], Path.cwd())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, name], cwd=app.settings.project, env=child_environment(), capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    if run.returncode == 0:
        return Checked(
            "trainer",
            True,
            "the default: gradient boosting" if name == DEFAULT_TRAINER else f"{name} can be imported",
        )
    last = (run.stderr.strip().splitlines() or ["it could not be imported"])[-1]
    return Checked("trainer", False, f"train.with: {name}: {last}")


def _source(app: App) -> list[Checked]:
    source = app.spec.observe.source
    if not isinstance(source, FilesSource):
        return [Checked("source", True, "rows arrive over HTTP or from Python")]
    found = (
        sorted(app.settings.project.glob(source.path)) if not Path(source.path).is_absolute() else [Path(source.path)]
    )
    found = found or [path for path in [app.settings.project / source.path] if path.exists()]
    if not found:
        return [Checked("source", False, f"observe.source.path: no file matches {source.path!r}")]
    try:
        rows = read_rows(found[0])
        _schema_of(app, rows)
    except EverfitError as error:
        return [Checked("source", False, str(error))]
    missing = [name for name in (app.spec.time, app.spec.id) if name and name not in rows.columns]
    if missing:
        return [
            Checked(
                "source",
                False,
                f"{found[0].name}: no column {missing[0]!r}; columns: {', '.join(rows.columns)}",
            )
        ]
    return [
        Checked("source", True, f"{len(found)} files; {found[0].name} has {rows.height:,} rows"),
        _target(app, rows),
    ]


def _schema_of(app: App, rows: pl.DataFrame) -> Schema:
    return learn(rows, reserved=app.rules.reserved, options=app.spec.features)


def _target(app: App, rows: pl.DataFrame) -> Checked:
    target = app.spec.target
    if target not in rows.columns:
        return Checked("target", app.spec.id is not None, f"{target!r} is not in the file; labels must come by id")
    classes = rows[target].drop_nulls().n_unique()
    if classes < 2:
        return Checked("target", False, f"{target!r} has {classes} different values; there is nothing to learn")
    if app.spec.task == "binary" and classes > 2:
        return Checked("target", False, f"{target!r} has {classes} different values; task: multiclass or regression?")
    return Checked("target", True, f"{target!r} has {classes:,} different values in {rows.height:,} rows")


def _database(app: App) -> Checked:
    try:
        app.store.models()
    except EverfitError as error:
        return Checked("ledger", False, str(error))
    return Checked("ledger", True, app.settings.database.split("@")[-1])
