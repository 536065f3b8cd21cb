"""Rows as plain values, of many requests at once: the short way from bodies to a model and to the prediction log.

Takes parsed rows whose values are of the types that the model's features have; gives arrays for the model and one
frame for the log; never judges a value: rows that are not plain go the long way (`predict.check`), one request
alone, and both ways give the same answer and the same log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import numpy as np
import polars as pl

from everfit.ids import issued_id
from everfit.observe.intake import PREDICTION_COLUMNS, Rules
from everfit.observe.moments import UTC_MICROSECONDS, as_moments
from everfit.observe.options import Kind
from everfit.observe.schema import Schema, frame_dtypes

NUMBERS = frozenset({int, float, type(None)})
FLAGS = frozenset({bool, type(None)})
TEXTS = frozenset({str, type(None)})
MOST_ORDERS = 256  # orders of columns that are remembered; a client has one
_EPOCH, _MICRO = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_Take = Callable[[Any], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Picks:
    """How to take the values of one row apart, of a row in one shape."""

    kinds: tuple[_Take, ...]  # its numbers, flags, texts and moments
    id: Any = None  # where its id and its time are; None: the row has none
    time: Any = None
    key: Any = None  # where the value is that stays with one model while another is tried
    width: int = 0  # how many values a list must have


class Layout:
    """Which features are of which kind, and where a row has them: worked out once for a model."""

    def __init__(self, schema: Schema, rules: Rules, key: str | None = None) -> None:
        """Sort the features of a schema by their kind; `key` is the column that a trial splits by."""
        self.schema, self.rules, self.key = schema, rules, key
        named = {kind: [column.name for column in schema.features if column.kind is kind] for kind in Kind}
        self.numbers, self.flags = named[Kind.NUMBER], named[Kind.FLAG]
        self.texts, self.moments = named[Kind.CATEGORY], named[Kind.MOMENT]
        self.names = schema.names()
        # Where there are only numbers, and in this order, a matrix needs no taking apart.
        self.is_matrix = len(self.numbers) == len(self.names)
        self._kinds = (self.numbers, self.flags, self.texts, self.moments)
        self._by_name = Picks(tuple(_taker(names) for names in self._kinds))
        self._by_place: dict[tuple[Any, ...], Picks | None] = {}

    def records(self, records: Sequence[Mapping[str, Any]]) -> Plain | None:
        """Rows of objects; None where they are not plain."""
        named = [name for name in (self.rules.id, "_id") if name]
        ids = _named(records, named)
        times = _named(records, [self.rules.time, "_time"])
        keys = _named(records, [self.key] if self.key else [])
        if any(each is _MIXED for each in (ids, times, keys)):
            return None
        return _keyed(_plain(records, self._by_name, ids, times), keys)

    def lists(self, names: Sequence[str], rows: Sequence[Sequence[Any]], beside: Beside | None = None) -> Plain | None:
        """Rows of lists in the order of `names`; ids and times may come beside them."""
        picks = self._picks(names)
        if picks is None or not all(len(row) == picks.width for row in rows):
            return None
        ids, times = (beside.ids, beside.times) if beside else (None, None)
        if picks.id is not None and (ids is None or names[picks.id] == (self.rules.id or "_id")):
            ids = [row[picks.id] for row in rows]
        if picks.time is not None and (times is None or names[picks.time] == self.rules.time):
            times = [row[picks.time] for row in rows]
        keys = None if picks.key is None else [row[picks.key] for row in rows]
        return _keyed(_plain(rows, picks, ids, times), keys)

    def matrix(self, numbers: np.ndarray, beside: Beside) -> Plain | None:
        """A matrix of numbers with the features in order; only where all of them are numbers."""
        if not self.is_matrix or numbers.ndim != 2 or numbers.shape[1] != len(self.names) or not len(numbers):
            return None
        none: list[tuple[Any, ...]] = [()] * len(numbers)
        keys = numbers[:, self.names.index(self.key)].tolist() if self.key in self.names else None
        return _keyed(_checked(Plain(len(numbers), numbers, none, none, none, beside.ids, beside.times)), keys)

    def _picks(self, names: Sequence[str]) -> Picks | None:
        key = tuple(names)
        if key not in self._by_place:
            if len(self._by_place) >= MOST_ORDERS:
                self._by_place.clear()
            self._by_place[key] = self._order(key)
        return self._by_place[key]

    def _order(self, names: tuple[str, ...]) -> Picks | None:
        place = {name: number for number, name in enumerate(names)}
        if len(place) < len(names) or not all(name in place for name in self.names):
            return None
        takers = tuple(_taker([place[name] for name in kind]) for kind in self._kinds)
        at_id = next((place[name] for name in (self.rules.id, "_id") if name in place), None)
        at_time = next((place[name] for name in (self.rules.time, "_time") if name in place), None)
        return Picks(takers, at_id, at_time, place.get(self.key) if self.key else None, len(names))


@dataclass(frozen=True, slots=True)
class Beside:
    """Ids and times that came beside the rows."""

    ids: list[Any] | None = None
    times: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Plain:
    """Rows of one request, values apart by kind, one tuple a row."""

    rows: int
    numbers: Sequence[tuple[Any, ...]] | np.ndarray
    flags: Sequence[tuple[Any, ...]]
    texts: Sequence[tuple[Any, ...]]
    moments: Sequence[tuple[Any, ...]]
    ids: list[Any] | None  # text, once checked; None: they are issued
    times: list[Any] | None  # text, once checked; None: now
    keys: list[Any] | None = None  # None: none came, or none are asked for


@dataclass(frozen=True, slots=True)
class Stack:
    """Rows of several requests as arrays."""

    layout: Layout
    numbers: np.ndarray  # (rows, numbers and then flags), NaN where missing
    texts: list[list[str | None]]  # one list a category
    moments: np.ndarray  # (rows, moments), microseconds, NaN where missing
    ids: list[str]
    times: np.ndarray  # microseconds
    arrived: np.ndarray  # microseconds

    def take(self, places: Sequence[int]) -> Stack:
        """Some of the rows."""
        at = np.asarray(places, dtype=np.intp)
        texts = [[column[place] for place in places] for column in self.texts]
        ids = [self.ids[place] for place in places]
        return Stack(
            self.layout, self.numbers[at], texts, self.moments[at], ids, self.times[at], self.arrived[at]
        )  # fmt: skip

    def frame(self) -> pl.DataFrame:
        """The features in their order and the lake's types."""
        return pl.DataFrame(self.columns(), schema=frame_dtypes(self.layout.schema))

    def columns(self) -> list[pl.Series]:
        """As `frame`, column by column."""
        layout = self.layout
        numbers = np.ascontiguousarray(self.numbers.T)
        columns = {n: pl.Series(n, numbers[at], nan_to_null=True) for at, n in enumerate(layout.numbers)}
        for at, name in enumerate(layout.flags, len(layout.numbers)):
            columns[name] = pl.Series(name, numbers[at], nan_to_null=True).cast(pl.Boolean)
        for name, texts in zip(layout.texts, self.texts, strict=True):
            columns[name] = pl.Series(name, texts, dtype=pl.String)
        for at, name in enumerate(layout.moments):
            micros = pl.Series(name, self.moments[:, at], nan_to_null=True)
            columns[name] = micros.cast(pl.Int64).cast(UTC_MICROSECONDS)
        return [columns[name] for name in layout.names]

    def envelope(self) -> dict[str, pl.Series]:
        """Ids, event times and arrivals."""
        times = {"_time": self.times, "_arrived": self.arrived}
        found = {name: pl.Series(name, value).cast(UTC_MICROSECONDS) for name, value in times.items()}
        return {"_id": pl.Series("_id", self.ids, dtype=pl.String), **found}


