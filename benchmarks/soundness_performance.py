"""How often the decay detector alarms without any decay, and how late it is with some; beside river's detectors.

Takes --quick, --runs, --jobs, --json; prints tables, per 365 windows (or 365,000 rows for river) with standard errors;
never reads data: every stream is simulated, seeds are fixed. Promise in all tables: 1 false alarm in 365 windows.

    .venv/bin/python benchmarks/soundness_performance.py --quick
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy.signal import lfilter

from everfit.detect.catalogue import METRICS
from everfit.detect.decay import Baseline, Counted, Decay, Seasons, advance_level, advance_losses, counted
from everfit.detect.outcomes import Outcomes
from everfit.detect.performance import level
from everfit.detect.proven import learn_levels, learn_losses, worse_upward
from everfit.detect.stream import DETECTORS

Floats = np.ndarray
RATE, YEAR, NEVER = 1 / 365, 365, 10**6
FAR = 300  # windows after a change; later is "-"
WORLDS = ("iid", "AR .3", "AR .7", "day sd .1", "day sd .3", "day AR .7 sd .15", "weekly", "weekly, phases")


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    world: str
    base: float  # error rate; or what the metric's cell needs
    rows: int  # in a window
    healthy: int  # windows behind the baseline
    up: float = 0.0  # change of the error rate
    ramp: int = 0  # windows over which it comes
    kind: str = "errors"  # errors, brier, absolute, roc_auc; "recipe": errors, by the rule that ours began from
    proved: bool = False
    tolerance: float = 0.0


# ---- worlds ----------------------------------------------------------------------------------------------------------
def errors(cell: Cell, chance: np.random.Generator) -> Floats:
    """Errors in each window, healthy ones first."""
    windows = cell.healthy + (FAR if cell.up else YEAR)
    share = np.full(windows, cell.base)
    if cell.up:
        since = np.arange(windows) - cell.healthy + 1
        share = share + cell.up * np.clip(since / max(1, cell.ramp), 0, 1)
    if cell.world.startswith("AR"):
        return _correlated(share, float(cell.world[3:]), cell.rows, chance)
    if cell.world.startswith("weekly"):
        share = share * (1 + 0.3 * np.sin(2 * np.pi * np.arange(windows) / 7))
    else:
        share = scipy.special.expit(scipy.special.logit(share) + _days(cell.world, windows, chance))
    return chance.binomial(cell.rows, share)


def _days(world: str, windows: int, chance: np.random.Generator) -> Floats:
    """Effects of days, in logits (or standard deviations)."""
    if world == "day AR .7 sd .15":
        noise = chance.normal(size=windows + 100) * np.sqrt(1 - 0.49)
        return 0.15 * lfilter([1], [1, -0.7], noise)[100:]
    size = {"iid": 0.0, "day sd .1": 0.1, "day sd .3": 0.3}[world]
    return size * chance.normal(size=windows)


def _correlated(share: Floats, r: float, rows: int, chance: np.random.Generator) -> Floats:
    """Rows that hang together: errors where a normal AR(1) passes its line."""
    noise = chance.normal(size=len(share) * rows + 100) * np.sqrt(1 - r * r)
    latent = lfilter([1], [1, -r], noise)[100:].reshape(len(share), rows)
    return (latent > scipy.special.ndtri(1 - share)[:, None]).sum(axis=1)


def losses(cell: Cell, chance: np.random.Generator) -> list[Counted]:
    """Windows of continuous losses: Brier scores of a calibrated model, or skewed absolute errors."""
    windows = cell.healthy + (FAR if cell.up else YEAR)
    days, found = _days(cell.world, windows, chance), []
    for window in range(windows):
        more = 1 + (cell.up if window >= cell.healthy else 0)
        if cell.kind == "brier":
            said = chance.beta(1, 4, cell.rows)
            each = (said - (chance.random(cell.rows) < said)) ** 2 * more * np.exp(days[window])
        else:
            each = chance.lognormal(0, 1, cell.rows) * more * np.exp(days[window]) / 22.0  # its 0.999 quantile
        found.append(counted(each))
    return found


def areas(cell: Cell, chance: np.random.Generator) -> Floats:
    """ROC AUC of each window: a fifth of the rows is positive and scored higher by `base` deviations."""
    windows = cell.healthy + (FAR if cell.up else YEAR)
    apart = cell.base + _days(cell.world, windows, chance)
    apart = apart - np.where(np.arange(windows) >= cell.healthy, cell.up, 0)
    found = np.empty(windows)
    for window in range(windows):
        truth = (chance.random(cell.rows) < 0.2).astype(np.int64)
        score = chance.normal(truth * apart[window])
        outcomes = Outcomes(truth, np.stack([-score, score], axis=1), ("0", "1"), "1", "binary", truth)
        found[window] = level("roc_auc", outcomes) or 0.5
    return found


# ---- the rule that ours began from -----------------------------------------------------------------------------------
def recipe(errors_in: Floats, cell: Cell) -> list[int]:
    """Equal bets, a 95 % bound of the mean from rows alone, phi as measured, correlation beyond two standard errors."""
    healthy, rows = errors_in[: cell.healthy] / cell.rows, cell.rows
    mean, count = healthy.mean(), cell.healthy
    deviation, off = np.sqrt(mean * (1 - mean)), healthy - mean
    r = (off[1:] * off[:-1]).sum() / max((off**2).sum(), 1e-300)
    r += (1 + 3 * max(0.0, r)) / count
    r = np.clip(r, 0, 0.9) if r >= 2 / np.sqrt(count) else 0.0
    phi = max(1.0, rows * healthy.var(ddof=1) / deviation**2 * (1 + r) / (1 - r))
    limit = mean + 1.645 * deviation / np.sqrt(count * rows)
    bets = np.minimum(np.array([0.016, 0.033, 0.067, 0.13, 0.27, 0.53]) / deviation, 0.9 / limit)
    wrong, right = np.log1p(bets * (1 - limit)) / phi, np.log1p(-bets * limit) / phi
    evidence, found = np.zeros(6), []
    for at, many in enumerate(errors_in[cell.healthy :]):
        evidence = (evidence + 1) * np.exp(np.clip(many * wrong + (rows - many) * right, -500, 500))
        if evidence.mean() >= 1 / RATE:
            evidence = np.zeros(6)
            found.append(at)
            if cell.up:
                break
    return found


# ---- one run ---------------------------------------------------------------------------------------------------------
def alarms(cell: Cell, seed: int) -> list[int]:
    """Windows, counted from the end of the healthy ones, that alarm."""
    chance = np.random.default_rng([seed, cell.rows, cell.healthy])
    if cell.kind == "recipe":
        return recipe(errors(cell, chance), cell)
    seasons = Seasons(7) if cell.world.endswith("phases") else Seasons()
    if cell.kind == "roc_auc":
        levels = np.array([worse_upward(METRICS["roc_auc"], value) for value in areas(cell, chance)])
        rows = np.full(len(levels), float(cell.rows))
        learnt = learn_levels("roc_auc", levels[: cell.healthy], rows[: cell.healthy], seasons)
        step: Callable[..., Any] = lambda state, base, item, at: advance_level(state, base, item, cell.rows, RATE, at)  # noqa: E731
        items: Any = levels
    else:
        items = losses(cell, chance) if cell.kind != "errors" else [_counted(k, cell) for k in errors(cell, chance)]
        learnt = learn_losses("errors", items[: cell.healthy], seasons=seasons, proved=cell.proved)
        step = lambda state, base, item, at: advance_losses(state, base, item, RATE, at)  # noqa: E731
    if not isinstance(learnt, Baseline):
        raise SystemExit(f"{cell}: {learnt.said}")
    if cell.tolerance:
        learnt = _tolerant(learnt, cell.tolerance)
    state, found = Decay(), []
    for at in range(cell.healthy, len(items)):
        state, evidence = step(state, learnt, items[at], at)
        if evidence.alarm:
            found.append(at - cell.healthy)
            if cell.up:
                break
    return found


def _counted(errors_in: int, cell: Cell) -> Counted:
    return Counted(np.array([0.0, 1.0]), np.array([cell.rows - errors_in, errors_in], dtype=np.float64))


def _tolerant(baseline: Baseline, tolerance: float) -> Baseline:
    return replace(baseline, limit=baseline.limit + tolerance, cushion=tolerance)


def measure(job: tuple[Cell, int]) -> list[list[int]]:
    cell, runs = job
    return [alarms(cell, seed) for seed in range(runs)]


def told(cell: Cell, runs: list[list[int]]) -> str:
    """Without a change: mean alarms, standard error, share of runs with more than 3; with one: delay in rows."""
    if not cell.up:
        counts = np.array([len(run) for run in runs])
        return f"{counts.mean():.2f}±{counts.std() / np.sqrt(len(runs)):.2f}({(counts > 3).mean():.2f})"
    first = [(run[0] + 1) * cell.rows if run else NEVER for run in runs]
    return "/".join(_rows(q) for q in np.quantile(first, [0.5, 0.9], method="higher"))


def _rows(value: float) -> str:
    return "-" if value >= NEVER else f"{value / 1000:.3g}k"


# ---- tables ----------------------------------------------------------------------------------------------------------
def false_alarm_cells(quick: bool) -> Iterator[tuple[str, list[Cell]]]:
    sizes = (100, 1000) if quick else (100, 1000, 10_000)
    for healthy in (30,) if quick else (10, 20, 30, 90):
        for base in (0.10, 0.25) if healthy == 30 else (0.10,):
            for rows in sizes if healthy == 30 else (1000,):
                row = [Cell(world, base, rows, healthy) for world in WORLDS if rows < 10_000 or "AR ." not in world[:4]]
                yield f"base {base:.0%}, n={rows:,}, {healthy} healthy windows", row
    if not quick:
        yield "base 10%, n=1,000, 30, proved", [Cell(w, 0.1, 1000, 30, proved=True) for w in WORLDS]
        yield "base 10%, n=1,000, 30, tolerance 1 pt", [Cell(w, 0.1, 1000, 30, tolerance=0.01) for w in WORLDS]
        yield "base 2%, n=100, 30", [Cell(w, 0.02, 100, 30) for w in WORLDS]


def delay_cells(quick: bool) -> Iterator[tuple[str, list[Cell]]]:
    changes = ((0.01, 0), (0.02, 0), (0.05, 0), (0.10, 0), (0.02, 20), (0.05, 20))
    shapes = [("iid", 0.1, 1000, 30), ("iid", 0.1, 100, 50)]
    if not quick:
        shapes += [("iid", 0.1, 1000, 90), ("iid", 0.1, 10_000, 30), ("iid", 0.25, 1000, 30), ("iid", 0.25, 100, 50),
                   ("AR .7", 0.1, 1000, 30), ("day sd .1", 0.1, 1000, 30), ("day AR .7 sd .15", 0.1, 1000, 30),
                   ("weekly, phases", 0.1, 1000, 30), ("weekly", 0.1, 1000, 30)]  # fmt: skip
    for world, base, rows, healthy in shapes:
        yield (
            f"{world}, base {base:.0%}, n={rows:,}, {healthy}",
            [Cell(world, base, rows, healthy, up, ramp) for up, ramp in changes],
        )
    if not quick:
        yield "iid, base 10%, n=1,000, 30, proved", [Cell("iid", 0.1, 1000, 30, *c, proved=True) for c in changes]


def other_cells(quick: bool) -> Iterator[tuple[str, list[Cell]]]:
    for world in ("iid", "day sd .1"):
        for kind in ("brier", "absolute"):
            ups = (0.0, 0.1, 0.2, 0.5)
            yield f"{kind} losses, n=1,000, {world}", [Cell(world, 0, 1000, 30, up, kind=kind) for up in ups]
    for rows, world in ((1000, "iid"), (1000, "day sd .1"), (1000, "day AR .7 sd .15"))[: 2 if quick else 3]:
        ups = (0.0, 0.1, 0.2, 0.4)
        yield (
            f"ROC AUC, separation 1.2 (AUC .80), n={rows:,}, {world}",
            [Cell(world, 1.2, rows, 30, up, kind="roc_auc") for up in ups],
        )


def recipe_cells(quick: bool) -> Iterator[tuple[str, list[Cell]]]:
    yield from _recipes(((1000, 30), (100, 30)), [(world, 0.0) for world in WORLDS[:-1]])


def recipe_delays(quick: bool) -> Iterator[tuple[str, list[Cell]]]:
    yield from _recipes(((1000, 30), (100, 50)), [("iid", up) for up in (0.01, 0.02, 0.05, 0.1)])


def _recipes(
    sizes: Iterable[tuple[int, int]], changes: Sequence[tuple[str, float]]
) -> Iterator[tuple[str, list[Cell]]]:
    for rows, healthy in sizes:
        yield (
            f"base 10%, n={rows:,}, {healthy}",
            [Cell(world, 0.1, rows, healthy, up, kind="recipe") for world, up in changes],
        )


def show(title: str, head: Sequence[str], rows: Iterable[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Print a table, row by row as they come, and give it back."""
    print(f"\n### {title}\n\n| | " + " | ".join(head) + " |\n|" + "---|" * (len(head) + 1))
    shown = []
    for name, cells in rows:
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        shown.append((name, cells))
    return shown


