"""Bodies of both protocols, good and bad: as frames and as plain values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from everfit.errors import Refused
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.serve.model import Signature
from everfit.serve.protocol import Answered, MlflowAsk, face_of, natural_classes, positive_of
from everfit.serve.v2 import V2Ask, metadata_v2

FEATURES = Schema((Column("a", Kind.NUMBER), Column("b", Kind.CATEGORY)), ("0", "1"))
BINARY = Signature("binary", FEATURES, ("0", "1"), "1", {})
MANY = Signature("multiclass", FEATURES, ("x", "y", "z"), None, {})
REGRESSION = Signature("regression", FEATURES, (), None, {})
A = [{"a": 1, "b": "u"}, {"a": 2, "b": "v"}]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"dataframe_split": {"columns": ["a", "b"], "data": [[1, "u"], [2, "v"]]}}, id="dataframe_split"),
        pytest.param({"dataframe_records": A}, id="dataframe_records"),
        pytest.param({"instances": A}, id="instances with names"),
        pytest.param({"instances": [[1, "u"], [2, "v"]]}, id="instances in the features' order"),
        pytest.param({"inputs": {"a": [1, 2], "b": ["u", "v"]}}, id="inputs by column"),
        pytest.param({"inputs": {"a": [[1], [2]], "b": [["u"], ["v"]]}}, id="inputs by column of shape n by 1"),
        pytest.param({"inputs": A, "params": {"ignored": 1}}, id="inputs as records, with parameters"),
    ],
)
def test_every_form_of_mlflow_gives_the_same_rows(body: dict[str, Any]) -> None:
    assert MlflowAsk(json.dumps(body).encode(), "application/json").asked(["a", "b"]).rows.to_dicts() == A


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param([1], "exactly one of", id="a list is no body"),
        pytest.param({}, "exactly one of", id="nothing in it"),
        pytest.param({"inputs": [], "instances": []}, "exactly one of", id="two forms at once"),
        pytest.param({"dataframe_split": {"columns": [1], "data": [[1]]}}, "must be names", id="numbers as names"),
        pytest.param({"dataframe_split": {"data": [[1]]}}, "columns and data", id="no columns"),
        pytest.param({"dataframe_split": {"columns": ["a"], "data": 3}}, "list of lists", id="no rows"),
        pytest.param({"inputs": {"a": [1, 2], "b": ["u"]}}, "'a' has 2, 'b' has 1", id="columns of other lengths"),
        pytest.param({"instances": [[1]]}, "row 0 has 1 values for 2", id="too few values"),
        pytest.param({"instances": [1, 2]}, "list of objects", id="plain values"),
        pytest.param({"inputs": [[1, 2]], "params": 3}, "params must be", id="parameters that are none"),
    ],
)
def test_bodies_of_mlflow_that_are_refused(body: object, said: str) -> None:
    with pytest.raises(Refused, match=said):
        MlflowAsk(json.dumps(body).encode(), "application/json").asked(["a", "b"])


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]} | changes


def v2(body: object) -> V2Ask:
    return V2Ask(json.dumps(body).encode(), None, "flights")


def test_a_request_of_v2_is_read_with_all_that_it_brings() -> None:
    names = {"name": "b", "shape": [2, 1], "datatype": "BYTES", "data": [["u"], ["v"]]}
    body = {
        "id": "r7",
        "parameters": {"ids": ["i", "j"], "times": ["2013-01-01", "2013-01-02"]},
        "inputs": [tensor(), names],
        "outputs": [{"name": "score"}],
    }
    asked = (ask := v2(body)).asked(["a", "b"])
    assert asked.rows.to_dicts() == [{"a": 1.0, "b": "u"}, {"a": 2.0, "b": "v"}]
    assert (ask.request, asked.ids, [each.name for each in ask.wanted]) == ("r7", ["i", "j"], ["score"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param({}, "inputs must be", id="no inputs"),
        pytest.param({"inputs": [3]}, r"inputs\[0\]", id="a tensor that is none"),
        pytest.param({"inputs": [tensor(shape=[1, 2, 1])]}, "'a': shape", id="a cube"),
        pytest.param({"inputs": [tensor(shape=[1, 3], data=[1, 2, 3])]}, "has 2 features: a, b", id="a wide matrix"),
        pytest.param(
            {"inputs": [tensor(shape=[2, 2], data=[1] * 4), tensor(name="b")]},
            "'a': shape",
            id="a matrix beside others",
        ),
        pytest.param({"inputs": [tensor(), tensor(name="b", shape=[1], data=[1])]}, "differ in length", id="lengths"),
        pytest.param({"inputs": [tensor(data=[[1], 2])]}, "all lists or no lists", id="half lists"),
        pytest.param({"inputs": [tensor(parameters={"binary_data_size": 4})]}, "0 bytes are left", id="no bytes came"),
        pytest.param({"inputs": [tensor(parameters=[1])]}, "'a': parameters must be", id="parameters that are none"),
        pytest.param({"inputs": [tensor(shape=[True])]}, "'a': shape", id="a shape that is no number"),
        pytest.param({"inputs": [tensor(shape=[3])]}, "2 values and its shape says 3", id="too few values"),
        pytest.param({"inputs": [tensor(data="AAAA")]}, "'a': data must be a list", id="no list"),
        pytest.param({"inputs": [tensor(datatype="FP8")]}, "'a': datatype", id="an unknown datatype"),
        pytest.param({"inputs": [tensor(data=["secret", 1])]}, "'a': a value does not fit", id="another type"),
        pytest.param({"inputs": [tensor(datatype="INT64", data=[1, True])]}, "does not fit", id="a flag is no number"),
        pytest.param({"inputs": [tensor(), tensor()]}, "'a' comes twice", id="a tensor twice"),
        pytest.param({"inputs": [tensor()], "parameters": {"ids": ["x"]}}, "parameters.ids", id="too few ids"),
        pytest.param(
            {"inputs": [tensor()], "outputs": [{"name": "logits"}]}, "outputs must be", id="an unknown output"
        ),
        pytest.param({"inputs": [tensor()], "id": 7}, "id must be text", id="a number as the request's id"),
    ],
)
def test_bodies_of_v2_that_are_refused(body: object, said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        v2(body).asked(["a", "b"])
    assert "secret" not in str(caught.value)


def answered(signature: Signature, scores: list[list[float]]) -> Answered:
    face, given = face_of(signature, 3, "c1"), np.array(scores)
    return Answered(face, [f"i{n}" for n in range(len(given))], face.predictions(given), face.scores(given))


def mlflow(signature: Signature, scores: list[list[float]]) -> dict[str, Any]:
    return MlflowAsk(b"", "application/json").answer(answered(signature, scores))


def test_a_binary_answer_shows_the_positive_class() -> None:
    body = mlflow(BINARY, [[0.9, 0.1], [0.25, 0.75]])
    assert body["predictions"] == [0, 1]
    assert body["scores"] == [0.1, 0.75]
    assert body["ids"] == ["i0", "i1"]
    assert body["model"] == {"version": 3, "candidate": "c1", "classes": ["0", "1"], "positive": "1"}
    assert "number" not in body


def test_a_multiclass_answer_shows_every_class() -> None:
    body = mlflow(MANY, [[0.2, 0.3, 0.5]])
    assert (body["predictions"], body["scores"]) == (["z"], [[0.2, 0.3, 0.5]])


def test_a_regression_answer_is_its_values() -> None:
    body = mlflow(REGRESSION, [[2.5]])
    assert body["predictions"] == [2.5]
    assert "scores" not in body


def test_an_answer_of_v2_echoes_and_types_its_outputs() -> None:
    ask = v2({"inputs": [tensor()], "id": "r7"})
    ask.asked(["a"])
    body = json.loads(ask.answer(answered(MANY, [[0.2, 0.3, 0.5]]))[0])
    assert (body["id"], body["model_name"], body["model_version"]) == ("r7", "flights", "3")
    assert body["outputs"] == [
        {"name": "predict", "datatype": "BYTES", "shape": [1], "data": ["z"]},
        {"name": "score", "datatype": "FP64", "shape": [1, 3], "data": [0.2, 0.3, 0.5]},
    ]


def test_metadata_of_v2_names_each_feature() -> None:
    told = metadata_v2("flights", 3, BINARY)
    assert told["inputs"][1] == {"name": "b", "datatype": "BYTES", "shape": [-1]}
    assert [output["datatype"] for output in told["outputs"]] == ["INT64", "FP64"]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        pytest.param(("0", "1"), [0, 1], id="whole numbers"),
        pytest.param(("-1", "10"), [-1, 10], id="negative ones too"),
        pytest.param(("false", "true"), [False, True], id="flags"),
        pytest.param(("01", "1"), ["01", "1"], id="a leading zero is a name"),
        pytest.param(("a", "1"), ["a", "1"], id="text"),
    ],
)
def test_classes_are_answered_as_users_write_them(classes: tuple[str, ...], expected: list[object]) -> None:
    assert natural_classes(Signature("multiclass", FEATURES, classes, None, {})).tolist() == expected


def test_without_a_chosen_positive_class_it_is_the_last() -> None:
    assert positive_of(Signature("binary", FEATURES, ("b", "a"), None, {})) == "b"
