"""Every command of `everfit`.

Takes words; gives an exit code; never holds a rule: each command is a few lines over `everfit.app`. Heavy parts are
imported inside the commands that need them, so that `everfit --help` is instant.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from everfit import __version__
from everfit.cli import say
from everfit.errors import EverfitError, SpecError, UsageError

cli = typer.Typer(
    name="everfit", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Keeps deployed machine-learning models fit.",
)  # fmt: skip
audit = typer.Typer(no_args_is_help=True, help="Check or print the ledger.")
cli.add_typer(audit, name="audit")

Folder = Annotated[Path, typer.Option("--dir", "-C", help="The project folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for the ledger.")]
HERE = Path()


def main() -> None:
    """Run the command line."""
    try:
        cli()
    except (SpecError, UsageError) as error:
        say.err.print(f"everfit: {error}", markup=False)
        sys.exit(2)
    except EverfitError as error:
        say.err.print(f"everfit: {error}", markup=False)
        sys.exit(1)


def open_folder(folder: Path) -> Any:
    """The app of a project folder, with its log."""
    from everfit.adapters import telemetry
    from everfit.app import open_app

    app = open_app(folder)
    telemetry.configure(app.settings.log)
    return app


def done(told: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    """Say what was done, in JSON or in a sentence."""
    if as_json:
        say.as_json(told)
    else:
        say.line(sentence)


@cli.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to begin; made if it is missing.")],
    data: Annotated[Path | None, typer.Option(help="A Parquet or CSV file of labelled rows.")] = None,
    time: Annotated[str | None, typer.Option(help="Its column with the event time.")] = None,
    target: Annotated[str | None, typer.Option(help="Its column to predict.")] = None,
    id: Annotated[str | None, typer.Option(help="Its column that names an event.")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name; default: the file's.")] = None,
    task: Annotated[
        str | None, typer.Option(help="binary, multiclass or regression; default: told by the target.")
    ] = None,
    from_backtest: Annotated[
        Path | None, typer.Option(help="Instead: the JSON of `everfit backtest`; its recommended spec is taken.")
    ] = None,
    json: Json = False,
) -> None:
    """Begin a project from a file of data, or from what a backtest recommends."""
    from everfit.app.project import Wanted, begin, begin_from

    if from_backtest is not None:
        if extra := [name for name, given in (("--id", id), ("--model", model), ("--task", task)) if given]:
            raise UsageError(f"{extra[0]} and --from-backtest do not go together; edit everfit.yaml afterwards")
        begun = begin_from(folder, from_backtest, data, time)
    elif data is None or time is None or target is None:
        raise UsageError("name --data, --time and --target, or the answer of a backtest: --from-backtest FILE.json")
    else:
        begun = begin(folder, Wanted(data, time, target, id, model, task))
    told = {"spec": str(begun.spec), "task": begun.task, "rows": begun.rows, "said": list(begun.said)}
    following = f"next: everfit check -C {folder} && everfit up {folder}"
    done(told, f"wrote {begun.spec} ({begun.task}): {'; '.join(begun.said)}\n{following}", as_json=json)


@cli.command()
def check(folder: Folder = HERE, json: Json = False) -> None:
    """Look at everything that can be wrong before a run."""
    from everfit.app.project import check as look

    found = look(open_folder(folder))
    if json:
        say.as_json([{"what": each.what, "ok": each.ok, "said": each.said} for each in found])
    else:
        say.table(("", "what", ""), (("ok" if each.ok else "NO", each.what, each.said) for each in found))
    if not all(each.ok for each in found):
        raise typer.Exit(1)


@cli.command()
def up(
    folder: Annotated[Path, typer.Argument(help="The project folder.")] = HERE,
    role: Annotated[str, typer.Option(help="Which parts to run: server, control, worker, comma separated.")] = "",
    clock: Annotated[str, typer.Option(help="wall, or events: the events' watermark is the time.")] = "wall",
    workers: Annotated[int | None, typer.Option(help="Server processes that share the port (EVERFIT_WORKERS).")] = None,
    json: Json = False,
    child: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run everything: intake and model server, control loop, worker."""
    from everfit.app.up import ROLES, run_role
    from everfit.app.up import up as run

    if workers is not None:
        os.environ["EVERFIT_WORKERS"] = str(workers)  # children read the same environment
    app = open_folder(folder)
    if child:
        run_role(app, role)
        return
    if clock not in ("wall", "events"):
        raise UsageError(f"--clock {clock!r}: write wall or events")
    roles = tuple(role.split(",")) if role else ROLES
    if unknown := set(roles) - set(ROLES):
        raise UsageError(f"--role {min(unknown)!r} is not a role; roles: {', '.join(ROLES)}")
    app.use_clock(events=clock == "events")
    run(app, roles, say.said_as_json if json else say.line)


