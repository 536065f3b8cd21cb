"""Copies and failures that a server elsewhere tells of."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from everfit.errors import Refused
from everfit.observe.intake import SHADOW_COLUMNS, Rules, Taken
from everfit.observe.shadow import is_shadow, take_shadow

RULES = Rules("binary", target="late", time="at", id="flight")
FIVE = "2013-01-01T05:00:00Z"


def take(rows: dict[str, list[Any]]) -> Taken:
    return take_shadow(pl.DataFrame(rows), RULES, None, issue=lambda: "issued")


def test_failures_and_copies_are_rows_of_the_shadow_table() -> None:
    took = take({
        "flight": [1, 2, 3, 4], "at": [FIVE] * 4, "_model": ["c1", "c2", "c2", "c2"],
        "_failed": ["timeout", "error", "error", None], "_latency_ms": [100.0, None, 3.0, 4.0],
        "_score": [None, None, None, [0.25, 0.75]], "_prediction": [None, None, None, 1], "hour": [1, 2, 3, 4],
    })  # fmt: skip
    assert took.rows.columns == [name for name in SHADOW_COLUMNS if name != "_day"]
    assert all(took.rows.schema[name] == SHADOW_COLUMNS[name] for name in took.rows.columns)
    told = took.rows.sort("_id").select("_id", "_model", "_failed", "_latency_ms", "_prediction").rows()
    assert told == [
        ("1", "c1", "timeout", 100.0, None), ("2", "c2", "error", None, None), ("3", "c2", "error", 3.0, None),
        ("4", "c2", None, 4.0, "1"),
    ]  # fmt: skip
    assert took.rows.sort("_id")["_score"].to_list() == [None, None, None, [0.25, 0.75]]


def test_a_failure_without_a_time_is_refused() -> None:
    took = take({"flight": [1, 2], "at": [FIVE, None], "_model": ["c1"] * 2, "_failed": ["crash"] * 2})
    assert took.rows["_id"].to_list() == ["1"]
    assert took.reasons() == {"no time": 1}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param({"_failed": ["error"]}, "needs '_model'", id="nobody failed"),
        pytest.param({"_failed": ["error"], "_model": [None]}, "needs '_model'", id="an empty name"),
        pytest.param({"_failed": ["tired"], "_model": ["c1"]}, "'tired' is none of crash, error", id="another way"),
        pytest.param({"_failed": [1], "_model": ["c1"]}, "'1' is none of", id="a number"),
    ],
)
def test_what_cannot_be_is_refused(rows: dict[str, list[Any]], said: str) -> None:
    with pytest.raises(Refused, match=said):
        take({"flight": [1], "at": [FIVE], **rows})


def test_a_copy_is_one_only_where_it_is_said() -> None:
    assert is_shadow(pl.DataFrame({"_copy": [True, False, None]})).to_list() == [True, False, False]
    assert is_shadow(pl.DataFrame({"a": [1]})).to_list() == [False]
    with pytest.raises(Refused, match="true or false"):
        is_shadow(pl.DataFrame({"_copy": ["yes"]}))
