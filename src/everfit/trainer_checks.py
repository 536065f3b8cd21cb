"""What every trainer owes; `everfit.checks.check_trainer` makes laws of it.

Takes a trainer and a job whose rows lie in its folder; gives nothing, or raises AssertionError when a duty is not kept;
never knows how training is done.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from everfit.errors import LeaseLost, ModelUnusable
from everfit.ports import Job, Trainer


@dataclass(frozen=True, slots=True)
class Bout:
    """A trainer with a job whose folder holds `train.parquet` and `holdout.parquet`, and whose code can be trained."""

    trainer: Trainer
    job: Job


def held() -> bool:
    """Say that the lease is held."""
    return True


def _must(holds: bool, said: str) -> None:
    if not holds:
        raise AssertionError(said)


def _refuses(kind: type[Exception], do: Callable[[], object]) -> None:
    try:
        do()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected, and nothing was raised")


def _rows(bout: Bout) -> Path:
    return bout.job.folder / "holdout.parquet"


def _kept(bout: Bout) -> Path:
    """A trained model, where no later run of the job touches it."""
    made = bout.trainer.train(bout.job, held)
    place = bout.job.folder.with_name(f"{bout.job.folder.name}-kept")
    shutil.copytree(made.folder, place, dirs_exist_ok=True)
    return place


def _two(bout: Bout) -> dict[str, Path]:
    """A model, and a folder in which none is."""
    hollow = bout.job.folder.with_name(f"{bout.job.folder.name}-hollow")
    hollow.mkdir(exist_ok=True)
    return {"good": _kept(bout), "hollow": hollow}


def a_row_each(bout: Bout) -> None:
    """A model that was trained scores every row: a number for each class, and the class that it says."""
    model, asked = _kept(bout), pl.read_parquet(_rows(bout))
    found = bout.trainer.score(model, _rows(bout), bout.job, held)
    width = len(bout.job.classes) or 1
    _must(found.height == asked.height, f"{found.height} rows of scores for {asked.height} rows")
    _must(set(found["_score"].list.len()) == {width}, f"scores are not {width} numbers a row")
    wanted: set[str | None] = set(bout.job.classes) or {None}
    _must(set(found["_prediction"]) <= wanted, f"predictions are not among {wanted}")


def asked_again(bout: Bout) -> None:
    """The same rows get the same scores, from one verb and the other."""
    models = {"one": _kept(bout)} | {"two": bout.trainer.train(bout.job, held).folder}
    once = bout.trainer.score(models["one"], _rows(bout), bout.job, held).select("_score", "_prediction")
    each = bout.trainer.score_each(models, _rows(bout), bout.job, held)
    _must(list(each) == ["one", "two"], f"{list(each)} were answered")
    for name, found in each.items():
        _must(isinstance(found, pl.DataFrame), f"{name} failed: {found}")
        _must(isinstance(found, pl.DataFrame) and found.equals(once), f"{name} says something else the second time")


def fails_alone(bout: Bout) -> None:
    """A model that cannot be used fails in words, and the others are scored."""
    found = bout.trainer.score_each(_two(bout), _rows(bout), bout.job, held)
    _must(isinstance(found["good"], pl.DataFrame), f"another's failure became the good model's: {found['good']}")
    _must(isinstance(found["hollow"], str) and bool(found["hollow"]), "a model that is not there was scored")
    _refuses(ModelUnusable, lambda: bout.trainer.score(_two(bout)["hollow"], _rows(bout), bout.job, held))


def lease_is_asked_for(bout: Bout) -> None:
    """Nothing is trained and nobody scored when the lease is lost."""
    models: Mapping[str, Path] = {"good": _kept(bout)}
    _refuses(LeaseLost, lambda: bout.trainer.train(bout.job, lambda: False))
    _refuses(LeaseLost, lambda: bout.trainer.score_each(models, _rows(bout), bout.job, lambda: False))


def nobody_asked(bout: Bout) -> None:
    """Of no models there is nothing to say."""
    _must(bout.trainer.score_each({}, _rows(bout), bout.job, held) == {}, "nobody was asked, and somebody answered")


TRAINER_DUTIES = (a_row_each, asked_again, fails_alone, lease_is_asked_for, nobody_asked)
