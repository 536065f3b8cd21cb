"""What a backtest infers when nobody says it: the column of times, what is no feature, the policies to compare.

Takes a frame and what the user did say; gives names and the reasons in words; never changes a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches
from importlib.util import find_spec

import polars as pl

from everfit.app.project import names_of_rows
from everfit.detect.stream import DETECTORS
from everfit.errors import Refused, UsageError
from everfit.observe.moments import as_moments
from everfit.observe.options import FeatureOptions, Kind
from everfit.observe.schema import DTYPES, kind_of
from everfit.replay.policies import NAMES, is_known
from everfit.units import parse_duration

LOOK = 1000  # rows of a text that are looked at before all of it is read as times
DAY = r"^\s*\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b"  # a day as people write it


def guessed_time(rows: pl.DataFrame, target: str) -> tuple[str | None, str]:
    """The only column that holds times or dates in every row, also as ISO texts, and a sentence about it.

    >>> from datetime import date
    >>> guessed_time(pl.DataFrame({"at": [date(2026, 1, 1)], "price": [1.5]}), "price")
    ('at', "rows are ordered by 'at', the only column with a time in every row")
    >>> guessed_time(pl.DataFrame({"at": ["31.01.2026 23:15"]}), "price")[1]
    "'at' looks like times, but '31.01.2026 23:15' may mean several days: write 2026-01-31T23:15:00 to order rows by it"
    >>> guessed_time(pl.DataFrame({"epoch": [1735689600, 1735693200, 1735696800]}), "price")[1]
    "'epoch' counts up from row to row: if it only orders them, name it with --time"
    """
    texts = [name for name, dtype in rows.schema.items() if dtype == pl.String and name != target]
    found = [name for name, dtype in rows.schema.items() if dtype in (pl.Date, pl.Datetime) and name != target]
    found += [name for name in texts if _all_moments(rows[name].head(LOOK)) and _all_moments(rows[name])]
    whole = [name for name in found if not rows[name].null_count()]
    if len(whole) == 1:
        return whole[0], f"rows are ordered by {whole[0]!r}, the only column with a time in every row"
    if found:
        return None, f"columns of times: {', '.join(found)}; none was chosen: name one with --time"
    for name in texts:
        known = rows[name].head(LOOK).drop_nulls()
        if len(known) and known.str.contains(DAY).all():
            return None, (
                f"{name!r} looks like times, but {known[0]!r} may mean several days: write 2026-01-31T23:15:00 to "
                "order rows by it"
            )
    counting = [name for name, dtype in rows.schema.items() if dtype.is_integer() and _counts_up(rows[name])]
    if counting and counting[0] != target:
        return None, f"{counting[0]!r} counts up from row to row: if it only orders them, name it with --time"
    return None, ""


def _counts_up(numbers: pl.Series) -> bool:
    return len(numbers) > 2 and not numbers.null_count() and bool((numbers.diff().drop_nulls() > 0).all())


def _all_moments(text: pl.Series) -> bool:
    return len(text) > 0 and not text.null_count() and not as_moments(text).null_count()


def must_exist(option: str, name: str, columns: Iterable[str]) -> None:
    """See that a column is there.

    >>> must_exist("--target", "lat", ["at", "late"])
    Traceback (most recent call last):
    everfit.errors.UsageError: --target: there is no column 'lat'; did you mean 'late'? Columns: at, late

    Raises:
        UsageError: it is not; the nearest is named.
    """
    there = list(columns)
    if name not in there:
        near = get_close_matches(name, there, n=1)
        remedy = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"{option}: there is no column {name!r}; {remedy}Columns: {', '.join(there)}")


def typed(rows: pl.DataFrame, options: FeatureOptions) -> pl.DataFrame:
    """Columns of the kinds that a spec gives them.

    Raises:
        Refused: a value does not fit.
    """
    for name, kind in options.types.items():
        must_exist("features.types", name, rows.columns)
        try:
            made = as_moments(rows[name]) if kind is Kind.MOMENT else rows[name].cast(DTYPES[kind])
        except pl.exceptions.PolarsError as error:
            raise Refused(f"features.types: column {name!r} does not hold {kind.value} in every row") from error
        rows = rows.with_columns(made.alias(name))
    return rows


def no_features(rows: pl.DataFrame, reserved: set[str], include: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    """Columns that cannot be features besides those that are reserved, and why in words."""
    free = [name for name in rows.columns if name not in reserved]
    if include:
        for name in include:
            must_exist("features.include", name, rows.columns)
        return [name for name in free if name not in include], []
    unfit = [name for name in free if not _fits(name, rows.schema[name])]
    names = [name for name in names_of_rows(rows, reserved) if name not in unfit]
    said = [f"left out: {', '.join(unfit)}, which cannot be features"] if unfit else []
    said += [f"left out: {', '.join(names)}, of which nearly every row has a value of its own"] if names else []
    return [*unfit, *names], said


def _fits(name: str, dtype: pl.DataType) -> bool:
    try:
        kind_of(name, dtype)
    except Refused:
        return False
    return True


def policies_of(names: str | None) -> tuple[tuple[str, ...], str]:
    """The policies to compare, Everfit's first, and what was left away.

    Args:
        names: with commas between; None: all that can be played here.

    >>> policies_of("every7, everfit")[0]
    ('every7', 'everfit')
    >>> policies_of("evrefit")
    Traceback (most recent call last):
    everfit.errors.UsageError: --policies: 'evrefit' is no policy; did you mean 'everfit'?

    Raises:
        UsageError: there is none of a name; or it needs river, which is not installed.
    """
    river = find_spec("river") is not None
    if names is None:
        left = [name for name in NAMES if name in DETECTORS and name != "everfit" and not river]
        said = f"without {', '.join(left)}: they need river (pip install 'everfit[online]')" if left else ""
        return tuple(name for name in NAMES if name not in left), said
    asked = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not asked:
        raise UsageError(f"--policies: name some of {', '.join(NAMES)}, with commas between")
    for name in asked:
        if is_known(name):
            continue
        near = get_close_matches(name, NAMES, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"choose of {', '.join(NAMES)}, or every7 and the like"
        raise UsageError(f"--policies: {name!r} is no policy; {remedy}")
    return asked, ""


def delay_of(text: str, *, clock: bool) -> int | timedelta:
    """How late labels come: a number of windows, or a duration over a column of times.

    >>> delay_of("2", clock=False), delay_of("3d", clock=True)
    (2, datetime.timedelta(days=3))

    Raises:
        UsageError: it is neither.
    """
    number = text.strip().removesuffix("w") if not clock else text.strip()  # without times w can only mean windows
    if number.isdigit():
        return int(number)
    found = duration_of("--label-delay", text, "2 for two windows, or 3d")
    if not clock:
        raise UsageError(
            f"--label-delay {text}: a duration needs --time with a column of times; or write 2: two windows"
        )
    return found


def duration_of(option: str, text: str, such: str) -> timedelta:
    """A duration.

    >>> duration_of("--window", "7d", "7d").days
    7

    Raises:
        UsageError: it is none.
    """
    try:
        found: timedelta = parse_duration(text)
    except ValueError:
        raise UsageError(f"{option} {text}: not a duration; write {such}") from None
    return found
