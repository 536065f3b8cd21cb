"""The spec file: what is read, and how errors say file, line, key and remedy."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from everfit.detect.outcomes import Outcomes
from everfit.detect.performance import level
from everfit.errors import SpecError
from everfit.spec import json_schema, metrics_of, parse_spec, read_spec

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
    assert spec.metrics == ("roc_auc", "log_loss", "accuracy", "calibration_error")
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
        pytest.param(
            "triggers:\n- {name: a, new_rows: 5, wndows: 2}",
            "f.yaml:6: triggers[0].wndows: unknown key; did you mean",
            id="a wrong key beside the one that names the kind of a trigger",
        ),
        pytest.param(
            "watch:\n  metrics:\n  - log_loss\n  - {profit: {tp: 10, fp: -1, fn: 0}}",
            "f.yaml:8: watch.metrics[1].profit.tn: is required and missing",
            id="a profit matrix that lacks a case, and nothing else is said",
        ),
        pytest.param(
            "watch:\n  metrics:\n  - {profit: {tp: 1, fp: 1, fn: 1, tn: 1}}",
            "f.yaml:7: watch.metrics[0].profit: every decision brings the same",
            id="a profit matrix that measures nothing",
        ),
        pytest.param(
            "watch:\n  metrics:\n  - {function: train.mine}",
            "f.yaml:7: watch.metrics[0].function: string should match",
            id="a function that is not written module:name",
        ),
        pytest.param(
            "watch:\n  metrics:\n  - {functon: train:mine}",
            "f.yaml:7: watch.metrics[0]: a metric is a name, such as log_loss, or has exactly one of profit, function",
            id="a metric of no kind",
        ),
        pytest.param(
            "watch:\n  metrics:\n  - {function: train:mine, greater_is_beter: false}",
            "f.yaml:7: watch.metrics[0].greater_is_beter: unknown key; did you mean 'greater_is_better'?",
            id="a wrong key of a function's",
        ),
        pytest.param(
            "watch:\n  metrics: [{function: train:roc_auc}]",
            "f.yaml:6: watch.metrics: two metrics are called 'roc_auc'; give yours another `name`",
            id="a function that is called like a metric of ours",
        ),
        pytest.param(
            "watch:\n  metrics: [{function: a:cost}, {function: b:cost}]",
            "f.yaml:6: watch.metrics: two metrics are called 'cost'",
            id="two functions of one name",
        ),
        pytest.param(
            "watch: {metrics: [roc_auc@0.9]}",
            "f.yaml:5: watch.metrics: 'roc_auc@0.9': roc_auc takes no option; write 'roc_auc'",
            id="an option that a metric does not take",
        ),
        pytest.param(
            "watch: {metrics: [pinball@0.9]}", "'pinball@0.9' is not a metric for binary", id="a loss of quantities"
        ),
        pytest.param(
            "watch:\n  metrics: [{function: train:cost, greater_is_better: false}]\njudge: {primary: cost}",
            "f.yaml:7: judge.primary: 'cost' is a loss; only a function of which greater is better",
            id="a function that is a loss as the primary metric",
        ),
        pytest.param(
            "triggers:\n- {name: a, function: due}",
            "f.yaml:6: triggers[0].function: string should match",
            id="a trigger whose function is not written module:name",
        ),
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


OWN = """
watch:
  metrics:
    - log_loss
    - {function: train:value, name: worth}
    - {profit: {tp: 10, fp: -2, fn: -5, tn: 0, threshold: 30%}}
    - {function: train:cost, greater_is_better: false}
judge: {primary: worth}
triggers:
  - {name: odd, any: [{function: train:due}, {performance: {metric: profit, drop: 1}}]}
