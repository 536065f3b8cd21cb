"""The pictures of a backtest: scores over time, gain against cost, how models age.

Takes a `Backtest`; gives `Plot`s, each with a sentence that says what is to be seen; never computes a figure that the
record does not hold, but for means of neighbouring windows, which are called so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from everfit.replay.gains import Result
from everfit.replay.matrix import Floats
from everfit.replay.oracle import Hindsight
from everfit.replay.plot import Axis, Content, Dot, Lane, Line, Plot, axis_of, plot, root_axis
from everfit.replay.record import Backtest
from everfit.replay.saying import scale_of, when

MEAN_OF = 5  # windows: single ones of a few hundred rows are mostly noise
MAIN = ("everfit", "never", "every5")
STYLES = ("one", "two", "three", "four")  # classes of the page's style, told apart without colours as well


def main_policies(found: Backtest) -> list[Result]:
    """The policies that are drawn: Everfit's, never, every fifth window, and the recommended one."""
    wanted = dict.fromkeys((*MAIN, found.advice.policy))
    return [each for name in wanted for each in found.policies if each.name == name]


def every_picture(found: Backtest) -> dict[str, Plot]:
    """All that there is to draw, by name."""
    drawn = [over_time(found), gain_against_cost(found)]
    drawn += [ageing(found)] if len(found.ageing) > 1 else []
    drawn += [label_delay(found)] if len(found.delays) > 1 else []
    return {each.id: each for each in drawn}


def over_time(found: Backtest) -> Plot:
    """The score of the main policies, window by window, with marks where each trained or recalled."""
    shown = main_policies(found)
    first = shown[0].played.first_window
    windows = [float(first + place) for place in range(len(shown[0].played.scores))]
    lines = [
        Line(each.name, windows, trailing(each.played.scores).tolist(), style)
        for each, style in zip(shown, STYLES, strict=False)
    ]
    lanes = [lane for each, style in zip(shown, STYLES, strict=False) for lane in _lanes(each, style)]
    if best := hindsight_like(found, shown):
        marks = tuple((float(window), f"window {window}: best in hindsight retrains") for window in best.windows)
        lanes.append(Lane("best in hindsight", "hindsight", marks))
    values = [value for line in lines for value in line.ys]
    axes = dated(axis_of(windows, "window", whole=True), found), axis_of(values, scale_of(found), pad=0.05)
    parts = [f"{each.name} {each.score:.3f} with {each.played.runs} training runs" for each in shown]
    said = (
        f"Score over {len(windows)} windows as trailing means of {MEAN_OF}. Means of all windows: {'; '.join(parts)}."
    )
    return plot("time", said, axes, Content(lines, (), lanes))


def gain_against_cost(found: Backtest) -> Plot:
    """Every policy by its training runs and its score, the front of those that nothing beats, and the best schedules
    in hindsight.
    """
    front = pareto(found.policies)
    dots = []
    for each in sorted(found.policies, key=lambda one: one.name not in (*MAIN, found.advice.policy)):
        style = "chosen" if each.name == found.advice.policy else "front" if each in front else "behind"
        words = f"{each.name}: score {each.score:.4f}, {each.played.runs} training runs, {each.played.rows:,} rows"
        dots.append(Dot(float(each.played.runs), each.score, words, style, each.name))
    lines = [
        Line(
            "nothing better for as few runs",
            [float(each.played.runs) for each in front],
            [each.score for each in front],
            "front",
            steps=True,
        ),
        Line(
            "best schedule in hindsight",
            [float(each.retrains) for each in found.oracle],
            [each.score for each in found.oracle],
            "hindsight",
        ),
        Line(
            "best schedule in hindsight, luck and all",
            [float(each.retrains) for each in found.oracle],
            [each.at_most for each in found.oracle],
            "luck",
        ),
    ]
    scores = [*(dot.y for dot in dots), *(end for each in found.oracle for end in (each.score, each.at_most))]
    axes = (
        root_axis(max([dot.x for dot in dots], default=1.0), "training runs"),
        axis_of(scores, f"mean {scale_of(found)}", pad=0.06),
    )
    named = ", ".join(f"{each.name} ({each.score:.3f} for {each.played.runs})" for each in front)
    return plot("cost", f"Score against training runs. Nothing beats, for as few runs: {named}.", axes,
                Content(lines, dots), 430)  # fmt: skip


