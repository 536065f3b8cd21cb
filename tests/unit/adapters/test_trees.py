"""All trees as one give, to the last digit, what each of them gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from everfit.adapters.folding import fold
from everfit.adapters.frames import Framing, Meta, categories_in, features_in
from everfit.adapters.matrix import plain_values
from everfit.adapters.models import FramePredictor, load, write_model
from everfit.adapters.trees import REPEATED, Trees

CHANCE = np.random.default_rng(3)
MATRIX = np.where(CHANCE.random((600, 5)) < 0.1, np.nan, CHANCE.normal(size=(600, 5)))
MATRIX[:, 0] = CHANCE.integers(0, 40, 600)
SUM = np.nansum(MATRIX[:, 1:], axis=1)
SEVERAL = np.digitize(SUM, [-1, 1])
MODELS: list[Any] = [
    pytest.param(HistGradientBoostingClassifier(max_iter=9), SUM > 0, id="two classes"),
    pytest.param(HistGradientBoostingClassifier(max_iter=4), SEVERAL, id="three classes"),
    pytest.param(HistGradientBoostingRegressor(max_iter=7), SUM, id="numbers"),
    pytest.param(HistGradientBoostingRegressor(max_iter=1), SUM, id="one tree"),
    pytest.param(HistGradientBoostingRegressor(max_iter=3, loss="poisson"), SUM**2, id="another link"),
    pytest.param(HistGradientBoostingRegressor(max_iter=5, categorical_features=[0]), SUM, id="categories"),
    pytest.param(HistGradientBoostingRegressor(max_iter=2, max_depth=1), SUM, id="stumps"),
    pytest.param(HistGradientBoostingRegressor(max_iter=3), np.zeros(600), id="a single leaf"),
]


@pytest.mark.parametrize(("model", "target"), MODELS)
@pytest.mark.parametrize("repeated", [REPEATED, 0], ids=["together", "one by one"])
def test_raw_predictions_are_the_originals(model: Any, target: Any, repeated: int) -> None:
    model.fit(MATRIX, target)
    asked = MATRIX if model._preprocessor is None else model._preprocessor.transform(MATRIX)
    short = Trees(model, repeated)
    for rows in (1, 2, 300):
        assert short.raw(asked[:rows]).tolist() == model._raw_predict(MATRIX[:rows]).tolist()


def frame_of(rows: pl.DataFrame, meta: Meta) -> Any:
    return Framing(meta, categories_in(rows, meta.features)).build(rows)


@pytest.mark.parametrize("shops", [False, True], ids=["numbers alone", "a category from its type"])
def test_a_bare_boosting_on_a_frame_folds(tmp_path: Path, shops: bool) -> None:
    rows = pl.DataFrame(MATRIX[:, 1:], schema=["a", "b", "c", "d"]).fill_nan(None).with_columns(flag=pl.col("a") > 0)
    if shops:
        shop = pl.Series("shop", [None if n > 30 else f"s{n:.0f}" for n in MATRIX[:, 0]])
        rows = rows.select("a", shop, pl.exclude("a"))
    meta = Meta("binary", features_in(rows), ("no", "yes"), "yes")
    frame = frame_of(rows, meta)
    assert isinstance(frame, pd.DataFrame)
    model = HistGradientBoostingClassifier(max_iter=8).fit(frame, np.where(SUM + MATRIX[:, 0] > 20, "yes", "no"))
    write_model(model, tmp_path, meta, rows)
    predictor, original = load(tmp_path), FramePredictor(model, meta, categories_in(rows, meta.features))
    assert predictor.short is not None
    assert predictor.quick is not None
    assert predictor.score(rows).tolist() == original.score(rows).tolist()
    assert predictor.quick(*plain_values(rows, meta)).tolist() == original.score(rows).tolist()


def test_a_class_that_the_model_does_not_know_has_no_chance() -> None:
    rows = pl.DataFrame(MATRIX[:, 1:], schema=["a", "b", "c", "d"]).fill_nan(None)
    meta = Meta("multiclass", features_in(rows), ("n", "u", "y"))
    model = HistGradientBoostingClassifier(max_iter=3).fit(frame_of(rows, meta), np.where(SUM > 0, "y", "n"))
    short = fold(model, meta, {})
    assert short is not None
    scores = short.quick(*plain_values(rows[:5], meta))
    assert scores[:, 1].tolist() == [0.0] * 5
    assert scores[:, [0, 2]].tolist() == model.predict_proba(frame_of(rows[:5], meta)).tolist()


def test_a_model_for_another_task_does_not_fold() -> None:
    rows = pl.DataFrame(MATRIX[:, 1:], schema=["a", "b", "c", "d"]).fill_nan(None)
    meta = Meta("binary", features_in(rows), ("0", "1"), "1")
    frame = frame_of(rows, meta)
    assert fold(HistGradientBoostingRegressor(max_iter=2).fit(frame, SUM), meta, {}) is None
    assert fold(HistGradientBoostingClassifier(max_iter=2).fit(frame, SEVERAL), meta, {}) is None
    assert fold(HistGradientBoostingClassifier(max_iter=2), meta, {}) is None
