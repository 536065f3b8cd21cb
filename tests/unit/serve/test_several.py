"""Several models in one server: each answers, logs and counts for itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from everfit.adapters.gateway import FolderGateway
from everfit.errors import UsageError
from everfit.observe.intake import Rules
from everfit.ports import Route, Table
from everfit.serve.app import build_app
from tests.unit.serve.fakes import MODEL, ROW, ListJournal, candidate, release, serving, until, write_folder

OTHER = "trains"
BODY = {"dataframe_records": [{**ROW, "flight": "f1"}]}


class Two:
    """A server of two models whose spec names ids in different ways."""

    def __init__(self, root: Path) -> None:
        self.root, self.journals = root, (ListJournal(), ListJournal())
        release(root, 7)
        first = serving(root, self.journals[0])
        rules = Rules("binary", target="late", time="scheduled", id="train")
        self.servings = (
            first,
            dataclasses.replace(
                serving(root, self.journals[1], rules=rules), model=OTHER, clock_file=root / "other.json"
            ),
        )

    def release_other(self) -> None:
        gateway, made = FolderGateway(self.root / "serving"), candidate("slow")
        gateway.publish(made, 3, write_folder(self.root / "shelf" / "slow", 9.0))
        gateway.point(OTHER, Route(made.id, 3, "cause-3"))


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path)


@pytest.fixture
def client(two: Two) -> Iterator[TestClient]:
    with TestClient(build_app(*two.servings), raise_server_exceptions=False) as made:
        until(lambda: made.get(f"/v2/models/{MODEL}/ready").status_code == 200)
        yield made


def ready(client: TestClient) -> bool:
    return bool(client.get("/v2/health/ready").status_code == 200)


def test_each_model_answers_by_its_name_with_its_own_version(client: TestClient, two: Two) -> None:
    two.release_other()
    until(lambda: ready(client))
    said = {name: client.post(f"/endpoints/{name}/invocations", json=BODY).json() for name in (MODEL, OTHER)}
    assert [said[MODEL]["predictions"], said[MODEL]["model"]["version"]] == [[True], 7]
    assert [said[OTHER]["predictions"], said[OTHER]["model"]["version"]] == [[False], 3]
    assert said[MODEL]["ids"] == ["f1"], "its spec names the flight"
    assert said[OTHER]["ids"] != ["f1"], "the other's spec names the train"
    for journal in two.journals:
        until(lambda journal=journal: journal.rows(Table.PREDICTIONS).height == 1)  # type: ignore[misc]  # a default
    tensors = [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]
    assert client.post(f"/v2/models/{OTHER}/versions/7/infer", json={"inputs": tensors}).status_code == 404
    assert client.get(f"/v2/models/{OTHER}").json()["versions"] == ["3"]
    assert client.get("/v2/models").json() == {"models": [MODEL, OTHER]}
    states = client.post("/v2/repository/index").json()
    assert [(each["name"], each["version"], each["state"]) for each in states] == [
        (MODEL, "7", "READY"),
        (OTHER, "3", "READY"),
    ]


@pytest.mark.parametrize(
    ("verb", "path"),
    [("POST", "/invocations"), ("POST", "/v1/labels"), ("POST", "/v1/predictions"), ("GET", "/v1/clock")],
)
def test_without_a_name_the_choice_is_named(client: TestClient, verb: str, path: str) -> None:
    answer = client.request(verb, path, json=BODY if verb == "POST" else None)
    assert answer.status_code == 400
    assert "'flights', 'trains'" in answer.json()["error"]


def test_labels_and_the_clock_belong_to_a_model(client: TestClient, two: Two) -> None:
    rows: list[dict[str, Any]] = [{"train": "t1", "late": True}]
    assert client.post(f"/v1/models/{OTHER}/labels", json=rows).json()["acknowledged"] == 1
    assert [journal.rows(Table.LABELS).height for journal in two.journals] == [0, 1]
    (two.root / "other.json").write_text('{"now": null, "settled": 5}')
    assert client.get(f"/v1/models/{OTHER}/clock").json()["settled"] == 5
    assert client.get(f"/v1/models/{MODEL}/clock").json()["settled"] == 0
    assert client.get("/v1/models/nothing/clock").status_code == 404


def test_one_that_is_not_live_yet_holds_up_only_itself(client: TestClient) -> None:
    assert not ready(client)
    assert OTHER in client.get("/v2/health/ready").json()["error"]
    assert client.get("/ping").status_code == 503
    assert client.post(f"/endpoints/{OTHER}/invocations", json=BODY).status_code == 503
    assert client.post(f"/endpoints/{MODEL}/invocations", json=BODY).status_code == 200


def test_each_is_counted_under_its_name(client: TestClient) -> None:
    client.post(f"/endpoints/{MODEL}/invocations", json=BODY)
    client.post(f"/endpoints/{OTHER}/invocations", json=BODY)
    client.post("/invocations", json=BODY)
    told = client.get("/metrics").text
    route = 'route="/endpoints/{name}/invocations"'
    assert f'everfit_requests_total{{model="{MODEL}",{route},status="200"}} 1.0' in told
    assert f'everfit_requests_total{{model="{OTHER}",{route},status="503"}} 1.0' in told
    assert 'everfit_requests_total{model="",route="/invocations",status="400"} 1.0' in told


def test_the_document_takes_the_rows_of_either(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["info"]["title"] == f"Everfit: {MODEL}, {OTHER}"
    assert [each.get("required") for each in document["components"]["schemas"]["Row"]["anyOf"]] == [list(ROW), None]


def test_two_models_of_one_name_are_refused(two: Two) -> None:
    with pytest.raises(UsageError, match="different names"):
        build_app(two.servings[0], two.servings[0])
