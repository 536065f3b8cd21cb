"""How good the champion probably is on rows whose labels have not come: a forecast with an interval, never an alarm.

Takes held-out rows with their truth, once, and then the scores of a window; gives readings named `estimated.<metric>`;
never sees concept change: it trusts that a score means what it meant on the held-out rows.

Classification: the scores' own chances, recalibrated, are soft labels of the window's rows, and the metric is taken
over them (confidence-based performance estimation, CBPE). With weights of the held-out rows the map is learned where
the window lies (PAPE: Bialek et al. 2024, arXiv 2401.08348), which matters where the model is wrong in a region that
became frequent. Regression: a loss model (`estimate_errors`). The interval counts the labels that will be drawn and the
map's own error. `estimate_past.reconcile` then holds estimates to the labels that came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from everfit.detect.estimate_errors import learn_errors
from everfit.detect.estimate_map import Calibration, calibrate
from everfit.detect.estimate_metrics import EXPECTED, Chances, expect
from everfit.detect.estimate_past import reading_of
from everfit.detect.outcomes import UNKNOWN, Floats, Outcomes, scores_of, with_scores
from everfit.detect.packed import pack, unpack
from everfit.detect.signal import NotEnough, Reading
from everfit.detect.weights import Codes, Encoder, Weights, encode, features_of, learn_encoder, row_weights
from everfit.errors import UsageError
from everfit.observe.schema import Schema

MOST_ROWS = 20_000  # held-out rows that are kept: a map of 50 bins is then sure to 2.5 points in each
FEWEST_ROWS = 100  # held-out rows; with fewer the map is two bins and says nothing


@dataclass(frozen=True, slots=True, eq=False)
class Estimator:
    """What is known about the champion's scores from rows whose truth is known."""

    task: str  # binary, multiclass, regression
    classes: tuple[str, ...]  # in the order of the scores; empty for regression
    positive: str | None  # the class that precision, recall and ROC AUC of two classes are about
    scores: NDArray[np.float32]  # (rows, classes); (rows, 1) for regression
    truth: NDArray[Any]  # class index or value
    encoder: Encoder | None  # how rows become features; None: no features, so no weights
    codes: Codes | None  # (rows, columns) of the held-out rows

    def to_bytes(self) -> bytes:
        """Write it compactly: a megabyte for 20,000 rows of 50 columns, at most."""
        facts: dict[str, Any] = {"task": self.task, "classes": list(self.classes), "positive": self.positive}
        arrays: dict[str, NDArray[Any]] = {"scores": self.scores, "truth": self.truth}
        if self.encoder is not None and self.codes is not None:
            facts["columns"], tables = self.encoder.to_facts()
            arrays |= {**tables, "codes": self.codes}
        return pack(facts, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Estimator:
        """Read what `to_bytes` wrote.

        Raises:
            Refused: these bytes are damaged.
        """
        told, arrays = unpack(data)
        encoder = Encoder.from_facts(told["columns"], arrays) if "columns" in told else None
        classes = tuple(told["classes"])
        of_rows = (arrays["scores"], arrays["truth"], encoder, arrays.get("codes"))
        return cls(told["task"], classes, told["positive"], *of_rows)

    @property
    def place(self) -> int | None:
        """Place of the positive class of two; None for several classes."""
        if self.task != "binary":
            return None
        return self.classes.index(self.positive) if self.positive in self.classes else len(self.classes) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Rows that wait for their labels."""

    scores: Floats  # (rows, classes); (rows, 1) for regression
    codes: Codes | None = None  # (rows, columns) by the estimator's encoder
    weights: Weights | None = None  # of the estimator's rows, so that they look like this window


def learn_estimator(outcomes: Outcomes, rows: pl.DataFrame | None = None, schema: Schema | None = None) -> Estimator:
    """Keep what the champion's held-out rows say about its scores; they must not be rows it was trained on.

    `rows` are the features of the same rows in the same order, with their schema; without them there are no weights,
    and regression has the prediction alone. At most 20,000 rows are kept, evenly over their order.

    Raises:
        UsageError: `rows` are not as many as the outcomes.
    """
    if rows is not None and rows.height != outcomes.rows:
        raise UsageError(f"{rows.height} rows beside {outcomes.rows} outcomes; give the features of the same rows")
    kept = np.arange(outcomes.rows)
    if len(kept) > MOST_ROWS:
        kept = np.linspace(0, outcomes.rows - 1, MOST_ROWS).astype(np.int64)
    encoder = codes = None
    if rows is not None and schema is not None:
        there = rows[kept]
        encoder = learn_encoder(there, schema)
        codes = encode(there, encoder)
    scores, truth = outcomes.scores[kept].astype(np.float32), outcomes.truth[kept]
    return Estimator(outcomes.task, outcomes.classes, outcomes.positive, scores, truth, encoder, codes)


def window_of(estimator: Estimator, scores: Floats, rows: pl.DataFrame | None = None, *, weigh: bool = True) -> Window:
    """A window's scores with what its features say: codes, and the weights of the held-out rows."""
    if rows is None or estimator.encoder is None or estimator.codes is None:
        return Window(scores)
    codes = encode(rows, estimator.encoder)
    if not weigh:
        return Window(scores, codes)
    return Window(scores, codes, row_weights(estimator.codes, codes, estimator.encoder))


def estimate(estimator: Estimator, metric: str, window: Window, *, needed: int = 1) -> Reading:
    """Estimate a metric of a window from its scores, with a 95 % interval for the value that its labels will give.

    `NotEnough` with words where there is no estimate: too few rows on either side, rows unlike all held-out ones, a
    metric that cannot be estimated, or one that these rows do not define.

    >>> chance = np.random.default_rng(0)
    >>> def rows(many, moved):
    ...     share = chance.beta(2, 2, many) ** moved
    ...     truth = (chance.random(many) < share).astype(int)
    ...     scores = np.stack([1 - share, share], axis=1)
    ...     return Outcomes(truth, scores, ("0", "1"), "1", "binary", np.arange(many))
    >>> held_out, window = rows(5000, 1), rows(5000, 2)
    >>> reading = estimate(learn_estimator(held_out), "accuracy", Window(window.scores))
    >>> seen = (window.scores.argmax(axis=1) == window.truth).mean()
    >>> reading.name, bool(reading.low < seen < reading.high)
    ('estimated.accuracy', True)
    """
    name = f"estimated.{metric}"
    rows = len(window.scores)
    if rows < max(1, needed):
        return NotEnough(name, "*", rows, max(1, needed), f"{rows} scored rows, {max(1, needed)} needed")
    if len(estimator.scores) < FEWEST_ROWS:
        said = f"{len(estimator.scores)} held-out rows to learn from, {FEWEST_ROWS} needed"
        return NotEnough(name, "*", len(estimator.scores), FEWEST_ROWS, said)
    if window.weights is not None and not window.weights.enough:
        said = f"the window's rows are unlike the held-out ones: {window.weights.said}"
        return NotEnough(name, "*", int(window.weights.effective), FEWEST_ROWS, said)
    if metric in LOSSES and estimator.task == "regression":
        found = _of_losses(estimator, metric, window)
    elif metric in EXPECTED and estimator.task != "regression":
        found = _of_chances(estimator, metric, window)
    else:
        return NotEnough(name, "*", rows, rows, f"{metric} cannot be estimated without labels")
    if found is None:
        return NotEnough(name, "*", rows, rows, f"{metric} is not defined by what these rows are expected to be")
    value, variance = found
    return reading_of(name, value, variance, rows)


def scored_window(estimator: Estimator, scored: pl.DataFrame) -> Window:
    """A window as it lies in the lake: columns `_score` and the features.

    Rows without finite scores of the right length are left out. Weights are used where there are features.
    """
    width = max(1, len(estimator.classes))
    usable = with_scores(scored, width)
    return window_of(estimator, scores_of(usable, width), usable)


def chances_of(estimator: Estimator, window: Window) -> tuple[Chances, list[Calibration]]:
    """Soft labels of the window's rows, and the maps that gave them."""
    weights = np.ones(len(estimator.scores)) if window.weights is None else window.weights.values
    scores, width = estimator.scores.astype(np.float64), len(estimator.classes)
    own = window.scores.astype(np.float32).astype(np.float64)  # as the held-out ones are kept, so that ties are ties
    places = [estimator.place] if estimator.place is not None and width == 2 else list(range(width))
    maps = [calibrate(scores[:, k], (estimator.truth == k).astype(np.float64), weights) for k in places]
    mass = np.zeros((len(own), width + 1))
    for k, learned in zip(places, maps, strict=True):
        mass[:, k] = learned.apply(own[:, k])
    mass[:, width] = float(weights @ (estimator.truth == UNKNOWN) / weights.sum())
    if len(places) == 1:
        mass[:, 1 - places[0]] = np.clip(1 - mass[:, places[0]] - mass[:, width], 0, 1)
    total = mass[:, :width].sum(axis=1, keepdims=True)
    mass[:, :width] *= (1 - mass[:, [width]]) / np.where(total > 0, total, 1)
    return Chances(own, mass, estimator.place), maps


def _of_chances(estimator: Estimator, metric: str, window: Window) -> tuple[float, float] | None:
    rows, maps = chances_of(estimator, window)
    found = expect(metric, rows)
    if found is None:
        return None
    mean = (rows.mass * found.slopes).sum(axis=1, keepdims=True)
    centred = found.slopes - mean
    of_labels = float((rows.mass * centred**2).sum())
    if len(maps) == 1:
        place = 0 if estimator.place is None else estimator.place
        of_map = maps[0].uncertainty(rows.scores[:, place], found.slopes[:, place] - found.slopes[:, 1 - place])
    else:
        of_map = sum(learned.uncertainty(rows.scores[:, k], centred[:, k]) for k, learned in enumerate(maps))
    return found.value, of_labels + of_map


def _of_losses(estimator: Estimator, metric: str, window: Window) -> tuple[float, float] | None:
    then, now = estimator.scores[:, 0].astype(np.float64), window.scores[:, 0].astype(np.float64)
    losses = LOSSES[metric](then, estimator.truth.astype(np.float64))
    old, new = np.zeros((len(then), 0), dtype=np.float32), np.zeros((len(now), 0), dtype=np.float32)
    if estimator.encoder is not None and estimator.codes is not None and window.codes is not None:
        old, new = features_of(estimator.codes, estimator.encoder), features_of(window.codes, estimator.encoder)
    defined = np.isfinite(losses)
    if defined.sum() < FEWEST_ROWS:
        return None
    # Not weighted: the model has the features already, and weights only made it less sure (benchmarks/estimated.py).
    model = learn_errors(then[defined], old[defined], losses[defined])
    expected, variance = model.apply(now, new)
    mean = float(expected.mean())
    if metric == "rmse":
        return float(np.sqrt(mean)), variance / (4 * max(mean, 1e-300))
    return mean, variance


def _absolute(predicted: Floats, truth: Floats) -> Floats:
    return np.abs(predicted - truth)


def _squared(predicted: Floats, truth: Floats) -> Floats:
    squares: Floats = (predicted - truth) ** 2
    return squares


def _relative(predicted: Floats, truth: Floats) -> Floats:
    relative: Floats = np.abs(predicted - truth) / np.where(truth == 0, np.nan, np.abs(truth))
    return relative


LOSSES: Mapping[str, Callable[[Floats, Floats], Floats]] = MappingProxyType(
    {"mae": _absolute, "rmse": _squared, "mape": _relative}
)
