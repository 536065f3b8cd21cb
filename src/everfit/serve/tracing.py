"""What the server tells of a request's way, for whoever follows requests through several systems.

Takes nothing; gives the protocols of a tracer, which an adapter fills; never slows a request where there is none.
"""

from __future__ import annotations

from typing import Protocol


class Trace(Protocol):
    """One request on its way. All moments are `clock.ticks`."""

    def step(self, name: str, began: float, ended: float) -> None:
        """A part of the way."""
        ...

    def end(self, status: int) -> None:
        """The answer's HTTP status; call it once."""
        ...


class Tracer(Protocol):
    """Begins traces. Called in the event loop; sending belongs to a thread of its own."""

    def begin(self, route: str, parent: str, began: float) -> Trace:
        """A request came; `parent` is its W3C `traceparent`, empty if it brought none."""
        ...

    def close(self) -> None:
        """Send what waits, and end."""
        ...
