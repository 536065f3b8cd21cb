"""Requests in batches: what waits goes together, nobody spoils another, and what is too much is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from polars.exceptions import PanicException
from starlette.testclient import TestClient

from everfit.clock import ticks
from everfit.errors import ModelUnusable, Refused, Unavailable
from everfit.observe.intake import FAILED
from everfit.ports import Route, Table
from everfit.serve.batch import Scorer
from everfit.serve.counts import Counts
from everfit.serve.log import PredictionLog
from everfit.serve.model import Loaded, Signature
from everfit.serve.protocol import Answered, MlflowAsk
from everfit.serve.routing import Served
from everfit.serve.serving import Limits, LogMode, Serving
from tests.unit.serve.fakes import MODEL, ROW, SCHEMA, ListJournal, client_of, release, serving, until

Result = Answered | BaseException


class Gate:
    """A model that waits at a gate, writes down how many rows it was asked for, and fails on a carrier."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked: list[int] = []
        self.poison = "poison"
        self.says: BaseException = ModelUnusable("poison")

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        self.asked.append(rows.height)
        assert self.open.wait(10)
        if self.poison in rows["carrier"].to_list():
            raise self.says
        late = rows["distance"].fill_null(0.0).to_numpy()
        return np.column_stack([1 - late, late])


class Bench:
    """A scorer with a gate before it, in an event loop of its own thread."""

    def __init__(self, told: Serving, journal: ListJournal) -> None:
        self.gate, self.journal = Gate(), journal
        self.counts = Counts(MODEL)
        self.log = PredictionLog(journal)
        self.version = 1
        self.served = self.version_of(1)
        self.scorer = Scorer(told, lambda: self.served, self.log, self.counts)

    def version_of(self, number: int) -> Served:
        signature = Signature("binary", SCHEMA, SCHEMA.classes, "true", {})
        return Served(Route(f"c{number}", number, f"k{number}"), Loaded(f"c{number}", signature, self.gate))

    def submit(
        self, *rows: dict[str, Any], began: float = 1e12, version: str | None = None
    ) -> asyncio.Future[Answered]:
        ask = MlflowAsk(orjson.dumps({"dataframe_records": list(rows)}), "application/json")
        return self.scorer.submit(ask, began, version)

    async def busy(self) -> asyncio.Future[Answered]:
        """The model is at its gate with one request."""
        first = self.submit({**ROW, "flight": "first"})
        while not self.gate.asked:
            await asyncio.sleep(0.001)
        return first


def play(
    tmp_path: Path, story: Callable[[Bench], Any], *, limits: Limits | None = None, log: LogMode = LogMode.ASYNC
) -> tuple[Bench, Any]:
    """Run a story in a loop; what it gave."""
    journal = ListJournal()
    bench = Bench(dataclasses.replace(serving(tmp_path, journal, log=log), limits=limits or Limits()), journal)

    async def run() -> Any:
        bench.log.start()
        bench.scorer.start()
        try:
            return await asyncio.wait_for(story(bench), 20)
        finally:
            bench.gate.open.set()
            await asyncio.to_thread(bench.scorer.close)
            await asyncio.to_thread(bench.log.close)

    return bench, asyncio.run(run())


def row(name: str, **changes: Any) -> dict[str, Any]:
    return {**ROW, "distance": 0.75, "flight": name, **changes}


def test_what_arrives_while_the_model_is_busy_is_the_next_batch(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Answered]:
        calls = [await bench.busy(), *(bench.submit(row(f"f{n}"), row(f"g{n}", distance=0.25)) for n in range(5))]
        bench.gate.open.set()
        return list(await asyncio.gather(*calls))

    bench, answers = play(tmp_path, story)
    assert bench.gate.asked == [1, 10]
    assert [answer.ids for answer in answers[1:]] == [[f"f{n}", f"g{n}"] for n in range(5)]
    assert all(answer.scores == [0.75, 0.25] and answer.predictions == [True, False] for answer in answers[1:])
    logged = bench.journal.rows(Table.PREDICTIONS)
    assert logged["_id"].to_list() == ["first", *(name for answer in answers[1:] for name in answer.ids)]
    assert logged["_score"].to_list()[1:] == [[0.25, 0.75], [0.75, 0.25]] * 5


