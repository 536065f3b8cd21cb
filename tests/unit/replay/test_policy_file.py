"""Policies of the user's own, from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from everfit.errors import SpecError
from everfit.replay.play import play_bench
from everfit.replay.policies import play_policy
from everfit.replay.policy_file import NAMES, TriggersPolicy, parse_policy, parse_triggers, play_own, read_policy
from everfit.replay.portrait import Portrait
from tests.unit.replay.histories import ROWS, cut_of, flip_at, matrix_of, stale

PORTRAIT = Portrait(pl.DataFrame({"x": np.random.default_rng(0).normal(size=60 * ROWS)}), cut_of(60))


def test_a_schedule_and_the_bench_play_as_those_out_of_the_box() -> None:
    mine = play_own(parse_policy("{name: mine, every: 7}"), matrix_of(stale)[0], PORTRAIT)
    assert [each.window for each in mine.decisions] == [
        each.window for each in play_policy("every7", matrix_of(stale)[0], PORTRAIT).decisions
    ]
    dear = play_own(parse_policy("{name: dear, bench: {budget: 0.02}}"), matrix_of(stale, noise=0.002)[0], PORTRAIT)
    assert (dear.name, dear.runs < play_bench(matrix_of(stale, noise=0.002)[0]).runs) == ("dear", True)


def test_parameters_of_rules_are_heard() -> None:
    early, late = (
        play_own(parse_policy(f"{{name: mine, rule: drop, by: {by}}}"), matrix_of(stale)[0], PORTRAIT)
        for by in (0.02, 0.2)
    )
    assert early.runs > late.runs > 0


@pytest.mark.parametrize("rule", NAMES)
def test_every_rule_plays(rule: str) -> None:
    played = play_own(parse_policy(f"name: mine\nrule: {rule}"), matrix_of(flip_at(30), noise=0.005)[0], PORTRAIT, 1)
    assert (played.name, len(played.scores)) == ("mine", 50)


@pytest.mark.parametrize(
    "text, said",
    [
        pytest.param("name: [", "p.yaml:1: this is not YAML", id="no YAML"),
        pytest.param("7", "p.yaml:1: a policy is for instance", id="no mapping"),
        pytest.param("name: mine\nevery: 0", "p.yaml:2: every: input should be greater than 0, but it is 0", id="zero"),
        pytest.param("name: mine\nevry: 7", "did you mean 'every'", id="an unknown key alone"),
        pytest.param("name: mine\ntrigers: []", "did you mean 'triggers'", id="an unknown key, triggers"),
        pytest.param(
            "name: mine\nevery: 7\nrule: adwin", "exactly one of every, bench, rule and triggers", id="two kinds"
        ),
        pytest.param("name: mine\nevery: 7\nextra: 1", "p.yaml:3: extra: unknown key; valid here: every, name", id="x"),
        pytest.param("every: 7", "p.yaml:1: name: is required and missing", id="no name"),
        pytest.param(
            "name: mine\nrule: adwim", "p.yaml:2: rule: there is no rule 'adwim'; did you mean 'adwin'", id="r"
        ),
        pytest.param("name: mine\nrule: drop\nbuy: 1", "p.yaml:3: buy: unknown key; did you mean 'by'", id="parameter"),
        pytest.param(
            "name: mine\nbench:\n  prize: 1", "p.yaml:3: bench.prize: unknown key; did you mean 'price'", id="inside"
        ),
    ],
)
def test_errors_name_line_key_and_remedy(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_policy(text, "p.yaml")
    assert said in str(caught.value)


def test_triggers_wait_for_the_rest_of_a_spec() -> None:
    text = "name: mine\ntriggers: [{name: weekly, new_rows: 70}]\ndecide: {cool_down: 0s}"
    assert parse_triggers(text, "p.yaml") == TriggersPolicy("mine", text, "p.yaml")
    with pytest.raises(SpecError, match=r"p.yaml:3: every: unknown key; valid here: decide, name, train, triggers"):
        parse_triggers("name: mine\ntriggers: []\nevery: 7", "p.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no such file"):
        read_policy(tmp_path / "none.yaml")
    (tmp_path / "mine.yaml").write_text("{name: mine, every: 7}")
    assert read_policy(tmp_path / "mine.yaml").name == "mine"
