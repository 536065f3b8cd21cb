"""Laws of observing: order and repetition never matter, windows tile time, labels are never made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from everfit.flows.collect import Collecting, collect
from everfit.observe.intake import Rules
from everfit.observe.labels import join
from everfit.observe.options import Kind, Observing
from everfit.observe.schema import Column, Schema
from everfit.observe.window import next_windows
from everfit.ports import Batch, Table
from everfit.testing import MemoryJournal, MemoryLake
from tests.examples import examples

DAY0 = datetime(2013, 1, 1, tzinfo=UTC)
SCHEMA = Schema((Column("x", Kind.NUMBER),), ())
MOMENT = pl.Datetime("us", "UTC")
lawful = examples(60)


def prediction(number: int) -> Batch:
    at = DAY0 + timedelta(hours=number)
    rows = {"_id": [f"p{number}"], "_time": [at], "_arrived": [at], "x": [number]}
    return Batch(Table.PREDICTIONS, pl.DataFrame(rows, schema_overrides={"_time": MOMENT, "_arrived": MOMENT}))


def label(number: int) -> Batch:
    at = DAY0 + timedelta(hours=number + 1)
    rows = {"_id": [f"p{number}"], "_label": [str(number % 2)], "_value": [None], "_arrived": [at]}
    return Batch(Table.LABELS, pl.DataFrame(rows, schema_overrides={"_value": pl.Float64, "_arrived": MOMENT}))


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[set[int], set[int], list[list[Batch]]]:
    """Events, each delivered once or more, in any order, cut into any groups, each moved before the next comes."""
    events = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=24))
    cuts = draw(st.lists(st.integers(1, 5), min_size=len(events), max_size=len(events)))
    batches = [prediction(n) if is_prediction else label(n) for is_prediction, n in events]
    groups = []
    for size in cuts:
        groups.append(batches[:size])
        batches = batches[size:]
    sent = {n for is_prediction, n in events if is_prediction}, {n for is_prediction, n in events if not is_prediction}
    return *sent, [group for group in groups if group]


@lawful
@given(deliveries(), st.integers(1, 6))
def test_any_order_cut_and_repetition_gives_the_same_rows(
    sent: tuple[set[int], set[int], list[list[Batch]]], most_rows: int
) -> None:
    journal, lake = MemoryJournal(), MemoryLake()
    how = Collecting(Rules("binary", "late", "at"), source="journal", most_rows=most_rows)
    for group in sent[2]:
        journal.append(group)
        collect(journal, lake, how, schema=SCHEMA, closed_until=None)
    while collect(journal, lake, how, schema=SCHEMA, closed_until=None).upto:
        pass
    predictions = lake.read(Table.PREDICTIONS, since=None, until=None).collect()
    labels = lake.read(Table.LABELS, since=None, until=None).collect()
    assert sorted(predictions["_id"]) == sorted(f"p{n}" for n in sent[0])
    assert sorted(labels.select("_id", "_label").rows()) == sorted((f"p{n}", str(n % 2)) for n in sent[1])
    assert journal.pending() == 0


@lawful
@given(
    window=st.sampled_from(["7m", "1h", "6h", "1d", "3d"]),
    late=st.integers(0, 48),
    start=st.integers(0, 5000),
    watermarks=st.lists(st.integers(0, 20_000), min_size=1, max_size=6),
)
def test_windows_of_a_duration_tile_time(window: str, late: int, start: int, watermarks: list[int]) -> None:
    options = Observing.model_validate({"window": window, "late_by": timedelta(hours=late)})
    cursor = begun = DAY0 + timedelta(minutes=start)
    for minutes in sorted(watermarks):
        watermark = DAY0 + timedelta(minutes=minutes)
        for span in next_windows(options, cursor=cursor, watermark=watermark, times=None):
            assert span.start == cursor  # no gap, no overlap
            assert span.start < span.end
            assert span.end + options.late_by <= watermark
            cursor = span.end
    assert cursor >= begun


@lawful
@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 7))
def test_windows_of_rows_tile_time_and_hold_every_row_once(minutes: list[int], rows: int) -> None:
    options = Observing.model_validate({"window": {"rows": rows}})
    times = pl.Series([DAY0 + timedelta(minutes=m) for m in minutes], dtype=MOMENT)
    spans = next_windows(options, cursor=None, watermark=DAY0 + timedelta(days=9), times=times)
    for before, after in pairwise(spans):
        assert before.end == after.start
    counts = [sum(time in span for time in times) for span in spans]
    assert all(n >= rows for n in counts)
    covered = sum(time < spans[-1].end for time in times) if spans else 0
    assert sum(counts) == covered
    # One window at a time gives the same windows as all at once.
    if spans:
        again = next_windows(options, cursor=spans[0].end, watermark=DAY0 + timedelta(days=9), times=times)
        assert again == spans[1:]


events = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=20)


@lawful
@given(events, events, st.integers(0, 9) | st.none())
def test_join_never_invents_a_label(
    sent: list[tuple[int, int]], came: list[tuple[int, int]], as_of: int | None
) -> None:
    def frame(rows: list[tuple[int, int]], **more: list[str]) -> pl.DataFrame:
        said = {"_id": [str(i) for i, _ in rows], "_arrived": [DAY0 + timedelta(hours=h) for _, h in rows], **more}
        return pl.DataFrame(said, schema_overrides={"_id": pl.String, "_arrived": MOMENT, "_label": pl.String})

    labels = frame(came, _label=[f"{i}@{h}" for i, h in came]).with_columns(_value=pl.lit(None, dtype=pl.Float64))
    until = None if as_of is None else DAY0 + timedelta(hours=as_of)
    joined = join(frame(sent), labels, as_of=until)
    assert sorted(joined["_id"]) == sorted({str(i) for i, _ in sent})
    seen = [(i, h) for i, h in came if as_of is None or h <= as_of]
    for id_, label_ in joined.select("_id", "_label").iter_rows():
        first = min((h for i, h in seen if str(i) == id_), default=None)
        assert label_ == (None if first is None else f"{id_}@{first}")
    shuffled = labels.sample(fraction=1.0, shuffle=True, seed=7) if labels.height else labels
    assert join(frame(sent), shuffled, as_of=until).equals(joined)
