"""The short way and the long way give the same answer and the same rows of the log."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everfit.errors import Refused
from everfit.observe.intake import Rules
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.ports import Route
from everfit.serve.model import Loaded, Signature
from everfit.serve.plain import Layout, Portion, logged, stack
from everfit.serve.predict import Answer, Current, Denial, answer, check, current_of, portion_of, score_stack
from everfit.serve.protocol import MlflowAsk
from everfit.serve.routing import Served
from everfit.serve.serving import Serving
from everfit.serve.v2 import V2Ask
from tests.examples import examples
from tests.unit.serve.fakes import NOW, ListJournal, serving

SCHEMA = Schema(
    (
        Column("night", Kind.FLAG),
        Column("price", Kind.NUMBER),
        Column("shop", Kind.CATEGORY),
        Column("built", Kind.MOMENT),
        Column("size", Kind.NUMBER),
    ),
    ("false", "true"),
)
RULES = Rules("binary", target="late", time="at", id="order")
JSON = "application/json"


class Sum:
    """A model whose score depends on every value."""

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        asked = rows.select(
            pl.col("night").cast(pl.Float64).fill_null(2),
            pl.col("price").fill_null(3),
            pl.col("shop").str.len_bytes().cast(pl.Float64).fill_null(4),
            pl.col("built").dt.timestamp("us").fill_null(5) / 1e15,
            pl.col("size").fill_null(6),
        )
        total = asked.to_numpy().sum(axis=1)
        return np.column_stack([np.sin(total) ** 2, np.cos(total) ** 2])


def told(**changes: Any) -> Serving:
    return dataclasses.replace(serving(Path("nowhere"), ListJournal(), rules=RULES), **changes)


def now_of(told: Serving) -> Current:
    model = Loaded("c1", Signature("binary", SCHEMA, SCHEMA.classes, "true", {}), Sum())
    return current_of(Served(Route("c1", 7, "k"), model), told)


def long_way(ask: MlflowAsk | V2Ask, told: Serving) -> tuple[Any, pl.DataFrame] | None:
    now = now_of(told)
    checked = check(ask.asked(now.layout.names), now, told)
    outcome = checked if isinstance(checked, Denial) else answer(checked, now, told, 0.0)
    if isinstance(outcome, Denial):
        return None
    assert isinstance(outcome, Answer)
    return outcome.answered, outcome.log.rows.drop("_latency_ms")


def short_way(asks: list[MlflowAsk | V2Ask], told: Serving) -> tuple[Any, pl.DataFrame] | None:
    """None if any request must go the long way."""
    now = now_of(told)
    plains = [ask.plain(now.layout) for ask in asks]
    if not all(plains):
        return None
    stacked, bad = stack([plain for plain in plains if plain], now.layout, told.clock.now(), told.limit())
    if bad:
        return None
    answered, scores = score_stack(stacked, now)
    return answered, logged([portion_of(stacked, scores, now, [1.0] * len(stacked.ids))]).drop("_latency_ms")


ODD: list[Any] = [None, True, 0, 1.5, -0.0, 2**53 + 1, 2**64, "", "x", "1", "2013-01-01", "nonsense", [], {}]
GOOD = st.fixed_dictionaries(
    {
        "night": st.sampled_from([True, False, None]),
        "price": st.one_of(st.none(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False)),
        "shop": st.one_of(st.none(), st.sampled_from(["", "a", "Zürich"])),
        "built": st.sampled_from([None, "2013-01-01", "2013-01-01T05:00:00+02:00", "1969-12-31 23:59"]),
        "size": st.sampled_from([None, 1, 2.5]),
        "order": st.sampled_from(["o1", "o2", "7"]),
        "at": st.sampled_from(["2013-01-31", "2013-01-31T05:00:00Z"]),
    }
)
ROWS = st.lists(
    st.one_of(GOOD, st.tuples(GOOD, st.sampled_from([*SCHEMA.names(), "order", "at"]), st.sampled_from(ODD)).map(
        lambda each: {**each[0], each[1]: each[2]}
    )),
    min_size=1,
    max_size=4,
)  # fmt: skip


@examples(150)
@given(ROWS, st.sampled_from(["dataframe_records", "dataframe_split", "instances", "inputs"]), st.booleans())
def test_both_ways_agree_wherever_the_short_one_is_taken(rows: list[dict[str, Any]], form: str, replay: bool) -> None:
    body: Any = rows
    if form == "dataframe_split":
        body = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    raw = json.dumps({form: body}).encode()
    told_ = told(replay=replay)
    try:
        short = short_way([MlflowAsk(raw, JSON)], told_)
    except (OverflowError, ValueError):
        return  # the scorer takes the long way then
    if short is None:
        return
    long = long_way(MlflowAsk(raw, JSON), told_)
    assert long is not None, "what the long way refuses, the short way must not take"
    assert short[0].ids == long[0].ids
    assert short[0].predictions == long[0].predictions
    assert short[0].scores == long[0].scores
    assert short[1].schema == long[1].schema
    assert short[1].equals(long[1])


PLAIN = {"night": True, "price": 1.5, "shop": "a", "built": "2013-01-01", "size": 2, "order": "o1", "at": "2013-01-31"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"price": "1.5"}, id="a number as text"),
        pytest.param({"price": True}, id="a flag as a number"),
        pytest.param({"shop": 7}, id="a number as a category"),
        pytest.param({"night": 1}, id="a number as a flag"),
        pytest.param({"order": 7.0}, id="a float as an id"),
        pytest.param({"order": 2**63}, id="an id beyond 64 bits"),
        pytest.param({"order": ""}, id="an empty id"),
        pytest.param({"built": "soon"}, id="a moment that is none"),
        pytest.param({"at": "soon"}, id="a time that is none"),
        pytest.param({"at": (NOW + timedelta(hours=2)).isoformat()}, id="a time in the future"),
        pytest.param({"at": None}, id="no time"),
    ],
)
def test_what_is_not_plain_goes_the_long_way(change: dict[str, Any]) -> None:
    good, other = ({"dataframe_records": [row]} for row in (PLAIN, PLAIN | change))
    assert short_way([MlflowAsk(orjson.dumps(good), JSON)], told()) is not None
    assert short_way([MlflowAsk(orjson.dumps(other), JSON)], told()) is None


def test_whole_numbers_as_ids_are_plain() -> None:
    short = short_way([MlflowAsk(orjson.dumps({"dataframe_records": [PLAIN | {"order": -7}]}), JSON)], told())
    assert short is not None
    assert short[1]["_id"].to_list() == ["-7"]


def test_infinite_numbers_go_the_long_way_and_nan_is_missing() -> None:
    text = orjson.dumps({"dataframe_records": [PLAIN]}).decode()
    assert short_way([MlflowAsk(text.replace("1.5", "Infinity").encode(), JSON)], told()) is None
    short = short_way([MlflowAsk(text.replace("1.5", "NaN").encode(), JSON)], told())
    assert short is not None
    assert short[1]["price"].to_list() == [None]


def test_requests_of_other_shapes_stack_to_the_same_log() -> None:
    columns = {name: [value] for name, value in PLAIN.items()}
    split = {"columns": list(columns)[::-1], "data": [[*PLAIN.values()][::-1]]}
    asks: list[MlflowAsk | V2Ask] = [
        MlflowAsk(orjson.dumps({"dataframe_records": [PLAIN]}), JSON),
        MlflowAsk(orjson.dumps({"dataframe_split": split}), JSON),
        V2Ask(orjson.dumps({"inputs": [tensor(name, value) for name, value in columns.items()]}), None, "m"),
    ]
    short = short_way(asks, told())
    assert short is not None
    rows = short[1].to_dicts()
    assert rows[0] == rows[1] == rows[2]


def tensor(name: str, values: list[Any]) -> dict[str, Any]:
    datatype = {bool: "BOOL", int: "INT64", float: "FP64", str: "BYTES"}[type(values[0])]
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}


def test_ids_and_times_beside_the_tensors_are_taken() -> None:
    inputs = [tensor(name, [value]) for name, value in PLAIN.items() if name not in {"order", "at"}]
    beside = {"ids": ["o9"], "times": ["2013-01-30"]}
    short = short_way([V2Ask(orjson.dumps({"inputs": inputs, "parameters": beside}), None, "m")], told())
    assert short is not None
    assert short[1].select("_id", "_time").rows() == [("o9", datetime(2013, 1, 30, tzinfo=UTC))]


def test_without_ids_they_are_issued_and_the_time_is_now() -> None:
    row = {name: PLAIN[name] for name in SCHEMA.names()}
    short = short_way([MlflowAsk(orjson.dumps({"dataframe_records": [row, row]}), JSON)], told())
    assert short is not None
    assert short[1]["_id"].n_unique() == 2
    assert short[1]["_time"].to_list() == short[1]["_arrived"].to_list() == [NOW, NOW]


def test_a_matrix_is_plain_where_all_features_are_numbers() -> None:
    numbers = Schema((Column("a", Kind.NUMBER), Column("b", Kind.NUMBER)), ())
    body = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [[1, 2.5], [3, None]]}]}
    plain = V2Ask(orjson.dumps(body), None, "m").plain(Layout(numbers, RULES))
    assert plain is not None
    stacked, bad = stack([plain], Layout(numbers, RULES), NOW, NOW)
    assert not bad
    assert stacked.frame().rows() == [(1.0, 2.5), (3.0, None)]
    assert math.isnan(stacked.numbers[1, 1])
    with pytest.raises(Refused, match="has 5 features"):
        V2Ask(orjson.dumps(body), None, "m").plain(Layout(SCHEMA, RULES))


def test_portions_of_one_key_become_one_frame() -> None:
    now = now_of(told())
    plain = MlflowAsk(orjson.dumps({"dataframe_records": [PLAIN]}), JSON).plain(now.layout)
    assert plain is not None
    stacked, _ = stack([plain], now.layout, NOW, NOW)
    portion = Portion(stacked, np.array([[0.25, 0.75]]), ["true"], "c1", 7, "champion", [1.5])
    rows = logged([portion, portion]).to_dicts()
    assert rows[0] == rows[1]
    assert (rows[0]["_prediction"], rows[0]["_latency_ms"], rows[0]["shop"]) == ("true", 1.5, "a")
