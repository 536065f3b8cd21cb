"""The model registry, MLflow: the one door to it, opened only when asked, for importing it takes seconds.

Takes candidates with their folders, metrics and tags; gives versions and aliases in MLflow's own words, so
that its pages, `mlflow models serve` and `models:/NAME@champion` work; never sends telemetry, and never
downloads anything.

A model is saved with MLflow's scikit-learn flavour where that answers as our own `Predictor` does, else as a
pyfunc that brings our loader along. Requirements are stated, not inferred: inference starts processes and
asks package indexes.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from everfit.adapters.frames import Meta, natural
from everfit.adapters.models import REVIEWED, load, read_meta
from everfit.adapters.scores import scores_of
from everfit.errors import EverfitError, ModelUnusable, Unavailable, UsageError
from everfit.observe.options import Kind
from everfit.ports import Registration

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

CANDIDATE = "everfit.candidate"  # the tag by which a candidate is found again
LIBRARIES = (
    "cloudpickle",
    "numpy",
    "pandas",
    "polars",
    "pydantic",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "skops",
)
COLUMN_TYPES = {Kind.NUMBER: "double", Kind.CATEGORY: "string", Kind.FLAG: "boolean", Kind.MOMENT: "datetime"}
COLUMN_TYPES |= {Kind.TEXT: "string"}  # and vectors are arrays of doubles
MOST_TEXT = 5000  # MLflow refuses parameters and tags that are longer
_NOT_AWAY = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"}


class MlflowRegistry:
    """An MLflow server or database. Safe from several processes; opened at the first question."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        self._uri = uri
        self._artifacts = artifacts

    def add(self, model: str, registration: Registration) -> int:
        """Register a candidate with its run, metrics, tags and signature; a known one gives its version.

        Raises:
            Unavailable: MLflow is away.
            ModelUnusable: its folder holds no model.
        """
        candidate = registration.candidate.id
        with self._asking(f"register candidate {candidate}"):
            known = self._version_of(model, candidate)
            if known is not None:
                return known
            run = self._run_of(model, registration)
            with tempfile.TemporaryDirectory() as staging:
                folder = Path(staging) / "model"
                _save(registration.folder, folder)
                self._client.log_artifacts(run, str(folder), "model")
            self._client.set_terminated(run)
            self._ensure_model(model)
            made = self._client.create_model_version(
                model, source=f"runs:/{run}/model", run_id=run, tags=_tags(registration)
            )
            return int(made.version)

    def describe(self, model: str, version: int, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Add metrics to the version's run, and tags to the version.

        Raises:
            Unavailable: MLflow is away.
        """
        with self._asking(f"describe version {version} of {model}"):
            run = str(self._client.get_model_version(model, str(version)).run_id)
            for name, value in _finite(metrics).items():
                self._client.log_metric(run, name, value)
            for name, text in tags.items():
                self._client.set_model_version_tag(model, str(version), name, text[:MOST_TEXT])

    def alias(self, model: str, names: Mapping[str, int | None]) -> None:
        """Point aliases to versions; None removes one, and removing what is not there changes nothing.

        Raises:
            Unavailable: MLflow is away.
        """
        with self._asking(f"point {', '.join(names)} of {model}"):
            there = self._aliases(model)
            for name, to in names.items():
                if to is None and name in there:
                    self._client.delete_registered_model_alias(model, name)
                elif to is not None and there.get(name) != to:
                    self._client.set_registered_model_alias(model, name, str(to))

    def aliases(self, model: str) -> dict[str, int]:
        """Where the aliases point; none for an unknown model.

        Raises:
            Unavailable: MLflow is away.
        """
        with self._asking(f"read the aliases of {model}"):
            return self._aliases(model)

    @cached_property
    def _client(self) -> MlflowClient:
        """Open the database, once for all processes: two that create its tables at the same time break it."""
        _mlflow()
        from mlflow import MlflowClient  # noqa: PLC0415 - see the head of this module

        with _alone(self._uri):
            client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
            client.search_experiments(max_results=1)
        return client

    def _aliases(self, model: str) -> dict[str, int]:
        found = self._client.search_registered_models(f"name = '{model}'")
        return {name: int(at) for each in found if each.name == model for name, at in each.aliases.items()}

    def _version_of(self, model: str, candidate: str) -> int | None:
        found = self._client.search_model_versions(f"name = '{model}' and tags.`{CANDIDATE}` = '{candidate}'")
        return min((int(each.version) for each in found), default=None)

    def _run_of(self, model: str, registration: Registration) -> str:
        """The candidate's run: the one that a broken-off attempt left, or a new one."""
        experiment = self._experiment(model)
        candidate = registration.candidate.id
        left = self._client.search_runs([experiment], f"tags.`{CANDIDATE}` = '{candidate}'", max_results=1)
        if left:
            run = left[0].info.run_id
        else:
            made = self._client.create_run(experiment, tags=_tags(registration), run_name=candidate[:8])
            run = made.info.run_id
        for name, value in registration.parameters.items():
            self._client.log_param(run, name, value[:MOST_TEXT])
        for name, number in _finite(registration.metrics).items():
            self._client.log_metric(run, name, number)
        return str(run)

    def _experiment(self, model: str) -> str:
        found = self._client.get_experiment_by_name(model)
        if found is not None:
            return str(found.experiment_id)
        with _alone(self._uri):
            found = self._client.get_experiment_by_name(model)
            if found is not None:
                return str(found.experiment_id)
            place = (self._artifacts / model).resolve().as_uri()
            return str(self._client.create_experiment(model, artifact_location=place))

    def _ensure_model(self, model: str) -> None:
        if not self._client.search_registered_models(f"name = '{model}'"):
            self._client.create_registered_model(model)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn what MLflow and the database under it raise into our words."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about type hints and versions of MLflow's own; none is the user's
                yield
        except EverfitError:
            raise
        except Exception as error:  # MLflow hands on errors of sqlite3, SQLAlchemy, requests and the disk as they are
            said = f"MLflow at {_without_secret(self._uri)} could not {what}: {type(error).__name__}: {error}"
            if getattr(error, "error_code", None) in _NOT_AWAY:
                raise UsageError(said) from error
            raise Unavailable(said) from error


def load_pyfunc(folder: Path) -> Any:
    """Load an MLflow model: something with `predict`."""
    mlflow = _mlflow()
    sys.dont_write_bytecode = True  # loading must not add files to a folder whose content is its name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about type hints and versions of MLflow's own; none is the user's
        return mlflow.pyfunc.load_model(str(folder))


def save_python_model(model: Any, folder: Path) -> None:
    """Save an `mlflow.pyfunc.PythonModel` as a folder."""
    mlflow = _mlflow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about type hints and versions of MLflow's own; none is the user's
        mlflow.pyfunc.save_model(str(folder), python_model=model, pip_requirements=_requirements("mlflow"))


class Answering:
    """What MLflow's `pyfunc` asks: `predict` of a pandas frame gives classes or values."""

    def __init__(self, folder: Path) -> None:
        self._predictor = load(folder)
        self._classes = np.array(natural(self._predictor.meta.classes))

    def predict(self, frame: pd.DataFrame, params: Mapping[str, Any] | None = None) -> Any:
        """Classes or values, one per row."""
        scores = self._predictor.score(pl.from_pandas(frame))
        return scores[:, 0] if self._predictor.meta.task == "regression" else self._classes[scores.argmax(axis=1)]


def _load_pyfunc(path: str) -> Answering:
    """What MLflow calls on a model whose `loader_module` this module is."""
    return Answering(Path(path))


def _save(kept: Path, folder: Path) -> None:
    """Write the model of a shelf's folder as an MLflow model.

    Raises:
        ModelUnusable: there is no model.
    """
    meta = read_meta(kept)
    if meta.format == "mlflow":
        _copy(kept / "mlflow", folder)
        return
    mlflow = _mlflow()
    signature = _signature(meta)
    plain = _answers_alike(kept, meta) if meta.format == "skops" else None
    if plain is not None:
        mlflow.sklearn.save_model(
            plain,
            str(folder),
            serialization_format="skops",
            skops_trusted_types=list(REVIEWED),
            signature=signature,
            pip_requirements=_requirements("scikit-learn", "skops", "numpy", "pandas"),
        )
        return
    package = Path(__file__).parents[1]
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=__name__,
        data_path=str(kept),
        code_paths=[str(package)],
        signature=signature,
        pip_requirements=_requirements("mlflow", *LIBRARIES),
    )


