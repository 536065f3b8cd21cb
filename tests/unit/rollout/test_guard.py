"""Verdicts of the guard, one story each."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from everfit.errors import Refused, UsageError
from everfit.rollout.checks import Check, Guarding
from everfit.rollout.guard import (
    Ask,
    Compared,
    Guarded,
    Hold,
    Proceed,
    RollBack,
    Seen,
    Verdict,
    as_facts,
    begin,
    from_facts,
    look,
    next_step,
    total_evidence,
)
from everfit.rollout.power import Traffic, power_of
from everfit.rollout.sequential import rate_of

NOON, HOUR = datetime(2026, 1, 1, 12, tzinfo=UTC), timedelta(hours=1)
ERRORS = Guarding(checks=(Check(of="errors"),), extend_up_to=timedelta(hours=4))
GOOD = Seen((1900, 100), (Compared("errors", rate_of(190, 1900), rate_of(10, 100)),))
BAD = Seen((1900, 100), (Compared("errors", rate_of(190, 1900), rate_of(40, 100)),))
SILENT = Seen((2000, 0), (Compared("errors", rate_of(200, 2000), rate_of(0, 0)),))


def hours(*seen: Seen, options: Guarding = ERRORS, planned: timedelta = HOUR) -> tuple[Guarded, list[Verdict]]:
    state, verdicts = begin(NOON, planned), []
    for at, interval in enumerate(seen, 1):
        state, verdict = look(state, interval, options, NOON + at * HOUR)
        verdicts.append(verdict)
    return state, verdicts


def losses(level: float, many: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).beta(2, 2 / level - 2, many)


@pytest.mark.parametrize(
    ("seen", "kinds"),
    [
        pytest.param([GOOD, GOOD], ["hold", "proceed"], id="enough rows and nothing against it: proceed"),
        pytest.param([BAD], ["roll_back"], id="bad: back at once, before the step's end"),
        pytest.param([SILENT] * 5, ["hold"] * 4 + ["ask"], id="no traffic: hold, then ask, never proceed"),
        pytest.param([GOOD, GOOD, SILENT], ["hold", "proceed", "hold"], id="traffic stops: not even then"),
        pytest.param([BAD, GOOD, GOOD], ["roll_back"] * 3, id="once back, always back"),
    ],
)
def test_one_verdict_per_interval(seen: list[Seen], kinds: list[str]) -> None:
    assert [verdict.kind for verdict in hours(*seen)[1]] == kinds


def test_a_verdict_says_its_numbers() -> None:
    back = hours(BAD)[1][0]
    assert isinstance(back, RollBack)
    assert back.why == "worse"
    assert back.said.startswith("rolled back: errors 40.0% against 10.0% on 100 rows (30.0 points more, 95% ")
    assert "0.5 points allowed); evidence " in back.said
    assert back.said.endswith(", 100 needed")
    assert hours(GOOD, GOOD)[1][1].said.startswith("proceed: errors 10.0% against 10.0% on 200 rows (0.0 points more")


def test_before_the_step_ends_it_holds_and_says_how_it_stands() -> None:
    verdicts = hours(GOOD, GOOD, GOOD, planned=3 * HOUR)[1]
    assert verdicts[0].said == "hold: the step runs until 2026-01-01 15:00Z; so far errors has 100 of 200 rows"
    assert verdicts[1].said == "hold: the step runs until 2026-01-01 15:00Z; nothing stands against it so far"
    assert isinstance(verdicts[2], Proceed)


@pytest.mark.parametrize(
    ("inconclusive", "kind"), [("promote", Proceed), ("abort", RollBack), ("ask", Ask)], ids=["promote", "abort", "ask"]
)
def test_when_time_is_up_the_spec_decides(inconclusive: Any, kind: type[Verdict]) -> None:
    options = ERRORS.model_copy(update={"checks": (Check(of="errors", at_least=5000),), "inconclusive": inconclusive})
    verdicts = hours(*[GOOD] * 5, options=options)[1]
    assert [type(verdict) for verdict in verdicts] == [Hold] * 4 + [kind]
    assert "inconclusive after 5h: errors has 500 of 5,000 rows" in verdicts[-1].said
    if isinstance(verdicts[-1], RollBack):
        assert verdicts[-1].why == "inconclusive"


def test_not_even_promote_promotes_without_traffic() -> None:
    options = ERRORS.model_copy(update={"inconclusive": "promote"})
    last = hours(*[SILENT] * 5, options=options)[1][-1]
    assert isinstance(last, Ask)
    assert "no traffic is never success" in last.said


def test_looks_may_be_limited_too() -> None:
    options = Guarding(checks=(Check(of="errors", at_least=5000),), looks_at_most=2)
    assert [verdict.kind for verdict in hours(GOOD, GOOD, options=options)[1]] == ["hold", "ask"]


def test_labels_are_awaited_as_long_as_they_take() -> None:
    options = Guarding(
        checks=(Check(of="loss", on="different"),), labels_mature_after=timedelta(hours=6), extend_up_to=HOUR
    )
    verdicts = hours(*[Seen((1900, 100))] * 8, options=options)[1]
    assert [verdict.kind for verdict in verdicts] == ["hold"] * 7 + ["ask"]
    assert "loss has 0 of 200 labelled rows (labels of this step's first rows mature at 2026-01-01 18:00Z)" in (
        verdicts[3].said
    )


def test_a_challenger_alone_is_compared_with_nothing() -> None:
    alone = Seen((0, 2000), (Compared("errors", rate_of(0, 0), rate_of(900, 2000)),))
    assert hours(alone, alone)[1][-1].kind == "hold"


def test_what_leans_against_it_holds() -> None:
    leaning = Seen((1900, 100), (Compared("errors", rate_of(190, 1900), rate_of(27, 100)),))
    options = ERRORS.model_copy(update={"checks": (Check(of="errors", on="different"),)})
    state, verdicts = hours(GOOD, GOOD, leaning, options=options)
    assert 10 < np.exp(total_evidence(state, options)) < 100
    assert verdicts[-1].kind == "hold"
    assert "errors leans against it (errors 15.7% against 10.0% on 300 rows" in verdicts[-1].said


def test_proof_may_be_asked_for() -> None:
    options = Guarding(checks=(Check(of="errors", prove=True, worse_by_at_most=0.05),))
    equal = Seen((1900, 400), (Compared("errors", rate_of(190, 1900), rate_of(40, 400)),))
    kinds = [verdict.kind for verdict in hours(*[equal] * 20, options=options)[1]]
    assert kinds[0] == "hold"
    assert kinds[-1] == "proceed"
    assert sorted(kinds, key=["hold", "proceed"].index) == kinds


def test_the_next_step_asks_for_evidence_anew_and_forgets_none() -> None:
    state, _ = hours(GOOD, GOOD)
    step = next_step(state, NOON + 2 * HOUR, HOUR)
    assert (step.rows, step.requests, step.weighed) == ({}, (0, 0), state.weighed)
    after, verdict = look(step, GOOD, ERRORS, NOON + 3 * HOUR)
    assert verdict.said.startswith("hold: errors has 100 of 200 rows")
    assert after.weighed["errors"].rows[1] == 300


def test_shadow_and_canary_slices_and_latency_share_one_promise() -> None:
    options = Guarding(checks=(Check(of="errors"), Check(of="latency"), Check(of="loss", slices=True)))
    times = np.random.default_rng(1).lognormal(3, 0.5, 500)
    fine = losses(0.2, 400, 2)
    seen = Seen(
        (1900, 400),
        (
            Compared("errors", rate_of(19, 1900), rate_of(4, 400)),
            Compared("latency", times, times),
            Compared("loss", fine, fine * 1.001, paired=True),
            Compared("loss", losses(0.2, 1900, 3), losses(0.2, 400, 4)),
            Compared("loss", fine[:200], np.minimum(1.0, fine[:200] * 4), slice="origin=JFK", paired=True),
        ),
    )
    state, verdicts = hours(seen, options=options)
    assert isinstance(verdicts[0], RollBack)
    assert verdicts[0].said.startswith("rolled back: loss on the same rows where origin=JFK ")
    assert sum(f.share for f in verdicts[0].findings) < 1
    assert {f.place for f in verdicts[0].findings} == {
        "errors", "latency", "loss on the same rows", "loss", "loss on the same rows where origin=JFK",
    }  # fmt: skip
    assert from_facts(json.loads(json.dumps(as_facts(state)))) == state


def test_slices_beyond_the_promise_are_passed_over_and_counted() -> None:
    options = Guarding(checks=(Check(of="errors", slices=True),), slices_at_most=2)
    seen = Seen((9, 9), tuple(Compared("errors", rate_of(1, 9), rate_of(9, 9), slice=f"s={i}") for i in range(5)))
    state, _ = hours(seen, options=options)
    assert (len(state.weighed), state.passed_over) == (2, 3)
    unasked, _ = hours(seen)
    assert unasked.weighed == {}


def test_losses_may_be_larger_than_one() -> None:
    check = Check(of="loss", largest=10.0, worse_by_at_most=0.5, on="different")
    options = Guarding(checks=(check,))
    seen = Seen((500, 500), (Compared("loss", losses(0.2, 500, 5) * 10, losses(0.4, 500, 6) * 10),))
    back = hours(seen, options=options)[1][0]
    assert back.kind == "roll_back"
    levels = back.findings[0].levels
    assert levels is not None
    assert levels[0] == pytest.approx(2.0, abs=0.2)
    assert levels[1] == pytest.approx(4.0, abs=0.2)
    assert "0.5 allowed" in back.said


def test_an_interval_may_count_as_one_row() -> None:
    options = Guarding(checks=(Check(of="errors", unit="interval"),))
    state, verdicts = hours(BAD, BAD, options=options)
    assert state.weighed["errors"].rows == (2.0, 2.0)
    assert verdicts[0].kind == "hold"
    pairs = Seen((50, 50), (Compared("errors", np.zeros(50), np.ones(50), paired=True),))
    assert hours(pairs, options=options)[0].weighed["errors on the same rows"].rows == (1.0, 1.0)


def test_the_same_interval_is_not_weighed_twice() -> None:
    state, _ = hours(GOOD)
    with pytest.raises(UsageError, match="already looked"):
        look(state, GOOD, ERRORS, NOON + HOUR)


@pytest.mark.parametrize(
    ("compared", "error", "said"),
    [
        (Compared("los", np.ones(1), np.ones(1)), UsageError, "the guard compares errors, latency, loss"),
        (Compared("loss", np.array([np.nan]), np.ones(1)), Refused, "missing or negative"),
        (Compared("loss", rate_of(1, 2), np.ones(1), paired=True), UsageError, "cannot be paired"),
        (Compared("latency", np.ones(5), np.ones(5), paired=True), UsageError, "not compared on same rows"),
    ],
)
def test_wrong_evidence_is_refused(compared: Compared, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        look(begin(NOON), Seen((1, 1), (compared,)), Guarding(), NOON + HOUR)


def test_evidence_that_owns_no_part_of_the_promise_is_refused() -> None:
    options = Guarding(checks=(Check(of="loss", on="same"),))
    with pytest.raises(UsageError, match="loss is not compared on different rows"):
        look(begin(NOON), Seen((1, 1), (Compared("loss", np.ones(1), np.ones(1)),)), options, NOON + HOUR)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"checks": []}, "a guard without checks sees nothing"),
        ({"checks": [{"of": "errors"}, {"of": "errors"}]}, "checked once"),
        ({"checks": [{"of": "latency", "worse_by_at_most": 5}]}, "write for instance 10%"),
        ({"checks": [{"of": "latency", "on": "same"}]}, "different rows"),
        ({"checks": [{"of": "errors", "largest": 2}]}, "0 or 1"),
        ({"checks": [{"of": "errors", "worse_by_at_most": -0.1}]}, "cannot be negative"),
        ({"false_rollbacks": 0}, "greater than 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Guarding.model_validate(given)


def test_options_are_read_as_they_are_written() -> None:
    options = Guarding.model_validate({"checks": [{"of": "loss", "worse_by_at_most": "2%"}, {"of": "errors"}]})
    assert Guarding.model_validate_json(options.model_dump_json()) == options
    assert json.loads(options.model_dump_json())["checks"][0]["worse_by_at_most"] == "2%"


# ---- power -----------------------------------------------------------------------------------------------------------


def test_power_grows_with_harm_and_shrinks_with_promises() -> None:
    options = Guarding(checks=(Check(of="errors"),))
    small, large = (power_of(options, Traffic("errors", 0.1), worse) for worse in (0.02, 0.1))
    assert small is not None
    assert large is not None
    assert small.half > 5 * large.half
    strict = power_of(options.model_copy(update={"false_rollbacks": 0.0001}), Traffic("errors", 0.1), 0.1)
    assert strict is not None
    assert strict.half > large.half
    assert large.said.startswith("errors worse by 10 points: caught within ")


def test_what_is_tolerated_has_no_power() -> None:
    assert power_of(Guarding(), Traffic("errors", 0.1), 0.004) is None


@pytest.mark.parametrize(
    "traffic", [Traffic("latency", 20.0), Traffic("loss", 0.2)], ids=["latency", "a loss without its spread"]
)
def test_power_is_not_guessed(traffic: Traffic) -> None:
    with pytest.raises(UsageError):
        power_of(Guarding(), traffic, 5.0)


def test_a_level_known_from_before_finds_harm_sooner() -> None:
    known, _ = look(begin(NOON, HOUR, {"errors": 0.1}), BAD, ERRORS, NOON + HOUR)
    unknown, _ = look(begin(NOON, HOUR), BAD, ERRORS, NOON + HOUR)
    assert total_evidence(known, ERRORS) > 1 + total_evidence(unknown, ERRORS)


def test_one_slice_of_many_that_leans_holds_nothing() -> None:
    options = Guarding(checks=(Check(of="errors", slices=True, on="different"),))
    slices = (Compared("errors", rate_of(40, 400), rate_of(24, 100), slice="s=1"),)
    seen = Seen((3600, 400), (Compared("errors", rate_of(360, 3600), rate_of(40, 400)), *slices))
    verdict = hours(seen, options=options)[1][0]
    assert max(f.log_evidence for f in verdict.findings if f.slice == "s=1") > np.log(10)
    assert verdict.kind == "proceed"


def test_rows_of_a_step_before_are_evidence_and_no_rows_of_this_one() -> None:
    late = Seen((1900, 100), (Compared("errors", rate_of(190, 1900), rate_of(40, 100), earlier=True),))
    state, verdict = look(begin(NOON, HOUR), late, ERRORS, NOON + HOUR)
    assert (verdict.kind, state.rows) == ("roll_back", {})
    fine = Seen((1900, 300), (Compared("errors", rate_of(190, 1900), rate_of(30, 300), earlier=True),))
    _, verdict = look(begin(NOON, HOUR), fine, ERRORS, NOON + HOUR)
    assert "errors has 0 of 200 rows" in verdict.said


def test_a_roll_back_names_the_slice_that_it_comes_from() -> None:
    options = Guarding(checks=(Check(of="errors", slices=True),))
    compared = [Compared("errors", rate_of(0, 900), rate_of(30, 300))]
    for name, failed in (("north", 0), ("south", 30)):
        compared.append(Compared("errors", rate_of(0, 450), rate_of(failed, 150), slice=f"region={name}"))
    said = look(begin(NOON, HOUR), Seen((900, 300), tuple(compared)), options, NOON + HOUR)[1].said
    assert said.startswith("rolled back: errors 10.0% against 0.0% on 300 rows")
    assert "; most of it where region=south 20.0% against 0.0% on 150 rows (20.0 points more" in said
    even = [replace(each, challenger=rate_of(30, 300)) if each.slice != "*" else each for each in compared]
    said = look(begin(NOON, HOUR), Seen((900, 300), tuple(even)), options, NOON + HOUR)[1].said
    assert "most of it" not in said


def test_latencies_are_compared_once_the_champion_has_shown_its_own_however_few_come_at_a_time() -> None:
    options, usual = Guarding(checks=(Check(of="latency", at_least=50),)), np.full(30, 10.0)
    same, slow = (Seen((30, 10), (Compared("latency", usual, np.full(10, took)),)) for took in (10.0, 30.0))
    state, verdicts = hours(*[same] * 5, slow, options=options, planned=20 * HOUR)
    assert "latency has 0 of 50 rows" in verdicts[3].said  # only now have 120 of the champion fixed what is usual
    assert "latency has 10 of 50 rows" in verdicts[4].said
    assert verdicts[5].kind == "roll_back"
    assert from_facts(json.loads(json.dumps(as_facts(state)))) == state


def test_less_than_the_slack_is_no_slowness_and_more_is() -> None:
    usual = Check(of="latency", at_least=50)
    for check, took, kind in (
        (usual, 9.0, "hold"),  # from 5 ms to 9: less than 5 ms slower, whatever share that is
        (usual, 11.0, "roll_back"),
        (usual.model_copy(update={"slack": timedelta(0)}), 9.0, "roll_back"),
    ):
        many = Seen((200, 50), (Compared("latency", np.full(200, 5.0), np.full(50, took)),))
        verdicts = hours(*[many] * 4, options=Guarding(checks=(check,)), planned=20 * HOUR)[1]
        assert verdicts[-1].kind == kind, (check, took)


def test_slack_is_of_latency_alone() -> None:
    with pytest.raises(ValidationError, match="`slack` is of latency; for loss write `worse_by_at_most`"):
        Check(of="loss", slack="1ms")
