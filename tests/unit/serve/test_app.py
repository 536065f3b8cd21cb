"""The routes: what they answer, how they fail, what they log and take in."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from everfit.observe.intake import FAILED
from everfit.ports import Table
from everfit.serve.binary import pack
from everfit.serve.rows import ARROW
from everfit.serve.serving import Limits, LogMode
from tests.examples import examples
from tests.unit.serve.fakes import MODEL, NOW, ROW, RULES, ListJournal, client_of, release, serving, until
from tests.unit.serve.test_rows import arrow

MOST_BYTES = Limits().body
V2 = f"/v2/models/{MODEL}"
TENSORS: list[dict[str, Any]] = [
    {"name": "distance", "shape": [2], "datatype": "FP64", "data": [3.0, -3.0]},
    {"name": "carrier", "shape": [2, 1], "datatype": "BYTES", "data": ["UA", "AA"]},
    {"name": "night", "shape": [2], "datatype": "BOOL", "data": [False, True]},
]


@pytest.fixture
def journal() -> ListJournal:
    return ListJournal()


@pytest.fixture
def client(tmp_path: Path, journal: ListJournal) -> Iterator[TestClient]:
    release(tmp_path, 7)
    with client_of(serving(tmp_path, journal)) as made:
        until(lambda: made.get("/ping").status_code == 200)
        yield made


def ask(client: TestClient, *rows: dict[str, Any]) -> Any:
    return client.post("/invocations", json={"dataframe_records": list(rows)})


def test_a_request_of_unknown_fields_alone_is_told_what_is_missing(client: TestClient) -> None:
    answer = client.post("/invocations", json={"inputs": {"unknown": "x"}})
    assert answer.status_code == 400
    assert "missing features" in answer.json()["error"]


# ---- predictions ----------------------------------------------------------------------------------------------


def test_an_answer_says_what_who_and_which(client: TestClient) -> None:
    body = ask(client, {**ROW, "flight": "f1"}, {**ROW, "flight": "f2", "distance": -3}).json()
    assert body["predictions"] == [True, False]
    assert body["scores"] == pytest.approx([0.9526, 0.0474], abs=1e-4)
    assert body["ids"] == ["f1", "f2"]
    assert body["model"]["version"] == 7


def test_what_was_answered_is_logged_with_the_model_and_its_features(
    tmp_path: Path, client: TestClient, journal: ListJournal
) -> None:
    ask(client, {**ROW, "flight": "f1", "scheduled": "2013-02-01T10:00", "beyond": "the features"})
    until(lambda: journal.commits == 1)
    row = journal.rows(Table.PREDICTIONS).to_dicts()[0]
    served = json.loads((tmp_path / "serving" / MODEL / "routing.json").read_bytes())
    assert row.pop("_latency_ms") > 0
    assert row.pop("_score") == pytest.approx([0.0474, 0.9526], abs=1e-4)
    assert row == {
        "_id": "f1",
        "_time": NOW.replace(hour=10),
        "_prediction": "true",
        "_model": served["candidate"],
        "_version": 7,
        "_variant": "champion",
        "_arrived": NOW,
        **ROW,
    }


def test_without_id_and_time_an_id_is_issued_and_the_time_is_now(client: TestClient, journal: ListJournal) -> None:
    body = ask(client, ROW, ROW).json()
    until(lambda: journal.commits == 1)
    logged = journal.rows(Table.PREDICTIONS)
    assert logged["_id"].to_list() == body["ids"]
    assert len(set(body["ids"])) == 2
    assert logged["_time"].to_list() == [NOW, NOW]


def test_no_rows_give_no_predictions(client: TestClient, journal: ListJournal) -> None:
    assert ask(client).json()["predictions"] == []
    assert journal.commits == 0


def test_csv_is_answered(client: TestClient) -> None:
    body = "distance,carrier,night\n3,UA,false\n-3,AA,true\n"
    answer = client.post("/invocations", content=body, headers={"content-type": "text/csv; charset=utf-8"})
    assert answer.json()["predictions"] == [True, False]


def test_v2_answers_with_tensors_and_echoes_the_request(client: TestClient, journal: ListJournal) -> None:
    body = {
        "id": "r1",
        "inputs": TENSORS,
        "parameters": {"ids": ["a", "b"], "times": ["2013-02-01T09:00"] * 2},
    }
    told = client.post(f"{V2}/infer", json=body).json()
    assert (told["id"], told["model_version"], told["parameters"]["ids"]) == ("r1", "7", ["a", "b"])
    assert [tensor["data"] for tensor in told["outputs"]] == [
        [True, False],
        pytest.approx([0.9526, 0.0474], abs=1e-4),
    ]
    until(lambda: journal.commits == 1)
    assert journal.rows(Table.PREDICTIONS)["_time"].to_list() == [NOW.replace(hour=9)] * 2


def test_ids_beside_the_tensors_count_when_the_spec_names_none(tmp_path: Path, journal: ListJournal) -> None:
    release(tmp_path, 1)
    told = serving(tmp_path, journal, rules=dataclasses.replace(RULES, id=None))
    with client_of(told) as client:
        until(lambda: client.get("/ping").status_code == 200)
        body = {"inputs": TENSORS, "parameters": {"ids": ["a", "b"]}}
        assert client.post(f"{V2}/infer", json=body).json()["parameters"]["ids"] == ["a", "b"]


def test_a_held_answer_carries_the_number_of_the_journal(tmp_path: Path, journal: ListJournal) -> None:
    release(tmp_path, 1)
    with client_of(serving(tmp_path, journal, log=LogMode.HELD)) as client:
        until(lambda: client.get("/ping").status_code == 200)
        answer = ask(client, ROW)
        assert journal.commits == 1
        assert (answer.json()["number"], answer.headers["everfit-number"]) == (1, "1")


@pytest.mark.parametrize(
    ("change", "column", "said"),
    [
        pytest.param({"distance": "secret"}, "distance", "not a number", id="text where a number was"),
        pytest.param({"night": "secret"}, "night", "not true or false", id="text where a flag was"),
        pytest.param({"scheduled": "secret"}, "scheduled", "not a time", id="text where a time was"),
        pytest.param({"scheduled": 1357020000}, "scheduled", "a number is not a time", id="epoch seconds"),
        pytest.param({"scheduled": "2099-01-01"}, "scheduled", "in the future", id="an event from the future"),
        pytest.param({"flight": None}, "flight", "no id", id="an id that is null"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_name_and_kept(
    client: TestClient, journal: ListJournal, change: dict[str, Any], column: str, said: str
) -> None:
    answer = ask(client, {**ROW, "flight": "f1", **change})
    assert answer.status_code == 400
    assert repr(column) in answer.json()["error"]
    assert said in answer.json()["error"]
    assert "secret" not in answer.text
    until(lambda: journal.commits == 1)
    kept = journal.rows(Table.REFUSED).to_dicts()
    assert [(row["_table"], row["_column"]) for row in kept] == [("predictions", column)]
    assert str(next(iter(change.values())) or "null") in kept[0]["_payload"]


def test_missing_features_are_named(client: TestClient) -> None:
    answer = ask(client, {"distance": 3.0})
    assert answer.status_code == 400
    assert "'carrier', 'night'" in answer.json()["error"]


def test_a_model_that_fails_is_our_fault_and_quotes_nothing(tmp_path: Path, journal: ListJournal) -> None:
    class Touchy:
        def score(self, rows: pl.DataFrame) -> Any:
            if rows["carrier"].to_list() == ["secret"]:
                raise ValueError("cannot take secret")
            return [[0.5, 0.5]] * rows.height

    release(tmp_path, 1)
    told = dataclasses.replace(serving(tmp_path, journal), loader=lambda _: Touchy())
    with client_of(told) as client:
        until(lambda: client.get("/ping").status_code == 200)
        answer = ask(client, {**ROW, "carrier": "secret"})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        until(lambda: journal.commits == 1)
        assert journal.rows(Table.REFUSED)["_reason"].to_list() == [FAILED]  # a version that fails is seen to fail
        assert ask(client, ROW).status_code == 200


# ---- every failure says so in one form --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "path", "options", "status"),
    [
        pytest.param("GET", "/nowhere", {}, 404, id="an unknown path"),
        pytest.param("GET", "/invocations", {}, 405, id="the wrong verb"),
        pytest.param("GET", "/v2/models/other", {}, 404, id="an unknown model"),
        pytest.param("GET", "/v2/models/other/ready", {}, 404, id="an unknown model is not ready"),
        pytest.param("GET", f"{V2}/versions/3", {}, 404, id="a version that does not answer"),
        pytest.param("POST", f"{V2}/versions/3/infer", {"json": {"inputs": TENSORS}}, 404, id="asking such a version"),
        pytest.param("POST", "/invocations", {"content": b"{"}, 400, id="no JSON"),
        pytest.param("POST", "/invocations", {"json": []}, 400, id="JSON of another shape"),
        pytest.param("POST", f"{V2}/infer", {"json": {}}, 400, id="no tensors"),
        pytest.param(
            "POST",
            f"{V2}/infer",
            {"content": b"", "headers": {"Inference-Header-Content-Length": "9"}},
            400,
            id="binary",
        ),
        pytest.param("POST", "/v1/labels", {"content": b"x", "headers": {"content-type": ARROW}}, 400, id="no Arrow"),
        pytest.param("POST", "/v1/labels", {"json": 7}, 400, id="no rows"),
        pytest.param("POST", "/v1/predictions", {"json": [{"a": [1]}]}, 400, id="a list in a field"),
        pytest.param("POST", "/v1/predictions", {"json": [{"_mine": 1}]}, 400, id="a name of ours"),
        pytest.param("POST", "/v1/labels", {"content": b"", "headers": {"content-type": "text/html"}}, 415, id="HTML"),
        pytest.param(
            "POST",
            "/v1/labels",
            {"content": b"", "headers": {"content-encoding": "br"}},
            415,
            id="compressed",
        ),
        pytest.param("POST", "/v1/labels", {"content": b" " * (MOST_BYTES + 1)}, 413, id="a body that is too large"),
        pytest.param(
            "POST",
            "/v1/labels",
            {"content": iter([b" " * 2**25] * 3)},
            413,
            id="a body that says no length and is too large",
        ),
    ],
)
def test_failures(client: TestClient, verb: str, path: str, options: dict[str, Any], status: int) -> None:
    answer = client.request(verb, path, **options)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"]


def test_before_the_first_champion_the_server_is_live_and_not_ready(tmp_path: Path, journal: ListJournal) -> None:
    with client_of(serving(tmp_path, journal)) as client:
        assert client.get("/v2/health/live").json() == {"live": True}
        ready = client.get("/v2/health/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        for answer in (client.get("/ping"), ask(client, ROW), client.get(V2)):
            assert answer.status_code == 503
            assert "no champion" in answer.json()["error"]
        assert client.post("/v1/labels", json=[{"flight": "f1", "late": True}]).status_code == 200


def test_how_it_is(client: TestClient) -> None:
    assert client.get("/health").status_code == 200
    assert client.get("/version").text
    assert client.get("/v2").json()["name"] == "everfit"
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get(f"{V2}/versions/7/ready").json() == {"ready": True, "name": MODEL}
    assert client.get(f"{V2}/versions/7").json()["versions"] == ["7"]


def test_metrics_count_requests_rows_and_swaps(client: TestClient) -> None:
    ask(client, ROW, ROW)
    client.post("/v1/labels", json=[{"flight": "f1", "late": True}, {"flight": "f1"}])
    told = client.get("/metrics").text
    assert f'everfit_predictions_total{{model="{MODEL}",variant="champion",version="7"}} 2.0' in told
    assert f'everfit_rows_acknowledged_total{{model="{MODEL}",table="labels"}} 1.0' in told
    assert f'everfit_rows_refused_total{{model="{MODEL}",table="labels"}} 1.0' in told
    assert f'everfit_model_version{{model="{MODEL}"}} 7.0' in told
    assert 'route="/invocations",status="200"' in told


def test_the_clock_is_what_the_control_process_says(tmp_path: Path, client: TestClient) -> None:
    assert client.get("/v1/clock").json() == {"now": None, "settled": 0}
    (tmp_path / "clock.json").write_text('{"now": "2013-02-01T00:00:00+00:00", "settled": 12}')
    assert client.get("/v1/clock").json()["settled"] == 12


# ---- the wire -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_packed_bodies_are_taken_and_large_answers_packed(client: TestClient, packing: str) -> None:
    squeeze = zlib.compressobj(wbits=31 if packing == "gzip" else 15)
    many = orjson.dumps({"dataframe_records": [ROW] * 200})
    body = squeeze.compress(many) + squeeze.flush()
    heads = {"content-type": "application/json", "content-encoding": packing, "accept-encoding": packing}
    answer = client.post("/invocations", content=body, headers=heads)
    assert answer.headers["content-encoding"] == packing
    assert answer.json()["predictions"] == [True] * 200
    small = client.post("/invocations", json={"dataframe_records": [ROW]}, headers={"accept-encoding": packing})
    assert "content-encoding" not in small.headers
    assert client.post("/v1/labels", content=body, headers=heads).status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(zlib.compress(b"{}") + zlib.compress(b"{}"), 400, id="packed in two, of which one would be lost"),
        pytest.param(b"nonsense", 400, id="not packed at all"),
        pytest.param(zlib.compress(b"{}")[:-3], 400, id="cut off"),
        pytest.param(zlib.compress(b" " * (MOST_BYTES + 1)), 413, id="small, and unpacks to too much"),
    ],
)
def test_bodies_that_do_not_unpack(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/invocations", content=body, headers={"content-encoding": "deflate"})
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_tensors_go_both_ways_as_bytes(client: TestClient) -> None:
    packed = [pack("FP64", [3.0, -3.0]), pack("BYTES", ["UA", "AA"]), pack("BOOL", [False, True])]
    inputs = [
        {
            "name": told["name"],
            "datatype": told["datatype"],
            "shape": [2, 1],
            "parameters": {"binary_data_size": len(data)},
        }
        for told, data in zip(TENSORS, packed, strict=True)
    ]
    head = orjson.dumps({"inputs": inputs, "id": "r1", "parameters": {"binary_data_output": True}})
    heads = {"Inference-Header-Content-Length": str(len(head)), "content-type": "application/octet-stream"}
    answer = client.post(f"{V2}/versions/7/infer", content=head + b"".join(packed), headers=heads)
    length = int(answer.headers["inference-header-content-length"])
    told, rest = orjson.loads(answer.content[:length]), answer.content[length:]
    sizes = [output["parameters"]["binary_data_size"] for output in told["outputs"]]
    assert (told["id"], sizes, len(rest)) == ("r1", [2, 16], 18)
    assert rest[:2] == b"\x01\x00"
    assert np.frombuffer(rest[2:]).tolist() == pytest.approx([0.9526, 0.0474], abs=1e-4)


def test_other_addresses_of_the_same_model(client: TestClient) -> None:
    body = {"dataframe_records": [ROW]}
    assert client.post(f"/endpoints/{MODEL}/invocations", json=body).json()["predictions"] == [True]
    assert client.post("/endpoints/other/invocations", json=body).status_code == 404
    assert client.get("/v2/models").json() == {"models": [MODEL]}
    (entry,) = client.post("/v2/repository/index").json()
    assert (entry["name"], entry["version"], entry["state"]) == (MODEL, "7", "READY")


def test_the_openapi_document_names_every_route_and_no_other(client: TestClient) -> None:
    told = client.get("/openapi.json").json()
    app = client.app
    assert isinstance(app, Starlette)
    routes = {
        (verb.lower(), route.path)
        for route in app.routes
        if isinstance(route, Route)
        for verb in (route.methods or set()) - {"HEAD"}
    }
    assert routes == {(verb, path) for path, verbs in told["paths"].items() for verb in verbs.keys() - {"parameters"}}
    assert told["components"]["schemas"]["Row"]["required"] == list(ROW)


DEEP = b'{"dataframe_records": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["secret", "UA", "2013-01-01"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from([*ROW, "flight"]), inner)),
    max_leaves=8,
)
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(ROW, JSON_VALUES)), max_size=3)
BODIES = st.one_of(
    st.dictionaries(
        st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "params"]),
        st.one_of(ROWS, JSON_VALUES),
    ),
    st.fixed_dictionaries(
        {
            "dataframe_split": st.fixed_dictionaries(
                {
                    "columns": st.one_of(st.just(list(ROW)), JSON_VALUES),
                    "data": st.lists(st.lists(JSON_VALUES, max_size=4)),
                }
            )
        }
    ),
)
TENSOR_BODIES = st.fixed_dictionaries(
    {
        "inputs": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from([*ROW, "x"]),
                    "shape": st.one_of(st.lists(st.integers(-1, 3), max_size=3), JSON_VALUES),
                    "datatype": st.sampled_from(["FP64", "BYTES", "BOOL", "INT8", "FP8", 3]),
                    "data": JSON_VALUES,
                },
                optional={"parameters": JSON_VALUES},
            ),
            max_size=4,
        )
    },
    optional={"id": JSON_VALUES, "outputs": JSON_VALUES, "parameters": JSON_VALUES},
)


def test_no_body_makes_the_server_fail_or_comes_back_in_an_error(client: TestClient) -> None:
    """Whatever is sent, the answer is 200 or the client's fault; an error never quotes a value."""

    @settings(examples(150), suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.tuples(st.just("/invocations"), BODIES), st.tuples(st.just(f"{V2}/infer"), TENSOR_BODIES)))
    def asked(told: tuple[str, Any]) -> None:
        path, body = told
        answer = client.post(path, content=json.dumps(body).encode())
        assert answer.status_code in {200, 400}, answer.text
        if answer.status_code == 400:
            assert list(answer.json()) == ["error"]
            assert "secret" not in answer.text

    asked()


