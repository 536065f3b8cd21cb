"""Two frames held against each other: which columns drifted, which are broken.

Takes a reference frame and a current one; gives a `Comparison`; never learns anything from the current rows.

Two frames have no history of healthy windows: only sampling noise is counted, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from everfit.detect.battery import Arrivals, drift_alarms, raise_alarms, read_drift, read_quality
from everfit.detect.options import Watching
from everfit.detect.signal import Alarm, NotEnough, Reading, Signal
from everfit.observe.options import FeatureOptions, Kind
from everfit.observe.schema import Column, Schema, learn
from everfit.profile.column import ColumnProfile
from everfit.profile.table import learn_bins, portray

HONEST = "only sampling noise was counted: two frames say nothing about how healthy windows differ from each other"


@dataclass(frozen=True, slots=True)
class ColumnComparison:
    """One column on both sides."""

    name: str
    kind: Kind
    psi: float | None  # None where there were too few values, or the column is not on both sides
    ks: float | None
    js: float | None
    wasserstein: float | None
    p_value: float | None
    effect: float | None
    alarm: bool
    nulls: Mapping[str, float | None]  # share without a usable value, by side; None where the column is missing


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two frames say about each other."""

    rows: Mapping[str, int]
    verdict: str  # drift, none, not_enough
    alarms: tuple[Alarm, ...]
    columns: tuple[ColumnComparison, ...]
    said: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "rows": dict(self.rows),
            "verdict": self.verdict,
            "alarms": [
                {
                    "name": a.signal.name,
                    "column": a.signal.column,
                    "kind": a.kind,
                    "value": a.signal.value,
                    "line": a.line,
                    "p_value": a.signal.p_value,
                    "said": a.said,
                }
                for a in self.alarms
            ],
            "columns": [
                {
                    "name": c.name,
                    "kind": c.kind.value,
                    "psi": c.psi,
                    "ks": c.ks,
                    "js": c.js,
                    "wasserstein": c.wasserstein,
                    "p_value": c.p_value,
                    "effect": c.effect,
                    "alarm": c.alarm,
                    "nulls": dict(c.nulls),
                }
                for c in self.columns
            ],
            "said": list(self.said),
        }


def compare(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    options: Watching | None = None,
    *,
    alpha: float = 0.01,
    features: FeatureOptions | None = None,
) -> Comparison:
    """Hold two frames against each other.

    The chance of any false drift alarm in the whole table is at most `alpha`.

    >>> import numpy as np
    >>> chance = np.random.default_rng(0)
    >>> then = pl.DataFrame({"price": chance.normal(size=1000), "size": chance.normal(size=1000)})
    >>> found = compare(then, then.with_columns(price=pl.col("price") + 1))
    >>> found.verdict, [alarm.signal.column for alarm in found.alarms]
    ('drift', ['price'])
    """
    options, features = options or Watching(), features or FeatureOptions()
    then, now = learn(reference, reserved=(), options=features), learn(current, reserved=(), options=features)
    shared = _same_kind(then, now, reference, current)
    both = Schema(shared, ())
    bins = learn_bins(reference, both)
    was, seen = portray(reference, bins), portray(current, bins)
    readings = [*read_drift(seen, was, options), *read_quality(seen, was, Arrivals(), options)]
    quality = [r for r in readings if r.name.startswith("quality.")]
    alarms = (
        *drift_alarms(readings, alpha=alpha, effect=options.effect),
        *raise_alarms(quality, options, window=None),
        *_unlike(then, now, {c.name for c in shared}, current.height),
    )
    alarmed = {alarm.signal.column for alarm in alarms}
    columns = [
        _column(c, readings, c.name in alarmed, _nulls(was.columns.get(c.name), seen.columns.get(c.name)))
        for c in _all(then, now)
    ]
    verdict = _verdict(alarms, readings)
    return Comparison(
        {"reference": reference.height, "current": current.height},
        verdict,
        alarms,
        tuple(columns),
        _said(alarms, readings, options),
    )


def _same_kind(then: Schema, now: Schema, reference: pl.DataFrame, current: pl.DataFrame) -> tuple[Column, ...]:
    """Columns of the reference that the current frame has in the same kind; all null fits every kind."""
    kinds = {c.name: c.kind for c in now.features}
    shared = []
    for column in then.features:
        empty = column.name in kinds and _all_null(current[column.name])
        if column.name in kinds and (empty or _all_null(reference[column.name]) or kinds[column.name] is column.kind):
            shared.append(column)
    return tuple(shared)


def _all_null(values: pl.Series) -> bool:
    return values.null_count() == len(values)


def _unlike(then: Schema, now: Schema, shared: set[str], rows: int) -> list[Alarm]:
    """Columns that are on one side only, or of another kind there."""
    kinds = {c.name: c.kind for c in now.features}
    alarms = []
    for column in then.features:
        if column.name in shared:
            continue
        if column.name not in kinds:
            said, name = f"column {column.name} is missing from the current rows", "quality.missing"
        else:
            said = f"{column.name} was a {column.kind} in the reference and is a {kinds[column.name]} now"
            name = "quality.type"
        alarms.append(Alarm(Signal(name, column.name, 1.0, rows, effect=1.0), 0.0, "quality", said))
    known = set(then.names())
    for column in now.features:
        if column.name not in known:
            signal = Signal("quality.extra", column.name, 1.0, rows, effect=1.0)
            alarms.append(Alarm(signal, 0.0, "quality", f"column {column.name} is not in the reference"))
    return alarms


def _all(then: Schema, now: Schema) -> list[Column]:
    known = set(then.names())
    return [*then.features, *(c for c in now.features if c.name not in known)]


def _column(
    column: Column, readings: list[Reading], alarm: bool, nulls: Mapping[str, float | None]
) -> ColumnComparison:
    found = {r.name: r for r in readings if isinstance(r, Signal) and r.column == column.name}

    def value(name: str) -> float | None:
        return found[name].value if name in found else None

    psi = found.get("drift.psi")
    return ColumnComparison(
        column.name,
        column.kind,
        value("drift.psi"),
        value("drift.ks"),
        value("drift.js"),
        value("drift.wasserstein"),
        psi.p_value if psi else None,
        psi.effect if psi else None,
        alarm,
        nulls,
    )


def _nulls(then: ColumnProfile | None, now: ColumnProfile | None) -> dict[str, float | None]:
    return {"reference": then.null_share if then else None, "current": now.null_share if now else None}


def _verdict(alarms: tuple[Alarm, ...], readings: list[Reading]) -> str:
    if alarms:
        return "drift"
    read = [r for r in readings if isinstance(r, Signal) and r.name == "drift.psi"]
    return "none" if read else "not_enough"


def _said(alarms: tuple[Alarm, ...], readings: list[Reading], options: Watching) -> tuple[str, ...]:
    few = [r.said for r in readings if isinstance(r, NotEnough)]
    lines = [alarm.said for alarm in alarms] or [f"no column moved by a PSI of {options.effect:g} or more"]
    if few and len(few) == sum(1 for r in readings if r.name == "drift.psi") and not alarms:
        lines = ["too few values to say anything"]
    return (*lines, *few, HONEST)
