"""The prediction log never drops: it groups, it waits, it tries again, it drains."""

from __future__ import annotations

import threading

import polars as pl
import pytest

from everfit.errors import DiskFull, Unavailable
from everfit.ports import Batch, Table
from everfit.serve.log import PredictionLog, merge
from tests.unit.serve.fakes import ListJournal, until


def batch(*ids: str, **more: list[int]) -> Batch:
    return Batch(Table.PREDICTIONS, pl.DataFrame({"_id": list(ids), **more}))


def test_what_waits_together_is_committed_together() -> None:
    journal = ListJournal()
    log = PredictionLog(journal)
    for name in "abc":
        log.offer(batch(name), held=False)
    log.start()
    assert log.close() == 0
    assert journal.commits == 1
    assert journal.rows(Table.PREDICTIONS)["_id"].to_list() == ["a", "b", "c"]


def test_batches_with_other_columns_are_not_mixed() -> None:
    merged = merge([batch("a"), batch("b", x=[1]), batch("c")])
    assert [found.rows.columns for found in merged] == [["_id"], ["_id", "x"]]


def test_a_full_log_lets_the_next_wait_and_takes_it_later() -> None:
    journal = ListJournal()
    log = PredictionLog(journal, most_rows=2)
    log.offer(batch("a", "b"), held=False)
    assert log.offer(batch("c"), held=False) is None
    waiting = threading.Thread(target=log.put, args=(batch("c"),), kwargs={"held": False})
    waiting.start()
    log.start()
    waiting.join(10)
    log.close()
    assert journal.rows(Table.PREDICTIONS)["_id"].to_list() == ["a", "b", "c"]


def test_a_batch_larger_than_the_log_is_taken_when_nothing_waits() -> None:
    log = PredictionLog(ListJournal(), most_rows=1)
    assert log.offer(batch("a", "b"), held=False) is not None


def test_while_the_journal_is_away_answers_wait_in_memory_until_it_is_full() -> None:
    journal = ListJournal()
    journal.full = True
    log = PredictionLog(journal, most_rows=2)
    log.start()
    log.offer(batch("a", "b"), held=False)
    with pytest.raises(Unavailable, match="no space left"):
        log.put(batch("c"), held=False)
    journal.full = False
    assert log.close() == 0
    assert journal.rows(Table.PREDICTIONS)["_id"].to_list() == ["a", "b"]


def test_who_waits_for_the_commit_is_told_when_it_fails() -> None:
    journal = ListJournal()
    journal.full = True
    log = PredictionLog(journal)
    log.start()
    kept, given_up = log.offer(batch("a"), held=False), log.offer(batch("b"), held=True)
    assert kept is not None
    assert given_up is not None
    with pytest.raises(DiskFull):
        given_up.result(10)
    journal.full = False
    assert kept.result(10) == 1
    log.close()
    assert journal.rows(Table.PREDICTIONS)["_id"].to_list() == ["a"]


def test_a_closed_log_takes_nothing() -> None:
    log = PredictionLog(ListJournal())
    log.start()
    log.close()
    with pytest.raises(Unavailable, match="ending"):
        log.offer(batch("a"), held=False)


def test_a_journal_that_fails_in_an_unknown_way_does_not_end_the_log() -> None:
    class Odd(ListJournal):
        def append(self, batches: object) -> int:
            self.commits += 1
            if self.commits == 1:
                raise RuntimeError("nobody expected this")
            return self.commits

    log = PredictionLog(odd := Odd())
    log.start()
    log.offer(batch("a"), held=False)
    until(lambda: odd.commits == 2)
    assert log.close() == 0
