"""Alerts through Apprise, against a local HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from everfit.adapters.alerts import AppriseTeller
from everfit.ports import Alert, Severity
from everfit.spec import Channel

# Said by Apprise while it imports its mail plug-in on Python 3.11 and 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

ALERT = Alert("k1", Severity.WARNING, "Retrained", "3f2a beats the champion", {"model": "flights"})


class Pager(ThreadingHTTPServer):
    """Takes what is posted; answers with a status, or only when it is told to."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.go_on = threading.Event()
        self.go_on.set()
        super().__init__(("127.0.0.1", 0), Answers)

    @property
    def url(self) -> str:
        return f"json://user:hush@127.0.0.1:{self.server_port}/token"


class Answers(BaseHTTPRequestHandler):
    server: Pager

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.go_on.wait(30)
        self.server.got.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def pager() -> Iterator[Pager]:
    with Pager() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


def test_an_alert_is_told_once(pager: Pager) -> None:
    teller = AppriseTeller([Channel(url=pager.url)])
    assert teller.tell(ALERT) == {"json-1": "told"}
    assert teller.tell(ALERT) == {"json-1": "told"}
    assert len(pager.got) == 1
    assert pager.got[0]["title"] == "Retrained"
    assert pager.got[0]["message"] == "3f2a beats the champion\nmodel: flights"
    assert pager.got[0]["type"] == "warning"


def test_a_channel_hears_only_what_is_loud_enough(pager: Pager) -> None:
    teller = AppriseTeller([Channel(url=pager.url, at_least="error"), Channel(url=pager.url, at_least="warning")])
    assert teller.tell(ALERT) == {"json-1": "quiet", "json-2": "told"}


def test_a_channel_that_fails_is_recorded_and_may_hear_it_again(pager: Pager) -> None:
    teller = AppriseTeller([Channel(url=pager.url)])
    pager.status = 500
    assert teller.tell(ALERT)["json-1"].startswith("failed: the channel did not take it")
    pager.status = 200
    assert teller.tell(ALERT) == {"json-1": "told"}


def test_a_slow_channel_holds_nobody_up(pager: Pager) -> None:
    pager.go_on.clear()
    teller = AppriseTeller([Channel(url=pager.url)], patience=0.2)
    assert teller.tell(ALERT) == {"json-1": "failed: no answer within 0.2 s"}


@pytest.mark.parametrize(
    ("url", "name", "said"),
    [
        pytest.param("json://127.0.0.1:1/hush", "json-1", "did not take it", id="nobody listens"),
        pytest.param("nonsense://hush", "nonsense-1", "not a URL that Apprise knows", id="an unknown kind"),
        pytest.param("hush", "channel-1", "not a URL that Apprise knows", id="no URL"),
        pytest.param("json://${NOT_SET}/hush", "json-1", "has no NOT_SET", id="a variable that is not set"),
    ],
)
def test_failures_are_told_without_secrets(url: str, name: str, said: str) -> None:
    outcome = AppriseTeller([Channel(url=url)], environment={}).tell(ALERT)
    assert list(outcome) == [name]
    assert said in outcome[name]
    assert "hush" not in str(outcome)


def test_secrets_come_from_the_environment(pager: Pager) -> None:
    teller = AppriseTeller([Channel(url="${PAGER}")], environment={"PAGER": pager.url})
    assert teller.tell(ALERT) == {"PAGER-1": "told"}


def test_without_channels_nothing_is_told() -> None:
    assert AppriseTeller([]).tell(ALERT) == {}
