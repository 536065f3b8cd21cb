"""A function in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from everfit.adapters.aside import aside
from everfit.clock import rest, ticks
from everfit.errors import Refused, TrainingFailed


def doubled(number: int) -> int:
    return 2 * number


def refusing() -> None:
    raise Refused("column 'a' is odd")


def breaking() -> None:
    raise ValueError("odd")


def dying() -> None:
    os._exit(7)


def endless(file: Path) -> None:
    file.write_text(str(os.getpid()))
    while True:
        rest(1)


def test_the_answer_and_our_errors_come_back() -> None:
    assert aside(doubled, (21,), lambda: None) == 42
    with pytest.raises(Refused, match="column 'a' is odd"):
        aside(refusing, (), lambda: None)


def test_other_errors_and_deaths_are_told_in_words() -> None:
    with pytest.raises(TrainingFailed, match="ValueError: odd"):
        aside(breaking, (), lambda: None)
    with pytest.raises(TrainingFailed, match=r"ended without an answer \(7\)"):
        aside(dying, (), lambda: None)


def test_it_ends_when_nobody_wants_the_answer(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    def stop_when_begun() -> None:
        if file.is_file() and file.read_text():
            raise KeyboardInterrupt

    since = ticks()
    with pytest.raises(KeyboardInterrupt):
        aside(endless, (file,), stop_when_begun)
    assert ticks() - since < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
