"""What people see of the bench: a row for every kept model, and where the policy stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from everfit.app.bench import bench_view
from everfit.cli import say
from everfit.cli.bench import show
from everfit.decide.bench import Why
from everfit.decide.bench_options import BenchOptions
from everfit.decide.bench_reads import Rows
from everfit.decide.decision import BenchRun
from everfit.facts import BenchScored, Fact, Judged, RenewBegan, RenewEnded, WindowClosed, WindowMatured
from everfit.fold import fold
from everfit.retrain.recipe import LakeVersion
from everfit.standing import Standing
from tests.unit.builders import candidate, chained, day, going_live, reading, training

FIRST, SECOND, THIRD = (candidate(number).id for number in (1, 2, 3))
OPTIONS = BenchOptions()
Levels = tuple[float | None, float | None, float | None]
BASE = OPTIONS.recent  # number of the first window after the first model's rows


def scored(number: int, told: dict[str, float], **changes: Any) -> list[Fact]:
    """A window of the bench that was closed, matured and scored; its number counts from the first one."""
    each: dict[str, Levels] = {name: (level, level + 0.001, level - 0.001) for name, level in told.items()}
    fact = BenchScored(BASE + number, BASE + number, 1, day(number), 900, 800, "roc_auc", True, each, {})
    return [
        WindowClosed(day(number), 900, LakeVersion(1, 1), FIRST, (), (), None),
        WindowMatured(day(number), 900, 800, (reading(told[FIRST]),)),
        replace(fact, **changes),
    ]


def benched(number: int, window: int, rows: Rows) -> list[Fact]:
    """A run that the bench asked for, whose model waits there."""
    asked = BenchRun(BASE + window, Why.INTERVAL, rows, 0, BASE + window, FIRST, None, None)
    facts = [fact for fact in training(number) if not isinstance(fact, Judged | RenewEnded)]
    assert isinstance(facts[0], RenewBegan)
    return [replace(facts[0], bench=asked, first=False), *facts[1:], RenewEnded("benched", "it waits on the bench")]


def standing(better: float = 0.76, **changes: Any) -> Standing:
    """A first model that serves at 0.70, and one of all rows that came after six windows."""
    before = [fact for number in range(6) for fact in scored(number, {FIRST: 0.70})]
    after = [fact for number in range(6, 12) for fact in scored(number, {FIRST: 0.70, SECOND: better}, **changes)]
    return fold(
        chained(
            ("renew-1", training(1)), ("release-1", going_live(1)), ("watch", before),
            ("renew-2", benched(2, 5, Rows.ALL)), ("watch-2", after),
        )
    )  # fmt: skip


def test_before_any_window_was_scored_models_are_shown_without_scores() -> None:
    view = bench_view(fold(chained(("renew-1", training(1)), ("release-1", going_live(1)))), OPTIONS)
    assert (view["policy"], view["metric"], view["scored"]) == (None, None, 0)
    (only,) = view["models"]
    assert (only["version"], only["rows"], only["serves"], only["recent"]) == (1, 20_000, True, None)


def test_nothing_is_known_of_a_model_that_was_never_trained() -> None:
    view = bench_view(fold([], model="m"), OPTIONS)
    assert (view["model"], view["models"], view["policy"], view["every"]) == ("m", [], None, None)


def test_every_model_is_shown_with_its_recent_scores_and_what_it_is_worth() -> None:
    view = bench_view(standing(), OPTIONS)
    first, second = view["models"]
    assert (view["metric"], view["window"], view["scored"], view["every"]) == ("roc_auc", BASE + 11, 12, 1)
    assert (first["range"], first["windows"], first["value"], first["serves"]) == (None, 12, 0.0, True)
    assert (second["range"], second["windows"], second["serves"], second["would_serve"]) == ("all", 6, False, True)
    assert first["recent"] == pytest.approx(0.70)
    assert second["scores"] == pytest.approx([0.76] * 5)
    assert 3.0 < second["value"] < 6.0  # six points were seen, and belief draws it towards less
    assert second["state"] == "benched"
    assert "version 2 beats version 1" in view["policy"]["serve"]


def test_a_model_that_is_no_better_does_not_serve() -> None:
    first, second = bench_view(standing(better=0.69), OPTIONS)["models"]
    assert first["would_serve"]
    assert not second["would_serve"]
    assert second["value"] < 0


def test_who_may_not_be_recalled_is_shown_with_the_reason() -> None:
    where = standing(levels={FIRST: (0.7, 0.7, 0.7)}, failed={SECOND: "it crashed"})
    view = bench_view(where, OPTIONS)
    second = view["models"][1]
    assert second["barred"] == "it crashed"
    assert second["windows"] == 0
    assert view["models"][0]["would_serve"]
    assert "v2 is not recalled: it crashed" in printed(where)


def test_when_recall_is_off_it_is_said() -> None:
    view = bench_view(standing(), OPTIONS.model_copy(update={"recall": False}))
    assert view["policy"]["serve"].startswith("recall is off: version 1 stays")
    assert [each["would_serve"] for each in view["models"]] == [True, False]


def test_the_policys_state_is_its_own() -> None:
    policy = bench_view(standing(), OPTIONS)["policy"]
    assert (policy["since"], policy["saved"], policy["leader"]) == (6, 4.0, "all")
    assert policy["fall"]["lost"] == 0.0
    assert policy["fall"]["line"] >= 5.0
    assert 0 < policy["budget"] <= 4


def printed(where: Standing) -> str:
    with say.out.capture() as caught:
        show(bench_view(where, OPTIONS))
    return caught.get()


def test_people_read_a_table_and_sentences() -> None:
    told = printed(standing())
    for said in (
        "a bench window is one window of the watch; 12 scored, 0 wait",
        "v2",
        "20,000 all",
        "would serve",
        "version 2 beats version 1",
        "leading rows: all",
    ):
        assert said in told


def test_people_are_told_that_nothing_was_scored_yet() -> None:
    told = printed(fold(chained(("renew-1", training(1)), ("release-1", going_live(1)))))
    assert "no window of the bench has mature labels yet" in told
    assert "v1" in told
