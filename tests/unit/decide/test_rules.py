"""Every kind of trigger as a spec writes it, and what is said when it is written wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from everfit.decide.options import Rules, Trigger, functions_in, read_rules, write_rules
from everfit.decide.rules import KEYS, about_harm, kind_of
from everfit.errors import SpecError
from everfit.spec import json_schema, parse_spec
from tests.unit.builders import champion

SPEC = "model: m\ntask: binary\ntarget: late\ntime: at\n"


def test_every_kind_can_be_written_in_a_spec_and_is_kept_with_the_rules() -> None:
    spec = parse_spec(
        SPEC
        + """
triggers:
  - {name: a, performance: {metric: roc_auc, drop: 0.02}, for: {windows: 3, of: 5}}
  - {name: b, estimated: {drop: 0.02}}
  - {name: c, drift: {columns: important, above: 0.1}, for: 2}
  - {name: d, alarm: any}
  - {name: e, score: {drift: 0.4, performance: 0.6}, above: 0.7, for: 3}
  - {name: f, latency: {p99: 50ms}}
  - {name: g, errors: 1%}
  - {name: h, age: 30d}
  - {name: i, schedule: "0 2 * * 0", timezone: Europe/Zurich}
  - {name: j, new_labels: 50_000}
  - {name: k, new_rows: 5}
  - {name: l, new_data_share: 120%}
  - {name: m, event: launch}
  - {name: n, function: "train:should_retrain"}
  - {name: p, bench: true}
  - {name: o, all: [{drift: {above: 0.2}}, {any: [{function: "train:other"}, {age: 1d}]}]}
decide:
  worth: {unit_value: 2, per_hour: 1, probe: {rows: 100}}
  fleet: {runs: 10}
  freeze: [{from: 2026-12-20, to: 2027-01-02}]
"""
    )
    assert {kind_of(each) for each in spec.triggers} | {"any"} == set(KEYS)
    assert functions_in(spec.triggers) == ("train:should_retrain", "train:other")
    assert [each.name for each in spec.triggers if about_harm(each)] == ["a", "b", "d", "e"]
    rules = Rules(spec.triggers, spec.decide, "roc_auc", 700, "1 per 365d")
    assert read_rules(write_rules(rules)) == rules
    assert read_rules(write_rules(rules)).triggers[0].model_fields_set == spec.triggers[0].model_fields_set
    assert spec.triggers[11].model_dump()["new_data_share"] == pytest.approx(1.2)


@pytest.mark.parametrize(
    "line, said",
    [
        pytest.param("{name: a, age: 30d, errors: 1%}", "exactly one of", id="two kinds at once"),
        pytest.param("{name: a, latency: {}}", "give one of p50, p90 and p99", id="no percentile"),
        pytest.param("{name: a, score: {}, above: 0.5}", "at least one of drift", id="no weight"),
        pytest.param("{name: a, performance: {}, for: {windows: 5, of: 3}}", "can never hold", id="five of three"),
        pytest.param("{name: a, function: should_retrain}", "function", id="a function without its module"),
        pytest.param("{name: a, errors: 1.5}", "errors", id="more errors than requests"),
        pytest.param("{name: a, new_data_share: -1}", "new_data_share", id="less data"),
    ],
)
def test_a_wrong_trigger_is_named(line: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_spec(f"{SPEC}triggers:\n  - {line}\n")


def test_a_score_needs_its_line() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Trigger).validate_python({"name": "t", "score": {"drift": 1}})


def test_the_schema_knows_every_kind() -> None:
    text = str(json_schema())
    assert all(f"'{key}'" in text for key in KEYS)


def test_a_champion_names_its_release() -> None:
    one = champion()
    assert one.release != replace(one, live_since=one.live_since + timedelta(days=1)).release