@pytest.mark.parametrize("path", ["/invocations", f"{V2}/infer", "/v1/labels", "/v1/predictions"])
@pytest.mark.parametrize("body", [DEEP, DEEP.replace(b"[", b'{"a":').replace(b"]", b"}"), DEEP + b"NaN", b"\xff", b""])
def test_bodies_that_are_too_deep_or_no_json(client: TestClient, path: str, body: bytes) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


# ---- intake -----------------------------------------------------------------------------------------------------

EVENTS = [
    {"flight": "f1", "scheduled": "2013-02-01T10:00", **ROW},
    {"flight": None, "scheduled": "2013-02-01", **ROW},
]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"json": EVENTS}, id="a list of records"),
        pytest.param({"json": {"rows": EVENTS}}, id="rows in an object"),
        pytest.param({"content": arrow(pl.DataFrame(EVENTS)), "headers": {"content-type": ARROW}}, id="Arrow IPC"),
    ],
)
def test_predictions_are_taken_and_the_others_kept_aside(
    client: TestClient, journal: ListJournal, body: dict[str, Any]
) -> None:
    told = client.post("/v1/predictions", **body).json()
    assert told == {"acknowledged": 1, "refused": 1, "reasons": {"flight: no id": 1}, "number": 2}
    assert journal.commits == 1
    taken = journal.rows(Table.PREDICTIONS).to_dicts()
    assert [(row["_id"], row["carrier"]) for row in taken] == [("f1", "UA")]
    assert journal.rows(Table.REFUSED)["_column"].to_list() == ["flight"]


