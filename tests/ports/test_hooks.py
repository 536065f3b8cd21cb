"""A gateway of the user's own: a real script, and a webhook of a real HTTP server."""

from __future__ import annotations

import hmac
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.hooks import Hook, Webhook, hook_at, signature
from everfit.adapters.outside import OutsideGateway
from everfit.adapters.published import Published, read_published
from everfit.checks import Law, check_gateway
from everfit.errors import ModelUnusable, Unavailable, UsageError
from everfit.observe.intake import Rules
from everfit.ports import ALL_OF_IT, Route, Trial
from everfit.retrain.candidate import Candidate
from tests.unit.serve.fakes import candidate, write_folder

MODEL = "flights"
A, B = (candidate(name).id for name in "ab")
LIVE_A = Route(A, 1, "k1")
TRIED = Route(A, 1, "k2", Trial(B, 2, weight=0.05, mirror=0.5, salt="r"))
SECRET = "between us"

SCRIPT = """#!{python} -S
import json, pathlib, signal, sys
told = json.load(sys.stdin)
assert sys.argv[1:] == ["--to", "a place", told["verb"]]
with open(__file__ + ".log", "a") as log:
    print(json.dumps(told), file=log)
answers = json.loads(pathlib.Path(__file__ + ".answers").read_text())
answer = answers.get(told["verb"], {{}})
if answer == "fall":
    sys.exit("it fell")
if answer == "hang":
    print("waiting for the other side", file=sys.stderr, flush=True)
    signal.pause()
if answer == "leave":  # a server that lives on and holds what it inherited
    import subprocess
    left = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    pathlib.Path(__file__ + ".left").write_text(str(left.pid))
    answer = {{"confirmed": True}}
print(json.dumps(answer) if answer != "mumble" else "yes!")
"""


class Script:
    """A program that writes down what it is told and answers as it was told to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate way"
        self.path.write_text(SCRIPT.format(python=sys.executable))
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)
        self.answer(confirmed={"confirmed": True})

    def answer(self, **answers: object) -> None:
        Path(f"{self.path}.answers").write_text(json.dumps(answers))

    @property
    def told(self) -> list[dict[str, Any]]:
        log = Path(f"{self.path}.log")
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def setting(self) -> str:
        return f"command:'{self.path}' --to 'a place'"


class Receiver(ThreadingHTTPServer):
    """A webhook's other end: keeps what came with a good signature, and each key once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.told: dict[str, dict[str, Any]] = {}
        self.posts: list[str] = []
        self.fails = 0  # posts that are answered with 503 after they were done
        self.status = 200
        self.answers: dict[str, object] = {"confirmed": {"confirmed": True}}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/gate?team=ml"


