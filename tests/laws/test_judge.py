"""Laws of the judge: what no verdict may ever say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from everfit.detect.performance import METRICS, Outcomes
from everfit.judge.evidence import Case, Measured
from everfit.judge.options import Judging, Slices
from everfit.judge.prove import judge_candidate
from everfit.judge.verdict import Better, NotBetter
from tests.examples import examples

FIXED = examples(80)


@st.composite
def contests(draw: st.DrawFn) -> tuple[str, Outcomes, Outcomes]:
    """A metric and two models of any quality on the same rows."""
    task = draw(st.sampled_from(["binary", "multiclass", "regression"]))
    metric = draw(st.sampled_from([name for name, each in METRICS.items() if task in each.tasks]))
    rows, seed = draw(st.integers(1, 600)), draw(st.integers(0, 2**32 - 1))
    chance = np.random.default_rng(seed)
    blocks = np.sort(chance.integers(0, draw(st.integers(1, 40)), rows))
    classes = {"binary": ("0", "1"), "multiclass": ("0", "1", "2"), "regression": ()}[task]
    truth = chance.normal(size=rows) if task == "regression" else chance.integers(0, len(classes), rows)

    def model(noise: float) -> Outcomes:
        if task == "regression":
            return Outcomes(truth, truth[:, None] + noise * chance.normal(size=(rows, 1)), (), None, task, blocks)
        raw = np.exp(np.eye(len(classes))[truth] + noise * chance.normal(size=(rows, len(classes))))
        return Outcomes(truth, raw / raw.sum(axis=1, keepdims=True), classes, classes[-1], task, blocks)

    return metric, model(draw(st.floats(0.1, 3))), model(draw(st.floats(0.1, 3)))


@FIXED
@given(contests(), st.floats(0, 0.5), st.integers(1, 400))
def test_better_means_that_the_interval_lies_above_the_margin_and_every_gate_is_passed(
    contest: tuple[str, Outcomes, Outcomes], better_by: float, at_least: int
) -> None:
    metric, candidate, against = contest
    options = Judging(better_by=better_by, at_least=at_least, slices=Slices(by=("part",), at_least=50))
    parts = Measured({"part": np.arange(candidate.rows) % 3})
    verdict = judge_candidate(Case("c2", "c1", metric), candidate, against, options, parts)
    gain = verdict.evidence.gain
    proven = gain is not None and gain.low > better_by and candidate.rows >= at_least
    assert isinstance(verdict, Better) == (proven and all(gate.passed for gate in verdict.gates))
    assert all(gate.said for gate in verdict.gates)
    assert verdict.gates[0].name == "primary"


@FIXED
@given(contests())
def test_swapping_candidate_and_champion_turns_the_gain_round(contest: tuple[str, Outcomes, Outcomes]) -> None:
    metric, a, b = contest
    forth = judge_candidate(Case("a", "b", metric), a, b, Judging(at_least=1))
    back = judge_candidate(Case("b", "a", metric), b, a, Judging(at_least=1))
    assert not (isinstance(forth, Better) and isinstance(back, Better))
    if forth.evidence.gain is None or back.evidence.gain is None:
        assert forth.evidence.gain is back.evidence.gain
        return
    assert np.isclose(forth.evidence.gain.value, -back.evidence.gain.value)
    assert np.isclose(forth.evidence.gain.low, -back.evidence.gain.high)
    if isinstance(forth, Better):
        assert isinstance(back, NotBetter)


@FIXED
@given(contests(), st.floats(0, 0.5))
def test_identical_scores_are_never_better(contest: tuple[str, Outcomes, Outcomes], better_by: float) -> None:
    metric, model, _ = contest
    options = Judging(better_by=better_by, at_least=1)
    verdict = judge_candidate(Case("c2", "c1", metric), model, replace(model), options)
    assert not isinstance(verdict, Better)
