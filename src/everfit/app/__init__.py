"""The only wiring of adapters: one project folder as an `App`, and what people do with it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everfit.app.wiring import App, open_app

__all__ = ["App", "open_app"]


def __getattr__(name: str) -> Any:
    """Import on first use: `everfit compare` needs no project, and the wiring takes a second to import."""
    if name not in __all__:
        raise AttributeError(f"module 'everfit.app' has no attribute {name!r}")
    return getattr(import_module("everfit.app.wiring"), name)
