"""Portraits of every kind of column, and of frames that are hardly any."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from everfit.errors import Refused, UsageError
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile import learning as columns
from everfit.profile.column import CategoryBins, portray_column
from everfit.profile.learning import learn_column
from everfit.profile.table import Profile, learn_bins, merge, merge_all, portray

SCHEMA = Schema(
    (
        Column("price", Kind.NUMBER),
        Column("carrier", Kind.CATEGORY),
        Column("cargo", Kind.FLAG),
        Column("due", Kind.MOMENT),
    ),
    (),
)
START = datetime(2013, 1, 1, tzinfo=UTC)
FRAME = pl.DataFrame(
    {
        "price": [float(i % 50) for i in range(500)],
        "carrier": ["AA", "BB", "BB", None, "CC"] * 100,
        "cargo": [True, False, False, None, True] * 100,
        "due": [START + timedelta(hours=i) for i in range(500)],
    }
)
BINS = learn_bins(FRAME, SCHEMA)


def facts(profile: Profile) -> dict[str, object]:
    return {name: (c.kind, c.count, c.nulls, c.counts.tolist(), c.moments) for name, c in profile.columns.items()} | {
        "rows": profile.rows,
        "bins": profile.bins.key,
    }


def test_what_a_portrait_says() -> None:
    seen = portray(FRAME, BINS)
    price, carrier, cargo, due = (seen.columns[name] for name in SCHEMA.names())
    assert (seen.rows, price.count, price.nulls, price.present) == (500, 500, 0, 500)
    assert price.mean == pytest.approx(24.5)
    assert price.deviation == pytest.approx(np.std(np.arange(50)))
    assert price.moments is not None
    assert (price.moments.low, price.moments.high) == (0, 49)
    assert carrier.counts.tolist() == [200, 100, 100, 0, 0], "BB, then AA and CC, other, unseen"
    assert (carrier.nulls, carrier.null_share, carrier.mean) == (100, 0.2, None)
    assert cargo.counts.tolist() == [200, 200, 0, 0]
    assert due.mean == pytest.approx((START + timedelta(hours=249.5)).timestamp())


def test_what_the_reference_did_not_have_is_counted() -> None:
    now = pl.DataFrame(
        {
            "price": [-1.0, 10.5, 60.0, float("nan"), float("inf"), float("-inf"), None],
            "carrier": ["ZZ", "AA", None, "", "ZZ", "BB", "x" * 5000],
            "cargo": [True] * 7,
            "due": [None, START - timedelta(days=1)] + [START] * 5,
        }
    )
    seen = portray(now, BINS)
    price = seen.columns["price"]
    assert price.moments is not None
    assert (price.moments.nan, price.moments.plus_inf, price.moments.minus_inf, price.nulls) == (1, 1, 1, 1)
    assert (price.present, price.absent, price.outside) == (3, 4, 2)
    assert seen.columns["carrier"].unseen == 4
    assert seen.columns["due"].outside == 1


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        pytest.param(pl.Series("x", [1, 2, 3]), Kind.NUMBER, id="integers"),
        pytest.param(pl.Series("x", [Decimal("1.5"), Decimal("2.5")]), Kind.NUMBER, id="decimals"),
        pytest.param(pl.Series("x", [date(2013, 1, 1)]), Kind.MOMENT, id="dates"),
        pytest.param(pl.Series("x", ["a", "b"], dtype=pl.Categorical), Kind.CATEGORY, id="categoricals"),
        pytest.param(pl.Series("x", [7, 8]), Kind.CATEGORY, id="numbers as categories"),
        pytest.param(pl.Series("x", [None, None]), Kind.NUMBER, id="all null number"),
        pytest.param(pl.Series("x", [None, None]), Kind.MOMENT, id="all null moment"),
        pytest.param(pl.Series("x", [None, None]), Kind.CATEGORY, id="all null category"),
        pytest.param(pl.Series("x", [], dtype=pl.Float64), Kind.NUMBER, id="no rows"),
        pytest.param(pl.Series("x", [], dtype=pl.String), Kind.CATEGORY, id="no rows of text"),
        pytest.param(pl.Series("x", [float("nan")] * 3), Kind.NUMBER, id="only NaN"),
        pytest.param(pl.Series("x", ["same"] * 9), Kind.CATEGORY, id="a constant category"),
    ],
)
def test_every_kind_of_column_has_a_portrait(values: pl.Series, kind: Kind) -> None:
    frame, schema = values.to_frame(), Schema((Column("x", kind),), ())
    seen = portray(frame, learn_bins(frame, schema))
    x = seen.columns["x"]
    assert (x.count, x.present + x.absent) == (len(values), len(values))
    assert x.outside == x.unseen == 0
    assert facts(Profile.from_bytes(seen.to_bytes())) == facts(seen)


def test_some_columns_alone_are_portrayed_as_among_all() -> None:
    some, whole = portray(FRAME, BINS, of={"carrier", "price"}), portray(FRAME, BINS)
    assert list(some.columns) == ["price", "carrier"], "in the order of the bins"
    assert facts(some) == {name: told for name, told in facts(whole).items() if name not in ("cargo", "due")}
    assert portray(FRAME, BINS, of=()).columns == {}


def test_a_missing_column_is_all_null() -> None:
    seen = portray(FRAME.drop("price", "carrier"), BINS)
    assert seen.columns["price"].null_share == seen.columns["carrier"].null_share == 1


def test_nested_and_changed_columns_are_refused_by_name() -> None:
    with pytest.raises(Refused, match="'price'"):
        portray(FRAME.with_columns(price=pl.concat_list("price", "price")), BINS)
    with pytest.raises(Refused, match="'carrier'"):
        portray(FRAME.with_columns(carrier=pl.concat_list("carrier", "carrier")), BINS)
    with pytest.raises(Refused, match="'due'"):
        portray(FRAME.with_columns(due=pl.lit(1.0)), BINS)


def test_categories_beyond_the_top_are_other_and_ties_stay_together() -> None:
    common = [f"c{i}" for i in range(columns.TOP - 10) for _ in range(3)]
    rare = [f"r{i}" for i in range(100)]
    bins = learn_column(pl.Series(common + rare), Kind.CATEGORY)
    assert isinstance(bins, CategoryBins)
    assert (bins.top, bins.closed, len(bins.places)) == (columns.TOP - 10, True, columns.TOP + 90)
    seen = portray_column(pl.Series(["c1", "r1", "r99", "new"]), Kind.CATEGORY, bins)
    assert seen.counts[-2:].tolist() == [2, 1]


def test_a_column_like_an_id_has_no_unseen_values() -> None:
    ids = pl.Series(np.arange(columns.MOST_KNOWN + 1)).cast(pl.String)
    bins = learn_column(ids, Kind.CATEGORY)
    assert bins.size == 2
    assert portray_column(pl.Series(["new", "0"]), Kind.CATEGORY, bins).counts.tolist() == [2, 0]


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param([[0.2, 0.8], [0.6, 0.4]], id="of two classes the second"),
        pytest.param([[0.8], [0.4]], id="of regression the value"),
        pytest.param([[0.1, 0.1, 0.8], [0.4, 0.3, 0.3]], id="of several classes the highest"),
        pytest.param([0.8, 0.4], id="a number as it is"),
    ],
)
def test_the_score_is_portrayed_like_a_number(scores: list[object]) -> None:
    frame = FRAME[:2].with_columns(_score=pl.Series(scores))
    bins = learn_bins(frame, SCHEMA)
    assert portray(frame, bins).columns["_score"].mean == pytest.approx(0.6)
    assert portray(FRAME, bins).columns["_score"].null_share == 1
    assert "_score" not in BINS.columns


def test_halves_add_up() -> None:
    whole, halves = portray(FRAME, BINS), merge(portray(FRAME[:123], BINS), portray(FRAME[123:], BINS))
    assert [c.counts.tolist() for c in halves.columns.values()] == [c.counts.tolist() for c in whole.columns.values()]
    assert merge_all([whole]) is whole


def test_portraits_on_different_bins_do_not_add_up() -> None:
    other = learn_bins(FRAME[:100], SCHEMA)
    with pytest.raises(UsageError, match="bins of different references"):
        merge(portray(FRAME, BINS), portray(FRAME, other))


def test_bytes_are_the_portrait() -> None:
    seen = portray(FRAME, BINS)
    data = seen.to_bytes()
    assert data == portray(FRAME, learn_bins(FRAME, SCHEMA)).to_bytes(), "the same rows give the same bytes"
    assert facts(Profile.from_bytes(data)) == facts(seen)
    assert merge(Profile.from_bytes(data), seen).rows == 1000
    lean = seen.to_bytes(with_bins=False)
    assert len(lean) < len(data)
    assert facts(Profile.from_bytes(lean, BINS)) == facts(seen)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda data: b"", id="nothing"),
        pytest.param(lambda data: b"PAR1" + data, id="a foreign file"),
        pytest.param(lambda data: data[:-20], id="a torn file"),
        pytest.param(lambda data: data[:60] + b"\0\0\0\0" + data[64:], id="a damaged file"),
        pytest.param(lambda data: portray(FRAME, BINS).to_bytes(with_bins=False), id="a file without its bins"),
    ],
)
def test_bytes_that_are_no_portrait_are_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Refused):
        Profile.from_bytes(spoil(portray(FRAME, BINS).to_bytes()))


def test_the_predicted_class_is_portrayed_where_it_is_asked_for() -> None:
    frame = FRAME[:3].with_columns(_prediction=pl.Series(["a", "b", "a"]))
    classes = Schema(SCHEMA.features, ("a", "b", "c"))
    asked = learn_bins(frame, classes, predictions=True)
    assert portray(frame, asked).columns["_prediction"].counts.tolist() == [2, 1, 0, 0]
    assert "_prediction" not in learn_bins(frame, classes).columns
    assert "_prediction" not in learn_bins(frame, SCHEMA, predictions=True).columns, "regression predicts no class"


def test_an_older_profile_is_refused_with_the_remedy() -> None:
    with pytest.raises(Refused, match="make it again"):
        Profile.from_bytes(b"everfit profile 1\n" + b"\0" * 40)
