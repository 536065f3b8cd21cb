"""The envelope of an event: its id, its time and what it says, checked before anything is acknowledged.

Takes rows as they came, the model's rules and the time; gives rows with the lake's columns and the refused
ones with their reason; never looks at features, which are fitted when the schema is known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from everfit.errors import Refused
from everfit.observe.moments import UTC_MICROSECONDS as MOMENT
from everfit.observe.moments import as_moments
from everfit.observe.schema import RESERVED, class_text
from everfit.units import duration_text

# The lake's own columns, in order. Features follow those of a prediction.
PREDICTION_COLUMNS: dict[str, pl.DataType] = {
    "_id": pl.String(),
    "_time": MOMENT,  # event time
    "_score": pl.List(pl.Float64()),  # probabilities in class order; regression: one value; null: the caller has none
    "_prediction": pl.String(),  # the class; null in regression
    "_model": pl.String(),  # candidate id; null where nobody said which one answered
    "_version": pl.Int64(),
    "_variant": pl.String(),
    "_latency_ms": pl.Float64(),
    "_arrived": MOMENT,
    "_late": pl.Boolean(),  # its window was closed when it was taken
    "_day": pl.Date(),  # of `_time`
}
LABEL_COLUMNS: dict[str, pl.DataType] = {
    "_id": pl.String(),
    "_label": pl.String(),  # the class; null in regression
    "_value": pl.Float64(),  # regression
    "_arrived": MOMENT,
    "_day": pl.Date(),  # of `_arrived`
}
REFUSED_COLUMNS: dict[str, pl.DataType] = {
    "_table": pl.String(),
    "_reason": pl.String(),
    "_column": pl.String(),
    "_payload": pl.String(),  # the row as JSON
    "_time": MOMENT,
    "_arrived": MOMENT,
    "_day": pl.Date(),  # of `_arrived`
}
# Of the prediction that went out: id and times. Of the challenger: the rest; `_score` and `_prediction` are null where
# it failed, and `_latency_ms` runs from asking its process to the answer, for the whole batch of the row.
SHADOW_COLUMNS: dict[str, pl.DataType] = {
    name: PREDICTION_COLUMNS[name]
    for name in ("_id", "_time", "_arrived", "_day", "_model", "_version", "_score", "_prediction", "_latency_ms")
} | {"_failed": pl.String()}  # null, crash, timeout, error or memory
FAILED = "the model failed to score this row"  # a reason for refusal that is the model's fault, not the row's
ARRIVALS = ("_arrived", "arrived", "time")  # where a label may say when it arrived
# Ours that a caller may send.
_TOLD = frozenset({"_id", "_time", "_arrived", "_score", "_prediction", "_label", "_model", "_latency_ms"})


@dataclass(frozen=True, slots=True)
class Rules:
    """What an event of this model must say."""

    task: str  # binary, multiclass, regression
    target: str
    time: str
    id: str | None = None  # None: ids are issued
    positive: str | None = None  # binary: the class that a single score means; None: the last in sorted order
    ahead_at_most: timedelta = timedelta(hours=1)
    classes: tuple[str, ...] = ()  # once they are known

    @property
    def reserved(self) -> frozenset[str]:
        """Columns that are never features."""
        return frozenset(
            {self.target, self.time, *PREDICTION_COLUMNS, *LABEL_COLUMNS} | ({self.id} if self.id else set())
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of rows."""

    rows: pl.DataFrame  # ready for the journal
    refused: pl.DataFrame  # with the columns of the refused table

    def reasons(self) -> dict[str, int]:
        """How many rows were refused, by reason."""
        counted = self.refused["_reason"].value_counts(sort=True)
        return dict(zip(counted["_reason"].to_list(), counted["count"].to_list(), strict=True))


@dataclass(frozen=True, slots=True)
class _Fault:
    """Rows that cannot be taken."""

    at: pl.Series  # true where
    reason: str
    column: str


def take_predictions(rows: pl.DataFrame, rules: Rules, now: datetime | None, issue: Callable[[], str]) -> Taken:
    """Take prediction records: an id (or an issued one), an event time, maybe a score, features as they came.

    `now` None means a replay: nothing is in the future and a row arrives at its event time.

    >>> rules = Rules("binary", target="late", time="at", id="flight")
    >>> sent = pl.DataFrame({"flight": [7, None], "at": ["2013-01-01T05:00"] * 2, "hour": [5, 6]})
    >>> took = take_predictions(sent, rules, None, issue=lambda: "issued")
    >>> took.rows.select("_id", "hour").to_dicts(), took.reasons()
    ([{'_id': '7', 'hour': 5}], {'no id': 1})

    Raises:
        Refused: a column has a name that is ours.
    """
    return _predictions(rows, rules, now, issue)[0]


