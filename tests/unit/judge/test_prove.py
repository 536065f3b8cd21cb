"""Verdicts, with every gate."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from everfit.detect.performance import Outcomes
from everfit.judge.evidence import BASELINE, Case, Measured, trivial_baseline
from everfit.judge.gates import BenchWord
from everfit.judge.options import Judging
from everfit.judge.prove import judge_candidate
from everfit.judge.verdict import Better, Gate, NotBetter, Unproven, Verdict

CASE = Case("3f2a9911", "77aa0011", "roc_auc", also=("log_loss",))
ROWS = 4000


def outcomes(noise: float, seed: int = 0, rows: int = ROWS) -> Outcomes:
    """Scores of a model that sees the truth through so much noise; the truth is always the same."""
    truth = np.random.default_rng(99).integers(0, 2, rows)
    logit = truth - 0.5 + noise * np.random.default_rng(seed).normal(size=rows)
    chance = 1 / (1 + np.exp(-logit))
    return Outcomes(truth, np.stack([1 - chance, chance], axis=1), ("0", "1"), "1", "binary", np.arange(rows) // 40)


GOOD, SAME, BAD = outcomes(0.6, 1), outcomes(1.0, 2), outcomes(1.0, 3)
ORIGINS = np.where(np.arange(ROWS) % 2 == 0, "JFK", "EWR")


def spoilt_at(origin: str) -> Outcomes:
    """The good model, guessing at one origin."""
    scores = np.where(
        np.isin(ORIGINS, [origin])[:, None], 0.5 + 0.01 * np.sin(np.arange(ROWS))[:, None] * [1, -1], GOOD.scores
    )
    return replace(GOOD, scores=scores)


def judging(**changes: Any) -> Judging:
    return Judging.model_validate(changes)


def gate(verdict: Verdict, name: str) -> Gate:
    return next(each for each in verdict.gates if each.name == name)


@pytest.mark.parametrize(
    ("candidate", "against", "options", "expected"),
    [
        pytest.param(GOOD, BAD, judging(), Better, id="a clear gain is better"),
        pytest.param(BAD, GOOD, judging(), NotBetter, id="a clear loss is not better"),
        pytest.param(SAME, BAD, judging(), Unproven, id="a difference within chance is unproven"),
        pytest.param(BAD, BAD, judging(), NotBetter, id="identical scores are not better"),
        pytest.param(GOOD, BAD, judging(better_by=0.3), NotBetter, id="a gain below the margin is not better"),
        pytest.param(GOOD, BAD, judging(better_by=0.13), Unproven, id="a gain around the margin is unproven"),
        pytest.param(GOOD, BAD, judging(at_least=5000), Unproven, id="too few rows are unproven"),
        pytest.param(outcomes(0.6, 1, 300), BAD, judging(), Unproven, id="other rows are unproven"),
        pytest.param(
            replace(GOOD, truth=GOOD.truth * 0), replace(BAD, truth=BAD.truth * 0), judging(), Unproven,
            id="a metric that the rows do not define is unproven",
        ),
    ],
)  # fmt: skip
def test_the_paired_interval_decides(
    candidate: Outcomes, against: Outcomes, options: Judging, expected: type[Verdict]
) -> None:
    verdict = judge_candidate(CASE, candidate, against, options)
    assert isinstance(verdict, expected), verdict.said
    assert gate(verdict, "primary").passed == (expected is Better)


def test_the_sentence_says_who_by_how_much_and_on_what() -> None:
    verdict = judge_candidate(CASE, GOOD, BAD, judging())
    assert verdict.evidence.gain is not None
    gain = verdict.evidence.gain
    assert verdict.said == (
        f"candidate 3f2a9911 beats the champion by {gain.value:.3f} roc_auc ({gain.low:.3f} to {gain.high:.3f}) "
        "on 4,000 rows that neither trained on"
    )
    assert set(verdict.evidence.candidate_levels) == {"roc_auc", "log_loss"}
    levels = verdict.evidence.candidate_levels["roc_auc"] - verdict.evidence.against_levels["roc_auc"]
    assert gain.value == pytest.approx(levels)


def test_a_metric_that_is_better_when_smaller_is_turned_round() -> None:
    verdict = judge_candidate(replace(CASE, metric="log_loss"), GOOD, BAD, judging())
    assert isinstance(verdict, Better)
    assert verdict.evidence.gain is not None
    assert verdict.evidence.gain.value > 0


def test_no_group_of_rows_pays_for_the_gain_of_the_others() -> None:
    options = judging(slices={"by": ["origin"]})
    verdict = judge_candidate(CASE, spoilt_at("JFK"), SAME, options, Measured({"origin": ORIGINS}))
    assert isinstance(verdict, NotBetter)
    assert not gate(verdict, "slice origin=JFK").passed
    assert gate(verdict, "slice origin=EWR").passed
    assert "origin=JFK: gain -0." in verdict.said


@pytest.mark.parametrize(
    ("options", "measured", "passed", "said"),
    [
        pytest.param(
            {"by": ["origin"], "at_least": 3000}, {"origin": ORIGINS}, True, "shown, not judged", id="a small slice",
        ),
        pytest.param(
            {"by": ["origin"], "worse_by_at_most": 0.9}, {"origin": ORIGINS}, True, "no worse than", id="a wide margin",
        ),
        pytest.param({"by": ["origin"]}, {}, False, "its values were not given", id="a column that is not there"),
    ],
)  # fmt: skip
def test_slices_that_are_not_proven_worse(
    options: dict[str, object], measured: dict[str, Any], passed: bool, said: str
) -> None:
    verdict = judge_candidate(CASE, GOOD, BAD, judging(slices=options), Measured(measured))
    found = [each for each in verdict.gates if each.name.startswith("slice")]
    assert [each.passed for each in found] == [passed] * len(found)
    assert all(said in each.said for each in found)
    assert isinstance(verdict, Better if passed else Unproven)


@pytest.mark.parametrize(
    ("limits", "measured", "expected", "said"),
    [
        pytest.param({"flips": "90%"}, Measured(), Better, "of the predicted classes change", id="few flips pass"),
        pytest.param({"flips": "1%"}, Measured(), NotBetter, "1.0% allowed", id="many flips do not"),
        pytest.param({"size": "5MB"}, Measured(size=10**6), Better, "1.0 MB on disk", id="a small model passes"),
        pytest.param({"size": "5MB"}, Measured(size=10**7), NotBetter, "10.0 MB on disk", id="a large one does not"),
        pytest.param({"size": "5MB"}, Measured(), Unproven, "was not measured", id="an unknown size is unproven"),
        pytest.param(
            {"latency_p99": timedelta(milliseconds=50)},
            Measured(latency_p99=timedelta(milliseconds=80)), NotBetter, "80.0 ms for a row",
            id="a slow model does not",
        ),
        pytest.param(
            {"latency_p99": timedelta(milliseconds=50)}, Measured(), Unproven, "was not measured",
            id="an unknown latency is unproven",
        ),
    ],
)  # fmt: skip
def test_limits_are_gates(limits: dict[str, object], measured: Measured, expected: type[Verdict], said: str) -> None:
    verdict = judge_candidate(CASE, GOOD, BAD, judging(limits=limits), measured)
    assert isinstance(verdict, expected), verdict.said
    assert said in verdict.gates[-1].said


def test_the_first_champion_is_held_against_what_the_labels_alone_say() -> None:
    shares = trivial_baseline(["0"] * 30 + ["1"] * 10, ROWS, task="binary", classes=("0", "1"))
    trivial = replace(GOOD, scores=shares)
    options = judging(limits={"flips": "0%"})
    verdict = judge_candidate(replace(CASE, against=BASELINE), GOOD, trivial, options)
    assert isinstance(verdict, Better)
    assert "beats the trivial baseline by" in verdict.said
    assert gate(verdict, "flips").said == "there is no champion whose answers could change"
    assert isinstance(judge_candidate(replace(CASE, against=BASELINE), trivial, trivial, options), NotBetter)


def test_a_regression_is_judged_too() -> None:
    truth = np.random.default_rng(0).normal(size=1000)
    near = Outcomes(truth, truth[:, None] + 0.1, (), None, "regression", np.arange(1000) // 20)
    median = replace(near, scores=trivial_baseline(truth.tolist(), 1000, task="regression"))
    verdict = judge_candidate(Case("c2", BASELINE, "mae"), near, median, judging(limits={"flips": "1%"}))
    assert isinstance(verdict, Better)
    assert [each.name for each in verdict.gates] == ["primary"]


# ---- the bench's word ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "changes", "expected"),
    [
        pytest.param(BenchWord(0.021, 0.003, 6), {}, Better, id="above the margin it is better"),
        pytest.param(BenchWord(0.002, 0.003, 6), {}, NotBetter, id="within the margin it is not"),
        pytest.param(BenchWord(0.021, 0.003, 0), {}, NotBetter, id="without a window it is not"),
        pytest.param(BenchWord(0.021, 0.003, 6), {"limits": {"flips": 0.001}}, NotBetter, id="a gate that fails"),
        pytest.param(BenchWord(0.021, 0.003, 6), {"limits": {"latency_p99": "1ms"}}, Unproven, id="one not asked"),
    ],
)
def test_the_word_of_the_bench_stands_for_the_paired_interval_and_for_nothing_else(
    word: BenchWord, changes: dict[str, Any], expected: type[Verdict]
) -> None:
    verdict = judge_candidate(CASE, SAME, BAD, judging(**changes), word=word)
    assert isinstance(verdict, expected)
    assert gate(verdict, "primary").limit == 0.003
    assert verdict.evidence.gain is not None  # it is shown
