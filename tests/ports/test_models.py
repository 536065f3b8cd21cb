"""Model files: written, loaded, kept by content, and never loaded when their bytes changed."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression

from everfit.adapters.boosting import gradient_boosting
from everfit.adapters.frames import Framing, Meta, categories_in, features_in
from everfit.adapters.models import Shelf, folder_key, load, read_meta, write_model
from everfit.errors import ModelUnusable
from everfit.observe.options import Kind


def rows_of_every_kind(many: int = 200) -> pl.DataFrame:
    chance = np.random.default_rng(0)
    start = datetime(2013, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "price": chance.normal(size=many),
            "shop": chance.choice(["a", "b", "c"], many),
            "open": chance.random(many) > 0.5,
            "built": [start + timedelta(days=day) for day in range(many)],
            "empty": pl.Series([None] * many, dtype=pl.Float64),
            "blank": pl.Series([None] * many, dtype=pl.String),
            "same": pl.Series([1.0] * many),
        }
    )
    every_seventh = pl.int_range(many) % 7 == 0
    return frame.with_columns(
        pl.when(~every_seventh).then(pl.col(name)) for name in ("price", "shop", "open", "built")
    ).with_columns(pl.col("built").cast(pl.Datetime("us", "UTC")))


@pytest.fixture
def meta() -> Meta:
    return Meta("binary", features_in(rows_of_every_kind()), ("no", "yes"), "yes")


def trained(meta: Meta) -> object:
    rows = rows_of_every_kind()
    frame = Framing(meta, categories_in(rows, meta.features)).build(rows)
    assert isinstance(frame, pd.DataFrame)
    late = np.where(rows["price"].fill_null(0).to_numpy() > 0, "yes", "no")
    return gradient_boosting(frame.assign(late=late), target="late", seed=0, task="binary", max_iter=10)


def test_every_kind_of_column_comes_through_with_nulls(tmp_path: Path, meta: Meta) -> None:
    rows = rows_of_every_kind()
    written = write_model(trained(meta), tmp_path, meta, rows)
    assert (written.format, written.note) == ("skops", "")
    assert [column.kind for column in meta.features][:4] == [
        Kind.NUMBER,
        Kind.CATEGORY,
        Kind.FLAG,
        Kind.MOMENT,
    ]
    assert read_meta(tmp_path) == written
    predictor = load(tmp_path)
    scores = predictor.score(rows)
    assert np.allclose(scores.sum(axis=1), 1)
    assert predictor.score(written.sample_rows()).tolist() == [scores[0].tolist()]
    assert predictor.score(rows.clear()).shape == (0, 2)
    shuffled = rows.select(reversed(rows.columns)).with_columns(extra=pl.lit(1))
    assert predictor.score(shuffled).tolist() == scores.tolist()


def test_a_category_that_training_did_not_see_counts_as_missing(tmp_path: Path, meta: Meta) -> None:
    rows = rows_of_every_kind()
    write_model(trained(meta), tmp_path, meta, rows)
    predictor = load(tmp_path)
    unseen = predictor.score(rows.with_columns(shop=pl.lit("new")))
    missing = predictor.score(rows.with_columns(shop=pl.lit(None, dtype=pl.String)))
    assert unseen.tolist() == missing.tolist()


def test_equal_models_have_equal_bytes(tmp_path: Path, meta: Meta) -> None:
    rows = rows_of_every_kind()
    for name in ("first", "second"):
        write_model(trained(meta), tmp_path / name, meta, rows)
    assert folder_key(tmp_path / "first") == folder_key(tmp_path / "second")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda rows: rows.drop("shop"), "no column shop", id="a missing column is named"),
        pytest.param(lambda rows: rows.with_columns(price=pl.lit("dear")), "not of the types", id="text is no number"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, meta: Meta, change: object, said: str) -> None:
    rows = rows_of_every_kind()
    write_model(trained(meta), tmp_path, meta, rows)
    assert callable(change)
    with pytest.raises(ModelUnusable, match=said):
        load(tmp_path).score(change(rows))


def test_loading_imports_no_mlflow(tmp_path: Path, meta: Meta) -> None:
    rows = rows_of_every_kind()
    write_model(trained(meta), tmp_path, meta, rows)
    code = (
        "import sys; from pathlib import Path; from everfit.adapters.models import load;"
        f"load(Path({str(tmp_path)!r}));"
        "sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_regression_has_one_column(tmp_path: Path) -> None:
    rows = rows_of_every_kind().select("price")
    model = HistGradientBoostingRegressor(max_iter=5).fit(rows.to_pandas(), np.arange(200.0))
    write_model(model, tmp_path, Meta("regression", features_in(rows)), rows)
    assert load(tmp_path).score(rows).shape == (200, 1)


def test_the_shelf_knows_a_model_by_its_content(tmp_path: Path, meta: Meta) -> None:
    write_model(trained(meta), tmp_path / "made", meta, rows_of_every_kind())
    shelf = Shelf(tmp_path / "shelf")
    file = shelf.keep(tmp_path / "made", "skops")
    assert shelf.keep(tmp_path / "made", "skops") == file
    assert file.size == sum(each.stat().st_size for each in shelf.path(file).iterdir())
    assert [each.name for each in (tmp_path / "shelf").iterdir()] == [file.key]
    shelf.drop(file)
    shelf.drop(file)
    with pytest.raises(ModelUnusable, match="is gone"):
        shelf.path(file)


def test_a_tampered_model_is_not_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "sprung"),))  # type: ignore[return-value]  # any callable will do

    rows = rows_of_every_kind().select("price").drop_nulls()
    model = LogisticRegression().fit(rows.to_pandas(), (rows["price"] > 0).to_numpy())
    write_model(model, tmp_path / "made", Meta("binary", features_in(rows), ("false", "true"), "true"), rows)
    file = Shelf(tmp_path / "shelf").keep(tmp_path / "made", "skops")
    place = tmp_path / "shelf" / file.key
    (place / "model.pickle").write_bytes(pickle.dumps(Trap()))
    (place / "model.json").write_text((place / "model.json").read_text().replace('"skops"', '"cloudpickle"'))
    with pytest.raises(ModelUnusable, match="not the ones that were judged"):
        Shelf(tmp_path / "shelf").path(file)
    assert not (tmp_path / "sprung").exists()
    mended = Shelf(tmp_path / "shelf")
    assert mended.keep(tmp_path / "made", "skops") == file
    assert load(mended.path(file)).score(rows).shape == (rows.height, 2)


def test_a_folder_without_a_model_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="holds no model"):
        load(tmp_path)
