"""The default trainer: gradient boosting that takes categories, flags, times and missing values as they come.

Takes a pandas frame with the target in it, a seed and parameters; gives a fitted scikit-learn pipeline; never
needs the rows to be prepared, and never drops one.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from everfit.errors import TrainingFailed

# Histograms have 255 bins. Rarer categories count as missing: to let the encoder group them, it would have to keep them
# all, and look through all of them for every row it is asked about (20,000 categories: 30 ms a row).
MOST_CATEGORIES = 254

OURS = {"random_state", "categorical_features"}
DEFAULTS: dict[str, Any] = {
    # On its own, early stopping begins at 10,001 rows: a model would change its nature as rows come in.
    "early_stopping": False,
}


def gradient_boosting(frame: pd.DataFrame, *, target: str, seed: int, task: str, **parameters: Any) -> Pipeline:
    """Fit scikit-learn's histogram gradient boosting; `parameters` are its own.

    >>> rows = pd.DataFrame({"x": [0.0, 1.0] * 30, "y": [0, 1] * 30})
    >>> gradient_boosting(rows, target="y", seed=0, task="binary", max_iter=5).predict(rows.head(2)).tolist()
    [0, 1]

    Raises:
        TrainingFailed: a parameter is unknown, or no feature holds two different values.
    """
    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    known = set(inspect.signature(kind).parameters) - OURS
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise TrainingFailed(
            f"train.parameters: gradient_boosting does not take {', '.join(unknown)}; "
            f"it takes {', '.join(sorted(known))}"
        )
    categories, moments, numbers = _by_kind(frame.drop(columns=target))
    if not categories + moments + numbers:
        raise TrainingFailed("no feature holds two different values among the training rows: nothing can be learned")
    encode = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        categories=[_most_frequent(frame[name]) for name in categories],
    )
    seconds = FunctionTransformer(np.asarray, kw_args={"dtype": "float64"})
    columns = ColumnTransformer(
        [
            ("categories", encode, categories),
            ("moments", seconds, moments),
            ("numbers", "passthrough", numbers),
        ],
        verbose_feature_names_out=False,
    )
    model = kind(
        random_state=seed,
        categorical_features=list(range(len(categories))) or None,
        **(DEFAULTS | parameters),
    )
    return Pipeline([("columns", columns), ("model", model)]).fit(frame, frame[target].to_numpy())


def _most_frequent(values: pd.Series[Any]) -> list[str]:
    """The most frequent categories, sorted; of equally frequent ones the first by name."""
    counts = values.astype(object).value_counts()
    ranked = sorted(counts.items(), key=lambda each: (-each[1], str(each[0])))
    return sorted(str(name) for name, _ in ranked[:MOST_CATEGORIES])


def _by_kind(frame: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """Names of category, moment and number columns; a single value teaches nothing."""
    categories, moments, numbers = [], [], []
    for name in frame.columns:
        values = frame[name]
        if values.nunique(dropna=False) < 2:
            continue
        if pd.api.types.is_datetime64_any_dtype(values):
            moments.append(name)
        elif pd.api.types.is_numeric_dtype(values):
            numbers.append(name)
        else:
            categories.append(name)
    return categories, moments, numbers