def take_labels(rows: pl.DataFrame, rules: Rules, now: datetime | None) -> Taken:
    """Take label records: an id, the target (or `label`), and maybe the `time` at which the label arrived.

    >>> rules = Rules("binary", target="late", time="at", id="flight")
    >>> sent = pl.DataFrame({"flight": [7, 8], "label": [True, None], "time": ["2013-01-01T07:00"] * 2})
    >>> took = take_labels(sent, rules, None)
    >>> took.rows.select("_id", "_label").to_dicts(), took.reasons()
    ([{'_id': '7', '_label': 'true'}], {'no label': 1})

    Raises:
        Refused: a column has a name that is ours.
    """
    _names_are_free(rows)
    ids, faults = _ids(rows, rules, None)
    labels, wrong = _labels(rows, _first(rows, [rules.target, "label", "_label"]), rules)
    arrives = _first(rows, ARRIVALS)
    if arrives is None and now is not None:
        arrived: pl.Series = _constant("_arrived", now, rows.height)
    else:
        arrived, more = _times(rows, [arrives or "time"], now, rules)
        faults += more
    taken = pl.DataFrame([ids, *labels, arrived.alias("_arrived")])
    return _split(_Sent("labels", rows, None, arrived), taken, [*faults, *wrong])[0]


def take_history(
    rows: pl.DataFrame,
    rules: Rules,
    *,
    now: datetime | None,
    issue: Callable[[], str],
    arrives: str | None = None,
) -> tuple[Taken, Taken]:
    """Take rows that hold features and the target, as a file of the past does: predictions and known labels.

    A row without a target is a prediction without a label. A label arrives at the time that the column
    `arrives` says, else at the event time.

    >>> rules = Rules("binary", target="late", time="at")
    >>> sent = pl.DataFrame({"at": ["2013-01-01T05:00"] * 2, "hour": [5, 6], "late": [1, None]})
    >>> predictions, labels = take_history(sent, rules, now=None, issue=iter("ab").__next__)
    >>> predictions.rows["_id"].to_list(), labels.rows.select("_id", "_label").to_dicts()
    (['a', 'b'], [{'_id': 'a', '_label': '1'}])

    Raises:
        Refused: the target's column is not there, or a column has a name that is ours.
    """
    if rules.target not in rows.columns:
        raise Refused(f"the target column {rules.target!r} is not there; there are: {', '.join(rows.columns[:12])}")
    features = rows.drop(rules.target, *([arrives] if arrives else []), strict=False)
    predictions, keep = _predictions(features, rules, now, issue)
    events = predictions.rows.with_columns(_arrived="_time")
    told = rows.filter(keep)
    labelled = told[rules.target].is_not_null() & ~_is_nan(told[rules.target])
    told, known = told.filter(labelled), events.select("_id", "_time").filter(labelled)
    labels, faults = _labels(told, rules.target, rules)
    arrived, more = _times(told, [arrives], now, rules) if arrives else (known["_time"], [])
    taken = pl.DataFrame([known["_id"], *labels, arrived.alias("_arrived")])
    sent = _Sent("labels", told, known["_time"], arrived)
    return Taken(events, predictions.refused), _split(sent, taken, [*faults, *more])[0]


def payloads(rows: pl.DataFrame) -> pl.Series:
    """Write rows as JSON, one text a row; what JSON has no form for becomes text.

    >>> payloads(pl.DataFrame({"a": [1.5, float("inf")]})).to_list()
    ['{"a": 1.5}', '{"a": "inf"}']
    """
    texts = [
        json.dumps({k: _plain_value(v) for k, v in row.items()}, default=str) for row in rows.iter_rows(named=True)
    ]
    return pl.Series("_payload", texts, dtype=pl.String)


@dataclass(frozen=True, slots=True)
class _Sent:
    """Rows as they came, for the account of those that are refused."""

    table: str
    rows: pl.DataFrame
    times: pl.Series | None
    arrived: pl.Series


def _predictions(
    rows: pl.DataFrame, rules: Rules, now: datetime | None, issue: Callable[[], str]
) -> tuple[Taken, pl.Series]:
    """What was taken and refused, and which rows were taken."""
    _names_are_free(rows)
    ids, faults = _ids(rows, rules, issue)
    times, more = _times(rows, [rules.time, "_time"], now, rules)
    scores, wrong = _scores(rows, rules)
    answered, slow = _answered(rows)
    arrived = _constant("_arrived", now, rows.height) if now else times.alias("_arrived")
    features = rows.select([name for name in rows.columns if name not in rules.reserved])
    taken = pl.DataFrame([ids, times.alias("_time"), *scores, *answered, arrived]).hstack(features)
    return _split(_Sent("predictions", rows, times, arrived), taken, [*faults, *more, *wrong, *slow])