@cli.command()
def status(folder: Folder = HERE, json: Json = False) -> None:
    """Where the model stands."""
    from everfit.app import views

    told = views.status(open_folder(folder))
    say.as_json(told) if json else say.status(told)


@cli.command()
def history(
    folder: Folder = HERE,
    last: Annotated[int, typer.Option(help="Only so many of the newest entries; 0: all.")] = 0,
    json: Json = False,
) -> None:
    """What happened, in order."""
    from everfit.app import views

    told = views.history(open_folder(folder))
    told["entries"] = told["entries"][-last:]
    say.as_json(told) if json else say.history(told)


@cli.command()
def explain(
    what: Annotated[
        str | None,
        typer.Argument(
            help="A decision's number (412), a version (v3), a candidate, a run; default: the last decision."
        ),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Take the decision again from the ledger and the rows of its day.")
    ] = False,
    folder: Folder = HERE,
    json: Json = False,
) -> None:
    """Why something happened. With --replay: does the same decision come again? Exit code 1 when it does not."""
    from everfit.app import explain as why

    app = open_folder(folder)
    told = why.explain(app, what)
    if not replay:
        say.as_json(told) if json else say.explained(told)
        return
    again = why.rerun(app, what)
    told |= {"agrees": again.agrees, "replay": list(again.said)}
    say.as_json(told) if json else say.explained(told)
    if not again.agrees:
        raise typer.Exit(1)


@cli.command()
def retrain(folder: Folder = HERE, why: Why = "", json: Json = False) -> None:
    """Ask for a training run, whatever the triggers say."""
    from everfit.app import people

    fact = people.ask_retrain(open_folder(folder), why)
    done(
        {"asked": fact.key},
        "asked for a training run; `everfit status` shows it when it begins",
        as_json=json,
    )


@cli.command()
def approve(
    question: Annotated[
        str | None, typer.Argument(help="The question; may be left away when only one is open.")
    ] = None,
    folder: Folder = HERE,
    why: Why = "",
    json: Json = False,
) -> None:
    """Say yes to a question."""
    _answer(folder, question, why, approved=True, as_json=json)


@cli.command()
def reject(
    question: Annotated[
        str | None, typer.Argument(help="The question; may be left away when only one is open.")
    ] = None,
    folder: Folder = HERE,
    why: Why = "",
    json: Json = False,
) -> None:
    """Say no to a question."""
    _answer(folder, question, why, approved=False, as_json=json)


def _answer(folder: Path, question: str | None, why: str, *, approved: bool, as_json: bool) -> None:
    from everfit.app import people

    key, about = people.answer(open_folder(folder), question, why, approved=approved)
    word = "approved" if approved else "rejected"
    done({"question": key, "approved": approved}, f"{word}: {about}", as_json=as_json)


@cli.command()
def rollback(folder: Folder = HERE, why: Why = "", json: Json = False) -> None:
    """Go back, now: to the previous champion, or from a challenger that is tried to the champion alone."""
    from everfit.app import steering

    left, to = steering.roll_back(open_folder(folder), why)
    told = {"from": left.version, "to": to.version}
    done(told, f"rolled back from version {left.version} to version {to.version}; it serves now", as_json=json)


