"""What others would have done with the same flights: retrain every week without a question, or never again.

Takes the demo's rows; gives the scores that each policy's models would have answered; never uses a label before it
had come, nor another trainer, parameters or frames than Everfit's own training: the policies differ, nothing else.

Run as `python -m everfit.demo.rivals ROWS.parquet OUT --first-until ISO --from ISO --until ISO`. Learning from all
rows takes some 200 s of one core for the year, nearly all of it in the trainer. That is the strongest such rival
(learning from the last 30 days takes 60 s and is clearly worse), so it is the one that Everfit is held against;
`--reach DAYS` and `--recent` play the cheaper ones under names of their own.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pandas as pd
import polars as pl

from everfit.adapters.frames import Framing, Meta, categories_in, features_in
from everfit.adapters.models import load
from everfit.adapters.scores import Floats, scores_of
from everfit.clock import ticks
from everfit.demo.flights import FEATURES, PARAMETERS
from everfit.ports import Predictor

WEEK = timedelta(days=7)
MATURE_AFTER = timedelta(days=1)  # as in the demo's spec
RECENT = 30  # days
TARGET, SEED = "late", 0  # Everfit's default seed
CLASSES = ("0", "1")


@dataclass(frozen=True, slots=True)
class Policy:
    """A rival: a new model every week, at once trusted with the next."""

    name: str  # of its file of scores
    rows: timedelta | None  # how far back it learns from; None: everything

    @classmethod
    def weekly(cls, days: int | None) -> Policy:
        """Every week, from the last so many days; its name tells how many.

        >>> Policy.weekly(90).name, Policy.weekly(None).name
        ('weekly_90d', 'weekly')
        """
        return cls("weekly", None) if days is None else cls(f"weekly_{days}d", timedelta(days=days))


@dataclass(frozen=True, slots=True)
class Taught:
    """A model that answers from memory: it is never written, since nobody serves it."""

    model: Any
    meta: Meta
    framing: Framing

    def score(self, rows: pl.DataFrame) -> Floats:
        """Scores, shape (rows, classes)."""
        return scores_of(self.model, self.framing.build(rows), self.meta)


def retrain_times(
    first_until: datetime, begin: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime, datetime]]:
    """When each model is trained, and the span of event time that it answers.

    >>> day = lambda number: datetime(2013, 2, number)
    >>> [(made.day, start.day, end.day) for made, start, end in retrain_times(day(1), day(1), day(18))]
    [(1, 1, 8), (8, 8, 15), (15, 15, 18)]
    """
    start = begin
    while start < until:
        yield (first_until if start == begin else start), start, min(start + WEEK, until)
        start += WEEK


def learnable(flights: pl.DataFrame, now: datetime, reach: timedelta | None) -> pl.DataFrame:
    """The flights whose label had come and whose day had matured, as Everfit takes them, in its order.

    >>> at = lambda day: datetime(2013, 2, day)
    >>> flights = pl.DataFrame({"flight_id": ["a", "b", "c"], "scheduled": [at(1), at(2), at(4)],
    ...                         "landed": [at(2), None, at(4)]})
    >>> learnable(flights, at(5), None)["flight_id"].to_list()
    ['a']
    """
    mature = (pl.col("landed") <= now) & (pl.col("scheduled") < now - MATURE_AFTER)
    recent = pl.lit(value=True) if reach is None else pl.col("scheduled") >= now - MATURE_AFTER - reach
    return flights.filter(mature & recent).sort("scheduled", "flight_id")


def fitted(rows: pl.DataFrame) -> Taught:
    """Train as Everfit's training child does: the same frames, trainer, parameters and seed."""
    # It loads OpenMP, which reads its number of threads once, when it is loaded: `main` sets it before.
    from everfit.adapters.boosting import gradient_boosting  # noqa: PLC0415

    features = rows.select(FEATURES)
    meta = Meta("binary", features_in(features), CLASSES, CLASSES[1])
    framing = Framing(meta, categories_in(features, meta.features))
    frame = cast(pd.DataFrame, framing.build(features))  # `meta.frame` says so
    frame = frame.assign(**{TARGET: rows[TARGET].to_numpy()})
    model = gradient_boosting(frame, target=TARGET, seed=SEED, task="binary", **PARAMETERS)
    return Taught(model, meta, framing)


def play(flights: pl.DataFrame, policy: Policy, times: Sequence[tuple[datetime, datetime, datetime]]) -> pl.DataFrame:
    """The scores that a policy would have answered: `flight_id`, `score`."""
    answered = []
    for made, start, end in times:
        model = fitted(learnable(flights, made, policy.rows))
        answered.append(_scored(model, flights.filter(pl.col("scheduled").is_between(start, end, closed="left"))))
    return pl.concat(answered)


def score_never(model_folder: Path, rows: pl.DataFrame) -> pl.DataFrame:
    """Score flights with one model for good, such as the first champion: `flight_id`, `score`."""
    return _scored(load(model_folder), rows)


def _scored(model: Predictor, rows: pl.DataFrame) -> pl.DataFrame:
    scores = model.score(rows.select(FEATURES))[:, 1]
    return pl.DataFrame({"flight_id": rows["flight_id"], "score": pl.Series(scores, dtype=pl.Float64)})


def main(words: Sequence[str] | None = None) -> None:
    """Play the rivals and write their scores, then `done.json`."""
    asked = _asked(words)
    os.nice(10)  # the replay beside it comes first
    os.environ["OMP_NUM_THREADS"] = "1"
    flights = pl.read_parquet(asked.rows)
    times = list(retrain_times(asked.first_until, asked.begin, asked.until))
    done = {}
    for policy in [Policy.weekly(days) for days in [asked.reach, *([RECENT] if asked.recent else [])]]:
        since = ticks()
        play(flights, policy, times).write_parquet(asked.out / f"{policy.name}.parquet")
        done[policy.name] = {"retrains": len(times), "seconds": round(ticks() - since, 1)}
    (asked.out / "done.json").write_text(json.dumps(done, indent=1) + "\n")


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    ask = argparse.ArgumentParser(prog="everfit.demo.rivals", description="Scores of rival policies.")
    ask.add_argument("rows", type=Path, help="the demo's flights, as Parquet")
    ask.add_argument("out", type=Path, help="folder for the scores")
    ask.add_argument(
        "--first-until", type=datetime.fromisoformat, required=True, help="when the first model is trained"
    )
    ask.add_argument(
        "--from", dest="begin", type=datetime.fromisoformat, required=True, help="the first flight answered"
    )
    ask.add_argument("--until", type=datetime.fromisoformat, required=True, help="after the last flight answered")
    ask.add_argument("--reach", type=int, metavar="DAYS", help="learn from the last days only, as weekly_DAYSd")
    ask.add_argument("--recent", action="store_true", help="also retrain on the last 30 days only")
    return ask.parse_args(words)


if __name__ == "__main__":
    main()
