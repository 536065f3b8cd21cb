"""What a model said of rows, kept beside its run so that nobody needs to ask again.

Takes a run's folder, a model's file, rows and scores; gives the scores back for the same model and the same rows; never
gives those of others, for what is missing or damaged is asked again.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from everfit.retrain.candidate import ModelFile


def keep_scores(folder: Path, file: ModelFile, holdout: pl.DataFrame, scores: pl.DataFrame) -> None:
    """Keep what training said of the held-out rows under the model's name, with the rows it was said of."""
    place = folder / f"scores-{file.key}.parquet"
    arriving = place.with_suffix(".arriving")
    holdout.select("_id").hstack(scores).write_parquet(arriving)
    arriving.replace(place)


def kept_scores(folder: Path, file: ModelFile, holdout: pl.DataFrame) -> pl.DataFrame | None:
    """What `keep_scores` kept; None if it was on another machine, is damaged, or was said of other rows."""
    place = folder / f"scores-{file.key}.parquet"
    try:
        kept = pl.read_parquet(place)
        same = kept["_id"].equals(holdout["_id"])
    except (OSError, pl.exceptions.PolarsError):
        return None
    return kept.drop("_id") if same else None