def stack(plains: Sequence[Plain], layout: Layout, now: datetime, limit: datetime | None) -> tuple[Stack, list[int]]:
    """Rows of requests as arrays, and the places of requests that must go the long way after all.

    `now` is the time of rows without one; `limit` the moment that rows came at (None in a replay: they come at
    their own time).
    """
    counts = np.array([plain.rows for plain in plains])
    numbers = _join([_numbers(plain, layout) for plain in plains])
    texts = _transposed((row for plain in plains for row in plain.texts), len(layout.texts))
    moments, unread = _moments(plains, layout)
    times, wrong = _times(plains, counts, now, None if limit is None else limit + layout.rules.ahead_at_most)
    owner = np.repeat(np.arange(len(plains)), counts)
    bad = sorted(set(owner[unread | wrong | np.isinf(numbers).any(axis=1)].tolist()))
    ids = [each for plain in plains for each in (plain.ids or [issued_id() for _ in range(plain.rows)])]
    arrived = times if limit is None else np.full(len(times), micros(limit))
    return Stack(layout, numbers, texts, moments, ids, times, arrived), bad


def micros(moment: datetime) -> int:
    """A moment as microseconds since 1970.

    >>> from datetime import UTC
    >>> micros(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC))
    1000005
    """
    return (moment - _EPOCH) // _MICRO


@dataclass(frozen=True, slots=True)
class Portion:
    """A scored batch on its way into the log: a frame is made of many at once, off the path of requests."""

    stack: Stack
    scores: np.ndarray
    labels: list[str] | None
    candidate: str
    version: int
    variant: str
    latencies: list[float]  # milliseconds, one a row

    @property
    def height(self) -> int:
        """How many rows it has."""
        return len(self.stack.ids)

    @property
    def key(self) -> tuple[object, ...]:
        """Portions of one key may be joined."""
        return (id(self.stack.layout), self.candidate, self.version, self.variant)


