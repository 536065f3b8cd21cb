"""What a profile costs beside reading the file, and beside other tools, side by side in one run.

    python benchmarks/profile.py --json FILE [--peers scipy,nannyml,whylogs] [--rows 1000000] [--big 10000000]

Every contestant is a process of its own, run in turn, and what counts is the least CPU time (user and system, imports
included) of its runs and its largest resident memory. The floor is what polars needs to read the file and to sum its
columns. Ours reads the file and compares it with a stored profile of the reference, as `everfit compare` does. The
others have no stored reference that serves, so they read both files. Peers are installed into a cache, never here.
"""

from __future__ import annotations

# ruff: noqa: PLC0415 - every contestant imports its own library, and the peers' are not ours
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLUMNS = {"floats": 35, "categories": (3, 7, 12, 30, 80, 200, 500, 1000, 3000, 10_000), "ints": 3}
STEP = 100_000  # rows made at once
PEERS = {  # pins from what installs together today
    "scipy": [],  # in our own environment
    "nannyml": ["nannyml==0.13.1", "pandas<3", "statsmodels<0.15", "setuptools<80", "pyarrow"],
    "whylogs": ["whylogs==1.6.4", "pandas<3", "numpy<2", "pyarrow<20"],
}
FLOOR, OURS = "polars reads and sums", "everfit against a stored profile"