def _split(sent: _Sent, taken: pl.DataFrame, faults: list[_Fault]) -> tuple[Taken, pl.Series]:
    """Part the rows with a fault from the others; the first fault of a row is its reason."""
    keep = pl.repeat(True, sent.rows.height, dtype=pl.Boolean, eager=True)
    reason = pl.Series("_reason", [None], dtype=pl.String).new_from_index(0, sent.rows.height)
    column = reason.alias("_column")
    for fault in faults:
        new = fault.at & keep
        if new.any():
            reason = pl.Series("_reason", [fault.reason]).new_from_index(0, len(new)).zip_with(new, reason)
            column = pl.Series("_column", [fault.column]).new_from_index(0, len(new)).zip_with(new, column)
            keep &= ~new
    if keep.all():
        return Taken(taken, pl.DataFrame(schema=REFUSED_COLUMNS)), keep
    times = sent.times if sent.times is not None else pl.Series([None], dtype=MOMENT).new_from_index(0, len(keep))
    refused = pl.DataFrame(
        [reason, column, times.alias("_time"), sent.arrived.alias("_arrived")],
    ).filter(~keep)
    refused = refused.with_columns(payloads(sent.rows.filter(~keep)), _table=pl.lit(sent.table))
    refused = refused.with_columns(_day=pl.col("_arrived").dt.date()).select(*REFUSED_COLUMNS)
    return Taken(taken.filter(keep), refused), keep


def _names_are_free(rows: pl.DataFrame) -> None:
    for name in rows.columns:
        if name.startswith(RESERVED) and name not in _TOLD:
            raise Refused(f"column {name!r}: names that begin with {RESERVED!r} are Everfit's own; rename it")


def _answered(rows: pl.DataFrame) -> tuple[list[pl.Series], list[_Fault]]:
    """Which candidate answered and how long that took, where a server that is not ours says so."""
    found, faults = list[pl.Series](), list[_Fault]()
    if "_model" in rows.columns:
        if rows["_model"].dtype not in {pl.String, pl.Null}:
            raise Refused("column '_model' must hold the id of the candidate that answered, as text")
        found.append(rows["_model"].cast(pl.String))
    if "_latency_ms" in rows.columns:
        took, faults = _finite(rows["_latency_ms"], "_latency_ms")
        faults.append(_Fault((took < 0).fill_null(False), "an answer cannot take less than no time", "_latency_ms"))
        found.append(took.alias("_latency_ms"))
    return found, faults


def _first(rows: pl.DataFrame, names: Iterable[str]) -> str | None:
    return next((name for name in names if name in rows.columns), None)


def _constant(name: str, value: object, rows: int, dtype: pl.DataType = MOMENT) -> pl.Series:
    return pl.Series(name, [value], dtype=dtype).new_from_index(0, rows)


def _is_nan(values: pl.Series) -> pl.Series:
    none = pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
    return values.is_nan().fill_null(False) if values.dtype.is_float() else none


def _ids(rows: pl.DataFrame, rules: Rules, issue: Callable[[], str] | None) -> tuple[pl.Series, list[_Fault]]:
    """Ids as text. Without a way to issue them, a missing column is a fault."""
    name = _first(rows, [*([rules.id] if rules.id else []), "_id", *(["id"] if issue is None else [])])
    if name is None and issue is not None:
        return pl.Series("_id", [issue() for _ in range(rows.height)], dtype=pl.String), []
    if name is None or not _is_plain(rows[name].dtype):
        ids = _constant("_id", None, rows.height, pl.String())
    else:
        ids = class_text(rows[name]).alias("_id")
    return ids, [_Fault(ids.is_null() | (ids == "").fill_null(True), "no id", name or rules.id or "id")]


def _times(rows: pl.DataFrame, names: list[str], now: datetime | None, rules: Rules) -> tuple[pl.Series, list[_Fault]]:
    """Times of the first of these columns that is there."""
    name = _first(rows, names)
    if name is None:
        times = _constant("_arrived", None, rows.height)
        return times, [_Fault(times.is_null(), "no time: the column is not there", names[0])]
    came, times = rows[name], as_moments(rows[name])
    numbers = came.dtype.is_numeric()
    unread = "a number is not a time, for nobody says its unit" if numbers else "not a time"
    faults = [
        _Fault(came.is_null(), "no time", name),
        _Fault(times.is_null(), f"{unread}; write ISO text such as 2026-01-31T05:00:00Z", name),
    ]
    if now is not None:
        ahead = (times > now + rules.ahead_at_most).fill_null(False)
        reason = f"more than {duration_text(rules.ahead_at_most)} in the future; a clock is wrong"
        faults.append(_Fault(ahead, reason, name))
    return times.alias("_arrived"), faults