# ---- river -----------------------------------------------------------------------------------------------------------
def _stream(world: str, base: float, rows: int, seed: int, up: float = 0.0) -> Floats:
    """Single errors, in days of 1,000 rows; the change comes after a tenth of a million at most."""
    chance = np.random.default_rng(seed)
    if world.startswith("AR"):
        return (_latent(rows, float(world[3:]), chance) > scipy.special.ndtri(1 - base)).astype(float)
    days = rows // 1000
    share = np.full(days, base)
    if world == "weekly":
        share = base * (1 + 0.3 * np.sin(2 * np.pi * np.arange(days) / 7))
    elif world != "iid":
        share = scipy.special.expit(scipy.special.logit(base) + _days(world, days, chance))
    return (chance.random(rows) < np.repeat(share, 1000) + up).astype(float)


def _latent(rows: int, r: float, chance: np.random.Generator) -> Floats:
    return lfilter([1], [1, -r], chance.normal(size=rows + 100) * np.sqrt(1 - r * r))[100:]


def _seen(name: str, healthy: Floats) -> Floats:
    """KSWIN looks back 100 rows and takes a third of a millisecond a row: it is shown the last of them."""
    return healthy[-1000:] if name == "kswin" else healthy


def river_false(job: tuple[str, str, float, int, int]) -> list[float]:
    name, world, base, rows, runs = job
    healthy = 30_000
    found = []
    for seed in range(runs):
        errors_in = _stream(world, base, healthy + rows, seed)
        detector = DETECTORS[name].begin(
            _seen(name, errors_in[:healthy]), RATE / 1000 if DETECTORS[name].promises else None
        )
        found.append(len(detector.update(errors_in[healthy:])) * 365_000 / rows)
    return found


