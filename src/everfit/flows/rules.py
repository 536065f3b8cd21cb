"""What a spec asks of the policy.

Takes a spec and the user's own functions; gives `Rules`; never decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from math import ceil
from types import MappingProxyType
from typing import Literal

from everfit.decide.options import Asked, Rules, default_triggers
from everfit.retrain.options import Last
from everfit.spec import Spec
from everfit.units import duration_text


def rules_of(spec: Spec, functions: Mapping[str, Asked] = MappingProxyType({})) -> Rules:
    """What a spec asks of the policy."""
    allowed = spec.watch.false_alarms
    limit = spec.judge.limits.latency_p99
    return Rules(
        triggers=spec.triggers or default_triggers(),
        limits=spec.decide,
        primary=spec.primary,
        first_rows=_first_rows(spec),
        promise=f"{allowed.at_most:g} per {duration_text(allowed.per)}",
        slowest=None if limit is None else limit.total_seconds() * 1000,
        functions=functions,
        rows=_rows(spec),
        least_rows=spec.train.at_least,
    )


def _first_rows(spec: Spec) -> int:
    """Labelled rows of which enough are left to train on, and enough are held out to prove a first champion."""
    train, proof, held_out = spec.train.at_least, spec.judge.at_least, spec.judge.holdout
    if isinstance(held_out, timedelta):
        return train + proof  # how many rows come in that time nobody knows yet
    return max(ceil(proof / held_out), ceil(train / (1 - held_out)))


def _rows(spec: Spec) -> Literal["all", "last"] | None:
    """Which rows the spec wants, where it says so; else the bench chooses."""
    if "rows" not in spec.train.model_fields_set:
        return None
    return "last" if isinstance(spec.train.rows, Last) else "all"
