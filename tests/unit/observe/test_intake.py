"""The envelope of events: what is taken, what is refused, and how it is said."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import polars as pl
import pytest

from everfit.errors import Refused
from everfit.observe.intake import REFUSED_COLUMNS, Rules, Taken, take_history, take_labels, take_predictions

NOW = datetime(2013, 1, 2, tzinfo=UTC)
FIVE = datetime(2013, 1, 1, 5, tzinfo=UTC)
RULES = Rules("binary", target="late", time="at", id="flight")
REGRESSION = Rules("regression", target="delay", time="at", id="flight")


def take(rows: dict[str, Any], rules: Rules = RULES, now: datetime | None = NOW) -> Taken:
    numbers = count()
    return take_predictions(pl.DataFrame(rows, strict=False), rules, now, lambda: f"issued-{next(numbers)}")


@pytest.mark.parametrize(
    ("row", "reason", "column"),
    [
        pytest.param({"flight": None, "at": FIVE}, "no id", "flight", id="a null id"),
        pytest.param({"flight": "", "at": FIVE}, "no id", "flight", id="an empty id"),
        pytest.param({"flight": 1, "at": None}, "no time", "at", id="no time"),
        pytest.param({"flight": 1}, "no time: the column is not there", "at", id="no column of times"),
        pytest.param({"flight": 1, "at": "soon"}, "not a time; write ISO", "at", id="a word as time"),
        pytest.param({"flight": 1, "at": 1357020000}, "a number is not a time", "at", id="seconds since 1970"),
        pytest.param({"flight": 1, "at": "1357020000"}, "not a time", "at", id="seconds as text"),
        pytest.param({"flight": 1, "at": NOW + timedelta(hours=2)}, "more than 1h in the future", "at", id="future"),
    ],
)
def test_an_envelope_with_a_fault_is_refused(row: dict[str, Any], reason: str, column: str) -> None:
    took = take({name: [value] for name, value in {**row, "hour": 5}.items()})
    assert took.rows.is_empty()
    assert took.refused["_reason"][0].startswith(reason)
    assert took.refused.row(0, named=True)["_column"] == column
    assert json.loads(took.refused["_payload"][0])["hour"] == 5
    assert took.refused.schema == pl.Schema(REFUSED_COLUMNS)


@pytest.mark.parametrize(
    "time",
    [
        pytest.param(FIVE, id="a time with a zone"),
        pytest.param(datetime(2013, 1, 1, 5), id="a time without a zone is UTC"),
        pytest.param("2013-01-01T05:00:00Z", id="ISO"),
        pytest.param("2013-01-01 05:00", id="ISO with a space and no seconds"),
        pytest.param("2013-01-01T06:00:00.000+01:00", id="ISO with an offset"),
        pytest.param("2013-01-01T06:00:00+0100", id="ISO with a short offset"),
    ],
)
def test_times_are_read(time: object) -> None:
    assert take({"flight": [1], "at": [time]}).rows["_time"].to_list() == [FIVE]


def test_a_date_is_its_midnight() -> None:
    midnight = datetime(2013, 1, 1, tzinfo=UTC)
    assert take({"flight": [1, 2], "at": [date(2013, 1, 1)] * 2}).rows["_time"].to_list() == [midnight] * 2
    assert take({"flight": [1], "at": ["2013-01-01"]}).rows["_time"].to_list() == [midnight]


def test_features_come_through_untouched_and_the_envelope_is_ours() -> None:
    took = take({"flight": [7.0], "at": [FIVE], "hour": [5], "late": [1], "origin": ["JFK"]})
    assert took.rows.columns == ["_id", "_time", "_arrived", "hour", "origin"]
    assert took.rows.row(0) == ("7", FIVE, NOW, 5, "JFK")


def test_ids_are_issued_when_there_is_no_column_of_them() -> None:
    took = take({"at": [FIVE, FIVE]}, Rules("binary", target="late", time="at"))
    assert took.rows["_id"].to_list() == ["issued-0", "issued-1"]


def test_a_replay_has_no_future_and_rows_arrive_at_their_time() -> None:
    took = take({"flight": [1], "at": [datetime(2030, 1, 1, tzinfo=UTC)]}, now=None)
    assert took.rows["_arrived"].to_list() == took.rows["_time"].to_list()


@pytest.mark.parametrize(
    ("rules", "said", "score"),
    [
        pytest.param(RULES, {"_score": 0.25}, [0.75, 0.25], id="one number is that of the last class"),
        pytest.param(RULES, {"_score": [0.75, 0.25]}, [0.75, 0.25], id="both are taken as they are"),
        pytest.param(
            Rules("binary", "late", "at", "flight", positive="a", classes=("a", "b")),
            {"_score": 0.25},
            [0.25, 0.75],
            id="one number is that of the positive class",
        ),
        pytest.param(REGRESSION, {"_score": 12}, [12.0], id="a value"),
        pytest.param(REGRESSION, {"_prediction": "12.5"}, [12.5], id="a value told as prediction"),
        pytest.param(RULES, {"_score": None}, None, id="no score"),
    ],
)
def test_scores_are_taken(rules: Rules, said: dict[str, Any], score: list[float] | None) -> None:
    took = take({"flight": [1], "at": [FIVE], **{name: [value] for name, value in said.items()}}, rules)
    assert took.rows["_score"].to_list() == [score]


@pytest.mark.parametrize(
    ("rules", "score", "reason"),
    [
        pytest.param(RULES, 1.5, "a probability must lie", id="beyond one"),
        pytest.param(RULES, [0.5, -0.5], "a probability must lie", id="below zero"),
        pytest.param(RULES, [0.5, 0.3, 0.2], "a score must hold one number for each class", id="one too many"),
        pytest.param(RULES, float("nan"), "not a finite number", id="NaN"),
        pytest.param(RULES, "high", "not a number", id="a word"),
        pytest.param(REGRESSION, float("inf"), "not a finite number", id="an infinite value"),
        pytest.param(
            Rules("binary", "late", "at", "flight", positive="1"), 0.5, "one number does not", id="side unknown"
        ),
    ],
)
def test_scores_with_a_fault_are_refused(rules: Rules, score: object, reason: str) -> None:
    took = take({"flight": [1], "at": [FIVE], "_score": [score]}, rules)
    assert took.refused["_reason"][0].startswith(reason)
    assert took.refused["_column"].to_list() == ["_score"]


def test_predicted_classes_are_text() -> None:
    assert take({"flight": [1], "at": [FIVE], "_prediction": [1.0]}).rows["_prediction"].to_list() == ["1"]


def test_a_server_that_is_not_ours_says_which_candidate_answered() -> None:
    took = take({"flight": [1, 2], "at": [FIVE, FIVE], "_score": [0.1, 0.2], "_model": ["c1", None]})
    assert took.rows["_model"].to_list() == ["c1", None]
    with pytest.raises(Refused, match="'_model' must hold the id"):
        take({"flight": [1], "at": [FIVE], "_model": [1]})


def test_a_server_that_is_not_ours_says_how_long_its_answers_took() -> None:
    took = take({"flight": [1, 2, 3, 4], "at": [FIVE] * 4, "_latency_ms": [2, None, -1, float("nan")]})
    assert took.rows["_latency_ms"].to_list() == [2.0, None]
    assert took.reasons() == {"an answer cannot take less than no time": 1, "not a finite number": 1}
    assert take({"flight": [1], "at": [FIVE], "_latency_ms": ["soon"]}).reasons() == {"not a number": 1}


@pytest.mark.parametrize("name", ["_version", "_day", "_mine"])
def test_names_of_ours_are_refused(name: str) -> None:
    with pytest.raises(Refused, match=f"'{name}'.*rename"):
        take({"flight": [1], "at": [FIVE], name: [1]})


@pytest.mark.parametrize(
    ("rules", "label", "kept"),
    [
        pytest.param(RULES, True, ("true", None), id="a flag"),
        pytest.param(RULES, 1.0, ("1", None), id="a whole number without its point"),
        pytest.param(RULES, "yes", ("yes", None), id="text"),
        pytest.param(REGRESSION, 3, (None, 3.0), id="a value"),
        pytest.param(REGRESSION, "3.5", (None, 3.5), id="a value as text"),
    ],
)
def test_labels_are_taken(rules: Rules, label: object, kept: tuple[object, object]) -> None:
    took = take_labels(pl.DataFrame({"flight": [7], "label": [label]}), rules, NOW)
    assert took.rows.row(0, named=True) == {"_id": "7", "_label": kept[0], "_value": kept[1], "_arrived": NOW}


@pytest.mark.parametrize(
    ("rules", "label", "reason"),
    [
        pytest.param(RULES, None, "no label", id="null"),
        pytest.param(RULES, float("nan"), "no label", id="NaN as a class"),
        pytest.param(RULES, float("inf"), "infinite", id="infinity as a class"),
        pytest.param(REGRESSION, None, "no label", id="no value"),
        pytest.param(REGRESSION, "much", "not a number", id="a word as a value"),
        pytest.param(REGRESSION, float("nan"), "not a finite number", id="NaN as a value"),
        pytest.param(REGRESSION, float("inf"), "not a finite number", id="infinity as a value"),
        pytest.param(RULES, [1], "a label must be one plain value", id="a list"),
    ],
)
def test_labels_with_a_fault_are_refused(rules: Rules, label: object, reason: str) -> None:
    took = take_labels(pl.DataFrame({"flight": [7], rules.target: [label]}), rules, NOW)
    assert took.rows.is_empty()
    assert took.refused["_reason"].to_list() == [reason]


def test_a_label_says_when_it_arrived_and_a_replay_needs_that() -> None:
    rows = pl.DataFrame({"flight": [7], "late": [1]})
    told = take_labels(rows.with_columns(time=pl.lit("2013-01-01T05:00Z")), RULES, None)
    assert told.rows["_arrived"].to_list() == [FIVE]
    assert take_labels(rows, RULES, None).reasons() == {"no time: the column is not there": 1}


def test_history_gives_predictions_and_the_labels_that_are_known() -> None:
    rows = pl.DataFrame({
        "flight": [1, 2, None, 4],
        "at": ["2013-01-01T05:00"] * 3 + ["bad"],
        "late": [1.0, float("nan"), 0.0, 1.0],
        "landed": ["2013-01-01T09:00", None, "2013-01-01T09:00", None],
        "hour": [5, 6, 7, 8],
    })  # fmt: skip
    predictions, labels = take_history(rows, RULES, now=None, issue=str, arrives="landed")
    assert predictions.rows["_id"].to_list() == ["1", "2"]
    assert predictions.rows.columns == ["_id", "_time", "_arrived", "hour"]
    assert labels.rows.rows() == [("1", "1", None, datetime(2013, 1, 1, 9, tzinfo=UTC))]
    assert predictions.refused.height == 2  # and their labels went with them
    assert labels.refused.is_empty()
    pl.concat([predictions.refused, labels.refused])  # one shape for all that is refused


def test_history_without_an_arrival_has_labels_from_the_event_on() -> None:
    _, labels = take_history(pl.DataFrame({"flight": [1], "at": [FIVE], "late": [1]}), RULES, now=NOW, issue=str)
    assert labels.rows["_arrived"].to_list() == [FIVE]


def test_history_needs_the_target() -> None:
    with pytest.raises(Refused, match="target column 'late' is not there"):
        take_history(pl.DataFrame({"at": [FIVE]}), RULES, now=None, issue=str)


def test_no_rows_are_no_trouble() -> None:
    assert take({"flight": [], "at": []}).rows.is_empty()
    assert take_labels(pl.DataFrame({"flight": [], "late": []}), RULES, NOW).rows.is_empty()
