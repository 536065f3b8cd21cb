"""The only wiring of adapters: one project folder as an `App`, and what people do with it."""

from everfit.app.wiring import App, open_app

__all__ = ["App", "open_app"]
