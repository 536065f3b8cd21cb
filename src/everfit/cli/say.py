"""How the command line speaks: JSON for machines, short tables for people.

Takes plain dictionaries; gives text on standard output; never decides anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.table import Table

from everfit.units import duration_text

MOST_REASONS = 3  # in a status; `everfit explain` has them all
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def as_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json_text(value))


def json_text(value: Any) -> str:
    """A value as JSON that people can read."""
    return json.dumps(value, default=str, ensure_ascii=False, indent=2) + "\n"


def line(text: str) -> None:
    """Print one line as it is."""
    out.print(text, markup=False)


def said_as_json(text: str) -> None:
    """Print one sentence as a line of JSON."""
    sys.stdout.write(json.dumps({"said": text}) + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Collection[str] = ()) -> None:
    """Print a table; the columns of numbers stand to the right."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, justify="right" if column in numbers else "left")
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(shown)


def status(told: dict[str, Any]) -> None:
    """Print a status for people."""
    paused = "  PAUSED" if told["paused"] else ""
    line(f"{told['model']} ({told['task']}){paused}   now {short(told['now'])} ({told['clock']} clock)")
    for told_line in (*_served(told), *_watched(told), *_waiting(told)):
        line(told_line)


def _served(told: dict[str, Any]) -> Iterator[str]:
    """Which model serves, and where."""
    champion = told["champion"]
    if champion is None:
        yield "no champion yet"
        return
    proven = ", ".join(f"{name} {value:.4g}" for name, value in champion["proven"].items())
    yield f"champion v{champion['version']} since {short(champion['live_since'])}, proven {proven}"
    if told["previous"]:
        yield f"previous v{told['previous']}: `everfit rollback` goes back to it"
    for server in told["servers"]:
        does = "takes predictions and labels; requests are answered elsewhere (EVERFIT_GATEWAY)"
        if not server.get("elsewhere"):
            does = "answers with " + (f"v{server['version']}" if server["version"] else "no version yet")
        yield f"server {server['pid']} on port {server['port']} {does}"


def _watched(told: dict[str, Any]) -> Iterator[str]:
    """What was measured last."""
    window = told["last_mature"]
    if window is not None:
        counts = f"{window['rows']:,} rows, {window['labelled']:,} labelled"
        yield f"last mature window {short(window['span'][0])}: {counts}; {_readings(window)}"
    if told["learning"]:
        yield f"learning what is usual ({'; '.join(told['learning'])}): the promise of false alarms does not hold yet"
    alarms = (told["last_window"] or {}).get("alarms", [])
    if alarms:
        more = f"; and {len(alarms) - MOST_REASONS} more" if len(alarms) > MOST_REASONS else ""
        yield f"alarms in the last window: {'; '.join(alarms[:MOST_REASONS])}{more}"


def _waiting(told: dict[str, Any]) -> Iterator[str]:
    """What was decided, what runs, and what waits for somebody."""
    if told["decision"]:
        said = list(dict.fromkeys(reason["said"] for reason in told["decision"]["because"]))
        more = f"; and {len(said) - MOST_REASONS} more" if len(said) > MOST_REASONS else ""
        because = "; ".join(said[:MOST_REASONS]) + more
        yield f"last decision {short(told['decision']['at'])}: {told['decision']['kind']} ({because})"
    if told["running"]:
        yield f"running: {told['running']}"
    if told["release"]:
        yield from _released(told["release"])
    for key, what in told["questions"].items():
        yield f"waits for you: {what}: everfit approve {key} | everfit reject {key}"
    counts = f"{told['windows']} windows, {told['runs']} runs, {len(told['versions'])} versions"
    yield f"{counts}; {told['intake']['waiting']} rows wait in the journal"


def _released(release: dict[str, Any]) -> Iterator[str]:
    """Where a release is, what the guard says, and what is next."""
    until = f", until {short(release['until'])}" if release["until"] else ""
    yield f"release of v{release['version']}, step {release['stage']} of {release['stages']}: {release['now']}{until}"
    if release["steered"]:
        yield f"  {release['steered']}"
    if release["paused"]:
        yield "  paused: it stays at this step until `everfit resume`; the guard may still take it back"
    if release["guard"]:
        yield f"  the guard: {release['guard']}"
    shown = ", ".join(f"{name} {value:.4g}" for name, value in release["shown"].items())
    if shown:
        yield f"  of the last rows: {shown}"
    if release["looks_again"]:
        yield f"  it looks again at {short(release['looks_again'])}"
    yield f"  next: {release['next']}"


def plan(told: dict[str, Any]) -> None:
    """Print what a release does, or where it is."""
    held = f"; {told['longest']} in all if nothing is inconclusive" if told["longest"] else "; it waits for a person"
    going = told["release"]
    what = f"version {going['version']} is being released" if going else "the next release"
    if not told["stages"]:
        line(f"{told['model']}: no release is under way; what the next one does, `everfit plan` says in its own folder")
        return
    line(f"{told['model']}: {what}{held}")
    marks = {"done": "done", "now": "now ", "next": "    ", "planned": "    "}
    for number, stage in enumerate(told["stages"], 1):
        line(f"{number:>3}  {marks[stage['state']]}  {stage['said']}")
    for said in _released(going) if going else ():
        line(said)
    for said in told["guard"]:
        line(f"  the guard: {said}")
    if told["problem"]:
        line(f"but: {told['problem']}")


