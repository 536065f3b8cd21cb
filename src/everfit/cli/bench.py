"""The command that shows the bench: `everfit bench`.

Takes the name of a model; gives a table, sentences or JSON; never holds a rule: it is a few lines over
`everfit.app.bench`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from everfit.cli import say
from everfit.cli.commands import HERE, Folder, Json, cli, open_folder

COLUMNS = ("version", "state", "rows", "until", "windows", "last 5", "points", "")


@cli.command()
def bench(
    model: Annotated[
        str | None, typer.Argument(help="Another model of the same ledger; default: the folder's.")
    ] = None,
    folder: Folder = HERE,
    json: Json = False,
) -> None:
    """Every kept model with its recent scores: who serves, who would serve, and what waits for what."""
    from everfit.app import bench as views

    told = views.bench(open_folder(folder), model)
    if json:
        say.as_json(told)
    else:
        show(told)


def show(told: dict[str, Any]) -> None:
    """Print a bench for people."""
    for each in _about(told):
        say.line(each)
    say.table(COLUMNS, (_row(each) for each in told["models"]))
    for each in _policy(told):
        say.line(each)


def _about(told: dict[str, Any]) -> Iterator[str]:
    if told["policy"] is None:
        yield f"{told['model']}: no window of the bench has mature labels yet"
    else:
        yield f"{told['model']}: {told['metric']} up to bench window {told['window']}; points are against who serves"
    if told["every"] is not None:
        many = "one window" if told["every"] == 1 else f"{told['every']} windows"
        yield f"a bench window is {many} of the watch; {told['scored']} scored, {told['waiting']} wait for their labels"


def _row(each: dict[str, Any]) -> list[str]:
    marks = (("serves", each["serves"]), ("would serve", each["would_serve"] and not each["serves"]))
    return [
        f"v{each['version']}" if each["version"] else "",
        each["state"].replace("_", " "),
        f"{each['rows']:,} {each['range'] or ''}".rstrip(),
        each["trained_until"][:10],
        str(each["windows"]),
        "" if each["recent"] is None else f"{each['recent']:.4g}",
        "" if each["value"] is None or each["serves"] else f"{each['value']:+.2f}",
        "".join(word for word, true in marks if true),
    ]


def _policy(told: dict[str, Any]) -> Iterator[str]:
    yield from (f"v{each['version']} is not recalled: {each['barred']}" for each in told["models"] if each["barred"])
    policy = told["policy"]
    if policy is not None:
        yield policy["serve"]
        yield policy["train"] or (
            f"no run is asked for: {policy['since']} windows since the last run, the interval is {policy['interval']:g}"
        )
        yield from policy["because"]
        yield f"budget: {policy['budget']:g} runs saved of at most {policy['saved']:g}"
        fallen = policy["fall"]
        yield (
            "fall: no level to hold the score against yet" if fallen is None else
            f"fall: {fallen['lost']:.1f} of {fallen['line']:.1f} point-windows below a level of {fallen['level']:.4g}"
        )  # fmt: skip
        if policy["leader"] is not None:
            better = abs(policy["all_over_recent"])
            yield (
                f"leading rows: {policy['leader']}, by {better:.2f} points at equal age; a window of age costs "
                f"{policy['per_window']:.2f} points"
            )
    if told["running"]:
        yield f"running: {', '.join(told['running'])}"
    if told["paused"]:
        yield "paused: nothing is trained and nothing recalled until `everfit resume`"
