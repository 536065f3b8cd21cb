"""The metric of windows as blocks of one tally."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from everfit.adapters.cell_files import CellTask, looked_at, spans_in
from everfit.adapters.cells import by_halves
from everfit.detect.catalogue import METRICS
from everfit.detect.outcomes import Outcomes
from everfit.detect.performance import level

ROWS, WINDOWS = 40, 3


def outcomes(task: str) -> Outcomes:
    rng = np.random.default_rng(0)
    rows, classes = ROWS * WINDOWS, {"binary": ("0", "1"), "multiclass": ("a", "b", "c"), "regression": ()}[task]
    blocks = 2 * np.repeat(np.arange(WINDOWS), ROWS) + np.tile(np.arange(ROWS) % 2, WINDOWS)
    if task == "regression":
        truth = rng.normal(size=rows) + 5
        return Outcomes(truth, truth[:, None] + rng.normal(size=(rows, 1)), (), None, task, blocks)
    scores = rng.dirichlet(np.ones(len(classes)), rows)
    return Outcomes(rng.integers(0, len(classes), rows), scores, classes, classes[-1], task, blocks)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_by_halves_is_the_metric_on_these_rows(name: str) -> None:
    metric = METRICS[name]
    for task in metric.tasks:
        given = outcomes(task)
        many = 1 if name == "calibration_error" else WINDOWS
        if many == 1:
            first = given.blocks < 2
            given = Outcomes(
                given.truth[first], given.scores[first], given.classes, given.positive, task, given.blocks[first]
            )
        found = by_halves(metric, given, many)
        for window in range(many):
            for place, blocks in enumerate(([0, 1], [0], [1])):
                rows = np.isin(given.blocks, [2 * window + block for block in blocks])
                alone = Outcomes(given.truth[rows], given.scores[rows], given.classes, given.positive, task,
                                 given.blocks[rows])  # fmt: skip
                assert found[window, place] == pytest.approx(level(metric, alone), rel=1e-9)


def test_a_window_of_one_class_or_without_rows_is_undefined() -> None:
    given = outcomes("binary")
    rows = (given.blocks > 1) & ((given.blocks < 4) | (given.truth == 1))
    few = Outcomes(given.truth[rows], given.scores[rows], given.classes, given.positive, "binary", given.blocks[rows])
    found = by_halves(METRICS["roc_auc"], few, WINDOWS)
    assert np.isnan(found[[0, 2]]).all()
    assert np.isfinite(found[1]).all()


def test_young_models_on_the_grid_are_looked_at_everywhere_and_others_once() -> None:
    told = CellTask(
        "", "", "", "", {}, 0, "binary", "y", [], [], [], None, "roc_auc", list(range(101)), 1.0, 0, 0, 10, 3
    )
    assert looked_at((0, 9), told).tolist()[:16] == list(range(10, 26))
    assert set(looked_at((0, 9), told).tolist()[16:]) == set(range(28, 100, 4))
    assert looked_at((1, 10), told).tolist() == [11]
    assert looked_at((0, 12), told).tolist() == [13]  # all rows so far: no schedule of recent rows has it


def test_a_folder_tells_what_it_holds(tmp_path: Path) -> None:
    for name in ("0-9.npz", "0-9.10-10.npz", "0-9.11-14.npz", ".1-10.77.npz", "1-10.model", "task.json"):
        (tmp_path / name).touch()
    trained, spans = spans_in(tmp_path)
    assert trained == {(0, 9)}
    assert sorted(spans[0, 9]) == [(10, 10), (11, 14)]
