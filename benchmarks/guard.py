"""False roll-backs under 200 looks, and requests exposed to a bad model, of the guard and of the rules in use.

Takes `--quick` and `--json FILE`; prints tables in Markdown with standard errors; never reads a file of yours.

    nice -n 10 python benchmarks/guard.py --json build/guard.json

Kayenta's judge, re-implemented from its source (spinnaker/kayenta, NetflixACAJudge and MannWhitneyClassifier): one
point per interval and side, Mann-Whitney U with tie correction, and "high" where the lower end of the 98 % interval
passes 0.25 times the Hodges-Lehmann shift; all points so far are judged at each look. Left out: its outlier filter
(factor 3 of the interquartile range; these points have no outliers) and its effect-size floor (off by default). Its
baseline is of the canary's size, as its manual asks, or all of production; the better of the two is shown. Flagger's
rule: five intervals above a limit. `tuned` means: the limit is set so that 1 % of the same world's healthy runs are
rolled back, which nobody can do who does not know that world beforehand; the plain guard never sees it.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import scipy
import scipy.stats

from everfit.rollout.checks import SLACK, Check, Guarding
from everfit.rollout.guard import Compared, RollBack, Seen, begin, look, total_evidence
from everfit.rollout.power import Traffic, power_of
from everfit.rollout.sequential import design_effect, evidence_of, knowing, rate_of, weigh_apart
from everfit.rollout.split import share_of

LOOKS, PROMISE, STRIKES = 200, 0.01, 5
BEGAN, STEP = datetime(2026, 1, 1, tzinfo=UTC), timedelta(minutes=1)
Floats = np.ndarray
Side = tuple[float, Floats | None, int]  # mean, rows (None for errors), number of rows


@dataclass(frozen=True)
class World:
    """Traffic of one release: what the champion does, and how much worse the challenger is."""

    name: str
    check: str  # errors | latency | loss
    requests: int  # per interval
    share: float
    worse: float = 0.0  # errors: points; latency and loss: share
    level: float = 0.1  # of errors
    swing: float = 0.0  # the level's daily wave and its shocks per interval, common to both sides
    paired: bool = False
    customers: int = 0  # sticky keys, each with its own level (correlation within a customer 0.05)
    late: int = 0  # interval from which on it is worse
    tolerance: float | str = 0
    effect: bool = False  # measured from 60 healthy intervals before the release
    known: bool = False  # the guard is told the champion's level before


@dataclass(frozen=True)
class Run:
    """One release: a point per interval and side for the peers, and the guard's evidence."""

    points: Floats  # canary, baseline of its size, production: 3 x looks
    exposed: Floats  # requests of the canary so far
    answered: Floats  # requests of the canary, per interval
    evidence: Floats  # log, of the guard, at each look


def guarding(world: World) -> Guarding:
    """One check, and nothing but its promise."""
    return Guarding(
        checks=(
            Check(
                of=world.check,
                worse_by_at_most=world.tolerance or ("0%" if world.check == "latency" else 0),
                on="same" if world.paired else "different",
                slack=timedelta(0) if world.check == "latency" else SLACK,  # the simulated models need no process
            ),
        ),
        false_rollbacks=PROMISE,
    )


