"""LightGBM, XGBoost, CatBoost, ONNX and pyfunc: saved, loaded, and asked without pandas where that is the same."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
import skl2onnx
import xgboost
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from everfit.adapters.boosters import SAME
from everfit.adapters.folding import fold
from everfit.adapters.frames import Framing, Meta, categories_in, features_in
from everfit.adapters.judged import JUDGED
from everfit.adapters.matrix import plain_values
from everfit.adapters.models import FramePredictor, load, write_model
from everfit.adapters.trainer import ProcessTrainer
from everfit.errors import ModelUnusable
from everfit.ports import Job

CLASSES: dict[str, tuple[str, ...]] = {"binary": ("false", "true"), "multiclass": ("0", "1", "2"), "regression": ()}
NUMBERS = ["price", "night", "weight"]


def some_rows(many: int, seed: int) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "price": chance.normal(size=many),
            "shop": chance.choice([f"s{n}" for n in range(12)], many),
            "night": chance.random(many) > 0.5,
            "weight": chance.normal(size=many) * 50,
        }
    )
    return frame.select(pl.when(pl.Series(chance.random(many) > 0.1)).then(each).alias(each.name) for each in frame)


def told(task: str, rows: pl.DataFrame) -> tuple[Meta, Framing, Any]:
    classes = CLASSES[task]
    meta = Meta(task, features_in(rows), classes, classes[-1] if task == "binary" else None)
    signal = rows["price"].fill_null(0).to_numpy() + rows["night"].fill_null(False).to_numpy()
    target: Any = signal
    if task == "binary":
        target = signal > 0.5
    if task == "multiclass":
        target = np.digitize(signal, [0.0, 1.0])
    return meta, Framing(meta, categories_in(rows, meta.features)), target


SMALL: dict[str, Any] = {"n_estimators": 8, "n_jobs": 1}
CAT: dict[str, Any] = {"iterations": 8, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
BOOSTERS: list[Any] = [
    pytest.param("binary", lambda: lightgbm.LGBMClassifier(**SMALL, verbose=-1), "all", id="LightGBM"),
    pytest.param("multiclass", lambda: lightgbm.LGBMClassifier(**SMALL, verbose=-1), "all", id="LightGBM classes"),
    pytest.param(
        "regression", lambda: lightgbm.LGBMRegressor(**SMALL, verbose=-1, objective="l1"), "all", id="LightGBM numbers"
    ),
    pytest.param("binary", lambda: xgboost.XGBClassifier(**SMALL, enable_categorical=True), "all", id="XGBoost"),
    pytest.param("multiclass", lambda: xgboost.XGBClassifier(**SMALL), "numbers", id="XGBoost classes"),
    pytest.param("regression", lambda: xgboost.XGBRegressor(**SMALL), "numbers", id="XGBoost numbers"),
    pytest.param("binary", lambda: catboost.CatBoostClassifier(**CAT), "numbers", id="CatBoost"),
    pytest.param("multiclass", lambda: catboost.CatBoostClassifier(**CAT), "numbers", id="CatBoost classes"),
    pytest.param("regression", lambda: catboost.CatBoostRegressor(**CAT), "numbers", id="CatBoost numbers"),
]


@pytest.mark.parametrize(("task", "make", "columns"), BOOSTERS)
def test_a_booster_is_asked_without_pandas_and_says_the_same(
    tmp_path: Path, task: str, make: Any, columns: str
) -> None:
    chosen = some_rows(500, 1).columns if columns == "all" else NUMBERS
    rows, fresh = (some_rows(many, seed).select(chosen) for many, seed in ((500, 1), (100, 2)))
    meta, framing, target = told(task, rows)
    model = make().fit(framing.build(rows), target)
    judged = some_rows(2000, 7).select(chosen).with_columns(pl.col("price") * 1e6)
    write_model(model, tmp_path, meta, rows, judged)
    predictor, original = load(tmp_path), FramePredictor(model, meta, framing.categories)
    assert predictor.short is not None, "it is known, and the kept rows agree"
    assert predictor.quick is not None
    unseen = fresh.with_columns(pl.lit("new").alias("shop")) if columns == "all" else fresh
    for asked in (fresh, fresh[:1], unseen, fresh.clear(2)):
        said = original.score(asked)
        assert np.abs(predictor.score(asked) - said).max() <= SAME
        assert np.abs(predictor.quick(*plain_values(asked, meta)) - said).max() <= SAME


def test_where_the_kept_rows_differ_the_original_answers_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = some_rows(300, 3).select(NUMBERS)
    meta, framing, target = told("regression", rows)
    write_model(lightgbm.LGBMRegressor(**SMALL, verbose=-1).fit(framing.build(rows), target), tmp_path, meta, rows)
    with caplog.at_level("INFO", "everfit.models"):
        assert load(tmp_path).short is not None
        kept = pl.read_parquet(tmp_path / JUDGED)
        kept.with_columns(pl.col("_score").list.eval(pl.element() + 1e-6)).write_parquet(tmp_path / JUDGED)
        assert load(tmp_path).short is None
    answers = [(getattr(each, "answers", ""), getattr(each, "how", "")) for each in caplog.records]
    assert answers[0][0] == "a shorter way"
    assert answers[0][1].startswith("lightgbm without pandas, within 1e-09 of the original on 301 kept rows")
    assert answers[1][0] == "the original"
    assert "further than 1e-09" in answers[1][1]


def test_the_training_child_leaves_the_rows_that_are_judged(tmp_path: Path) -> None:
    rows, judged = some_rows(400, 8).drop("night"), some_rows(1500, 9).drop("night")
    late = pl.Series("late", np.where(rows["price"].fill_null(0) > 0, "1", "0"))
    rows.with_columns(late).write_parquet(tmp_path / "train.parquet")
    judged.with_columns(beside=pl.lit("not a feature")).write_parquet(tmp_path / "holdout.parquet")
    job = Job(
        folder=tmp_path, project=tmp_path, trainer="everfit:gradient_boosting", parameters={"max_iter": 5}, seed=0,
        task="binary", target="late", features=("price", "shop", "weight"), categories=("shop",), classes=("0", "1"),
        timeout=timedelta(minutes=5), memory=4 * 10**9,
    )  # fmt: skip
    made = ProcessTrainer().train(job, lambda: True)
    kept = pl.read_parquet(made.folder / JUDGED)
    assert (kept.height, kept.columns) == (1000, ["price", "shop", "weight", "_score"])
    assert kept[:-1].drop("_score").join(judged, on=judged.columns, how="anti", nulls_equal=True).is_empty()
    predictor = load(made.folder)
    assert predictor.short is not None
    assert np.array(kept["_score"].to_list()).tolist() == predictor.original(kept).tolist()


def test_catboost_with_categories_and_strange_columns_keep_their_own_way() -> None:
    rows = some_rows(300, 4).drop_nulls()
    meta, framing, target = told("binary", rows)
    frame = framing.build(rows)
    assert isinstance(frame, pd.DataFrame)
    model = catboost.CatBoostClassifier(**CAT, cat_features=["shop"]).fit(frame, target)
    assert fold(model, meta, framing.categories) is None
    assert FramePredictor(model, meta, framing.categories).score(rows[:3]).shape == (3, 2)
    other = lightgbm.LGBMClassifier(**SMALL, verbose=-1).fit(frame[["price", "weight"]], target)
    assert fold(other, meta, framing.categories) is None, "it was fitted on other columns"


# ---- ONNX -----------------------------------------------------------------------------------------------------------


def onnx_of(model: Any, inputs: list[Any], **options: Any) -> Any:
    return skl2onnx.convert_sklearn(model, initial_types=inputs, options=options or None, target_opset=17)


@pytest.mark.parametrize("zipmap", [True, False], ids=["chances by name", "chances in a matrix"])
@pytest.mark.parametrize("as_file", [True, False], ids=["a path", "a model"])
def test_an_onnx_model_of_one_matrix_is_served(tmp_path: Path, *, zipmap: bool, as_file: bool) -> None:
    rows = some_rows(300, 5).select(NUMBERS).fill_null(0.0).with_columns(pl.col("night").fill_null(False))
    meta, framing, target = told("multiclass", rows)
    frame = framing.build(rows)
    assert isinstance(frame, pd.DataFrame)
    forest = RandomForestClassifier(5, max_depth=4, random_state=0).fit(frame.to_numpy(), target)
    model = onnx_of(forest, [("X", FloatTensorType([None, 3]))], zipmap=zipmap)
    if as_file:
        (tmp_path / "trained.onnx").write_bytes(model.SerializeToString())
        model = tmp_path / "trained.onnx"
    assert write_model(model, tmp_path / "model", meta, rows).format == "onnx"
    predictor = load(tmp_path / "model")
    expected = forest.predict_proba(frame.to_numpy().astype(np.float32))
    assert np.abs(predictor.score(rows) - expected).max() < 1e-6
    assert predictor.quick is not None
    assert predictor.quick(*plain_values(rows, meta)).tolist() == predictor.score(rows).tolist()


def test_an_onnx_model_with_an_input_for_each_feature_is_served(tmp_path: Path) -> None:
    rows = some_rows(300, 6).select("price", "shop").with_columns(pl.col("shop").fill_null(""))
    meta, framing, target = told_by_price(rows)
    frame = framing.build(rows)
    assert isinstance(frame, pd.DataFrame)
    frame["shop"] = frame["shop"].astype(object)
    encode = make_column_transformer((SimpleImputer(), ["price"]), (OneHotEncoder(handle_unknown="ignore"), ["shop"]))
    model = make_pipeline(encode, LogisticRegression()).fit(frame, target)
    inputs = [("price", FloatTensorType([None, 1])), ("shop", StringTensorType([None, 1]))]
    write_model(onnx_of(model, inputs), tmp_path, meta, rows)
    predictor = load(tmp_path)
    assert np.abs(predictor.score(rows) - model.predict_proba(frame)).max() < 1e-5
    assert np.isfinite(predictor.score(rows.clear(2))).all()


def told_by_price(rows: pl.DataFrame) -> tuple[Meta, Framing, Any]:
    meta = Meta("binary", features_in(rows), CLASSES["binary"], "true")
    return meta, Framing(meta, categories_in(rows, meta.features)), rows["price"].fill_null(0).to_numpy() > 0


def test_an_onnx_regression_is_served(tmp_path: Path) -> None:
    rows = some_rows(300, 7).select("price", "weight").fill_null(0.0)
    meta = Meta("regression", features_in(rows))
    model = Ridge().fit(rows.to_numpy(), rows["price"].to_numpy() * 3)
    write_model(onnx_of(model, [("X", FloatTensorType([None, 2]))]), tmp_path, meta, rows)
    found = load(tmp_path).score(rows)
    assert found.shape == (300, 1)
    assert np.abs(found[:, 0] - model.predict(rows.to_numpy())).max() < 1e-4


def test_an_onnx_model_that_takes_something_else_is_refused_with_the_names(tmp_path: Path) -> None:
    rows = some_rows(50, 8)
    meta = Meta("regression", features_in(rows))
    model = onnx_of(Ridge().fit(np.ones((9, 4)), np.ones(9)), [("X", FloatTensorType([None, 4]))])
    with pytest.raises(ModelUnusable, match="price, shop, night, weight"):
        write_model(model, tmp_path, meta, rows)
    with pytest.raises(ModelUnusable, match="no file is there"):
        write_model(tmp_path / "gone.onnx", tmp_path, meta, rows)


def test_any_pyfunc_of_mlflow_is_served(tmp_path: Path) -> None:
    rows = some_rows(200, 9).select("price", "weight").fill_null(0.0)
    meta, framing, target = told_by_price(rows)
    frame = framing.build(rows)
    model = lightgbm.LGBMClassifier(**SMALL, verbose=-1).fit(frame, target)
    mlflow.lightgbm.save_model(model, str(tmp_path / "saved"), pip_requirements=[])
    assert write_model(tmp_path / "saved", tmp_path / "model", meta, rows).format == "mlflow"
    found = load(tmp_path / "model").score(rows)
    assert (found.argmax(axis=1) == target).mean() > 0.9
