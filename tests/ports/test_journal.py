"""The journal on a real disk: many threads, several processes, no space, foreign files."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from everfit.adapters.journal import SqliteJournal
from everfit.errors import DiskFull, Unavailable, UsageError
from everfit.ports import Batch, Table


def batch(*ids: str, table: Table = Table.PREDICTIONS) -> Batch:
    return Batch(table, pl.DataFrame({"_id": ids, "_score": [[0.1, 0.9]] * len(ids)}))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    opened = SqliteJournal(tmp_path / "deep" / "journal.db")
    yield opened
    opened.close()


def test_batches_wait_in_order_until_they_are_forgotten(journal: SqliteJournal) -> None:
    assert (journal.last(), journal.waiting(9), journal.pending()) == (0, [], 0)
    assert journal.append([batch("a"), batch("b", "c", table=Table.LABELS)]) == 2
    assert journal.append([batch("d")]) == 3
    assert [(b.number, b.table, b.rows["_id"].to_list()) for b in journal.waiting(9)] == [
        (1, Table.PREDICTIONS, ["a"]),
        (2, Table.LABELS, ["b", "c"]),
        (3, Table.PREDICTIONS, ["d"]),
    ]
    assert [b.number for b in journal.waiting(3)] == [1, 2]
    assert [b.number for b in journal.waiting(0)] == [1]
    assert journal.pending() == 4
    journal.forget(2, {Table.LABELS: {"b": "1"}})
    assert [b.number for b in journal.waiting(9)] == [3]


def test_ids_are_known_after_they_were_taken_and_the_first_word_stands(journal: SqliteJournal) -> None:
    many = {f"id{n}": str(n) for n in range(2000)}
    journal.forget(0, {Table.LABELS: many})
    journal.forget(0, {Table.LABELS: {"id7": "another"}})
    assert journal.known(Table.LABELS, [*many, "stranger"]) == many
    assert journal.known(Table.PREDICTIONS, ["id1"]) == {}


def test_numbers_go_on_after_everything_was_forgotten_and_the_file_was_reopened(tmp_path: Path) -> None:
    first = SqliteJournal(tmp_path / "journal.db")
    first.append([batch("a"), batch("b")])
    first.forget(2, {})
    first.close()
    second = SqliteJournal(tmp_path / "journal.db")
    assert (second.last(), second.key) == (2, first.key)
    assert second.append([batch("c")]) == 3
    second.close()


def test_nothing_to_append_changes_nothing(journal: SqliteJournal) -> None:
    journal.append([batch("a")])
    assert journal.append([]) == 1
    assert journal.append([Batch(Table.LABELS, pl.DataFrame({"_id": []}))]) == 1
    assert journal.pending() == 1


def test_many_threads_append_one_frame_and_each_is_told_its_own_number(journal: SqliteJournal) -> None:
    shared = batch("a")
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda _: journal.append([shared]), range(400)))
    assert sorted(numbers) == list(range(1, 401))
    assert journal.pending() == 400


def test_several_processes_share_the_file(journal: SqliteJournal, tmp_path: Path) -> None:
    code = (
        "import sys, polars as pl; from pathlib import Path; from everfit.adapters.journal import SqliteJournal\n"
        "from everfit.ports import Batch, Table\n"
        "journal = SqliteJournal(Path(sys.argv[1]))\n"
        "for n in range(50): journal.append([Batch(Table.LABELS, pl.DataFrame({'_id': [f'{sys.argv[2]}-{n}']}))])\n"
        "journal.close()"
    )
    path = str(tmp_path / "deep" / "journal.db")
    children = [subprocess.Popen([sys.executable, "-c", code, path, name]) for name in "xy"]
    for n in range(50):
        journal.append([batch(f"z-{n}")])
    assert [child.wait(60) for child in children] == [0, 0]
    waiting = journal.waiting(10**6)
    assert [b.number for b in waiting] == list(range(1, 151))
    assert len({b.rows["_id"][0] for b in waiting}) == 150


def test_no_space_refuses_what_comes_keeps_what_was_taken_and_goes_on_later(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db", most_bytes=256 * 1024)
    noise = [f"{n * 2654435761 % 2**32:08x}" for n in range(20_000)]
    piece = batch(*noise[:1000])
    while journal.last() < 5:
        journal.append([piece])
    taken = journal.last()
    with pytest.raises(DiskFull, match="make room"):
        journal.append([batch(*noise)])
    assert [b.number for b in journal.waiting(10**6)] == list(range(1, taken + 1))
    journal.forget(taken, {})
    assert journal.append([batch("a")]) == taken + 1
    journal.close()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"hello, this is a letter " * 200, "not a journal", id="another kind of file"),
        pytest.param(b"SQLite format 3\x00" + b"\x00" * 50, "not a journal", id="a database that was cut off"),
    ],
)
def test_a_foreign_or_damaged_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "journal.db").write_bytes(content)
    with pytest.raises(UsageError, match=f"journal.db.*{said}"):
        SqliteJournal(tmp_path / "journal.db")


def test_a_truncated_journal_is_named(tmp_path: Path) -> None:
    whole = SqliteJournal(tmp_path / "whole.db")
    for n in range(100):
        whole.append([batch(*(f"{n}-{m}" for m in range(200)))])
    whole.close()
    content = (tmp_path / "whole.db").read_bytes()
    (tmp_path / "journal.db").write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match="damaged"):
        SqliteJournal(tmp_path / "journal.db")


def test_a_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.db") as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(UsageError, match="belongs to another program"):
        SqliteJournal(tmp_path / "journal.db")


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.append([batch("a")])
    journal.close()
    journal.close()
    with pytest.raises(Unavailable, match="closed"):
        journal.append([batch("b")])