@cli.command()
def dismiss(
    window: Annotated[
        str | None,
        typer.Argument(help="When the window began, such as 2026-11-27T00:00; default: the last that alarmed."),
    ] = None,
    folder: Folder = HERE,
    why: Why = "",
    json: Json = False,
) -> None:
    """Say that a window which alarmed for drift was benign."""
    from everfit.app import people

    fact = people.dismiss(open_folder(folder), people.moment(window), why)
    done({"window": str(fact.window)}, f"dismissed {fact.window}: it is usual from here on", as_json=json)


@cli.command()
def pause(folder: Folder = HERE, why: Why = "", json: Json = False) -> None:
    """Start nothing until resumed; a release under way stays at its step, and may still be taken back."""
    from everfit.app import people

    people.pause(open_folder(folder), why)
    done({"paused": True}, "paused: windows are still measured, nothing is started", as_json=json)


@cli.command()
def resume(folder: Folder = HERE, why: Why = "", json: Json = False) -> None:
    """Let decisions count again."""
    from everfit.app import people

    people.resume(open_folder(folder), why)
    done({"paused": False}, "resumed", as_json=json)


@cli.command()
def event(
    name: Annotated[str, typer.Argument(help="The event's name, as triggers call it.")],
    key: Annotated[str | None, typer.Option(help="Names this occurrence: the same key is heard once.")] = None,
    folder: Folder = HERE,
    json: Json = False,
) -> None:
    """Tell of an outside event."""
    from everfit.app import people

    fact = people.hear(open_folder(folder), name, key)
    done({"event": name, "key": fact.key}, f"heard {name}", as_json=json)


@cli.command()
def ingest(
    file: Annotated[Path, typer.Argument(help="A Parquet, CSV or Arrow file.")],
    meaning: Annotated[str, typer.Option("--as", help="auto, history, predictions or labels.")] = "auto",
    folder: Folder = HERE,
    json: Json = False,
) -> None:
    """Take the rows of a file."""
    from everfit.adapters.sources import source_file
    from everfit.app.files import bring_file

    app = open_folder(folder)
    brought = bring_file(source_file(file), app.receiving, meaning)
    told = {"predictions": brought.predictions, "labels": brought.labels, "refused": brought.refused,
            "reasons": brought.reasons, "number": brought.number}  # fmt: skip
    refused = "".join(f"\nrefused {count:,}: {reason}" for reason, count in brought.reasons.items())
    done(told, f"took {brought.predictions:,} predictions and {brought.labels:,} labels{refused}", as_json=json)
    if not brought.number:
        raise typer.Exit(1)


@audit.command()
def verify(folder: Folder = HERE, json: Json = False) -> None:
    """Check the hash chain of the ledger."""
    from everfit.ledger import verify as check_chain

    app = open_folder(folder)
    entries = app.store.read(app.spec.model)
    check_chain(entries)
    told = {"entries": len(entries), "hash": entries[-1].hash if entries else None}
    done(told, f"{len(entries):,} entries hold; the last hash is {told['hash']}", as_json=json)


@audit.command("log")
def log_(folder: Folder = HERE, json: Json = False) -> None:
    """Print every entry of the ledger as JSON lines, with or without --json."""
    import json as text

    del json
    app = open_folder(folder)
    for entry in app.store.read(app.spec.model):
        fields = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
        sys.stdout.write(text.dumps(fields, default=str) + "\n")


@cli.command()
def schema(json: Json = False) -> None:
    """Print the JSON Schema of the spec file, with or without --json."""
    del json
    from everfit.spec import json_schema

    say.as_json(json_schema())


@cli.command()
def version(json: Json = False) -> None:
    """Print the version."""
    done({"version": __version__}, __version__, as_json=json)


@cli.command()
def demo(
    days: Annotated[int, typer.Option(help="Days to replay after January; 334 is the rest of the year.")] = 334,
    folder: Annotated[Path, typer.Option("--dir", "-C", help="A folder of its own for the demo.")] = Path(
        "everfit-demo"
    ),
    json: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
) -> None:
    """Keep a model fit over a year of real flights."""
    from everfit.demo.run import run

    run(folder, days=days, json_file=json)
