"""What the training child does: call the user's trainer, save its model, let the saved copy score the held-out rows.

Takes a task file; gives `result.json` beside it, a model's folder and a Parquet file of scores; never
decides whether the model is any good, only that it can predict.
"""

from __future__ import annotations

import inspect
import json
import random
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from everfit.adapters.answering import answers, failure, scored
from everfit.adapters.frames import Framing, Meta, categories_in, features_in, natural
from everfit.adapters.models import FramePredictor, load, write_model
from everfit.errors import ModelUnusable, TrainingFailed

if TYPE_CHECKING:
    import pandas as pd

BUILT_IN = {"everfit:gradient_boosting": "everfit.adapters.boosting"}
CHECKED_ROWS = 200  # so many training rows are predicted before a model counts as one if none are held out
SCORES = "scores.parquet"  # in the job's folder: what a model says of the held-out rows


@dataclass(frozen=True, slots=True)
class Task:
    """What the child is told: the fields of `ports.Job` that training needs."""

    folder: str
    project: str
    trainer: str
    parameters: Mapping[str, Any]
    seed: int
    task: str
    target: str
    features: list[str]
    categories: list[str]
    classes: list[str]
    positive: str | None = None
    timed_rows: int = 0  # if rows are to be timed, the held-out ones are scored later, by the scoring child


def work(file: Path) -> int:
    """Do what a task file says and write `result.json` beside it; the exit code: 0 done, 1 not."""
    told = Task(**json.loads(file.read_text()))
    try:
        result = {"ok": True, **train(told)}
    except BaseException as error:  # the user's code may raise anything, SystemExit and MemoryError too
        traceback.print_exc()
        result = failure(error, told.project)
    (file.parent / "result.json").write_text(json.dumps(result))
    return 0 if result["ok"] else 1


def train(told: Task) -> dict[str, Any]:
    """Call the trainer with `train.parquet`, save what it returns, and see that the saved copy predicts."""
    folder = Path(told.folder)
    rows = pl.read_parquet(folder / "train.parquet")
    features = rows.select(
        pl.col(name).cast(pl.String) if name in told.categories else pl.col(name) for name in told.features
    )
    fit = find_trainer(told.trainer, Path(told.project))
    meta = Meta(
        task=told.task,
        features=features_in(features),
        classes=tuple(told.classes),
        positive=told.positive if told.positive is not None else (told.classes[-1] if told.classes else None),
        frame="polars" if takes_polars(fit) else "pandas",
    )
    random.seed(told.seed)
    np.random.seed(told.seed % 2**32)  # the user's code reads it
    frame = with_target(Framing(meta, categories_in(features, meta.features)).build(features), rows, told)
    model = fit(frame, **arguments_for(fit, told))
    if model is None:
        raise TrainingFailed(f"{told.trainer} returned nothing; it must return a model that can predict")
    held_out = folder / "holdout.parquet"
    judged = pl.read_parquet(held_out) if held_out.exists() else features.clear()
    meta = write_model(model, folder / "model", meta, features, judged)
    _check(load(folder / "model"), told, features, judged)
    return {"format": meta.format}


def find_trainer(trainer: str, project: Path) -> Callable[..., Any]:
    """Import `module:function`, from the project's folder first.

    Raises:
        TrainingFailed: there is no such module or function.
    """
    module_name, name = trainer.split(":")
    sys.path.insert(0, str(project))
    sys.dont_write_bytecode = True  # the project's folder is the user's: nothing is left in it
    try:
        module = import_module(BUILT_IN.get(trainer, module_name))
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise TrainingFailed(
            f"train.with: there is no module {module_name!r} in {project}; write it to {module_name}.py there"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        near = get_close_matches(name, [each for each in vars(module) if not each.startswith("_")], n=1)
        remedy = f"; did you mean {near[0]!r}?" if near else ""
        raise TrainingFailed(f"train.with: module {module_name!r} has no function {name!r}{remedy}")
    return found  # type: ignore[no-any-return]  # callable() tells mypy nothing of what it returns


def takes_polars(fit: Callable[..., Any]) -> bool:
    """Whether the function's first parameter is annotated as a polars frame.

    >>> def fit(frame: pl.DataFrame) -> None: ...
    >>> takes_polars(fit), takes_polars(lambda frame: frame)
    (True, False)
    """
    first = next(iter(inspect.signature(fit).parameters.values()), None)
    wanted = first.annotation if first else None
    return wanted is pl.DataFrame or str(wanted).strip("'\"") in {"pl.DataFrame", "polars.DataFrame"}


def arguments_for(fit: Callable[..., Any], told: Task) -> dict[str, Any]:
    """Keyword arguments: `target`, `seed`, `task` where the function names them, and the spec's parameters.

    Raises:
        TrainingFailed: the function does not take a parameter, or wants one that nobody gives.
    """
    named = inspect.signature(fit).parameters
    rest = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in named.values())
    unknown = [name for name in told.parameters if name not in named and not rest]
    if unknown:
        near = get_close_matches(unknown[0], list(named), n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(list(named)[1:]) or 'no parameters'}"
        raise TrainingFailed(f"train.parameters: {told.trainer} does not take {unknown[0]!r}; {remedy}")
    offered = {"target": told.target, "seed": told.seed, "task": told.task}
    given = {name: value for name, value in offered.items() if name in named} | dict(told.parameters)
    try:
        inspect.signature(fit).bind(None, **given)
    except TypeError as error:
        raise TrainingFailed(
            f"{told.trainer} cannot be called with a frame and {', '.join(given)}: {error}; what "
            "it needs besides target, seed and task stands in train.parameters"
        ) from error
    return given


def with_target(frame: pd.DataFrame | pl.DataFrame, rows: pl.DataFrame, told: Task) -> pd.DataFrame | pl.DataFrame:
    """Add the target under its own name and as its natural value."""
    told_as = rows[told.target]
    if told_as.null_count():
        raise TrainingFailed(f"{told_as.null_count()} training rows have no {told.target!r}")
    values: pl.Series
    if told.task == "regression":
        values = told_as.cast(pl.Float64)
    else:
        text = told_as.cast(pl.String)
        classes = sorted({*told.classes, *text.unique()})
        values = pl.Series(told.target, text.replace_strict(dict(zip(classes, natural(classes), strict=True))))
    if isinstance(frame, pl.DataFrame):
        return frame.with_columns(values.alias(told.target))
    return frame.assign(**{told.target: values.to_numpy()})


def _check(predictor: FramePredictor, told: Task, features: pl.DataFrame, rows: pl.DataFrame) -> None:
    """Let the saved copy predict rows that it has not seen, and leave what it said of them for the judge.

    Raises:
        ModelUnusable: it cannot, or what it says are not probabilities.
    """
    scores = scored(predictor, rows if rows.height else features.head(CHECKED_ROWS))
    if predictor.meta.task != "regression":
        off = np.abs(scores.sum(axis=1) - 1)
        if off.max() > 1e-3 or scores.min() < -1e-9:
            raise ModelUnusable(
                f"the model's scores are no probabilities: a row's are {scores[off.argmax()].tolist()}; "
                "predict_proba must give a column per class, from 0 to 1, with rows that add up to 1"
            )
    if rows.height and not told.timed_rows:  # an untimed row cannot be held to a limit of latency
        answers(scores, predictor.meta, [None] * rows.height).write_parquet(Path(told.folder) / SCORES)
