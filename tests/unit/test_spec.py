"""The spec file: what is read, and how errors say file, line, key and remedy."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from everfit.errors import SpecError
from everfit.spec import json_schema, parse_spec, read_spec

SMALLEST = "model: delay\ntask: binary\ntarget: late\ntime: scheduled\n"

LONGEST = """
model: flight-delay
task: binary
target: late
time: scheduled
id: flight_id
positive: "1"
features: {exclude: [tail_number], types: {gate: category}}
observe:
  window: {rows: 5000}
  labels_mature_after: 1d 12h
  late_by: 15m
  source: {kind: files, path: data/*.parquet}
train: {with: train:fit, rows: {last: 90d}, memory: 2GB, timeout: 10m, parameters: {max_iter: 50}}
watch: {false_alarms: {at_most: 1, per: 365d}, metrics: [log_loss], slices: [origin]}
triggers:
  - {name: decay, performance: {metric: accuracy, drop: 0.02, mean_of: 5}}
  - {name: harm, all: [{drift: {columns: [origin], above: 0.1}}, {performance: {drop: 0.01}}]}
  - {name: volume, new_labels: 50_000}
  - {name: weekly, schedule: "0 2 * * 0", timezone: Europe/Zurich}
  - {name: launch, event: product-launch}
decide: {cool_down: 6h, budget: {runs: 8, per: 30d}, freeze: [{from: 2026-12-20, to: 2027-01-02}], approve: [retrain]}
judge: {primary: roc_auc, holdout: 7d, slices: {by: [origin]}, limits: {latency_p99: 50ms, flips: 20%, size: 500MB}}
rollout: {approve: true, bake: 1d, keep: 3}
alerts: ["json://localhost", {url: "json://elsewhere", at_least: error}]
"""


def test_four_lines_are_enough() -> None:
    spec = parse_spec(SMALLEST)
    assert (spec.primary, spec.observe.window, spec.judge.holdout) == ("roc_auc", timedelta(days=1), 0.2)


def test_every_part_of_a_long_spec_is_read() -> None:
    spec = parse_spec(LONGEST)
    assert spec.metrics == ("roc_auc", "log_loss", "accuracy")
    assert [trigger.name for trigger in spec.triggers] == ["decay", "harm", "volume", "weekly", "launch"]
    assert spec.judge.limits.latency_p99 == timedelta(milliseconds=50)
    assert [(channel.url, channel.at_least) for channel in spec.alerts] == [
        ("json://localhost", "info"),
        ("json://elsewhere", "error"),
    ]


@pytest.mark.parametrize(
    "more, said",
    [
        pytest.param(
            "trian: {}",
            "f.yaml:5: trian: unknown key; did you mean 'train'?",
            id="a wrong key names the nearest",
        ),
        pytest.param(
            "triggers:\n- {name: a, performance: {metrc: x}}",
            "f.yaml:6: triggers[0].performance.metrc: unknown key; did you mean 'metric'?",
            id="a wrong key deep inside a union names its place",
        ),
        pytest.param(
            "observe: {window: 1x}", "f.yaml:5: observe.window: '1x' is not a duration", id="a wrong duration"
        ),
        pytest.param(
            "judge: {holdout: 120%}",
            "f.yaml:5: judge.holdout: input should be less than",
            id="a share above one",
        ),
        pytest.param("train: {memory: much}", "f.yaml:5: train.memory: 'much' is not a size", id="a wrong size"),
        pytest.param(
            "judge: {primary: roc}", "judge.primary: 'roc' is not a metric for binary", id="an unknown metric"
        ),
        pytest.param(
            "watch: {metrics: [mae]}",
            "watch.metrics: 'mae' is not a metric for binary",
            id="another task's metric",
        ),
        pytest.param("train: {with: train.py}", "f.yaml:5: train.with:", id="a trainer that names no function"),
        pytest.param(
            "triggers:\n- {name: a}",
            "f.yaml:6: triggers[0]: a trigger has exactly one of",
            id="a trigger of no kind",
        ),
        pytest.param("triggers:\n- {new_rows: 5}", "trigger 1 has no name", id="a trigger without a name"),
        pytest.param(
            "triggers:\n- {name: a, new_rows: 5}\n- {name: a, new_rows: 6}",
            "two triggers are called 'a'",
            id="a name twice",
        ),
        pytest.param(
            'triggers:\n- {name: a, schedule: "0 2 * * 0", timezone: Mars}',
            "'Mars' is not a time zone",
            id="a wrong time zone",
        ),
        pytest.param('triggers:\n- {name: a, schedule: "61 2"}', "is not a cron line", id="a wrong cron line"),
        pytest.param("model: again", "f.yaml:5: model: this key is given twice; keep one", id="a key twice"),
        pytest.param("id: late", "target, time and id must be three different columns", id="one column for two things"),
        pytest.param("id: _row", "begins with an underscore", id="a column of ours"),
        pytest.param("a: [", "this is not YAML", id="no YAML"),
    ],
)
def test_errors_name_file_line_key_and_remedy(more: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(SMALLEST + more, "f.yaml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("f.yaml:")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(SpecError, match="time: is required and missing"):
        parse_spec("model: delay\ntask: binary\ntarget: late\n")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="everfit init"):
        read_spec(tmp_path / "everfit.yaml")


def test_the_json_schema_describes_every_key() -> None:
    schema = json_schema()
    described = [*schema["properties"].items()]
    assert {name for name, _ in described} == {
        "model", "task", "target", "time", "id", "positive", "features", "observe", "train", "watch", "triggers",
        "decide", "judge", "rollout", "alerts",
    }  # fmt: skip
    assert schema["additionalProperties"] is False
