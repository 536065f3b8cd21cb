"""The recommended policy as a spec to paste.

Takes a `History`, the options and a policy's name; gives the text of an `everfit.yaml`, or None where a spec cannot say
it; never writes a key that a spec does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import yaml

from everfit.detect.catalogue import default_metric
from everfit.replay.history import History
from everfit.replay.options import BacktestOptions
from everfit.replay.policy_file import BenchPolicy, DropRule, EveryPolicy, LivePolicy, Policy
from everfit.retrain.options import DEFAULT_TRAINER
from everfit.units import duration_text


def said_by_spec(name: str, own: Mapping[str, Policy]) -> bool:
    """Whether a spec can say this policy.

    >>> said_by_spec("every7", {}), said_by_spec("drop0.02", {}), said_by_spec("adwin", {})
    (True, True, False)
    """
    if name in own:
        return isinstance(own[name], EveryPolicy | BenchPolicy | DropRule | LivePolicy)
    return name in ("everfit", "never") or _every(name, own) is not None or _drop(name, own) is not None


def spec_text(name: str, history: History, options: BacktestOptions) -> str | None:
    """The text of a spec that does what the policy `name` did; None where a spec cannot say it.

    Without a column of times the spec's `time` is a name to be replaced, and says so.
    """
    own = {each.name: each for each in options.own}
    if not said_by_spec(name, own):
        return None
    if isinstance(chosen := own.get(name), LivePolicy):
        return chosen.text
    note = [] if options.time else ["# time: the column that holds each row's time; the backtest had only an order"]
    return written(name, spec_of(history, options) | _deciding(name, history, own), note)


def spec_of(history: History, options: BacktestOptions) -> dict[str, Any]:
    """What every policy of a backtest has in common, as the plain values of a spec."""
    excluded = [column for column in options.exclude if not column.startswith("_")]
    spec: dict[str, Any] = {
        "model": options.model,
        "task": history.task,
        "target": options.target,
        "time": options.time or "time",
    }
    if excluded:
        spec["features"] = {"exclude": excluded}
    spec["observe"] = observed(history, options)
    if options.trainer != DEFAULT_TRAINER or options.parameters or options.seed:
        train = {"with": options.trainer, "parameters": dict(options.parameters), "seed": options.seed}
        spec["train"] = {key: value for key, value in train.items() if value}
    if history.metric != default_metric(history.task):
        spec["judge"] = {"primary": history.metric}
    return spec


def written(name: str, spec: Mapping[str, Any], notes: Sequence[str] = ()) -> str:
    """The text of a spec that does what the policy `name` did.

    >>> written("never", {"model": "shop"}).splitlines()[0]
    '# recommended by `everfit backtest`: never'
    """
    head = [f"# recommended by `everfit backtest`: {name}", *notes]
    return "\n".join([*head, yaml.safe_dump(dict(spec), sort_keys=False, default_flow_style=None, width=100)])


def observed(history: History, options: BacktestOptions) -> dict[str, Any]:
    """Windows as they were cut, and when labels count."""
    window: Any = {"rows": _rows(history)} if options.window is None else duration_text(options.window)
    observed = {"window": window}
    delay = options.label_delay
    if isinstance(delay, timedelta):
        observed["labels_mature_after"] = duration_text(delay)
    elif history.per_window is not None:
        # A model of the end of a window had that window's labels at delay 0: they are there when it closes.
        hours = max(1, round(delay * history.per_window / timedelta(hours=1))) if delay else 0
        observed["labels_mature_after"] = duration_text(timedelta(hours=hours)) if hours else "0s"
    return observed


def _deciding(name: str, history: History, own: Mapping[str, Policy]) -> dict[str, Any]:
    """`decide` and `triggers` of a policy."""
    policy = own.get(name)
    if isinstance(policy, BenchPolicy):
        chosen = policy.bench.model_dump(mode="json", exclude_unset=True)
        return {"decide": {"bench": chosen}} if chosen else {}
    if name == "never":
        return {"triggers": [{"name": "by-hand", "event": "retrain"}]}
    drop, every = _drop(name, own), _every(name, own)
    if drop is not None:
        return {"triggers": [{"name": name, "performance": {"metric": history.metric, "drop": drop}}]}
    if every is not None:
        return {"triggers": [{"name": name, "new_rows": every * _rows(history)}]}
    return {}


def _every(name: str, own: Mapping[str, Policy]) -> int | None:
    policy = own.get(name)
    if isinstance(policy, EveryPolicy):
        return policy.every
    return int(name[5:]) if policy is None and name.startswith("every") and name[5:].isdigit() else None


def _drop(name: str, own: Mapping[str, Policy]) -> float | None:
    policy = own.get(name)
    if isinstance(policy, DropRule):
        return policy.by
    try:
        return float(name[4:]) if policy is None and name.startswith("drop") else None
    except ValueError:
        return None


def _rows(history: History) -> int:
    """Rows of a window; of windows of time the median of those that hold any."""
    sizes = np.diff(history.cut.edges)
    return max(1, round(float(np.median(sizes[sizes > 0]))))
