"""What a spec asks of the policy.

Takes a spec and the user's own functions; gives `Rules`; never decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from everfit.decide.options import Asked, Rules, default_triggers
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
        first_rows=spec.train.at_least + spec.judge.at_least,
        promise=f"{allowed.at_most:g} per {duration_text(allowed.per)}",
        slowest=None if limit is None else limit.total_seconds() * 1000,
        functions=functions,
    )