def river_delay(job: tuple[str, float, int, int]) -> list[int]:
    name, up, rows, runs = job
    healthy = 30_000
    found = []
    for seed in range(runs):
        before, after = _stream("iid", 0.1, healthy, seed), _stream("iid", 0.1, rows, seed + 999, up)
        detector = DETECTORS[name].begin(_seen(name, before), RATE / 1000 if DETECTORS[name].promises else None)
        alarms_at = detector.update(after)
        found.append(alarms_at[0] + 1 if alarms_at else NEVER)
    return found


TABLES = {
    "False alarms per 365 windows (share of runs with more than 3); promise 1": (false_alarm_cells, WORLDS),
    "Delay in rows after a change, median/p90; - is never within 300 windows": (
        delay_cells,
        ("+1 pt", "+2", "+5", "+10", "+2 over 20 windows", "+5 over 20 windows"),
    ),
    "The rule that ours began from, on the same streams: false alarms per 365 windows": (recipe_cells, WORLDS[:-1]),
    "The same rule: delay in rows, iid": (recipe_delays, ("+1 pt", "+2", "+5", "+10")),
    "Other losses and metrics: false alarms, then delay in rows (loss x1.1, 1.2, 1.5; AUC .80 to .78, .76, .71)": (
        other_cells,
        ("no change", "small", "middle", "great"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    runs, record = given.runs or (20 if given.quick else 300), {}
    with Pool(given.jobs) as pool:
        for title, (cells, head) in TABLES.items():
            rows = ((name, _row(pool, row, runs, len(head))) for name, row in cells(given.quick))
            record[title] = show(title, head, rows)
        title = "Detectors on the stream of rows, base 10%, 30,000 healthy rows first"
        record[title] = show(title, RIVER_HEAD, _river(pool, given.quick))
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in spent)
    print(f"\n{runs} runs a cell (a fifth where rows are drawn one by one); {cpu:.0f} CPU seconds")
    if given.json:
        given.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def _row(pool: Any, row: list[Cell], runs: int, wide: int) -> list[str]:
    done = pool.map(measure, [(cell, _fewer(cell, runs)) for cell in row], chunksize=1)
    said = [told(cell, each) for cell, each in zip(row, done, strict=True)]
    # Streams of correlated rows are not drawn at 10,000 a window.
    return said if len(row) == wide else [said[0], "", "", *said[1:]]


RIVER_HEAD = ("iid", "AR .7", "day sd .1", "weekly", "+1 pt", "+2", "+5", "+10")


def _river(pool: Any, quick: bool) -> Iterator[tuple[str, list[str]]]:
    """Alarms per 365,000 rows without a change, and the median delay in rows with one."""
    rows, runs = (20_000, 2) if quick else (100_000, 4)
    for name in DETECTORS:
        slow = name == "kswin"
        size, times = (rows // 10, 2) if slow else (rows, runs)
        false = pool.map(river_false, [(name, world, 0.1, size, times) for world in RIVER_HEAD[:4]], chunksize=1)
        late = pool.map(river_delay, [(name, up, size, times) for up in (0.01, 0.02, 0.05, 0.1)], chunksize=1)
        said = [f"{np.mean(each):.1f}±{np.std(each) / np.sqrt(len(each)):.1f}" for each in false]
        yield name, [*said, *(_rows(float(np.quantile(each, 0.5, method="higher"))) for each in late)]


def _fewer(cell: Cell, runs: int) -> int:
    one_by_one = cell.world.startswith("AR") or cell.kind not in ("errors", "recipe")
    return max(10, runs // 5) if one_by_one and cell.rows >= 1000 else runs


if __name__ == "__main__":
    main()
