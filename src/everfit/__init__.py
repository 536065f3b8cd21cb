"""Everfit keeps deployed machine-learning models fit.

The front door: what a user's code needs. Everything else is reached through the command line, HTTP or the spec file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from everfit.errors import EverfitError

if TYPE_CHECKING:
    from everfit.adapters.boosting import gradient_boosting
    from everfit.client import Client, connect

__version__ = "0.1.0"
__all__ = ["Client", "EverfitError", "__version__", "connect", "gradient_boosting"]

_ROOMS = {
    "Client": "everfit.client",
    "connect": "everfit.client",
    "gradient_boosting": "everfit.adapters.boosting",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a short command must not wait for what it does not need."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'everfit' has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)
