"""Two sets of rows held against each other: which columns drifted, which are broken.

Takes profiles of a reference and of current rows, or two frames; gives a `Comparison`; never learns anything from the
current rows.

How healthy windows differ from each other is told by the reference itself, cut in its order into windows of the
current's size, where it has rows for five or more of them; smaller ones where fewer than twenty fit, for five windows
say little of their spread. Else only sampling noise is counted, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from everfit.detect.battery import Arrivals, drift_alarms, quality_alarms, read_drift, read_quality, short_p
from everfit.detect.compared import ColumnComparison, Comparison, bars, listed, worded
from everfit.detect.options import Watching
from everfit.detect.promise import rates
from everfit.detect.signal import Alarm, NotEnough, Reading, Signal
from everfit.detect.usual import FEWEST, ColumnTest, learn_usual, read_window
from everfit.observe.options import FeatureOptions, Kind
from everfit.observe.schema import Column, Schema, learn
from everfit.profile.column import ColumnProfile
from everfit.profile.past import PIECES, SMALLEST, windows
from everfit.profile.stream import as_parts, portray_parts
from everfit.profile.table import Profile, learn_bins, portray

HONEST = "only sampling noise was counted: the reference is too short to say how healthy windows differ from each other"
ENOUGH = 20  # windows of the reference: with fewer their spread is hardly known, and a real change is not seen
ALONE = 0.02  # least PSI that is drift where only sampling noise was counted: a seventh of a deviation; days differ so
ALPHA = 0.01  # chance of any false drift alarm in a whole table


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared: both portraits on the reference's bins, and what both sides' columns were."""

    reference: Profile
    current: Profile
    then: Schema  # columns of the reference, in its order
    now: Schema
    empty: frozenset[str] = frozenset()  # columns without any value on one of the sides: they fit every kind


@dataclass(frozen=True, slots=True)
class _Read:
    """Everything that was read of both sides."""

    sides: Sides
    readings: Sequence[Reading]
    alarms: tuple[Alarm, ...]
    tests: Mapping[str, ColumnTest]  # by column, where the reference's windows were used
    effect: float


def compare(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    options: Watching | None = None,
    *,
    alpha: float = ALPHA,
    features: FeatureOptions | None = None,
) -> Comparison:
    """Hold two frames against each other.

    The chance of any false drift alarm in the whole table is at most `alpha`.

    >>> import numpy as np
    >>> chance = np.random.default_rng(0)
    >>> then = pl.DataFrame({"price": chance.normal(size=1000), "size": chance.normal(size=1000)})
    >>> found = compare(then, then.with_columns(price=pl.col("price") + 1))
    >>> found.verdict, [alarm.signal.column for alarm in found.alarms]
    ('drift', ['price'])
    """
    features = features or FeatureOptions()
    then, now = learn(reference, reserved=(), options=features), learn(current, reserved=(), options=features)
    empty = frozenset(c.name for c in (*then.features, *now.features) if _empty(reference, c) or _empty(current, c))
    bins = learn_bins(reference, Schema(shared(then, now, empty), ()))
    piece = past_piece(reference.height, current.height, (options or Watching()).at_least)
    was = portray_parts(as_parts([reference.to_arrow()]), bins, piece=piece)
    return hold(Sides(was, portray(current, bins), then, now, empty), options, alpha=alpha)


def hold(sides: Sides, options: Watching | None = None, *, alpha: float = ALPHA, pictures: bool = True) -> Comparison:
    """Hold two portraits against each other; the chance of any false drift alarm is at most `alpha`.

    Pictures of the columns take half of the time and can be left out.
    """
    options, both = options or Watching(), {c.name for c in shared(sides.then, sides.now, sides.empty)}
    was, seen = _only(sides.reference, both), _only(sides.current, both)
    wished = window_rows(was.rows, seen.rows, options.at_least)
    cut = windows(was, wished) if wished else ()
    effect = options.effect if len(cut) >= FEWEST else max(options.effect, ALONE)
    tests = _tests(seen, cut, alpha) if len(cut) >= FEWEST else {}
    readings = [
        _tested(r, tests) for r in (*read_drift(seen, was, options), *read_quality(seen, was, Arrivals(), options))
    ]
    quality = [r for r in readings if r.name.startswith("quality.")]
    alarms = (
        *drift_alarms(readings, alpha=alpha, effect=effect),
        *quality_alarms(quality, options.quality, rates(options.false_alarms, None).quality),
        *_unlike(sides.then, sides.now, both, seen.rows),
    )
    read = _Read(replace(sides, reference=was, current=seen), readings, alarms, tests, effect)
    columns = tuple(_column(c, read, pictures=pictures) for c in _all(sides.then, sides.now))
    rows = {"reference": was.rows, "current": seen.rows}
    how = HONEST
    if tests:
        how = f"{len(cut)} windows of {cut[0].rows:,} rows of the reference told how much healthy windows differ"
    return Comparison(rows, _verdict(read), alarms, columns, (*_said(read), how), len(cut) if tests else 0)


def shared(then: Schema, now: Schema, empty: Collection[str] = ()) -> tuple[Column, ...]:
    """Columns of the reference that the current rows have in the same kind, as the reference has them.

    Without values a column fits every kind; whether text is prose is for the reference to say.

    >>> shared(Schema((Column("a", Kind.TEXT),), ()), Schema((Column("a", Kind.CATEGORY),), ()))
    (Column(name='a', kind=<Kind.TEXT: 'text'>),)
    """
    kinds = {c.name: _broad(c.kind) for c in now.features}
    return tuple(c for c in then.features if c.name in kinds and (c.name in empty or kinds[c.name] is _broad(c.kind)))


