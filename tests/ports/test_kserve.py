"""KServe as the gateway, against an emulator of its API and controllers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.client import ApiClient, Configuration

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.kserve import KServe, Seen, Want, kserve_at, next_step
from everfit.adapters.outside import OutsideGateway
from everfit.checks import Law, check_gateway
from everfit.errors import ModelUnusable, Unavailable, UsageError
from everfit.ports import Route, Trial
from everfit.retrain.candidate import Candidate
from tests.ports.kubernetes_api import Cluster, serving
from tests.unit.serve.fakes import candidate, write_folder

MODEL = "flights"
A, B, C = (candidate(name).id for name in "abc")


class Place:
    folder: Path
    cluster: Cluster
    url: str


HERE = Place()


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Iterator[Place]:
    HERE.folder, HERE.cluster = tmp_path, Cluster()
    (tmp_path / "store").mkdir()
    with serving(HERE.cluster) as HERE.url:
        yield HERE


def remote() -> KServe:
    setting = f"kserve://ml?store=pvc://claim/models&folder={HERE.folder / 'store'}"
    made = kserve_at(setting, ApiClient(Configuration(host=HERE.url, retries=0)))
    made.pace = 0.0
    return made


def kserve_gateway() -> OutsideGateway:
    return OutsideGateway(FolderGateway(HERE.folder / "words"), FolderGateway(HERE.folder / "near"), remote())


@pytest.fixture
def gateway() -> OutsideGateway:
    made = kserve_gateway()
    for name in "abc":
        made.publish(candidate(name), 1, write_folder(HERE.folder / "shelf" / name, 0.0))
    return made


def settled(gateway: OutsideGateway, turns: int = 30) -> int:
    """Ask until it is confirmed; how often that took."""
    for turn in range(turns):
        if gateway.confirmed(MODEL):
            return turn
    raise AssertionError(f"not confirmed after {turns} turns: {HERE.cluster.services}")


def uri(name: str) -> str:
    return f"pvc://claim/models/{name}"


def spec() -> tuple[str, int | None]:
    predictor = HERE.cluster.services[MODEL]["spec"]["predictor"]
    return predictor["model"]["storageUri"], predictor.get("canaryTrafficPercent")


def go(gateway: OutsideGateway, *routes: Route) -> None:
    for route in routes:
        gateway.point(MODEL, route)
        settled(gateway)


LIVE_A = Route(A, 1, "k1")
TRIED = Route(A, 1, "k2", Trial(B, 2, weight=0.05))


def two() -> list[tuple[Candidate, Path]]:
    return [(candidate(name), write_folder(HERE.folder / "shelf" / name, 0.0)) for name in ("c1", "c2")]


@pytest.mark.parametrize("law", check_gateway(kserve_gateway, two), ids=str)
def test_the_law_is_kept(law: Law) -> None:
    law()


def test_the_first_model_gets_a_service_of_its_own(gateway: OutsideGateway) -> None:
    gateway.point(MODEL, LIVE_A)
    assert not gateway.confirmed(MODEL)  # its pod has not started
    settled(gateway)
    assert spec() == (uri(A), None)
    assert HERE.cluster.served[-1] == {uri(A): 100}
    predictor = HERE.cluster.services[MODEL]["spec"]["predictor"]
    assert predictor["model"]["modelFormat"] == {"name": "everfit"}
    annotations = HERE.cluster.services[MODEL]["metadata"]["annotations"]
    assert annotations == {"serving.kserve.io/deploymentMode": "Serverless"}  # the default of new releases is another
    assert (HERE.folder / "store" / A / "model.json").is_file()


def test_a_release_by_shares_gives_traffic_only_to_revisions_that_are_ready(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    gateway.point(MODEL, TRIED)
    assert spec() == (uri(B), 0)  # staged
    settled(gateway)
    assert spec() == (uri(B), 5)
    assert HERE.cluster.served[-1] == {uri(A): 95, uri(B): 5}
    go(gateway, Route(A, 1, "k3", Trial(B, 2, weight=0.5)), Route(B, 2, "k4"))
    assert HERE.cluster.served[-1] == {uri(B): 100}
    assert spec() == (uri(B), None)
    assert [each.get(uri(B), 0) for each in HERE.cluster.served] == sorted(
        each.get(uri(B), 0) for each in HERE.cluster.served
    )


def test_a_challenger_is_taken_back_at_once(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A, TRIED)
    revisions = len(HERE.cluster.revisions)
    gateway.point(MODEL, Route(A, 1, "k3"))
    assert spec() == (uri(B), 0)  # by the share alone: no pod starts for it
    assert settled(gateway) <= 1
    assert HERE.cluster.served[-1] == {uri(A): 100}
    assert len(HERE.cluster.revisions) == revisions


def test_a_promoted_model_is_rolled_back_to_the_revision_before_without_a_new_one(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A, Route(B, 2, "k2"))
    revisions = len(HERE.cluster.revisions)
    go(gateway, Route(A, 1, "k3"))
    assert HERE.cluster.served[-1] == {uri(A): 100}
    assert len(HERE.cluster.revisions) == revisions


def test_after_a_roll_back_the_next_release_gives_nothing_to_the_model_that_was_taken_back(
    gateway: OutsideGateway,
) -> None:
    go(gateway, LIVE_A, TRIED, Route(A, 1, "k3"))
    seen = len(HERE.cluster.served)
    go(gateway, Route(C, 3, "k4"))
    assert HERE.cluster.served[-1] == {uri(C): 100}
    assert not any(uri(B) in each for each in HERE.cluster.served[seen:])


def test_every_walk_of_words_ends_where_the_last_one_says(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    names = [A, B, C]
    words = [(live, trial) for live in names for trial in [None, *names] if trial != live]
    for number, (live, trial) in enumerate((first, second) for first in words for second in words):
        for step, (champion, challenger) in enumerate((live, trial)):
            tried = Trial(challenger, 2, weight=0.25) if challenger else None
            route = Route(champion, 1, f"walk-{number}-{step}", tried)
            gateway.point(MODEL, route)
            if step:
                settled(gateway, 60)
                shares = {uri(champion): 75, uri(challenger): 25} if challenger else {uri(champion): 100}
                assert HERE.cluster.served[-1] == shares, (live, trial)


def test_a_model_that_does_not_load_is_said_in_the_words_of_kserve(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    HERE.cluster.broken[uri(B)] = "No module named 'xgboost'"
    gateway.point(MODEL, TRIED)
    with pytest.raises(ModelUnusable, match="ModelLoadFailed: No module named 'xgboost'"):
        settled(gateway)
    go(gateway, Route(A, 1, "k3"))  # the way back does not need the broken one
    assert HERE.cluster.served[-1] == {uri(A): 100}
    assert not any(uri(B) in each for each in HERE.cluster.served)


def test_what_others_write_meanwhile_is_kept_and_written_upon(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    left = [1]

    def edit() -> None:
        if left.pop() if left else 0:
            with HERE.cluster.lock:
                service = json.loads(json.dumps(HERE.cluster.services[MODEL]))
                service["spec"]["predictor"]["maxReplicas"] = 7
                HERE.cluster.replace(MODEL, service)

    HERE.cluster.before_write = edit
    go(gateway, TRIED)
    assert not left
    assert HERE.cluster.services[MODEL]["spec"]["predictor"]["maxReplicas"] == 7
    assert HERE.cluster.served[-1] == {uri(A): 95, uri(B): 5}


def test_a_service_that_somebody_deletes_meanwhile_is_made_again(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    left = [1]

    def delete() -> None:
        if left.pop() if left else 0:
            del HERE.cluster.services[MODEL]

    HERE.cluster.before_write = delete
    go(gateway, Route(B, 2, "k2"))
    assert not left
    assert HERE.cluster.served[-1] == {uri(B): 100}


def test_a_step_that_hangs_while_somebody_rolls_back_does_not_win(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A, TRIED)
    person, spoken = kserve_gateway(), [1]

    def roll_back() -> None:
        if spoken.pop() if spoken else 0:
            person.point(MODEL, Route(A, 1, "back"))

    HERE.cluster.before_write = roll_back
    with pytest.raises(ModelUnusable, match="back has pointed elsewhere meanwhile"):
        gateway.point(MODEL, Route(A, 1, "k3", Trial(B, 2, weight=0.5)))
    assert spec() == (uri(B), 0)
    settled(gateway)
    assert gateway.live(MODEL) == Route(A, 1, "back")
    assert max(each.get(uri(B), 0) for each in HERE.cluster.served) == 5  # not for a moment
    assert HERE.cluster.served[-1] == {uri(A): 100}


def test_a_step_that_died_between_its_word_and_its_write_is_repeated_by_the_next(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    FolderGateway(HERE.folder / "words").point(MODEL, TRIED)
    settled(gateway)
    assert HERE.cluster.served[-1] == {uri(A): 95, uri(B): 5}


def test_nothing_is_written_when_nothing_is_to_change(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A, TRIED)
    writes = HERE.cluster.writes
    go(gateway, TRIED)
    assert HERE.cluster.writes == writes


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        pytest.param(403, UsageError, "does not let us", id="a role that lacks rights"),
        pytest.param(422, ModelUnusable, "refuses", id="a spec that admission refuses"),
        pytest.param(503, Unavailable, "failed", id="an API that is away"),
    ],
)
def test_refusals_say_what_to_do(gateway: OutsideGateway, status: int, error: type[Exception], said: str) -> None:
    go(gateway, LIVE_A)
    HERE.cluster.refused = status
    with pytest.raises(error, match=said):
        gateway.point(MODEL, TRIED)
    HERE.cluster.refused = None
    kept = LIVE_A.candidate if error is not Unavailable else TRIED.candidate
    live = gateway.live(MODEL)
    assert live is not None
    assert (live.candidate, live.trial is None) == (kept, error is not Unavailable)


def test_an_api_that_is_not_there_is_away(gateway: OutsideGateway) -> None:
    kube = kserve_at(
        "kserve://ml?store=pvc://c/m&folder=/nowhere", ApiClient(Configuration(host="http://127.0.0.1:9", retries=0))
    )
    with pytest.raises(Unavailable, match="does not answer"):
        kube.confirmed(MODEL, LIVE_A, lambda: True)


@pytest.mark.parametrize(
    ("trial", "error", "said"),
    [
        pytest.param(Trial(B, 2, mirror=1.0), UsageError, "cannot mirror", id="copies of requests"),
        pytest.param(Trial(B, 2, weight=0.005), ModelUnusable, "weight of 0.5 %", id="half a percent"),
    ],
)
def test_what_kserve_cannot_is_said_before_anything_moves(
    gateway: OutsideGateway, trial: Trial, error: type[Exception], said: str
) -> None:
    go(gateway, LIVE_A)
    writes = HERE.cluster.writes
    with pytest.raises(error, match=said):
        gateway.point(MODEL, Route(A, 1, "k2", trial))
    assert HERE.cluster.writes == writes
    live = gateway.live(MODEL)
    assert live is not None
    assert live.trial is None


def test_a_cluster_without_kserve_is_said(gateway: OutsideGateway) -> None:
    HERE.cluster.refused = 404
    with pytest.raises(UsageError, match="no namespace 'ml' in this cluster, or no KServe"):
        gateway.point(MODEL, LIVE_A)


@pytest.mark.parametrize("mode", ["RawDeployment", "Standard", "ModelMesh"])
def test_a_service_without_knative_is_refused(gateway: OutsideGateway, mode: str) -> None:
    HERE.cluster.mode = mode
    gateway.point(MODEL, LIVE_A)
    with pytest.raises(UsageError, match="runs without Knative"):
        settled(gateway)


def test_models_that_are_not_needed_leave_the_store(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A, TRIED, Route(A, 1, "k3"))
    gateway.withdraw(MODEL, C)
    gateway.withdraw(MODEL, B)  # the spec names it still, taken back or not
    gateway.withdraw(MODEL, "nobody")
    assert sorted(each.name for each in (HERE.folder / "store").iterdir()) == sorted([A, B])


def test_a_name_that_kubernetes_does_not_take_is_said(gateway: OutsideGateway) -> None:
    with pytest.raises(UsageError, match="cannot name an InferenceService"):
        gateway.point("Flight Delay", LIVE_A)


def test_the_cluster_of_the_kubeconfig_is_used(tmp_path: Path) -> None:
    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": HERE.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    (tmp_path / "config").write_text(json.dumps(kubeconfig))
    code = (
        "from everfit.adapters.kserve import kserve_at; from everfit.ports import Route\n"
        f"kube = kserve_at('kserve://ml?store=pvc://claim/models&folder={tmp_path}')\n"
        f"kube.point('{MODEL}', Route('{A}', 1, 'k'), lambda: True)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "KUBECONFIG": str(tmp_path / "config")})
    assert spec() == (uri(A), None)


@pytest.mark.parametrize(
    ("seen", "want", "expected"),
    [
        pytest.param(Seen("a", None, "a", True, "a", "", {}), Want("a"), None, id="live already"),
        pytest.param(Seen("a", None, "", False, "", "", {}), Want("a"), None, id="the first one starts"),
        pytest.param(Seen("b", 0, "a", True, "a", "", {}), Want("a", "b", 5), None, id="staged, not created yet"),
        pytest.param(Seen("b", 0, "b", False, "a", "", {}), Want("a", "b", 5), None, id="staged, not ready"),
        pytest.param(
            Seen("b", None, "b", False, "a", "", {}), Want("a", "b", 5), ("b", 0), id="it would go live alone"
        ),
        pytest.param(Seen("c", 50, "c", True, "a", "", {}), Want("a", "b", 5), ("b", 0), id="another challenger"),
        pytest.param(Seen("b", None, "b", True, "b", "x", {}), Want("a", "b", 5), ("a", 0), id="the champion first"),
        pytest.param(
            Seen("b", None, "b", True, "b", "a", {}), Want("a", "b", 5), ("b", 0), id="by way of the one before"
        ),
    ],
)
def test_next_step(seen: Seen, want: Want, expected: tuple[str, int | None] | None) -> None:
    assert next_step(seen, want) == expected
