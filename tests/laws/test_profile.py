"""Laws of portraits: they add up exactly, in any partition and any order."""

from __future__ import annotations

from functools import reduce
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile.kernels import learn_edges
from everfit.profile.past import windows
from everfit.profile.stream import as_parts, portray_parts
from everfit.profile.table import Profile, learn_bins, merge, portray
from tests.examples import examples

SCHEMA = Schema((Column("x", Kind.NUMBER), Column("c", Kind.CATEGORY), Column("f", Kind.FLAG)), ())
numbers = st.one_of(
    st.none(),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, -0.0, 1.0, 5.0, float("nan"), float("inf"), float("-inf")]),
)
row = st.tuples(numbers, st.one_of(st.none(), st.sampled_from("abcdef")), st.one_of(st.none(), st.booleans()))
Rows = list[tuple[object, ...]]
rows = st.lists(row, max_size=60)


def frame(given_rows: Rows) -> pl.DataFrame:
    schema = {"x": pl.Float64, "c": pl.String, "f": pl.Boolean}
    return pl.DataFrame(given_rows, schema=schema, orient="row")


def counts(profile: Profile) -> dict[str, object]:
    found: dict[str, object] = {"rows": profile.rows}
    for name, c in profile.columns.items():
        exact = c.moments and (
            c.moments.nan,
            c.moments.plus_inf,
            c.moments.minus_inf,
            c.moments.low,
            c.moments.high,
        )
        buckets = None if c.buckets is None else c.buckets.tolist()
        found[name] = (c.count, c.nulls, c.counts.tolist(), exact, buckets, c.distinct)
    return found


def same(a: Profile, b: Profile) -> bool:
    x, y = a.columns["x"].moments, b.columns["x"].moments
    assert x is not None
    assert y is not None
    close = x.total == pytest.approx(y.total, rel=1e-9, abs=1e-3) and x.squares == pytest.approx(
        y.squares, rel=1e-9, abs=1e-3
    )
    return close and counts(a) == counts(b)


@examples(60)
@given(rows, rows, st.lists(st.integers(0, 60), max_size=4), st.randoms(use_true_random=False))
def test_any_partition_in_any_order_gives_the_whole(
    reference: Rows, now: Rows, cuts: list[int], chance: Random
) -> None:
    bins = learn_bins(frame(reference), SCHEMA)
    whole = portray(frame(now), bins)
    shuffled = chance.sample(now, len(now))
    ends = sorted({0, *cuts, len(now)})
    parts = [portray(frame(shuffled[a:b]), bins) for a, b in zip(ends, [*ends[1:], len(now)], strict=True)]
    chance.shuffle(parts)
    assert same(reduce(merge, parts), whole)
    assert counts(Profile.from_bytes(whole.to_bytes())) == counts(whole)


@examples(40)
@given(rows, rows, st.lists(st.integers(0, 60), max_size=4), st.integers(1, 30))
def test_parts_of_any_size_give_the_whole_and_its_past(reference: Rows, now: Rows, cuts: list[int], piece: int) -> None:
    bins = learn_bins(frame(reference), SCHEMA)
    ends = sorted({0, *cuts, len(now)})
    parts = [frame(now)[a:b].to_arrow() for a, b in zip(ends, [*ends[1:], len(now)], strict=True)]
    seen = portray_parts(as_parts(parts), bins, piece=piece)
    assert same(seen, portray(frame(now), bins))
    for place, window in enumerate(windows(seen, piece)):
        plain = counts(portray(frame(now)[place * piece : (place + 1) * piece], bins))
        told = counts(window)
        assert all(told[name][2] == plain[name][2] for name in ("x", "c", "f"))  # type: ignore[index]


@examples(40)
@given(st.lists(st.text(max_size=12), max_size=80), st.integers(0, 80))
def test_buckets_hold_every_present_value_whatever_the_reference(names: list[str], cut: int) -> None:
    texts = pl.DataFrame({"c": pl.Series(names, dtype=pl.String)})
    schema = Schema((Column("c", Kind.CATEGORY),), ())
    one, other = (portray(texts, learn_bins(rows, schema)).columns["c"] for rows in (texts, texts[:cut]))
    assert one.buckets is not None
    assert other.buckets is not None
    assert one.buckets.tolist() == other.buckets.tolist()
    assert one.buckets.sum() == one.present == other.present == len(names)
    assert one.distinct == other.distinct == len(set(names))


@examples(40)
@given(rows, rows, rows, rows)
def test_merging_is_associative_and_commutative(reference: Rows, one: Rows, two: Rows, three: Rows) -> None:
    bins = learn_bins(frame(reference), SCHEMA)
    a, b, c = (portray(frame(part), bins) for part in (one, two, three))
    assert same(merge(merge(a, b), c), merge(a, merge(b, c)))
    assert counts(merge(a, b)) == counts(merge(b, a))


@examples(40)
@given(rows)
def test_every_row_is_counted_once(given_rows: Rows) -> None:
    profile = portray(frame(given_rows), learn_bins(frame(given_rows), SCHEMA))
    for column in profile.columns.values():
        assert column.present + column.absent == column.count == len(given_rows)
        assert column.outside == column.unseen == 0, "the reference lies in its own bins"


@examples(60)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=400), st.integers(1, 300))
def test_edges_increase_and_are_deep(values: list[float], depth: int) -> None:
    series = pl.Series(values, dtype=pl.Float64).to_numpy()
    edges = learn_edges(series, depth)
    assert (edges[1:] > edges[:-1]).all()
    assert len(edges) <= 2 * depth + 2
