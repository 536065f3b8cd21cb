"""The report: one page that tells everything, opens offline and trusts no text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser

import pytest

from everfit.replay.charts import Chart, charts_of, trailing_mean, weeks
from everfit.replay.report import render
from everfit.replay.told import (
    CandidateLine,
    ChampionLine,
    Compared,
    DecisionLine,
    DriftMap,
    Figure,
    Point,
    ReportStory,
)

AT = datetime(2013, 2, 1, 5, tzinfo=UTC)
DAYS = tuple(date(2013, 2, 1) + timedelta(days=number) for number in range(20))
HOSTILE = "</script><img src=x onerror=alert(1)>'\"&"
STORY = ReportStory(
    title="How delay was kept fit",
    subtitle="twenty days",
    metric="roc_auc",
    facts=(Figure("trainings", "2", "one kept back"),),
    daily=tuple(Point(day, 0.7 + number / 100, 0.6, 0.9, 900) for number, day in enumerate(DAYS)),
    rivals={"never": dict.fromkeys(DAYS, 0.65), "weekly": dict.fromkeys(DAYS[3:], 0.7)},
    champions=(
        ChampionLine(1, AT, AT + timedelta(days=9), "there was no champion", 0.74, 0.73, 8, 20_000, "it beats it"),
        ChampionLine(2, AT + timedelta(days=9), None, "roc_auc fell", None, None, 0, None, ""),
    ),
    decisions=(
        DecisionLine(AT, "wait", "nothing fires", ("decay: it holds",), 3),
        DecisionLine(AT + timedelta(days=9), "retrain", "roc_auc fell by 0.05"),
    ),
    drift=DriftMap(
        DAYS,
        ("price", "shop"),
        (tuple(number / 20 for number in range(20)), (None, *[0.01] * 19)),
        frozenset({("price", DAYS[19])}),
    ),
    candidates=(
        CandidateLine(1, AT, "baseline", 0.2, 0.19, 0.21, "better", "it beats the baseline", promoted=True),
        CandidateLine(2, AT, "v1", 0.01, 0.002, 0.02, "better", "it beats v1", promoted=True),
        CandidateLine(3, AT, "v2", -0.01, -0.02, 0.001, "unproven", "it may be worse", promoted=False),
        CandidateLine(4, AT, "v2", None, None, None, "unproven", "too few rows", promoted=False),
    ),
    comparison=(Compared("everfit", 0.75, 0.72, 2), Compared("never", 0.7, 0.69, None)),
    notes=("read it slowly",),
)
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """Checks that tags close in the order in which they open, and keeps ids, links and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.attributes.append(name)
            self.ids += [value or ""] if name == "id" else []
            self.links += [value or ""] if name in {"href", "src"} else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open and self.open[-1] not in {"script", "style"} else ""


def without_plotly(page: str) -> str:
    start = page.index('<script id="plotly">')
    return page[:start] + page[page.index("</script>", start) + len("</script>") :]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def page() -> str:
    return render(STORY)


def test_the_page_is_whole_and_reads_in_order(page: str) -> None:
    reader = read(page)
    assert page.startswith("<!doctype html>")
    assert '<html lang="en">' in page
    assert len(set(reader.ids)) == len(reader.ids)
    assert [tag for tag in reader.tags if tag in {"h1", "h2"}] == ["h1"] + ["h2"] * 7
    assert all(link[0] == "#" and link[1:] in reader.ids for link in reader.links)


def test_every_number_of_a_chart_is_in_a_table_too(page: str) -> None:
    text = " ".join(read(page).text.split())
    for said in ("0.8900 (0.8600)", "0.6000 to 0.9000", "+0.0100", "-0.0200 to +0.0010", "0.95*", "0.7500", "20,000"):
        assert said in text
    for said in (
        "roc_auc fell by 0.05",
        "decay: it holds",
        "wait \N{MULTIPLICATION SIGN} 3",
        "too few rows",
        "read it slowly",
        "one kept back",
    ):
        assert said in text


