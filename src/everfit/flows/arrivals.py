"""Rows of two models that came in a span: by who answered, who got a copy, who failed, and by slice.

Takes frames from the lake; gives parts of them; never reads the lake, and never compares.

A row's slice is what its request said in the columns that the spec slices by. A copy carries no columns: it is of the
slice of the answer with its id. A request that nobody could answer is of the slice that its kept text says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from everfit.observe.window import Span
from everfit.standing import Kept

MOST_SLICES = 20  # values of a slicing column, the most frequent first


@dataclass(frozen=True, slots=True)
class Stretch:
    """Traffic as it went from a moment on: 0 mirrored, a share of the keys, 1 live with the champion mirrored."""

    since: datetime
    share: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models that are compared, and how traffic went between them so far."""

    champion: Kept
    challenger: Kept
    stretches: tuple[Stretch, ...] = ()

    def within(self, span: Span) -> Iterator[tuple[Stretch, Span]]:
        """The stretches of a span, each with its part of it."""
        ends = [*(stretch.since for stretch in self.stretches[1:]), span.end]
        for stretch, end in zip(self.stretches, ends, strict=False):
            part = Span(max(stretch.since, span.start), min(end, span.end))
            if part.start < part.end:
                yield stretch, part


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Rows of both models; the columns of `by` are text in `answered` and `refused`."""

    pair: Pair
    answered: pl.DataFrame
    copies: pl.DataFrame
    refused: pl.DataFrame  # _arrived, and the columns of `by`: what the model that answers failed on
    by: tuple[str, ...] = ()

    def during(self, part: Span) -> Arrivals:
        """What was asked in a part of the time."""
        at = pl.col("_arrived").is_between(part.start, part.end, closed="left")
        answered, copies, refused = (frame.filter(at) for frame in (self.answered, self.copies, self.refused))
        return Arrivals(self.pair, answered, copies, refused, self.by)

    @property
    def requests(self) -> tuple[int, int]:
        """Answered or copied, by the champion and by the challenger; a copy on which it failed was asked for too."""
        copied = (self.copies_of_champion.height, self.copies_of_challenger.height)
        return self.by_champion.height + copied[0], self.by_challenger.height + copied[1]

    @property
    def by_champion(self) -> pl.DataFrame:
        """Answers of the champion."""
        return self.answered.filter(pl.col("_model") == self.pair.champion.candidate.id)

    @property
    def own(self) -> pl.DataFrame:
        """Answers of the champion to its own keys: not those that it gave because the challenger failed."""
        instead = self.copies_of_challenger.filter(pl.col("_failed").is_not_null())["_id"]
        return self.by_champion.filter(~pl.col("_id").is_in(instead.implode()))

    @property
    def by_challenger(self) -> pl.DataFrame:
        """Answers of the challenger."""
        return self.answered.filter(pl.col("_model") == self.pair.challenger.candidate.id)

    @property
    def copies_of_champion(self) -> pl.DataFrame:
        """What the champion said of copies, after all traffic had moved."""
        return self.copies.filter(pl.col("_model") == self.pair.champion.candidate.id)

    @property
    def copies_of_challenger(self) -> pl.DataFrame:
        """What the challenger said of copies, and where it failed."""
        return self.copies.filter(pl.col("_model") == self.pair.challenger.candidate.id)

    # ---- who failed --------------------------------------------------------------------------------------------------
    def tried(self, share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What both models were asked in a stretch: `_failed`, and the columns of `by`.

        In the shadow both were asked the same: a copy has an answer of the champion beside it, which did not fail.
        """
        if share == 0:
            copied = self._copied(self.copies_of_challenger)
            return copied.with_columns(_failed=False), copied
        # Servers elsewhere tell where a model failed on a request of its own; ours keep such rows as refused.
        lost, failed = (
            self._copied(copies.filter(pl.col("_failed").is_not_null()))
            for copies in (self.copies_of_champion, self.copies_of_challenger)
        )
        if share < 1:
            return (
                pl.concat([self._said(self.own), self._refusals, lost]),
                pl.concat([self._said(self.by_challenger), failed]),
            )
        live = pl.concat([self._said(self.by_challenger), self._refusals, failed])
        return self._copied(self.copies_of_champion), live

    def _said(self, answers: pl.DataFrame) -> pl.DataFrame:
        return answers.with_columns(_failed=False).select("_failed", *self.by)

    @property
    def _refusals(self) -> pl.DataFrame:
        return self.refused.with_columns(_failed=True).select("_failed", *self.by)

    def _copied(self, copies: pl.DataFrame) -> pl.DataFrame:
        told = self.answered.select("_id", *self.by).unique("_id", keep="first", maintain_order=True)
        joined = copies.select("_id", pl.col("_failed").is_not_null()).join(
            told, on="_id", how="left", maintain_order="left"
        )
        return joined.select("_failed", *self.by)


def slices_of(frames: Sequence[pl.DataFrame], by: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Columns and their values, the most frequent first.

    >>> list(slices_of([pl.DataFrame({"shop": ["a", None, "b"]}), pl.DataFrame({"shop": ["b"]})], ["shop"]))
    [('shop', 'b'), ('shop', 'a')]
    """
    for name in by:
        counted = pl.concat([frame[name] for frame in frames]).drop_nulls().value_counts(name="_rows")
        ordered = counted.sort("_rows", name, descending=[True, False])
        yield from ((name, value) for value in ordered[name].head(MOST_SLICES).to_list())


def columns_in(payloads: pl.Series, types: dict[str, pl.DataType]) -> pl.DataFrame:
    """Columns of rows that were kept as JSON, as text like that of the same columns in the lake.

    >>> columns_in(pl.Series(['{"shop": 3, "open": true}', "{}"]), {"shop": pl.Float64(), "open": pl.Boolean()}).rows()
    [('3.0', 'true'), (None, None)]
    """
    rows = [json.loads(text) for text in payloads.to_list()] if types else []
    found = pl.DataFrame(
        {name: [_text(row.get(name)) for row in rows] for name in types}, schema=dict.fromkeys(types, pl.String)
    )
    numbers = [
        pl.col(name).cast(pl.Float64, strict=False).cast(dtype, strict=False).cast(pl.String)
        for name, dtype in types.items()
        if dtype.is_numeric()
    ]
    return found.with_columns(*numbers)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
