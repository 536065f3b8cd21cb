"""How far off performance without labels is, and how often its interval holds, in worlds whose truth is known.

Takes `--quick` and the folder of a NannyML environment (`--peer DIR`, made if it is missing); prints a table in
Markdown; never reads a file of yours. CALIBRATION: windows of 1,000 rows, labels four windows late.

    python benchmarks/estimated.py --quick
    python benchmarks/estimated.py --peer build/nannyml
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import venv
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from sklearn.linear_model import LinearRegression, LogisticRegression

from everfit.detect.estimate import estimate, learn_estimator, window_of
from everfit.detect.estimate_past import Residual, reconcile, residual
from everfit.detect.outcomes import Outcomes
from everfit.detect.performance import level
from everfit.detect.signal import NotEnough, Signal
from everfit.detect.together import learn_crowd, test_together
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema

PEER = ("nannyml==0.13.1", "pandas<3", "statsmodels<0.15", "setuptools<80")
HELD_OUT, ROWS, HEALTHY, WINDOWS, LATE = 5000, 1000, 12, 30, 4
COLUMNS = 5  # normal columns; the sixth is a category
SCHEMA = Schema((*(Column(f"x{i}", Kind.NUMBER) for i in range(COLUMNS)), Column("shop", Kind.CATEGORY)), ())


@dataclass(frozen=True)
class World:
    """What happens after the healthy windows."""

    name: str
    curved: float = 0.0  # of the truth, in a column where the model is straight
    moved: float = 0.0  # standard deviations by which two columns move
    turned: float = 0.0  # share of the first coefficient that turns its sign
    gradual: bool = False  # over 20 windows instead of at once


WORLDS = (
    World("nothing moves"),
    World("columns move 1 sd, model well specified", moved=1.0),
    World("columns move 1 sd, model misspecified", moved=1.0, curved=-0.6),
    World("concept changes at once", turned=0.3),
    World("concept changes over 20 windows", turned=0.3, gradual=True),
)


def draw(chance: np.random.Generator, world: World, rows: int, now: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, shop and logit of the truth, `now` of the way into the change."""
    x = chance.normal(size=(rows, COLUMNS))
    x[:, :2] += world.moved * now
    shop = chance.integers(0, 4, rows)
    first = 1.0 - 2 * world.turned * now
    logit = 1.5 * first * x[:, 0] + 0.75 * x[:, 1] + 0.4 * (shop - 1.5) + world.curved * (x[:, 1] ** 2 - 1)
    return x, shop, logit


