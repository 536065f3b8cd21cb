"""Parts give the same as the whole, in any cut; the past is cut into windows; groups in one reading."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from everfit.errors import Refused
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile.past import piece_rows, windows
from everfit.profile.stream import Part, as_parts, learn_parts, portray_groups, portray_parts
from everfit.profile.table import Profile, learn_bins, portray

CHANCE = np.random.default_rng(11)
ROWS = 5000
FRAME = pl.DataFrame(
    {
        "x": CHANCE.normal(size=ROWS),
        "holes": pl.Series([None if i % 7 == 0 else float(i % 90) for i in range(ROWS)]),
        "shop": pl.Series(CHANCE.choice(["a", "b", "c", "?"], ROWS)).replace("?", None),
        "open": CHANCE.random(ROWS) < 0.3,
        "due": [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=i) for i in range(ROWS)],
        "note": [f"note {'x' * (i % 60)}" for i in range(ROWS)],
        "face": pl.Series(CHANCE.normal(size=(ROWS, 3)).tolist()),
    }
)
KINDS = {
    "x": Kind.NUMBER, "holes": Kind.NUMBER, "shop": Kind.CATEGORY, "open": Kind.FLAG, "due": Kind.MOMENT,
    "note": Kind.TEXT, "face": Kind.VECTOR,
}  # fmt: skip
COLUMNS = [Column(name, kind) for name, kind in KINDS.items()]
BINS = learn_bins(FRAME, Schema(tuple(COLUMNS), ()))


def cut(*ends: int) -> list[Part]:
    starts = [0, *ends]
    return list(as_parts(FRAME[a:b].to_arrow() for a, b in zip(starts, [*ends, ROWS], strict=True)))


def by_column(*ends: int) -> Iterator[Part]:
    """As a Parquet file is read: row groups, and each column for itself."""
    for part in cut(*ends):
        table = part.read()
        for name in reversed(table.column_names):
            yield Part(part.row, part.rows, lambda table=table, name=name: table.select([name]))  # type: ignore[misc]


def counts(profile: Profile) -> dict[str, object]:
    return {
        name: (c.count, c.nulls, c.counts.tolist(), None if c.buckets is None else c.buckets.tolist(), c.distinct)
        for name, c in profile.columns.items()
    }


@pytest.mark.parametrize("parts", [cut(), cut(1, 2, 4000), by_column(), by_column(700, 701, 3333)])
def test_any_parts_teach_and_give_the_same(parts: list[Part] | Iterator[Part]) -> None:
    parts = list(parts)
    lesson = learn_parts(parts, COLUMNS)
    assert lesson.rows == ROWS
    assert lesson.bins.key == BINS.key
    assert counts(portray_parts(parts, lesson.bins)) == counts(portray(FRAME, BINS))
    assert counts(portray_parts(parts[::-1], lesson.bins)) == counts(portray(FRAME, BINS))


def test_the_same_parts_give_the_same_bytes() -> None:
    first, second = (portray_parts(by_column(700, 3333), BINS, piece=100).to_bytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("wished, each", [(100, 100), (500, 500), (740, 700), (2500, 2500)])
def test_windows_are_cut_from_the_past(wished: int, each: int) -> None:
    kept = portray_parts(by_column(1, 777, 3333), BINS, piece=100)
    found = windows(Profile.from_bytes(kept.to_bytes()), wished)
    assert len(found) == ROWS // each
    for place, window in enumerate(found):
        plain = portray(FRAME[place * each : (place + 1) * each], BINS)
        told = {name: each[:4] for name, each in counts(plain).items()}  # type: ignore[index]
        assert {name: each[:4] for name, each in counts(window).items()} == told  # type: ignore[index]
        assert window.rows == each


def test_a_rest_at_the_end_is_no_window() -> None:
    kept = portray_parts(cut(), BINS, piece=900)
    assert [window.rows for window in windows(kept, 900)] == [900] * 5
    assert windows(portray_parts(cut(), BINS), 900) == ()
    assert windows(portray_parts(cut(), BINS, piece=ROWS), 900) == (), "one piece is no past"
    assert piece_rows(10**6) * 64 >= 10**6


def test_a_column_that_is_not_in_every_part_is_null_in_the_others() -> None:
    tables = [FRAME[:2000].to_arrow(), FRAME[2000:].drop("x", "shop").to_arrow()]
    seen = portray_parts(as_parts(tables), BINS, piece=1000)
    assert (seen.columns["x"].nulls, seen.columns["shop"].count) == (3000, ROWS)
    assert [window.columns["x"].nulls for window in windows(seen, 1000)] == [0, 0, 1000, 1000, 1000]
    none = portray_parts(as_parts([FRAME.drop("x").to_arrow()]), BINS, piece=1000)
    assert none.columns["x"].null_share == 1
    assert [window.columns["x"].null_share for window in windows(none, 1000)] == [1.0] * 5


def test_groups_are_portrayed_in_one_reading() -> None:
    bins = learn_bins(FRAME.drop("shop"), Schema(tuple(c for c in COLUMNS if c.name != "shop"), ()))
    found = portray_groups(cut(1, 2500), bins, "shop", {"a": 100, "b": None, "nowhere": None})
    for value in ("a", "b"):
        assert counts(found[value]) == counts(portray(FRAME.filter(shop=value), bins))
    assert found["nowhere"].rows == 0
    shop_a = FRAME.filter(shop="a")
    assert [w.columns["x"].counts.tolist() for w in windows(found["a"], 100)] == [
        portray(shop_a[i : i + 100], bins).columns["x"].counts.tolist() for i in range(0, shop_a.height - 99, 100)
    ]
    assert windows(found["b"], 100) == ()


def test_without_distinct_values_the_counts_are_the_same() -> None:
    lean = portray_parts(cut(), BINS, distinct=False)
    assert {column.distinct for column in lean.columns.values()} == {None}
    whole = counts(portray(FRAME, BINS))
    assert {n: c[:4] for n, c in counts(lean).items()} == {n: c[:4] for n, c in whole.items()}  # type: ignore[index]
    assert Profile.from_bytes(lean.to_bytes()).columns["x"].distinct is None


def test_a_reference_larger_than_the_sample_keeps_its_range() -> None:
    rows = 300_000
    values = CHANCE.normal(size=rows)
    values[[17, 299_999]] = [-99.0, 99.0]
    parts = list(as_parts([pa.table({"x": values[:123_456]}), pa.table({"x": values[123_456:]})]))
    bins = learn_parts(parts, [Column("x", Kind.NUMBER)]).bins
    x = portray_parts(parts, bins).columns["x"]
    assert x.outside == 0
    assert 250 <= x.bins.size <= 262
    inner = x.counts[2:-2]
    assert inner.max() < 1.25 * rows / 256, "a sample of 262,144 makes bins that are nearly equally deep"
    assert learn_parts(as_parts([pa.table({"x": values})]), [Column("x", Kind.NUMBER)]).bins.key == bins.key


def test_a_part_that_cannot_be_read_stops_everything() -> None:
    def torn() -> pa.Table:
        raise Refused("torn")

    with pytest.raises(Refused, match="torn"):
        portray_parts([*cut(100), Part(ROWS, 1, torn)], BINS)