def test_predictions_may_bring_a_score_for_each_class(client: TestClient, journal: ListJournal) -> None:
    told = client.post("/v1/predictions", json=[{**EVENTS[0], "_score": [0.25, 0.75], "_prediction": True}]).json()
    assert told["acknowledged"] == 1
    taken = journal.rows(Table.PREDICTIONS).to_dicts()[0]
    assert (taken["_score"], taken["_prediction"]) == ([0.25, 0.75], "true")
    wrong = client.post("/v1/predictions", json=[{**EVENTS[0], "_score": ["secret"]}])
    assert wrong.status_code == 400
    assert "secret" not in wrong.text


def test_a_server_elsewhere_tells_of_its_time_of_copies_and_of_failures(
    client: TestClient, journal: ListJournal
) -> None:
    rows = [
        {**EVENTS[0], "_score": [0.25, 0.75], "_model": "c1", "_latency_ms": 2.5},
        {**EVENTS[0], "_score": [0.5, 0.5], "_model": "c2", "_copy": True},
        {**EVENTS[0], "flight": "f9", "_model": "c1", "_failed": "timeout"},
    ]
    told = client.post("/v1/predictions", json=rows).json()
    assert (told["acknowledged"], told["refused"]) == (3, 0)
    assert journal.commits == 1
    assert journal.rows(Table.PREDICTIONS).select("_id", "_model", "_latency_ms").rows() == [("f1", "c1", 2.5)]
    aside = journal.rows(Table.SHADOW).select("_id", "_model", "_score", "_failed").sort("_id").rows()
    assert aside == [("f1", "c2", [0.5, 0.5], None), ("f9", "c1", None, "timeout")]


