"""The command that serves one published model away from its project: `serve-model`.

Takes a folder and an address; gives a server until it is told to stop; never holds a rule: it is a few lines over
`everfit.app.lone`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from everfit.cli.commands import HERE, cli


@cli.command("serve-model")
def serve_model(
    folder: Annotated[Path, typer.Argument(help="A model's folder as Everfit published it to a gateway.")],
    events: Annotated[str | None, typer.Option(help="The project's server: it gets the rows (EVERFIT_EVENTS).")] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on (EVERFIT_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Its port (EVERFIT_PORT); 0: any free one.")] = None,
) -> None:
    """Serve one published model where Everfit does not run: in a pod, a container, or behind a proxy."""
    from everfit.adapters import telemetry
    from everfit.app.lone import serve_published
    from everfit.settings import settings_for

    asked = {"EVERFIT_EVENTS": events, "EVERFIT_HOST": host, "EVERFIT_PORT": port}
    said = {name: str(value) for name, value in asked.items() if value is not None}
    settings = settings_for(HERE, {**os.environ, **said})
    telemetry.configure(settings.log)
    serve_published(folder, settings)
