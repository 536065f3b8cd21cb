"""MLflow as the registry: what is registered can be looked up, loaded and served by MLflow's own means."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import chdir
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from everfit.adapters.boosting import gradient_boosting
from everfit.adapters.frames import Framing, Meta, categories_in, features_in
from everfit.adapters.models import Shelf, load, write_model
from everfit.adapters.registry import MlflowRegistry, load_pyfunc
from everfit.clock import ticks
from everfit.errors import Unavailable, UsageError
from everfit.observe.schema import Schema
from everfit.ports import Registration
from everfit.retrain.candidate import Candidate

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


def some_rows(many: int) -> pl.DataFrame:
    chance = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "price": chance.normal(size=many),
            "shop": chance.choice(["a", "b", "c"], many),
            "open": chance.random(many) > 0.5,
        }
    )


def of_the_default_trainer(frame: pd.DataFrame) -> object:
    return gradient_boosting(frame, target="late", seed=0, task="binary", max_iter=10)


def with_category_types(frame: pd.DataFrame) -> object:
    model = HistGradientBoostingClassifier(max_iter=10, categorical_features="from_dtype")
    return model.fit(frame.drop(columns="late"), frame["late"])


class Pricey:
    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.where(frame["price"] > 0, 1, 0)


def of_a_class_of_its_own(frame: pd.DataFrame) -> object:
    return Pricey()


Trainer = Callable[[pd.DataFrame], object]


@pytest.fixture
def registration(tmp_path: Path) -> Callable[[Trainer], Registration]:
    def build(trainer: Trainer) -> Registration:
        rows = some_rows(300)
        meta = Meta("binary", features_in(rows), ("0", "1"), "1")
        frame = Framing(meta, categories_in(rows, meta.features)).build(rows)
        assert isinstance(frame, pd.DataFrame)
        late = (rows["price"] > 0).cast(pl.Int64).to_numpy()
        model = trainer(frame.assign(late=late))
        shelf, folder = Shelf(tmp_path / "shelf"), tmp_path / trainer.__name__
        file = shelf.keep(folder, write_model(model, folder, meta, rows).format)
        day = datetime(2013, 2, 1, tzinfo=UTC)
        candidate = Candidate("r1", file, "binary", Schema(meta.features, meta.classes), meta.classes, "1", day, 300)
        return Registration(candidate, shelf.path(file), {"seed": "0"}, {"roc_auc": 0.9}, {"data": "3/3"})

    return build


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[MlflowRegistry]:
    (tmp_path / "elsewhere").mkdir()
    with chdir(tmp_path / "elsewhere"):  # MLflow's own defaults write into the folder it is called from
        yield MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")


def loaded(tmp_path: Path, where: str) -> Any:
    mlflow = import_module("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    return mlflow.pyfunc.load_model(where)


@pytest.mark.parametrize(
    ("trainer", "flavour"),
    [
        pytest.param(of_the_default_trainer, "mlflow.sklearn", id="the default trainer's, as scikit-learn"),
        pytest.param(with_category_types, "mlflow.sklearn", id="one that was trained on category types"),
        pytest.param(of_a_class_of_its_own, "everfit.adapters.registry", id="one of a class of its own"),
    ],
)
def test_a_registered_model_is_loaded_by_its_alias_and_predicts(
    registry: MlflowRegistry,
    registration: Callable[[Trainer], Registration],
    tmp_path: Path,
    trainer: Trainer,
    flavour: str,
) -> None:
    told = registration(trainer)
    version = registry.add("delay", told)
    registry.alias("delay", {"champion": version})
    model = loaded(tmp_path, "models:/delay@champion")
    assert model.metadata.flavors["python_function"]["loader_module"] == flavour
    rows = some_rows(50)
    answered = model.predict(rows.to_pandas())
    assert list(answered) == load(told.folder).score(rows).argmax(axis=1).tolist()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_known_candidate_gives_its_version_again_and_a_second_registration_is_quick(
    registry: MlflowRegistry, registration: Callable[[Trainer], Registration]
) -> None:
    first, second = registration(of_the_default_trainer), registration(of_a_class_of_its_own)
    assert registry.add("delay", first) == 1
    since = ticks()
    assert registry.add("delay", second) == 2
    assert ticks() - since < 10  # alone it takes half a second; the limit leaves room for a busy machine
    assert registry.add("delay", first) == 1


def test_aliases_move_and_are_removed(
    registry: MlflowRegistry, registration: Callable[[Trainer], Registration]
) -> None:
    registry.add("delay", registration(of_a_class_of_its_own))
    registry.add("delay", registration(of_the_default_trainer))
    registry.alias("delay", {"champion": 1, "challenger": 2})
    registry.alias("delay", {"champion": 2, "previous": 1, "challenger": None, "nobody": None})
    assert registry.aliases("delay") == {"champion": 2, "previous": 1}
    assert registry.aliases("unknown") == {}


def test_metrics_and_tags_are_added(
    registry: MlflowRegistry, registration: Callable[[Trainer], Registration], tmp_path: Path
) -> None:
    told = registration(of_a_class_of_its_own)
    registry.add("delay", told)
    registry.describe("delay", 1, {"log_loss": 0.3, "undefined": float("nan")}, {"verdict": "better"})
    client = import_module("mlflow").MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    found = client.get_model_version("delay", "1")
    assert {
        "everfit.candidate": told.candidate.id,
        "verdict": "better",
        "data": "3/3",
    }.items() <= found.tags.items()
    assert found.run_id is not None
    run = client.get_run(found.run_id)
    assert (run.data.metrics, run.data.params) == ({"roc_auc": 0.9, "log_loss": 0.3}, {"seed": "0"})
    assert run.info.status == "FINISHED"


def test_a_database_that_is_away_is_unavailable(
    tmp_path: Path, registration: Callable[[Trainer], Registration]
) -> None:
    (tmp_path / "file").write_text("")
    away = MlflowRegistry(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path / "artifacts")
    with pytest.raises(Unavailable, match="MLflow at sqlite:///"):
        away.aliases("delay")
    (tmp_path / "foreign.db").write_text("this is no database " * 100)
    with pytest.raises(Unavailable, match="could not register candidate"):
        MlflowRegistry(f"sqlite:///{tmp_path}/foreign.db", tmp_path).add("delay", registration(of_a_class_of_its_own))


def test_a_version_that_is_not_there_is_wrong_use(registry: MlflowRegistry) -> None:
    with pytest.raises(UsageError, match="describe version 7"):
        registry.describe("delay", 7, {}, {})


def test_an_mlflow_model_goes_through_the_shelf_and_comes_back(tmp_path: Path) -> None:
    python_model: Any = import_module("mlflow.pyfunc").PythonModel

    class Always(python_model):  # type: ignore[misc]  # its base is Any
        def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> list[float]:
            return [0.25] * len(model_input)

    rows = some_rows(20)
    meta = write_model(Always(), tmp_path / "first", Meta("binary", features_in(rows), ("0", "1"), "1"), rows)
    assert meta.format == "mlflow"
    assert load(tmp_path / "first").score(rows)[0].tolist() == [0.75, 0.25]
    again = write_model(tmp_path / "first" / "mlflow", tmp_path / "second", meta, rows)
    assert again.format == "mlflow"
    assert list(load_pyfunc(tmp_path / "second" / "mlflow").predict(rows.to_pandas())) == [0.25] * 20