def logged(portions: Sequence[Portion]) -> pl.DataFrame:
    """The rows of the prediction log for portions of one key: our columns, then the features."""
    first = portions[0]
    whole = joined([portion.stack for portion in portions])
    none: list[str | None] = [None]
    labels = [label for portion in portions for label in portion.labels or none * portion.height]
    scores = pl.Series("_score", _join([portion.scores for portion in portions])).cast(PREDICTION_COLUMNS["_score"])
    latencies = [each for portion in portions for each in portion.latencies]
    said = {
        **whole.envelope(),
        "_score": scores,
        "_prediction": pl.Series("_prediction", labels, dtype=pl.String),
        "_latency_ms": pl.Series("_latency_ms", latencies, dtype=pl.Float64),
    }
    for name, value in (("_model", first.candidate), ("_version", first.version), ("_variant", first.variant)):
        said[name] = pl.Series(name, [value], dtype=PREDICTION_COLUMNS[name]).new_from_index(0, len(labels))
    # In the order of the lake; the mover adds the two that are not there.
    return pl.DataFrame([*(said[name] for name in PREDICTION_COLUMNS if name in said), *whole.columns()])


def joined(stacks: Sequence[Stack]) -> Stack:
    """The rows of stacks of one layout, one after the other."""
    if len(stacks) == 1:
        return stacks[0]
    return Stack(
        stacks[0].layout,
        _join([each.numbers for each in stacks]),
        [[text for part in parts for text in part] for parts in zip(*(each.texts for each in stacks), strict=True)],
        _join([each.moments for each in stacks]),
        [name for each in stacks for name in each.ids],
        _join([each.times for each in stacks]),
        _join([each.arrived for each in stacks]),
    )


_MIXED: list[Any] = []  # some rows have it and others do not


def _named(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Any] | None:
    # The first of these names that any row has counts for all, as for columns of a frame.
    for name in names:
        found = [record[name] for record in records if name in record]
        if found:
            return found if len(found) == len(records) else _MIXED
    return None


def _plain(rows: Sequence[Any], picks: Picks, ids: list[Any] | None, times: list[Any] | None) -> Plain | None:
    try:
        numbers, flags, texts, moments = ([take(row) for row in rows] for take in picks.kinds)
    except (KeyError, IndexError, TypeError):
        return None
    fits = numbers and all(
        allowed.issuperset(map(type, row))
        for allowed, part in ((NUMBERS, numbers), (FLAGS, flags), (TEXTS, texts), (TEXTS, moments))
        for row in part
    )
    return _checked(Plain(len(numbers), numbers, flags, texts, moments, ids, times)) if fits else None


def _keyed(plain: Plain | None, keys: list[Any] | None) -> Plain | None:
    return plain if plain is None or keys is None else replace(plain, keys=keys)


def _checked(plain: Plain) -> Plain | None:
    # An id that is empty or of another type is a case for the long way, and so is a time that is no text.
    if plain.times is not None and not all(type(each) is str for each in plain.times):
        return None
    if plain.ids is None or all(type(each) is str and each for each in plain.ids):
        return plain
    if all(type(each) is int and -(2**63) <= each < 2**63 for each in plain.ids):
        return replace(plain, ids=[str(each) for each in plain.ids])
    return None


def _taker(keys: Sequence[Any]) -> _Take:
    if not keys:
        return lambda _: ()
    if len(keys) == 1:
        only = keys[0]
        return lambda row: (row[only],)
    return itemgetter(*keys)


def _numbers(plain: Plain, layout: Layout) -> np.ndarray:
    if isinstance(plain.numbers, np.ndarray):
        return plain.numbers
    rows = [(*numbers, *flags) for numbers, flags in zip(plain.numbers, plain.flags, strict=True)]
    return np.array(rows, dtype=np.float64).reshape(plain.rows, len(layout.numbers) + len(layout.flags))


def _moments(plains: Sequence[Plain], layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Moments as numbers, and the rows where one cannot be read."""
    rows = sum(plain.rows for plain in plains)
    read, unread = np.empty((rows, len(layout.moments))), np.zeros(rows, dtype=bool)
    columns = _transposed((row for plain in plains for row in plain.moments), len(layout.moments))
    for place, texts in enumerate(columns):
        came = pl.Series("t", texts, dtype=pl.String)
        found = as_moments(came)
        read[:, place] = found.to_physical().cast(pl.Float64).fill_null(float("nan")).to_numpy()
        unread |= (found.is_null() & came.is_not_null()).to_numpy()
    return read, unread


def _times(
    plains: Sequence[Plain], counts: np.ndarray, now: datetime, latest: datetime | None
) -> tuple[np.ndarray, np.ndarray]:
    """Event times as numbers, and the rows whose time cannot be taken."""
    given = np.repeat(np.array([plain.times is not None for plain in plains]), counts)
    times, wrong = np.full(len(given), micros(now)), np.zeros(len(given), dtype=bool)
    if given.any():
        read = as_moments(pl.Series("t", [each for plain in plains for each in plain.times or ()], dtype=pl.String))
        found = read.to_physical()
        times[given], wrong[given] = found.fill_null(0).to_numpy(), found.is_null().to_numpy()
        if latest is not None:
            wrong |= times > micros(latest)
    return times, wrong


def _transposed(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if width else []


def _join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
