"""What the demo says while it runs and at its end.

Takes facts and results; gives lines on a terminal or in a file; never decides anything.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

from everfit.decide.decision import Wait
from everfit.detect.signal import Signal
from everfit.facts import Decided, Judged, ReleaseEnded, RenewEnded, WentLive
from everfit.ledger import Entry
from everfit.standing import Standing


class Progress:
    """One line that moves with the date, and a line of its own for everything that happens."""

    def __init__(self, days: int) -> None:
        self._days, self._done, self._moving = days, 0, sys.stdout.isatty()
        self._month, self._said = "", ""

    def day(self, now: datetime, standing: Standing) -> None:
        """The date, who serves, and how well on the last mature days."""
        self._done += 1
        champion = standing.champion
        serving = f"v{champion.version}" if champion else "nobody"
        text = f"{now:%Y-%m-%d}  {self._done:3}/{self._days} days  champion {serving}  roc_auc {_recent(standing)}"
        if self._moving:
            sys.stdout.write(f"\r\x1b[2K{text}")
        elif now.strftime("%Y-%m") != self._month:
            sys.stdout.write(f"{text}\n")
        self._month = now.strftime("%Y-%m")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """A line of its own."""
        sys.stdout.write(("\r\x1b[2K" if self._moving else "") + text + "\n")
        sys.stdout.flush()

    def entry(self, entry: Entry) -> None:
        """What a person wants to hear of an entry as it falls."""
        text = heard(entry)
        if text and text != self._said:
            self._said = text
            self.say(f"  {entry.at:%Y-%m-%d %H:%M}  {text}")


def _recent(standing: Standing) -> str:
    """The mean of the last seven mature days."""
    readings = [reading for window in standing.history.windows for reading in window.mature or ()]
    whole = [r for r in readings if isinstance(r, Signal) and (r.name, r.column) == ("performance.roc_auc", "*")]
    days = [reading.value for reading in whole[-7:]]
    return f"{sum(days) / len(days):.3f} (7 days)" if days else "-"


def heard(entry: Entry) -> str | None:
    """One line for an entry that a person wants to hear of."""
    match entry.fact:
        case Decided(decision=decision) if not isinstance(decision, Wait):
            return f"{decision.kind}: {'; '.join(dict.fromkeys(reason.said for reason in decision.because))}"
        case Judged(verdict=verdict):
            return f"{verdict.kind}: {verdict.said}"
        case WentLive(version=version, back=back):
            return f"version {version} serves{' again: rolled back' if back else ''}"
        case RenewEnded(outcome=outcome, said=said) if outcome in ("failed", "blocked"):
            return f"{outcome}: {said}"
        case ReleaseEnded(outcome="rolled_back" | "aborted", said=said):
            return f"taken back: {said}"
        case _:
            return None


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A plain table, columns as wide as they must be.

    >>> print(table(("name", "n"), [("a", 1), ("long", 22)]))
    name  n
    a     1
    long  22
    """
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def champions_table(rows: Sequence[Mapping[str, object]]) -> str:
    """The champions of the year."""
    names = ("version", "live since", "why", "proven", "live", "days")
    return table(names, [[row[name] for name in names] for row in rows])
