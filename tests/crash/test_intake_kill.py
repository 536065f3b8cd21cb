"""Killed at any moment, the intake loses nothing that it acknowledged and takes nothing twice."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import polars as pl

from everfit.adapters.lake import DeltaLake
from everfit.ports import Table
from tests.crash.intake_child import ROWS

EFFECTS = 4  # refused, labels, predictions, forget
CHILD = [sys.executable, "-m", "tests.crash.intake_child"]
HERE = Path(__file__).parents[2]


def killed_append(folder: Path, name: str, acknowledged: int) -> set[str]:
    """Let a process append, kill it with SIGKILL after so many acknowledgements; the batches it acknowledged."""
    with subprocess.Popen([*CHILD, "append", str(folder), name], stdout=subprocess.PIPE, text=True, cwd=HERE) as child:
        assert child.stdout is not None
        said = {child.stdout.readline().strip() for _ in range(acknowledged)}
        child.kill()
        rest = child.stdout.read()  # what it had said before the signal reached it
    lines = rest.splitlines(keepends=True)
    return said | {line.strip() for line in lines if line.endswith("\n")}


def moved(folder: Path, most_rows: int, die_at: int, when: str) -> int:
    """Move, with an end at one of the effects; the exit code."""
    orders = [*CHILD, "move", str(folder), str(most_rows), str(die_at), when]
    return subprocess.run(orders, stdout=subprocess.DEVNULL, cwd=HERE, check=False, timeout=120).returncode


def killed_move(folder: Path, effects: int) -> None:
    """Kill a mover with SIGKILL just when it has begun an effect, so that the write itself is cut."""
    orders = [*CHILD, "move", str(folder), "60", "0", "before"]
    with subprocess.Popen(orders, stdout=subprocess.PIPE, text=True, cwd=HERE) as child:
        assert child.stdout is not None
        for _ in range(effects):
            child.stdout.readline()
        child.kill()


def ids(folder: Path, table: Table) -> pl.Series:
    return DeltaLake(str(folder / "lake")).read(table, since=None, until=None).select("_id").collect()["_id"]


def check(folder: Path, acknowledged: set[str]) -> None:
    """All that was acknowledged is in the lake, exactly once; nothing is there that was not sent."""
    predictions, labels = ids(folder, Table.PREDICTIONS), ids(folder, Table.LABELS)
    refused = DeltaLake(str(folder / "lake")).read(Table.REFUSED, since=None, until=None).collect()
    batches = sorted({id_.rsplit("-", 1)[0] for id_ in predictions})
    assert acknowledged <= set(batches)
    whole = sorted(f"{name}-{place}" for name in batches for place in range(ROWS - 1))
    assert sorted(predictions) == whole
    assert sorted(labels) == whole
    assert refused["_payload"].n_unique() == refused.height == len(batches)


def test_killed_appends_lose_nothing_and_a_mover_killed_at_every_step_doubles_nothing(tmp_path: Path) -> None:
    chance = random.Random(20130101)
    acknowledged: set[str] = set()
    for step in range(EFFECTS):
        for when in ("before", "after"):
            name = f"{step}{when}"
            acknowledged |= killed_append(tmp_path, name, chance.randint(1, 40))
            assert moved(tmp_path, 10**6, step + 1, when) == 9
    assert moved(tmp_path, 60, 0, "before") == 0
    check(tmp_path, acknowledged)


def test_movers_killed_in_the_middle_of_a_write_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(20130102)
    acknowledged: set[str] = set()
    for round_ in range(5):
        acknowledged |= killed_append(tmp_path, f"r{round_}", chance.randint(20, 60))
        killed_move(tmp_path, chance.randint(1, 2 * EFFECTS))
    assert moved(tmp_path, 10**6, 0, "before") == 0
    check(tmp_path, acknowledged)