def test_labels_are_taken(client: TestClient, journal: ListJournal) -> None:
    rows = [{"flight": "f1", "late": True, "time": "2013-02-01T11:00"}, {"flight": "f2", "late": None}]
    told = client.post("/v1/labels", json=rows).json()
    assert (told["acknowledged"], told["refused"]) == (1, 1)
    assert journal.rows(Table.LABELS).select("_id", "_label").to_dicts() == [{"_id": "f1", "_label": "true"}]


def test_no_rows_are_nothing_to_take(client: TestClient) -> None:
    assert client.post("/v1/labels", json=[]).json() == {
        "acknowledged": 0,
        "refused": 0,
        "reasons": {},
        "number": 0,
    }


def test_in_a_replay_nothing_is_in_the_future(tmp_path: Path, journal: ListJournal) -> None:
    with client_of(dataclasses.replace(serving(tmp_path, journal), replay=True)) as client:
        told = client.post("/v1/predictions", json=[{**EVENTS[0], "scheduled": "2099-01-01"}]).json()
        assert told["acknowledged"] == 1
        assert journal.rows(Table.PREDICTIONS)["_arrived"].to_list() == [datetime(2099, 1, 1, tzinfo=NOW.tzinfo)]


def test_on_a_full_disk_nothing_is_acknowledged_and_answers_go_on(client: TestClient, journal: ListJournal) -> None:
    journal.full = True
    refused = client.post("/v1/labels", json=[{"flight": "f1", "late": True}])
    assert refused.status_code == 503
    assert "no space left" in refused.json()["error"]
    assert ask(client, ROW).status_code == 200
    journal.full = False
    assert client.post("/v1/labels", json=[{"flight": "f1", "late": True}]).status_code == 200
    until(lambda: journal.rows(Table.PREDICTIONS).height == 1)


