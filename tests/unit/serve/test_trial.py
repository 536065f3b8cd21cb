"""A challenger beside the champion: whose rows are whose, who answers what it cannot, and what the logs keep."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import polars as pl
import pytest

from everfit.errors import ModelUnusable
from everfit.observe.intake import FAILED
from everfit.observe.schema import Schema
from everfit.ports import Batch, Route, Table, Trial
from everfit.rollout.split import key_of, variant_of
from everfit.serve.batch import Scorer
from everfit.serve.body import Framed
from everfit.serve.canary import Lent, Pace
from everfit.serve.challenger import Challenger, Failed, Failing
from everfit.serve.counts import Counts
from everfit.serve.log import PredictionLog
from everfit.serve.model import Loaded, Signature
from everfit.serve.plain import Layout
from everfit.serve.predict import Current
from everfit.serve.protocol import Answered, Face, MlflowAsk
from everfit.serve.rival import Rival, Said
from everfit.serve.routing import Served
from everfit.serve.serving import LogMode, Serving, Trying
from everfit.serve.wire import Rows, Scores
from tests.unit.serve.fakes import MODEL, ROW, SCHEMA, ListJournal, serving, until

SIGNATURE = Signature("binary", SCHEMA, SCHEMA.classes, "true", {})
HALF = Trial("c2", 2, weight=0.5, salt="release-1")
COPIES = Trial("c2", 2, mirror=1.0, salt="release-1")


class Champion:
    """Says 0.25, and fails on a carrier."""

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        if "poison" in rows["carrier"].to_list():
            raise ModelUnusable("poison")
        return np.array([[0.75, 0.25]] * rows.height)


class Fake:
    """A challenger without a process: says 0.75, or fails as it is told."""

    def __init__(self, schema: Schema = SCHEMA) -> None:
        self.signature = dataclasses.replace(SIGNATURE, schema=schema)
        self.is_warm = self.has_been_warm = True
        self.why: Failing | None = None
        self.fails = False
        self.asked: list[Rows] = []
        self.open = threading.Event()
        self.open.set()

    def ask(self, rows: Rows, wait: float) -> Scores:
        self.asked.append(rows)
        assert self.open.wait(10)
        if self.fails:
            raise Failed(self.why)
        texts = rows.texts[0] if rows.frame is None else rows.frame["carrier"].to_list()
        bad = tuple(place for place, text in enumerate(texts) if text == "error")
        return Scores(np.array([[0.25, 0.75]] * rows.count), bad, scored=0.001, took=0.002)


class Bench:
    """A scorer with a champion and a challenger."""

    def __init__(self, told: Serving, journal: ListJournal, trial: Trial, fake: Fake) -> None:
        self.journal, self.fake = journal, fake
        self.counts, self.log = Counts(MODEL), PredictionLog(journal)
        route, model = Route("c1", 1, "k1", trial), Loaded("c1", SIGNATURE, Champion())
        self.served = Served(route, model, cast(Challenger, fake))
        self.scorer = Scorer(told, lambda: self.served, self.log, self.counts)

    def submit(self, *rows: dict[str, Any], version: str | None = None) -> asyncio.Future[Answered]:
        ask = MlflowAsk(orjson.dumps({"dataframe_records": list(rows)}), "application/json")
        return self.scorer.submit(ask, 1e12, version)

    def rows(self, table: Table) -> pl.DataFrame:
        return self.journal.rows(table)


def play(
    tmp_path: Path,
    trial: Trial,
    story: Callable[[Bench], Any],
    fake: Fake | None = None,
    **changes: Any,
) -> tuple[Bench, Any]:
    journal = ListJournal()
    told = dataclasses.replace(serving(tmp_path, journal), **changes)
    bench = Bench(told, journal, trial, fake or Fake())

    async def run() -> Any:
        bench.log.start()
        bench.scorer.start()
        try:
            return await asyncio.wait_for(story(bench), 20)
        finally:
            bench.fake.open.set()
            await asyncio.to_thread(bench.scorer.close)
            await asyncio.to_thread(bench.log.close)

    return bench, asyncio.run(run())


def row(name: str, **changes: Any) -> dict[str, Any]:
    return {**ROW, "flight": name, **changes}


def is_challengers(key: str | None, name: str, weight: float = 0.5) -> bool:
    return variant_of(key_of(key, name), "release-1", [("challenger", weight)]) == "challenger"


NAMES = [f"f{number}" for number in range(24)]
THEIRS = [name for name in NAMES if is_challengers(None, name)]


@pytest.mark.parametrize("log", list(LogMode))
@pytest.mark.parametrize("night", [pytest.param(False, id="the short way"), pytest.param("false", id="the long way")])
def test_a_request_of_several_rows_is_split_and_answered_in_order(tmp_path: Path, log: LogMode, night: Any) -> None:
    async def story(bench: Bench) -> Answered:
        return await bench.submit(*(row(name, night=night) for name in NAMES))

    bench, answered = play(tmp_path, HALF, story, log=log)
    assert answered.ids == NAMES
    assert answered.scores == [0.75 if name in THEIRS else 0.25 for name in NAMES]
    assert answered.predictions == [name in THEIRS for name in NAMES]
    assert answered.face.told["versions"] == [2 if name in THEIRS else 1 for name in NAMES]
    logged = bench.rows(Table.PREDICTIONS)
    said = {name: rest for name, *rest in logged.select("_id", "_version", "_model", "_variant", "_prediction").rows()}
    assert len(logged) == len(NAMES)
    for name in NAMES:
        expected = [2, "c2", "challenger", "true"] if name in THEIRS else [1, "c1", "champion", "false"]
        assert said[name] == expected
    assert bench.rows(Table.SHADOW).is_empty()
    assert (answered.number is not None) == (log is LogMode.HELD)


def test_a_key_stays_with_its_model_and_a_larger_share_only_adds_keys(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[tuple[str, int]]:
        pairs: list[tuple[str, int]] = []
        for weight in (0.2, 0.6):
            route = Route("c1", 1, f"k{weight}", dataclasses.replace(HALF, weight=weight))
            bench.served = dataclasses.replace(bench.served, route=route)
            for number in range(60):
                customer = f"customer-{number % 30}"
                answered = await bench.submit(row(f"{weight}-{number}", customer=customer))
                pairs.append((customer, answered.face.version))
        return pairs

    _, pairs = play(tmp_path, HALF, story, key="customer")
    first, second = ({version for name, version in pairs[:60] if name == f"customer-{n}"} for n in (0, 1))
    assert len(first) == len(second) == 1
    small = {name for name, version in pairs[:60] if version == 2}
    large = {name for name, version in pairs[60:] if version == 2}
    assert small < large
    assert large == {name for name, _ in pairs if is_challengers(name, "", 0.6)}


@pytest.mark.parametrize("why", list(Failing))
def test_what_the_challenger_fails_on_the_champion_answers_and_the_shadow_table_says_why(
    tmp_path: Path, why: Failing
) -> None:
    async def story(bench: Bench) -> Answered:
        bench.fake.fails, bench.fake.why = True, why
        return await bench.submit(*(row(name) for name in NAMES))

    bench, answered = play(tmp_path, HALF, story)
    assert (answered.scores, "versions" in answered.face.told) == ([0.25] * len(NAMES), False)
    assert set(bench.rows(Table.PREDICTIONS)["_variant"]) == {"champion"}
    shadow = bench.rows(Table.SHADOW)
    assert sorted(shadow["_id"]) == sorted(THEIRS)
    assert set(shadow["_failed"]) == {why}
    assert shadow.select("_model", "_version").unique().rows() == [("c2", 2)]
    assert (shadow["_score"].null_count(), shadow["_prediction"].null_count()) == (len(THEIRS), len(THEIRS))
    said = f'everfit_canary_failures_total{{failed="{why}",model="flights",version="2"}} {float(len(THEIRS))}'
    assert said in bench.counts.text().decode()


def test_one_row_that_the_challenger_fails_on_is_one_failure(tmp_path: Path) -> None:
    async def story(bench: Bench) -> Answered:
        return await bench.submit(*(row(name, carrier="error" if name == THEIRS[0] else "UA") for name in NAMES))

    bench, answered = play(tmp_path, HALF, story)
    assert answered.scores == [0.75 if name in THEIRS[1:] else 0.25 for name in NAMES]
    assert bench.rows(Table.SHADOW).select("_id", "_failed").rows() == [(THEIRS[0], "error")]


def test_the_log_leaves_out_the_way_to_the_challenger_and_keeps_what_a_failure_cost() -> None:
    """The request came 2 ms before it was lent; the child scored for 1 ms of 50, the champion for 4."""
    route, model = Route("c1", 1, "k1", HALF), Loaded("c1", SIGNATURE, Champion())
    face = Face(SIGNATURE, 1, "c1", [False, True], 1, {})
    now = Current(Served(route, model), face, cast(Layout, None))
    rival = Rival(HALF, cast(Challenger, Fake()), dataclasses.replace(face, version=2, candidate="c2"))
    frame = pl.DataFrame({"_id": ["own", "answered", "failed"], **{name: [None] * 3 for name in SCHEMA.names()}})
    times = [pl.lit(datetime(2026, 1, 1, tzinfo=UTC)).alias(name) for name in ("_time", "_arrived")]
    body = Framed(frame.with_columns(times), tuple(SCHEMA.names()))
    said = Said([None, "error"], np.array([[0.25, 0.75], [np.nan, np.nan]]), took=0.05, scored=0.001)
    lent = Lent(now, rival, body, [1, 2], before=0.002, said=said)
    _, parts = lent.finished(np.array([[0.75, 0.25]] * 2), 0.004, 0.1)
    rows = pl.concat(part.rows.select("_id", "_latency_ms") for part in parts if isinstance(part, Batch))
    assert [(name, round(ms, 6)) for name, ms in rows.rows()] == [
        ("own", 6.0),
        ("failed", 100.0),
        ("answered", 3.0),
        ("failed", 50.0),  # the shadow table's: from the question to the answer
    ]


def test_a_challenger_that_was_let_go_is_not_to_blame(tmp_path: Path) -> None:
    async def story(bench: Bench) -> Answered:
        bench.fake.fails = True
        return await bench.submit(*(row(name) for name in NAMES))

    bench, answered = play(tmp_path, HALF, story)
    assert answered.scores == [0.25] * len(NAMES)
    assert bench.rows(Table.SHADOW).is_empty()


def test_a_challenger_that_never_was_warm_is_not_asked(tmp_path: Path) -> None:
    fake = Fake()
    fake.is_warm = fake.has_been_warm = False

    async def story(bench: Bench) -> Answered:
        return await bench.submit(*(row(name) for name in NAMES))

    bench, answered = play(tmp_path, dataclasses.replace(HALF, mirror=1.0), story, fake)
    assert (answered.scores, fake.asked) == ([0.25] * len(NAMES), [])
    assert bench.rows(Table.SHADOW).is_empty()


def test_others_do_not_wait_for_a_challenger_that_is_slow(tmp_path: Path) -> None:
    ours = next(name for name in NAMES if name not in THEIRS)

    async def story(bench: Bench) -> tuple[Answered, bool, Answered]:
        bench.fake.open.clear()
        theirs = bench.submit(row(THEIRS[0]))
        while not bench.fake.asked:
            await asyncio.sleep(0.001)
        quick = await bench.submit(row(ours))
        was_waiting = not theirs.done()
        bench.fake.open.set()
        return quick, was_waiting, await theirs

    _, (quick, was_waiting, slow) = play(tmp_path, HALF, story)
    assert (quick.face.version, was_waiting, slow.face.version) == (1, True, 2)


def test_requests_that_wait_are_asked_about_together(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Answered]:
        bench.fake.open.clear()
        calls = [bench.submit(row(THEIRS[0]))]
        while not bench.fake.asked:
            await asyncio.sleep(0.001)
        calls += [bench.submit(row(name)) for name in THEIRS[1:5]]
        await bench.submit(row(next(name for name in NAMES if name not in THEIRS)))  # so the others are lent by now
        bench.fake.open.set()
        return list(await asyncio.gather(*calls))

    bench, answers = play(tmp_path, HALF, story)
    assert [rows.count for rows in bench.fake.asked] == [1, 4]
    assert [answer.ids for answer in answers] == [[name] for name in THEIRS[:5]]


def test_a_row_that_both_models_fail_on_is_refused_and_spoils_no_other(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Any]:
        bench.fake.fails, bench.fake.why = True, Failing.ERROR
        calls = [bench.submit(row(THEIRS[0], carrier="poison")), bench.submit(row(THEIRS[1]))]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    bench, (poisoned, good) = play(tmp_path, HALF, story)
    assert isinstance(poisoned, ModelUnusable)
    assert good.scores == [0.25]
    assert bench.rows(Table.REFUSED)["_reason"].to_list() == [FAILED]
    shadow = bench.rows(Table.SHADOW).sort("_id")
    assert shadow.select("_id", "_failed").rows() == sorted((name, "error") for name in THEIRS[:2])


def test_a_client_that_names_the_version_is_answered_by_it(tmp_path: Path) -> None:
    async def story(bench: Bench) -> Answered:
        return await bench.submit(*(row(name) for name in NAMES), version="1")

    bench, answered = play(tmp_path, HALF, story)
    assert (answered.face.version, bench.fake.asked) == (1, [])


def test_what_was_lent_when_the_server_ends_is_answered(tmp_path: Path) -> None:
    async def story(bench: Bench) -> Answered:
        bench.fake.open.clear()
        call = bench.submit(row(THEIRS[0]))
        while not bench.fake.asked:
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(asyncio.to_thread(bench.scorer.close))
        await asyncio.sleep(0)
        bench.fake.open.set()
        await closing
        return await call

    bench, answered = play(tmp_path, HALF, story)
    assert answered.scores == [0.75]
    assert bench.rows(Table.PREDICTIONS)["_id"].to_list() == [THEIRS[0]]


@pytest.mark.parametrize("log", list(LogMode))
@pytest.mark.parametrize("night", [pytest.param(False, id="the short way"), pytest.param("false", id="the long way")])
def test_copies_are_paired_by_id_and_nobody_sees_their_answers(tmp_path: Path, log: LogMode, night: Any) -> None:
    async def story(bench: Bench) -> Answered:
        sent = bench.submit(*(row(name, night=night, carrier="error" if name == "f3" else "UA") for name in NAMES))
        answered = await sent
        while bench.rows(Table.SHADOW).height < len(NAMES):
            await asyncio.sleep(0.001)
        return answered

    bench, answered = play(tmp_path, COPIES, story, log=log)
    assert answered.scores == [0.25] * len(NAMES)
    shadow, logged = bench.rows(Table.SHADOW), bench.rows(Table.PREDICTIONS)
    paired = logged.select("_id", "_time").join(shadow, on=["_id", "_time"])
    assert len(paired) == len(NAMES) == len(shadow)
    good = shadow.filter(pl.col("_failed").is_null())
    assert (good.height, good["_score"].to_list()[0], set(good["_prediction"])) == (23, [0.25, 0.75], {"true"})
    assert shadow.filter(pl.col("_failed").is_not_null()).select("_id", "_score", "_failed").rows() == [
        ("f3", None, "error")
    ]
    assert good["_latency_ms"].to_list()[0] == pytest.approx(2.0)


def test_a_share_of_copies_is_a_share_of_the_rows(tmp_path: Path) -> None:
    names = [f"r{number}" for number in range(1000)]

    async def story(bench: Bench) -> None:
        await bench.submit(*(row(name) for name in names))
        until_quiet = len(names) * 0.15
        while bench.rows(Table.SHADOW).height < until_quiet:
            await asyncio.sleep(0.001)

    trial = dataclasses.replace(COPIES, mirror=0.2)
    bench, _ = play(tmp_path, trial, story, trying=Trying(share=1.0))
    assert 150 <= sum(rows.count for rows in bench.fake.asked) <= 250


def test_copies_that_do_not_fit_are_dropped_and_counted_and_slow_nobody(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.fake.open.clear()
        await bench.submit(row("first"))
        await asyncio.to_thread(until, lambda: bool(bench.fake.asked))
        for number in range(30):
            assert (await bench.submit(row(f"x{number}"))).scores == [0.25]
        bench.fake.open.set()

    bench, _ = play(tmp_path, COPIES, story, trying=Trying(copies=10))
    assert b'everfit_shadow_dropped_total{model="flights",version="2"} 20.0' in bench.counts.text()


def test_in_a_replay_every_copy_is_logged_before_the_answer(tmp_path: Path) -> None:
    async def story(bench: Bench) -> int:
        await bench.submit(*(row(name) for name in NAMES))
        return bench.rows(Table.SHADOW).height

    trying = Trying(wait=0.0, copies=1, share=0.01).in_replay()
    _, copies = play(tmp_path, COPIES, story, replay=True, log=LogMode.HELD, trying=trying)
    assert copies == len(NAMES)


def test_a_challenger_with_fewer_features_gets_its_own(tmp_path: Path) -> None:
    fake = Fake(Schema((SCHEMA.features[1],), SCHEMA.classes))

    async def story(bench: Bench) -> Answered:
        return await bench.submit(*(row(name) for name in NAMES))

    _, answered = play(tmp_path, HALF, story, fake)
    assert answered.scores == [0.75 if name in THEIRS else 0.25 for name in NAMES]
    assert fake.asked[0].frame is not None
    assert fake.asked[0].frame.columns == ["carrier"]


@pytest.mark.parametrize(
    ("champion", "wait"),
    [
        pytest.param(0.001, 0.1, id="at least a tenth of a second"),
        pytest.param(0.2, 0.8, id="four times the champion's p99"),
        pytest.param(3.0, 5.0, id="never longer than a process may be silent"),
    ],
)
def test_how_long_a_request_waits_for_the_challenger(champion: float, wait: float) -> None:
    pace = Pace(Trying())
    for _ in range(64):
        pace.add(champion)
    assert pace.wait == pytest.approx(wait)
