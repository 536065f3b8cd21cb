"""A gateway of the user's own: a command that is called, or a webhook that is posted to, with one verb each time.

Takes the verbs `publish`, `point`, `confirmed` and `withdraw` as JSON; gives what the answer says; never sends a
model's rows or files, and never a webhook without a signature.

The answer is a JSON object: `{}` when it is done, `{"confirmed": true}` to the verb of that name, `{"error": "words"}`
when the model or route is refused and nothing was changed. Everything else (no answer, an exit code, a status of 500)
counts as away and is tried again, with the same `key`.
"""

from __future__ import annotations

import hmac
import json
import os
import shlex
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import SplitResult, urlsplit

from everfit.adapters.outside import Still
from everfit.clock import rest, wall
from everfit.errors import ModelUnusable, Unavailable, UsageError
from everfit.ids import content_key
from everfit.ports import Can, Route
from everfit.retrain.candidate import Candidate

PACE, PATIENCE = 1.0, 600.0
TIMEOUT = 10.0  # seconds for one answer
PUBLISHING = 300.0  # seconds for `publish`, which may copy a model's files
TRIES = 3  # of one webhook: with rests of 0.2 and 0.8 s it bridges a restart behind a balancer
MOST = 1 << 20  # bytes of an answer that are read


class Call(Protocol):
    """Sends one verb and gives the answer's bytes.

    Raises:
        Unavailable: no answer, or none that counts.
    """

    def __call__(self, verb: str, key: str, body: bytes, timeout: float) -> bytes:
        """Send it."""
        ...