def test_on_a_full_disk_a_held_answer_is_given_up(tmp_path: Path, journal: ListJournal) -> None:
    release(tmp_path, 1)
    with client_of(serving(tmp_path, journal, log=LogMode.HELD)) as client:
        until(lambda: client.get("/ping").status_code == 200)
        journal.full = True
        assert ask(client, ROW).status_code == 503
        journal.full = False
        assert ask(client, ROW).status_code == 200
        assert journal.rows(Table.PREDICTIONS).height == 1


# ---- how much is taken on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["identity", "deflate"])
def test_what_the_server_has_in_hand_has_a_limit_and_frees_again(
    tmp_path: Path, journal: ListJournal, packing: str
) -> None:
    release(tmp_path, 1)
    told = dataclasses.replace(serving(tmp_path, journal), limits=Limits(bytes=4096))
    rows = json.dumps([{"flight": f"f{number}", "late": True} for number in range(200)]).encode()
    body = zlib.compress(rows) if packing == "deflate" else rows
    with client_of(told) as client:
        until(lambda: client.get("/ping").status_code == 200)
        for _ in range(3):
            answer = client.post("/v1/labels", content=body, headers={"content-encoding": packing})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "come again" in answer.json()["error"]
            assert ask(client, ROW).status_code == 200
        assert b'everfit_overloads_total{model="flights"} 3.0' in client.get("/metrics").content


