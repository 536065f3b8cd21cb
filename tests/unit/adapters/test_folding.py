"""The shorter way to ask a model answers as the original does, or is not taken."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from everfit.adapters.boosting import gradient_boosting
from everfit.adapters.folding import fold
from everfit.adapters.frames import Framing, Meta, categories_in, features_in
from everfit.adapters.histograms import SAME
from everfit.adapters.judged import JUDGED, MOST, OLDER
from everfit.adapters.models import FramePredictor, Shelf, load, write_model
from everfit.errors import ModelUnusable

CLASSES = {"binary": ("0", "1"), "multiclass": ("a", "b", "c"), "regression": ()}


def some_rows(many: int, seed: int) -> pl.DataFrame:
    """Columns of every kind, a fifth of each missing; one without any value, one of a single category."""
    chance = np.random.default_rng(seed)
    start = datetime(1969, 6, 1, tzinfo=UTC)
    built = [start + timedelta(days=int(day), microseconds=int(day)) for day in chance.integers(0, 900, many)]
    frame = pl.DataFrame(
        {
            "late": chance.random(many) > 0.5,
            "built": pl.Series(built, dtype=pl.Datetime("us", "UTC")),
            "sent": pl.Series(built[::-1], dtype=pl.Datetime("us", "UTC")),
            "price": chance.normal(size=many),
            "shop": chance.choice(["a", "b", "c", "", "nan", "None"], many),
            "only": pl.Series(["one"] * many),
            "tail": chance.choice([f"tail {number}" for number in range(400)], many),
            "empty": pl.Series([None] * many, dtype=pl.Float64),
            "blank": pl.Series([None] * many, dtype=pl.String),
            "dear": chance.normal(size=many) * 1e9,
        }
    )
    return frame.select(pl.when(pl.Series(chance.random(many) > 0.2)).then(each).alias(each.name) for each in frame)


@cache
def kept(task: str, seed: int) -> tuple[bytes, Meta, pl.DataFrame]:
    """A model, trained once for all tests; packed, for some change it."""
    rows = some_rows(800, seed)
    meta = Meta(task, features_in(rows), CLASSES[task], CLASSES[task][-1] if task == "binary" else None)
    signal = rows["price"].fill_null(0).to_numpy() + (rows["shop"] == "a").fill_null(False).to_numpy()
    target: NDArray[Any] = signal
    if task != "regression":
        target = np.array(CLASSES[task])[np.digitize(signal, [-0.3, 0.6][: len(CLASSES[task]) - 1])]
    frame = Framing(meta, categories_in(rows, meta.features)).build(rows)
    assert isinstance(frame, pd.DataFrame)
    model = gradient_boosting(frame.assign(y=target), target="y", seed=seed, task=task, max_iter=15)
    return pickle.dumps(model), meta, rows


def trained(task: str, seed: int = 0) -> tuple[Pipeline, Meta, pl.DataFrame]:
    model, meta, rows = kept(task, seed)
    return pickle.loads(model), meta, rows


def written(folder: Path, task: str, seed: int = 0) -> tuple[FramePredictor, FramePredictor]:
    """What is loaded, and the original."""
    model, meta, rows = trained(task, seed)
    write_model(model, folder, meta, rows)
    return load(folder), FramePredictor(model, meta, categories_in(rows, meta.features))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.simulation) for seed in (1, 2))])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_it_answers_as_the_original(tmp_path: Path, task: str, seed: int) -> None:
    predictor, original = written(tmp_path, task, seed)
    assert predictor.short is not None
    fresh = some_rows(300, seed + 100)
    nothing = fresh.clear(5)
    unseen = fresh.with_columns(shop=pl.lit("new"), tail=pl.lit("newer"))
    for rows in (fresh, fresh[:1], nothing, nothing[:1], unseen, fresh.select(reversed(fresh.columns)), fresh.clear()):
        found = predictor.score(rows)
        assert found.shape == (rows.height, len(CLASSES[task]) or 1)
        assert np.abs(found - original.score(rows)).max(initial=0.0) <= SAME


def test_other_types_are_cast_as_for_the_original(tmp_path: Path) -> None:
    predictor, original = written(tmp_path, "binary")
    rows = some_rows(50, 7).with_columns(
        pl.col("price").cast(pl.Float32), pl.col("dear").cast(pl.Int64), pl.col("shop").cast(pl.Categorical)
    )
    assert predictor.short is not None
    assert predictor.score(rows).tolist() == original.score(rows).tolist()


def test_a_model_of_numbers_alone_and_one_of_categories_alone_fold(tmp_path: Path) -> None:
    for names in (["price", "dear"], ["shop", "tail"], ["built", "late"]):
        rows = some_rows(400, 1).select(names)
        meta = Meta("regression", features_in(rows))
        frame = Framing(meta, categories_in(rows, meta.features)).build(rows)
        assert isinstance(frame, pd.DataFrame)
        model = gradient_boosting(frame.assign(y=np.arange(400.0)), target="y", seed=0, task="regression", max_iter=5)
        folder = tmp_path / names[0]
        write_model(model, folder, meta, rows)
        predictor = load(folder)
        original = FramePredictor(model, meta, categories_in(rows, meta.features))
        assert predictor.short is not None
        assert predictor.score(rows).tolist() == original.score(rows).tolist()


def other_scores(judged: Path) -> None:
    rows = pl.read_parquet(judged)
    rows.with_columns(pl.col("_score").list.eval(pl.element() + 1e-9)).write_parquet(judged)


def fewer_columns(judged: Path) -> None:
    pl.read_parquet(judged).drop("shop").write_parquet(judged)


def one_score(judged: Path) -> None:
    rows = pl.read_parquet(judged).with_row_index("_at")
    other = pl.col("_score").list.eval(pl.element() + 1e-9)
    rows.with_columns(pl.when(pl.col("_at") == 777).then(other).otherwise("_score").alias("_score")).drop(
        "_at"
    ).write_parquet(judged)


def no_scores(judged: Path) -> None:
    pl.read_parquet(judged).drop("_score").write_parquet(judged)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(other_scores, id="the original answered something else"),
        pytest.param(one_score, id="the original answered something else to one row"),
        pytest.param(fewer_columns, id="the rows are not the model's"),
        pytest.param(no_scores, id="the original's scores are missing"),
        pytest.param(lambda judged: judged.write_bytes(b"nonsense"), id="the file is damaged"),
        pytest.param(Path.unlink, id="there is no file"),
    ],
)
def test_the_original_answers_where_nothing_shows_that_both_agree(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    _, original = written(tmp_path, "binary")
    change(tmp_path / JUDGED)
    predictor = load(tmp_path)
    assert predictor.short is None
    rows = some_rows(20, 3)
    assert predictor.score(rows).tolist() == original.score(rows).tolist()


def a_plain_model(model: Pipeline) -> Any:
    return model.named_steps["model"]


def another_build(model: Pipeline) -> Any:
    model.named_steps["columns"].remainder = "passthrough"
    return model


def another_encoder(model: Pipeline) -> Any:
    model.named_steps["columns"].transformers[0][1].unknown_value = -1
    return model


def a_step_more(model: Pipeline) -> Any:
    return Pipeline([("first", "passthrough"), *model.steps])


def a_relative(model: Pipeline) -> Any:
    model.named_steps["model"].__class__ = type("Relative", (HistGradientBoostingClassifier,), {})
    return model


def weighed(model: Pipeline) -> Any:
    columns = model.named_steps["columns"]
    assert isinstance(columns, ColumnTransformer)
    columns.transformer_weights = {"numbers": 2.0}
    return model


@pytest.mark.parametrize("change", [a_plain_model, another_build, another_encoder, a_step_more, a_relative, weighed])
def test_only_what_boosting_makes_is_folded(change: Callable[[Pipeline], Any]) -> None:
    model, meta, rows = trained("binary")
    categories = categories_in(rows, meta.features)
    assert fold(model, meta, categories) is not None
    assert fold(change(model), meta, categories) is None


def test_the_rows_that_are_judged_are_kept_and_else_the_newest_of_training(tmp_path: Path) -> None:
    model, meta, rows = trained("binary")
    judged = some_rows(3000, 5)
    for name, given, source in (("held", judged, judged), ("none", None, rows), ("empty", judged.clear(), rows)):
        write_model(model, tmp_path / name, meta, rows, given)
        kept = pl.read_parquet(tmp_path / name / JUDGED)
        assert kept.height == min(MOST, source.height + 1)
        assert kept[:-1].drop("_score").join(source, on=source.columns, how="anti", nulls_equal=True).is_empty()
        assert kept[-1].drop("_score").null_count().sum_horizontal().item() == kept.width - 1
        assert load(tmp_path / name).short is not None


def test_the_log_says_the_tolerance_and_how_many_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "everfit.models"):
        written(tmp_path, "binary")
    told = getattr(caplog.records[-1], "how", "")
    assert told.endswith("within 1e-12 of the original on 801 kept rows (0)")


def test_a_folder_of_an_older_version_keeps_its_own_file(tmp_path: Path) -> None:
    written(tmp_path, "binary")
    (tmp_path / JUDGED).rename(tmp_path / OLDER)
    assert load(tmp_path).short is not None
    other_scores(tmp_path / OLDER)
    assert load(tmp_path).short is None


def test_kept_rows_are_part_of_what_the_shelf_knows_a_model_by(tmp_path: Path) -> None:
    written(tmp_path / "made", "binary")
    file = Shelf(tmp_path / "shelf").keep(tmp_path / "made", "skops")
    place = Shelf(tmp_path / "shelf").path(file)
    other_scores(place / JUDGED)
    with pytest.raises(ModelUnusable, match="not the ones that were judged"):
        Shelf(tmp_path / "shelf").path(file)