def _readings(window: dict[str, Any]) -> str:
    whole = {r["name"]: r for r in window["readings"] if r["column"] == "*"}
    shown = [
        f"{name.split('.')[1]} {r['value']:.4g}" if "value" in r else f"{name.split('.')[1]}: not enough rows"
        for name, r in whole.items()
        if name.startswith(("performance.", "provisional.", "labels.coverage"))
    ]
    late = whole.get("labels.delay_p90", {})
    if "value" in late:
        shown.append(f"90 % of the labels came within {duration_text(timedelta(seconds=round(late['value'])))}")
    return ", ".join(shown)


def history(told: dict[str, Any]) -> None:
    """Print what happened, and what became of each trigger's runs."""
    for each in told["entries"]:
        line(f"{each['number']:>6}  {short(each['at'])}  {each['said']}")
    if not told["triggers"]:
        return
    line("")
    columns = ("trigger", "runs", "promoted", "kept back", "blocked", "failed", "gain", "helped live")
    table(columns, (_account(each) for each in told["triggers"]))


def _account(told: dict[str, Any]) -> list[str]:
    gain = "" if told["gain"] is None else f"{told['gain']:+.3g}"
    live = [f"{told[name]} {word}" for name, word in (("helped", "yes"), ("not_helped", "no"), ("unknown", "unknown"))]
    counts = [str(told[name]) for name in ("runs", "promoted", "kept_back", "blocked", "failed")]
    return [told["trigger"], *counts, gain, ", ".join(said for said in live if not said.startswith("0 "))]


def explained(told: dict[str, Any]) -> None:
    """Print why something happened, and whether it came out the same again."""
    for said in _decision(told["decision"]) if "decision" in told else _run(told):
        line(said)
    for said in told.get("replay", ()):
        line(f"again: {said}")
    if "agrees" in told:
        line("agrees" if told["agrees"] else "DOES NOT AGREE")


def _decision(told: dict[str, Any] | None) -> Iterator[str]:
    if told is None:
        yield "nothing was decided yet"
        return
    window = f", window {told['window']}" if told["window"] else ""
    yield f"{told['kind']} at {short(told['at'])} (decision {told['number']}{window})"
    for reason in told["because"]:
        yield f"  {reason['trigger']}: {reason['said']}"
        if reason["source"]:
            yield f"      line: {reason['source']}"
        if reason["otherwise"]:
            yield f"      otherwise: {reason['otherwise']}"
    if not told["because"]:
        yield "  no trigger had anything to say"
    yield f"diagnosis: {told['diagnosis']['kind'].replace('_', ' ')}: {told['diagnosis']['said']}"
    if told["facts"]:
        facts = told["facts"]
        read = _readings(facts) or "nothing was read"
        yield f"window: {facts['rows']:,} rows, {facts['labelled']:,} labelled; {read}"
        yield from (f"  alarm: {said}" for said in facts["alarms"])


def _run(told: dict[str, Any]) -> Iterator[str]:
    yield f"{told['run']} began {short(told['began'])}: {told['outcome'] or 'under way'}"
    yield from (f"  because {reason['trigger']}: {reason['said']}" for reason in told["because"])
    yield from (f"  data: {finding}" for finding in told["findings"])
    yield from (f"  {'passed' if g['passed'] else 'FAILED'} {g['name']}: {g['said']}" for g in told["gates"])
    if told["said"]:
        yield f"  {told['said']}"
    yield from (f"  release: {said}" for said in told["release"])


def compared(told: dict[str, Any]) -> None:
    """Print a comparison of two files: a table, what it means, and one line for each group."""
    rows = told["rows"]
    line(f"{rows['reference']:,} rows against {rows['current']:,}: {told['verdict'].replace('_', ' ')}")
    cells = ("name", "kind", "psi", "ks", "js", "wasserstein", "p_value", "verdict")
    table(cells, ([_cell(column.get(name)) for name in cells] for column in told["columns"]))
    for group in told.get("by", {}).get("groups", ()):
        moved = ", ".join(column["name"] for column in group["columns"] if column["alarm"])
        counts = f"{group['rows']['reference']:,} rows against {group['rows']['current']:,}"
        verdict = group["verdict"].replace("_", " ")
        line(f"  {told['by']['column']} = {group['value']}: {counts}: {verdict}{': ' if moved else ''}{moved}")
    for said in told["said"]:
        line(said)


def profiled(told: dict[str, Any], where: str | None) -> None:
    """Print a profile."""
    line(f"{told['rows']:,} rows")
    cells = ("name", "kind", "nulls", "distinct", "low", "mean", "high", "deviation", "most")
    table(cells, ([_cell(column.get(name)) for name in cells] for column in told["columns"]))
    if where is not None:
        line(f"wrote {where}; next: everfit compare {where} CURRENT")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def short(moment: str | None) -> str:
    """A moment to the minute."""
    if moment is not None and moment.startswith("0001"):
        return "at the beginning"  # of a replay: before its first event there is no time
    return "never" if moment is None else moment[:16].replace("T", " ")