# ---- the data ----------------------------------------------------------------------------------------------------
def make(path: Path, rows: int, seed: int) -> None:
    """Write a Parquet file of 35 floats of varied shapes, 10 categories, 3 whole numbers, a flag and a time."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = np.random.default_rng(seed)
    held: list[Any] = []
    writer = None
    for _ in range(max(1, rows // STEP)):
        held.append(_table(chance, min(rows, STEP), np, pa))
        writer = writer or pq.ParquetWriter(path, held[0].schema)
        if len(held) == 10:  # a row group of a million rows, as pyarrow writes by itself
            writer.write_table(pa.concat_tables(held))
            held = []
    if writer is not None:
        if held:
            writer.write_table(pa.concat_tables(held))
        writer.close()


def _table(chance: Any, n: int, np: Any, pa: Any) -> Any:
    shapes: list[Callable[[int], Any]] = [
        lambda i: chance.normal(i, 1 + i, n),
        lambda i: chance.lognormal(0, 1, n),
        lambda i: chance.exponential(3, n),
        lambda i: chance.standard_t(2.5, n),
        lambda i: np.where(chance.random(n) < 0.4, 0, chance.gamma(2, 2, n)),
        lambda i: np.round(chance.normal(50, 20, n), 1),
        lambda i: chance.random(n),
    ]
    columns: dict[str, Any] = {}
    for i in range(35):
        values = shapes[i % 7](i)
        if i % 10 == 3:
            values[chance.random(n) < 0.05] = np.nan
        columns[f"x{i:02d}"] = pa.array(values, mask=chance.random(n) < 0.05 if i % 10 == 4 else None)
    for i, many in enumerate((3, 7, 12, 30, 80, 200, 500, 1000, 3000, 10_000)):
        share = 1 / np.arange(1, many + 1)
        names = np.array([f"{i}-value-{j}" for j in range(many)])
        columns[f"c{i}"] = pa.array(names[chance.choice(many, n, p=share / share.sum())])
    columns["i0"] = pa.array(chance.integers(0, 50, n))
    columns["i1"] = pa.array(chance.poisson(400, n))
    columns["i2"] = pa.array(chance.integers(0, 10**9, n))
    columns["f0"] = pa.array(chance.random(n) < 0.3)
    moments = chance.integers(0, 30 * 86400 * 10**6, n).astype("timedelta64[us]")
    columns["t0"] = pa.array(np.datetime64("2024-01-01", "us") + moments)
    return pa.table(columns)


# ---- contestants: each in a process of its own -------------------------------------------------------------------
def floor(_: str, now: str, __: str) -> None:
    """What polars needs to read the file and sum its columns (of text: its bytes)."""
    import polars as pl
    import polars.selectors as cs

    rows = pl.read_parquet(now)
    rows.select(
        cs.numeric().sum(), cs.boolean().sum(), cs.string().str.len_bytes().sum(), cs.temporal().to_physical().sum()
    )


def ours(_: str, now: str, stored: str) -> None:
    from everfit.app.looking import compare_files

    found = compare_files(stored, now, pictures=False)
    assert len(found.columns) == 50, "every column is compared"
    assert found.verdict == "none", "both files are of one kind"


def scipy(ref: str, now: str, _: str) -> None:
    import polars as pl
    from scipy.stats import chi2_contingency, ks_2samp

    then, seen = pl.read_parquet(ref), pl.read_parquet(now)
    for name, dtype in then.schema.items():
        e, a = then[name].drop_nulls(), seen[name].drop_nulls()
        if dtype in (pl.String, pl.Boolean):
            both = e.value_counts().join(a.value_counts(), on=name, how="full", coalesce=True).fill_null(0)
            chi2_contingency(both[:, 1:].to_numpy().T)
        else:
            x, y = (s.to_physical().cast(pl.Float64).drop_nans().to_numpy() for s in (e, a))
            ks_2samp(x, y, method="asymp")


def nannyml(ref: str, now: str, _: str) -> None:
    import nannyml
    import pandas as pd

    then, seen = pd.read_parquet(ref), pd.read_parquet(now)
    for frame in (then, seen):
        frame["t0"] = frame["t0"].astype("int64")
        frame["f0"] = frame["f0"].astype("float64")
    texts = [f"c{i}" for i in range(10)]
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=list(then.columns), treat_as_categorical=texts, chunk_number=1,
        continuous_methods=["kolmogorov_smirnov"], categorical_methods=["chi2"],
    )  # fmt: skip
    calculator.fit(then)
    calculator.calculate(seen)


def whylogs(_: str, now: str, __: str) -> None:
    """Only the profile of one file: no comparison is counted."""
    import pandas as pd
    import whylogs

    whylogs.log(pandas=pd.read_parquet(now)).view().to_pandas()


def report(_: str, __: str, stored: str) -> None:
    """Print the milliseconds of CPU of a report of 50 columns from two stored profiles: the middle of 21."""
    from everfit.app.looking import profile_file, stored_profile
    from everfit.detect.compare import Sides, hold
    from everfit.observe.schema import Column, Schema
    from everfit.profile.table import Profile

    then = stored_profile(stored)
    assert then is not None
    now = profile_file(__, then).to_bytes()
    reference = Path(stored).read_bytes()

    def once() -> None:
        was = Profile.from_bytes(reference)
        seen = Profile.from_bytes(now, was.bins)
        known = Schema(tuple(Column(name, kind) for name, (kind, _) in was.bins.columns.items()), ())
        hold(Sides(was, seen, known, known), pictures=False)

    took = []
    for _turn in range(21):
        since = time.process_time()
        once()
        took.append(1000 * (time.process_time() - since))
    print(json.dumps(sorted(took)[10]))


CONTESTANTS = {
    FLOOR: floor, OURS: ours, "scipy": scipy, "nannyml": nannyml, "whylogs": whylogs, "report": report,
}  # fmt: skip


# ---- the race ----------------------------------------------------------------------------------------------------
def run(python: str, name: str, files: tuple[str, str, str]) -> tuple[float, float, str]:
    """CPU seconds, megabytes and output of a contestant."""
    with tempfile.TemporaryFile() as out:
        command = [python, "-W", "ignore", __file__, "--contestant", name, *files]
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "NML_DISABLE_USAGE_LOGGING": "1",
                 "WHYLOGS_NO_ANALYTICS": "True", "DO_NOT_TRACK": "1"}  # fmt: skip
        child = subprocess.Popen(command, stdout=out, env=os.environ | quiet)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read().decode()
    if child.returncode:
        raise SystemExit(f"{name} failed with {child.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, said


def python_of(peer: str, cache: Path) -> str:
    """The interpreter of a peer's own environment, made if it is not there."""
    if not PEERS[peer]:
        return sys.executable
    home = cache / f"env-{peer}"
    python = home / "bin" / "python"
    if not (home / "done").exists():
        subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", "--clear", "--seed", str(home)], check=True)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *PEERS[peer]]
        subprocess.run(install, check=True)
        (home / "done").touch()
    return str(python)


