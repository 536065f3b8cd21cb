"""Whether pinned rows are fit to train on.

Takes training and held-out rows, the recipe and the champion's reference; gives findings, some of which block
training; never mends a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import polars as pl

from everfit.detect.options import Quality
from everfit.observe.schema import DTYPES
from everfit.profile.table import Profile
from everfit.retrain.recipe import Recipe

SURE = 2.0  # standard errors by which a rise in nulls must clear the limit: few rows do not block
_REMEDY = "mend its source, or take it out of the model with features.exclude"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the rows that a person should know before they are trained on."""

    column: str  # "*" for the rows as a whole
    what: str  # "rows", "type", "vanished", "nulls", "target", "new_class", "duplicates"
    said: str
    blocks: bool  # training on these rows would teach the fault


def inspect(
    train: pl.DataFrame,
    holdout: pl.DataFrame,
    recipe: Recipe,
    *,
    at_least: int,
    reference: Profile | None,
    quality: Quality,
) -> tuple[Finding, ...]:
    """Look for what must not be trained on.

    Without a `reference` (the first champion) recent rows are held to earlier ones.

    Returns:
        What was found; training goes on if none of it blocks.
    """
    return (
        *_rows(train, holdout, recipe, at_least),
        *_twice(train, holdout),
        *_target(train, holdout, recipe, first=reference is None),
        *_features(train, holdout, recipe, reference, quality),
    )


def blocked(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Those that block.

    >>> blocked((Finding("*", "rows", "few rows are held out", blocks=False),))
    ()
    """
    return tuple(each for each in findings if each.blocks)


def _rows(train: pl.DataFrame, holdout: pl.DataFrame, recipe: Recipe, at_least: int) -> Iterator[Finding]:
    if train.height < at_least:
        said = f"only {train.height:,} labelled rows to train on, {at_least:,} needed (train.at_least)"
        yield Finding("*", "rows", said, blocks=True)
    if recipe.holds_out and holdout.is_empty():
        said = "no labelled row is held out to prove a model on; wait for labels (judge.holdout)"
        yield Finding("*", "rows", said, blocks=True)


def _twice(train: pl.DataFrame, holdout: pl.DataFrame) -> Iterator[Finding]:
    ids = pl.concat([train["_id"], holdout["_id"]])
    twice = ids.filter(ids.is_duplicated())
    if twice.len():
        said = f"{twice.n_unique():,} ids stand for more than one row, such as {twice[0]!r}; rows count once"
        yield Finding("_id", "duplicates", said, blocks=True)


def _target(train: pl.DataFrame, holdout: pl.DataFrame, recipe: Recipe, *, first: bool) -> Iterator[Finding]:
    regression = recipe.task == "regression"
    truth = train["_value" if regression else "_label"].drop_nulls()
    if truth.is_empty():
        said = f"{recipe.target} is missing: none of the training rows has a label"
        yield Finding(recipe.target, "target", said, blocks=True)
        return
    if truth.n_unique() == 1:
        said = f"{recipe.target} is {truth[0]!r} in every training row: nothing can be learned"
        yield Finding(recipe.target, "target", said, blocks=True)
    if not regression:
        yield from _classes(set(truth), set(holdout["_label"].drop_nulls()), recipe, first=first)


def _classes(trained: set[str], held_out: set[str], recipe: Recipe, *, first: bool) -> Iterator[Finding]:
    found = trained | held_out
    new = sorted(found - set(recipe.schema.classes)) if recipe.schema.classes else []
    if new:
        said = f"{recipe.target} has a class that was never seen before: {', '.join(new[:5])}"
        yield Finding(recipe.target, "new_class", said, blocks=not first)
    if recipe.task == "binary" and len(found) > 2:
        said = f"{recipe.target} has {len(found)} classes and the task is binary; write task: multiclass"
        yield Finding(recipe.target, "target", said, blocks=True)
    untaught = sorted(held_out - trained)
    if untaught and trained:
        said = f"{recipe.target} is {', '.join(untaught[:5])} in held-out rows and in no training row"
        yield Finding(recipe.target, "new_class", said, blocks=False)


def _features(
    train: pl.DataFrame, holdout: pl.DataFrame, recipe: Recipe, reference: Profile | None, quality: Quality
) -> Iterator[Finding]:
    recent = holdout if holdout.height else train.tail(max(1, train.height // 5))
    for column in recipe.schema.features:
        name, wanted = column.name, DTYPES[column.kind]
        if name not in train.columns:
            yield Finding(name, "vanished", f"{name} is not among the rows any more; {_REMEDY}", blocks=True)
        elif train.schema[name] != wanted:
            said = f"{name} is {train.schema[name]} and was learned as {column.kind.value}; {_REMEDY}"
            yield Finding(name, "type", said, blocks=True)
        elif recent.height:
            before = _before(train, name, reference)
            usual = max([quality.nulls_rise + _share(before), *_stretches(train[name], recent.height)])
            yield from _nulls(name, recent[name], before, usual)


def _before(train: pl.DataFrame, name: str, reference: Profile | None) -> tuple[int, int]:
    """Rows, and how many of them had no value, in the reference; of the training rows without one."""
    if reference is not None and name in reference.columns:
        column = reference.columns[name]
        return column.count, column.absent
    return train.height, train[name].null_count()


def _share(before: tuple[int, int]) -> float:
    rows, absent = before
    return absent / rows if rows else 0.0


def _stretches(earlier: pl.Series, rows: int) -> list[float]:
    """Shares of nulls in whole stretches of earlier rows, as long as the recent ones: what was usual before."""
    starts = range(0, earlier.len() - rows + 1, rows)
    return [earlier.slice(start, rows).null_count() / rows for start in starts]


def _nulls(name: str, recent: pl.Series, before: tuple[int, int], usual: float) -> Iterator[Finding]:
    rows = before[0]
    now = recent.null_count() / recent.len()
    then = _share(before)
    if now == 1.0 and then < 1.0:
        said = f"{name} vanished: all {recent.len():,} recent rows are null, before it was {then:.0%}; {_REMEDY}"
        yield Finding(name, "vanished", said, blocks=True)
        return
    error = sqrt(now * (1 - now) / recent.len() + then * (1 - then) / max(rows, 1))
    if now - SURE * error > usual:
        said = f"{name} is {now:.0%} null in the recent rows, before it was {then:.0%}; {_REMEDY}"
        yield Finding(name, "nulls", said, blocks=True)