def test_an_answer_is_let_go_when_later_requests_come(tmp_path: Path) -> None:
    async def story(bench: Bench) -> bool:
        bench.gate.open.set()
        first = bench.submit(row("a"))
        kept = weakref.ref(first)
        await first
        del first
        await bench.submit(row("b"))  # the thread knows the last one until the next comes
        third = bench.submit(row("c"))
        is_gone = kept() is None
        await third
        return is_gone

    _, is_gone = play(tmp_path, story)
    assert is_gone  # kept for a while, thousands a second make full collections of garbage: stalls of 90 ms


def test_a_bad_request_spoils_no_other(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Result]:
        first = await bench.busy()
        bad = [row("x", distance="secret"), row("y", scheduled="secret"), {"flight": "z"}, row("v", night="secret")]
        calls = [
            first,
            *(bench.submit(each) for each in [row("a"), *bad, row("b")]),
            bench.submit(row("c"), version="9"),
        ]
        bench.gate.open.set()
        return list(await asyncio.gather(*calls, return_exceptions=True))

    bench, (_, a, *refused, b, version) = play(tmp_path, story)
    assert (a.ids, b.ids) == (["a"], ["b"])
    assert all(isinstance(each, Refused) and "secret" not in str(each) for each in refused)
    assert getattr(version, "status", None) == 404
    assert sorted(bench.journal.rows(Table.REFUSED)["_column"]) == ["distance", "distance", "night", "scheduled"]


def test_one_row_that_the_model_fails_on_fails_alone_and_is_kept(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Result]:
        first = await bench.busy()
        calls = [first, *(bench.submit(row(name, carrier=name)) for name in ("a", "poison", "b"))]
        bench.gate.open.set()
        return list(await asyncio.gather(*calls, return_exceptions=True))

    bench, (_, a, poisoned, b) = play(tmp_path, story)
    assert (a.ids, b.ids) == (["a"], ["b"])
    assert isinstance(poisoned, ModelUnusable)
    assert bench.journal.rows(Table.REFUSED)["_reason"].to_list() == [FAILED]
    assert sorted(bench.journal.rows(Table.PREDICTIONS)["_id"]) == ["a", "b", "first"]
    assert b"everfit_model_failures_total" in bench.counts.text()


def test_a_swap_takes_effect_between_batches_and_the_log_says_who_scored(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Answered]:
        first = await bench.busy()
        waiting = [bench.submit(row("a")), bench.submit(row("b"))]
        bench.served = bench.version_of(2)
        bench.gate.open.set()
        return list(await asyncio.gather(first, *waiting))

    bench, answers = play(tmp_path, story)
    assert [answer.face.version for answer in answers] == [1, 2, 2]
    logged = bench.journal.rows(Table.PREDICTIONS)
    assert dict(zip(logged["_id"], logged["_version"], strict=True)) == {"first": 1, "a": 2, "b": 2}


def test_a_batch_has_a_limit_of_rows(tmp_path: Path) -> None:
    async def story(bench: Bench) -> Any:
        calls = [await bench.busy(), *(bench.submit(row(f"a{n}"), row(f"b{n}")) for n in range(5))]
        bench.gate.open.set()
        return await asyncio.gather(*calls)

    bench, _ = play(tmp_path, story, limits=Limits(batch_rows=4))
    assert bench.gate.asked == [1, 4, 4, 2]


def test_too_many_that_wait_are_refused_at_once(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Answered]:
        calls = [await bench.busy(), bench.submit(row("a")), bench.submit(row("b"))]
        with pytest.raises(Unavailable, match="come again"):
            bench.submit(row("c"))
        bench.gate.open.set()
        return list(await asyncio.gather(*calls))

    bench, answers = play(tmp_path, story, limits=Limits(waiting=2))
    assert len(answers) == 3
    assert b'everfit_overloads_total{model="flights"} 1.0' in bench.counts.text()


