"""Does the promise of false alarms hold, and what does it cost in power? Drift: one window's columns, and slow drift.

    python benchmarks/soundness.py                    the tables, about 15 minutes of one core
    python benchmarks/soundness.py --quick            fewer runs, about 2 minutes
    python benchmarks/soundness.py --streams FOLDER   real streams beside them (Parquet: `_order`, features, `target`)

Promise in all tables: 1 false alarm in 365 windows, all of it given to the two drift monitors. An alarm is one alarmed
window. Peers' rules are written again on the same bins; their own packages cut more of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rules import Flags, holm_rejects, peers
from worlds import DAYS, Change, World, draw, rare_world, table_world

from everfit.detect.promise import Rates, Spent, why_informs
from everfit.detect.scores import Counted
from everfit.detect.slow import advance_by, begin, evidence
from everfit.detect.usual import FULL, Usual, column_chances, usual_of

YEAR = 365
HISTORIES = (10, 30, 90)
RATES = Rates(0.0, 0.5 / YEAR, 0.5 / YEAR, 0.0, timedelta(days=YEAR), 1.0)
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NEVER = "."


# ---- our monitors over many windows --------------------------------------------------------------


@dataclass
class Told:
    """What the monitors said of consecutive windows."""

    unusual: Flags  # windows x columns: the per-window test alone, Holm's rejections
    silenced: bool  # the healthy windows themselves show shocks: the per-window test informs
    ledger: Flags  # windows: alarms of the per-window test with back-test and ledger
    slow: Flags
    blamed: list[str]


def part(windows: Counted, which: Any) -> Counted:
    return Counted(windows.bins[which], windows.absent[which])


def listen(usual: Usual, windows: Counted, places: NDArray[np.intp], expected: Flags | None = None) -> Told:
    """What `watch_window` would say, on counts; while learning, quiet windows join as they do there."""
    unusual, slow_alarms, blamed = [], np.zeros(len(windows), dtype=bool), [""] * len(windows)
    start = 0
    while usual.windows < FULL and start < len(windows):
        one = part(windows, slice(start, start + 1))
        here = places[start : start + 1]
        unusual.append(
            holm_rejects(column_chances(usual.ruler, usual.apart(one, here).t, usual.spread.freedom), RATES.drift)
        )
        if not unusual[-1].any():
            usual = usual.joined_counts(one, int(here[0]))
        start += 1
    silenced = usual.shocked(RATES.drift)
    if start < len(windows):
        rest = part(windows, slice(start, None))
        apart = usual.apart(rest, places[start:])
        unusual.append(holm_rejects(column_chances(usual.ruler, apart.t, usual.spread.freedom), RATES.drift))
        state, rate = begin(usual), RATES.slow + (RATES.drift if silenced else 0.0)
        for at, scores in enumerate(evidence(usual, apart), start=start):
            if expected is not None and expected[at]:
                continue
            step = advance_by(state, scores, usual, rate)
            state, slow_alarms[at], blamed[at] = step.slow, step.alarm, step.column
    found = np.concatenate(unusual)
    if expected is not None:
        found = found & ~expected[:, None]
    ledger, spent = np.zeros(len(windows), dtype=bool), Spent()
    for at in range(len(windows)):
        when = START + at * DAY
        informs, _ = why_informs(usual, spent, RATES, when)
        ledger[at] = found[at].any() and informs is None
        spent = spent.after(when, fired=bool(ledger[at]), per=RATES.per)
    return Told(found, silenced, ledger, slow_alarms, blamed)


def alarms_of(told: Told) -> dict[str, Flags]:
    single = told.unusual.any(axis=1)
    kept = np.zeros_like(single) if told.silenced else single
    return {
        "one window": single,
        "slow": told.slow,
        "both, back-test": kept | told.slow,
        "both, back-test, ledger": told.ledger | told.slow,
    }


# ---- one simulated year --------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One cell of a table."""

    days: str
    rows: int
    histories: tuple[int, ...] = HISTORIES
    periods: tuple[int, ...] = ()  # seasons to look for
    period: int | None = None  # season told
    declared: bool = False  # holidays are told ahead
    nulls: float = 0.0
    rare: float = 0.0  # rare categories only, expecting so many rows
    with_peers: bool = False
    stained: float = 0.0  # the second half of the history is shifted by so much in five columns, and so is the rest
    change: Change | None = None
    name: str = ""