def _labels(rows: pl.DataFrame, name: str | None, rules: Rules) -> tuple[list[pl.Series], list[_Fault]]:
    """Label and value of each row; one of them is null throughout."""
    none = _constant("_label", None, rows.height, pl.String())
    value = _constant("_value", None, rows.height, pl.Float64())
    if name is None:
        return [none, value], [_Fault(none.is_null(), "no label: the column is not there", rules.target)]
    came = rows[name]
    if not _is_plain(came.dtype):
        return [none, value], [_Fault(none.is_null(), "a label must be one plain value", name)]
    if rules.task == "regression":
        value, faults = _finite(came, name)
        return [none, value.alias("_value")], [_Fault(came.is_null(), "no label", name), *faults]
    label = class_text(came).alias("_label")
    missing = _Fault(label.is_null() | (label == "").fill_null(True), "no label", name)
    infinite = came.is_infinite().fill_null(False) if came.dtype.is_float() else label.is_null()
    return [label, value], [missing, _Fault(infinite, "infinite", name)]


def _scores(rows: pl.DataFrame, rules: Rules) -> tuple[list[pl.Series], list[_Fault]]:
    """Score and predicted class that a caller may bring, as the lake keeps them."""
    found: list[pl.Series] = []
    faults: list[_Fault] = []
    said = rows["_prediction"] if "_prediction" in rows.columns else None
    came = rows["_score"] if "_score" in rows.columns else None
    if said is not None and not _is_plain(said.dtype):
        raise Refused("column '_prediction' must hold one plain value a row")
    if rules.task == "regression" and came is None:
        came, said = said, None
    if said is not None and rules.task != "regression":
        found.append(class_text(said).alias("_prediction"))
    if came is not None:
        score, wrong = _score_lists(came, rules)
        found.append(score)
        faults += wrong
    return found, faults


def _score_lists(came: pl.Series, rules: Rules) -> tuple[pl.Series, list[_Fault]]:
    faults: list[_Fault] = []
    if came.dtype.is_nested():
        if not isinstance(came.dtype, pl.List | pl.Array) or not came.explode(empty_as_null=True).dtype.is_numeric():
            raise Refused("column '_score' must hold a number, or a list of numbers, a row")
        lists = came.cast(pl.List(pl.Float64))
    else:
        one, faults = _finite(came, "_score")
        if rules.task == "binary":
            faults.append(_Fault(_side_unknown(one, rules), _SEND_BOTH, "_score"))
        lists = _as_list(one, rules)
    wanted = 1 if rules.task == "regression" else len(rules.classes) or (2 if rules.task == "binary" else None)
    length = lists.list.len()
    wrong_length = (length != wanted) if wanted else (length < 2)
    faults.append(_Fault(wrong_length.fill_null(False), "a score must hold one number for each class", "_score"))
    legal = pl.element().is_finite() if rules.task == "regression" else pl.element().is_between(0, 1)
    outside = ~lists.list.eval(legal.fill_null(False)).list.all().fill_null(True)
    word = "not a finite number" if rules.task == "regression" else "a probability must lie between 0 and 1"
    return lists.alias("_score"), [*faults, _Fault(outside, word, "_score")]


_SEND_BOTH = "one number does not say its class while the classes are unknown; send both, in the classes' sorted order"


def _side_unknown(one: pl.Series, rules: Rules) -> pl.Series:
    return one.is_not_null() & (rules.positive is not None and not rules.classes)


def _as_list(one: pl.Series, rules: Rules) -> pl.Series:
    """A single number as a list: in a binary task it is the probability of the positive class."""
    if rules.task != "binary":
        return one.to_frame("p").select(pl.when(pl.col("p").is_not_null()).then(pl.concat_list("p")))["p"]
    positive_first = bool(rules.classes) and rules.positive == rules.classes[0]
    p, q = pl.col("p"), 1 - pl.col("p")
    pair = pl.concat_list(p, q) if positive_first else pl.concat_list(q, p)
    return one.to_frame("p").select(pl.when(p.is_not_null()).then(pair).alias("p"))["p"]


def _finite(came: pl.Series, name: str) -> tuple[pl.Series, list[_Fault]]:
    numeric = came.dtype.is_numeric() or came.dtype in (pl.String, pl.Boolean, pl.Null)
    values = came.cast(pl.Float64, strict=False) if numeric else _constant(name, None, len(came), pl.Float64())
    return values, [
        _Fault(values.is_null() & came.is_not_null(), "not a number", name),
        _Fault((~values.is_finite()).fill_null(False), "not a finite number", name),
    ]


def _is_plain(dtype: pl.DataType) -> bool:
    return not dtype.is_nested() and dtype not in (pl.Binary, pl.Object)


def _plain_value(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