def test_the_page_opens_without_a_network(page: str) -> None:
    own = without_plotly(page)
    assert "http://" not in own
    assert "https://" not in own
    assert not re.search(r"url\(|@import|//cdn", own)
    assert "default-src 'none'" in own  # nor could it fetch anything if it tried
    assert page.count('<script id="plotly">') == 1


def test_texts_of_others_stay_texts() -> None:
    line = DecisionLine(AT, HOSTILE, HOSTILE, (HOSTILE,))
    candidate = replace(STORY.candidates[1], said=HOSTILE, against=HOSTILE, verdict=HOSTILE)
    assert STORY.drift is not None
    story = replace(
        STORY, title=HOSTILE, subtitle=HOSTILE, metric=HOSTILE, facts=(Figure(HOSTILE, HOSTILE, HOSTILE),),
        rivals={HOSTILE: STORY.rivals["never"]},
        champions=(replace(STORY.champions[0], reason=HOSTILE, verdict=HOSTILE),),
        decisions=(line,), candidates=(candidate,), comparison=(Compared(HOSTILE, 0.7, 0.7, 1),), notes=(HOSTILE,),
        drift=replace(STORY.drift, columns=(HOSTILE, "shop")),
    )  # fmt: skip
    own = without_plotly(render(story))
    reader = read(own)
    assert "img" not in reader.tags
    assert "onerror" not in reader.attributes
    assert reader.tags.count("script") == 1


def test_charts_hold_no_tags_of_others() -> None:
    told = json.dumps([chart.data for chart in charts_of(replace(STORY, rivals={"<b>x</b>": STORY.rivals["never"]}))])
    assert "<b>" not in told


def chart(story: ReportStory, id: str) -> Chart:
    return next(chart for chart in charts_of(story) if chart.id == id)


def test_candidates_are_shown_by_what_became_of_them() -> None:
    promoted, kept = chart(STORY, "candidates").data
    assert (promoted["name"], promoted["y"]) == ("promoted", ["v2 (01 Feb)"])
    assert (kept["name"], kept["y"]) == ("kept back", ["v3 (01 Feb)"])
    assert promoted["error_x"]["array"] == pytest.approx([0.01])
    assert kept["error_x"]["arrayminus"] == pytest.approx([0.01])


def test_the_gain_over_a_rival_is_told_on_days_that_both_have() -> None:
    over_never, over_weekly = chart(STORY, "gain").data
    assert over_never["y"][0] == pytest.approx(0.05)
    assert over_weekly["x"][0] == DAYS[3].isoformat()


def test_the_column_that_moves_most_is_on_top() -> None:
    heat, alarms = chart(STORY, "drift").data
    assert heat["y"] == ["shop", "price"]
    assert (alarms["x"], alarms["y"]) == ([DAYS[19].isoformat()], ["price"])


def test_weeks_are_means_of_their_days_and_keep_alarms() -> None:
    assert STORY.drift is not None
    weekly = weeks(STORY.drift)
    assert weekly.days == (date(2013, 1, 28), date(2013, 2, 4), date(2013, 2, 11), date(2013, 2, 18))
    assert weekly.values[0][0] == pytest.approx(0.05)  # of Friday 0, Saturday 0.05, Sunday 0.1
    assert weekly.alarms == {("price", date(2013, 2, 18))}


def test_a_mean_of_seven_days_looks_back_only() -> None:
    means = trailing_mean({day: float(number) for number, day in enumerate(DAYS)})
    assert (means[DAYS[0]], means[DAYS[6]], means[DAYS[19]]) == (0.0, 3.0, 16.0)


def test_a_story_of_nothing_is_a_page_without_charts() -> None:
    page = render(ReportStory("Nothing yet", "", "roc_auc"))
    assert "<script" not in page
    assert read(page).tags.count("h2") == 0
