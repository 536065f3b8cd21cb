"""One HTML page that tells a model's story and opens anywhere, without a network. The one door to plotly and jinja2.

Takes a `ReportStory`; gives the page as text; never fetches anything, and never trusts a text it shows.
"""

from __future__ import annotations

from datetime import date, datetime
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from everfit.replay.charts import by_time, charts_of, trailing_mean
from everfit.replay.told import ReportStory

DASH = "\N{EN DASH}"  # where there is no number
WORDS = {
    "wait": "wait",
    "retrain": "retrain",
    "ask_human": "ask a person",
    "fix_data": "fix the data",
    "roll_back": "roll back",
    "recall": "recall",
    "better": "better",
    "not_better": "not better",
    "unproven": "unproven",
}


def render(story: ReportStory) -> str:
    """The page.

    >>> page = render(ReportStory("How it went", "a year", "roc_auc"))
    >>> page.startswith("<!doctype html>"), "<h1>How it went</h1>" in page
    (True, True)
    """
    charts = charts_of(story)
    drift, unit = by_time(story.drift) if story.drift is not None else (None, "")
    means = {name: trailing_mean(values) for name, values in story.rivals.items()}
    return template("report.html.j2").render(
        story=story,
        charts={chart.id: chart for chart in charts},
        drawn=[{"id": chart.id, "data": chart.data, "layout": chart.layout} for chart in charts],
        mean=trailing_mean({point.day: point.value for point in story.daily}),
        rival_means=means,
        drift=drift,
        unit=unit,
        plotly=Markup(get_plotlyjs()),  # the library's own code, not a word of the story
    )


@cache
def template(name: str) -> Template:
    """A page of this folder, with the words and numbers that pages write; every text in it is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "signed": signed, "day": day, "moment": moment, "word": word}
    return environment.from_string(files("everfit.replay").joinpath(name).read_text(encoding="utf-8"))


def number(value: float | None, places: int = 4) -> str:
    """A number, or a dash where there is none.

    >>> number(0.71234), number(None) == DASH
    ('0.7123', True)
    """
    return DASH if value is None else f"{value:,.{places}f}"


def signed(value: float | None) -> str:
    """A gain with its sign.

    >>> signed(0.01234)
    '+0.0123'
    """
    return DASH if value is None else f"{value:+.4f}"


def day(value: date) -> str:
    """A day as people write it.

    >>> day(date(2013, 2, 1))
    '1 Feb 2013'
    """
    return f"{value.day} {value:%b %Y}"


def moment(value: datetime) -> str:
    """A day with its time, in UTC as the ledger has it.

    >>> moment(datetime(2013, 2, 1, 4, 30))
    '1 Feb 2013 04:30'
    """
    return f"{day(value)} {value:%H:%M}"


def word(kind: str) -> str:
    """A kind of decision or verdict in plain words.

    >>> word("roll_back"), word("new_kind")
    ('roll back', 'new kind')
    """
    return WORDS.get(kind, kind.replace("_", " "))
