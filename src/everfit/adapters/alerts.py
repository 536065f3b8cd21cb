"""Channels to people, through Apprise.

Takes the spec's channels and an alert; gives what became of it on each channel; never raises, never waits
longer than its time limit, and never shows a secret of a URL.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from everfit.ports import Alert, Severity

_Send = Callable[[str, Alert], str]

if TYPE_CHECKING:
    from everfit.spec import Channel

PATIENCE = 10.0  # seconds a channel may take; slower ones are recorded as failed
KEYS_KEPT = 1000  # alerts remembered for each channel
LOUDNESS = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}
WORDS = {
    Severity.INFO: "info",
    Severity.WARNING: "warning",
    Severity.ERROR: "failure",
}  # Apprise's names for them
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")


class AppriseTeller:
    """Implements `everfit.ports.Teller`. A channel hears a key once; one that failed may hear it again."""

    def __init__(
        self,
        channels: Sequence[Channel],
        *,
        environment: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._channels = {channel_name(place, channel.url): channel for place, channel in enumerate(channels, 1)}
        self._environment = os.environ if environment is None else environment
        self._patience = patience
        self._told: dict[tuple[str, str], None] = {}  # insertion order: the oldest are forgotten first
        self._lock = threading.Lock()

    def tell(self, alert: Alert) -> dict[str, str]:
        """Send to every channel; channel -> "told", "quiet" (below its severity) or the failure."""
        outcome: dict[str, str] = {}
        calls: dict[str, _Call] = {}
        for name, channel in self._channels.items():
            if LOUDNESS[alert.severity] < LOUDNESS[Severity(channel.at_least)]:
                outcome[name] = "quiet"
            elif self._heard(name, alert.key):
                outcome[name] = "told"
            else:
                calls[name] = _Call(self._send, channel.url, alert)
        for call in calls.values():
            call.start()  # all at once: a slow channel does not hold up the others
        for name, call in calls.items():
            call.join(self._patience)
            outcome[name] = call.outcome or f"failed: no answer within {self._patience:g} s"
            if outcome[name] == "told":
                self._remember(name, alert.key)
        return {name: outcome[name] for name in self._channels}

    def _heard(self, name: str, key: str) -> bool:
        with self._lock:
            return (name, key) in self._told

    def _remember(self, name: str, key: str) -> None:
        with self._lock:
            self._told[name, key] = None
            while len(self._told) > KEYS_KEPT * len(self._channels):
                self._told.pop(next(iter(self._told)))

    def _send(self, url: str, alert: Alert) -> str:
        if missing := [name for name in VARIABLE.findall(url) if name not in self._environment]:
            return f"failed: the environment has no {missing[0]}; set it, or mend the alerts of the spec"
        from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - a project without channels never pays for it

        full = VARIABLE.sub(lambda found: self._environment[found[1]], url)
        asset = AppriseAsset(app_id="Everfit", app_desc="Everfit", secure_logging=True)
        service = Apprise.instantiate(full, asset=asset)
        if service is None:
            return "failed: this is not a URL that Apprise knows; see its list of services"
        lines = [alert.text, *(f"{name}: {value}" for name, value in alert.details.items())]
        sender = Apprise(asset=asset)
        sender.add(service)
        sent = sender.notify(body="\n".join(lines), title=alert.title, notify_type=WORDS[alert.severity])
        return "told" if sent else "failed: the channel did not take it; check its address and token"


def channel_name(place: int, url: str) -> str:
    """Name a channel without its secrets: its kind, or the variable with its URL, and its place in the spec.

    >>> channel_name(1, "slack://token/token/#general"), channel_name(2, "${PAGER_URL}")
    ('slack-1', 'PAGER_URL-2')
    """
    if found := SCHEME.match(url):
        return f"{found[1].lower()}-{place}"
    variable = VARIABLE.match(url)
    return f"{variable[1] if variable else 'channel'}-{place}"


class _Call(threading.Thread):
    # A daemon: one that hangs in a library must not keep the process from ending.
    def __init__(self, send: _Send, url: str, alert: Alert) -> None:
        super().__init__(daemon=True, name="everfit-alert")
        self._work = (send, url, alert)
        self.outcome: str | None = None

    def run(self) -> None:
        send, url, alert = self._work
        try:
            self.outcome = send(url, alert)
        except Exception as error:  # the border to a hundred plug-ins: whatever they raise is recorded
            # The error's text may hold the URL with its secrets.
            self.outcome = f"failed: {type(error).__name__} in the channel's plug-in"
