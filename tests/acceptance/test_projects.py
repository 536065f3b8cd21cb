"""Whole projects as a user has them: data that nobody prepared, every role running, every command typed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl

from everfit.clock import wall
from tests.acceptance.user import User

CET = timezone(timedelta(hours=1))
ALL = 4200  # orders; the last one is of now, for what is served is of now too


def orders(first: int, many: int, *, turned: bool) -> pl.DataFrame:
    """Orders of a shop: returned when the basket is large; `turned`: when it is small."""
    chance = np.random.default_rng(first)
    basket = chance.normal(50, 15, many).round(2)
    returned = chance.random(many) < 1 / (1 + np.exp((-1 if not turned else 1) * (basket - 50) / 6))
    end = wall().astimezone(CET).replace(microsecond=0)
    at = [end - timedelta(minutes=45) * (ALL - first - n) for n in range(many)]
    return pl.DataFrame({
        "Order No": [f"A-{first + n}" for n in range(many)], "Ordered At": [moment.isoformat() for moment in at],
        "Basket Size (EUR)": [None if n % 17 == 0 else value for n, value in enumerate(basket)],
        "Shop Name": chance.choice(["Bern", "Zürich", "Lausanne, Gare"], many), "Gift?": chance.random(many) < 0.2,
        "Currency": ["CHF"] * many, "Sent Back": returned,
    })  # fmt: skip


def test_a_shop_keeps_its_model_fit_and_goes_back(tmp_path: Path) -> None:
    """Semicolons, blanks and umlauts in names, a time zone, nulls, a constant column, a target of truth values."""
    ada = User(tmp_path)
    orders(0, 1200, turned=False).write_csv(tmp_path / "orders.csv", separator=";")
    begun = ada.sees(
        "init", "shop", "--data", "orders.csv", "--time", "Ordered At", "--target", "Sent Back", "--id", "Order No"
    )
    assert (begun["task"], begun["rows"]) == ("binary", 1200)
    assert [each["ok"] for each in ada.sees("check", "-C", "shop")] == [True] * 7
    with ada.up("shop"):
        told = ada.waits("shop", lambda told: told["champion"] and told["servers"] and not told["running"])
        assert told["champion"]["version"] == 1
        assert told["champion"]["verdict"] == "better"

        second = ada.types("up", "shop")
        assert (second.code, "already runs" in second.err) == (2, True)

        order = {"Order No": "B-1", "Basket Size (EUR)": 95.0, "Shop Name": "Bern", "Gift?": False, "Currency": "CHF"}
        small = order | {"Order No": "B-2", "Basket Size (EUR)": 5.0}
        answer = ada.posts(told, "/invocations", {"dataframe_records": [order, small]})
        assert answer["predictions"] == [True, False]
        assert answer["model"]["version"] == 1
        took = ada.posts(told, "/v1/labels", [{"Order No": "B-1", "Sent Back": True}, {"Order No": "nobody's"}])
        assert (took["acknowledged"], took["refused"]) == (1, 1)

        orders(1200, 3000, turned=True).write_parquet(tmp_path / "later.parquet")
        assert ada.sees("ingest", "later.parquet", "-C", "shop")["labels"] == 3000
        ada.waits("shop", lambda told: told["intake"]["waiting"] == 0)
        ada.sees("retrain", "-C", "shop", "--why", "tastes changed")
        told = ada.waits("shop", lambda told: told["champion"]["version"] == 2 and not told["running"])
        assert told["previous"] == 1
        answer = ada.posts(told, "/invocations", {"dataframe_records": [order, small]})
        assert (answer["predictions"], answer["model"]["version"]) == ([False, True], 2)
        assert "tastes changed" in ada.types("explain", "v2", "-C", "shop").out

        back = ada.sees("rollback", "-C", "shop", "--why", "too many complaints")
        assert back == {"from": 2, "to": 1}
        answer = ada.posts(told, "/invocations", {"dataframe_records": [order]})
        assert (answer["predictions"], answer["model"]["version"]) == ([True], 1)
        nothing = ada.types("rollback", "-C", "shop")
        assert (nothing.code, "no previous champion" in nothing.err) == (2, True)
    assert [(each["version"], each["serves"]) for each in ada.sees("bench", "-C", "shop")["models"]] == [
        (1, True),
        (2, False),
    ]
    kinds = _told_and_asked_again(ada)
    assert kinds.count("WentLive") == 3
    assert ada.sees("audit", "verify", "-C", "shop")["entries"] > len(kinds)


def _told_and_asked_again(ada: User) -> list[str]:
    """The history tells what became of each trigger, and every decision in it comes out the same again."""
    told = ada.sees("history", "-C", "shop")
    assert [(each["trigger"], each["promoted"]) for each in told["triggers"]] == [("first_champion", 1), ("asked", 1)]
    assert "helped live" in ada.types("history", "-C", "shop").out
    for entry in told["entries"]:
        if entry["kind"] == "Decided":
            again = ada.sees("explain", entry["number"], "--replay", "-C", "shop")
            assert (again["agrees"], again["decision"]["number"]) == (True, entry["number"]), again["replay"]
    assert ada.types("explain", "v2", "--replay", "-C", "shop").out.endswith("agrees\n")
    return [entry["kind"] for entry in told["entries"]]


def trips(many: int, *, day_first: bool) -> pl.DataFrame:
    """Taxi rides: a fare to predict, a text class, gaps."""
    chance = np.random.default_rng(7)
    km = chance.gamma(2, 4, many)
    at = [datetime(2024, 5, 13, tzinfo=UTC) + timedelta(minutes=30 * n) for n in range(many)]
    return pl.DataFrame({
        "pickup": [moment.strftime("%d/%m/%Y %H:%M" if day_first else "%Y-%m-%d %H:%M") for moment in at],
        "km": km, "passengers": [None if n % 11 == 0 else n % 5 for n in range(many)],
        "weather": chance.choice(["dry", "rain"], many), "fare": 3 + 2.1 * km + chance.normal(0, 1, many),
        "payment": chance.choice(["card", "cash", "app"], many),
    })  # fmt: skip


def test_taxi_rides_have_a_fare_and_days_come_first(tmp_path: Path) -> None:
    """Days before months are refused with a remedy; without ids and with a quantity as target it runs."""
    bea = User(tmp_path)
    trips(1500, day_first=True).write_csv(tmp_path / "trips.csv")
    refused = bea.types("init", "taxi", "--data", "trips.csv", "--time", "pickup", "--target", "fare")
    assert refused.code == 1
    assert "write ISO text such as 2026-01-31T05:00:00Z" in refused.err
    trips(1500, day_first=False).write_csv(tmp_path / "trips.csv")
    begun = bea.sees("init", "taxi", "--data", "trips.csv", "--time", "pickup", "--target", "fare")
    assert begun["task"] == "regression"
    assert all(each["ok"] for each in bea.sees("check", "-C", "taxi"))
    with bea.up("taxi"):
        told = bea.waits("taxi", lambda told: told["champion"] and told["servers"] and not told["running"])
        ride = {"km": 10.0, "passengers": 2, "weather": "dry", "payment": "cash"}
        answer = bea.posts(told, "/v2/models/trips/infer", {"inputs": [
            {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP64", "data": [value]}
            for name, value in ride.items()
        ]})  # fmt: skip
        fare = next(output for output in answer["outputs"] if output["name"] == "predict")["data"][0]
        assert abs(fare - 24) < 4
    assert bea.sees("status", "-C", "taxi")["champion"]["version"] == 1


def test_text_classes_are_found_by_themselves(tmp_path: Path) -> None:
    bea = User(tmp_path)
    trips(600, day_first=False).write_csv(tmp_path / "trips.csv")
    begun = bea.sees("init", "pay", "--data", "trips.csv", "--time", "pickup", "--target", "payment")
    assert begun["task"] == "multiclass"
    assert bea.types("check", "-C", "pay").code == 0
