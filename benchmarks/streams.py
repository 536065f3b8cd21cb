"""Drift alarms on real streams: half of the windows of their first third is history, the other half is tested.

Takes a folder of Parquet files (`_order`, maybe `ts`, features, `target`); prints alarms without and with a planted
shift; never copies a row. `syn_null` has no drift by construction, so all of it is tested.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import polars as pl
from soundness import alarms_of, head, listen, row

from everfit.detect.usual import learn_usual
from everfit.observe.options import FeatureOptions, Kind
from everfit.observe.schema import Schema, learn
from everfit.profile.table import learn_bins, portray

WINDOWS = 60
NOT_FEATURES = ("_order", "ts", "target")


def shifted(frame: pl.DataFrame, schema: Schema, kind: str, rng: np.random.Generator) -> tuple[pl.DataFrame, str]:
    """Half a standard deviation on the first number that varies, or a tenth of the rows to one category."""
    if kind == "shift":
        spread = {c.name: frame[c.name].std() or 0.0 for c in schema.features if c.kind is Kind.NUMBER}
        name = next(n for n, s in spread.items() if s > 0 and frame[n].n_unique() > 20)
        return frame.with_columns(pl.col(name) + 0.5 * spread[name]), name
    name = next(c.name for c in schema.features if c.kind is Kind.CATEGORY)
    seen = frame[name].drop_nulls().value_counts(sort=True)[name]
    moved = pl.Series(rng.random(frame.height) < 0.1)
    text = pl.when(moved).then(pl.lit(seen[min(1, len(seen) - 1)])).otherwise(pl.col(name))
    return frame.with_columns(text.alias(name)), name


def one_stream(name: str, frame: pl.DataFrame) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    frame = frame.sort("_order").drop(c for c in NOT_FEATURES if c in frame.columns)
    rows = frame if name == "syn_null" else frame[: frame.height // 3]
    size = rows.height // WINDOWS
    schema = learn(rows, reserved=(), options=FeatureOptions())
    history = [rows[i * size : (i + 1) * size] for i in range(WINDOWS // 2)]
    rest = rows[WINDOWS // 2 * size : WINDOWS * size]
    bins = learn_bins(pl.concat(history), schema)
    usual = learn_usual([portray(each, bins) for each in history], periods=(7, 24))
    kinds = ["none", "shift"] + (["category"] if any(c.kind is Kind.CATEGORY for c in schema.features) else [])
    found: dict[str, Any] = {"rows": size, "columns": len(schema.features), "season": usual.period}
    found["memory"] = round(usual.spread.memory, 1)
    for kind in kinds:
        changed, column = (rest, "") if kind == "none" else shifted(rest, schema, kind, rng)
        windows = [portray(changed[i * size : (i + 1) * size], bins) for i in range(WINDOWS - WINDOWS // 2)]
        told = listen(usual, usual.lens.count(windows), np.arange(len(history), WINDOWS))
        found[kind] = {rule: int(flags.sum()) for rule, flags in alarms_of(told).items()}
        found[kind]["column"] = column
        if column:
            found[kind]["on it"] = int(told.unusual[:, usual.lens.columns.index(column)].sum())
            found[kind]["slow on it"] = sum(c == column and a for c, a in zip(told.blamed, told.slow, strict=True))
        found[kind]["silenced"] = told.silenced
        hit = told.unusual.sum(axis=0)
        found[kind]["most"] = {usual.lens.columns[i]: int(hit[i]) for i in np.argsort(-hit)[:3] if hit[i]}
    return found


def real_streams(options: argparse.Namespace) -> dict[str, Any]:
    """Every stream of the folder."""
    print("\n### Real streams: alarms in 30 windows after 30 healthy ones\n")
    head("stream", "rows", "columns", "season", "change", "one window", "slow", "with ledger", "on the changed column")
    found: dict[str, Any] = {}
    for path in sorted(options.streams.glob("*.parquet")):
        found[path.stem] = of = one_stream(path.stem, pl.read_parquet(path))
        for kind in ("none", "shift", "category"):
            if kind in of:
                f = of[kind]
                on = f"{f['on it']} / {f['slow on it']} ({f['column']})" if f["column"] else str(f["most"])
                numbers = f["one window"], f["slow"], f["both, back-test, ledger"]
                row(path.stem, of["rows"], of["columns"], of["season"], kind, *numbers, on)
    return found
