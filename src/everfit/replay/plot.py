"""A picture as numbers: lines, dots and ticks placed in pixels, for a page to draw as SVG.

Takes values on two axes; gives a `Plot` that a template writes out; never writes markup, so every text in a picture
is escaped where the page is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10, sqrt

WIDTH, HEIGHT = 1040, 320  # pixels of a picture; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 46  # margins: numbers on the left, words of the axis below
LANE = 22  # pixels of a row of marks below the picture
SIGN = 6.6  # pixels that a letter of a label takes, on average
TALL = 15  # pixels of a line of labels
ROOM = 10  # pixels between a dot and its label


@dataclass(frozen=True, slots=True)
class Line:
    """Values that hang together."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]  # NaN: nothing there, the line is broken
    style: str  # a class of the page's style
    steps: bool = False  # goes level and then up or down


@dataclass(frozen=True, slots=True)
class Dot:
    """One value with its words."""

    x: float
    y: float
    said: str  # shown when pointed at, and read aloud
    style: str
    label: str = ""  # written beside it


@dataclass(frozen=True, slots=True)
class Lane:
    """Marks in a row below the picture."""

    name: str
    style: str
    marks: tuple[tuple[float, str], ...]  # where, and its words


@dataclass(frozen=True, slots=True)
class Axis:
    """How values lie along one side."""

    low: float
    high: float
    said: str  # what it shows
    ticks: tuple[tuple[float, str], ...]
    bend: Callable[[float], float] = float  # the scale: straight, or a square root

    def share(self, value: float) -> float:
        """How far along a value lies, from 0 to 1.

        >>> Axis(0, 4, "", ()).share(1), Axis(0, 4, "", (), sqrt).share(1)
        (0.25, 0.5)
        """
        low, high = self.bend(self.low), self.bend(self.high)
        return (self.bend(value) - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Placed:
    """A text in pixels."""

    x: float
    y: float
    said: str
    anchor: str = "middle"  # start, middle, end: where the text hangs on its place


@dataclass(frozen=True, slots=True)
class Drawn:
    """A line in pixels."""

    name: str
    style: str
    path: str  # of SVG


@dataclass(frozen=True, slots=True)
class Point:
    """A dot or a mark in pixels."""

    x: float
    y: float
    said: str
    style: str
    label: Placed | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A lane in pixels."""

    name: str
    y: float
    marks: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A whole picture in pixels."""

    id: str
    said: str  # what is to be seen, in words
    width: float
    height: float
    frame: tuple[float, float, float, float]  # left, top, right, bottom
    across: tuple[Placed, ...]  # ticks below
    up: tuple[Placed, ...]  # ticks on the left
    titles: tuple[str, str]  # of the two axes
    lines: tuple[Drawn, ...]
    dots: tuple[Point, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What a picture shows."""

    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()
    lanes: Sequence[Lane] = ()


def plot(id: str, said: str, axes: tuple[Axis, Axis], content: Content, height: int = HEIGHT) -> Plot:
    """Place everything; `height` is without the rows of marks below.

    >>> axes = axis_of([0, 10], "window"), axis_of([0.5, 0.7], "score")
    >>> drawn = plot("p", "a line", axes, Content([Line("a", [0, 10], [0.5, 0.7], "s")]))
    >>> drawn.lines[0].path
    'M64.0 274.0L1024.0 14.0'
    """
    left, right = LEFT + max([0.0, *(SIGN * len(lane.name) - LEFT + 14 for lane in content.lanes)]), WIDTH - RIGHT
    bottom = float(height - BOTTOM)
    across, up = axes

    def at(x: float, y: float) -> tuple[float, float]:
        return left + across.share(x) * (right - left), bottom - up.share(y) * (bottom - TOP)

    points = [(*at(dot.x, dot.y), dot) for dot in content.dots]
    labels = _labels([(x, y, dot.label) for x, y, dot in points], (left, right, bottom))
    begin = bottom + BOTTOM
    rows = tuple(
        Row(
            lane.name,
            begin + place * LANE + LANE / 2,
            tuple(
                Point(at(x, up.low)[0], begin + place * LANE + LANE / 2, words, lane.style) for x, words in lane.marks
            ),
        )
        for place, lane in enumerate(content.lanes)
    )
    return Plot(
        id,
        said,
        WIDTH,
        height + LANE * len(content.lanes) + (8 if content.lanes else 0),
        (left, TOP, right, bottom),
        tuple(Placed(at(x, up.low)[0], bottom + 18, words) for x, words in across.ticks),
        tuple(Placed(left - 8, at(across.low, y)[1] + 4, words, "end") for y, words in up.ticks),
        (across.said, up.said),
        tuple(Drawn(line.name, line.style, _path(line, at)) for line in content.lines),
        tuple(Point(x, y, dot.said, dot.style, label) for (x, y, dot), label in zip(points, labels, strict=True)),
        rows,
    )


def axis_of(values: Iterable[float], said: str, *, whole: bool = False, pad: float = 0.0) -> Axis:
    """An axis that holds these values, with about five ticks at round numbers.

    Args:
        values: what it must hold; NaN is left out.
        said: what it shows.
        whole: ticks at whole numbers only.
        pad: room on either side, as a share of the span.

    >>> [words for _, words in axis_of([0.713, 0.79], "").ticks]
    ['0.72', '0.74', '0.76', '0.78']
    """
    known = [value for value in values if isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low < 1e-9:
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    span = high - low
    low, high = low - pad * span, high + pad * span
    step = _step((high - low) / 5)
    step = max(1.0, step) if whole else step
    places = max(0, -floor(log10(step) + 1e-9))
    ticks = [number * step for number in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]
    return Axis(low, high, said, tuple((tick, f"{tick:,.{places}f}") for tick in ticks))


def root_axis(most: float, said: str) -> Axis:
    """An axis from 0 on which small numbers have more room: one run and two differ more than 89 and 90.

    >>> [words for _, words in root_axis(90, "runs").ticks]
    ['0', '1', '2', '5', '10', '20', '50']
    """
    high = max(1.0, most) * 1.06
    found = [number * 10**power for power in range(7) for number in (1, 2, 5)]
    ticks = [0, *(tick for tick in found if tick <= high)]
    shown = ticks if len(ticks) <= 8 else [0, *ticks[-7:]]
    return Axis(0.0, high, said, tuple((float(tick), f"{tick:,}") for tick in shown), sqrt)


def _step(rough: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... and 0.5, 0.2, ..."""
    power = 10.0 ** floor(log10(rough))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough - 1e-12)


def _path(line: Line, at: Callable[[float, float], tuple[float, float]]) -> str:
    parts, broken, level = [], True, 0.0
    for x, y in zip(line.xs, line.ys, strict=True):
        if not isfinite(y):
            broken = True
            continue
        across, up = at(x, y)
        if broken:
            parts.append(f"M{across:.1f} {up:.1f}")
        else:
            parts.append(f"L{across:.1f} {level:.1f}" * line.steps + f"L{across:.1f} {up:.1f}")
        broken, level = False, up
    return "".join(parts)


def _labels(points: Sequence[tuple[float, float, str]], frame: tuple[float, float, float]) -> list[Placed | None]:
    """Words beside dots, where they cover neither another word nor a dot if there is such a place."""
    left, right, bottom = frame
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y, _ in points]
    found: list[Placed | None] = []
    for x, y, words in points:
        if not words:
            found.append(None)
            continue
        wide = SIGN * len(words)
        best, least = None, 0.0
        for placed, box in _places(x, y, words, wide):
            outside = box[0] < left or box[2] > right or box[1] < 0 or box[3] > bottom
            covered = 1e6 * outside + sum(_overlap(box, other) for other in taken)
            if best is None or covered < least:
                best, least = (placed, box), covered
        assert best is not None
        found.append(best[0])
        taken.append(best[1])
    return found


Box = tuple[float, float, float, float]


def _places(x: float, y: float, words: str, wide: float) -> Iterable[tuple[Placed, Box]]:
    """Where a label may stand, the best first: beside, above and below its dot, and a line further up or down."""
    for off in (0, -TALL, TALL, -2 * TALL, 2 * TALL):
        middle = y + off
        yield (
            Placed(x + ROOM, middle + 4, words, "start"),
            (x + ROOM, middle - TALL / 2, x + ROOM + wide, middle + TALL / 2),
        )
        yield (
            Placed(x - ROOM, middle + 4, words, "end"),
            (x - ROOM - wide, middle - TALL / 2, x - ROOM, middle + TALL / 2),
        )
        above = y - ROOM + off if off <= 0 else y + ROOM + off
        yield Placed(x, above, words), (x - wide / 2, above - TALL + 3, x + wide / 2, above + 3)


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, tall)