def test_too_many_that_wait_for_the_journal_are_refused(tmp_path: Path, journal: ListJournal) -> None:
    with client_of(dataclasses.replace(serving(tmp_path, journal), limits=Limits(waiting=0))) as client:
        answer = client.post("/v1/labels", json=[{"flight": "f1", "late": True}])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "wait for the journal" in answer.json()["error"]
    assert journal.commits == 0


@pytest.mark.parametrize("path", ["/ping/", "/invocations/", "/" + "a" * 5000], ids=["ping/", "invocations/", "long"])
def test_an_address_that_is_not_there_is_told_and_not_sent_elsewhere(client: TestClient, path: str) -> None:
    answer = client.post(path, follow_redirects=False)
    assert answer.status_code == 404
    assert len(answer.json()["error"]) < 300


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param({"dataframe_records": [{}]}, "fields", id="a record without fields"),
        pytest.param({"dataframe_split": {"columns": [], "data": [[]]}}, "columns", id="a row without columns"),
    ],
)
def test_rows_without_anything_are_not_no_rows(client: TestClient, body: dict[str, Any], said: str) -> None:
    answer = client.post("/invocations", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


@pytest.mark.parametrize("path", ["/invocations", "/v1/labels", "/v1/predictions"])
def test_an_id_that_json_cannot_keep_is_refused_and_not_rounded(
    client: TestClient, journal: ListJournal, path: str
) -> None:
    row = {**EVENTS[0], **ROW, "late": True, "flight": 2**70 + 1}
    body = json.dumps({"dataframe_records": [row]} if path == "/invocations" else [row])
    answer = client.post(path, content=body)
    assert answer.status_code == 400
    assert "'flight' holds numbers so large" in answer.json()["error"]
    assert journal.commits == 0
