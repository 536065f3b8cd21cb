"""Policies of a backtest that are whole specs: the user's own, and triggers in a policy file.

Takes what a user asked for, the rows and how they were cut; gives policies that the live flows play; never plays them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from everfit.adapters.aside import aside
from everfit.errors import UsageError
from everfit.ids import content_key
from everfit.judge.options import Judging
from everfit.observe.options import Rows
from everfit.replay.history import History
from everfit.replay.live import Place, live
from everfit.replay.lived import played
from everfit.replay.options import BacktestOptions
from everfit.replay.play import Played
from everfit.replay.policy_file import LivePolicy, TriggersPolicy
from everfit.replay.recommended import observed, spec_of, written
from everfit.retrain.options import Training
from everfit.spec import Spec, laid_over, parse_spec, plain_of
from everfit.units import duration_text

if TYPE_CHECKING:
    from everfit.app.backtest import Asked

OF_SPEC = "spec"  # the policy that is the user's spec
HELD_OUT = 10  # a first model of so few rows is judged on a tenth of them at least: the default may be out of reach
FOLDER = "spec"  # of the cache, where the live flows keep what they train


def live_policies(
    asked: Asked, triggers: Iterable[TriggersPolicy], history: History, options: BacktestOptions, frame: pl.DataFrame
) -> tuple[LivePolicy, ...]:
    """The user's spec and the files that name triggers, each as all that a spec says.

    What a file says stands in the place of what the user's spec says; without one, in a spec of what the backtest took
    from the rows and the command line.

    Raises:
        UsageError: they cannot be replayed, for there are no times.
        SpecError: a file is wrong, with its line.
    """
    files = tuple(triggers)
    if asked.spec is None and not files:
        return ()
    if not history.begins:
        name, what = (files[0].file, "triggers") if asked.spec is None else (OF_SPEC, f"time: column {options.time!r}")
        raise UsageError(
            f"{name}: {what} cannot be replayed without times; name a column of times or dates with --time"
        )
    spec = asked.spec
    base = _inferred(history, options) if spec is None else _typed_over(asked, spec[1], history, options)
    rows = frame.filter(pl.col(options.target).is_not_null())
    found = []
    if spec is not None:
        text = spec[1] if not asked.over else written(OF_SPEC, base)
        found.append(_policy(OF_SPEC, text, options, rows))
    else:
        rows = rows.select(str(options.time), options.target, *history.schema.names())
    for file in files:
        parse_spec(file.text, file.file, base=base, besides="name")  # for errors by the lines of the file
        said = {key: each for key, each in plain_of(file.text).items() if key != "name"}
        found.append(_policy(file.name, written(file.name, laid_over(base, said)), options, rows))
    return tuple(found)


def _inferred(history: History, options: BacktestOptions) -> dict[str, Any]:
    """The plain values of a spec of what the backtest knows, whose first model has the rows of all first models."""
    base = spec_of(history, options)
    first = history.cut.edges[history.cut.start]
    if first < Training().at_least:
        base["train"] = {**base.get("train", {}), "at_least": first}
    if first // HELD_OUT < Judging().at_least:
        base["judge"] = {**base.get("judge", {}), "at_least": max(1, first // HELD_OUT)}
    return base


def _typed_over(asked: Asked, text: str, history: History, options: BacktestOptions) -> dict[str, Any]:
    """The plain values of the user's spec, with what was typed over it."""
    base: dict[str, Any] = plain_of(text)
    base |= {name: getattr(asked, name) for name in ("target", "time", "task") if name in asked.over}
    if "metric" in asked.over:
        base["judge"] = {**base.get("judge", {}), "primary": asked.metric}
    if "exclude" in asked.over:
        columns = base.get("features", {})
        inside = [name for name in columns.get("include", ()) if name not in asked.exclude]
        outside = [name for name in asked.exclude if name != base.get("id")]
        base["features"] = {**columns, "exclude": outside} | ({"include": inside} if inside else {})
    if "trainer" in asked.over:
        base["train"] = {**base.get("train", {}), "with": asked.trainer, "parameters": {}}
    seen, known = observed(history, options), base.get("observe", {})
    if "label_delay" in asked.over:
        known = {**known, "labels_mature_after": seen["labels_mature_after"]}
    if isinstance(asked.window, str) and "window" in asked.over:
        known = {**known, "window": seen["window"]}
    return base | ({"observe": known} if known else {})


def _policy(name: str, text: str, options: BacktestOptions, rows: pl.DataFrame) -> LivePolicy:
    """What a spec would have done: the live flows over the labelled rows, in a process of their own."""

    def play(history: History, go_on: Callable[[], None]) -> Played:
        begin = history.begins[history.cut.start]  # the first model knows the rows that all policies begin with
        cache = (options.cache / FOLDER).resolve()
        place = (options.project.resolve(), cache, begin, content_key(text))
        return aside(_lived, (name, text, rows, place, history), go_on)

    return LivePolicy(name, text, play)


def _lived(
    name: str, text: str, rows: pl.DataFrame, place: tuple[Path, Path, datetime, str], history: History
) -> Played:
    project, cache, begin, folder = place
    return played(name, live(rows, parse_spec(text), Place(project, cache, begin=begin, name=folder)), history)


def over_spec(spec: Spec, typed: Mapping[str, object]) -> tuple[dict[str, Any], dict[str, object]]:
    """What holds of a spec and what was typed, and which of that was typed over something else.

    >>> spec = parse_spec("{model: m, task: binary, target: late, time: at}")
    >>> typed = dict.fromkeys(("time", "task", "metric", "trainer", "label_delay", "window"))
    >>> over_spec(spec, {**typed, "target": "paid"})[1]
    {'target': 'late'}
    """
    window = spec.observe.window
    says: dict[str, Any] = {
        "target": spec.target,
        "time": spec.time,
        "task": spec.task,
        "metric": spec.primary,
        "trainer": spec.train.trainer,
        "label_delay": duration_text(spec.observe.labels_mature_after),
        "window": None if isinstance(window, Rows) else duration_text(window),
    }
    over = {
        name: value
        for name, value in says.items()
        if typed[name] is not None and value is not None and str(typed[name]) != str(value)
    }
    return {name: value if typed[name] is None else typed[name] for name, value in says.items()}, over
