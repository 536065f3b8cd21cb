"""The command `everfit backtest`: a file of history in, the advice out.

Takes names of files and wishes; gives a table, JSON, a page and an exit code; never holds a rule: it is a few lines
over `everfit.app.backtest`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from everfit.cli import say
from everfit.cli.commands import cli
from everfit.cli.looking import SOURCES, STDOUT
from everfit.errors import Refused, UsageError

if TYPE_CHECKING:
    from everfit.adapters.pool import Progress as Done
    from everfit.app.backtest import Plan
    from everfit.replay.record import Backtest

STOPPED = 128 + signal.SIGINT  # exit code of what Ctrl-C ended, as shells have it
Many = list[str] | None
CACHE = Path(".everfit/backtest")
Price = Annotated[float | None, typer.Option(min=0, help="What one training run costs, in your money.")]


@cli.command()
def backtest(
    data: Annotated[list[str], typer.Argument(help=f"{SOURCES}; several are one history.")],
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    time: Annotated[
        str | None, typer.Option(help="The column that orders the rows: times, dates or whole numbers.")
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="An everfit.yaml: columns, trainer, metric, delay, window.")] = None,
    windows: Annotated[int | None, typer.Option(min=1, help="So many windows of equal rows; default: 100.")] = None,
    window: Annotated[str | None, typer.Option(help="Or windows of this length, such as 7d.")] = None,
    label_delay: Annotated[
        str | None, typer.Option(help="How late labels come: 2 is two windows, 3d three days; default: 0.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What good means; default: the task's.")] = None,
    task: Annotated[str | None, typer.Option(help="binary, multiclass or regression; default: by the target.")] = None,
    trainer: Annotated[str | None, typer.Option(help="module:function in this folder; default: boosted trees.")] = None,
    policies: Annotated[str | None, typer.Option(help="Some only, such as everfit,never,every7.")] = None,
    policy: Annotated[list[Path] | None, typer.Option(help="A policy of your own in a YAML file.")] = None,
    exclude: Annotated[Many, typer.Option(help="A column that is no feature.")] = None,
    slices: Annotated[str | None, typer.Option(help="A column whose values are told apart.")] = None,
    cost_per_retrain: Price = None,
    cost_per_error: Annotated[float | None, typer.Option(min=0, help="What one wrong answer costs.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Only so many of the newest rows.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Models trained at a time; default: one a core.")] = None,
    cache: Annotated[Path, typer.Option(help="Where models are kept; none is trained twice.")] = CACHE,
    json: Annotated[str | None, typer.Option("--json", help="Write JSON to this file; - prints it.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page that opens anywhere.")] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors, and what --json - prints.")
    ] = False,
) -> None:
    """What would each policy have done for this model, and which one should it have?"""
    from everfit.app.backtest import Asked, carry_out, plan

    _writable(json, html)
    asked = Asked(
        tuple(data),
        cache,
        target=target,
        time=time,
        window=_one("--windows", windows, "--window", window),
        label_delay=label_delay,
        metric=metric,
        task=task,
        trainer=trainer,
        policies=policies,
        files=tuple(policy or ()),
        exclude=tuple(exclude or ()),
        slices=slices,
        costs=(cost_per_retrain, cost_per_error),
        rows=rows,
        jobs=jobs,
    )
    planned = plan(asked, spec)
    for line in () if quiet else planned.said:
        say.err.print(line, markup=False)
    try:
        with _progress(planned, quiet=quiet) as tell:
            found = carry_out(planned, tell)
    except KeyboardInterrupt:
        say.err.print(
            f"stopped; what was trained is kept in {planned.options.cache}: the same command goes on from there"
        )
        raise typer.Exit(STOPPED) from None
    _answer(planned, found, (json, html), quiet=quiet)


def _one(one: str, first: Any, other: str, second: Any) -> Any:
    """The one of two options that exclude each other."""
    if first is not None and second is not None:
        raise UsageError(f"{one} and {other} do not go together; give one of them")
    return second if first is None else first


def _writable(json: str | None, html: Path | None) -> None:
    """See before the work that its answer can be written."""
    for option, path in (("--json", None if json in (None, STDOUT) else Path(str(json))), ("--html", html)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UsageError(f"{option} {path}: cannot be written; name a file in a folder that exists")


@contextmanager
def _progress(planned: Plan, *, quiet: bool) -> Iterator[Callable[[Done], None]]:
    """A bar with the time that is left, on a terminal."""
    if quiet or not say.err.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("training models"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=say.err, transient=True) as bar:
        shown = bar.add_task("", total=None, left="")

        def tell(done: Done) -> None:
            left = _left(done.left) if done.done < done.wanted else "playing the policies"
            bar.update(shown, total=done.wanted, completed=done.done, left=left)

        yield tell


def _left(seconds: float) -> str:
    """How long it will take, as coarse as it is known.

    >>> _left(4), _left(95), _left(4000)
    ('a few seconds left', '2 min left', '1.1 h left')
    """
    if seconds < 10:
        return "a few seconds left"
    if seconds < 60:
        return f"{10 * round(seconds / 10)} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 3600 else f"{seconds / 3600:.1f} h left"


def _answer(planned: Plan, found: Backtest, to: tuple[str | None, Path | None], *, quiet: bool) -> None:
    """Tell the answer: a table and sentences, JSON, a page."""
    from everfit.app.backtest import told
    from everfit.replay.backtested import render

    json, html = to
    if html is not None:
        title = f"Backtest of {', '.join(Path(name).name for name in planned.asked.data)}"
        _write(html, render(found, title, planned.said, planned.options.slices or ""))
    if json is not None and json != STDOUT:
        _write(Path(json), say.json_text(told(planned, found)))
    if json == STDOUT:
        say.as_json(told(planned, found))
    elif not quiet:
        _shown(found, planned.said)
        for path in filter(None, (json, html)):
            say.line(f"wrote {path}")
        if json is not None:
            say.line(f"next: everfit init FOLDER --from-backtest {json}")
        elif html is None:
            say.line(
                "the spec that does this: the same command with --json FILE or --html FILE, which trains nothing anew"
            )


def _shown(found: Backtest, before: tuple[str, ...]) -> None:
    """The answer in about twenty lines; remarks that were made before are not made again."""
    from everfit.replay.saying import advice_of, hindsight_of, money_of, percent, points, ranked

    priced = any(money_of(each) for each in found.policies)
    heads = ("", "policy", "score", "gain", "runs", "share", "rows", "seconds", *(["cost"] if priced else []))
    rows = []
    for each in ranked(found):
        played, mark = each.played, "->" if each.name == found.advice.policy else ""
        cells = (mark, each.name, points(each.score), percent(each.gain), str(played.runs), percent(each.share))
        rows.append((*cells, f"{played.rows:,}", f"{played.seconds:.1f}", *([money_of(each)] if priced else [])))
    rows += [("", each.name, *[points(None)] * (len(heads) - 2)) for each in found.unplayed]
    blank = [""] * (len(heads) - 5)
    for best in found.oracle[-1:]:
        between = f"{points(best.score)} to {points(best.at_most)}"
        rows.append(("", "hindsight", between, "", str(best.retrains), *blank))
    say.table(heads, rows, heads[2:])
    say.line("-> recommended; hindsight: the best schedule, found when all was known")
    say.line("")
    for sentence in advice_of(found):
        say.line(sentence)
    for sentence in hindsight_of(found):
        say.line(sentence)
    for without in found.unplayed:
        say.line(f"note: {without.name} has no number: {without.why}")
    for remark in found.remarks:
        if remark not in before:
            say.line(f"note: {remark}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refused(f"{path}: cannot be written ({error.strerror or error}); name a folder that exists") from error