class _Receive(BaseHTTPRequestHandler):
    server: Receiver
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        stamp = self.headers["X-Everfit-Timestamp"]
        expected = "sha256=" + hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, sha256).hexdigest()
        if not hmac.compare_digest(expected, self.headers["X-Everfit-Signature"]) or self.path != "/gate?team=ml":
            self._say(401, b"{}")
            return
        key = self.headers["Idempotency-Key"]
        told = json.loads(body)
        self.server.posts.append(key)
        self.server.told.setdefault(key, told)
        if self.server.fails:
            self.server.fails -= 1
            self._say(503, b"later")
            return
        self._say(self.server.status, json.dumps(self.server.answers.get(told["verb"], {})).encode())

    def _say(self, status: int, content: bytes) -> None:
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Tests say what went wrong."""


class Place:
    folder: Path
    receiver: Receiver


HERE = Place()


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Iterator[None]:
    HERE.folder, HERE.receiver = tmp_path, Receiver()
    thread = threading.Thread(target=HERE.receiver.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield
    HERE.receiver.shutdown()
    thread.join()
    HERE.receiver.server_close()


@pytest.fixture
def script() -> Script:
    return Script(HERE.folder)


def behind(hook: Hook) -> OutsideGateway:
    hook.pace = 0.0
    return OutsideGateway(FolderGateway(HERE.folder / "words"), FolderGateway(HERE.folder / "near"), hook)


def webhook(secret: str = SECRET) -> Hook:
    return Hook(Webhook(HERE.receiver.url, secret.encode(), pause=0.0), ALL_OF_IT, "the webhook")


def command_gateway() -> OutsideGateway:
    return behind(hook_at(Script(HERE.folder).setting, ALL_OF_IT, ""))


def webhook_gateway() -> OutsideGateway:
    return behind(webhook())


def two() -> list[tuple[Candidate, Path]]:
    return [(candidate(name), write_folder(HERE.folder / "shelf" / name, 0.0)) for name in ("c1", "c2")]


def publish(gateway: OutsideGateway) -> None:
    for version, name in enumerate("ab", 1):
        gateway.publish(candidate(name), version, write_folder(HERE.folder / "shelf" / name, 0.0))


@pytest.mark.parametrize("law", check_gateway(command_gateway, two), ids=str)
def test_a_command_keeps_the_law(law: Law) -> None:
    law()


@pytest.mark.parametrize("law", check_gateway(webhook_gateway, two), ids=str)
def test_a_webhook_keeps_the_law(law: Law) -> None:
    law()


def test_a_command_is_told_each_verb_with_all_that_it_needs(script: Script) -> None:
    gateway = behind(hook_at(script.setting, ALL_OF_IT, ""))
    publish(gateway)
    gateway.point(MODEL, LIVE_A)
    gateway.point(MODEL, TRIED)
    assert gateway.confirmed(MODEL)
    gateway.point(MODEL, Route(A, 1, "k3"))
    assert (Path(script.told[1]["folder"]) / "model.json").is_file()  # it lies there until the model is withdrawn
    gateway.withdraw(MODEL, B)
    assert not Path(script.told[1]["folder"]).exists()
    verbs = [each["verb"] for each in script.told]
    assert verbs == ["publish", "publish", "point", "point", "confirmed", "point", "withdraw"]
    published, tried = script.told[1], script.told[3]
    assert (published["candidate"], published["version"], published["format"]) == (B, 2, "skops")
    assert (tried["key"], tried["model"]) == ("k2", MODEL)
    assert tried["route"] == {
        "candidate": A, "version": 1, "key": "k2",
        "trial": {"candidate": B, "version": 2, "weight": 0.05, "mirror": 0.5, "salt": "r"},
    }  # fmt: skip


def test_a_published_folder_says_whose_it_is_and_nothing_else_of_the_spec(script: Script) -> None:
    hook, told = (
        hook_at(script.setting, ALL_OF_IT, ""),
        Published(MODEL, Rules("binary", "late", "at", "flight"), "tail"),
    )
    near = FolderGateway(HERE.folder / "near")
    publish(OutsideGateway(FolderGateway(HERE.folder / "words"), near, hook, told))
    folder = Path(script.told[1]["folder"])
    assert read_published(folder) == told.of(B, 2)
    assert set(json.loads((folder / "published.json").read_text())) == {"model", "rules", "key", "candidate", "version"}
    assert not (HERE.folder / "shelf" / "b" / "published.json").exists()  # what was judged stays as it was


def test_what_a_command_refuses_leaves_the_word_where_it_was(script: Script) -> None:
    gateway = behind(hook_at(script.setting, ALL_OF_IT, ""))
    publish(gateway)
    gateway.point(MODEL, LIVE_A)
    script.answer(point={"error": "no such pool"})
    with pytest.raises(ModelUnusable, match="refused point: no such pool"):
        gateway.point(MODEL, TRIED)
    live = gateway.live(MODEL)
    assert live is not None
    assert (live.candidate, live.trial) == (A, None)


def test_a_challenger_that_a_command_cannot_keep_is_said_in_its_words(script: Script) -> None:
    gateway = behind(hook_at(script.setting, ALL_OF_IT, ""))
    publish(gateway)
    gateway.point(MODEL, LIVE_A)
    gateway.point(MODEL, TRIED)
    script.answer(confirmed={"confirmed": False})
    assert not gateway.confirmed(MODEL)
    script.answer(confirmed={"error": "pod b-7 was killed"})
    with pytest.raises(ModelUnusable, match="pod b-7 was killed"):
        gateway.confirmed(MODEL)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param("fall", "confirmed` ended with code 1: it fell", id="an exit code"),
        pytest.param("mumble", "not JSON: yes!", id="no JSON"),
        pytest.param([1], "no JSON object", id="a list"),
        pytest.param({}, "answered `confirmed` without", id="no answer to the question"),
        pytest.param("hang", "did not end within 1 s and was stopped: waiting for the other side", id="no end"),
    ],
)
def test_an_answer_that_does_not_count_is_asked_for_again_later(script: Script, answer: object, said: str) -> None:
    hook = hook_at(script.setting, ALL_OF_IT, "")
    script.answer(confirmed=answer)
    if answer == "hang":
        call = hook._call
        hook = Hook(lambda verb, key, body, _: call(verb, key, body, 1.0), ALL_OF_IT, "the command")
    with pytest.raises(Unavailable, match=said):
        hook.confirmed(MODEL, LIVE_A, lambda: True)


def test_a_server_that_a_command_starts_may_live_on_and_holds_up_nobody(script: Script) -> None:
    script.answer(confirmed="leave")
    try:
        assert hook_at(script.setting, ALL_OF_IT, "").confirmed(MODEL, LIVE_A, lambda: True)
    finally:
        os.kill(int(Path(f"{script.path}.left").read_text()), signal.SIGKILL)


def test_a_program_that_is_not_there_is_away() -> None:
    with pytest.raises(Unavailable, match="cannot be run"):
        hook_at("command:/nowhere/at-all", ALL_OF_IT, "").withdraw(MODEL, A)


def test_a_webhook_that_fails_after_its_work_is_posted_again_with_the_same_key() -> None:
    gateway = webhook_gateway()
    publish(gateway)
    HERE.receiver.fails = 2
    gateway.point(MODEL, LIVE_A)
    assert len(HERE.receiver.posts) == 5  # two of publishing, three of pointing
    assert [each["verb"] for each in HERE.receiver.told.values()] == ["publish", "publish", "point"]


def test_a_webhook_that_fails_on_is_away_and_the_step_may_be_repeated() -> None:
    gateway = webhook_gateway()
    publish(gateway)
    HERE.receiver.fails = 3
    with pytest.raises(Unavailable, match="did not take point: status 503"):
        gateway.point(MODEL, LIVE_A)
    gateway.point(MODEL, LIVE_A)
    assert gateway.live(MODEL) == LIVE_A
    assert [each["verb"] for each in HERE.receiver.told.values()] == ["publish", "publish", "point"]


def test_a_webhook_with_another_secret_is_not_heard() -> None:
    with pytest.raises(Unavailable, match="status 401"):
        webhook("another").confirmed(MODEL, LIVE_A, lambda: True)
    assert not HERE.receiver.told


def test_a_webhook_does_not_follow_elsewhere() -> None:
    HERE.receiver.status = 302
    with pytest.raises(Unavailable, match="status 302"):
        webhook().confirmed(MODEL, LIVE_A, lambda: True)
    assert len(HERE.receiver.posts) == 1


def test_the_moment_is_signed_too() -> None:
    assert signature(b"s", "1", b"{}") != signature(b"s", "2", b"{}")


def test_what_was_not_allowed_is_not_sent(script: Script) -> None:
    gateway = behind(hook_at(script.setting, frozenset(), ""))
    publish(gateway)
    gateway.point(MODEL, LIVE_A)
    with pytest.raises(UsageError, match="cannot split or mirror"):
        gateway.point(MODEL, TRIED)
    assert [each["verb"] for each in script.told] == ["publish", "publish", "point"]


@pytest.mark.parametrize(
    ("setting", "secret", "said"),
    [
        pytest.param("command:", "", "names no program", id="no program"),
        pytest.param("command:a 'b", "", "cannot be split", id="an open quote"),
        pytest.param("https:///gate", "s", "no address", id="no host"),
        pytest.param("https://host:port/gate", "s", "no address", id="a port in words"),
        pytest.param("https://me:word@host/gate", "s", "no address", id="a secret in the address"),
        pytest.param("https://host/gate", "", "needs EVERFIT_GATEWAY_SECRET", id="no secret"),
    ],
)
def test_a_wrong_setting_says_what_to_write(setting: str, secret: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        hook_at(setting, ALL_OF_IT, secret)


def test_asking_keeps_its_pace(script: Script) -> None:
    hook = hook_at(script.setting, ALL_OF_IT, "")
    gateway = behind(hook)
    publish(gateway)
    gateway.point(MODEL, LIVE_A)
    hook.pace = 3600.0
    script.answer(confirmed={"confirmed": False})
    assert [gateway.confirmed(MODEL) for _ in range(50)] == [False] * 50
    assert [each["verb"] for each in script.told].count("confirmed") == 1
    gateway.point(MODEL, Route(B, 2, "k2"))
    script.answer(confirmed={"confirmed": True})
    assert gateway.confirmed(MODEL)  # another word is another question