@cache
def brier_noise(worse: float) -> float:
    """The noise at which the expected Brier score is worse by this share, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    weights = weights / weights.sum()
    logit = -1.0 + 1.5 * nodes
    truth = scipy.special.expit(logit)

    def brier(noise: float) -> float:
        score = scipy.special.expit(logit[:, None] + noise * nodes[None, :])
        return float(weights @ ((truth[:, None] * (1 - score) ** 2 + (1 - truth[:, None]) * score**2) @ weights))

    base = brier(0.5)
    return 0.5 if worse == 0 else float(scipy.optimize.brentq(lambda noise: brier(noise) / base - 1 - worse, 0.4, 2.0))


def sides(world: World, chance: np.random.Generator, worse: Callable[[int], float]) -> Iterator[tuple[Side, Side]]:
    """Champion and challenger of each interval."""
    customers = _Customers(world, chance) if world.customers else None
    phase = chance.random() * 2 * math.pi
    for t in range(LOOKS):
        wave = world.swing * (math.sin(2 * math.pi * t / 100 + phase) + chance.normal() / 2)
        if world.paired:
            yield _pairs(world, chance, worse(t))
        elif customers is not None:
            yield customers.draw(world.requests, worse(t))
        else:
            many = int(chance.binomial(world.requests, world.share))
            yield (
                _side(world, chance, world.requests - many, 0.0, wave),
                _side(world, chance, many, worse(t), wave),
            )


def _side(world: World, chance: np.random.Generator, many: int, worse: float, wave: float) -> Side:
    if world.check == "errors":
        odds = world.level / (1 - world.level) * math.exp(wave)
        rate = odds / (1 + odds) + worse
        return chance.binomial(many, min(1.0, rate)) / max(1, many), None, many
    if world.check == "latency":
        rows = 20 * np.exp(0.6 * chance.normal(size=many) + wave) * (1 + worse)
    else:
        logit = -1.0 + 1.5 * chance.normal(size=many) + wave
        label = chance.random(many) < scipy.special.expit(logit)
        rows = (scipy.special.expit(logit + brier_noise(worse) * chance.normal(size=many)) - label) ** 2
    return float(rows.mean()), rows, many


def _pairs(world: World, chance: np.random.Generator, worse: float) -> tuple[Side, Side]:
    """The same rows: the challenger is a retrained model, so its noise is its own, but the rows are hard for both."""
    many = world.requests
    logit = -1.0 + 1.5 * chance.normal(size=many)
    label = chance.random(many) < scipy.special.expit(logit)
    common = chance.normal(size=many) * 0.4  # both learned the same mistakes
    found = []
    for noise in (brier_noise(0.0), brier_noise(worse)):
        own = math.sqrt(noise**2 - 0.16)
        found.append((scipy.special.expit(logit + common + own * chance.normal(size=many)) - label) ** 2)
    return (float(found[0].mean()), found[0], many), (float(found[1].mean()), found[1], many)


class _Customers:
    """Sticky keys: the same customers stay on the canary, some of them with errors of their own."""

    def __init__(self, world: World, chance: np.random.Generator) -> None:
        a = world.level * (1 / 0.05 - 1)
        self.levels = chance.beta(a, a * (1 - world.level) / world.level, world.customers)
        salt = str(chance.integers(1 << 40))
        self.canary = np.array([share_of(f"c{i}", salt) < world.share for i in range(world.customers)])
        self.half = np.array([share_of(f"c{i}", salt + "half") < 0.5 for i in range(world.customers)])
        self.chance = chance

    def draw(self, requests: int, worse: float) -> tuple[Side, Side]:
        who = self.chance.integers(0, len(self.levels), requests)
        canary = self.canary[who]
        failed = self.chance.random(requests) < self.levels[who] + worse * canary
        many = int(canary.sum())
        return (
            (float(failed[~canary].mean()), None, requests - many),
            (float(failed[canary].sum() / max(1, many)), None, many),
        )

    def effect(self, world: World) -> float:
        """From 60 healthy intervals, split as the canary was going to be."""
        apart, rows = [], []
        for _ in range(60):
            champion, challenger = self.draw(world.requests, 0.0)
            apart.append(challenger[0] - champion[0])
            rows.append(champion[2] * challenger[2] / world.requests)
        return design_effect(apart, rows, math.sqrt(world.level * (1 - world.level)))


def run(world: World, seed: int) -> Run:
    """One release under all rules."""
    chance = np.random.default_rng(seed)
    options = guarding(world)
    state = begin(BEGAN, usual={world.check: world.level} if world.known else {})
    effect = _Customers(world, np.random.default_rng(seed + 10**6)).effect(world) if world.effect else 1.0
    points, exposed, answered, so_far = np.empty((3, LOOKS)), np.empty(LOOKS), np.empty(LOOKS), 0
    evidence = np.full(LOOKS, -np.inf)
    for t, (champion, challenger) in enumerate(sides(world, chance, lambda t: world.worse if t >= world.late else 0.0)):
        answered[t] = challenger[2]
        so_far += challenger[2] if t >= world.late else 0
        points[:, t], exposed[t] = (challenger[0], _same_size(champion, challenger[2], chance), champion[0]), so_far
        if state.over is None:
            seen = Seen((champion[2], challenger[2]), (_compared(world, champion, challenger, effect),))
            state, verdict = look(state, seen, options, BEGAN + (t + 1) * STEP)
            evidence[t] = total_evidence(state, options)
            assert isinstance(verdict, RollBack) == (evidence[t] >= -math.log(PROMISE))
    return Run(points, exposed, answered, evidence)


def _compared(world: World, champion: Side, challenger: Side, effect: float) -> Compared:
    if world.check == "errors":
        a, b = (rate_of(round(side[0] * side[2]), side[2]) for side in (champion, challenger))
        return Compared("errors", a, b, effect=effect)
    assert champion[1] is not None
    assert challenger[1] is not None
    return Compared(world.check, champion[1], challenger[1], paired=world.paired)


def _same_size(side: Side, many: int, chance: np.random.Generator) -> float:
    """A baseline of the canary's size, drawn from the champion's rows of the interval."""
    if side[1] is not None:
        return float(side[1][:many].mean())
    failed = round(side[0] * side[2])
    return chance.hypergeometric(failed, side[2] - failed, min(many, side[2])) / max(1, many)


# ---- the peers -------------------------------------------------------------------------------------------------------


def kayenta(canary: Floats, baseline: Floats) -> Floats:
    """At each look, the normal score at which the lower end of Kayenta's interval passes 0.25 x Hodges-Lehmann."""
    found = np.zeros(LOOKS)
    for t in range(1, LOOKS + 1):
        x, y = canary[:t], np.sort(baseline[:t])
        below = (np.searchsorted(y, x, "left") + np.searchsorted(y, x, "right")).sum() / 2 - t * t / 2
        plain = below / math.sqrt(t * t * (2 * t + 1) / 12)
        found[t - 1] = plain if plain < 1 else _kayenta(x, y)  # the shift only lowers it, and no limit is that low
    return found


