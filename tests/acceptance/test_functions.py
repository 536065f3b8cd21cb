"""A project with a metric and a trigger of the user's own, beside the spec that names them."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.test_projects import orders
from tests.acceptance.user import User

TRAIN = '''
"""What this shop knows better than anybody."""


def saved(truth, scores):
    """Money that a row brought: eight for a return that was foreseen, three lost for one that was not meant."""
    called, came = scores >= 0.5, truth == 1
    return float((8 * (called & came) - 3 * (called & ~came)).mean())


def new_collection(past, now):
    """Train once more as soon as the first champion serves."""
    if past.champion is None:
        return None
    return "the winter collection is in" if len(past.runs) == 1 else False
'''

MORE = """
watch: {metrics: [{function: train:saved, name: money}]}
triggers: [{name: collection, function: train:new_collection}]
decide: {cool_down: 1s}
"""


def test_ones_own_metric_is_proven_and_ones_own_trigger_retrains(tmp_path: Path) -> None:
    cyd = User(tmp_path)
    orders(0, 1200, turned=False).write_csv(tmp_path / "orders.csv", separator=";")
    cyd.sees(
        "init", "shop", "--data", "orders.csv", "--time", "Ordered At", "--target", "Sent Back", "--id", "Order No"
    )
    spec = tmp_path / "shop" / "everfit.yaml"
    spec.write_text(spec.read_text() + MORE)
    nowhere = cyd.types("check", "-C", "shop")
    assert nowhere.code != 0
    assert "train.py" in nowhere.out + nowhere.err
    (tmp_path / "shop" / "train.py").write_text(TRAIN)
    with cyd.up("shop"):
        told = cyd.waits("shop", lambda told: told["runs"] == 2 and not told["running"])
    assert told["champion"]["proven"]["money"] > 1
    assert (told["decision"]["kind"], told["champion"]["version"]) == ("retrain", 1)
    assert "the winter collection is in" in str(told["decision"])
    assert "money" in str(cyd.sees("explain", "v1", "-C", "shop"))
    history = cyd.sees("history", "-C", "shop")
    assert [(each["trigger"], each["runs"]) for each in history["triggers"]] == [
        ("first_champion", 1),
        ("collection", 1),
    ]
    decided = next(e for e in history["entries"] if e["kind"] == "Decided" and "winter" in e["said"])
    again = cyd.sees("explain", decided["number"], "--replay", "-C", "shop")
    assert again["agrees"] is True, again["replay"]
    assert not (tmp_path / "shop" / "__pycache__").exists()