"""


def test_metrics_of_ones_own_are_found_by_name_the_primary_one_first() -> None:
    spec = parse_spec(SMALLEST + OWN)
    assert spec.metrics == ("worth", "log_loss", "profit", "cost", "roc_auc", "calibration_error")
    assert spec.functions == ("train:value", "train:cost", "train:due")
    metrics = metrics_of(spec, {"train:value": lambda truth, said: 1.5, "train:cost": lambda truth, said: 2.5})
    assert [metric.name for metric in metrics] == list(spec.metrics)
    better = {metric.name: metric.greater_is_better for metric in metrics}
    assert (better["worth"], better["profit"], better["cost"], better["log_loss"]) == (True, True, False, False)
    profit = next(metric for metric in metrics if metric.name == "profit")
    assert (profit.low, profit.high) == (-5, 10)


def test_a_function_that_was_not_loaded_is_named() -> None:
    with pytest.raises(ValueError, match=r"'train:value' was not loaded"):
        metrics_of(parse_spec(SMALLEST + OWN))


def test_a_quantile_is_written_behind_the_name_of_its_loss() -> None:
    spec = parse_spec(SMALLEST.replace("binary", "regression") + "watch: {metrics: [pinball@0.9, pinball]}")
    assert spec.metrics == ("mae", "pinball@0.9", "pinball")
    outcomes = Outcomes(np.array([10.0]), np.array([[4.0]]), (), None, "regression", np.arange(1))
    levels = {metric.name: level(metric, outcomes) for metric in metrics_of(spec)}
    assert levels == pytest.approx({"mae": 6.0, "pinball@0.9": 5.4, "pinball": 3.0})


@pytest.mark.parametrize("option", ["90", "x", "", "0", "1"])
def test_a_quantile_lies_between_0_and_1(option: str) -> None:
    with pytest.raises(SpecError, match=r"the quantile is a number between 0 and 1, such as pinball@0\.9"):
        parse_spec(SMALLEST.replace("binary", "regression") + f'watch: {{metrics: ["pinball@{option}"]}}')


def test_a_profit_matrix_is_for_two_classes() -> None:
    more = "watch:\n  metrics: [{profit: {tp: 1, fp: 0, fn: 0, tn: 0}}]"
    with pytest.raises(SpecError, match=r"a profit matrix is for two classes, and the task is multiclass"):
        parse_spec(SMALLEST.replace("binary", "multiclass") + more)


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


@pytest.mark.parametrize(
    "rollout, said",
    [
        pytest.param(
            "{weights: [50%, 5%]}", "rollout.weights: 5% after 50%: weights must rise", id="weights that fall"
        ),
        pytest.param("{weights: [100%, 50%]}", "rollout.weights: 50% after 100%", id="a weight after all traffic"),
        pytest.param("{weights: 5%}", "rollout.weights: '5%' is not a list; write for instance [5%", id="one weight"),
        pytest.param(
            "{steps: [{weight: 5%}, {mirror: 1h}]}", "rollout.steps: step 2: mirror after a weight", id="order"
        ),
        pytest.param(
            "{steps: [{weight: 5%}, {pause: }]}", "None is neither a duration such as", id="pause without end"
        ),
        pytest.param("{steps: [{weight: 5%, share: 1%}]}", "[0].share: does not go with the keys", id="another's word"),
        pytest.param("{key: late}", "rollout.key: 'late' is the target", id="the target as key"),
        pytest.param(
            "{guard: {checks: [{of: loss, slices: true}]}}", "name them in judge.slices.by", id="slices of nothing"
        ),
        pytest.param("{guard: {checks: [{of: latency, unit: interval}]}}", "leave out `unit`", id="means of latency"),
        pytest.param(
            "{guard: {checks: [{of: loss, worse_by_at_most: 5ms}]}}", "'5ms' is neither a share", id="no tolerance"
        ),
        pytest.param(
            "{guard: {checks: [{of: latency, on: same}]}}", "compared on different rows", id="copies' latency"
        ),
        pytest.param("{steps: [{weight: 5%}], bake: 1h}", "they say it all: leave out bake", id="both forms"),
        pytest.param("{steps: [{wieght: 5%}]}", "rollout.steps[0]: a step is exactly one of mirror, weight", id="word"),
        pytest.param("{guard: {checks: []}}", "rollout.guard: a guard without checks sees nothing", id="no check"),
        pytest.param("{guard: {inconclusive: maybe}}", "rollout.guard.inconclusive: input should be", id="maybe"),
        pytest.param("{key: _id}", "rollout.key: '_id' is no column of a request", id="a column of ours"),
    ],
)
def test_a_roll_out_that_makes_no_sense_names_its_step(rollout: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(f"{SMALLEST}\nrollout: {rollout}\n")
    assert said in str(caught.value)


def test_words_that_are_no_truth_are_text() -> None:
    """YAML 1.1 takes `on` for true; then the option of that name could not be written."""
    spec = parse_spec(f"{SMALLEST}\nrollout: {{approve: yes, guard: {{checks: [{{of: errors, on: different}}]}}}}\n")
    assert (spec.rollout.guard.checks[0].on, spec.rollout.approve) == ("different", True)


def test_a_key_that_is_no_text_is_refused_with_its_line() -> None:
    with pytest.raises(SpecError, match=r"everfit\.yaml:\d+"):
        parse_spec(f"{SMALLEST}\nrollout: {{guard: {{checks: [{{of: loss, 010: 2}}]}}}}\n")
