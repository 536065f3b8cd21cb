"""Log lines are events with named values, whoever writes them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from everfit.adapters.telemetry import configure, logger


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def read(lines: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_our_lines_carry_their_values(lines: io.StringIO) -> None:
    configure("info", stream=lines)
    logger("renew", model="m", run="r1").info("trained", seconds=3)
    told = read(lines)[0]
    assert told.pop("timestamp")
    assert told == {
        "event": "trained",
        "level": "info",
        "logger": "everfit.renew",
        "model": "m",
        "run": "r1",
        "seconds": 3,
    }


def test_lines_of_the_server_carry_their_values_too(lines: io.StringIO) -> None:
    configure("info", json=True, stream=lines)
    logging.getLogger("everfit.serve").warning("model swapped", extra={"version": 3})
    told = read(lines)[0]
    assert (told["event"], told["level"], told["version"]) == ("model swapped", "warning", 3)


def test_an_exception_is_one_line(lines: io.StringIO) -> None:
    configure("info", json=True, stream=lines)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("everfit.serve").exception("a request failed")
    assert read(lines)[0]["event"] == "a request failed"
    assert "why" in lines.getvalue()


def test_quiet_lines_and_chatty_libraries_stay_out(lines: io.StringIO) -> None:
    configure("info", json=True, stream=lines)
    logger("renew").debug("detail")
    logging.getLogger("httpx").info("chatter")
    assert read(lines) == []


def test_for_a_person_lines_are_text(lines: io.StringIO) -> None:
    configure("info", json=False, stream=lines)
    logger("renew").info("trained", seconds=3)
    assert "seconds=3" in lines.getvalue()
