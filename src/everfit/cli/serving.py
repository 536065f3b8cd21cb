"""The command that only serves: `serve`.

Takes folders and an address; gives a server until it is told to stop; never holds a rule: it is a few lines over
`everfit.app.serving`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from everfit.cli import say
from everfit.cli.commands import HERE, cli

Workers = Annotated[int | None, typer.Option(help="Server processes that share the port (EVERFIT_WORKERS).")]


@cli.command()
def serve(
    folders: Annotated[list[Path] | None, typer.Argument(help="Project folders; each model keeps its own.")] = None,
    workers: Workers = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on (EVERFIT_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Its port (EVERFIT_PORT); 0: any free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Offer v2 by gRPC here too (EVERFIT_GRPC_PORT).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Serve the models of one folder or several on one address; control and workers run elsewhere."""
    from everfit.adapters import telemetry
    from everfit.app import open_app
    from everfit.app.serving import serve as run

    # Children read the same environment.
    asked = {"WORKERS": workers, "HOST": host, "PORT": port, "GRPC_PORT": grpc_port}
    os.environ.update({f"EVERFIT_{name}": str(value) for name, value in asked.items() if value is not None})
    chosen = folders or [HERE]
    apps = [open_app(folder) for folder in chosen]
    telemetry.configure(apps[0].settings.log)
    run(apps, chosen, say.said_as_json if json else say.line)
