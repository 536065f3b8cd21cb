"""All trees of a histogram gradient boosting as one tree, so that a row costs one call and not one for each tree.

Takes a fitted model of scikit-learn and matrices as its trees take them; gives its raw predictions; never checks
values: who calls has compared it with the original.

scikit-learn walks one tree a call; a call costs a microsecond or two, and its checks of the input a hundred. Here the
trees hang below a few nodes that split on one more column, the tree's number: a row is repeated once for each tree,
and one call walks all of them: 15 us for a row where `predict_proba` takes 660 (100 trees, 30 features). When many
rows are asked, repeating them costs more than the calls, and each tree is asked for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from everfit.adapters.scores import Floats

REPEATED = 2**18  # numbers; both ways cost the same at 64 rows of 100 trees and 30 features: 2 MB, the cache's size


class Trees:
    """The raw predictions of a fitted `HistGradientBoosting...`, from matrices of what its trees were fitted on."""

    def __init__(self, model: Any, repeated: int = REPEATED) -> None:
        """Read a fitted model, which is not changed; `repeated` numbers at most are asked together."""
        from sklearn.ensemble._hist_gradient_boosting._predictor import _predict_from_raw_data  # noqa: PLC0415 - see folding

        flat = [tree for step in model._predictors for tree in step]
        known, places = model._bin_mapper.make_known_categories_bitsets()
        self._walk, self._repeated = _predict_from_raw_data, repeated
        self._width = int(model.n_trees_per_iteration_)
        self._baseline = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(1, self._width)
        self._each = [(tree.nodes, tree.raw_left_cat_bitsets) for tree in flat]
        self._known, self._places = known, places
        self._places_joined = np.append(places, np.uint32(0))
        self._numbers = np.arange(len(flat), dtype=np.float64)

    def raw(self, matrix: Floats) -> Floats:
        """Raw predictions, shape (rows, trees per iteration), of a float matrix (rows, features); NaN is missing."""
        rows, features = matrix.shape
        out = np.empty((1 + len(self._each) // self._width, self._width, rows))
        out[0] = self._baseline.T
        leaves = out[1:].reshape(len(self._each), rows)
        if rows * len(self._each) * (features + 1) <= self._repeated:
            self._together(matrix, leaves)
        else:
            self._one_by_one(matrix, leaves)
        # Added one after the other as scikit-learn does, so that not even the last digit differs. Of a single column
        # `add.reduce` would add pairs first.
        whole = out.cumsum(axis=0)[-1] if rows * self._width == 1 else np.add.reduce(out, axis=0)
        return np.ascontiguousarray(whole.T)

    @cached_property
    def _all_as_one(self) -> tuple[Any, Any]:
        # Made when the first few rows are asked: it takes longer than to walk a hundred rows.
        return _joined(self._each, len(self._places))

    def _together(self, matrix: Floats, leaves: Floats) -> None:
        rows, features = matrix.shape
        repeated = np.empty((len(self._each), rows, features + 1))
        repeated[:, :, :features] = matrix
        repeated[:, :, features] = self._numbers[:, None]
        flat = repeated.reshape(-1, features + 1)
        nodes, sets = self._all_as_one
        self._walk(nodes, flat, sets, self._known, self._places_joined, 1, leaves.reshape(-1))

    def _one_by_one(self, matrix: Floats, leaves: Floats) -> None:
        for place, (nodes, sets) in enumerate(self._each):
            self._walk(nodes, matrix, sets, self._known, self._places, 1, leaves[place])


def _joined(trees: Sequence[tuple[Any, Any]], features: int) -> tuple[Any, Any]:
    """One array of nodes: those that split on the tree's number first, then every tree's own."""
    many = len(trees)
    head = np.zeros(max(many - 1, 0), dtype=trees[0][0].dtype)
    starts = len(head) + np.cumsum([0, *(len(nodes) for nodes, _ in trees[:-1])])
    sets_before = np.cumsum([0, *(len(sets) for _, sets in trees[:-1])])
    free = iter(range(1, many))

    def hang(place: int, low: int, high: int) -> None:
        middle = (low + high) // 2
        head[place]["feature_idx"], head[place]["num_threshold"] = features, middle
        for side, first, last in (("left", low, middle), ("right", middle + 1, high)):
            below = int(starts[first]) if first == last else next(free)
            head[place][side] = below
            if first < last:
                hang(below, first, last)

    if many > 1:
        hang(0, 0, many - 1)
    parts = [head]
    for start, before, (nodes, _) in zip(starts, sets_before, trees, strict=True):
        moved = nodes.copy()
        moved["left"] += np.uint32(start)
        moved["right"] += np.uint32(start)
        moved["bitset_idx"] += np.uint32(before)
        parts.append(moved)
    return np.concatenate(parts), np.concatenate([sets for _, sets in trees])
