"""What a backtest says of a spec is what `everfit up` does with it: the demo's flights through both."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from everfit.app import open_app
from everfit.client import Client
from everfit.demo import stage
from everfit.demo.drive import TRAINING, replay, slots
from everfit.demo.flights import FEATURES, PARAMETERS, read_flights
from everfit.demo.run import BEGIN
from everfit.facts import RecipeChosen
from everfit.replay.live import Place, live
from everfit.spec import parse_spec
from everfit.standing import Standing

DAYS = 75  # of the demo's year: five bench windows decide nothing, twenty-five do
SPEC = f"""
model: flight-delay
task: binary
target: late
time: scheduled
id: flight_id
observe: {{window: 1d, labels_mature_after: 1d}}
train: {{parameters: {json.dumps(PARAMETERS)}}}
judge: {{holdout: 7d, gap: 1d}}
"""

pytestmark = pytest.mark.timeout(900)


def test_the_same_decisions_models_and_releases(tmp_path: Path) -> None:
    until = BEGIN + timedelta(days=DAYS)
    flights = read_flights().filter(pl.col("scheduled") < until)
    said, did = _backtest(flights, tmp_path / "backtest"), _up(flights, tmp_path / "up")
    end = until - timedelta(days=2)  # the last days' labels come when the rows end in one, and never in the other
    assert _decisions(said, end) == _decisions(did, end)
    assert _releases(said, end) == _releases(did, end)
    assert _trained(said, end) == _trained(did, end)
    kinds = {kind for _, kind, _ in _decisions(did, end)}
    assert {"retrain", "recall"} <= kinds


def _backtest(flights: pl.DataFrame, folder: Path) -> Standing:
    """As `everfit backtest --spec` plays a spec."""
    rows = flights.select("flight_id", "scheduled", *FEATURES, "late")
    return live(rows, parse_spec(SPEC), Place(folder, folder / "cache", begin=BEGIN)).standing


def _up(flights: pl.DataFrame, folder: Path) -> Standing:
    """As `everfit demo` does it: January as two files, then the days over HTTP."""
    stage.prepare(folder)
    (folder / "everfit.yaml").write_text(SPEC)
    with stage.running(folder) as playing, Client(playing.url, TRAINING) as client:
        past = flights.filter(pl.col("scheduled") < BEGIN)
        past.select("flight_id", "scheduled", *FEATURES).write_parquet(folder / "january.parquet")
        known = past.filter(pl.col("landed") < BEGIN).select("flight_id", "late", time="landed")
        known.write_parquet(folder / "labels.parquet")
        playing.everfit("ingest", str(folder / "january.parquet"), "--as", "predictions")
        told = json.loads(playing.everfit("ingest", str(folder / "labels.parquet"), "--as", "labels", "--json"))
        client.settle(told["number"], TRAINING)
        replay(client, slots(flights, BEGIN, BEGIN + timedelta(days=DAYS)), lambda _: None)
        return open_app(folder).standing()


def _decisions(standing: Standing, end: datetime) -> list[tuple[object, str, list[str]]]:
    """What was decided, when, and the sentences; not what waited."""
    acted = [(at, each) for at, _, each in standing.decisions if each.kind in ("retrain", "recall") and at < end]
    return [(at, each.kind, [reason.said for reason in each.because]) for at, each in acted]


def _releases(standing: Standing, end: datetime) -> list[tuple[object, int]]:
    return [(at, fact.version) for at, fact in standing.releases if at < end]


def _trained(standing: Standing, end: datetime) -> list[tuple[str, str]]:
    """The rows of every training run."""
    chosen = [story.find(RecipeChosen) for story in standing.stories.values() if story.times[0] < end]
    return [(str(each.recipe.train), str(each.recipe.holdout)) for each in chosen if each is not None]