def _kayenta(x: Floats, y: Floats) -> float:
    t = len(x)
    shift = 0.25 * float(np.median(x[:, None] - y[None, :]))
    ranks = scipy.stats.rankdata(np.concatenate([x - abs(shift), y]))
    off = ranks[:t].sum() - t * (t + 1) / 2 - t * t / 2
    ties = np.unique(ranks, return_counts=True)[1].astype(float)
    sigma = math.sqrt(max(1e-12, t * t / 12 * (2 * t + 1 - (ties**3 - ties).sum() / (2 * t * (2 * t - 1)))))
    return float((off - math.copysign(0.5, off)) / sigma)


def strikes(canary: Floats, production: Floats, usual: float) -> Floats:
    """At each look, the fifth highest interval so far, as a multiple of the usual level (Flagger: `threshold: 5`)."""
    found = np.zeros(LOOKS)
    for t in range(STRIKES, LOOKS + 1):
        found[t - 1] = np.sort(canary[:t])[-STRIKES] / usual
    return found


def peeking(run_: Run, world: World) -> Floats:
    """At each look, the z score of all rows so far: what a dashboard with p < 0.05 amounts to."""
    canary, production = run_.points[0], run_.points[2]
    now = run_.answered
    many, rest = np.cumsum(now), np.cumsum(world.requests - now)
    a, b = np.cumsum(canary * now) / np.maximum(1, many), np.cumsum(production * (world.requests - now)) / rest
    level = (a * many + b * rest) / (many + rest)
    found: Floats = (a - b) / np.sqrt(np.maximum(1e-12, level * (1 - level)) * (1 / np.maximum(1, many) + 1 / rest))
    return found


def scores_of(world: World, runs: list[Run]) -> dict[str, Floats]:
    """Every peer's score at each look: runs x looks. It rolls back where the score passes its limit."""
    usual = float(np.mean([r.points[2].mean() for r in runs]))
    found = {
        "Kayenta, own baseline": np.array([kayenta(r.points[0], r.points[1]) for r in runs]),
        "Kayenta, production": np.array([kayenta(r.points[0], r.points[2]) for r in runs]),
        "five strikes": np.array([strikes(r.points[0], r.points[2], usual) for r in runs]),
    }
    if world.check == "errors":
        found["p < 0.05 at each look"] = np.array([peeking(r, world) for r in runs])
    return found


DEFAULTS = {
    "Everfit": -math.log(PROMISE) - 1e-12,
    "Kayenta, own baseline": float(scipy.special.ndtri(0.99)),  # 98 %, two-sided
    "Kayenta, production": float(scipy.special.ndtri(0.99)),
    "five strikes": 1.5,
    "p < 0.05 at each look": float(scipy.special.ndtri(0.95)),
}


# ---- what comes out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One rule in one world."""

    world: str
    rule: str
    runs: int
    rolled_back: float
    error: float  # standard error of `rolled_back`
    median_exposed: float | None = None  # requests of the challenger until the roll-back; the whole run where none
    mean_exposed: float | None = None
    mean_error: float | None = None

    def line(self) -> str:
        caught = f"{self.rolled_back:.1%} ± {self.error:.1%}"
        if self.median_exposed is None:
            return f"| {self.world} | {self.rule} | {caught} |"
        mean = f"{self.mean_exposed:,.0f} ± {self.mean_error:,.0f}"
        return f"| {self.world} | {self.rule} | {caught} | {self.median_exposed:,.0f} | {mean} |"


