"""The bench over weeks: it trains on all mature rows, and calls kept models back when the world turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from everfit.app.explain import rerun_decision
from everfit.decide.bench_reads import Rows
from everfit.decide.decision import Recall, Retrain, Wait
from everfit.facts import (
    BenchScored,
    CandidateTrained,
    Judged,
    RecallBegan,
    RecallEnded,
    RecipeChosen,
    RenewBegan,
    RenewEnded,
)
from everfit.flows.bench import bench_of, why_barred
from everfit.flows.rules import rules_of
from everfit.lifecycle import State
from everfit.ports import Job, Write
from everfit.standing import run_of
from everfit.testing import FrozenClock, in_memory
from tests.learning import LearningTrainer
from tests.turning import DAY, EVERY_DAY, TURNED, TURNS, facts, lives, serve, turning, version
from tests.unit.flows.served import Served
from tests.world import DAY0, NOW, facts_of, rows


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return turning(tmp_path_factory.mktemp("turned"), TURNS)


# ---- what is scored --------------------------------------------------------------------------------------------------
def test_every_day_is_scored_once_and_no_model_on_rows_that_it_learned_from(turned: Served) -> None:
    scored = facts(turned, BenchScored)
    assert [fact.number for fact in scored] == list(range(10, 28))
    assert [fact.span for fact in scored] == [turned.span(day) for day in range(40, 58)]
    assert {(fact.rows, fact.labelled, fact.metric) for fact in scored} == {(30, 30, "roc_auc")}
    assert all(fact.unit is None for fact in scored)  # a gain needs none
    made = version(turned, 2)
    asked = next(run.bench for run in turned.now.history.runs if run.run == made.run)
    assert asked is not None
    assert [fact.number for fact in scored if made.candidate.id in fact.levels] == list(range(asked.last + 1, 28))


def test_levels_are_of_all_rows_and_of_both_halves(turned: Served) -> None:
    first = version(turned, 1).candidate.id
    levels = [fact.levels[first] for fact in facts(turned, BenchScored)]
    assert all(min(each) > 0.5 for each in levels[:5])
    assert all(max(each) < 0.5 for each in levels[5:13])
    assert len(set(levels[0])) == 3


def test_looking_again_writes_nothing(turned: Served) -> None:
    before = turned.now.number
    turned.watch.catch_up()
    turned.watch.decide()
    assert turned.now.number == before


def test_a_loss_is_told_in_the_unit_of_the_best_constant_which_is_fixed_by_the_first_window(tmp_path: Path) -> None:
    served = turning(tmp_path, "+++", changed={"judge: {": "judge: {primary: log_loss, "})
    scored = facts(served, BenchScored)
    assert [fact.unit is None for fact in scored] == [False, True, True]
    assert scored[0].unit == pytest.approx(0.69, abs=0.02)
    assert not scored[0].greater_is_better
    bench = bench_of(served.now, served.world.spec.decide.bench)
    assert bench is not None
    level = scored[1].levels[bench.members[0].key][0]
    assert bench.scores[0, 11] == pytest.approx(1 - level / scored[0].unit)


class HalfBroken(LearningTrainer):
    """Cannot score models that it made after the first."""

    def score_each(self, models: Any, rows: Path, job: Job, alive: Callable[[], bool]) -> dict[str, pl.DataFrame | str]:
        told = super().score_each(models, rows, job, alive)
        return {key: said if place == 0 else "it crashed" for place, (key, said) in enumerate(told.items())}


def test_a_model_that_cannot_be_scored_is_named_and_never_recalled(tmp_path: Path) -> None:
    ports = replace(in_memory(FrozenClock(NOW)), trainer=HalfBroken())
    served = turning(tmp_path, "+++++" + "-" * 6, ports=ports)
    made = version(served, 2)
    newest = facts(served, BenchScored)[-1]
    assert newest.failed[made.candidate.id] == "it crashed"
    assert made.candidate.id not in newest.levels
    assert lives(served) == [1]
    bench = bench_of(served.now, served.world.spec.decide.bench)
    assert bench is not None
    assert why_barred(served.now, made, bench, served.world.spec.decide.bench) == "it crashed"


# ---- training --------------------------------------------------------------------------------------------------------
def test_a_run_of_the_bench_learns_from_all_mature_rows_and_holds_none_out(turned: Served) -> None:
    run = version(turned, 2).run
    story = turned.world.story(run)
    began, chosen, ended = story.find(RenewBegan), story.find(RecipeChosen), story.find(RenewEnded)
    assert began is not None
    assert chosen is not None
    assert ended is not None
    assert began.bench is not None
    assert began.bench.rows is Rows.CHANGE
    assert (began.bench.first, began.bench.last) == (15, 18)  # the world turned at window 15; 100 rows are needed
    assert (chosen.recipe.train.start, chosen.recipe.train.end) == (turned.span(45).start, turned.span(48).end)
    assert not chosen.recipe.holds_out
    trained = story.find(CandidateTrained)
    assert trained is not None
    assert trained.candidate.train_rows == 120
    assert story.find(Judged) is None
    assert ended.outcome == "benched"
    assert ended.said.startswith("version 2 waits on the bench")


def test_an_alarm_waits_until_there_are_rows_enough_to_train_on(turned: Served) -> None:
    said = [d.because[0].said for _, _, d in turned.now.decisions if isinstance(d, Wait)]
    held = [each for each in said if "labelled rows since the change, 100 needed" in each]
    assert held
    assert held[0].startswith("the score fell")
    assert not [run for run in turned.now.history.runs if run.outcome == "blocked"]


def test_rows_that_the_spec_names_count_and_the_decision_says_so(tmp_path: Path) -> None:
    served = turning(tmp_path, "+++++---", changed={'"train:fit"': '"train:fit", rows: {last: 30d}'})
    (decision,) = [d for _, _, d in served.now.decisions if isinstance(d, Retrain)]
    assert "train.rows: last" in decision.because[0].said
    chosen = served.world.story(run_of(decision)).find(RecipeChosen)
    assert chosen is not None
    assert chosen.recipe.train.end - chosen.recipe.train.start == timedelta(days=30)


# ---- recall ----------------------------------------------------------------------------------------------------------
def test_the_fresh_model_serves_once_it_won_a_window_and_the_old_one_when_the_world_turns_back(turned: Served) -> None:
    assert lives(turned)[:3] == [1, 2, 1]
    trainer = turned.ports.trainer
    assert isinstance(trainer, LearningTrainer)
    began = facts(turned, RecallBegan)
    assert [each.candidate for each in began] == [version(turned, n).candidate.id for n in (2, 1)]
    assert [each.windows for each in began] == [1, began[1].windows]
    assert all(fact.outcome == "planned" for fact in facts(turned, RecallEnded))
    assert turned.now.champion is not None
    assert turned.now.champion.version == 1
    assert version(turned, 2).state is State.RETIRED


def test_no_recall_without_a_verdict_on_rows_that_neither_learned_from(turned: Served) -> None:
    for began in facts(turned, RecallBegan):
        story = next(s for s in turned.now.stories.values() if began in s.facts)
        judged = story.find(Judged)
        assert judged is not None
        evidence = judged.verdict.evidence
        assert judged.verdict.kind == "better"
        assert evidence.rows == 30 * began.windows
        assert evidence.against == began.against
        assert evidence.span is not None
        for candidate in (began.candidate, began.against):
            assert evidence.span.start >= turned.now.bench[candidate].candidate.trained_until
        assert "on the bench" in judged.verdict.gates[0].said
        assert judged.reference is not None
        assert story.run.startswith("recall-")


def test_a_recalled_model_is_held_to_what_these_rows_taught(turned: Served) -> None:
    champion = turned.now.history.champion
    assert champion is not None
    judged = [fact for fact in facts(turned, Judged) if fact.verdict.evidence.candidate == champion.candidate][-1]
    assert champion.proven == judged.verdict.evidence.candidate_levels
    assert champion.per_window == judged.per_window


def test_every_decision_agrees_when_it_is_taken_again_from_the_ledger_alone(turned: Served) -> None:
    entries, rules = turned.ports.ledger.read("m"), rules_of(turned.world.spec)
    numbers = [entry.number for entry in entries if entry.kind == "Decided"]
    kinds = {entries[number - 1].fact.decision.kind for number in numbers}  # type: ignore[union-attr]  # Decided
    assert kinds == {"wait", "retrain", "recall"}
    assert [r.said for n in numbers if not (r := rerun_decision(entries, n, rules)).agrees] == []


def test_what_a_gate_keeps_back_is_not_asked_for_again_before_as_many_windows_have_come(tmp_path: Path) -> None:
    served = turning(tmp_path, "+++++" + "-" * 8, changed={"judge: {": "judge: {limits: {flips: 5%}, "})
    began, ended = facts(served, RecallBegan), facts(served, RecallEnded)
    assert {fact.outcome for fact in ended} == {"kept_back"}
    assert "of the predicted classes change" in ended[0].said
    assert lives(served) == [1]
    assert version(served, 2).state is State.KEPT_BACK
    mine = [each for each in began if each.candidate == began[0].candidate]
    assert len(mine) >= 2
    assert all(b.window >= a.window + a.windows for a, b in pairwise(mine))


def test_a_model_that_was_taken_back_is_never_recalled_by_itself(tmp_path: Path) -> None:
    served = turning(tmp_path, "+++++" + "-" * 6)
    assert lives(served) == [1, 2]
    served.world.roll_back()
    served.world.finish()
    serve(served, "--")
    bench = bench_of(served.now, served.world.spec.decide.bench)
    assert bench is not None
    assert why_barred(served.now, version(served, 2), bench, served.world.spec.decide.bench) == "it is rolled back"
    assert 2 not in lives(served)[3:]


def test_without_a_trigger_of_the_bench_it_is_scored_and_recalls_and_does_not_train(tmp_path: Path) -> None:
    served = turning(tmp_path, "+++++" + "--", "triggers: [{name: launch, event: launch}]\n" + EVERY_DAY)
    assert len(facts(served, BenchScored)) == 7
    assert len(served.now.history.runs) == 1
    served.world.begin("renew-asked")  # judged on held-out rows of a world that turned: nothing is proven
    served.world.finish()
    serve(served, "-")
    assert version(served, 2).state in (State.KEPT_BACK, State.LIVE, State.RETIRED)
    assert not [d for _, _, d in served.now.decisions if isinstance(d, Retrain)]


def test_decisions_to_recall_name_the_window_and_the_candidate(turned: Served) -> None:
    recalls = [decision for _, _, decision in turned.now.decisions if isinstance(decision, Recall)]
    assert [decision.because[0].said.split(" by ")[0] for decision in recalls] == [
        "version 2 beats version 1",
        "version 1 beats version 2",
    ]
    assert len({run_of(decision) for decision in recalls}) == 2


# ---- crashes ---------------------------------------------------------------------------------------------------------
class Cut(Exception):
    """The process ended here."""


class Restless:
    """A ledger whose process ends at every fact of the watch: once before it is written, and once after."""

    def __init__(self, ledger: Any) -> None:
        self._ledger, self._seen = ledger, set[tuple[str, int]]()

    def append(self, write: Write) -> Any:
        """Die; when it is tried again write, and die."""
        if (write.run, write.step) not in self._seen:
            self._seen.add((write.run, write.step))
            raise Cut(write.run)
        self._ledger.append(write)
        raise Cut(write.run)

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._ledger, verb)


def advanced(served: Served, moment: datetime, ledger: Restless) -> bool:
    """Do one thing that is due, in a fresh process if the last one ended; False when nothing is left."""
    try:
        served.watch.catch_up()
        served.watch.decide()
        served.world.finish()
        due = served.watch.due(moment)
        for first in due[:1]:
            served.watch.visit(first)
    except Cut:
        served.watch = served.new_watch(ledger)
        return True
    return bool(due)


def killed(folder: Path, days: str) -> Served:
    """The same days, with a fresh process for every fact of the watch."""
    served = turning(folder, "")
    restless = Restless(served.ports.ledger)
    served.watch = served.new_watch(restless)
    for day in days:
        served.put(rows(served.day, 1).with_columns(*([TURNED] if day == "-" else [])))
        served.day += 1
        moment = DAY0 + served.day * DAY + timedelta(hours=2)
        clock = served.ports.clock
        assert isinstance(clock, FrozenClock)
        clock.forward(moment - clock.now())
        while advanced(served, moment, restless):
            continue
    return served


def test_a_watch_that_is_killed_at_every_fact_writes_the_same_ledger(turned: Served, tmp_path: Path) -> None:
    broken = killed(tmp_path / "broken", TURNS[:11])  # it is scored, it trains, and it calls the fresh model back
    assert lives(broken) == [1, 2]
    told, whole = facts_of(broken.ports.ledger.read("m")), facts_of(turned.ports.ledger.read("m"))
    assert len(told["watch"]) > 40
    assert told["watch"] == whole["watch"][: len(told["watch"])]
    assert {run: story for run, story in told.items() if run != "watch"} == {
        run: story for run, story in whole.items() if run in told and run != "watch"
    }