def _only(profile: Profile, names: Collection[str]) -> Profile:
    """Without the columns that are not on both sides in the same kind: they are told as such, and not as nulls."""
    return replace(profile, columns={name: column for name, column in profile.columns.items() if name in names})


def window_rows(reference: int, current: int, at_least: int) -> int | None:
    """How many rows a window of the reference has, or None where too few of the current's size fit.

    Smaller windows than the current are on the safe side: they differ more from each other than larger ones.

    >>> window_rows(30_000, 1000, 200), window_rows(6000, 1000, 200), window_rows(4000, 1000, 200)
    (1000, 300, None)
    """
    if current < at_least or reference < FEWEST * current:
        return None
    return current if reference >= ENOUGH * current else max(at_least, reference // ENOUGH)


def past_piece(reference: int, current: int, at_least: int = 200) -> int:
    """Rows of a piece of the reference's past, so that such windows can be cut from it.

    >>> past_piece(6000, 1000), past_piece(1_000_000, 1000)
    (300, 15625)
    """
    return max(SMALLEST, window_rows(reference, current, at_least) or current, -(-reference // PIECES))


def _broad(kind: Kind) -> Kind:
    return Kind.CATEGORY if kind is Kind.TEXT else kind


def _empty(rows: pl.DataFrame, column: Column) -> bool:
    return column.name in rows.columns and rows[column.name].null_count() == rows.height


def _tests(current: Profile, cut: Sequence[Profile], alpha: float) -> dict[str, ColumnTest]:
    """One test per column against the windows of the reference: the same as in `watch`."""
    return {test.column: test for test in read_window(current, learn_usual(cut), rate=alpha)}


def _tested(reading: Reading, tests: Mapping[str, ColumnTest]) -> Reading:
    """The reading with the chance of the column's test in place of that of independent rows."""
    if isinstance(reading, Signal) and reading.name in ("drift.psi", "drift.ks") and reading.column in tests:
        return replace(reading, p_value=tests[reading.column].p_value)
    return reading


def _unlike(then: Schema, now: Schema, both: set[str], rows: int) -> list[Alarm]:
    """Columns that are on one side only, or of another kind there."""
    kinds = {c.name: c.kind for c in now.features}
    alarms = []
    for column in then.features:
        if column.name in both:
            continue
        if column.name not in kinds:
            said, name = f"column {column.name} is missing from the current rows", "quality.missing"
        else:
            said = f"{column.name} was a {column.kind} in the reference and is a {kinds[column.name]} now"
            name = "quality.type"
        alarms.append(Alarm(Signal(name, column.name, 1.0, rows, effect=1.0), 0.0, "quality", said))
    known = set(then.names())
    for column in now.features:
        if column.name not in known:
            signal = Signal("quality.extra", column.name, 1.0, rows, effect=1.0)
            alarms.append(Alarm(signal, 0.0, "quality", f"column {column.name} is not in the reference"))
    return alarms


def _all(then: Schema, now: Schema) -> list[Column]:
    known = set(then.names())
    return [*then.features, *(c for c in now.features if c.name not in known)]


def _column(column: Column, read: _Read, *, pictures: bool) -> ColumnComparison:
    name = column.name
    found = {r.name: r for r in read.readings if isinstance(r, Signal) and r.column == name}
    then, now = read.sides.reference.columns.get(name), read.sides.current.columns.get(name)
    psi, test = found.get("drift.psi"), read.tests.get(name)
    alarms = [alarm for alarm in read.alarms if alarm.signal.column == name]
    verdict = "broken" if any(a.kind == "quality" for a in alarms) else "drift" if alarms else "none"
    if psi is None and not alarms:
        verdict = "not_enough"

    def value(of: str) -> float | None:
        return found[of].value if of in found else None

    return ColumnComparison(
        name=name,
        kind=column.kind,
        psi=value("drift.psi"),
        ks=value("drift.ks"),
        js=value("drift.js"),
        wasserstein=value("drift.wasserstein"),
        p_value=psi.p_value if psi else None,
        effect=psi.effect if psi else None,
        alarm=bool(alarms),
        nulls={"reference": then.null_share if then else None, "current": now.null_share if now else None},
        distinct={"reference": then.distinct if then else None, "current": now.distinct if now else None},
        smallest_shift=test.smallest_shift if test else None,
        unit=test.unit if test else None,
        verdict=verdict,
        said="; ".join(a.said for a in alarms) or _in_words(psi, then, now),
        bars=bars(then, now) if pictures else (),
    )


def _in_words(psi: Signal | None, then: ColumnProfile | None, now: ColumnProfile | None) -> str:
    """What a column without an alarm did."""
    if psi is None or then is None or now is None:
        return "too few values to say anything"
    chance = "" if psi.p_value is None else f" (p = {short_p(psi.p_value)})"
    means = ""
    if then.mean is not None and now.mean is not None:
        means = f", mean {worded(then.mean, then.kind)} then and {worded(now.mean, now.kind)} now"
    return f"alike{chance}{means}"


def _verdict(read: _Read) -> str:
    if read.alarms:
        return "drift"
    tested = [r for r in read.readings if isinstance(r, Signal) and r.name == "drift.psi"]
    return "none" if tested else "not_enough"


def _said(read: _Read) -> tuple[str, ...]:
    few = [r.said for r in read.readings if isinstance(r, NotEnough)]
    lines = [alarm.said for alarm in read.alarms] or [f"no column moved by a PSI of {read.effect:g} or more"]
    if few and len(few) == sum(1 for r in read.readings if r.name == "drift.psi") and not read.alarms:
        lines = ["too few values to say anything"]
    return (*lines, *([listed(few)] if few else []))
