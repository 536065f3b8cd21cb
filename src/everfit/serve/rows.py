"""Rows from the bodies of requests.

Takes bytes or parsed JSON; gives frames with one type a column; never echoes a value in an error, and never
turns a value that it cannot hold into a null.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from everfit.errors import Refused

ARROW = "application/vnd.apache.arrow.stream"
PLAIN = frozenset({str, int, float, bool})
MOST_EXACT = 2.0**53  # from here on a float does not keep every whole number apart
SCORES = "_score"  # the one field that may hold lists: a probability for each class


def read_json(body: bytes) -> Any:
    """Parse JSON; NaN and Infinity, which Python clients write, are read too.

    Raises:
        Refused: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" in body or b"Infinity" in body:
            return _read_lax_json(body)
        # `msg` says what and where; it does not quote the body.
        raise Refused(f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None


def column(name: str, values: Sequence[Any]) -> pl.Series:
    """One column of JSON values. Values of several types become text, so that each row is judged by itself.

    >>> column("price", [1, None, 2.5]).to_list(), column("price", [1, "two"]).to_list()
    ([1.0, None, 2.5], ['1', 'two'])

    Raises:
        Refused: a value is a list or an object.
    """
    types = {type(value) for value in values if value is not None}
    if name == SCORES and types == {list}:
        return _scores(values)
    if not types <= PLAIN:
        raise Refused(f"field {name!r} holds lists or objects; send one plain value a row")
    try:
        if types == {int, float}:
            return pl.Series(name, [None if value is None else float(value) for value in values])
        if len(types) < 2 and not (types == {int} and _beyond(values)):
            return pl.Series(name, values)
        return pl.Series(name, [_text(value) for value in values], dtype=pl.String)
    except OverflowError:
        raise Refused(f"field {name!r} holds a whole number that is too large") from None
    except UnicodeEncodeError:
        raise Refused(f"field {name!r} holds text that is not valid Unicode") from None


def from_records(records: Any) -> pl.DataFrame:
    """Rows from a list of objects; a key that an object lacks is null there.

    >>> from_records([{"a": 1}, {"a": 2, "b": "x"}]).to_dicts()
    [{'a': 1, 'b': None}, {'a': 2, 'b': 'x'}]

    Raises:
        Refused: it is not a list of objects.
    """
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise Refused("rows must be a list of objects, one object a row: [{...}, {...}]")
    names = dict.fromkeys(name for record in records for name in record)
    if records and not names:  # a frame without columns would have no rows either
        raise Refused("rows must have fields, and these have none: [{...}, {...}]")
    return pl.DataFrame([column(name, [record.get(name) for record in records]) for name in names])


def from_lists(names: Sequence[str], rows: Any) -> pl.DataFrame:
    """Rows from lists of values in the order of `names`.

    >>> from_lists(["a", "b"], [[1, "x"]]).to_dicts()
    [{'a': 1, 'b': 'x'}]

    Raises:
        Refused: a row has another number of values, or a name comes twice.
    """
    _once(names)
    if rows and not names:
        raise Refused("columns must name the values of a row, and there are none")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise Refused("rows must be a list of lists, one list a row: [[...], [...]]")
    for place, row in enumerate(rows):
        if len(row) != len(names):
            raise Refused(f"row {place} has {len(row)} values for {len(names)} columns; send one for each")
    return from_columns({name: [row[place] for row in rows] for place, name in enumerate(names)})


def from_columns(columns: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
    """Rows from columns of equal length.

    >>> from_columns({"a": [1, 2]}).height
    2

    Raises:
        Refused: the lengths differ.
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} has {length}" for name, length in list(lengths.items())[:4])
        raise Refused(f"columns differ in length: {told}; send as many values for each")
    return pl.DataFrame([column(name, values) for name, values in columns.items()])


def flat(values: list[Any]) -> list[Any]:
    """Values of a column that came as rows of one value each.

    >>> flat([[1], [2]]), flat([1, [2]])
    ([1, 2], [1, [2]])
    """
    if values and all(isinstance(value, list) and len(value) == 1 for value in values):
        return [value[0] for value in values]
    return values


def from_arrow(body: bytes) -> pl.DataFrame:
    """Rows from an Arrow IPC stream.

    Raises:
        Refused: it is not one, or it is damaged.
    """
    try:
        with pa.ipc.open_stream(pa.BufferReader(body)) as stream:
            table = stream.read_all()
        table.validate(full=True)  # a damaged stream must be found here and not inside a kernel
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Refused(
            f"the body is not a whole Arrow IPC stream ({type(error).__name__}); send one of {ARROW}"
        ) from None
    _once(table.column_names)
    for field in table.schema:
        if not _is_taken(field.type):
            raise Refused(f"field {field.name!r} has Arrow's type {field.type}; send numbers, text, flags or moments")
    frame = pl.DataFrame(pl.from_arrow(table))
    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String))


def check_ids(rows: pl.DataFrame, name: str) -> None:
    """Return if no id is a number that has lost digits: JSON's whole numbers beyond 64 bits come as floats.

    Raises:
        Refused: one is; two of them would be one event.
    """
    found = rows[name] if name in rows.columns else None
    if found is not None and found.dtype.is_float() and (found.fill_nan(None).abs() >= MOST_EXACT).any():
        raise Refused(f"field {name!r} holds numbers so large that their last digits are lost; send ids as text")


def _is_taken(kind: pa.DataType) -> bool:
    """Whether polars reads a type of Arrow and our rules judge it: polars ends in a panic over some of the others."""
    if pa.types.is_dictionary(kind):
        return _is_taken(kind.value_type)
    if pa.types.is_nested(kind):  # judged row by row, and refused with a reason
        return all(_is_taken(kind.field(place).type) for place in range(kind.num_fields)) and not pa.types.is_union(
            kind
        )
    return any(is_kind(kind) for is_kind in _ARROW_TYPES)


_ARROW_TYPES: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal128,
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
    pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_timestamp, pa.types.is_date,
)  # fmt: skip


def from_csv(body: bytes) -> pl.DataFrame:
    """Rows from CSV with a header. Every value is text, so that `007` stays as it is; empty is null.

    >>> from_csv(b"a,b\\n007,\\n").to_dicts()
    [{'a': '007', 'b': None}]

    Raises:
        Refused: it is not CSV.
    """
    header = body.split(b"\n", 1)[0].decode("utf-8", errors="replace")
    _once([name.strip().strip('"') for name in header.split(",")])
    try:
        return pl.read_csv(io.BytesIO(body), infer_schema=False)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise Refused(f"the body is not CSV with a header line ({type(error).__name__})") from None


def _once(names: Iterable[Any]) -> None:
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str):
            raise Refused("columns must be names; send each as text")
        if name in seen:
            raise Refused(f"field {name!r} comes twice; send each column once")
        seen.add(name)


def _read_lax_json(body: bytes) -> Any:
    try:
        told = json.loads(body.decode())
        if b"\\u" in body:  # half a character, which no UTF-8 can hold; orjson does not let it pass either
            json.dumps(told, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refused("the body is not JSON") from None
    return told


def _scores(values: Sequence[Any]) -> pl.Series:
    numbers = {type(number) for value in values if value is not None for number in value}
    if not numbers <= {int, float}:
        raise Refused(f"field {SCORES!r} must hold a number, or a list of numbers, a row")
    lists = [None if value is None else [float(number) for number in value] for value in values]
    return pl.Series(SCORES, lists, dtype=pl.List(pl.Float64))


def _beyond(values: Sequence[Any]) -> bool:
    # Whole numbers of more than 64 bits: text keeps every digit, and ids are text anyhow.
    return any(value is not None and not -(2**63) <= value < 2**63 for value in values)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
