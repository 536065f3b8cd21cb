"""How soon a bad model would be caught, said before anything happens.

Takes options and what the traffic is like; gives rows of the challenger until it is caught; never looks at outcomes.

Each bet's log wealth is a random walk whose drift and variance follow from the difference: exactly for errors, by two
moments for losses. All bets see the same rows, so all are as lucky; the rows until their mixture crosses the line are
found by halving. Assumed: the usual level is known (`begin(usual=...)`) and looks are frequent. Held against runs in
`tests/laws/test_guard.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from everfit.errors import UsageError
from everfit.rollout.checks import Check, Guarding
from everfit.rollout.findings import allowed_text
from everfit.rollout.sequential import AT_STAKE, EARLY, PARTS, SIZES, Floats, log_sum
from everfit.units import duration_text

NINE_IN_TEN = 1.2816  # standard normal quantile


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the traffic is like, for one check."""

    check: str  # "errors" or "loss"
    level: float  # the champion's, in the check's unit
    share: float = 0.05  # of the requests that the challenger answers; ignored for pairs
    spread: float | None = None  # standard deviation of a row (of a pair's difference); default that of errors
    paired: bool = False  # shadow: the same rows
    effect: float = 1.0  # design effect


@dataclass(frozen=True, slots=True)
class Power:
    """Rows of the challenger, labelled where losses are compared, until a bad model is rolled back."""

    worse_by: float  # its level less the champion's, in the check's unit
    half: int  # rows by which one bad model in two is caught
    most: int  # rows by which nine in ten are
    said: str


def power_of(options: Guarding, traffic: Traffic, worse_by: float) -> Power | None:
    """Rows of the challenger until a model that is worse by this much is caught; None where it is tolerated.

    Args:
        options: The checks, their parts and the promise.
        traffic: The check, its level and spread, and the challenger's share.
        worse_by: In the check's unit, 0.05 = five points of errors.

    Raises:
        UsageError: latency (its power depends on whole distributions), or a level without spread.

    >>> from everfit.rollout.checks import Check
    >>> options = Guarding(checks=(Check(of="errors", worse_by_at_most=0, on="different"),))
    >>> found = power_of(options, Traffic("errors", 0.1), 0.05)
    >>> 300 < found.half < 700, found.half < found.most
    (True, True)
    """
    check = options.check(traffic.check)
    if check.of == "latency":
        raise UsageError("no formula for latency; benchmarks/guard.py measures it")
    if worse_by <= check.allowed.by + check.allowed.relative * traffic.level:
        return None
    drift, variance = _walk(traffic, check, worse_by)
    line = -math.log(EARLY * _part(options, traffic) * options.false_rollbacks)
    # a design effect divides the log wealth of rows whose sum sways that much more
    half, most = (_rows(drift / traffic.effect, variance / traffic.effect, line, z) for z in (0.0, NINE_IN_TEN))
    unit = f"{worse_by * 100:.3g} points" if check.of == "errors" else f"{worse_by:.3g}"
    noun = "labelled rows" if check.of == "loss" else "rows"
    said = f"{check.of} worse by {unit}: caught within {half:,} {noun} of the challenger in one of two cases, "
    return Power(worse_by, half, most, said + f"within {most:,} in nine of ten")