def ageing(found: Backtest) -> Plot:
    """The mean score of a model by its age."""
    ages = [float(age + 1) for age in range(len(found.ageing))]
    axes = (
        axis_of(ages, "windows since a model's rows", whole=True),
        axis_of(found.ageing, f"mean {scale_of(found)}", pad=0.06),
    )
    said = f"Mean score of a model by its age: {found.ageing[0]:.3f} in its first window"
    for age in (5, 10, 20, 50):
        said += f", {found.ageing[age - 1]:.3f} in window {age}" if age <= len(found.ageing) else ""
    return plot("ageing", f"{said}.", axes, Content([Line("recent models", ages, found.ageing, "one")]))


def label_delay(found: Backtest) -> Plot:
    """The score of policies whose labels come later and later."""
    lines, parts = [], []
    for policy, style in zip(dict.fromkeys(each.policy for each in found.delays), STYLES, strict=False):
        mine = [each for each in found.delays if each.policy == policy]
        lines.append(Line(policy, [float(each.delay) for each in mine], [each.score for each in mine], style))
        parts.append(f"{policy} {mine[0].score:.3f} to {mine[-1].score:.3f}")
    axes = (
        axis_of([float(each.delay) for each in found.delays], "windows until labels come", whole=True),
        axis_of([each.score for each in found.delays], f"mean {scale_of(found)}", pad=0.1),
    )
    return plot("delays", f"Score against label delay, from least to most: {'; '.join(parts)}.", axes, Content(lines))


def dated(axis: Axis, found: Backtest) -> Axis:
    """Ticks of windows with the day on which each begins, where days are known."""
    if not found.read.begins:
        return axis
    ticks = tuple((window, f"{words}: {when(found, int(window))}") for window, words in axis.ticks)
    return replace(axis, ticks=ticks, said="window and the day on which it begins")


def trailing(scores: Floats, many: int = MEAN_OF) -> Floats:
    """The mean of each window and those before it; windows without a score are left out.

    >>> trailing(np.array([1.0, 3.0, np.nan, 5.0]), 2).tolist()
    [1.0, 2.0, 3.0, 5.0]
    """
    known = np.isfinite(scores)
    sums = np.convolve(np.where(known, scores, 0.0), np.ones(many))[: len(scores)]
    counts = np.convolve(known.astype(float), np.ones(many))[: len(scores)]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def pareto(policies: Sequence[Result]) -> list[Result]:
    """Policies that nothing beats with as few training runs, by their runs."""
    front: list[Result] = []
    for each in sorted(policies, key=lambda one: (one.played.runs, -one.score)):
        if not front or each.score > front[-1].score:
            front.append(each)
    return front


def recalls(result: Result) -> list[tuple[float, str]]:
    """Windows at whose end an older model was taken back into service, without training."""
    played, begins = result.played, result.played.first_window
    before: set[tuple[int, int]] = set()
    found = []
    for place, (then, now) in enumerate(pairwise(played.served)):
        before.add(then)
        if now != then and now in before:
            window = begins + place
            found.append((float(window), f"window {window}: the model of windows {now[0]} to {now[1]} serves again"))
    return found


def hindsight_like(found: Backtest, shown: Sequence[Result]) -> Hindsight | None:
    """The best schedule with at most as many runs as the recommended policy, or the smallest that there is."""
    runs = next((each.played.runs for each in shown if each.name == found.advice.policy), 0)
    fitting = [each for each in found.oracle if each.retrains <= runs]
    return fitting[-1] if fitting else next(iter(found.oracle), None)


def _lanes(result: Result, style: str) -> Iterator[Lane]:
    """Marks where a policy trained, and where it took a stored model back."""
    marks = []
    for each in result.played.decisions:
        first, last = each.trained_on
        words = f"window {each.window}: trained on windows {first} to {last}; {each.why}"
        marks.append((float(each.window), f"{words}; failed: {each.failed}" if each.failed else words))
    if marks:
        yield Lane(result.name, style, tuple(marks))
    if again := recalls(result):
        yield Lane(f"{result.name}, recalled", f"{style} open", tuple(again))
