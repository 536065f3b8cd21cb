"""The metrics by name: what each is for, which way is better, and what it is made of.

Takes a name or a choice of the spec; gives a `Metric`; never measures anything.

`METRICS` is a literal table. A name may carry one option after `@`: `pinball@0.9` is the pinball loss of the 90 %
quantile. A profit matrix and a function of the user's own become metrics by `metric_from`; whoever calls it has loaded
the function, because rooms import nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from everfit.detect import losses, metrics
from everfit.detect.losses import RowLosses
from everfit.detect.metrics import Tally, UserFunction, share
from everfit.detect.options import FunctionMetric, MetricChoice, ProfitMetric

CLASSES, NUMBERS, TWO = ("binary", "multiclass"), ("regression",), ("binary",)
ANY_ROW, TWO_CLASSES = "a labelled row", "rows of two classes"
QUANTILE = 0.5  # of `pinball` without an option: half the absolute error


@dataclass(frozen=True, slots=True)
class Metric:
    """A way to say how good predictions were, by one number."""

    name: str
    tasks: tuple[str, ...]
    greater_is_better: bool
    low: float | None  # no value lies below
    high: float | None  # no value lies above
    needs: str  # what must be among the rows for the metric to be defined, in words
    tally: Tally
    losses: RowLosses | None = None  # the losses of rows that it is the mean of; None: it is no mean of rows
    slow: bool = False  # each resample calls a user's function


def _of_sums(name: str, bounds: tuple[float | None, float | None], tally: Tally, rows: RowLosses) -> Metric:
    """A smaller-is-better metric that is a mean of row losses."""
    needs = "no truth of zero" if name == "mape" else ANY_ROW
    return Metric(name, rows.tasks, False, *bounds, needs, tally, rows)


def _errors(power: int = 1, *, relative: bool = False) -> RowLosses:
    level, loss = (losses.root, losses.square) if power == 2 else (losses.same, losses.same)
    return RowLosses(losses.second(metrics.misses(power, relative=relative)), level, loss, None, NUMBERS)


def _pinball(quantile: float, name: str) -> Metric:
    terms = metrics.pinball(quantile)
    rows = RowLosses(losses.second(terms), losses.same, losses.same, None, NUMBERS)
    return _of_sums(name, (0, None), metrics.by_sums(terms, metrics.mean), rows)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                "accuracy", CLASSES, True, 0, 1, ANY_ROW, metrics.by_sums(metrics.hits, metrics.mean),
                RowLosses(losses.errors, losses.without, losses.without, 1, CLASSES),
            ),
            Metric(
                "balanced_accuracy", CLASSES, True, 0, 1, TWO_CLASSES,
                metrics.by_class(lambda hits, truths, _: share(hits, truths), only_positive=False, seen="truth"),
            ),
            Metric(
                "precision", CLASSES, True, 0, 1, f"rows predicted positive (several classes: {TWO_CLASSES})",
                metrics.by_class(lambda hits, _, guesses: share(hits, guesses), only_positive=True, seen="either"),
                RowLosses(losses.errors_if_called_positive, losses.without, losses.without, 1, TWO),
            ),
            Metric(
                "recall", CLASSES, True, 0, 1, f"rows that are positive (several classes: {TWO_CLASSES})",
                metrics.by_class(lambda hits, truths, _: share(hits, truths), only_positive=True, seen="either"),
                RowLosses(losses.errors_if_positive, losses.without, losses.without, 1, TWO),
            ),
            Metric(
                "f1", CLASSES, True, 0, 1, f"rows that are or were predicted positive (several classes: {TWO_CLASSES})",
                metrics.by_class(lambda hits, t, g: share(2 * hits, t + g), only_positive=True, seen="either"),
            ),
            Metric("roc_auc", CLASSES, True, 0, 1, TWO_CLASSES, metrics.ranked),
            Metric("average_precision", CLASSES, True, 0, 1, "rows that are positive", metrics.precise),
            _of_sums(
                "log_loss", (0, None), metrics.by_sums(metrics.log_losses, metrics.mean),
                RowLosses(losses.second(metrics.log_losses), losses.same, losses.same, None, CLASSES),
            ),
            _of_sums(
                "brier", (0, 2), metrics.by_sums(metrics.squared_chances, metrics.mean),
                RowLosses(losses.second(metrics.squared_chances), losses.same, losses.same, 2, CLASSES),
            ),
            Metric("calibration_error", CLASSES, False, 0, 1, ANY_ROW, metrics.calibrated),
            _of_sums("mae", (0, None), metrics.by_sums(metrics.misses(1), metrics.mean), _errors()),
            _of_sums(
                "rmse", (0, None), metrics.by_sums(metrics.misses(2), lambda sums: np.sqrt(metrics.mean(sums))),
                _errors(2),
            ),
            Metric(
                "r2", NUMBERS, True, None, 1, "a truth that varies",
                metrics.by_sums(metrics.spread, metrics.explained),
            ),
            _of_sums(
                "mape", (0, None), metrics.by_sums(metrics.misses(1, relative=True), metrics.mean),
                _errors(relative=True),
            ),
            _pinball(QUANTILE, "pinball"),
        )
    }
)  # fmt: skip

DEFAULTS = MappingProxyType({"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"})


def default_metric(task: str) -> str:
    """The metric that a task is judged by unless the spec names another.

    >>> default_metric("binary")
    'roc_auc'
    """
    return DEFAULTS[task]


@lru_cache(maxsize=256)
def metric_named(name: str) -> Metric:
    """Find a metric by its name, with its option if it has one.

    >>> metric_named("pinball@0.9").name
    'pinball@0.9'

    Raises:
        ValueError: there is none of this name, or its option is not one.
    """
    if name in METRICS:
        return METRICS[name]
    bare, at, option = name.partition("@")
    if at and bare == "pinball":
        return _pinball(_quantile(option), name)
    if at and bare in METRICS:
        raise ValueError(f"{name!r}: {bare} takes no option; write {bare!r}")
    raise ValueError(f"{name!r} is not a metric; {_remedy(bare, list(METRICS))}")


def check_metric(name: str, task: str) -> Metric:
    """Find a metric by its name, for a task.

    >>> check_metric("roc_au", "binary")
    Traceback (most recent call last):
    ValueError: 'roc_au' is not a metric for binary; did you mean 'roc_auc'?

    Raises:
        ValueError: no such metric, or not for this task; the text names the nearest that fits.
    """
    fitting = [metric.name for metric in METRICS.values() if task in metric.tasks]
    bare = name.partition("@")[0]
    if bare in fitting:
        return metric_named(name)
    raise ValueError(f"{name!r} is not a metric for {task}; {_remedy(bare, fitting)}")


def metric_from(choice: MetricChoice, functions: Mapping[str, UserFunction] = MappingProxyType({})) -> Metric:
    """The metric of a choice in the spec.

    Args:
        choice: A name, a profit matrix, or a function of the user's own.
        functions: Loaded functions by the text that names them in the spec, such as `train:my_metric`.

    >>> from everfit.detect.options import FunctionMetric
    >>> metric_from(FunctionMetric(function="train:my_metric"), {"train:my_metric": lambda t, p: 1.0}).name
    'my_metric'

    Raises:
        ValueError: there is no such metric, or the function was not loaded.
    """
    if isinstance(choice, str):
        return metric_named(choice)
    if choice.called in METRICS:
        raise ValueError(f"{choice.called!r} is the name of a metric of Everfit; give yours another `name`")
    if isinstance(choice, ProfitMetric):
        return _profit(choice)
    if choice.function not in functions:
        raise ValueError(f"the function {choice.function!r} was not loaded; it is written `module:name`")
    return _of_user(choice, functions[choice.function])


def name_of(metric: Metric | str) -> str:
    """What a metric is called in readings.

    >>> name_of("roc_auc"), name_of(METRICS["brier"])
    ('roc_auc', 'brier')
    """
    return metric if isinstance(metric, str) else metric.name


def positive_is_better(metric: Metric | str, difference: float) -> float:
    """Turn a difference of levels so that positive means better.

    >>> positive_is_better("log_loss", -0.1)
    0.1
    """
    found = metric_named(metric) if isinstance(metric, str) else metric
    return difference if found.greater_is_better else -difference


def _profit(choice: ProfitMetric) -> Metric:
    of = choice.profit
    values = (of.tp, of.fp, of.fn, of.tn)
    terms, low, high = metrics.money(values, of.threshold), min(values), max(values)
    rows = RowLosses(losses.missed_money(terms, high), lambda x: high - x, lambda x: high - x, high - low, TWO)
    return Metric(choice.called, TWO, True, low, high, ANY_ROW, metrics.by_sums(terms, metrics.mean), rows)


def _of_user(choice: FunctionMetric, function: UserFunction) -> Metric:
    whole = Metric(choice.called, (*CLASSES, *NUMBERS), choice.greater_is_better, None, None, "rows that it accepts",
                   metrics.by_function(function))  # fmt: skip
    return replace(whole, slow=True)


def _quantile(option: str) -> float:
    try:
        found = float(option)
    except ValueError:
        found = float("nan")
    if not 0 < found < 1:
        raise ValueError(f"'pinball@{option}': the quantile is a number between 0 and 1, such as pinball@0.9")
    return found


def _remedy(name: str, fitting: list[str]) -> str:
    near = get_close_matches(name, fitting, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(fitting)}"