class Hook:
    """Implements `everfit.adapters.outside.Remote` by a command or a webhook."""

    pace = PACE
    patience = PATIENCE

    def __init__(self, call: Call, can: frozenset[Can], name: str) -> None:
        self.can = can
        self._call = call
        self._name = name

    def publish(self, candidate: Candidate, version: int, folder: Path) -> None:
        """Say where a model's files lie on this machine."""
        told = {"candidate": candidate.id, "version": version, "folder": str(folder.resolve()),
                "format": candidate.file.format, "task": candidate.task}  # fmt: skip
        self._ask("publish", candidate.id, told, PUBLISHING)

    def point(self, model: str, route: Route, still: Still) -> None:
        """Say where traffic shall go."""
        if still():
            self._ask("point", route.key, {"model": model, "route": asdict(route)})

    def confirmed(self, model: str, route: Route, still: Still) -> bool:
        """Ask whether traffic goes there."""
        said = self._ask("confirmed", route.key, {"model": model, "route": asdict(route)})
        confirmed = said.get("confirmed")
        if not isinstance(confirmed, bool):
            raise Unavailable(f'{self._name} answered `confirmed` without {{"confirmed": true}} or false: {said}')
        return confirmed

    def withdraw(self, model: str, candidate: str) -> None:
        """Say that a model is not needed any more."""
        self._ask("withdraw", candidate, {"model": model, "candidate": candidate})

    def _ask(self, verb: str, key: str, told: Mapping[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
        body = json.dumps({"verb": verb, "key": key, **told}, sort_keys=True).encode()
        content = self._call(verb, key, body, timeout)
        try:
            said = json.loads(content or b"{}")
        except ValueError as error:
            raise Unavailable(f"{self._name} answered {verb} with what is not JSON: {_short(content)}") from error
        if not isinstance(said, dict):
            raise Unavailable(f"{self._name} answered {verb} with what is no JSON object: {_short(content)}")
        if "error" in said:
            raise ModelUnusable(f"{self._name} refused {verb}: {said['error']}")
        return said


class Command:
    """Runs `argv verb` with the JSON on its standard input. No shell reads the words."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        self._argv = argv

    def __call__(self, verb: str, key: str, body: bytes, timeout: float) -> bytes:
        """Run it; its standard output.

        Raises:
            Unavailable: it cannot be run, takes too long, or ends with another code than 0.
        """
        # Files and not pipes: a server that the command starts inherits them, and a pipe would not end before it does.
        with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            asked.write(body)
            asked.seek(0)
            code = self._run(verb, (asked, out, err), timeout)
            out.seek(0)
            if code:
                said = _short(_last(err) or _last(out))
                raise Unavailable(f"{self._said(verb)} ended with code {code}: {said}")
            return out.read(MOST)

    def _run(self, verb: str, files: tuple[IO[bytes], IO[bytes], IO[bytes]], timeout: float) -> int:
        asked, out, err = files
        try:
            # A group of its own, so that what a shell started ends with it.
            command = [*self._argv, verb]
            child = subprocess.Popen(command, stdin=asked, stdout=out, stderr=err, start_new_session=True)
        except OSError as error:
            raise Unavailable(f"{self._said(verb)} cannot be run: {error.strerror}") from error
        with child:
            try:
                return child.wait(timeout)
            except subprocess.TimeoutExpired as error:
                _stop(child)
                told = f": {_short(said)}" if (said := _last(err)) else ""
                late = f"{self._said(verb)} did not end within {timeout:g} s and was stopped{told}"
                raise Unavailable(late) from error

    def _said(self, verb: str) -> str:
        return f"`{shlex.join([*self._argv, verb])}`"


class Webhook:
    """Posts signed JSON to `url`. Redirects are not followed: a signature is meant for one address."""

    def __init__(self, url: str, secret: bytes, *, pause: float = 0.2) -> None:
        self._url = urlsplit(url)
        self._secret = secret
        self._pause = pause  # seconds before the second try; four times as long before the third

    def __call__(self, verb: str, key: str, body: bytes, timeout: float) -> bytes:
        """Post it, up to three times; the answer's body.

        Raises:
            Unavailable: no answer, or a status other than 2xx.
        """
        once = content_key(verb, key, body.decode())
        failure: Unavailable | None = None
        for attempt in range(TRIES):
            if attempt:
                rest(self._pause * 4 ** (attempt - 1))
            try:
                return self._post(once, body, timeout)
            except _Again as error:
                failure = Unavailable(f"{self._name} did not take {verb}: {error}")
                failure.__cause__ = error
        raise failure or Unavailable(f"{self._name} was not asked")

    @property
    def _name(self) -> str:
        return f"the webhook at {self._url.hostname}"  # the path may hold a secret

    def _post(self, once: str, body: bytes, timeout: float) -> bytes:
        stamp = str(int(wall().timestamp()))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": once,
            "X-Everfit-Timestamp": stamp,
            "X-Everfit-Signature": signature(self._secret, stamp, body),
        }
        connection = _connection(self._url, timeout)
        try:
            connection.request("POST", _target(self._url), body, headers)
            answer = connection.getresponse()
            content = answer.read(MOST)
        except (OSError, HTTPException) as error:
            raise _Again(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if answer.status >= 500 or answer.status == 429:
            raise _Again(f"status {answer.status}")
        if not 200 <= answer.status < 300:
            raise Unavailable(f"{self._name} answered with status {answer.status}: {_short(content)}")
        return content


class _Again(Exception):
    """One try failed in a way that the next may not."""


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The signature of a webhook: HMAC-SHA256 over `timestamp.body`, as `X-Everfit-Signature` holds it.

    A receiver computes it from `X-Everfit-Timestamp` and the raw body, compares with `hmac.compare_digest`, and refuses
    timestamps that are more than some minutes old.

    >>> signature(b"secret", "1700000000", b"{}")[:20]
    'sha256=b8569b78799ff'
    """
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, sha256).hexdigest()


def hook_at(setting: str, can: frozenset[Can], secret: str) -> Hook:
    """The command or webhook that a setting names.

    Raises:
        UsageError: no program, no host, no secret in the environment, or a port that is none.
    """
    if setting.startswith("command:"):
        return Hook(Command(_argv(setting)), can, "the gateway's command")
    url = urlsplit(setting)
    try:
        named = bool(url.hostname) and url.port != 0
    except ValueError:
        named = False
    if not named or url.username is not None:
        raise UsageError(
            f"EVERFIT_GATEWAY is no address of a webhook: write {url.scheme}://HOST[:PORT]/PATH; "
            "its secret belongs into EVERFIT_GATEWAY_SECRET"
        )
    if not secret:
        raise UsageError("a webhook needs EVERFIT_GATEWAY_SECRET in the environment: what it is sent is signed with it")
    return Hook(Webhook(setting, secret.encode()), can, f"the webhook at {url.hostname}")


def _argv(setting: str) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(setting.removeprefix("command:")))
    except ValueError as error:
        raise UsageError(f"EVERFIT_GATEWAY={setting!r} cannot be split into words: {error}") from error
    if not argv:
        raise UsageError("EVERFIT_GATEWAY=command: names no program; write command:/path/to/program --its options")
    return argv


def _connection(url: SplitResult, timeout: float) -> HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "https":
        return HTTPSConnection(host, url.port, timeout=timeout, context=ssl.create_default_context())
    return HTTPConnection(host, url.port, timeout=timeout)


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def _last(file: IO[bytes]) -> bytes:
    """The end of what was written."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
    return file.read().strip()


def _stop(child: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        child.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _short(content: bytes) -> str:
    lines = content.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
