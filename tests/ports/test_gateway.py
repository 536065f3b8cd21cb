"""The folder gateway: what is published, pointed to, confirmed and withdrawn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from everfit.adapters.gateway import SILENT_AFTER, FolderGateway
from everfit.clock import wall
from everfit.errors import Conflict, ModelUnusable, Unavailable, UsageError
from everfit.ports import Route, Trial
from tests.unit.serve.fakes import MODEL, candidate, write_folder


@pytest.fixture
def gateway(tmp_path: Path) -> FolderGateway:
    return FolderGateway(tmp_path / "serving")


def published(gateway: FolderGateway, root: Path, name: str) -> str:
    folder = root / "shelf" / name
    if not folder.exists():
        write_folder(folder, 0.0)
    gateway.publish(candidate(name), 1, folder)
    return candidate(name).id


def register(root: Path, pid: int, key: str | None, *, ago: timedelta = timedelta(0)) -> None:
    folder = root / "serving" / MODEL / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    told = {"pid": pid, "candidate": "c", "key": key, "at": (wall() - ago).isoformat()}
    (folder / f"{pid}.json").write_text(json.dumps(told))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_before_anything_was_pointed_nothing_is_live(gateway: FolderGateway) -> None:
    assert gateway.live(MODEL) is None
    assert gateway.confirmed(MODEL)


def test_a_pointed_model_is_live_and_its_files_lie_there(tmp_path: Path, gateway: FolderGateway) -> None:
    route = Route(published(gateway, tmp_path, "a"), 3, "k1")
    gateway.point(MODEL, route)
    assert gateway.live(MODEL) == route
    assert (tmp_path / "serving" / MODEL / route.candidate / "model.json").is_file()
    routing = json.loads((tmp_path / "serving" / MODEL / "routing.json").read_bytes())
    assert (routing["previous"], routing["version"]) == (None, 3)


def test_publishing_and_pointing_twice_is_once(tmp_path: Path, gateway: FolderGateway) -> None:
    route = Route(published(gateway, tmp_path, "a"), 1, "k1")
    gateway.point(MODEL, route)
    before = (tmp_path / "serving" / MODEL / "routing.json").read_bytes()
    published(gateway, tmp_path, "a")
    gateway.point(MODEL, route)
    assert (tmp_path / "serving" / MODEL / "routing.json").read_bytes() == before


def test_a_step_that_is_repeated_late_does_not_undo_what_came_after_it(tmp_path: Path, gateway: FolderGateway) -> None:
    first = Route(published(gateway, tmp_path, "a"), 1, "k1")
    second = Route(published(gateway, tmp_path, "b"), 2, "k2")
    for route in (first, second):
        gateway.point(MODEL, route)
    with pytest.raises(ModelUnusable, match="k2 has pointed elsewhere since"):
        gateway.point(MODEL, first)
    assert gateway.live(MODEL) == second


def test_one_cause_cannot_point_to_two_models(tmp_path: Path, gateway: FolderGateway) -> None:
    gateway.point(MODEL, Route(published(gateway, tmp_path, "a"), 1, "k1"))
    with pytest.raises(Conflict, match="needs a cause of its own"):
        gateway.point(MODEL, Route(published(gateway, tmp_path, "b"), 2, "k1"))


def test_pointing_back_names_what_was_live(tmp_path: Path, gateway: FolderGateway) -> None:
    a, b = published(gateway, tmp_path, "a"), published(gateway, tmp_path, "b")
    for place, name in enumerate([a, b, b, a]):
        gateway.point(MODEL, Route(name, place, f"k{place}"))
    routing = json.loads((tmp_path / "serving" / MODEL / "routing.json").read_bytes())
    assert (routing["candidate"], routing["previous"]) == (a, b)


def test_what_was_not_published_cannot_be_pointed_to(gateway: FolderGateway) -> None:
    with pytest.raises(ModelUnusable, match="publish it before"):
        gateway.point(MODEL, Route("nobody", 1, "k"))
    assert gateway.live(MODEL) is None


def test_a_folder_without_a_model_cannot_be_published(tmp_path: Path, gateway: FolderGateway) -> None:
    with pytest.raises(ModelUnusable, match=r"no model\.json"):
        gateway.publish(candidate("a"), 1, tmp_path)


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        pytest.param({}, True, id="no server is up"),
        pytest.param({"own": "k1"}, True, id="the server answers with it"),
        pytest.param({"own": "k0"}, False, id="the server answers with another"),
        pytest.param({"own": None}, False, id="the server answers with nothing yet"),
        pytest.param({"own": "k1", "parent": "k0"}, False, id="one of two answers with another"),
        pytest.param({"own": "k1", "dead": "k0"}, True, id="a dead server does not count"),
        pytest.param({"silent": "k0"}, True, id="a pid that has been silent belongs to somebody else"),
    ],
)
def test_confirmed(tmp_path: Path, gateway: FolderGateway, servers: dict[str, str | None], expected: bool) -> None:
    gateway.point(MODEL, Route(published(gateway, tmp_path, "a"), 1, "k1"))
    pids = {"own": os.getpid(), "parent": os.getppid(), "dead": dead_pid(), "silent": os.getpid()}
    for name, key in servers.items():
        register(tmp_path, pids[name], key, ago=SILENT_AFTER * 2 if name == "silent" else timedelta(0))
    assert gateway.confirmed(MODEL) is expected


def test_an_empty_file_of_a_server_that_a_power_cut_took_counts_for_nothing(
    tmp_path: Path, gateway: FolderGateway
) -> None:
    gateway.point(MODEL, Route(published(gateway, tmp_path, "a"), 1, "k1"))
    register(tmp_path, dead_pid(), "k0")
    for file in (tmp_path / "serving" / MODEL / "servers").iterdir():
        file.write_bytes(b"")
    assert gateway.confirmed(MODEL)


def test_the_live_model_is_not_withdrawn_and_others_are(tmp_path: Path, gateway: FolderGateway) -> None:
    a, b = published(gateway, tmp_path, "a"), published(gateway, tmp_path, "b")
    gateway.point(MODEL, Route(a, 1, "k1"))
    gateway.point(MODEL, Route(b, 2, "k2"))
    for name in (a, b, "nobody"):
        gateway.withdraw(MODEL, name)
    home = tmp_path / "serving" / MODEL
    assert (home / b).is_dir()
    assert not (home / a).exists()
    with pytest.raises(ModelUnusable):
        gateway.point(MODEL, Route(a, 1, "k3"))


def test_a_trial_is_written_with_its_challengers_files_and_every_change_has_a_number(
    tmp_path: Path, gateway: FolderGateway
) -> None:
    a, b = published(gateway, tmp_path, "a"), published(gateway, tmp_path, "b")
    gateway.point(MODEL, Route(a, 1, "k1"))
    tried = Route(a, 1, "k2", Trial(b, 2, 0.05, 1.0, "release-2"))
    gateway.point(MODEL, tried)
    home = tmp_path / "serving" / MODEL
    routing = json.loads((home / "routing.json").read_bytes())
    assert routing["trial"] == {"candidate": b, "version": 2, "weight": 0.05, "mirror": 1.0, "salt": "release-2"}
    assert (routing["number"], routing["previous"], gateway.live(MODEL)) == (2, None, tried)
    assert (home / b / "model.json").is_file()


def test_a_servers_trouble_with_an_earlier_route_is_not_told_of_this_one(
    tmp_path: Path, gateway: FolderGateway
) -> None:
    a, b = published(gateway, tmp_path, "a"), published(gateway, tmp_path, "b")
    gateway.point(MODEL, Route(a, 1, "k2", Trial(b, 2, 0.5)))
    register(tmp_path, os.getpid(), "k1")
    file = tmp_path / "serving" / MODEL / "servers" / f"{os.getpid()}.json"
    for key, raises in (("k1", False), ("k2", True)):
        told = json.loads(file.read_text()) | {"trouble": {"key": key, "version": 2, "said": "it crashed"}}
        file.write_text(json.dumps(told))
        if raises:
            with pytest.raises(ModelUnusable, match="version 2: it crashed"):
                gateway.confirmed(MODEL)
        else:
            assert not gateway.confirmed(MODEL)


def test_readers_never_meet_half_a_route(tmp_path: Path, gateway: FolderGateway) -> None:
    names = [published(gateway, tmp_path, name) for name in "ab"]
    seen: list[Route | None] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(gateway.live(MODEL))

    reader = threading.Thread(target=read)
    reader.start()
    for place in range(50):
        gateway.point(MODEL, Route(names[place % 2], place, f"k{place}"))
    stop.set()
    reader.join(10)
    versions = [route.version for route in seen if route]
    assert versions == sorted(versions)


@pytest.mark.parametrize("name", ["..", "a/b", "", "servers"])
def test_a_name_that_is_no_folder_is_refused(gateway: FolderGateway, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a folder's name"):
        gateway.live(name)


def test_a_root_that_cannot_be_used_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    gateway = FolderGateway(tmp_path / "file")
    write_folder(tmp_path / "m", 0.0)
    with pytest.raises(Unavailable, match="cannot be used"):
        gateway.publish(candidate("a"), 1, tmp_path / "m")


def test_a_damaged_route_is_said(tmp_path: Path, gateway: FolderGateway) -> None:
    (tmp_path / "serving" / MODEL).mkdir(parents=True)
    (tmp_path / "serving" / MODEL / "routing.json").write_text("{")
    with pytest.raises(Unavailable, match="not JSON"):
        gateway.live(MODEL)