def made_apart(path: Path, rows: int, seed: int) -> None:
    """Make data in a process of its own: what this one ever held would count as its contestants' largest memory."""
    subprocess.run([sys.executable, __file__, "--make", str(path), str(rows), str(seed)], check=True)


def race(told: argparse.Namespace, cache: Path) -> dict[str, Any]:
    files = {name: cache / f"{name}-{told.rows}.parquet" for name in ("reference", "current")}
    for seed, path in enumerate(files.values()):
        if not path.exists():
            made_apart(path, told.rows, seed)
    stored = cache / f"reference-{told.rows}.profile"
    subprocess.run([sys.executable, "-m", "everfit", "profile", str(files["reference"]), "-o", str(stored)],
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    three = str(files["reference"]), str(files["current"]), str(stored)
    pythons = {FLOOR: sys.executable, OURS: sys.executable}
    pythons |= {peer: python_of(peer, cache) for peer in told.peers.split(",") if peer}
    best: dict[str, tuple[float, float]] = {}
    for turn in range(told.repeat):  # in turn, so that a busy moment of the machine meets all of them
        for name, python in pythons.items():
            if turn and name not in (FLOOR, OURS):
                continue  # a peer takes long, and its ratio is far from its line
            cpu, memory, _ = run(python, name, three)
            known = best.get(name, (cpu, memory))
            best[name] = min(cpu, known[0]), max(memory, known[1])
            print(f"{name:35} {cpu:7.2f} s of CPU {memory:7.0f} MB", flush=True)
    mine = best[OURS][0]
    result: dict[str, Any] = {
        "rows": [{"name": name, "cpu_s": round(cpu, 3), "peak_mb": round(mb)} for name, (cpu, mb) in best.items()],
        "vs_floor": round(mine / best[FLOOR][0], 2),
        "peak_mb": round(best[OURS][1]),
        "report_ms": round(float(run(sys.executable, "report", three)[2]), 1),
    }
    result |= {f"vs_{peer}": round(best[peer][0] / mine, 1) for peer in pythons if peer in PEERS}
    if told.big:
        big = cache / f"current-{told.big}.parquet"
        if not big.exists():
            made_apart(big, told.big, 2)
        cpu, memory, _ = run(sys.executable, OURS, (three[0], str(big), three[2]))
        result |= {"big_rows": told.big, "big_cpu_s": round(cpu, 2), "big_peak_mb": round(memory)}
    return result


def main() -> None:
    if "--make" in sys.argv:
        path, rows, seed = sys.argv[sys.argv.index("--make") + 1 :]
        make(Path(path), int(rows), int(seed))
        return
    if "--contestant" in sys.argv:
        name, *files = sys.argv[sys.argv.index("--contestant") + 1 :]
        CONTESTANTS[name](*files)
        return
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--rows", type=int, default=1_000_000)
    words.add_argument("--big", type=int, default=0, help="measure our memory on so many rows as well")
    words.add_argument("--peers", default="scipy", help="scipy, nannyml, whylogs; comma separated")
    words.add_argument("--repeat", type=int, default=5, help="turns of the floor and of ours; the best counts")
    words.add_argument("--cache", type=Path, help="keeps data and peers' environments; default: a temporary folder")
    words.add_argument("--json", type=Path, help="write the result here")
    told = words.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        cache = told.cache or Path(temporary)
        cache.mkdir(parents=True, exist_ok=True)
        result = race(told, cache)
    print(json.dumps(result, indent=2))
    if told.json:
        told.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
