"""The page of a backtest: it says everything, opens offline, runs nothing, and trusts no text."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from everfit.replay.backtested import render
from everfit.replay.oracle import Hindsight
from everfit.replay.pictures import every_picture, gain_against_cost, over_time, pareto, recalls, trailing
from everfit.replay.plot import HEIGHT, WIDTH, Content, Dot, Line, axis_of, plot, root_axis
from everfit.replay.record import Unplayed
from everfit.replay.saying import advice_of, hindsight_of, ranked, scale_of
from tests.unit.replay.answers import FIRST, backtest
from tests.unit.replay.test_report import HOSTILE, read

FOUND = backtest()


def words(page: str) -> str:
    """What a reader sees, cell by cell."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture(scope="module")
def page() -> str:
    return render(FOUND, "Backtest of rows.parquet", ["480 rows"], "shop")


def test_the_page_is_whole_and_every_link_leads_somewhere(page: str) -> None:
    reader = read(page)
    assert page.startswith("<!doctype html>")
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(link[0] == "#" and link[1:] in reader.ids for link in reader.links)
    assert "policy" in reader.text
    titles = [tag for tag in reader.tags if tag in {"h1", "h2"}]
    assert titles == ["h1"] + ["h2"] * 10


def test_the_page_says_what_was_found(page: str) -> None:
    text = words(page)
    for said in (
        "everfit gains 19 points",  # the advice
        "model: m",  # the spec to paste
        "tells the target by itself",  # a remark
        "The model of windows 3 to 4 could not be trained: the score fell",
        "recommended",
        "480 rows",
        "2 2026-01-22 0 to 1 the score fell 0",  # a decision: after which window, the next one's day, rows, why
        "rows since the change 1 +5.0",  # a range
        "all rows so far 4 -1.2 0.3",
        "Slices by shop",
        "the score fell 300 10.0 % 30.0 %",  # a slice
        "everfit 2 0.7600",  # a label delay
    ):
        assert said in text, said


def test_a_policy_without_a_number_says_why(page: str) -> None:
    assert "no number" not in words(page)
    lost = replace(FOUND, unplayed=(Unplayed("spec", f"no model ever served; {HOSTILE}"),))
    text = words(render(lost, "lost"))
    assert "spec no number: no model ever served" in text
    assert "img" not in read(render(lost, "lost")).tags


def test_what_lies_above_the_best_in_hindsight_is_explained() -> None:
    read_, above = hindsight_of(replace(FOUND, oracle=(Hindsight(2, 0.65, 0.7, (3, 8)),)))
    assert "at most 2 retrains of recent rows: 0.6500 (chosen on half of the rows" in read_
    assert "to 0.7000 (chosen and read on the same rows" in read_
    assert above == (
        "Above the lower figure: every1, everfit with more runs; every5 with schedules that half of the rows did not "
        "tell from luck."
    )
    served = ((0, 3),) * len(FOUND.policies[3].played.served)
    other = replace(FOUND.policies[3], played=replace(FOUND.policies[3].played, served=served))
    moved = replace(FOUND, policies=(*FOUND.policies[:3], other), oracle=(Hindsight(9, 0.65, 0.7, (3, 8)),))
    assert "every5 with models of other rows" in hindsight_of(moved)[1]
    assert len(hindsight_of(replace(FOUND, oracle=(Hindsight(9, 0.9, 0.9, ()),)))) == 1
    assert hindsight_of(replace(FOUND, oracle=())) == []


def test_every_number_of_a_picture_is_in_a_table_too(page: str) -> None:
    text = words(page)
    for each in FOUND.policies:
        assert f"{each.score:.4f}" in text
    for age, score in enumerate(FOUND.ageing, start=1):
        assert f"{age} {score:.4f}" in text
    everfit = FOUND.policies[0].played.scores
    assert f"{everfit[3]:.4f} ({everfit[:4].mean():.4f})" in text


def test_the_page_needs_no_network_and_no_script(page: str) -> None:
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert not re.search(r"url\(|@import|//cdn", page)
    assert "default-src 'none'" in page


def test_texts_of_others_stay_texts() -> None:
    page = render(backtest(HOSTILE), HOSTILE, [HOSTILE], HOSTILE)
    reader = read(page)
    assert "img" not in reader.tags
    assert "script" not in reader.tags
    assert "onerror" not in reader.attributes
    assert page.count("&lt;img src=x") > 8


def test_a_backtest_of_little_is_a_page_too() -> None:
    bare = replace(FOUND, oracle=(), ageing=(), failures={}, remarks=(), ranges=(), slices=(), delays=(),
                   read=replace(FOUND.read, begins=(), per_window=None))  # fmt: skip
    reader = read(render(bare, "little"))
    assert reader.tags.count("h2") == 5
    assert "ageing" not in reader.ids
    assert "nan" not in render(bare, "little")


