"""The load test of roll-outs in its short form; in full it is `benchmarks/rollout.py --requests 200000`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
ORDERS = ["--requests", "5000", "--swaps", "1", "--rollbacks", "6", "--clients", "2", "--connections", "4"]
SLOW = 900  # seconds; it takes 105 of processor


@pytest.mark.timeout(SLOW)
def test_under_load_no_request_fails_and_the_log_says_who_answered(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    command = [sys.executable, str(HERE / "benchmarks" / "rollout.py"), *ORDERS, "--json", str(told)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=HERE, timeout=SLOW)
    found = json.loads(told.read_text())
    assert (found["failed"], found["failures"]) == (0, [])
    assert found["requests"] >= 5000
    wrong = ("logged_twice", "answered_not_logged", "logged_not_answered", "logged_otherwise")
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert found["by_variant"]["challenger"] > 0
    assert found["rollback_ms"]["count"] == 6
    assert sum(found["deaths"].values()) >= 3, "those that crash, hang and eat were ended"
    assert found["kill_9"]["acknowledged"] > 0
    assert found["kill_9"]["lost"] == 0
