"""The charts of a report, as the data that a plotting library draws from.

Takes a `ReportStory`; gives charts as plain records of traces and layout, colours as names of the page's style; never
computes anything but means of days and of weeks, and says which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import log10
from statistics import fmean
from textwrap import wrap
from typing import Any

from everfit.replay.told import CandidateLine, ChampionLine, Compared, DriftMap, ReportStory

DAYS_OF_MEAN = 7
DRIFT_CAP = 5.0  # debiased PSI; short windows of weather come there, and all beyond is equally another world
DRIFT_TICKS = (0, 0.1, 0.25, 0.5, 1, 2, 5)
WEEKS_FROM = 60  # so many days and more are shown as weeks: cells that one can point at
RIVAL_COLOURS = ("var(--rival-1)", "var(--rival-2)", "var(--rival-3)", "var(--rival-4)")
RIVAL_DASHES = ("dash", "dot", "dashdot", "longdash")  # told apart without colours as well
STOPS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
AXIS: dict[str, Any] = {
    "gridcolor": "var(--line)",
    "zerolinecolor": "var(--line-strong)",
    "linecolor": "var(--line-strong)",
    "automargin": True,
    "fixedrange": True,
}


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart with the words that a reader or a screen reader needs."""

    id: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    said: str  # what is to be seen, in words
    height: int


def charts_of(story: ReportStory) -> list[Chart]:
    """Every chart for which there is something to draw."""
    drawn: list[Chart] = []
    if story.daily:
        drawn.append(metric_chart(story))
        drawn += [gain_chart(story)] if story.rivals else []
    if story.comparison:
        drawn.append(comparison_chart(story.comparison, story.metric))
    if any(each.gain is not None for each in story.candidates):
        drawn.append(candidates_chart(story.candidates, story.metric))
    if story.drift is not None and story.drift.columns:
        drawn.append(drift_chart(story.drift))
    return drawn


def trailing_mean(values: Mapping[date, float], days: int = DAYS_OF_MEAN) -> dict[date, float]:
    """The mean of each day and those before it, `days` in all; missing days are left out.

    >>> trailing_mean({date(2013, 1, 1): 0.5, date(2013, 1, 2): 0.7, date(2013, 1, 9): 0.9}, 7)[date(2013, 1, 2)]
    0.6
    """
    before = [timedelta(back) for back in range(days)]
    return {day: fmean(values[day - back] for back in before if day - back in values) for day in sorted(values)}


def metric_chart(story: ReportStory) -> Chart:
    """The metric over time: days as dots, means as lines, champions as bands."""
    ours = {point.day: point.value for point in story.daily}
    dots = {
        "type": "scatter", "mode": "markers", "name": "Everfit, one day",
        "x": [day.isoformat() for day in ours], "y": [round(value, 5) for value in ours.values()],
        "marker": {"color": "var(--everfit)", "size": 4.5, "opacity": 0.35},
        "customdata": [_rows_text(point.rows) for point in story.daily],
        "hovertemplate": "%{x|%e %b}: %{y:.4f}%{customdata}<extra>Everfit, one day</extra>",
    }  # fmt: skip
    rivals = [
        _mean_line(name, values, RIVAL_COLOURS[place % 4], 1.8, RIVAL_DASHES[place % 4])
        for place, (name, values) in enumerate(story.rivals.items())
    ]
    shapes, labels = _champion_bands(story.champions, max(ours) + timedelta(days=1))
    layout = _layout(
        xaxis=_dates(list(ours)),
        yaxis={**AXIS, "title": {"text": _plain(story.metric)}, "zeroline": False, "tickformat": ".2f"},
        shapes=shapes, annotations=labels, hovermode="closest",
        legend={"orientation": "h", "y": -0.12, "yanchor": "top", "x": 0}, margin={"t": 34, "r": 12, "b": 40, "l": 56},
    )  # fmt: skip
    said = (
        f"{story.metric} of each day and as a trailing mean of {DAYS_OF_MEAN} days: Everfit, "
        f"{_listed(list(story.rivals)) or 'without rivals'}; upright lines mark the {len(story.champions)} times "
        "that a champion went live."
    )
    return Chart(
        "metric", [dots, *rivals, _mean_line("Everfit", ours, "var(--everfit)", 3.0, "solid")], layout, said, 440
    )