def frame(x: np.ndarray, shop: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({f"x{i}": x[:, i] for i in range(COLUMNS)} | {"shop": shop.astype(str)})


def numbers(x: np.ndarray, shop: np.ndarray) -> np.ndarray:
    return np.concatenate([x, shop[:, None] == np.arange(1, 4)], axis=1)


def stories(world: World, seed: int) -> Iterator[tuple[Outcomes, pl.DataFrame]]:
    """Held-out rows first, then the windows: outcomes of a champion with the features of the same rows."""
    chance = np.random.default_rng(seed)
    x, shop, logit = draw(chance, world, HELD_OUT, 0.0)
    truth = (chance.random(HELD_OUT) < 1 / (1 + np.exp(-logit))).astype(int)
    champion = LogisticRegression(C=1.0).fit(numbers(x, shop), truth)
    steps = [0.0] * (1 + HEALTHY) + [min(1.0, (t + 1) / 20) if world.gradual else 1.0 for t in range(WINDOWS)]
    for at, now in enumerate(steps):
        rows = ROWS if at else HELD_OUT
        x, shop, logit = draw(chance, world, rows, now)
        truth = (chance.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
        scores = champion.predict_proba(numbers(x, shop))
        yield Outcomes(truth, scores, ("0", "1"), "1", "binary", np.arange(rows)), frame(x, shop)


class Tally:
    """Estimates beside what came."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[float, float, float, int]]] = defaultdict(list)

    def add(self, method: str, reading: Signal, came: float, window: int) -> None:
        low = reading.value if reading.low is None else reading.low
        high = reading.value if reading.high is None else reading.high
        self.rows[method].append((reading.value - came, float(low <= came <= high), (high - low) / 2, window))

    def line(self, method: str) -> str:
        if not self.rows[method]:
            return "- | - | - | -"
        off, held, half, window = np.array(self.rows[method]).T
        first = held[window < LATE].mean()
        return f"{off.mean():+.3f} | {np.abs(off).mean():.3f} | {held.mean():.2f} / {half.mean():.3f} | {first:.2f}"


class Story:
    """One champion's windows, estimated one after the other by each method, with the labels that had come by then."""

    def __init__(self, held_out: Outcomes, rows: pl.DataFrame, metric: str) -> None:
        self.estimator = learn_estimator(held_out, rows, SCHEMA)
        self.metric = metric
        self.past: dict[str, list[Residual]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)

    def read(self, window: Outcomes, rows: pl.DataFrame) -> Iterator[tuple[str, Signal]]:
        """The window's readings, plain and weighted, each as it is and reconciled."""
        came = level(self.metric, window)
        for method, weigh in (("plain", False), ("weighted", True)):
            began = time.process_time()
            reading = estimate(self.estimator, self.metric, window_of(self.estimator, window.scores, rows, weigh=weigh))
            self.seconds[method] += time.process_time() - began
            past = self.past[method]
            held = reconcile(reading, past[: max(0, len(past) - LATE)])
            if isinstance(reading, Signal) and isinstance(held, Signal) and came is not None:
                past.append(residual(reading, Signal(self.metric, "*", came, ROWS)))
                yield method, reading
                yield f"{method}, reconciled", held


def run(world: World, metric: str, seeds: range) -> tuple[Tally, dict[str, float]]:
    """Estimate every window after the healthy ones by each method."""
    tally, seconds = Tally(), defaultdict(float)
    for seed in seeds:
        windows = stories(world, seed)
        story = Story(*next(windows), metric)
        for at, (window, rows) in enumerate(windows):
            readings = list(story.read(window, rows))
            for method, reading in readings if at >= HEALTHY else ():
                tally.add(method, reading, float(level(metric, window) or 0.0), at - HEALTHY)
        for method, spent in story.seconds.items():
            seconds[method] += 1000 * spent / (len(seeds) * (HEALTHY + WINDOWS))
    return tally, seconds


PEER_CODE = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import nannyml as nml, numpy as np, pandas as pd
folder, metric, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
out = []
seconds = 0.0
for seed in range(int(sys.argv[4])):
    then, now = pd.read_parquet(f"{folder}/then{seed}.parquet"), pd.read_parquet(f"{folder}/now{seed}.parquet")
    cbpe = nml.CBPE(problem_type="classification_binary", y_pred_proba="score", y_pred="guess", y_true="truth",
                    metrics=[metric], chunk_size=rows)
    cbpe.fit(then)
    began = time.process_time()
    found = cbpe.estimate(now).filter(period="analysis").to_df()[metric]
    seconds += time.process_time() - began
    out.append(found[["value", "lower_confidence_boundary", "upper_confidence_boundary"]].to_numpy()[:, :3])
np.save(f"{folder}/found.npy", np.stack(out))
print(1000 * seconds / (len(out) * len(out[0])))
"""


def run_peer(python: Path, world: World, metric: str, seeds: range, tally: Tally) -> float:
    """NannyML's CBPE on the same rows, with the interval that it shows (three standard errors of sampling)."""
    with TemporaryDirectory() as folder:
        came: dict[int, list[float]] = {}
        for number, seed in enumerate(seeds):
            story = stories(world, seed)
            held_out, _ = next(story)
            _table(held_out).write_parquet(f"{folder}/then{number}.parquet")
            windows = [window for at, (window, _) in enumerate(story) if at >= HEALTHY]
            pl.concat([_table(window) for window in windows]).write_parquet(f"{folder}/now{number}.parquet")
            came[number] = [float(level(metric, window) or 0.0) for window in windows]
        told = subprocess.run(
            [python, "-c", PEER_CODE, folder, metric, str(ROWS), str(len(seeds))],
            check=True,
            capture_output=True,
            text=True,
        )
        found = np.load(f"{folder}/found.npy")
    for number, levels in came.items():
        for at, level_ in enumerate(levels):
            value, low, high = found[number, at]
            tally.add("NannyML CBPE", Signal("peer", "*", value, ROWS, low=low, high=high), level_, at)
    return float(told.stdout.split()[-1])


def _table(outcomes: Outcomes) -> pl.DataFrame:
    guess = outcomes.scores.argmax(axis=1)
    return pl.DataFrame({"score": outcomes.scores[:, 1], "guess": guess, "truth": outcomes.truth})


def make_peer(folder: Path) -> Path:
    """The peer's own environment."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER], check=True)
    return python


def spread_out(chance: np.random.Generator, rows: int, moved: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns and a value whose spread grows with the first of them."""
    x = chance.normal(size=(rows, COLUMNS))
    x[:, 0] += moved
    return x, x @ np.arange(COLUMNS) + np.exp(0.4 * x[:, 0]) * chance.normal(size=rows) + 0.3 * x[:, 0] ** 2


def regress(moved: float, seed: int) -> Iterator[tuple[str, Signal, float]]:
    """Mean absolute errors of four windows by three methods, with what came."""
    chance = np.random.default_rng(seed)
    x, truth = spread_out(chance, HELD_OUT, 0.0)
    champion = LinearRegression().fit(x, truth)

    def outcomes(rows: int, now: float) -> tuple[Outcomes, pl.DataFrame]:
        x, truth = spread_out(chance, rows, now)
        came = Outcomes(truth, champion.predict(x)[:, None], (), None, "regression", np.arange(rows))
        return came, frame(x, np.zeros(rows, dtype=int))

    held_out, rows = outcomes(HELD_OUT, 0.0)
    estimator, usual = learn_estimator(held_out, rows, SCHEMA), float(level("mae", held_out) or 0.0)
    for _ in range(4):
        came, rows = outcomes(ROWS, moved)
        seen = float(level("mae", came) or 0.0)
        yield "mean of the held-out errors", Signal("mae", "*", usual, ROWS), seen
        for method, features in (("loss model on the prediction", None), ("loss model on the row", rows)):
            reading = estimate(estimator, "mae", window_of(estimator, came.scores, features))
            if isinstance(reading, Signal):
                yield method, reading, seen


def regressions(seeds: range) -> None:
    """Mean absolute error without labels where the spread depends on a column that moves."""
    print("\n| regression, mae | estimate - realised | error | coverage / half width |\n|---|---|---|---|")
    for name, moved in (("nothing moves", 0.0), ("the column of the spread moves 1 sd", 1.0)):
        tally = Tally()
        for method, reading, seen in (found for seed in seeds for found in regress(moved, seed)):
            tally.add(method, reading, seen, 0)
        for method in tally.rows:
            print(f"| {name}: {method} | {tally.line(method).rpartition(' | ')[0]} |")


def wide(rows: int, chance: np.random.Generator, moved: float = 0.0) -> tuple[pl.DataFrame, Outcomes]:
    """Rows of 40 numbers and 10 categories."""
    x = chance.normal(size=(rows, 40)) + moved
    data = {f"x{i}": x[:, i] for i in range(40)} | {f"c{i}": chance.choice(list("abcdefgh"), rows) for i in range(10)}
    share = 1 / (1 + np.exp(-x[:, 0] - x[:, 1]))
    truth = (chance.random(rows) < share).astype(int)
    return pl.DataFrame(data), Outcomes(
        truth, np.stack([1 - share, share], axis=1), ("0", "1"), "1", "binary", truth * 0
    )


def together_day(
    chance: np.random.Generator, spread: np.ndarray, *, moved: float = 0.0, bound: float = 0.0
) -> pl.DataFrame:
    """A day of 1,000 rows of 20 columns whose means vary from day to day by `spread`."""
    x = chance.normal(size=(1000, 20)) + spread * chance.normal(size=20)
    x[:, 1] = bound * x[:, 0] + np.sqrt(1 - bound**2) * x[:, 1]
    x[:, :2] += moved
    return pl.DataFrame(x, schema=[f"x{i}" for i in range(20)])


def p_values(spread: np.ndarray, many: int, seeds: range) -> dict[str, np.ndarray]:
    """P-values of healthy days, of a day on which two columns move, and of one on which two become bound."""
    schema = Schema(tuple(Column(f"x{i}", Kind.NUMBER) for i in range(20)), ())
    days = [*(("healthy", 0.0, 0.0) for _ in range(5)), ("moved", 0.25, 0.0), ("bound", 0.0, 0.5)]
    found: dict[str, list[float]] = defaultdict(list)
    for seed in seeds:
        chance = np.random.default_rng(seed)
        crowd = learn_crowd([together_day(chance, spread) for _ in range(many)], schema)
        for kind, moved, bound in days:
            reading = test_together(crowd, together_day(chance, spread, moved=moved, bound=bound)).reading
            found[kind].append(1.0 if isinstance(reading, NotEnough) or reading.p_value is None else reading.p_value)
    return {kind: np.array(values) for kind, values in found.items()}


def crowds(seeds: range) -> None:
    """How often rows together are called drifted, without and with drift, after 12 and 30 healthy windows."""
    print("\n| rows together | windows | healthy: p < .05 / < .01 | two columns move .25 sd | a correlation of .5 |")
    print("|---|---|---|---|---|")
    few = np.where(np.arange(20) > 15, 0.4, 0.02)
    for name, spread in (("days alike", 0 * few), ("days vary by .05 sd", 0 * few + 0.05), ("4 columns by .4 sd", few)):
        for many in (12, 30):
            p = p_values(spread, many, seeds)
            rates = f"{(p['healthy'] < 0.05).mean():.3f} / {(p['healthy'] < 0.01).mean():.3f}"
            print(
                f"| {name} | {many} | {rates} | {(p['moved'] < 0.01).mean():.2f} | {(p['bound'] < 0.01).mean():.2f} |"
            )


def costs() -> None:
    """CPU of one window of 5,000 rows of 50 columns."""
    chance = np.random.default_rng(0)
    schema = Schema(
        (*(Column(f"x{i}", Kind.NUMBER) for i in range(40)), *(Column(f"c{i}", Kind.CATEGORY) for i in range(10))), ()
    )
    rows, held_out = wide(5000, chance)
    estimator = learn_estimator(held_out, rows, schema)
    crowd = learn_crowd([wide(5000, chance)[0] for _ in range(8)], schema)
    now, came = wide(5000, chance, 0.1)
    tasks: dict[str, Callable[[], object]] = {
        "estimate of roc_auc, plain": lambda: estimate(estimator, "roc_auc", window_of(estimator, came.scores)),
        "estimate of roc_auc, weighted": lambda: estimate(estimator, "roc_auc", window_of(estimator, came.scores, now)),
        "rows together (domain classifier)": lambda: test_together(crowd, now),
    }
    print("\n| a window of 5,000 rows, 50 columns | CPU ms |\n|---|---|")
    for name, task in tasks.items():
        task()
        began = time.process_time()
        for _ in range(5):
            task()
        print(f"| {name} | {200 * (time.process_time() - began):.0f} |")
    print(
        f"| kept: estimator, crowd | {len(estimator.to_bytes()) / 1e6:.2f} MB, {len(crowd.to_bytes()) / 1e6:.2f} MB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="4 runs instead of 16")
    parser.add_argument("--peer", type=Path, help="folder of NannyML's own environment")
    chosen = parser.parse_args()
    seeds = range(4 if chosen.quick else 16)
    python = make_peer(chosen.peer) if chosen.peer else None
    for metric in ("accuracy", "roc_auc"):
        print(f"\n| {metric} | estimate - realised | error | coverage / half width | coverage, first {LATE} windows |")
        print("|---|---|---|---|---|")
        spent: dict[str, float] = {}
        for world in WORLDS:
            tally, spent = run(world, metric, seeds)
            if python:
                spent["NannyML CBPE"] = run_peer(python, world, metric, seeds, tally)
            for method in tally.rows:
                print(f"| {world.name}: {method} | {tally.line(method)} |")
            sys.stdout.flush()
        print(", ".join(f"{method} {ms:.0f} ms CPU a window" for method, ms in spent.items()))
    regressions(seeds)
    crowds(seeds)
    costs()


if __name__ == "__main__":
    main()
