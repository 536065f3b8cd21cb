"""How the command line speaks: JSON for machines, short tables for people.

Takes plain dictionaries; gives text on standard output; never decides anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

MOST_REASONS = 3  # in a status; `everfit explain` has them all
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def as_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False, indent=2) + "\n")


def line(text: str) -> None:
    """Print one line as it is."""
    out.print(text, markup=False)


def said_as_json(text: str) -> None:
    """Print one sentence as a line of JSON."""
    sys.stdout.write(json.dumps({"said": text}) + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table."""
    shown = Table(*columns, box=None, pad_edge=False, header_style="bold")
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
        yield f"server {server['pid']} on port {server['port']} answers with v{server['version']}"


def _watched(told: dict[str, Any]) -> Iterator[str]:
    """What was measured last."""
    window = told["last_mature"]
    if window is not None:
        counts = f"{window['rows']:,} rows, {window['labelled']:,} labelled"
        yield f"last mature window {short(window['span'][0])}: {counts}; {_readings(window)}"
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
    for key, what in told["questions"].items():
        yield f"waits for you: {what}: everfit approve {key} | everfit reject {key}"
    counts = f"{told['windows']} windows, {told['runs']} runs, {len(told['versions'])} versions"
    yield f"{counts}; {told['intake']['waiting']} rows wait in the journal"


def _readings(window: dict[str, Any]) -> str:
    shown = [
        f"{r['name'].split('.')[1]} {r['value']:.4g}" if "value" in r else f"{r['name'].split('.')[1]}: not enough rows"
        for r in window["readings"]
        if r["column"] == "*"
    ]
    return ", ".join(shown)


def explained(told: dict[str, Any]) -> None:
    """Print why something happened."""
    if "decision" in told:
        decision = told["decision"]
        if decision is None:
            line("nothing was decided yet")
            return
        line(f"{decision['kind']} at {short(decision['at'])}")
        for reason in decision["because"]:
            line(f"  {reason['trigger']}: {reason['said']}")
        return
    line(f"{told['run']} began {short(told['began'])}: {told['outcome'] or 'under way'}")
    for reason in told["because"]:
        line(f"  because {reason['trigger']}: {reason['said']}")
    for finding in told["findings"]:
        line(f"  data: {finding}")
    for gate in told["gates"]:
        line(f"  {'passed' if gate['passed'] else 'FAILED'} {gate['name']}: {gate['said']}")
    if told["said"]:
        line(f"  {told['said']}")


def compared(told: dict[str, Any]) -> None:
    """Print a comparison of two files."""
    rows = told["rows"]
    line(f"{rows['reference']:,} rows against {rows['current']:,}: {told['verdict'].replace('_', ' ')}")
    cells = ("name", "kind", "psi", "ks", "js", "wasserstein", "p_value", "alarm")
    table(cells, ([_cell(column.get(name)) for name in cells] for column in told["columns"]))
    for said in told["said"]:
        line(said)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def short(moment: str | None) -> str:
    """A moment to the minute."""
    if moment is not None and moment.startswith("0001"):
        return "at the beginning"  # of a replay: before its first event there is no time
    return "never" if moment is None else moment[:16].replace("T", " ")