def gain_chart(story: ReportStory) -> Chart:
    """What Everfit was better or worse by than each rival: the same lines, told apart where they run close."""
    ours = {point.day: point.value for point in story.daily}
    lines = []
    for place, (name, values) in enumerate(story.rivals.items()):
        apart = {day: ours[day] - value for day, value in values.items() if day in ours}
        line = _mean_line(f"over {name}", apart, RIVAL_COLOURS[place % 4], 2.2, RIVAL_DASHES[place % 4])
        line["hovertemplate"] = line["hovertemplate"].replace("y:.4f", "y:+.4f")
        lines.append(line)
    shapes, _ = _champion_bands(story.champions, max(ours) + timedelta(days=1))
    layout = _layout(
        xaxis=_dates(list(ours)),
        yaxis={**AXIS, "title": {"text": f"gain in {_plain(story.metric)}"}, "zeroline": True, "zerolinewidth": 2,
               "tickformat": "+.2f"},
        shapes=shapes, showlegend=True, hovermode="closest",
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0}, margin={"t": 10, "r": 12, "b": 40, "l": 56},
    )  # fmt: skip
    said = (
        f"Everfit's {story.metric} less that of {_listed(list(story.rivals))}, day by day on the same rows, as a "
        f"trailing mean of {DAYS_OF_MEAN} days: above zero Everfit was better."
    )
    return Chart("gain", lines, layout, said, 300)


