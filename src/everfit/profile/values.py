"""What a column of Arrow means for a portrait: numbers to be binned, or names to be counted.

Takes Arrow arrays of any type and the kind that the column was learned as; gives floats or codes with names; never
changes the rows, and refuses a type that no kind fits, naming the column.

Numbers: whole numbers beyond 2^53 and decimals are rounded to double precision; flags are 0 and 1; text is read as
numbers where it is one, else it is null. Moments are seconds since 1970, read from ISO text too; durations are seconds,
times of day seconds since midnight. Texts are portrayed by their length in characters, vectors by their Euclidean norm;
a vector of another dimension than the reference's is broken and gives NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everfit.errors import Refused
from everfit.observe.moments import as_moments
from everfit.observe.options import Kind

Floats = NDArray[np.float64]
NUMBERS = frozenset({Kind.NUMBER, Kind.MOMENT, Kind.TEXT, Kind.VECTOR})  # portrayed as numbers; the others by names
LONGEST = 200  # characters of a category that are kept as they are; longer ones by their beginning and a digest
_WHOLE = 1e6  # microseconds in a second


@dataclass(frozen=True, slots=True)
class Numbers:
    """A piece of a number column."""

    values: Floats  # one per row; NaN where the row is null
    source: pa.Array  # tells which rows are null

    def nulls(self, start: int, stop: int) -> int:
        """How many of these rows are null."""
        if self.source.null_count == 0:
            return 0
        return int(self.source.slice(start, stop - start).null_count)


@dataclass(frozen=True, slots=True)
class Names:
    """A piece of a category or flag column."""

    codes: NDArray[np.intp]  # one per row that is not null: which name
    names: pa.Array  # large strings; a name may come twice
    source: pa.Array  # tells which rows are null

    def span(self, start: int, stop: int) -> tuple[NDArray[np.intp], int]:
        """The codes of these rows, and how many of the rows are null."""
        if self.source.null_count == 0:
            return self.codes[start:stop], 0
        nulls = int(self.source.slice(start, stop - start).null_count)
        first = start - (int(self.source.slice(0, start).null_count) if start else 0)
        return self.codes[first : first + stop - start - nulls], nulls


def pieces(column: pa.Array | pa.ChunkedArray | pl.Series) -> Iterator[pa.Array]:
    """The Arrow arrays that a column consists of."""
    if isinstance(column, pl.Series):
        column = column.to_arrow()
    if isinstance(column, pa.ChunkedArray):
        yield from column.chunks
    else:
        yield column


def numbers(array: pa.Array, kind: Kind, name: str, dimension: int | None = None) -> Numbers:
    """Read a piece of a column as floats.

    >>> numbers(pa.array([1, None, 3]), Kind.NUMBER, "size").values.tolist()
    [1.0, nan, 3.0]
    >>> numbers(pa.array(["two words", None]), Kind.TEXT, "note").values.tolist()
    [9.0, nan]
    >>> numbers(pa.array([[3.0, 4.0], [1.0]]), Kind.VECTOR, "face", dimension=2).values.tolist()
    [5.0, nan]

    Raises:
        Refused: the column is of a type that this kind cannot be read from.
    """
    if array.null_count == len(array):  # of whatever type
        return Numbers(np.full(len(array), np.nan), array)
    match kind:
        case Kind.MOMENT:
            array = _moments(array, name)
        case Kind.TEXT:
            array = pc.utf8_length(_text(array, name))
        case Kind.VECTOR:
            return Numbers(_norms(array, name, dimension), array)
        case _:
            array = _plain(array, name)
    values = array.to_numpy(zero_copy_only=False)
    if kind is Kind.MOMENT:
        values = values / _WHOLE
    return Numbers(values.astype(np.float64, copy=False), array)


def names(array: pa.Array, name: str) -> Names:
    """Read a piece of a column as names with a code for each row.

    >>> read = names(pa.array(["b", "a", None, "b"]), "shop")
    >>> read.codes.tolist(), read.names.to_pylist()
    ([0, 1, 0], ['b', 'a'])

    Raises:
        Refused: the column holds lists, records or bytes.
    """
    if pa.types.is_boolean(array.type):
        codes = array.drop_null().to_numpy(zero_copy_only=False).astype(np.intp)
        return Names(codes, pa.array(["false", "true"], type=pa.large_string()), array)
    coded = array
    if not pa.types.is_dictionary(array.type):
        coded = _text(array, name).dictionary_encode()
    indices, known = coded.indices, _text(coded.dictionary, name)
    if known.null_count:  # a dictionary may hold null as a value
        indices = pc.if_else(pc.is_null(known.take(indices)), None, indices)
        coded, known = pa.DictionaryArray.from_arrays(indices, known.fill_null("")), known.fill_null("")
        indices = coded.indices
    present = indices.drop_null() if indices.null_count else indices
    return Names(present.to_numpy().astype(np.intp, copy=False), short(known), indices)


def short(known: pa.Array) -> pa.Array:
    """Names of bearable length: a very long one by its beginning and a digest, so that it stays itself.

    >>> len(short(pa.array(["x" * 5000], type=pa.large_string()))[0].as_py())
    66
    """
    longest = pc.max(pc.binary_length(known)).as_py() or 0
    if longest <= LONGEST:
        return known
    return pa.array([_short(each) for each in known.to_pylist()], type=pa.large_string())


def dimension_of(array: pa.Array) -> int | None:
    """The most frequent dimension of the vectors in a piece; None without any.

    >>> dimension_of(pa.array([[1.0, 2.0], [3.0, 4.0], [5.0]]))
    2
    """
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return array.type.list_size if pa.types.is_fixed_size_list(array.type) and len(array) else None
    sizes = pc.list_value_length(array).drop_null().to_numpy(zero_copy_only=False)
    return int(np.bincount(sizes.astype(np.intp)).argmax()) if len(sizes) else None


def _short(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    return f"{name[:40]}… {blake2b(name.encode(), digest_size=12).hexdigest()}"


def _plain(array: pa.Array, name: str) -> pa.Array:
    kind = array.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return array if kind.bit_width > 16 or pa.types.is_integer(kind) else array.cast(pa.float32())
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        unit = "duration" if pa.types.is_duration(kind) else "time64"
        target = pa.duration("us") if unit == "duration" else pa.time64("us")
        return pc.divide(array.cast(target, safe=False).cast(pa.int64()).cast(pa.float64()), _WHOLE)
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8())
    if pa.types.is_decimal(kind):
        return array.cast(pa.float64())
    return _frame(array, name).cast(pl.Float64, strict=False).to_arrow()


def _moments(array: pa.Array, name: str) -> pa.Array:
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array = as_moments(_frame(array, name)).to_arrow()
    if not (pa.types.is_timestamp(array.type) or pa.types.is_date(array.type)):
        raise Refused(f"column {name!r} was learned as moments of time and now holds {array.type}")
    return array.cast(pa.timestamp("us", getattr(array.type, "tz", None)), safe=False).cast(pa.int64())


def _text(array: pa.Array, name: str) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type):
        return array
    if pa.types.is_string(array.type) or pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    return _frame(array, name).cast(pl.String).to_arrow().cast(pa.large_string())


def _frame(array: pa.Array, name: str) -> pl.Series:
    """As polars sees it: its casts to text and from text are those of the lake."""
    if pa.types.is_nested(array.type) or pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        raise Refused(f"column {name!r} holds {array.type}; it needs numbers, text, flags, times or lists of numbers")
    series = pl.from_arrow(array)
    if not isinstance(series, pl.Series):
        raise Refused(f"column {name!r} holds {array.type}; it needs numbers, text, flags or times")
    return series


def _norms(array: pa.Array, name: str, dimension: int | None) -> Floats:
    kind = array.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise Refused(f"column {name!r} was learned as vectors and now holds {kind}; send lists of numbers")
    flat = array.flatten().to_numpy(zero_copy_only=False).astype(np.float64, copy=False)  # NaN where a number is null
    sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.intp)
    ends = np.cumsum(sizes)
    with np.errstate(over="ignore"):
        sums = np.concatenate([[0.0], flat * flat])
    filled = np.flatnonzero(sizes)
    norms = np.zeros(len(array))
    if len(filled):
        norms[filled] = np.sqrt(np.add.reduceat(sums[1:], (ends - sizes)[filled]))
    broken = ~np.asarray(array.is_valid()) if dimension is None else (sizes != dimension)
    norms[broken | ~np.asarray(array.is_valid())] = np.nan
    return norms
