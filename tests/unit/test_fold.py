"""The fold: where a model stands follows from its ledger alone."""

from __future__ import annotations

import pytest

from everfit.decide.decision import AskHuman, Reason, Retrain
from everfit.errors import IllegalMove
from everfit.facts import Answered, Decided, Fact, RenewBegan, StepFailed, WentLive, WindowClosed, WindowMatured
from everfit.fold import fold
from everfit.ledger import fact_of
from everfit.lifecycle import State
from everfit.retrain.recipe import LakeVersion
from everfit.standing import run_of
from tests.unit.builders import START, candidate, chained, day, going_live, reading, training

FIRST = ("renew-1", training(1)), ("release-1", going_live(1))
SECOND = ("renew-2", training(2, level=0.8)), ("release-2", going_live(2, 1))


def test_a_first_champion_comes_live() -> None:
    standing = fold(chained(*FIRST))
    assert standing.champion is not None
    assert (standing.champion.version, standing.champion.state) == (1, State.LIVE)
    assert standing.history.champion is not None
    assert standing.history.champion.proven == {"roc_auc": 0.75}
    assert [run.outcome for run in standing.history.runs] == ["promoted"]


def test_the_second_champion_retires_the_first() -> None:
    standing = fold(chained(*FIRST, *SECOND))
    assert {kept.version: kept.state for kept in standing.bench.values()} == {1: State.RETIRED, 2: State.LIVE}
    assert standing.history.previous == candidate(1).id


def test_a_roll_back_serves_the_previous_and_never_offers_the_one_that_was_left() -> None:
    standing = fold(chained(*FIRST, *SECOND, ("release-back-1", going_live(1, 2, back=True))))
    assert {kept.version: kept.state for kept in standing.bench.values()} == {
        1: State.LIVE,
        2: State.ROLLED_BACK,
    }
    assert standing.history.previous is None


def test_a_candidate_that_is_kept_back_ends_its_run() -> None:
    standing = fold(chained(*FIRST, ("renew-2", training(2, better=False))))
    assert standing.bench[candidate(2).id].state is State.KEPT_BACK
    assert [run.outcome for run in standing.history.runs] == ["promoted", "kept_back"]
    assert standing.history.running is None


def test_a_proven_run_is_under_way_until_its_release_ended() -> None:
    standing = fold(chained(*FIRST, ("renew-2", training(2))))
    assert standing.history.running is not None


def test_what_was_not_proven_cannot_go_live() -> None:
    with pytest.raises(IllegalMove, match="kept_back candidate cannot serve"):
        fold(chained(*FIRST, ("renew-2", training(2, better=False)), ("release-2", going_live(2, 1))))


def test_a_failed_step_fails_its_candidate() -> None:
    facts = [*training(1)[:4], StepFailed("train", "TrainingFailed", "it raised")]
    assert fold(chained(("renew-1", facts))).states["renew-1"] is State.FAILED


def test_windows_close_and_mature() -> None:
    closed = WindowClosed(day(0), 900, LakeVersion(1, 1), "c1", (), (), None)
    matured = WindowMatured(day(0), 901, 800, (reading(0.7),))
    standing = fold(chained(("watch", [closed, matured])))
    (record,) = standing.history.windows
    assert (record.rows, record.labelled, record.mature) == (901, 800, (reading(0.7),))
    assert standing.closed_until == day(0).end
    assert (standing.history.rows, standing.history.labels) == (900, 800)


def test_a_decision_whose_run_was_not_begun_is_remembered() -> None:
    decision = Retrain((Reason("weekly", None, None, "it is Sunday", "k"),))
    decided: list[Fact] = [Decided(decision, None)]
    assert fold(chained(("watch", decided))).unstarted == decision
    begun = chained(("watch", decided), (run_of(decision), [RenewBegan(decision.because, first=True)]))
    assert fold(begun).unstarted is None


def test_a_refused_question_uses_up_its_evidence() -> None:
    asked = Decided(AskHuman("q", (Reason("weekly", None, None, "it is Sunday", "k"),)), None)
    standing = fold(chained(("watch", [asked]), ("people", [Answered("q", approved=False, why="no")])))
    assert standing.history.refused == {"k"}


def test_every_fact_survives_json() -> None:
    for entry in chained(*FIRST, *SECOND):
        assert fact_of(entry.kind, entry.body) == entry.fact
        if isinstance(entry.fact, WentLive):
            assert entry.at > START


def test_folding_in_parts_is_folding_at_once() -> None:
    entries = chained(*FIRST, *SECOND)
    for cut in range(len(entries)):
        assert fold(entries[cut:], fold(entries[:cut], model="m")) == fold(entries)
