"""What a proof leaves behind: usual windows, a baseline, importances; for every task, and from few rows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from everfit.detect.backdrop import Backdrop
from everfit.detect.estimate import Estimator
from everfit.detect.usual import Usual
from everfit.flows.proof import FEATURES, SCORES, Proving, backdrop
from everfit.profile.table import Profile
from everfit.retrain.candidate import Candidate, ModelFile
from everfit.spec import Spec, parse_spec
from everfit.testing import MemoryNotes
from tests.unit.flows.served import Served
from tests.world import DAY0, SCHEMA, SPEC, rows

DAY = timedelta(days=1)
FILE = ModelFile("a", "memory", 0)


def labelled(first: int, many: int) -> pl.DataFrame:
    """Rows of the lake with their labels: two classes by `late`, three by `shop`, a value by `strong`."""
    frame = rows(first, many)
    return frame.select(
        _id="flight", _time=pl.col("at").cast(pl.Datetime("us", "UTC")), weak="weak", strong="strong", idle="idle",
        shop="shop", _label=pl.col("late").cast(pl.String), _value=2 * pl.col("strong") + pl.col("idle"),
        _score=pl.lit(None, dtype=pl.List(pl.Float64)), _prediction=pl.lit(None, dtype=pl.String),
    )  # fmt: skip


def binary(frame: pl.DataFrame) -> pl.DataFrame:
    late = 1 / (1 + (-pl.col("strong")).exp())
    return frame.with_columns(
        _score=pl.concat_list(1 - late, late), _prediction=(pl.col("strong") > 0).cast(pl.Int8).cast(pl.String)
    )


def of_shops(frame: pl.DataFrame) -> pl.DataFrame:
    sure = [pl.when(pl.col("shop") == name).then(0.6).otherwise(0.2).alias(name) for name in "abc"]
    return frame.with_columns(_label=pl.col("shop"), _score=pl.concat_list(*sure), _prediction=pl.col("shop"))


def of_values(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(_score=pl.concat_list(2 * pl.col("strong")), _label=pl.lit(None, dtype=pl.String))


def proved(
    scored: pl.DataFrame, spec: Spec, train: int = 32, classes: tuple[str, ...] = ("0", "1")
) -> tuple[Backdrop, MemoryNotes, str]:
    """The backdrop of a proof, its notes and the key of the reference."""
    positive = classes[-1] if spec.task == "binary" else None
    made = Candidate("c", FILE, spec.task, SCHEMA, classes, positive, DAY0 + train * DAY, train * 30)
    notes = MemoryNotes()
    key, found = backdrop(Proving(labelled(0, train), scored, made), spec, notes, {"strong": 1.0})
    return found, notes, key


def usual(found: Backdrop, notes: MemoryNotes) -> dict[str, int]:
    """How many healthy windows each monitor knows."""
    return {name: Usual.from_bytes(notes.get(key)).windows for name, key in found.usual.items()}


def test_a_champion_in_the_ledger_has_all_of_it(tmp_path: Path) -> None:
    champion = Served(tmp_path).now.champion
    assert champion is not None
    found = champion.backdrop
    assert max(found.importance, key=lambda name: found.importance[name]) == "strong"
    assert sum(found.importance.values()) == pytest.approx(1)
    assert set(found.importance) == set(SCHEMA.names())
    assert found.baseline is not None
    assert (found.baseline.metric, found.baseline.windows) == ("roc_auc", 8)
    assert found.baseline.learning == "8 of 30 healthy windows"
    assert found.estimator is not None


@pytest.mark.parametrize(
    "task, classes, score, metric",
    [
        pytest.param("binary", ("0", "1"), binary, "roc_auc", id="two classes"),
        pytest.param("multiclass", ("a", "b", "c"), of_shops, "log_loss", id="three classes"),
        pytest.param("regression", (), of_values, "mae", id="a value"),
    ],
)
def test_every_task_has_one(task: str, classes: tuple[str, ...], score: object, metric: str) -> None:
    assert callable(score)
    spec = parse_spec(SPEC.replace("task: binary", f"task: {task}"))
    found, notes, key = proved(score(labelled(32, 8)), spec, classes=classes)
    assert usual(found, notes) == {FEATURES: 40, SCORES: 8}
    assert found.baseline is not None
    assert (found.baseline.metric, found.baseline.windows) == (metric, 8)
    assert found.estimator is not None
    assert Estimator.from_bytes(notes.get(found.estimator)).task == task
    assert Profile.from_bytes(notes.get(key)).rows == 240  # the proving rows alone
    assert "*" in found.crowds


def test_windows_that_were_named_ahead_are_not_what_is_usual() -> None:
    named = "watch: {at_least: 20, expected: [{name: sale, from: 2013-01-11, to: 2013-01-13}"
    named += ", {name: fair, from: 2013-02-05, to: 2013-02-06}]}"  # two training days and one that proved
    spec = parse_spec(SPEC.replace("watch: {at_least: 20}", named))
    found, notes, _ = proved(binary(labelled(32, 8)), spec)
    assert usual(found, notes) == {FEATURES: 37, SCORES: 7}
    assert found.baseline is not None
    assert found.baseline.windows == 7
    strange = pl.when(pl.col("_time").is_between(DAY0 + 35 * DAY, DAY0 + 36 * DAY)).then(None).otherwise("weak")
    broken = binary(labelled(32, 8)).with_columns(weak=strange)
    plain = parse_spec(SPEC)
    with_it, without = (proved(broken, each)[0].worst["quality.nulls"]["weak"] for each in (plain, spec))
    assert with_it > 0.5 > without


def test_a_window_that_an_event_touches_is_held_to_nothing_and_so_says_nothing() -> None:
    """The watch leaves such windows out, so what is usual is not learned from them either."""
    named = "watch: {at_least: 20, expected: [{name: fair, from: '2013-02-05T18:00Z', to: '2013-02-06T06:00Z'}]}"
    found, notes, _ = proved(binary(labelled(32, 8)), parse_spec(SPEC.replace("watch: {at_least: 20}", named)))
    assert usual(found, notes) == {FEATURES: 38, SCORES: 6}


def test_windows_of_rows_have_no_place_in_a_week() -> None:
    spec = parse_spec(SPEC.replace("window: 1d", "window: {rows: 40}"))
    found, notes, _ = proved(binary(labelled(32, 8)), spec)
    assert usual(found, notes) == {FEATURES: 30, SCORES: 6}
    assert found.baseline is not None
    assert (found.baseline.windows, found.baseline.usual) == (6, 40)
    assert found.baseline.offsets == (0.0,)


@pytest.mark.parametrize("many", [0, 1, 3, 4, 5, 17, 29])
def test_from_a_handful_of_rows_nothing_is_known_and_nothing_breaks(many: int) -> None:
    found, notes, _ = proved(binary(labelled(32, 1).head(many)), parse_spec(SPEC))
    assert found.baseline is None
    assert FEATURES in usual(found, notes)


def test_fewer_than_five_windows_are_cut_into_five_parts() -> None:
    found, notes, _ = proved(binary(labelled(32, 4)), parse_spec(SPEC))
    assert found.baseline is not None
    assert (found.baseline.windows, found.baseline.rows, found.baseline.usual) == (5, 120, 24)
    assert found.baseline.learning == "5 of 30 healthy windows"
    assert usual(found, notes)[SCORES] == 4


@pytest.mark.parametrize("train", [0, 1, 2, 9])
def test_few_windows_behind_a_champion_are_a_short_history(train: int) -> None:
    found, notes, _ = proved(binary(labelled(train, 1)), parse_spec(SPEC), train=train)
    assert usual(found, notes) == {FEATURES: train + 1, SCORES: 1}
    assert ("*" in found.crowds) == (train == 9)  # ten windows say how far days lie apart


def test_rows_too_few_for_any_window_leave_the_history_empty() -> None:
    spec = parse_spec(SPEC.replace("at_least: 20", "at_least: 2000"))
    found, _, key = proved(binary(labelled(32, 8)), spec)
    assert found.usual == {}
    assert found.crowds == {}
    assert found.baseline is not None  # the rows are enough, cut into parts
    assert key
