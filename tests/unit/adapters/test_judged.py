"""The rows that are kept beside a model show what a model may meet, with the scores that the original gave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from everfit.adapters.frames import Framing, Meta, categories_in, features_in
from everfit.adapters.judged import JUDGED, MOST, OLDER, chosen, judged_file, write_judged
from everfit.errors import ModelUnusable

MANY = 5000
NULLS, RARE, UNSEEN, LEAST, GREATEST = range(100, 130), range(1000, 1010), 2222, 3333, 4444


def usual() -> pl.DataFrame:
    chance = np.random.default_rng(3)
    return pl.DataFrame({"price": chance.random(MANY), "shop": chance.choice(["a", "b"], MANY)})


def odd() -> pl.DataFrame:
    price, shop = (usual()[name].to_list() for name in ("price", "shop"))
    price[LEAST], price[GREATEST], shop[UNSEEN] = -1e9, 1e9, "new"
    for place in NULLS:
        price[place] = None
    for place in RARE:
        shop[place] = "rare"
    return pl.DataFrame({"price": price, "shop": shop})


META = Meta("regression", features_in(usual()))
SEEN = {"shop": ["a", "b", "rare"]}


def test_extremes_missing_values_and_strange_categories_come_first() -> None:
    places = chosen(odd(), META.features, SEEN, 200)
    assert len(places) == 200
    assert places == sorted(set(places))
    assert {*NULLS, *RARE, UNSEEN, LEAST, GREATEST} <= set(places)
    assert max(np.diff(places)) <= 2 * MANY // (200 - 43), "the others come from everywhere"


def test_odd_rows_take_half_of_the_places_at_most() -> None:
    rows = usual().with_columns(pl.when(pl.int_range(MANY) >= 1000).then("price").alias("price"))
    places = chosen(rows, META.features, SEEN, 100)
    assert rows["price"][places].null_count() <= 50 + 40, "the other half is chosen from all that are left"
    assert rows["price"][places].drop_nulls().len() >= 10


def test_few_rows_are_all_kept_and_few_places_keep_the_extremes() -> None:
    assert chosen(odd()[:50], META.features, SEEN, 50) == list(range(50))
    assert chosen(odd(), META.features, SEEN, 4) == [NULLS[0], UNSEEN, LEAST, GREATEST]
    assert chosen(odd(), META.features, SEEN, 0) == []


class Sum:
    """Says the price; one that `takes` no nulls refuses them."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes

    def predict(self, frame: Any) -> NDArray[Any]:
        price = frame["price"].to_numpy()
        if not self.takes and np.isnan(price).any():
            raise ValueError("nothing may be missing")
        return np.asarray(np.nan_to_num(price, nan=-7.0))


@pytest.mark.parametrize("takes", [True, False], ids=["a model that takes nulls", "one that does not"])
def test_the_scores_are_those_of_the_original_and_the_last_row_has_no_value_if_it_may(
    tmp_path: Path, *, takes: bool
) -> None:
    rows = odd() if takes else usual()
    write_judged(Sum(takes=takes), tmp_path, META, Framing(META, categories_in(rows, META.features)), rows)
    kept = pl.read_parquet(tmp_path / JUDGED)
    assert kept.columns == ["price", "shop", "_score"]
    assert kept["_score"].list.first().to_list() == kept["price"].fill_null(-7.0).to_list()
    assert kept.height == (MOST if takes else MOST - 1)
    assert (kept.row(-1)[:2] == (None, None)) is takes
    assert (tmp_path / JUDGED).stat().st_size < 50_000


def test_equal_rows_and_models_leave_equal_bytes(tmp_path: Path) -> None:
    framing, files = Framing(META, SEEN), []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_judged(Sum(), tmp_path / name, META, framing, odd())
        files.append((tmp_path / name / JUDGED).read_bytes())
    assert files[0] == files[1]


def test_rows_that_the_model_cannot_predict_are_said(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="nothing may be missing"):
        write_judged(Sum(takes=False), tmp_path, META, Framing(META, SEEN), odd())


def test_an_older_file_is_found_where_there_is_no_other(tmp_path: Path) -> None:
    assert judged_file(tmp_path) is None
    (tmp_path / OLDER).touch()
    assert judged_file(tmp_path) == tmp_path / OLDER
    (tmp_path / JUDGED).touch()
    assert judged_file(tmp_path) == tmp_path / JUDGED