def row_of(world: World, rule: str, trips: list[int | None], runs: list[Run], *, bad: bool) -> Row:
    many = len(trips)
    rolled = sum(trip is not None for trip in trips) / many
    error = math.sqrt(max(rolled * (1 - rolled), 1 / many * (1 - 1 / many) if rolled in {0, 1} else 0) / many)
    if not bad:
        return Row(world.name, rule, many, rolled, error)
    exposed = np.array([r.exposed[-1 if trip is None else trip] for trip, r in zip(trips, runs, strict=True)])
    return Row(
        world.name,
        rule,
        many,
        rolled,
        error,
        float(np.median(exposed)),
        float(exposed.mean()),
        float(exposed.std(ddof=1) / math.sqrt(many)),
    )


def pooled(rows: list[Row]) -> Row:
    """The guard's false roll-backs over all healthy worlds whose rows are independent."""
    ours = [r for r in rows if r.rule == "Everfit" and r.median_exposed is None and "customers" not in r.world]
    ours = [r for r in ours if "the same" not in r.world]
    many = sum(r.runs for r in ours)
    rolled = sum(r.rolled_back * r.runs for r in ours) / many
    return Row("all of these, independent rows", "Everfit", many, rolled, math.sqrt(rolled * (1 - rolled) / many))


def first(scores: Floats, limit: float) -> list[int | None]:
    over = scores > limit
    return [int(found.argmax()) if found.any() else None for found in over]