def promise_of(options: Guarding) -> list[str]:
    """What the guard promises and asks for, one line each, for `everfit plan`.

    >>> from everfit.rollout.checks import Check
    >>> checks = (Check(of="errors"), Check(of="latency"), Check(of="loss", slices=True))
    >>> print(*promise_of(Guarding(checks=checks)), sep="\\n")
    a challenger that is no worse than allowed is rolled back in at most 1% of releases, over all checks and looks
    errors: at most 0.5 points over the champion; 200 rows at least per step
    latency: at most 10% and 5ms over the champion; 200 rows at least per step
    loss: at most 2% over the champion, on up to 20 slices too; 200 rows at least per step
    an inconclusive step is extended by up to 1d; then a person is asked
    """
    rate = f"{options.false_rollbacks * 100:.10g}%"
    first = f"a challenger that is no worse than allowed is rolled back in at most {rate} of releases"
    told = [f"{first}, over all checks and looks"]
    for check in options.checks:
        slices = f", on up to {options.slices_at_most} slices too" if check.slices else ""
        proof = "; proved before it goes on" if check.prove else ""
        more = allowed_text(check).removesuffix(" of it")
        more += f" and {duration_text(check.slack)}" if check.of == "latency" and check.slack else ""
        rows = f"{check.at_least:,} rows at least per step"
        told.append(f"{check.of}: at most {more} over the champion{slices}; {rows}{proof}")
    then = {"ask": "a person is asked", "abort": "it is rolled back", "promote": "it goes on, if there was traffic"}
    last = f"extended by up to {duration_text(options.extend_up_to)}; then {then[options.inconclusive]}"
    return [*told, f"an inconclusive step is {last}"]


def _part(options: Guarding, traffic: Traffic) -> float:
    check = options.check(traffic.check)
    part = check.weight / sum(other.weight for other in options.checks)
    return part / (2 if check.on == "both" else 1) / (2 if check.slices else 1)


def _walk(traffic: Traffic, check: Check, worse_by: float) -> tuple[Floats, Floats]:
    """Drift and variance of each bet's log wealth, per row of the challenger."""
    if traffic.paired or traffic.spread is not None:
        return _normal_walk(traffic, check, worse_by)
    worse, allowed = traffic.level + worse_by, check.allowed
    if check.of != "errors" or not (0 < traffic.level < 1 and worse <= 1):
        raise UsageError("the standard deviation of a row is needed here; give `spread`")
    share, apart = traffic.share, 1 - traffic.share
    spread = math.sqrt(apart * traffic.level * (1 - traffic.level) + share * worse * (1 - worse))
    centre = (1 + allowed.relative) * (apart * traffic.level + share * worse)
    most = max(apart * (centre + allowed.by), share * (1 + allowed.relative - centre))
    bets = np.minimum(SIZES / spread, AT_STAKE / most)
    of_b = _two(worse, apart * bets, 1.0, centre + allowed.by)
    of_a = _two(traffic.level, -share * bets, 1 + allowed.relative, centre)
    return of_b[0] + of_a[0] * apart / share, of_b[1] + of_a[1] * apart / share


def _two(rate: float, slopes: Floats, failed: float, centre: float) -> tuple[Floats, Floats]:
    """Mean and variance of log(1 + slope (x - centre)), x = `failed` with chance `rate`, else 0."""
    high, low = np.log1p(slopes * (failed - centre)), np.log1p(-slopes * centre)
    mean: Floats = rate * high + (1 - rate) * low
    variance: Floats = rate * (1 - rate) * (high - low) ** 2
    return mean, variance


def _normal_walk(traffic: Traffic, check: Check, worse_by: float) -> tuple[Floats, Floats]:
    if traffic.spread is None:
        raise UsageError("the standard deviation of a pair's difference is needed here; give `spread`")
    apart, spread = 1.0 if traffic.paired else 1 - traffic.share, traffic.spread / check.largest
    over = (worse_by - check.allowed.by - check.allowed.relative * traffic.level) / check.largest
    bets = np.minimum(SIZES / spread, AT_STAKE)
    return apart * (bets * over - bets**2 * (spread**2 + apart * over**2) / 2), apart * (bets * spread) ** 2


def _rows(drift: Floats, variance: Floats, line: float, quantile: float) -> int:
    """Rows after which the mixture has crossed the line, if all bets are `quantile` standard deviations unlucky."""

    def short(rows: float) -> bool:
        logs = rows * drift - quantile * np.sqrt(rows * variance)
        return log_sum(tuple(logs.tolist()), tuple(PARTS.tolist())) < line

    low, high = 1.0, 2.0
    while short(high) and high < 1e12:
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        low, high = ((low + high) / 2, high) if short((low + high) / 2) else (low, (low + high) / 2)
    return math.ceil(high)