def test_windows_without_a_score_break_the_line_and_show_a_dash() -> None:
    first = FOUND.policies[0]
    scores = first.played.scores.copy()
    scores[:8] = np.nan
    gaps = replace(FOUND, policies=(replace(first, played=replace(first.played, scores=scores)), *FOUND.policies[1:]))
    assert "nan" not in render(gaps, "gaps")
    assert over_time(gaps).lines[0].path.count("M") == 1


def test_marks_stand_where_a_policy_trained_or_recalled() -> None:
    drawn = over_time(FOUND)
    rows = {row.name: row for row in drawn.rows}
    assert [row.name for row in drawn.rows] == ["everfit", "everfit, recalled", "every5", "best in hindsight"]
    assert "the score fell 0" in rows["everfit"].marks[0].said
    assert "trained on windows 0 to 1" in rows["everfit"].marks[0].said
    assert len(rows["best in hindsight"].marks) == 3
    assert rows["everfit"].marks[1].x > rows["everfit"].marks[0].x
    assert [window for window, _ in recalls(FOUND.policies[0])] == [FIRST + 3, FIRST + 5]


def test_the_front_holds_what_nothing_beats_for_as_few_runs() -> None:
    assert [each.name for each in pareto(FOUND.policies)] == ["never", "every5", "everfit", "every1"]
    beaten = replace(FOUND.policies[3], score=0.59)
    assert [each.name for each in pareto([*FOUND.policies[:3], beaten])] == ["never", "everfit", "every1"]
    assert "nothing better" in gain_against_cost(FOUND).lines[0].name


def test_everything_lies_inside_its_picture() -> None:
    for drawn in every_picture(FOUND).values():
        left, top, right, bottom = drawn.frame
        assert all(left <= dot.x <= right and top <= dot.y <= bottom for dot in drawn.dots)
        assert all(mark.y < drawn.height for row in drawn.rows for mark in row.marks)
        for line in drawn.lines:
            numbers = [float(number) for number in re.findall(r"[\d.]+", line.path)]
            assert all(left - 0.1 <= x <= right + 0.1 for x in numbers[::2])
            assert all(top - 0.1 <= y <= bottom + 0.1 for y in numbers[1::2])


def test_labels_of_near_dots_do_not_cover_each_other() -> None:
    dots = [Dot(5 + place / 100, 0.5, "", "front", f"name {place}") for place in range(5)]
    drawn = plot("p", "", (axis_of([0, 10], ""), axis_of([0, 1], "")), Content(dots=dots))
    places = [(dot.label.x, dot.label.y, dot.label.anchor) for dot in drawn.dots if dot.label]
    assert len(set(places)) == 5
    heights: dict[tuple[float, str], float] = {}
    for x, y, anchor in places:
        key = (round(x / 40), anchor)
        assert abs(heights.get(key, -99.0) - y) > 10
        heights[key] = y


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [], [float("nan")], [0.0, 0.0], [-3.0, 12_000.0], [0.8, 0.8001]])
def test_an_axis_holds_what_it_must(values: list[float]) -> None:
    axis = axis_of(values, "")
    assert axis.low < axis.high
    assert all(axis.low <= value <= axis.high for value in values if np.isfinite(value))
    assert len({words for _, words in axis.ticks}) == len(axis.ticks)
    assert 0 < len(axis.ticks) <= 11


def test_a_picture_of_one_value_is_drawn() -> None:
    drawn = plot("p", "", (root_axis(0, ""), axis_of([0.5], "")), Content([Line("a", [0.0], [0.5], "one")]))
    assert (drawn.width, drawn.height) == (WIDTH, HEIGHT)
    assert drawn.lines[0].path.startswith("M")


def test_steps_go_level_first() -> None:
    axes = axis_of([0, 10], ""), axis_of([0, 1], "")
    drawn = plot("p", "", axes, Content([Line("a", [0, 10], [0, 1], "front", steps=True)]))
    assert drawn.lines[0].path == "M64.0 274.0L1024.0 274.0L1024.0 14.0"


def test_means_look_back_only() -> None:
    assert trailing(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 100.0]))[4] == 3.0


def test_words() -> None:
    assert scale_of(FOUND) == "roc_auc"
    assert "mae" in scale_of(replace(FOUND, metric="mae"))
    assert scale_of(replace(FOUND, metric="mae")) != "mae"
    assert [each.name for each in ranked(FOUND)] == ["every1", "everfit", "every5", "never"]
    told = advice_of(FOUND)
    assert told[0].startswith("everfit gains 19 points"), "a policy's name keeps its letters"
    assert told[1].startswith("A model loses 2.5 points a window")
    assert told[2] == "1 model could not be trained; the replay went on with what served."


def test_money_is_shown_where_there_are_prices() -> None:
    assert '<th scope="col" class="n">cost</th>' not in render(FOUND, "free")
    priced = replace(FOUND, policies=tuple(replace(each, cost=1234.5) for each in FOUND.policies))
    assert "1,234.50" in words(render(priced, "priced"))
