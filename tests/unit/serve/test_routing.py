"""Which model answers: swaps, ways back, and models that cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from everfit.adapters.gateway import FolderGateway
from everfit.errors import ModelUnusable
from everfit.ports import Predictor, Route, Trial
from everfit.serve.counts import Counts
from everfit.serve.model import load_published
from everfit.serve.routing import Live
from tests.unit.serve.fakes import MODEL, Line, candidate, release, until, write_folder


class Loads:
    """A loader that remembers what it loaded."""

    def __init__(self) -> None:
        self.folders: list[str] = []

    def __call__(self, folder: Path) -> Predictor:
        self.folders.append(folder.name)
        return Line(folder)


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def live(tmp_path: Path, loads: Loads) -> Live:
    return Live(tmp_path / "serving" / MODEL, loads, Counts(MODEL), port=8123)


def told(live: Live) -> dict[str, object]:
    return dict(json.loads(live.file.read_bytes()))


def test_before_anything_is_pointed_nothing_answers(live: Live) -> None:
    live.look()
    assert live.current is None
    assert told(live)["key"] is None


def test_a_new_route_is_followed_and_confirmed(tmp_path: Path, live: Live) -> None:
    route = release(tmp_path, 1)
    live.look()
    assert live.current is not None
    assert live.current.route == route
    assert {key: told(live)[key] for key in ("pid", "port", "candidate", "version", "key", "error")} == {
        "pid": os.getpid(),
        "port": 8123,
        "candidate": route.candidate,
        "version": 1,
        "key": "cause-1",
        "error": None,
    }
    assert FolderGateway(tmp_path / "serving").confirmed(MODEL)


def test_the_way_back_loads_nothing(tmp_path: Path, live: Live, loads: Loads) -> None:
    first = release(tmp_path, 1)
    live.look()
    second = release(tmp_path, 2, limit=1.0)
    live.look()
    release(tmp_path, 1, key="back")
    live.look()
    assert live.current is not None
    assert (live.current.route.candidate, live.current.route.key) == (first.candidate, "back")
    assert loads.folders == [first.candidate, second.candidate]


def test_after_a_restart_the_way_back_is_warm_again(tmp_path: Path, live: Live, loads: Loads) -> None:
    first, second = release(tmp_path, 1), release(tmp_path, 2)
    live.look()
    assert loads.folders == [second.candidate, first.candidate]


def test_only_the_live_model_and_the_one_before_stay_in_memory(tmp_path: Path, live: Live, loads: Loads) -> None:
    for version in (1, 2, 3):
        release(tmp_path, version)
        live.look()
    release(tmp_path, 1, key="again")
    live.look()
    assert loads.folders.count(candidate("model-1").id) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"classes": []}, "fewer than two classes", id="its description is nonsense"),
        pytest.param({"features": [{"name": "x", "kind": "number"}]}, "cannot score", id="it cannot score"),
        pytest.param({"classes": ["a", "b", "c"]}, "shape", id="its scores have another shape"),
    ],
)
def test_a_broken_model_leaves_the_old_one_serving(
    tmp_path: Path, live: Live, changes: dict[str, Any], said: str
) -> None:
    old = release(tmp_path, 1)
    live.look()
    release(tmp_path, 2, **changes)
    live.look()
    assert live.current is not None
    assert live.current.route == old
    assert said in str(told(live)["error"])
    assert not FolderGateway(tmp_path / "serving").confirmed(MODEL)
    release(tmp_path, 1, key="back")
    live.look()
    assert told(live)["error"] is None
    assert FolderGateway(tmp_path / "serving").confirmed(MODEL)


def test_a_model_whose_files_are_gone_leaves_the_old_one_serving(tmp_path: Path, live: Live) -> None:
    old = release(tmp_path, 1)
    live.look()
    new = release(tmp_path, 2)
    shutil.rmtree(tmp_path / "serving" / MODEL / new.candidate)
    live.look()
    assert live.current is not None
    assert live.current.route == old


def test_a_broken_route_leaves_the_old_model_serving(tmp_path: Path, live: Live) -> None:
    old = release(tmp_path, 1)
    live.look()
    (tmp_path / "serving" / MODEL / "routing.json").write_text("{")
    live.look()
    assert live.current is not None
    assert live.current.route == old
    assert "cannot be read as a route" in str(told(live)["error"])


def test_what_ends_takes_itself_off_the_list(live: Live) -> None:
    live.start()
    live.stop()
    assert not live.file.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"classes": ["false", "maybe", "true"], "task": "multiclass"}, "other classes", id="classes"),
        pytest.param({"features": [{"name": "weather", "kind": "number"}]}, "takes 'weather'", id="features"),
    ],
)
def test_a_challenger_that_cannot_answer_what_the_champion_is_asked_is_not_tried(
    tmp_path: Path, live: Live, changes: dict[str, Any], said: str
) -> None:
    old = release(tmp_path, 1)
    gateway, made = FolderGateway(tmp_path / "serving"), candidate("other")
    gateway.publish(made, 2, write_folder(tmp_path / "other", 0.0, **changes))
    gateway.point(MODEL, Route(old.candidate, 1, "k2", Trial(made.id, 2, 0.5)))
    live.look()
    assert live.current is not None
    assert (live.current.route.key, live.current.challenger) == ("k2", None)
    with pytest.raises(ModelUnusable, match=said):
        gateway.confirmed(MODEL)


def test_a_model_that_loads_for_long_holds_up_no_way_back(tmp_path: Path) -> None:
    opened = threading.Event()

    def loader(folder: Path) -> Predictor:
        if folder.name == candidate("model-2").id:
            opened.wait(10)
        return Line(folder)

    live = Live(tmp_path / "serving" / MODEL, loader, Counts(MODEL))
    release(tmp_path, 1)
    live.look()
    release(tmp_path, 2)
    looking = threading.Thread(target=live.look)
    looking.start()
    back = release(tmp_path, 1, key="back")
    looking.join(5)
    assert not looking.is_alive(), "the look waits for a model that nobody wants any more"
    looking = threading.Thread(target=live.look)  # it goes on to load the way back, which is the slow one
    looking.start()
    until(lambda: told(live)["key"] == "back")
    assert live.current is not None
    assert live.current.route == back
    opened.set()
    looking.join(5)
    assert not looking.is_alive()
    release(tmp_path, 2, key="again")
    live.look()
    assert live.current.route.version == 2


class Fussy:
    """A user's model that takes no nulls."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        self.asked.append(rows["distance"].to_list()[0])
        if rows["distance"].null_count():
            raise ValueError("no nulls, please")
        return np.array([[0.5, 0.5]])


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        pytest.param({}, [None, 0.0], id="without a sample: nulls, then plain values"),
        pytest.param({"sample": {"distance": 4, "carrier": "UA", "night": True}}, [4.0], id="with its sample"),
    ],
)
def test_a_model_is_warmed_before_it_answers(tmp_path: Path, changes: dict[str, object], asked: list[object]) -> None:
    fussy = Fussy()
    load_published(write_folder(tmp_path / "m", 0.0, **changes), lambda _: fussy)
    assert fussy.asked == asked


