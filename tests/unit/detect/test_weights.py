"""Rows as codes and features, and the weights that make the reference look like now."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from everfit.detect.packed import pack, unpack
from everfit.detect.weights import (
    Encoder,
    Weights,
    column_ratio,
    density_ratio,
    encode,
    encode_columns,
    features_of,
    learn_encoder,
    weigh,
)
from everfit.errors import Refused
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema

SCHEMA = Schema(
    (
        Column("a", Kind.NUMBER),
        Column("shop", Kind.CATEGORY),
        Column("open", Kind.FLAG),
        Column("when", Kind.MOMENT),
        Column("note", Kind.TEXT),
        Column("arrow", Kind.VECTOR),
    ),
    (),
)


def rows(many: int, seed: int = 0, *, moved: float = 0.0) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "a": chance.normal(moved, 1, many),
            "shop": chance.choice(["x", "y", "z"], many),
            "open": chance.random(many) < 0.5,
            "when": [datetime(2013, 1, 1)] * many,
            "note": ["n" * int(length) for length in chance.integers(1, 40, many)],
            "arrow": [[1.0, 2.0]] * many,
        }
    )


def test_moments_and_vectors_are_left_out() -> None:
    assert learn_encoder(rows(100), SCHEMA).names == ("a", "shop", "open", "note")


def test_features_have_mean_0_and_variance_1_on_the_reference() -> None:
    then = rows(4000)
    features = encode_columns(then, learn_encoder(then, SCHEMA))
    varied = features.std(axis=0) > 0
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(features.std(axis=0)[varied], 1, atol=1e-3)


def test_codes_stay_the_same_under_a_rising_transform() -> None:
    then, now = rows(1000), rows(300, 1)
    curved = [frame.with_columns(pl.col("a").exp() * 7) for frame in (then, now)]
    plain = encode(now, learn_encoder(then, SCHEMA))
    np.testing.assert_array_equal(plain, encode(curved[1], learn_encoder(curved[0], SCHEMA)))


CODES = [
    pytest.param({"a": [None, float("nan"), float("inf")]}, "a", [0, 0, 0], id="null, NaN and infinity are absent"),
    pytest.param({"shop": ["x", None, "new"]}, "shop", [1, 0, 4], id="an unseen level has a code of its own"),
    pytest.param({"a": [1.0, 2.0]}, "shop", [0, 0], id="a column that does not come is absent"),
]


@pytest.mark.parametrize(("now", "column", "codes"), CODES)
def test_odd_values_have_codes(now: dict[str, list[object]], column: str, codes: list[int]) -> None:
    then = pl.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "shop": ["x", "x", "y", "z"]})
    encoder = learn_encoder(then, Schema((Column("a", Kind.NUMBER), Column("shop", Kind.CATEGORY)), ()))
    assert encode(pl.DataFrame(now, strict=False), encoder)[:, encoder.names.index(column)].tolist() == codes


def test_a_value_of_many_rows_has_a_bin_of_its_own() -> None:
    values = [0.0] * 500 + list(np.linspace(0.001, 1, 500))
    encoder = learn_encoder(pl.DataFrame({"a": values}), Schema((Column("a", Kind.NUMBER),), ()))
    codes = encode(pl.DataFrame({"a": [0.0, 0.001]}), encoder)[:, 0]
    assert codes[0] != codes[1]


@pytest.mark.parametrize("values", [[None] * 50, [3.0] * 50], ids=["all null", "constant"])
def test_a_column_that_says_nothing_is_no_error(values: list[float | None]) -> None:
    frame = pl.DataFrame({"a": pl.Series(values, dtype=pl.Float64)})
    features = encode_columns(frame, learn_encoder(frame, Schema((Column("a", Kind.NUMBER),), ())))
    assert np.isfinite(features).all()
    assert density_ratio(features, features).values.tolist() == pytest.approx([1.0] * 50)


def test_categories_like_ids_share_one_code() -> None:
    then = pl.DataFrame({"shop": [f"id{number}" for number in range(1000)]})
    encoder = learn_encoder(then, Schema((Column("shop", Kind.CATEGORY),), ()))
    assert encode(pl.DataFrame({"shop": ["id1", "id5000"]}), encoder).tolist() == [[1], [1]]


def test_an_encoder_survives_being_written() -> None:
    encoder = learn_encoder(rows(500), SCHEMA)
    again = Encoder.from_bytes(encoder.to_bytes())
    np.testing.assert_array_equal(encode_columns(rows(50, 1), again), encode_columns(rows(50, 1), encoder))
    with pytest.raises(Refused, match="damaged"):
        Encoder.from_bytes(pack({}, {})[:-4])


def test_weighted_reference_rows_look_like_now() -> None:
    """The ratio of two normals a standard deviation apart is exp(a - 1/2)."""
    then, now = rows(5000), rows(5000, 1, moved=1.0)
    encoder = learn_encoder(then, SCHEMA)
    found = density_ratio(encode_columns(then, encoder), encode_columns(now, encoder))
    assert found.enough
    assert float(np.average(then["a"].to_numpy(), weights=found.values)) == pytest.approx(1.0, abs=0.1)
    right = np.exp(then["a"].to_numpy() - 0.5)
    assert np.corrcoef(np.log(found.values), np.log(right))[0, 1] > 0.95


def test_a_single_column_is_reweighted_alone() -> None:
    then, now = rows(5000), rows(2000, 1, moved=0.5)
    encoder = learn_encoder(then, SCHEMA)
    old, new = encode(then, encoder), encode(now, encoder)
    moved, idle = column_ratio(old, new, 0), column_ratio(old, new, encoder.names.index("open"))
    assert float(np.average(then["a"].to_numpy(), weights=moved.values)) == pytest.approx(0.5, abs=0.1)
    np.testing.assert_allclose(idle.values, 1, atol=0.15)


def test_no_overlap_is_said() -> None:
    weights = weigh(np.array([1.0] * 40 + [1e-9] * 9960))
    assert not weights.enough
    assert weights.said.startswith("too little overlap")
    assert Weights(np.ones(500), 500.0).said == "500 of 500 reference rows count"


def test_no_rows_weigh_nothing() -> None:
    encoder = learn_encoder(rows(100), SCHEMA)
    nobody = features_of(encode(rows(100).clear(), encoder), encoder)
    assert density_ratio(nobody, nobody).effective == 0.0
    assert density_ratio(encode_columns(rows(100), encoder), nobody).values.tolist() == [1.0] * 100


def test_packed_bytes_are_the_same_for_the_same_content() -> None:
    facts = {"name": "ä"}
    arrays: dict[str, NDArray[Any]] = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.zeros((0, 4))}
    packed = pack(facts, arrays)
    told, found = unpack(packed)
    assert told == facts
    assert found["none"].shape == (0, 4)
    np.testing.assert_array_equal(found["x"], arrays["x"])
    assert pack(told, found) == packed
