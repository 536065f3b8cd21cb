"""What people say to a release: `plan`, `promote`, `abort`, `recall`.

Takes words; gives what will happen or what was done; never holds a rule: it is a few lines over `everfit.app`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from everfit.cli import say
from everfit.cli.commands import HERE, Folder, Json, Why, cli, done, open_folder


@cli.command()
def plan(
    model: Annotated[
        str | None, typer.Argument(help="Another model of the same ledger; default: the folder's.")
    ] = None,
    folder: Folder = HERE,
    json: Json = False,
) -> None:
    """What the next release would do, or where the one under way is and what comes next."""
    from everfit.app import releases

    told = releases.plan(open_folder(folder), model)
    say.as_json(told) if json else say.plan(told)


@cli.command()
def promote(
    full: Annotated[bool, typer.Option("--full", help="Go to all traffic, past every step before it.")] = False,
    folder: Folder = HERE,
    why: Why = "",
    json: Json = False,
) -> None:
    """Skip the present wait of a release and go on to its next step."""
    from everfit.app import releases, steering

    app = open_folder(folder)
    going = steering.promote(app, why, full=full)
    version = going.plan.version
    over, following = releases.skipped(app, going)
    following = "all traffic, past every step before it" if full else following
    told = {"run": going.story.run, "version": version, "full": full, "over": over, "next": following}
    done(told, f"version {version} skips the rest of {over}; next: {following}", as_json=json)


@cli.command()
def abort(folder: Folder = HERE, why: Why = "", json: Json = False) -> None:
    """End a release under way; the champion alone answers again, now."""
    from everfit.app import steering

    left, to = steering.abort(open_folder(folder), why)
    done({"from": left, "to": to}, f"aborted: version {to} alone answers, version {left} is taken back", as_json=json)


@cli.command()
def recall(
    version: Annotated[str, typer.Argument(help="A kept version, such as 3 or v3; `everfit bench` shows them.")],
    folder: Folder = HERE,
    why: Why = "",
    json: Json = False,
) -> None:
    """Let a kept version serve again: it is released step by step, and the guard may take it back."""
    from everfit.app import steering

    recalled = steering.recall(open_folder(folder), version, why)
    told = {"run": recalled.run, "version": recalled.kept.version, "judged_first": recalled.is_judged_first}
    follows = "it was never judged and is judged first" if recalled.is_judged_first else "a worker begins its release"
    done(told, f"version {told['version']} is recalled; {follows}; `everfit plan` shows it", as_json=json)
