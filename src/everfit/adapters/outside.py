"""What gateways beside our own model server share: causes that count once, fences, and the last word.

Takes routes and a `Remote` that moves traffic; gives a gateway whose words are kept in a folder of this project; never
knows which remote it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.published import Published, write_published
from everfit.clock import ticks
from everfit.errors import Conflict, ModelUnusable, UsageError
from everfit.ports import Can, Route, check_can, check_trial
from everfit.retrain.candidate import Candidate

Still = Callable[[], bool]


class Remote(Protocol):
    """What moves traffic outside. Every verb may be repeated; the same call twice is once."""

    can: frozenset[Can]
    pace: float  # seconds between two questions whether it follows
    patience: float  # seconds that it may take to follow

    def publish(self, candidate: Candidate, version: int, folder: Path) -> None:
        """Bring a model's files to where it is loaded from."""
        ...

    def point(self, model: str, route: Route, still: Still) -> None:
        """Begin to follow a route; nothing is written once `still` says no.

        Raises:
            ModelUnusable: it will not; nothing was changed.
            Unavailable: it does not answer.
        """
        ...

    def confirmed(self, model: str, route: Route, still: Still) -> bool:
        """Whether it follows the route; where that takes several steps, this takes the next.

        Raises:
            ModelUnusable: a model of the route cannot be loaded, in its own words.
        """
        ...

    def withdraw(self, model: str, candidate: str) -> None:
        """Remove a model's files, unless they are loaded."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    key: str
    said: bool
    at: float  # ticks


class OutsideGateway:
    """Implements `everfit.ports.Gateway`: the word on where traffic goes is a file, and a remote follows it.

    The file is written first and under a lock, so causes count once and fences hold whatever the remote can keep; the
    remote is then brought to the newest word, also when somebody else spoke meanwhile. Threads and processes may share
    it.
    """

    def __init__(
        self, words: FolderGateway, near: FolderGateway, remote: Remote, told: Published | None = None
    ) -> None:
        self._words = words  # what was told
        self._told = told  # written beside each model's files, for servers elsewhere
        self._near = near  # the intake servers of this machine, for people to see
        self._remote = remote
        self._asked: dict[str, _Asked] = {}

    @property
    def can(self) -> frozenset[Can]:
        """What the remote can do beside sending all traffic to one model."""
        return self._remote.can

    @property
    def patience(self) -> float:
        """Seconds that a change of the route may take."""
        return self._remote.patience

    def publish(self, candidate: Candidate, version: int, folder: Path) -> None:
        """Bring a model's files to where the remote loads them; twice is once.

        Raises:
            ModelUnusable: the folder holds no model, or the remote refuses it.
            Unavailable: the remote does not answer.
        """
        copy = self._words.take(candidate.id, folder)
        if self._told is not None:
            write_published(copy, self._told.of(candidate.id, version))
        self._remote.publish(candidate, version, copy)

    def point(self, model: str, route: Route, *, after: str | None = None) -> None:
        """Send traffic to published models, as far as the remote can.

        Raises:
            ModelUnusable: a model was not published or is refused, or another cause came after this one.
            Conflict: another key than `after` is live, or the key pointed to something else before.
            UsageError: the trial is out of bounds, or more than this gateway can do.
        """
        check_trial(route)
        if route.trial is not None:
            check_can(self.can, weight=route.trial.weight, mirror=route.trial.mirror)
        before = self._words.live(model)
        self._words.point(model, route, after=after)
        try:
            last = self._tell(model, route)
        except (ModelUnusable, UsageError):
            self._take_back(model, route, before)
            raise
        if last.key != route.key:
            raise ModelUnusable(f"{route.key} pointed, and {last.key} has pointed elsewhere meanwhile; that stands")

    def live(self, model: str) -> Route | None:
        """Where traffic was last told to go."""
        return self._words.live(model)

    def confirmed(self, model: str) -> bool:
        """Whether the remote follows the live route; it is asked at most once each `pace`.

        Raises:
            ModelUnusable: a model of the route cannot be loaded, in the remote's words.
        """
        route = self._words.live(model)
        if route is None:
            return True
        asked = self._asked.get(model)
        if asked and asked.key == route.key and ticks() < asked.at + self._remote.pace:
            return asked.said
        said = self._remote.confirmed(model, route, self._still(model, route))
        self._asked[model] = _Asked(route.key, said, ticks())
        return said

    def servers(self, model: str) -> list[dict[str, Any]]:
        """The servers of this machine: they take labels and events; the remote answers requests."""
        return [{**server, "elsewhere": True} for server in self._near.servers(model)]

    def withdraw(self, model: str, candidate: str) -> None:
        """Remove a published model; nothing happens when it is live, tried or unknown."""
        live = self._words.live(model)
        if live and candidate in {live.candidate, live.trial.candidate if live.trial else None}:
            return
        self._words.withdraw(model, candidate)
        self._remote.withdraw(model, candidate)

    def _still(self, model: str, route: Route) -> Still:
        def still() -> bool:
            live = self._words.live(model)
            return live is not None and live.key == route.key

        return still

    def _tell(self, model: str, route: Route) -> Route:
        """Tell the remote the newest word; who was overtaken tells it the newer one too, so that the last one wins."""
        while True:
            self._remote.point(model, route, self._still(model, route))
            now = self._words.live(model) or route
            if now.key == route.key:
                return route
            route = now

    def _take_back(self, model: str, route: Route, before: Route | None) -> None:
        """The remote refused and changed nothing: the word is the one before again, unless somebody else spoke."""
        if before is not None and before.key != route.key:
            with suppress(Conflict, ModelUnusable):
                self._words.point(model, replace(before, key=f"{route.key}-refused"), after=route.key)


# ---- settings --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Address:
    """A gateway's setting, taken apart."""

    scheme: str
    place: str  # namespace or endpoint
    options: Mapping[str, str]


def read_address(setting: str, needed: tuple[str, ...], allowed: tuple[str, ...]) -> Address:
    """Take `scheme://place?option=value` apart.

    >>> read_address("kserve://ml?store=s3://b/m", ("store",), ("runtime",)).options
    {'store': 's3://b/m'}

    Raises:
        UsageError: the place or a needed option is missing, or an option is unknown.
    """
    parts = urlsplit(setting)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = ", ".join((*needed, *allowed))
    if not parts.netloc:
        raise UsageError(f"EVERFIT_GATEWAY={setting!r} names no place; write {parts.scheme}://PLACE?{needed[0]}=...")
    if missing := [name for name in needed if not options.get(name)]:
        raise UsageError(f"EVERFIT_GATEWAY: {parts.scheme} needs {missing[0]}=...; its options are {known}")
    if unknown := sorted(set(options) - {*needed, *allowed}):
        raise UsageError(f"EVERFIT_GATEWAY: {parts.scheme} has no option {unknown[0]!r}; its options are {known}")
    return Address(parts.scheme, parts.netloc, options)


def read_can(text: str) -> frozenset[Can]:
    """What a command or webhook was said to be able to do: `split`, `mirror`, both or nothing.

    >>> sorted(read_can("split, mirror"))
    [<Can.MIRROR: 'mirror'>, <Can.SPLIT: 'split'>]

    Raises:
        UsageError: a word that is neither.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if wrong := [word for word in words if word not in set(Can)]:
        raise UsageError(f"EVERFIT_GATEWAY_CAN={text!r}: {wrong[0]!r} is neither split nor mirror")
    return frozenset(Can(word) for word in words)
