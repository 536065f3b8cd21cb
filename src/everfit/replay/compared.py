"""One HTML page of a comparison of two sets of rows: what moved, by how much, and a picture of every column.

Takes a `Comparison`; gives the page as text, which opens anywhere without a network; never holds a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from everfit.detect.compared import Bar, ColumnComparison, Comparison
from everfit.replay.report import template

WIDTH, HEIGHT, GAP = 320, 72, 2  # of a picture, in pixels
VERDICTS = {
    "drift": "drift",
    "none": "no drift",
    "not_enough": "not enough rows",
    "broken": "broken",
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """One bar of a picture, in pixels."""

    name: str
    reference: float  # share
    current: float
    left: float
    width: float
    then: float  # height
    now: float


def render(found: Comparison, reference: str, current: str, alpha: float) -> str:
    """The page.

    >>> page = render(Comparison({"reference": 5, "current": 2}, "not_enough", (), (), ("too few",)), "a", "b", 0.01)
    >>> page.startswith("<!doctype html>"), "too few" in page
    (True, True)
    """
    order = {"broken": 0, "drift": 1, "none": 2, "not_enough": 3}
    columns = sorted(found.columns, key=lambda column: (order[column.verdict], -(column.effect or 0.0), column.name))
    return template("compared.html.j2").render(
        found=found,
        reference=reference,
        current=current,
        alpha=alpha,
        columns=columns,
        pictures={column.name: drawn(column.bars) for column in columns},
        words=VERDICTS,
        moved=moved,
        width=WIDTH,
        height=HEIGHT,
    )


def moved(columns: Sequence[ColumnComparison]) -> str:
    """Names of the columns with an alarm.

    >>> moved([])
    ''
    """
    return ", ".join(column.name for column in columns if column.alarm)


def drawn(bars: Sequence[Bar]) -> list[Drawn]:
    """Bars as a picture: the tallest fills it, and all are equally wide.

    >>> [(bar.left, bar.then, bar.now) for bar in drawn([Bar("a", 0.5, 0.25), Bar("b", 0.5, 0.75)])]
    [(0.0, 48.0, 24.0), (160.0, 48.0, 72.0)]
    """
    if not bars:
        return []
    most = max(max(bar.reference, bar.current) for bar in bars) or 1.0
    each = WIDTH / len(bars)
    return [
        Drawn(
            bar.name,
            bar.reference,
            bar.current,
            place * each,
            (each - GAP) / 2,
            HEIGHT * bar.reference / most,
            HEIGHT * bar.current / most,
        )
        for place, bar in enumerate(bars)
    ]