def test_a_request_that_waited_too_long_is_not_scored(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Result]:
        calls = [await bench.busy(), bench.submit(row("late"), began=-1e12), bench.submit(row("b"))]
        bench.gate.open.set()
        return list(await asyncio.gather(*calls, return_exceptions=True))

    bench, (_, late, in_time) = play(tmp_path, story)
    assert isinstance(late, Unavailable)
    assert in_time.ids == ["b"]
    assert bench.gate.asked == [1, 1]


def test_held_answers_of_a_batch_share_one_commit(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Answered]:
        calls = [await bench.busy(), *(bench.submit(row(f"f{n}")) for n in range(4))]
        bench.gate.open.set()
        return list(await asyncio.gather(*calls))

    bench, answers = play(tmp_path, story, log=LogMode.HELD)
    assert bench.journal.commits <= 2  # the first may have gone with them
    assert {answer.number for answer in answers[1:]} == {bench.journal.commits}


def test_an_ending_scorer_answers_what_it_took_and_takes_no_more(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Answered]:
        calls = [await bench.busy(), bench.submit(row("a"))]
        closing = asyncio.get_running_loop().run_in_executor(None, bench.scorer.close)
        while not bench.scorer._closing:
            await asyncio.sleep(0.001)
        with pytest.raises(Unavailable, match="ending"):
            bench.submit(row("b"))
        bench.gate.open.set()
        await closing
        return list(await asyncio.gather(*calls))

    _, answers = play(tmp_path, story)
    assert [answer.ids for answer in answers] == [["first"], ["a"]]


@contextmanager
def overloaded(tmp_path: Path) -> Iterator[TestClient]:
    release(tmp_path, 1)
    told = dataclasses.replace(serving(tmp_path, ListJournal()), limits=Limits(waiting=0))
    with client_of(told) as client:
        until(lambda: client.get("/ping").status_code == 200)
        yield client


def test_overload_answers_503_and_says_when_to_come_again(tmp_path: Path) -> None:
    with overloaded(tmp_path) as client:
        answer = client.post("/invocations", json={"dataframe_records": [ROW]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "come again" in answer.json()["error"]


def test_a_model_that_hangs_holds_nobody_longer_than_the_patience(tmp_path: Path) -> None:
    async def story(bench: Bench) -> list[Result]:
        calls = [bench.submit(row("first"), began=ticks()), bench.submit(row("a"), began=ticks())]
        late = await asyncio.gather(*calls, return_exceptions=True)  # the model is at its gate all the time
        assert bench.scorer.stuck > 0
        bench.gate.open.set()
        await bench.submit(row("b"))
        return list(late)

    bench, late = play(tmp_path, story, limits=Limits(patience=0.2))
    assert all(isinstance(each, Unavailable) and "waited too long" in str(each) for each in late)
    assert bench.scorer.stuck == 0
    assert b'everfit_overloads_total{model="flights"} 2.0' in bench.counts.text()


@pytest.mark.parametrize("said", [SystemExit("out"), KeyboardInterrupt(), PanicException("a library's bug")])
def test_a_model_that_exits_or_panics_fails_its_request_alone(tmp_path: Path, said: BaseException) -> None:
    async def story(bench: Bench) -> list[Result]:
        first = await bench.busy()
        bench.gate.says = said
        calls = [first, *(bench.submit(row(name, carrier=name)) for name in ("a", "poison", "b"))]
        bench.gate.open.set()
        return list(await asyncio.gather(*calls, return_exceptions=True))

    _, (_, a, poisoned, b) = play(tmp_path, story)
    assert (a.ids, b.ids) == (["a"], ["b"])
    assert isinstance(poisoned, ModelUnusable)
