"""`everfit profile` and `everfit compare`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from everfit.cli.commands import cli
from everfit.errors import Refused, UsageError

CHANCE = np.random.default_rng(2)
ROWS = 6000
THEN = pl.DataFrame(
    {
        "price": CHANCE.normal(100, 10, ROWS),
        "carrier": CHANCE.choice(["AA", "BB", "CC"], ROWS),
        "cargo": CHANCE.random(ROWS) < 0.4,
    }
)
NOW = THEN.sample(1000, seed=1)
MOVED = NOW.with_columns(price=pl.when(pl.col("carrier") == "BB").then(pl.col("price") + 15).otherwise("price"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("compare")
    THEN.write_parquet(made / "then.parquet")
    NOW.write_csv(made / "now.csv")
    MOVED.write_parquet(made / "moved.parquet")
    THEN.with_columns(raw=pl.lit(b"x"), _ours=1).write_parquet(made / "odd.parquet")
    return made


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], terminal_width=100)


def told(*words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--json", "-").stdout)
    return found


def test_two_files(folder: Path) -> None:
    alike = run("compare", folder / "then.parquet", folder / "now.csv")
    assert alike.exit_code == 0
    assert "6,000 rows against 1,000: none" in alike.stdout
    assert "20 windows of 300 rows of the reference" in alike.stdout
    moved = run("compare", folder / "then.parquet", folder / "moved.parquet")
    assert moved.exit_code == 1
    assert "price moved" in moved.stdout


def test_json_has_what_a_machine_needs(folder: Path) -> None:
    found = told("compare", folder / "then.parquet", folder / "moved.parquet")
    assert {"rows", "verdict", "alarms", "columns", "said", "windows", "alpha"} <= set(found)
    assert found["rows"] == {"reference": 6000, "current": 1000}
    assert (found["verdict"], found["alpha"]) == ("drift", 0.01)
    assert [alarm["column"] for alarm in found["alarms"]] == ["price"]
    price = found["columns"][0]
    assert {"name", "kind", "psi", "ks", "js", "wasserstein", "p_value", "effect", "alarm", "nulls"} <= set(price)


def test_answers_can_be_written_to_files(folder: Path, tmp_path: Path) -> None:
    words = ("compare", folder / "then.parquet", folder / "moved.parquet")
    done = run(*words, "--json", tmp_path / "told.json", "--html", tmp_path / "page.html")
    assert (done.exit_code, done.stdout) == (1, "")
    assert json.loads((tmp_path / "told.json").read_text()) == told(*words)
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "price moved" in page
    assert "http" not in page.replace("http-equiv", ""), "nothing is fetched"
    refused = run(*words, "--json", tmp_path / "nowhere" / "told.json")
    assert isinstance(refused.exception, Refused)


def test_a_stored_profile_stands_for_its_file(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "then.profile"
    assert run("profile", folder / "then.parquet", "-o", kept).exit_code == 0
    by_file = told("compare", folder / "then.parquet", folder / "moved.parquet")
    by_profile = told("compare", kept, folder / "moved.parquet")
    assert [c["psi"] for c in by_profile["columns"]] == [c["psi"] for c in by_file["columns"]]
    assert by_profile["verdict"] == "drift"
    assert by_profile["windows"] >= 20, "its past is cut into windows of the current's size"
    now = tmp_path / "now.profile"
    assert run("profile", folder / "moved.parquet", "-o", now, "--like", kept).exit_code == 0
    both = told("compare", kept, now)
    assert [c["p_value"] for c in both["columns"]] == [c["p_value"] for c in by_profile["columns"]]


def test_a_missing_column_is_missing_and_not_null(folder: Path, tmp_path: Path) -> None:
    NOW.drop("cargo").write_parquet(tmp_path / "less.parquet")
    kept = tmp_path / "then.profile"
    run("profile", folder / "then.parquet", "-o", kept)
    for reference in (kept, folder / "then.parquet"):
        found = told("compare", reference, tmp_path / "less.parquet")
        assert [alarm["name"] for alarm in found["alarms"]] == ["quality.missing"]
        assert found["columns"][2]["nulls"]["current"] is None


def test_profiles_that_do_not_fit_are_refused_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    one, other, old = tmp_path / "one.profile", tmp_path / "other.profile", tmp_path / "old.profile"
    run("profile", folder / "then.parquet", "-o", one)
    run("profile", folder / "moved.parquet", "-o", other)
    old.write_bytes(b"everfit profile 1\n...")
    for words, said in [
        ((one, other), "--like"),
        ((folder / "then.parquet", other), "--like"),
        ((old, other), "make it again"),
    ]:
        refused = run("compare", *words)
        assert isinstance(refused.exception, UsageError)
        assert said in str(refused.exception)
    assert isinstance(run("profile", folder / "now.csv", "--like", folder / "now.csv").exception, Refused)


def test_what_a_profile_tells(folder: Path) -> None:
    shown = run("profile", folder / "then.parquet")
    assert "6,000 rows" in shown.stdout
    price, carrier, _ = told("profile", folder / "then.parquet")["columns"]
    assert price["distinct"] == pytest.approx(ROWS, rel=0.13)
    assert price["low"] < price["mean"] < price["high"]
    assert carrier["distinct"] == 3
    assert sum(each["count"] for each in carrier["frequent"]) == ROWS


def test_groups_show_what_the_whole_hides(folder: Path) -> None:
    words = ("compare", folder / "then.parquet", folder / "moved.parquet", "--by", "carrier")
    found = told(*words)
    assert found["by"]["column"] == "carrier"
    groups = {group["value"]: group for group in found["by"]["groups"]}
    assert {value: group["verdict"] for value, group in groups.items()} == {"AA": "none", "BB": "drift", "CC": "none"}
    assert sum(group["rows"]["current"] for group in groups.values()) == 1000
    assert {"alarms", "columns", "said"} <= set(groups["BB"])
    shown = run(*words)
    assert shown.exit_code == 1
    assert sum(line.strip().startswith("carrier = ") for line in shown.stdout.splitlines()) == 3


def test_groups_of_flags_and_new_values(folder: Path, tmp_path: Path) -> None:
    NOW.with_columns(carrier=pl.lit("ZZ")).write_parquet(tmp_path / "new.parquet")
    flags = told("compare", folder / "then.parquet", folder / "now.csv", "--by", "cargo")
    assert {group["value"] for group in flags["by"]["groups"]} == {"true", "false"}
    new = told("compare", folder / "then.parquet", tmp_path / "new.parquet", "--by", "carrier")
    assert any("carrier = ZZ" in said for said in new["said"])
    assert {group["verdict"] for group in new["by"]["groups"]} == {"not_enough"}


def test_wrong_use_is_said(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "then.profile"
    run("profile", folder / "then.parquet", "-o", kept)
    for words in [
        (folder / "then.parquet", folder / "now.csv", "--by", "pric"),
        (kept, folder / "now.csv", "--by", "carrier"),
        (folder / "then.parquet", folder / "now.csv", "--alpha", "2"),
    ]:
        assert isinstance(run("compare", *words).exception, UsageError)


def test_columns_that_cannot_be_portrayed_are_left_out_by_name(folder: Path) -> None:
    found = told("compare", folder / "odd.parquet", folder / "now.csv")
    assert found["verdict"] == "none"
    assert [said for said in found["said"] if "not looked at" in said] == ["not looked at: _ours (Int32), raw (Binary)"]