def compare(healthy: World, bads: list[World], runs: int, seed: int) -> Iterator[Row]:
    """False roll-backs in the healthy world, and exposure in the bad ones at the rules' own and at tuned limits."""
    calm = [run(healthy, seed + i) for i in range(runs)]
    peers = not (healthy.paired or healthy.customers or healthy.known)
    scores = {"Everfit": np.array([r.evidence for r in calm])} | (scores_of(healthy, calm) if peers else {})
    tuned = {rule: float(np.quantile(found.max(axis=1), 1 - PROMISE)) for rule, found in scores.items()}
    for rule, found in scores.items():
        yield row_of(healthy, rule, first(found, DEFAULTS[rule]), calm, bad=False)
    for bad in bads:
        ill = [run(bad, seed + 10**7 + i) for i in range(max(20, runs // 5))]
        found_ = {"Everfit": np.array([r.evidence for r in ill])} | (scores_of(bad, ill) if peers else {})
        for rule, found in found_.items():
            yield row_of(bad, rule, first(found, DEFAULTS[rule]), ill, bad=True)
            if peers:
                yield row_of(bad, f"{rule}, tuned", first(found, tuned[rule]), ill, bad=True)


ERRORS = World("errors 10 %, canary 5 % of 1,000", "errors", 1000, 0.05)
KNOWN = replace(ERRORS, name="errors 10 %, level known before", known=True)
BUSY = World("errors 10 %, canary 10 % of 20,000", "errors", 20_000, 0.1)
SWINGING = replace(ERRORS, name="errors 10 %, level swings by day and by interval", swing=0.4)
RARE = World("errors 1 %, canary 5 % of 1,000", "errors", 1000, 0.05, level=0.01)
CUSTOMERS = World("errors 10 %, 2,000 sticky customers", "errors", 1000, 0.05, customers=2000)
SLOW = World("latency, canary 5 % of 1,000", "latency", 1000, 0.05)
LOSS = World("Brier score, canary 25 % of 4,000", "loss", 4000, 0.25)
PAIRS = World("Brier score, shadow, 200 labelled", "loss", 200, 1.0, paired=True)

STORIES: list[tuple[World, list[World]]] = [
    (
        ERRORS,
        [
            replace(ERRORS, name="errors 10 -> 15 %, canary 5 % of 1,000", worse=0.05),
            replace(ERRORS, name="errors 10 -> 20 %, canary 5 % of 1,000", worse=0.1),
            replace(ERRORS, name="errors 10 -> 15 % from interval 100", worse=0.05, late=100),
        ],
    ),
    (SWINGING, [replace(SWINGING, name="errors 10 -> 15 %, level swings", worse=0.05)]),
    (RARE, [replace(RARE, name="errors 1 -> 2 %, canary 5 % of 1,000", worse=0.01)]),
    (BUSY, [replace(BUSY, name="errors 10 -> 10.5 %, canary 10 % of 20,000", worse=0.005)]),
    (SLOW, [replace(SLOW, name="latency x 1.2, canary 5 % of 1,000", worse=0.2)]),
    (LOSS, [replace(LOSS, name="Brier + 2 %, canary 25 % of 4,000", worse=0.02)]),
    (PAIRS, [replace(PAIRS, name="Brier + 2 %, shadow, 200 labelled (nobody exposed)", worse=0.02)]),
    (CUSTOMERS, []),
    (replace(CUSTOMERS, name="the same, with the measured design effect", effect=True), []),
    (replace(CUSTOMERS, name="the same, and 1 point tolerated", effect=True, tolerance=0.01), []),
    (
        KNOWN,
        [
            replace(KNOWN, name="errors 10 -> 15 %, level known", worse=0.05),
            replace(KNOWN, name="errors 10 -> 20 %, level known", worse=0.1),
        ],
    ),
]


def powers(quick: bool) -> Iterator[str]:
    """What `power_of` says beside what happens: rows of the challenger, half and nine in ten caught, level known."""
    chance = np.random.default_rng(3)
    for level, worse, requests, share, runs in (
        (0.1, 0.05, 1000, 0.05, 300),
        (0.1, 0.1, 460, 60 / 460, 300),
        (0.01, 0.01, 1000, 0.05, 150),
        (0.1, 0.005, 20_000, 0.1, 100),
    ):
        power = power_of(guarding(ERRORS), Traffic("errors", level, share), worse)
        assert power is not None
        rows, many = [], round(requests * share)
        rest = requests - many
        for _ in range(runs // (10 if quick else 1)):
            state = knowing(level)
            while evidence_of(state) < 1 / PROMISE and state.looks < 2 * LOOKS:
                failed, bad = chance.binomial(rest, level), chance.binomial(many, level + worse)
                state = weigh_apart(state, rate_of(failed, rest), rate_of(bad, many))
            rows.append(state.rows[1])
        said, met = f"{power.half:,} / {power.most:,}", f"{np.median(rows):,.0f} / {np.quantile(rows, 0.9):,.0f}"
        yield f"| {level:.0%} -> {level + worse:.1%}, looks every {many:,} rows | {said} | {met} |"


def cost() -> str:
    """CPU time of a look."""
    chance, state = np.random.default_rng(4), begin(BEGAN)
    options, rows = guarding(LOSS), chance.random((2, 100_000))
    began = time.process_time()
    look(state, Seen((1, 1), (Compared("loss", rows[0], rows[1]),)), options, BEGAN + STEP)
    losses, began = time.process_time() - began, time.process_time()
    for t in range(1, 501):
        seen = Seen((950, 50), (Compared("errors", rate_of(95, 950), rate_of(5, 50)),))
        state, _ = look(state, seen, guarding(ERRORS), BEGAN + t * STEP)
    counts = (time.process_time() - began) / 500
    return f"a look: {counts * 1000:.2f} ms of CPU for counts, {losses:.2f} s for the first of 2 x 100,000 losses"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    parser.add_argument("--only", default="", help="worlds whose name holds this text")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    given = parser.parse_args()
    rows = []
    for at, (healthy, bads) in enumerate(STORIES):
        if given.only not in healthy.name:
            continue
        heavy = healthy.check != "errors" or healthy.customers
        runs = (30 if heavy else 100) if given.quick else (300 if heavy else 1000)
        began = time.process_time()
        rows += list(compare(healthy, bads, runs, 1_000 * 7919 * (at + 1)))
        print(f"# {healthy.name}: {time.process_time() - began:.0f} CPU s", flush=True)
    print("\n| no difference, 200 looks | rule | rolled back |\n|---|---|---|")
    print(*(row.line() for row in rows if row.median_exposed is None), sep="\n")
    if rows:
        print(pooled(rows).line())
    print("\n| worse | rule | caught | median exposed | mean exposed |\n|---|---|---|---|---|")
    print(*(row.line() for row in rows if row.median_exposed is not None), sep="\n")
    print("\n| errors | said: half / nine in ten caught within | measured |\n|---|---|---|")
    print(*powers(given.quick), sep="\n")
    print(f"\n{cost()}")
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"\n{used.ru_utime + used.ru_stime:.0f} CPU s, {used.ru_maxrss // 1024} MB")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({"rows": [row.__dict__ for row in rows], "quick": given.quick}, indent=1))


if __name__ == "__main__":
    main()