def test_a_server_that_starts_while_its_route_is_damaged_follows_the_last_one(tmp_path: Path) -> None:
    home, file = tmp_path / "serving" / MODEL, tmp_path / "serving" / MODEL / "routing.json"
    route = release(tmp_path, 1)
    before = Live(home, Line, Counts(MODEL))
    before.look()
    whole = file.read_bytes()
    file.write_bytes(b"")
    before.look()
    assert before.current is not None, "it serves on"
    after = Live(home, Line, Counts(MODEL))
    after.look()
    assert after.current is not None
    assert after.current.route == route
    assert "cannot be read as a route" in str(told(after)["error"])
    file.write_bytes(whole)
    after.look()
    assert (told(after)["error"], told(after)["key"]) == (None, route.key)


def test_a_server_that_starts_while_a_new_model_is_broken_serves_the_last_one(tmp_path: Path) -> None:
    home = tmp_path / "serving" / MODEL
    first = release(tmp_path, 1)
    Live(home, Line, Counts(MODEL)).look()
    second = release(tmp_path, 2)
    (home / second.candidate / "limit").write_text("nonsense")
    after = Live(home, Line, Counts(MODEL))
    after.look()
    assert after.current is not None
    assert after.current.route == first
    assert not FolderGateway(tmp_path / "serving").confirmed(MODEL)


@pytest.mark.parametrize("raised", [SystemExit("out"), KeyboardInterrupt()])
def test_a_loader_that_exits_is_a_broken_model(tmp_path: Path, raised: BaseException) -> None:
    def loader(_: Path) -> Predictor:
        raise raised

    release(tmp_path, 1)
    live = Live(tmp_path / "serving" / MODEL, loader, Counts(MODEL))
    live.look()
    assert live.current is None
    assert "cannot be loaded" in str(told(live)["error"])


def test_who_starts_waits_for_what_is_live_and_for_nothing_where_nothing_is(tmp_path: Path, live: Live) -> None:
    live.start()
    live.wait(30)
    assert live.current is None
    live.stop()
    release(tmp_path, 1)
    second = Live(tmp_path / "serving" / MODEL, Line, Counts(MODEL))
    second.start()
    second.wait(30)
    assert second.current is not None
    second.stop()
