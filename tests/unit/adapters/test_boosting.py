"""The default trainer on columns that are hard to train on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from everfit.adapters.boosting import MOST_CATEGORIES, gradient_boosting
from everfit.errors import TrainingFailed


def some_rows(many: int = 600) -> pd.DataFrame:
    chance = np.random.default_rng(0)
    rare = [f"rare {number}" for number in range(many // 2)]
    return pd.DataFrame(
        {
            "price": np.where(chance.random(many) < 0.1, np.nan, chance.normal(size=many)),
            "tail": pd.Categorical([*rare, *["common"] * (many - len(rare))]),
            "empty": np.full(many, np.nan),
            "blank": pd.Categorical([None] * many),
            "same": 1.0,
            "late": (np.arange(many) >= many // 2).astype(int),
        }
    )


def test_many_categories_missing_values_and_empty_columns_are_taken_as_they_come() -> None:
    rows = some_rows()
    model = gradient_boosting(rows, target="late", seed=0, task="binary", max_iter=10)
    features = rows.drop(columns="late")
    assert (model.predict(features) == rows["late"]).all()
    encoder = model.named_steps["columns"].named_transformers_["categories"]
    assert len(encoder.categories_[0]) == MOST_CATEGORIES
    assert "common" in encoder.categories_[0]
    as_text = features.assign(tail=features["tail"].astype(str), blank=None)
    assert (model.predict_proba(as_text) == model.predict_proba(features)).all()


def test_a_seed_gives_the_same_model() -> None:
    answers = [
        gradient_boosting(some_rows(), target="late", seed=7, task="binary", max_iter=5, early_stopping=True)
        .predict_proba(some_rows().drop(columns="late"))
        .tolist()
        for _ in range(2)
    ]
    assert answers[0] == answers[1]


def test_regression_and_several_classes_are_chosen_by_the_task() -> None:
    rows = some_rows().assign(late=np.arange(600) % 3)
    assert gradient_boosting(rows, target="late", seed=0, task="multiclass", max_iter=2).classes_.tolist() == [0, 1, 2]
    assert not hasattr(gradient_boosting(rows, target="late", seed=0, task="regression", max_iter=2), "classes_")


@pytest.mark.parametrize(
    ("columns", "parameters", "said"),
    [
        pytest.param(
            ["price", "late"], {"depth": 3}, "does not take depth; it takes .*max_depth", id="unknown parameter"
        ),
        pytest.param(["price", "late"], {"random_state": 3}, "does not take random_state", id="the seed is ours"),
        pytest.param(
            ["same", "empty", "late"], {}, "no feature holds two different values", id="nothing to learn from"
        ),
    ],
)
def test_what_cannot_be_trained_is_said(columns: list[str], parameters: dict[str, object], said: str) -> None:
    with pytest.raises(TrainingFailed, match=said):
        gradient_boosting(some_rows()[columns], target="late", seed=0, task="binary", **parameters)
