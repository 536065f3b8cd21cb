"""Reading what a model answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from everfit.adapters.frames import Meta
from everfit.adapters.scores import scores_of
from everfit.errors import ModelUnusable

FRAME = pd.DataFrame({"price": [1.0, 2.0]})
BINARY = Meta("binary", (), ("0", "1"), "1")
THREE = Meta("multiclass", (), ("10", "2", "9"), None)


class Says:
    """A model with one answer."""

    def __init__(self, answer: Any, classes: Any = None) -> None:
        self._answer = answer
        if classes is not None:
            self.classes_ = np.array(classes)

    def predict(self, frame: pd.DataFrame) -> Any:
        return self._answer


class SaysChances(Says):
    """A model that gives chances too."""

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        return self._answer


@pytest.mark.parametrize(
    ("model", "meta", "expected"),
    [
        pytest.param(
            SaysChances([[0.9, 0.1], [0.2, 0.8]], [0, 1]), BINARY, [[0.9, 0.1], [0.2, 0.8]], id="a column each"
        ),
        pytest.param(
            SaysChances([[0.9, 0.1], [0.2, 0.8]], [1, 0]), BINARY, [[0.1, 0.9], [0.8, 0.2]], id="by its classes"
        ),
        pytest.param(
            SaysChances([[0.2, 0.3, 0.5]] * 2),
            THREE,
            [[0.5, 0.2, 0.3]] * 2,
            id="without classes in natural order, 2 9 10",
        ),
        pytest.param(
            SaysChances([[0.4, 0.6]] * 2, [2, 9]),
            THREE,
            [[0.0, 0.4, 0.6]] * 2,
            id="a class it does not know has no chance",
        ),
        pytest.param(
            Says([0.25, 1.0]), BINARY, [[0.75, 0.25], [0.0, 1.0]], id="one number is the positive class's chance"
        ),
        pytest.param(
            Says([[0.25], [0.5]]), Meta("binary", (), ("a", "b"), "a"), [[0.25, 0.75], [0.5, 0.5]], id="whichever it is"
        ),
        pytest.param(Says([1, 0]), BINARY, [[0.0, 1.0], [1.0, 0.0]], id="decisions are scores of 0 and 1"),
        pytest.param(Says(np.array([9, 10])), THREE, [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], id="of several classes too"),
        pytest.param(
            Says([True, False]),
            Meta("binary", (), ("false", "true"), "true"),
            [[0.0, 1.0], [1.0, 0.0]],
            id="and of truth",
        ),
        pytest.param(
            Says(pd.DataFrame({"1": [0.9, 0.1], "0": [0.1, 0.9]})),
            BINARY,
            [[0.1, 0.9], [0.9, 0.1]],
            id="columns by name",
        ),
        pytest.param(Says([1.5, -2.0]), Meta("regression", ()), [[1.5], [-2.0]], id="a regression's values"),
        pytest.param(Says([[1.5], [2.0]]), Meta("regression", ()), [[1.5], [2.0]], id="also as a column"),
    ],
)
def test_answers_become_scores_in_the_order_of_the_classes(model: Says, meta: Meta, expected: object) -> None:
    assert scores_of(model, FRAME, meta).tolist() == expected


@pytest.mark.parametrize(
    ("model", "meta", "said"),
    [
        pytest.param(object(), BINARY, "has no predict", id="no predict"),
        pytest.param(Says([1]), BINARY, "shape .1,. to 2 rows", id="too few answers"),
        pytest.param(Says(["late", "not"]), BINARY, "'late', which is neither", id="unknown classes"),
        pytest.param(
            SaysChances([[0.5, 0.5]] * 2, ["late", "not"]), BINARY, "unknown class late", id="unknown columns"
        ),
        pytest.param(SaysChances([[0.2, 0.3, 0.5]] * 2), BINARY, "3 columns for 2 classes", id="too many columns"),
        pytest.param(Says([0.5, np.nan]), BINARY, "1 of 2 scores are not finite", id="a number that is none"),
        pytest.param(Says([[1.0, 2.0]] * 2), Meta("regression", ()), "2 columns, 1 expected", id="a wide regression"),
        pytest.param(Says([0.5, 0.7]), THREE, "not one of the 3 classes", id="one number for three classes"),
        pytest.param(Says(None), BINARY, "shape .. to 2 rows", id="nothing"),
    ],
)
def test_answers_that_cannot_be_read_are_refused(model: object, meta: Meta, said: str) -> None:
    with pytest.raises(ModelUnusable, match=said):
        scores_of(model, FRAME, meta)
