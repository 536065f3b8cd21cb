"""The challenger's process, for real: it answers, and its crash, hanging, hunger and death are its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from everfit.serve.challenger import Challenger, Failed, Failing
from everfit.serve.serving import Trying
from everfit.serve.wire import Rows
from tests.unit.serve.fakes import candidate, until
from tests.unit.serve.rivals import Rival, write_rival

WAIT = 30.0
QUICK = Trying(wait=0.2, hang=20.0, memory=450 * 2**20, deaths=3, pauses=(0.01, 0.02))
Start = Callable[..., Challenger]


def rows(*carriers: str) -> Rows:
    return Rows(len(carriers), np.array([[3.0, 0.0]] * len(carriers)), [list(carriers)], np.zeros((len(carriers), 0)))


@pytest.fixture
def deaths() -> list[str]:
    return []


@pytest.fixture
def start(tmp_path: Path, deaths: list[str]) -> Iterator[Start]:
    started: list[Challenger] = []

    def begin(*, broken: bool = False, trying: Trying = QUICK) -> Challenger:
        folder = write_rival(tmp_path / "c2", candidate("c2"), broken=broken)
        started.append(Challenger(folder, Rival, trying, deaths.append))
        started[-1].start()
        until(lambda: started[-1].is_warm or bool(started[-1].trouble), WAIT)
        return started[-1]

    yield begin
    for each in started:
        each.close()
        each.join(WAIT)


def failing(challenger: Challenger, carrier: str, wait: float = 5.0) -> Failing | None:
    with pytest.raises(Failed) as failed:
        challenger.ask(rows(carrier), wait)
    return failed.value.why


def test_it_answers_as_the_model_does_and_one_bad_row_is_one_failure(start: Start) -> None:
    challenger = start()
    found = challenger.ask(rows("UA", "error", "AA"), 5.0)
    expected = 1 / (1 + np.exp(1.0 - 3.0))
    assert found.scores[[0, 2], 1] == pytest.approx(expected)
    assert (found.failed, 0 < found.scored <= found.took) == ((1,), True)
    slow = challenger.ask(rows("slow"), WAIT)
    assert 1.0 <= slow.scored <= slow.took, "the model takes a second, whatever the way to it costs"


@pytest.mark.parametrize(
    ("carrier", "hang", "why"),
    [
        pytest.param("crash", 20.0, Failing.CRASH, id="it crashes"),
        pytest.param("eat", 20.0, Failing.MEMORY, id="it eats memory"),
        pytest.param("brood", 20.0, Failing.MEMORY, id="what it started eats memory"),
        pytest.param("hang", 0.5, Failing.TIMEOUT, id="it hangs"),
    ],
)
def test_it_is_ended_for_a_reason_and_started_again(
    start: Start, deaths: list[str], carrier: str, hang: float, why: Failing
) -> None:
    challenger = start(trying=replace(QUICK, hang=hang))
    before = challenger.pid
    assert failing(challenger, carrier, WAIT) is why
    until(lambda: challenger.is_warm and challenger.pid != before, WAIT)
    assert deaths == [why]
    assert challenger.ask(rows("UA"), 5.0).failed == ()


def test_who_is_late_is_not_waited_for_and_answers_again_later(start: Start, deaths: list[str]) -> None:
    challenger = start()
    assert failing(challenger, "slow", wait=0.05) is Failing.TIMEOUT
    assert failing(challenger, "UA", wait=0.01) is Failing.TIMEOUT, "an answer that nobody waits for is still to come"

    def answers() -> bool:
        try:
            return challenger.ask(rows("UA"), 5.0).failed == ()
        except Failed:
            return False

    until(answers, WAIT)
    assert deaths == []


def test_after_so_many_deaths_it_stays_down_and_says_why(start: Start, deaths: list[str]) -> None:
    challenger = start()
    for _ in range(QUICK.deaths):
        until(lambda: challenger.is_warm, WAIT)
        assert failing(challenger, "crash") is Failing.CRASH
    until(lambda: bool(challenger.trouble), WAIT)
    assert "ended 3 times, lastly by crash (signal 11)" in challenger.trouble
    assert (failing(challenger, "UA"), len(deaths)) == (Failing.CRASH, 3)


def test_a_model_that_cannot_be_loaded_is_said_and_not_tried_again(start: Start, deaths: list[str]) -> None:
    challenger = start(broken=True)
    assert "its file is broken" in challenger.trouble
    assert (failing(challenger, "UA"), deaths) == (None, [])


def test_who_is_let_go_is_not_to_blame(start: Start, deaths: list[str]) -> None:
    challenger = start()
    pid = challenger.pid
    assert pid is not None
    challenger.close()
    challenger.join(WAIT)
    assert failing(challenger, "UA") is None
    assert (psutil.pid_exists(pid), deaths) == (False, [])


KEEPER = """
import sys, threading
from pathlib import Path
from everfit.serve.challenger import Challenger
from everfit.serve.serving import Trying
from tests.unit.serve.rivals import Rival
from tests.ports.test_challenger import rows
challenger = Challenger(Path(sys.argv[1]), Rival, Trying(hang=60.0))
challenger.start()
while not challenger.is_warm:
    threading.Event().wait(0.01)
print(challenger.pid, flush=True)
challenger.ask(rows(sys.argv[2]), 60.0)
threading.Event().wait()
"""


@pytest.mark.parametrize("carrier", ["UA", "hang"])
def test_it_dies_with_the_server_also_by_kill_9_and_while_it_hangs(tmp_path: Path, carrier: str) -> None:
    folder = write_rival(tmp_path / "c2", candidate("c2"))
    command = [sys.executable, "-c", KEEPER, str(folder), carrier]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        child = psutil.Process(int(server.stdout.readline()))
        os.kill(server.pid, signal.SIGKILL)
    gone, _ = psutil.wait_procs([child], WAIT)
    assert gone == [child]
