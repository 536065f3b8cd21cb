"""The ledger in SQL: SQLite and PostgreSQL keep the same duties."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from everfit.adapters.store import SqlStore
from everfit.errors import Conflict, LeaseLost, LedgerTampered, Unavailable
from everfit.facts import Paused, Resumed
from everfit.ledger import verify
from everfit.ports import Write
from tests.ports import postgres
from tests.unit.builders import START

LONG = timedelta(minutes=1)


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres.server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        f"sqlite:///{tmp_path / 'ledger.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )


@pytest.fixture
def store(url: str, request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    opened = SqlStore(url)
    yield opened
    opened.close()


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A model of its own for each test: the PostgreSQL server is shared."""
    return str(request.node.name)[:60]


def write(model: str, step: int, *, run: str = "people", **changes: object) -> Write:
    return Write(model, run, step, Paused(f"step {step}"), START, "test", **changes)  # type: ignore[arg-type]  # a builder


def test_what_was_appended_is_read_in_order_and_its_chain_holds(store: SqlStore, model: str) -> None:
    for step in (1, 2, 3):
        store.append(write(model, step))
    entries = store.read(model)
    assert [entry.number for entry in entries] == [1, 2, 3]
    assert entries[0].fact == Paused("step 1")
    assert store.read(model, after=2) == entries[2:]
    verify(entries)


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_step_that_is_not_the_next_one_is_refused(store: SqlStore, model: str, step: int) -> None:
    store.append(write(model, 1))
    with pytest.raises(Conflict):
        store.append(write(model, step))
    assert len(store.read(model)) == 1


def test_one_of_many_writers_wins_each_step(url: str, model: str) -> None:
    won: list[int] = []

    def race() -> None:
        store = SqlStore(url)
        for step in range(1, 6):
            try:
                store.append(write(model, step))
                won.append(step)
            except Conflict:
                continue
        store.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = SqlStore(url)
    verify(store.read(model))
    assert sorted(won) == [entry.step for entry in store.read(model)]
    assert len(won) == len(set(won))
    store.close()


def test_runs_are_due_when_they_wake_and_not_when_they_ended(store: SqlStore, model: str) -> None:
    store.append(write(model, 1, run="renew-a"))
    store.append(write(model, 1, run="renew-b", wake_at=START + LONG))
    store.append(write(model, 1, run="renew-c", ends=True))
    assert store.due(model, START) == ["renew-a"]
    assert store.due(model, START + LONG) == ["renew-a", "renew-b"]
    assert store.sleepers(model)["renew-b"] == START + LONG


def test_a_lease_is_held_by_one_and_comes_free(store: SqlStore, model: str) -> None:
    first = store.take(model, "one", LONG)
    assert first is not None
    assert store.take(model, "two", LONG) is None
    assert store.beat(first, LONG)
    store.drop(first)
    second = store.take(model, "two", LONG)
    assert second is not None
    assert second.token == first.token + 1
    assert not store.beat(first, LONG)


def test_a_zombie_must_not_write(store: SqlStore, model: str) -> None:
    dead = store.take(model, "one", timedelta(0))
    assert dead is not None
    alive = store.take(model, "two", LONG)
    with pytest.raises(LeaseLost):
        store.append(write(model, 1, lease=dead))
    store.append(write(model, 1, lease=alive))
    with pytest.raises(Conflict):
        store.append(write(model, 2, lease=dead))
    assert len(store.read(model)) == 1


def test_a_lease_that_ran_out_must_not_write_even_if_nobody_took_it(store: SqlStore, model: str) -> None:
    dead = store.take(model, "one", timedelta(0))
    with pytest.raises(LeaseLost):
        store.append(write(model, 1, lease=dead))


def test_notes_and_marks(store: SqlStore, model: str) -> None:
    key = store.put(b"profile")
    assert store.put(b"profile") == key
    assert store.get(key) == b"profile"
    with pytest.raises(LedgerTampered):
        store.get("nothing")
    assert store.marked(model) is None
    store.mark(model, "one")
    store.mark(model, "two")
    assert store.marked(model) == "two"


def test_another_process_reads_what_was_written(url: str, model: str) -> None:
    one, two = SqlStore(url), SqlStore(url)
    one.append(write(model, 1))
    two.append(Write(model, "people", 2, Resumed("back"), START, "test"))
    assert [entry.fact for entry in one.read(model)] == [Paused("step 1"), Resumed("back")]
    assert model in one.models()
    one.close()
    two.close()


@pytest.mark.parametrize(
    "url, said",
    [
        pytest.param(
            "postgresql+psycopg://ada:secret@localhost:1/none",
            "localhost:1/none does not answer",
            id="no server",
        ),
        pytest.param("sqlite:////proc/ledger.db", "does not answer", id="a place that cannot be written"),
    ],
)
def test_a_database_that_is_away_says_so_without_its_password(url: str, said: str) -> None:
    with pytest.raises(Unavailable, match=said) as caught:
        SqlStore(url).models()
    assert "secret" not in str(caught.value)
