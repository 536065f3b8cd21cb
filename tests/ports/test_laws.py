"""The published laws, kept by every adapter and by the fakes alike."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from sklearn.linear_model import LogisticRegression

from everfit.adapters.frames import Meta, features_in
from everfit.adapters.gateway import FolderGateway
from everfit.adapters.journal import SqliteJournal
from everfit.adapters.lake import DeltaLake
from everfit.adapters.models import Shelf, write_model
from everfit.adapters.registry import MlflowRegistry
from everfit.adapters.store import SqlStore
from everfit.checks import Book, Law, check_gateway, check_journal, check_lake, check_ledger, check_registry
from everfit.observe.schema import Schema
from everfit.ports import Registration
from everfit.retrain.candidate import Candidate
from everfit.testing import MemoryGateway, MemoryJournal, MemoryLake, MemoryLedger, MemoryRegistry
from tests.ports import postgres
from tests.unit.serve.fakes import candidate, write_folder

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


class Place:
    """Where the law that runs now keeps its files; laws are collected before there is any place."""

    folder: Path
    stack: ExitStack
    ask: pytest.FixtureRequest


HERE = Place()
NUMBERS = count()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    HERE.folder, HERE.ask = tmp_path, request
    with ExitStack() as stack, chdir(tmp_path):  # MLflow's own defaults write into the folder it is called from
        HERE.stack = stack
        yield


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres.server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of MLflow's, made once: it takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", folder).aliases("nothing")
    return folder / "mlflow.db"


def book_in(url: str) -> Book:
    store = SqlStore(url)
    HERE.stack.callback(store.close)
    return Book(store, store)


def sqlite() -> Book:
    return book_in(f"sqlite:///{HERE.folder / 'ledger.db'}")


def postgresql() -> Book:
    name, server = f"law{next(NUMBERS)}", HERE.ask.getfixturevalue("database")
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return book_in(server.replace("/postgres?", f"/{name}?"))


def in_memory() -> Book:
    ledger = MemoryLedger()
    return Book(ledger, ledger.leases)


def sqlite_journal() -> SqliteJournal:
    journal = SqliteJournal(HERE.folder / "journal.db")
    HERE.stack.callback(journal.close)
    return journal


def mlflow_registry() -> MlflowRegistry:
    shutil.copy(HERE.ask.getfixturevalue("mlflow"), HERE.folder / "mlflow.db")
    return MlflowRegistry(f"sqlite:///{HERE.folder / 'mlflow.db'}", HERE.folder / "artifacts")


def registrations() -> list[Registration]:
    """One model, trained by two recipes."""
    rows = pl.DataFrame({"price": [0.0, 1.0, 2.0, 3.0]})
    meta = Meta("binary", features_in(rows), ("0", "1"), "1")
    model = LogisticRegression().fit(rows.to_pandas(), [0, 0, 1, 1])
    shelf, folder = Shelf(HERE.folder / "shelf"), HERE.folder / "made"
    file = shelf.keep(folder, write_model(model, folder, meta, rows).format)
    schema, day = Schema(meta.features, meta.classes), datetime(2013, 2, 1, tzinfo=UTC)
    made = [Candidate(recipe, file, "binary", schema, meta.classes, "1", day, 4) for recipe in ("r1", "r2")]
    return [Registration(each, shelf.path(file), {"seed": "0"}, {"rows": 4.0}, {"data": "3/3"}) for each in made]


def models() -> Sequence[tuple[Candidate, Path]]:
    return [(candidate(name), write_folder(HERE.folder / "shelf" / name, 0.0)) for name in ("c1", "c2")]


def named(make: Callable[[], object], laws: Sequence[Law], *marks: pytest.MarkDecorator) -> list[object]:
    """Laws as cases that say which adapter keeps them."""
    return [pytest.param(law, id=f"{make.__name__}: {law}", marks=marks) for law in laws]


def delta_lake() -> DeltaLake:
    return DeltaLake(str(HERE.folder / "lake"))


def folder_gateway() -> FolderGateway:
    return FolderGateway(HERE.folder / "serving")


@pytest.mark.parametrize(
    "law",
    [
        *named(in_memory, check_ledger(in_memory)),
        *named(sqlite, check_ledger(sqlite)),
        *named(postgresql, check_ledger(postgresql), pytest.mark.postgres),
        *named(MemoryLake, check_lake(MemoryLake)),
        *named(delta_lake, check_lake(delta_lake)),
        *named(MemoryJournal, check_journal(MemoryJournal)),
        *named(sqlite_journal, check_journal(sqlite_journal)),
        *named(MemoryRegistry, check_registry(MemoryRegistry, registrations)),
        *named(mlflow_registry, check_registry(mlflow_registry, registrations)),
        *named(MemoryGateway, check_gateway(MemoryGateway, models)),
        *named(folder_gateway, check_gateway(folder_gateway, models)),
    ],
)
def test_the_law_is_kept(law: Law) -> None:
    law()