def _answers_alike(kept: Path, meta: Meta) -> Any | None:
    """The bare model, if it answers to a frame as MLflow hands it on (text, no categories) as ours does."""
    row = meta.sample_rows()
    if not meta.sample or row.is_empty():
        return None
    predictor, sent = load(kept), _as_sent(row, meta)
    try:
        bare = scores_of(predictor.model, sent, meta)
    except ModelUnusable:  # it may refuse text where it was trained on categories; the pyfunc serves it then
        return None
    return predictor.model if np.array_equal(bare, predictor.original(pl.from_pandas(sent))) else None


def _as_sent(row: pl.DataFrame, meta: Meta) -> pd.DataFrame:
    """A row as a client of MLflow would send it; a flag that is missing cannot be sent as a flag."""
    flags = [column.name for column in meta.features if column.kind is Kind.FLAG]
    times = [column.name for column in meta.features if column.kind is Kind.MOMENT]
    row = row.with_columns(pl.col(flags).fill_null(value=True), pl.col(times).dt.replace_time_zone(None))
    return row.to_pandas()


def _signature(meta: Meta) -> ModelSignature:
    _mlflow()
    from mlflow.models import ModelSignature  # noqa: PLC0415 - see the head of this module
    from mlflow.types import ColSpec, Schema, TensorSpec  # noqa: PLC0415 - see the head of this module
    from mlflow.types.schema import Array, DataType  # noqa: PLC0415 - see the head of this module

    kinds = {bool: "boolean", int: "long", str: "string"}
    answer = "double" if meta.task == "regression" else kinds[type(natural(meta.classes)[0])]
    types = COLUMN_TYPES | {Kind.VECTOR: Array(DataType.double)}
    columns: list[ColSpec | TensorSpec] = [ColSpec(types[column.kind], column.name) for column in meta.features]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(answer)]))


def _mlflow() -> Any:
    """Import MLflow with its telemetry off, and with its chatter about tables and Git off."""
    ours = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    for name, value in ours.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about type hints of MLflow's own, said while it is imported
        import mlflow  # noqa: PLC0415 - see the head of this module

        for flavour in ("mlflow.pyfunc", "mlflow.sklearn"):
            import_module(flavour)
    return mlflow


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Hold a lock beside a database file; a server keeps its own order."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    database = Path(uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tags(registration: Registration) -> dict[str, str]:
    candidate = registration.candidate
    ours = {
        CANDIDATE: candidate.id,
        "everfit.recipe": candidate.recipe,
        "everfit.model_file": candidate.file.key,
    }
    return ours | {name: text[:MOST_TEXT] for name, text in registration.tags.items()}


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}


def _requirements(*names: str) -> list[str]:
    return [f"{name}=={version(name)}" for name in names]


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise ModelUnusable(f"{source} is gone")
    for path in source.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())


def _without_secret(uri: str) -> str:
    """An address without the password in it."""
    before, at, after = uri.rpartition("@")
    return f"{before.split('://', 1)[0]}://…@{after}" if at else uri
