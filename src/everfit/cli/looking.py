"""The commands that look at files without a project: `profile` and `compare`.

Takes names of files; gives an exit code; never holds a rule: each is a few lines over `everfit.app.looking`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everfit.cli import say
from everfit.cli.commands import cli
from everfit.errors import Refused, UsageError

SOURCES = "A file (Parquet, CSV, Arrow, JSON lines), a glob, a Delta table"
STDOUT = "-"
JsonFile = Annotated[str | None, typer.Option("--json", help="Write JSON to this file; - prints it.")]


@cli.command()
def profile(
    file: Annotated[str, typer.Argument(help=f"{SOURCES}.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where the profile is written.")] = None,
    like: Annotated[
        Path | None, typer.Option(help="A stored profile on whose bins the rows are counted, to be compared with it.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """What do the columns of a file hold? Written with -o, it can stand for the file in `compare`."""
    from everfit.app.looking import profile_file, stored_profile, told_profile

    known = None if like is None else stored_profile(str(like))
    if like is not None and known is None:
        raise Refused(f"{like}: not a stored profile; write one with `everfit profile FILE -o {like}`")
    found = profile_file(file, known)
    if out is not None:
        _write(out, found.to_bytes())
    told = told_profile(found)
    if json is None:
        say.profiled(told, None if out is None else str(out))
    else:
        _tell(told, json)


@cli.command()
def compare(
    reference: Annotated[str, typer.Argument(help=f"What is usual: {SOURCES[0].lower()}{SOURCES[1:]}, a profile.")],
    current: Annotated[str, typer.Argument(help="What is looked at: the same.")],
    by: Annotated[str | None, typer.Option(help="Compare within each value of this column, too.")] = None,
    alpha: Annotated[float, typer.Option(help="Chance of any false drift alarm in the whole table.")] = 0.01,
    json: JsonFile = None,
    html: Annotated[Path | None, typer.Option(help="Write a page that opens anywhere.")] = None,
) -> None:
    """How unlike are two files? Exit code 1 when they drifted apart, 2 when they cannot be compared."""
    from everfit.app.looking import compare_files

    try:
        found = compare_files(reference, current, alpha=alpha, by=by, pictures=html is not None)
    except Refused as error:
        raise UsageError(str(error)) from error
    told = {"reference": reference, "current": current, "alpha": alpha, **found.to_dict()}
    if html is not None:
        from everfit.replay.compared import render

        _write(html, render(found, reference, current, alpha).encode())
    if json is None:
        say.compared(told)
    else:
        _tell(told, json)
    if found.verdict == "drift":
        raise typer.Exit(1)


def _tell(told: dict[str, object], where: str) -> None:
    if where == STDOUT:
        say.as_json(told)
        return
    _write(Path(where), say.json_text(told).encode())


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise Refused(f"{path}: cannot be written ({error.strerror or error}); name a folder that exists") from error