def world_of(case: Case, seed: int) -> World:
    return rare_world(seed, case.rows, case.rare) if case.rare else table_world(seed, case.rows, case.nulls)


def simulate(case: Case, seed: int, windows: int = YEAR) -> dict[str, Any]:
    """Alarms of one world over `windows` windows, after histories of several lengths."""
    world = world_of(case, seed)
    rng = np.random.default_rng([seed, case.rows, 7])
    longest = max(case.histories)
    days = DAYS[case.days](rng, (longest + windows, world.columns))
    holiday = (np.abs(days) > 0.3).any(axis=1) if case.days == "hol" else np.zeros(len(days), dtype=bool)
    found: dict[str, Any] = {}
    for h in case.histories:
        shifted = days.copy()
        if case.stained:
            shifted[longest - h // 2 :, :5] += case.stained
        drawn = draw(world, np.random.default_rng([seed, case.rows, 8]), case.rows, shifted)
        history = np.arange(longest - h, longest)
        if case.declared:
            history = history[~holiday[history]]
        usual = usual_of(world.lens, part(drawn, history), history, case.periods, case.period)
        later = np.arange(longest, longest + windows)
        told = listen(usual, part(drawn, later), later, holiday[later] if case.declared else None)
        found[f"h={h}"] = {name: int(flags.sum()) for name, flags in alarms_of(told).items()}
        found[f"h={h}"] |= {"silenced": int(told.silenced), "season": usual.period}
        if case.with_peers and h == 30:
            rules = peers(world, part(drawn, history), part(drawn, later))
            found["peers"] = {name: int(flags.any(axis=1).sum()) for name, flags in rules.items()}
    return found


WARM, CHANGED = 14, 28


def seek(case: Case, seed: int) -> dict[str, Any]:
    """Whether a planted change is found, on a column that has it."""
    world = world_of(case, seed)
    rng = np.random.default_rng([seed, case.rows, 9])
    longest = max(case.histories)
    days = DAYS[case.days](rng, (longest + WARM + CHANGED, world.columns))
    assert case.change is not None
    drawn = draw(world, rng, case.rows, days, case.change, longest + WARM)
    found: dict[str, Any] = {}
    hit = np.isin(np.arange(world.columns), case.change.columns)
    names = {world.lens.columns[c] for c in case.change.columns}

    def note(flags: Flags) -> list[float]:
        late = flags[-CHANGED:]
        return [float(late.mean()), float(late[:7].any()), float(np.argmax(late) + 1 if late.any() else CHANGED + 1)]

    for h in case.histories:
        history, later = np.arange(longest - h, longest), np.arange(longest, len(days))
        usual = usual_of(world.lens, part(drawn, history), history, case.periods, case.period)
        told = listen(usual, part(drawn, later), later)
        single = told.unusual[:, hit].any(axis=1) & (not told.silenced)
        slow = told.slow & np.array([name in names for name in told.blamed])
        found[f"h={h}"] = {"one window": note(single), "slow": note(slow), "both": note(single | slow)}
        if case.with_peers and h == 30:
            rules = peers(world, part(drawn, history), part(drawn, later))
            found["peers"] = {name: note(flags[:, hit].any(axis=1)) for name, flags in rules.items()}
    return found


# ---- tables --------------------------------------------------------------------------------------


def averaged(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean, standard error and share of runs above 3, of every number of a list of alike results."""
    first = results[0]
    if isinstance(first, dict):
        return {key: averaged([r[key] for r in results]) for key in first}
    values = np.array(results, dtype=float)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else values * np.nan
    return {"mean": values.mean(axis=0).tolist(), "se": error.tolist(), "unlucky": (values > 3).mean(axis=0).tolist()}


Work = tuple[Callable[[Case, int], dict[str, Any]], Case, range]


def _work(each: Work) -> dict[str, Any]:
    run, case, seeds = each
    return averaged([run(case, seed) for seed in seeds])


def run_all(works: list[Work], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Results in order. What `--keep` holds from an earlier call is not run again."""
    names = [f"{run.__name__} {case} {seeds}" for run, case, seeds in works]
    lines = options.keep.read_text().splitlines() if options.keep and options.keep.exists() else []
    done: dict[str, Any] = dict(json.loads(line) for line in lines)
    todo = [i for i, name in enumerate(names) if name not in done]
    with ProcessPoolExecutor(options.jobs) as pool:
        for i, result in zip(todo, pool.map(_work, [works[i] for i in todo]), strict=True):
            done[names[i]] = result
            _keep(options.keep, names[i], result)
    return [done[name] for name in names]


def _keep(path: Path | None, name: str, result: dict[str, Any]) -> None:
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps([name, result]) + "\n")


def cell(of: dict[str, Any]) -> str:
    return f"{of['mean']:.2g} ± {of['se']:.1g}" if of["mean"] < 10 else f"{of['mean']:.0f}"


def row(*cells: object) -> None:
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def head(*cells: str) -> None:
    row(*cells)
    row(*["---"] * len(cells))


SEASONS = {"week": (7, 24), "weekar": (7, 24), "day24": (7, 24)}
SCENARIOS = ("iid", "sd02", "sd05", "sd10", "ar3", "ar7", "corr", "mix", "armix", "week", "weekar", "day24", "t3", "t2")
SCENARIOS += ("hol", "walk")
SOME = ("iid", "sd02", "sd05", "ar7", "corr", "week", "t3", "hol")  # at other sizes of windows


def false_alarms(options: argparse.Namespace) -> dict[str, Any]:
    """Alarms a year without drift, ours and the peers'."""
    runs = options.runs or (5 if options.quick else 20)
    fewer = max(2, runs // 2)
    works: list[Work] = []
    sizes = (1_000,) if options.quick else (1_000, 500, 10_000)
    for rows in sizes:
        for days in SCENARIOS if rows == 1_000 else SOME:
            case = Case(days, rows, periods=SEASONS.get(days, (7, 24)), with_peers=rows == 1_000)
            works.append((simulate, case, range(runs if rows == 1_000 else fewer)))
    found = dict(zip([(w[1].rows, w[1].days) for w in works], run_all(works, options), strict=True))
    for rows in sizes:
        many = runs if rows == 1_000 else fewer
        print(f"\n### Alarms per 365 windows without drift, windows of {rows:,} rows, {many} runs (promised: 1)\n")
        columns = SCENARIOS if rows == 1_000 else SOME
        head("rule", *columns)
        if rows == 1_000:
            for rule in found[rows, "iid"]["peers"]:
                row(rule, *[cell(found[rows, days]["peers"][rule]) for days in SCENARIOS])
        for h in HISTORIES:
            for name in ("one window", "slow", "both, back-test", "both, back-test, ledger"):
                row(f"{name}, h={h}", *[cell(found[rows, days][f"h={h}"][name]) for days in columns])
            row(
                f"back-test silences, h={h}",
                *[f"{found[rows, d][f'h={h}']['silenced']['mean']:.0%}" for d in columns],
            )
    return {f"{rows}/{days}": value for (rows, days), value in found.items()}


def special(options: argparse.Namespace) -> dict[str, Any]:
    """What the recipe had not measured."""
    runs = options.runs or (2 if options.quick else 20)
    ours = (30, 90)
    cases = [
        Case("hol", 1_000, ours, declared=True, name="holidays declared ahead"),
        Case("week", 1_000, ours, period=7, name="week, season told"),
        Case("week", 1_000, ours, periods=(7, 24), name="week, season found"),
        Case("week", 1_000, ours, name="week, no season"),
        Case("weekar", 1_000, ours, periods=(7, 24), name="weekar, season found"),
        Case("day24", 1_000, (72, 90), period=24, name="day24, season told"),
        Case("day24", 1_000, (72, 90), periods=(7, 24), name="day24, season found"),
        Case("nulls", 1_000, ours, nulls=0.02, name="2 % absent values, days differ"),
        Case("nulls", 1_000, ours, nulls=0.0005, name="0.05 % absent values, days differ"),
        *[Case("iid", 1_000, ours, rare=e, name=f"rare categories, {e:g} expected") for e in (0.5, 2.0, 10.0, 25.0)],
        *[Case("sd05", 1_000, ours, rare=e, name=f"rare categories, {e:g} expected, sd05") for e in (2.0, 10.0)],
        Case("sd02", 1_000, ours, stained=0.25, name="history with a step of .25 sd in 5 columns"),
        Case("sd02", 1_000, ours, stained=0.1, name="history with a step of .1 sd in 5 columns"),
        Case("iid", 1_000, ours, periods=(7, 24), name="iid, seasons looked for"),
        Case("ar7", 1_000, ours, periods=(7, 24), name="ar7, seasons looked for"),
        Case("t3", 1_000, ours, periods=(7, 24), name="t3, seasons looked for"),
    ]
    found = run_all([(simulate, case, range(runs)) for case in cases], options)
    print(f"\n### Special cases, alarms per 365 windows, {runs} runs\n")
    head("case", "h", "one window", "slow", "both, back-test", "with ledger", "mean season found")
    for case, result in zip(cases, found, strict=True):
        for h in case.histories:
            of = result[f"h={h}"]
            numbers = [cell(of[k]) for k in ("one window", "slow", "both, back-test", "both, back-test, ledger")]
            row(case.name, h, *numbers, f"{of['season']['mean']:.1f}")
    return {case.name: result for case, result in zip(cases, found, strict=True)}


NUMBERS, FEW = tuple(range(0, 25, 5)), tuple(range(40, 45))
CHANGES = {
    ".1 sd": Change(NUMBERS, shift=0.1),
    ".25 sd": Change(NUMBERS, shift=0.25),
    ".5 sd": Change(NUMBERS, shift=0.5),
    "10 % to a category": Change(FEW, moved=0.1),
    "5 % one value": Change(NUMBERS, moved=0.05, to_bin=6),
    "sd x1.25": Change(NUMBERS, stretch=1.25),
    "2 points of nulls": Change(NUMBERS, nulls=0.02),
}


def power(options: argparse.Namespace) -> dict[str, Any]:
    """What is found, in one window and within seven."""
    runs = options.runs or (4 if options.quick else 25)
    worlds: list[tuple[str, int, tuple[int, ...], tuple[int, ...]]] = [
        ("iid", 1_000, HISTORIES, ()),
        ("sd05", 1_000, HISTORIES, ()),
        ("week", 1_000, (30, 90), (7, 24)),
        ("t3", 1_000, (30, 90), ()),
    ]
    if not options.quick:
        worlds += [(days, rows, (30, 90), ()) for rows in (500, 10_000) for days in ("iid", "sd05")]
    works: list[Work] = [
        (seek, Case(d, n, h, periods=p, change=c, with_peers=(d, n) == ("iid", 1_000)), range(runs))
        for d, n, h, p in worlds
        for c in CHANGES.values()
    ]
    results = iter(run_all(works, options))
    print(f"\n### Power: found on a changed column in one window / within 7 windows, 5 of 50 change, {runs} runs\n")
    head("world", *CHANGES)
    kept: dict[str, Any] = {}
    for days, rows, histories, _ in worlds:
        found = {name: next(results) for name in CHANGES}
        kept[f"{days}/{rows}"] = found
        lines = [(f"h={h}", kind) for h in histories for kind in ("both", "one window", "slow")]
        if "peers" in found[".1 sd"]:
            lines += [("peers", rule) for rule in found[".1 sd"]["peers"]]
        for group, kind in lines:
            cells = [found[name][group][kind]["mean"] for name in CHANGES]
            row(f"{days} n={rows:,} {group} {kind}", *[f"{c[0]:.2f}/{c[1]:.2f}" for c in cells])
    return kept


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--runs", type=int, help="runs per cell")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--keep", type=Path, help="write each finished cell here, and go on from it")
    parser.add_argument("--streams", type=Path, help="folder of real streams to try as well")
    parser.add_argument("--only", choices=["false", "special", "power", "streams"], help="one part")
    options = parser.parse_args(arguments)
    parts = {"false": false_alarms, "special": special, "power": power}
    if options.streams:
        from streams import real_streams  # noqa: PLC0415 - it reads the tables' printers from here

        parts["streams"] = real_streams
    found: dict[str, Any] = {}
    for name, each in parts.items():
        if options.only in (None, name):
            began = time.process_time()
            found[name] = each(options)
            print(f"\n({name}: {time.process_time() - began:.0f} s of CPU in this process)")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
