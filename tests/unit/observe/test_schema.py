"""Columns are learned once and kept: what does not fit is refused by name."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from everfit.errors import Refused
from everfit.observe.options import FeatureOptions, Kind
from everfit.observe.schema import Column, Schema, conform, from_json, learn, to_json, with_classes

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        pytest.param([1, 2], Kind.NUMBER, id="whole numbers are numbers"),
        pytest.param([1.5, None], Kind.NUMBER, id="floats are numbers"),
        pytest.param([Decimal("1.5")], Kind.NUMBER, id="decimals are numbers"),
        pytest.param([None, None], Kind.NUMBER, id="nothing but nulls counts as a number"),
        pytest.param(["a"], Kind.CATEGORY, id="text is a category"),
        pytest.param([True, None], Kind.FLAG, id="true and false are flags"),
        pytest.param([date(2013, 1, 1)], Kind.MOMENT, id="dates are moments"),
        pytest.param([NOON], Kind.MOMENT, id="times are moments"),
        pytest.param([NOON.time()], Kind.NUMBER, id="a time of day is a number of seconds"),
        pytest.param([NOON - NOON], Kind.NUMBER, id="a duration is a number of seconds"),
        pytest.param([[1.0, 2.0]], Kind.VECTOR, id="lists of numbers are vectors"),
        pytest.param([f"{'long prose ' * 9}{i}" for i in range(3)], Kind.TEXT, id="long distinct text is prose"),
        pytest.param(
            ["a long name that comes often " * 9] * 9, Kind.CATEGORY, id="long text that repeats is a category"
        ),
    ],
)
def test_kinds_are_learned(values: list[Any], kind: Kind) -> None:
    rows = pl.DataFrame({"x": values, "id": ["a"] * len(values)})
    assert learn(rows, reserved={"id"}, options=FeatureOptions()).features == (Column("x", kind),)


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        pytest.param({"_x": [1]}, {}, "'_x'.*rename", id="a name of ours"),
        pytest.param({"x": [["a"]]}, {}, "'x' holds List", id="lists of text"),
        pytest.param({"x": [{"a": 1}]}, {}, "'x' holds Struct", id="records"),
        pytest.param({"x": [b"a"]}, {}, "'x' holds Binary", id="bytes"),
        pytest.param({"id": [1]}, {}, "no column is left", id="nothing but ids"),
        pytest.param({"price": [1]}, {"include": ("pric",)}, "did you mean 'price'", id="an included name is misspelt"),
        pytest.param({"price": [1]}, {"types": {"pri": "flag"}}, "did you mean 'price'", id="a typed name is misspelt"),
    ],
)
def test_what_cannot_be_a_feature_is_refused(rows: dict[str, Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        learn(pl.DataFrame(rows), reserved={"id"}, options=FeatureOptions(**options))


def test_the_user_chooses_columns_and_kinds() -> None:
    rows = pl.DataFrame({"zip": [8000], "price": [1.0], "tail": ["x"], "other": [[1]]})
    options = FeatureOptions(exclude=("tail", "other"), types={"zip": Kind.CATEGORY})
    assert learn(rows, reserved=(), options=options).features == (
        Column("zip", Kind.CATEGORY),
        Column("price", Kind.NUMBER),
    )


@pytest.mark.parametrize(
    ("kind", "came", "kept", "reason"),
    [
        pytest.param(Kind.NUMBER, [1, 2], [1.0, 2.0], None, id="whole numbers widen"),
        pytest.param(Kind.NUMBER, ["1", " 2.5 "], [1.0, 2.5], None, id="numbers as text are read"),
        pytest.param(Kind.NUMBER, ["1", "two"], [1.0], "not a number", id="words are no numbers"),
        pytest.param(Kind.NUMBER, [1.0, float("nan")], [1.0, None], None, id="NaN is null"),
        pytest.param(Kind.NUMBER, [1.0, float("-inf")], [1.0], "infinite", id="infinity is refused"),
        pytest.param(Kind.NUMBER, ["1", "inf"], [1.0], "infinite", id="infinity as text is refused"),
        pytest.param(Kind.NUMBER, [True, None], [1.0, None], None, id="a flag counts as 0 or 1"),
        pytest.param(Kind.NUMBER, [None, NOON], [None], "not a number", id="times are no numbers"),
        pytest.param(Kind.NUMBER, [None, [1]], [None], "not a number", id="lists are no numbers"),
        pytest.param(Kind.CATEGORY, [1.0, 2.5], ["1", "2.5"], None, id="numbers become text"),
        pytest.param(Kind.CATEGORY, [1.0, float("nan")], ["1", None], None, id="NaN is null in a category too"),
        pytest.param(Kind.CATEGORY, [True, None], ["true", None], None, id="flags become text"),
        pytest.param(Kind.CATEGORY, [None, {"a": 1}], [None], "not text", id="records are no text"),
        pytest.param(Kind.FLAG, ["True", "0"], [True, False], None, id="flags as text are read"),
        pytest.param(Kind.FLAG, [1, 2], [True], "not true or false", id="two is no flag"),
        pytest.param(Kind.MOMENT, ["2013-01-01T12:00Z", None], [NOON, None], None, id="ISO text is a time"),
        pytest.param(Kind.MOMENT, ["2013-01-01 12:00", "soon"], [NOON], "not a time", id="words are no times"),
        pytest.param(Kind.MOMENT, [None, 1357041600], [None], "not a time", id="numbers are no times"),
        pytest.param(Kind.MOMENT, [datetime(2013, 1, 1, 12)] * 2, [NOON, NOON], None, id="no zone means UTC"),
        pytest.param(Kind.NUMBER, [timedelta(seconds=90)], [90.0], None, id="a duration is seconds"),
        pytest.param(Kind.NUMBER, [time(1)], [3600.0], None, id="a time of day is seconds"),
        pytest.param(Kind.TEXT, ["so long", None], ["so long", None], None, id="prose is text"),
        pytest.param(Kind.VECTOR, [[1, 2], None], [[1.0, 2.0], None], None, id="lists of numbers are vectors"),
        pytest.param(Kind.VECTOR, [None, ["a"]], [None], "not a list of numbers", id="lists of text are not"),
        pytest.param(Kind.VECTOR, [None, "a"], [None], "not a list of numbers", id="text is no vector"),
    ],
)
def test_rows_are_made_to_fit(kind: Kind, came: list[Any], kept: list[Any], reason: str | None) -> None:
    done = conform(pl.DataFrame({"x": pl.Series(came, strict=False)}), Schema((Column("x", kind),), ()))
    assert done.rows["x"].to_list() == kept
    assert [(r["_index"], r["_column"]) for r in done.refused.to_dicts()] == ([] if reason is None else [(1, "x")])
    assert reason is None or done.refused["_reason"][0].startswith(reason)


def test_columns_that_vanish_are_null_and_strangers_are_named() -> None:
    schema = Schema((Column("a", Kind.NUMBER), Column("b", Kind.CATEGORY)), ())
    done = conform(pl.DataFrame({"b": ["x"], "new": [1], "_id": ["i"]}), schema)
    assert (done.missing, done.extra) == (("a",), ("new",))
    assert done.rows.schema == {"_id": pl.String, "a": pl.Float64, "b": pl.String}


def test_a_row_is_refused_once_for_its_first_fault() -> None:
    schema = Schema((Column("a", Kind.NUMBER), Column("b", Kind.NUMBER)), ())
    done = conform(pl.DataFrame({"a": ["x", "1", "1"], "b": ["x", "y", "1"]}), schema)
    assert done.refused.select("_index", "_column").rows() == [(0, "a"), (1, "b")]
    assert done.rows.height == 1


def test_no_rows_are_no_trouble() -> None:
    schema = Schema((Column("a", Kind.FLAG), Column("b", Kind.MOMENT)), ())
    assert conform(pl.DataFrame({"a": []}), schema).rows.height == 0


def test_a_schema_survives_json() -> None:
    schema = Schema((Column("a", Kind.FLAG), Column("ü", Kind.MOMENT)), ("0", "1"))
    assert from_json(to_json(schema)) == schema


def test_classes_are_text_and_sorted() -> None:
    schema = with_classes(Schema((), ("b",)), pl.Series(["c", None, "a"]))
    assert schema.classes == ("a", "b", "c")
    assert with_classes(Schema((), ()), pl.Series([1.0, 0.0])).classes == ("0", "1")
    assert with_classes(Schema((), ()), pl.Series([True, False])).classes == ("false", "true")
