"""Whole releases by the real flow, with KServe's emulator as what serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.client import ApiClient, Configuration

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.kserve import kserve_at
from everfit.adapters.outside import OutsideGateway
from everfit.facts import ReleaseEnded, StepFailed
from everfit.testing import FrozenClock, in_memory
from tests.ports.kubernetes_api import Cluster, serving
from tests.traffic import Model, Traffic
from tests.world import FIRST, NOW, SECOND, World, fill, find, with_port


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def world(tmp_path: Path, cluster: Cluster) -> Iterator[World]:
    """A project whose first champion KServe serves."""
    (tmp_path / "store").mkdir()
    with serving(cluster) as url:
        setting = f"kserve://ml?store=pvc://claim&folder={tmp_path / 'store'}"
        remote = kserve_at(setting, ApiClient(Configuration(host=url, retries=0)))
        remote.pace = 0.0
        gateway = OutsideGateway(FolderGateway(tmp_path / "words"), FolderGateway(tmp_path / "near"), remote)
        made = World(with_port(in_memory(FrozenClock(NOW)), gateway=gateway), tmp_path, swap_at_most=30.0)
        fill(made.ports.lake)
        made.learn()
        made.renewed("renew-1", FIRST)
        yield made


CANARY = """rollout:
  weights: [20%]
  interval: 10m
  guard: {checks: [{of: errors}, {of: latency}, {of: loss, worse_by_at_most: 5%}], extend_up_to: 1h}
"""


def served(cluster: Cluster) -> dict[str, int]:
    return {uri.rpartition("/")[2]: share for uri, share in cluster.served[-1].items()}


def test_a_better_model_goes_live_and_a_person_takes_it_back(world: World, cluster: Cluster) -> None:
    first = world.live()
    assert first is not None
    assert served(cluster) == {first: 100}
    world.renewed("renew-2", SECOND)
    second = world.live()
    assert second not in {first, None}
    assert served(cluster) == {second: 100}
    world.roll_back()
    world.finish()
    assert served(cluster) == {first: 100}
    assert find(world, "release-back-1", ReleaseEnded).outcome == "live"
    assert len(cluster.revisions) == 2


def test_a_canary_that_loads_gets_its_share_and_no_more(world: World, cluster: Cluster) -> None:
    first = world.live()
    world.renewed("renew-2", SECOND, "rollout: {weights: [20%], interval: 1h}\n")
    shares = served(cluster)
    assert first is not None
    assert shares.pop(first) == 80
    assert list(shares.values()) == [20]  # nobody posted what it answered, so it stays there
    assert world.story(world.releases()[-1]).find(ReleaseEnded) is None


@pytest.mark.parametrize(
    ("model", "outcome", "said"),
    [
        pytest.param(Model(), "live", "version 2 serves", id="a good one goes live"),
        pytest.param(Model(noise=4.0), "rolled_back", "rolled back: loss", id="a worse one is taken back"),
        pytest.param(Model(fails=0.1), "rolled_back", "rolled back: errors", id="one that fails is taken back"),
    ],
)
def test_the_guard_judges_what_servers_elsewhere_bring(
    world: World, cluster: Cluster, model: Model, outcome: str, said: str
) -> None:
    first = world.live()
    assert first is not None
    users = Traffic(world, per_minute=400, models={2: model}, elsewhere=True)
    users.run(3)
    world.renewed("renew-2", SECOND, CANARY)
    run = world.releases()[-1]
    users.run(40, until=run)
    ended = find(world, run, ReleaseEnded)
    assert (ended.outcome, said in ended.said) == (outcome, True), ended
    cluster.turn("m")  # its controller sees what was written last
    assert served(cluster) == {world.live(): 100}
    assert (world.live() == first) is (outcome != "live")


def test_a_canary_that_does_not_load_ends_its_release_in_the_words_of_kserve(world: World, cluster: Cluster) -> None:
    first = world.live()
    assert first is not None
    cluster.broken = _AllBut(f"pvc://claim/{first}")
    world.renewed("renew-2", SECOND, "rollout: {weights: [20%], interval: 1h}\n")
    assert served(cluster) == {first: 100}
    run = world.releases()[-1]
    told = world.story(run).find(StepFailed) or find(world, run, ReleaseEnded)
    assert "KServe cannot load" in str(told)
    assert find(world, run, ReleaseEnded).outcome != "live"
    assert world.live() == first


class _AllBut(dict[str, str]):
    """No model loads but one."""

    def __init__(self, good: str) -> None:
        super().__init__()
        self._good = good

    def __contains__(self, uri: object) -> bool:
        return uri != self._good

    def __missing__(self, uri: str) -> str:
        return "out of memory"