def _dates(days: list[date]) -> dict[str, Any]:
    """An axis of days that ends where they end; months are named when there are several."""
    margin = timedelta(days=max(1, len(days) // 100))
    ends = [(min(days) - margin).isoformat(), (max(days) + margin).isoformat()]
    ticks = {"tickformat": "%b", "dtick": "M1"} if len(days) >= WEEKS_FROM else {"tickformat": "%e %b"}
    return {**AXIS, **ticks, "type": "date", "range": ends, "showgrid": False, "hoverformat": "%e %b %Y"}


def _rows_text(rows: int | None) -> str:
    return f" ({rows:,} rows)" if rows else ""


def _mean_line(name: str, values: Mapping[date, float], colour: str, width: float, dash: str) -> dict[str, Any]:
    means = trailing_mean(values)
    return {
        "type": "scatter", "mode": "lines", "name": f"{_plain(name)}, {DAYS_OF_MEAN}-day mean",
        "x": [day.isoformat() for day in means], "y": [round(value, 5) for value in means.values()],
        "line": {"color": colour, "width": width, "dash": dash},
        "hovertemplate": f"%{{x|%e %b}}: %{{y:.4f}}<extra>{_plain(name)}, {DAYS_OF_MEAN}-day mean</extra>",
    }  # fmt: skip


def _champion_bands(
    champions: tuple[ChampionLine, ...], end: date
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every second champion's time is shaded; its version stands above where it begins."""
    shapes: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for place, champion in enumerate(champions):
        since, until = champion.since.isoformat(), (champion.until or _midnight(end)).isoformat()
        across = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        if place % 2:
            band = {"type": "rect", "x0": since, "x1": until, "fillcolor": "var(--band)", "line": {"width": 0}}
            shapes.append({**band, **across})
        line = {"color": "var(--line-strong)", "width": 1, "dash": "dot"}
        shapes.append({"type": "line", "x0": since, "x1": since, "line": line, **across})
        labels.append({
            "x": since, "y": 1.0, "yref": "paper", "yanchor": "bottom", "xanchor": "left", "xshift": -2,
            "text": f"v{champion.version}", "showarrow": False, "font": {"size": 12, "color": "var(--ink-soft)"},
            "hovertext": _wrapped(f"version {champion.version} from {champion.since:%d %b %Y}: {champion.reason}"),
        })  # fmt: skip
    return shapes, labels


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)


def candidates_chart(candidates: tuple[CandidateLine, ...], metric: str) -> Chart:
    """The gain of each candidate over the champion of its time, with its interval."""
    known = [each for each in candidates if each.gain is not None and each.against != "baseline"] or [
        each for each in candidates if each.gain is not None
    ]
    names = [f"v{each.version} ({each.at:%d %b})" for each in known]
    data = [
        _gains(known, names, "promoted", "var(--better)", "circle", lambda each: each.promoted),
        _gains(known, names, "kept back", "var(--kept)", "diamond-open", lambda each: not each.promoted),
    ]
    layout = _layout(
        xaxis={**AXIS, "title": {"text": f"gain in {_plain(metric)} on the same rows"}, "tickformat": "+.3f",
               "zeroline": True, "zerolinewidth": 2},
        yaxis={**AXIS, "type": "category", "categoryorder": "array", "categoryarray": names[::-1], "showgrid": False,
               "range": [-0.7, len(names) - 0.3]},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        margin={"t": 36, "r": 16, "b": 48, "l": 90},
    )  # fmt: skip
    promoted = sum(each.promoted for each in known)
    said = (
        f"Gain of {len(known)} candidates over the champion of their time with its interval: {promoted} were "
        f"promoted, {len(known) - promoted} kept back. An interval that reaches zero proves nothing."
    )
    return Chart("candidates", [trace for trace in data if trace["y"]], layout, said, 130 + 30 * len(known))


def _gains(
    known: list[CandidateLine],
    names: list[str],
    name: str,
    colour: str,
    symbol: str,
    wanted: Callable[[CandidateLine], bool],
) -> dict[str, Any]:
    chosen = [(each, label) for each, label in zip(known, names, strict=True) if wanted(each)]
    gains = [each.gain or 0.0 for each, _ in chosen]
    highs = [each.gain if each.high is None else each.high for each, _ in chosen]
    lows = [each.gain if each.low is None else each.low for each, _ in chosen]
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": gains, "y": [label for _, label in chosen],
        "error_x": {
            "type": "data", "symmetric": False, "color": colour, "thickness": 2.5, "width": 5,
            "array": [(high or 0.0) - gain for high, gain in zip(highs, gains, strict=True)],
            "arrayminus": [gain - (low or 0.0) for low, gain in zip(lows, gains, strict=True)],
        },
        "marker": {"color": colour, "size": 10, "symbol": symbol, "line": {"width": 2, "color": colour}},
        "customdata": [[_wrapped(each.said), low, high]
                       for (each, _), low, high in zip(chosen, lows, highs, strict=True)],
        "hovertemplate": "%{y}: %{x:+.4f} (%{customdata[1]:+.4f} to %{customdata[2]:+.4f})<br>%{customdata[0]}"
                         "<extra></extra>",
    }  # fmt: skip


def drift_chart(drift: DriftMap) -> Chart:
    """Drift of each column over time: the columns that moved most on top."""
    shown, unit = by_time(drift)
    order = sorted(range(len(shown.columns)), key=lambda row: _strength(shown.values[row]))
    columns = [_plain(shown.columns[row]) for row in order]
    times = [day.isoformat() for day in shown.days]
    half = timedelta(hours=84 if unit == "week" else 12)
    ends = [(_midnight(shown.days[0]) - half).isoformat(), (_midnight(shown.days[-1]) + half).isoformat()]
    marks = [(_plain(column), day.isoformat()) for column, day in sorted(shown.alarms)]
    known = [shown.values[row] for row in order]
    heat = {
        "type": "heatmap", "x": times, "y": columns, "xgap": 1, "ygap": 1, "zmin": 0, "zmax": shade(DRIFT_CAP),
        "z": [[None if value is None else round(shade(value), 4) for value in row] for row in known],
        "customdata": [[None if value is None else round(value, 4) for value in row] for row in known],
        "colorscale": [[stop, f"var(--heat-{place})"] for place, stop in enumerate(STOPS)],
        "colorbar": {"title": {"text": "PSI", "side": "top"}, "thickness": 12, "outlinewidth": 0, "len": 0.9,
                     "tickvals": [shade(tick) for tick in DRIFT_TICKS],
                     "ticktext": [f"{tick:g}{'+' if tick == DRIFT_CAP else ''}" for tick in DRIFT_TICKS]},
        "hovertemplate": f"%{{y}}, {unit} of %{{x|%e %b %Y}}: %{{customdata:.3f}}<extra></extra>", "hoverongaps": False,
    }  # fmt: skip
    dots = {
        "type": "scatter", "mode": "markers", "name": "alarm", "showlegend": False, "hoverinfo": "skip",
        "x": [day for _, day in marks], "y": [column for column, _ in marks],
        "marker": {"symbol": "circle", "size": 4.5, "color": "var(--mark)",
                   "line": {"width": 1, "color": "var(--paper)"}},
    }  # fmt: skip
    layout = _layout(
        xaxis={**AXIS, "type": "date", "range": ends, "showgrid": False,
               **({"tickformat": "%b", "dtick": "M1"} if unit == "week" else {"tickformat": "%e %b"})},
        yaxis={**AXIS, "type": "category", "showgrid": False, "categoryorder": "array", "categoryarray": columns,
               "range": [-0.5, len(columns) - 0.5]},
        margin={"t": 10, "r": 10, "b": 40, "l": 140},
    )  # fmt: skip
    said = (
        f"Debiased PSI of {len(columns)} columns by {unit}, against the rows that the champion of the day was proven "
        f"on; dots mark the {len(marks)} cells with an alarm. Most drift: {_listed(columns[::-1][:3])}."
    )
    return Chart("drift", [heat, dots], layout, said, 90 + 22 * len(columns))


def by_time(drift: DriftMap) -> tuple[DriftMap, str]:
    """The map as it is shown, and what a cell stands for: a day, or a week when there are many."""
    return (weeks(drift), "week") if len(drift.days) >= WEEKS_FROM else (drift, "day")


def weeks(drift: DriftMap) -> DriftMap:
    """The same by weeks that begin on Monday: means of the days, and an alarm if any day had one."""
    monday = {day: day - timedelta(days=day.weekday()) for day in drift.days}
    mondays = tuple(dict.fromkeys(monday.values()))
    values = []
    for row in drift.values:
        known: dict[date, list[float]] = {}
        for day, value in zip(drift.days, row, strict=True):
            if value is not None:
                known.setdefault(monday[day], []).append(value)
        values.append(tuple(fmean(known[week]) if week in known else None for week in mondays))
    alarms = frozenset((column, monday[day]) for column, day in drift.alarms if day in monday)
    return DriftMap(mondays, drift.columns, tuple(values), alarms)


def shade(psi: float) -> float:
    """Where a PSI lies on the colour scale: logarithmic, so that 0.1 and 0.25 can be told apart beside 5.

    >>> shade(0.0), shade(0.9)
    (0.0, 1.0)
    """
    return log10(1 + min(max(psi, 0.0), DRIFT_CAP) / 0.1)


def _strength(row: tuple[float | None, ...]) -> float:
    known = [shade(value) for value in row if value is not None]
    return fmean(known) if known else 0.0


def comparison_chart(comparison: tuple[Compared, ...], metric: str) -> Chart:
    """The policies side by side: both ways to sum up a year, since they may disagree."""
    names = [_plain(each.name) for each in comparison]
    values = {"all rows pooled": [each.pooled for each in comparison],
              "mean of the days": [each.mean_of_days for each in comparison]}  # fmt: skip
    looks = (("circle", "var(--everfit)"), ("diamond-open", "var(--rival-1)"))
    data = [
        {
            "type": "scatter", "mode": "markers+text", "name": name,
            "x": [round(value, 5) for value in each], "y": names,
            "text": [f"{value:.4f}" for value in each], "textposition": "top center", "cliponaxis": False,
            "textfont": {"size": 11, "color": "var(--ink-soft)"},
            "marker": {"symbol": symbol, "size": 12, "color": colour, "line": {"width": 2, "color": colour}},
            "hovertemplate": f"%{{y}}: %{{x:.4f}}<extra>{name}</extra>",
        }
        for (name, each), (symbol, colour) in zip(values.items(), looks, strict=True)
    ]  # fmt: skip
    layout = _layout(
        xaxis={**AXIS, "title": {"text": _plain(metric)}, "zeroline": False, "tickformat": ".3f"},
        yaxis={**AXIS, "type": "category", "categoryorder": "array", "categoryarray": names[::-1],
               "range": [-0.5, len(names) - 0.35]},
        legend={"orientation": "h", "y": 1.05, "yanchor": "bottom", "x": 0},
        margin={"t": 40, "r": 30, "b": 48, "l": 90},
    )  # fmt: skip
    parts = [f"{each.name} {each.pooled:.4f} pooled and {each.mean_of_days:.4f} by day" for each in comparison]
    return Chart("comparison", data, layout, f"{metric} on the same rows: {'; '.join(parts)}.", 130 + 56 * len(names))


def _layout(**changes: Any) -> dict[str, Any]:
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12.5, "color": "var(--ink)"},
        "hoverlabel": {"bgcolor": "var(--paper)", "bordercolor": "var(--line-strong)", "font": {"color": "var(--ink)"}},
        "dragmode": False,
        **changes,
    }


def _plain(text: str) -> str:
    """Text for a place where the library would read tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _wrapped(text: str) -> str:
    """Plain text in lines that fit beside a pointer."""
    return "<br>".join(_plain(line) for line in wrap(text, 70))


def _listed(names: list[str]) -> str:
    return ", ".join(names)
