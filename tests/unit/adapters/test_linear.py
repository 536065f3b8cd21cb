"""Linear pipelines folded into one matrix answer as the originals do, or are not folded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge, SGDClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from everfit.adapters.folding import fold
from everfit.adapters.frames import Framing, Meta, categories_in, features_in
from everfit.adapters.linear import SAME
from everfit.adapters.matrix import plain_values
from everfit.adapters.models import FramePredictor, load, write_model
from everfit.errors import ModelUnusable

CLASSES: dict[str, tuple[str, ...]] = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}
NUMBERS, TEXTS = ["price", "weight", "dear"], ["shop", "kind"]


def some_rows(many: int, seed: int) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "shop": chance.choice(["a", "b", "c", "", "nan"], many),
            "price": chance.normal(3.0, 2.0, many),
            "weight": chance.normal(size=many) * 1e4,
            "kind": chance.choice([f"k{n}" for n in range(30)], many),
            "dear": chance.random(many) > 0.3,
        }
    )
    return frame.select(pl.when(pl.Series(chance.random(many) > 0.1)).then(each).alias(each.name) for each in frame)


def meta_of(task: str, rows: pl.DataFrame) -> Meta:
    classes = CLASSES[task]
    return Meta(task, features_in(rows), classes, classes[-1] if task == "binary" else None)


def target_of(task: str, rows: pl.DataFrame) -> Any:
    signal = rows["price"].fill_null(0).to_numpy() + 2 * (rows["shop"] == "a").fill_null(False).to_numpy()
    if task == "regression":
        return np.abs(signal) * 1000
    return np.array(CLASSES[task])[np.digitize(signal, [2.0, 4.0][: len(CLASSES[task]) - 1])]


def columns(*, numbers: Any = None, texts: Any = None) -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("numbers", numbers or make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
            ("texts", texts or OneHotEncoder(handle_unknown="ignore"), TEXTS),
        ]
    )


def imputed(then: Any, **how: Any) -> Any:
    return make_pipeline(SimpleImputer(**how), then)


def linear(model: Any, **how: Any) -> Any:
    return make_pipeline(columns(**how), model)


BUILDS: list[Any] = [
    pytest.param("binary", lambda: make_pipeline(columns(), LogisticRegression(max_iter=300)), id="the usual one"),
    pytest.param("multiclass", lambda: make_pipeline(columns(), LogisticRegression(max_iter=300)), id="three classes"),
    pytest.param("regression", lambda: make_pipeline(columns(), Ridge()), id="numbers"),
    pytest.param("binary", lambda: make_pipeline(columns(), LogisticRegression(solver="liblinear")), id="liblinear"),
    pytest.param("multiclass", lambda: linear(SGDClassifier(loss="log_loss", random_state=0)), id="SGD"),
    pytest.param(
        "regression",
        lambda: linear(LinearRegression(), numbers=imputed(RobustScaler(), strategy="median")),
        id="medians and quartiles",
    ),
    pytest.param(
        "regression",
        lambda: linear(PoissonRegressor(max_iter=500), numbers=imputed(MinMaxScaler())),
        id="another link",
    ),
    pytest.param(
        "binary",
        lambda: make_pipeline(
            columns(texts=make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(drop="first"))),
            MaxAbsScaler(),
            LogisticRegression(max_iter=300),
        ),
        id="imputed texts, a first one dropped, and scaled again",
    ),
    pytest.param(
        "regression",
        lambda: make_pipeline(
            columns(
                numbers=make_pipeline(SimpleImputer(strategy="constant", fill_value=-1.0), "passthrough"),
                texts=make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="none"),
                    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
                ),
            ),
            Ridge(),
        ),
        id="texts as places",
    ),
    pytest.param(
        "regression",
        lambda: Pipeline([("only", ColumnTransformer([("n", SimpleImputer(), [1, 2])])), ("model", Ridge())]),
        id="columns by their places, the others dropped",
    ),
    pytest.param(
        "regression",
        lambda: make_pipeline(
            make_column_transformer((SimpleImputer(), ["price"]), ("drop", TEXTS), remainder=SimpleImputer()), Ridge()
        ),
        id="a remainder",
    ),
]


@pytest.mark.parametrize(("task", "build"), BUILDS)
def test_it_answers_as_the_original(tmp_path: Path, task: str, build: Any) -> None:
    rows = some_rows(600, 1)
    meta = meta_of(task, rows)
    model = build().fit(Framing(meta, categories_in(rows, meta.features)).build(rows), target_of(task, rows))
    write_model(model, tmp_path, meta, rows)
    predictor, original = load(tmp_path), FramePredictor(model, meta, categories_in(rows, meta.features))
    assert predictor.short is not None
    assert predictor.quick is not None
    fresh = some_rows(200, 2)
    for asked in (fresh, fresh[:1], fresh.with_columns(shop=pl.lit("new")), fresh.clear(3)):
        told, found = original.score(asked), predictor.score(asked)
        assert np.abs(found - told).max() <= SAME * max(1.0, float(np.abs(told).max()))
        typed = Framing(meta, categories_in(rows, meta.features)).typed(asked)
        assert np.allclose(predictor.quick(*plain_values(typed, meta)), found, rtol=1e-12)


def test_a_bare_model_of_numbers_folds_and_fails_where_the_original_does(tmp_path: Path) -> None:
    rows = some_rows(300, 3).select(NUMBERS).fill_null(0).with_columns(pl.col("dear").fill_null(False))
    meta = meta_of("binary", rows)
    model = LogisticRegression(max_iter=2000).fit(Framing(meta, {}).build(rows), target_of_numbers(rows))
    write_model(model, tmp_path, meta, rows)
    predictor = load(tmp_path)
    assert predictor.short is not None
    assert np.abs(predictor.score(rows) - FramePredictor(model, meta, {}).score(rows)).max() <= SAME
    with pytest.raises(ModelUnusable, match="NaN"):  # in the library's own words
        predictor.score(rows.clear(1))


def target_of_numbers(rows: pl.DataFrame) -> Any:
    return np.where(rows["price"].to_numpy() > 3, "yes", "no")


def test_an_encoder_that_refuses_the_unknown_refuses_it_still(tmp_path: Path) -> None:
    rows = some_rows(300, 4).select("shop", "price").drop_nulls()
    meta = meta_of("binary", rows)
    build = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["shop"]), ("passthrough", ["price"])), LogisticRegression()
    )
    model = build.fit(Framing(meta, categories_in(rows, meta.features)).build(rows), target_of_numbers(rows))
    write_model(model, tmp_path, meta, rows)
    predictor = load(tmp_path)
    assert predictor.short is not None
    with pytest.raises(ModelUnusable, match="unknown categories"):
        predictor.score(rows.with_columns(shop=pl.lit("new")))


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: linear(make_pipeline(PolynomialFeatures(), Ridge())), id="products of columns"),
        pytest.param(lambda: linear(Ridge(), numbers=SimpleImputer(add_indicator=True)), id="indicators"),
        pytest.param(lambda: linear(Ridge(), numbers=imputed(QuantileTransformer(n_quantiles=5))), id="ranks"),
        pytest.param(lambda: linear(Ridge(), texts=OneHotEncoder(min_frequency=20)), id="rare ones"),
        pytest.param(lambda: linear(Ridge(), numbers=imputed(MinMaxScaler(clip=True))), id="clipped"),
    ],
)  # fmt: skip
def test_a_step_that_is_not_linear_leaves_the_original(tmp_path: Path, build: Any) -> None:
    rows = some_rows(300, 5)
    meta = meta_of("regression", rows)
    model = build().fit(Framing(meta, categories_in(rows, meta.features)).build(rows), target_of("regression", rows))
    assert fold(model, meta, categories_in(rows, meta.features)) is None
    write_model(model, tmp_path, meta, rows)
    assert load(tmp_path).short is None
