"""The page of a comparison."""

from __future__ import annotations

import numpy as np
import polars as pl

from everfit.detect.compare import compare
from everfit.replay.compared import HEIGHT, WIDTH, drawn, render

CHANCE = np.random.default_rng(1)
THEN = pl.DataFrame({"price": CHANCE.normal(size=900), "<b>shop</b>": CHANCE.choice(["<i>a</i>", "b"], 900)})


def test_no_text_of_the_data_becomes_markup() -> None:
    page = render(compare(THEN, THEN.sample(500, seed=1)), "<u>then</u>", "now", 0.01)
    for name in ("<b>shop</b>", "<i>a</i>", "<u>then</u>"):
        assert name not in page
        assert name.replace("<", "&lt;").replace(">", "&gt;") in page


def test_what_moved_comes_first() -> None:
    columns = THEN.with_columns(calm=pl.Series(CHANCE.normal(size=900)), late=pl.col("price"))
    page = render(compare(columns, columns.with_columns(pl.col("late") + 2)), "then", "now", 0.01)
    assert page.index("<strong>late</strong>") < page.index("<strong>calm</strong>")
    assert page.count("<svg") == 4
    assert "script" not in page


def test_pictures_stay_in_their_frame() -> None:
    for column in compare(THEN, THEN).columns:
        for bar in drawn(column.bars):
            assert 0 <= bar.left <= bar.left + 2 * bar.width <= WIDTH
            assert 0 <= min(bar.then, bar.now) <= max(bar.then, bar.now) <= HEIGHT
    assert drawn([]) == []
