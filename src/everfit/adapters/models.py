"""Model files: writing, loading and keeping them. The one door to `skops` and `cloudpickle`.

Takes trained objects and folders; gives a `Predictor`, and a shelf that knows files by their content; never
unpickles anything from the shelf whose bytes are not the ones that were judged, and never imports MLflow
unless the model is one.

A model's folder holds `model.json` (what it is), `categories.json` (the categories that training saw) and one
of `model.skops`, `model.pickle`, `model.onnx` or `mlflow/`; of models that can be asked in a shorter way also
`judged.parquet` (see `judged`, `folding`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from everfit.adapters.folding import folded, is_foldable
from everfit.adapters.frames import Framing, Meta, categories_in
from everfit.adapters.judged import NEWEST, write_judged
from everfit.adapters.matrix import Folded
from everfit.adapters.onnx import OnnxModel, is_onnx, write_onnx
from everfit.adapters.scores import Floats, scores_of
from everfit.errors import DiskFull, EverfitError, ModelUnusable, Unavailable
from everfit.retrain.candidate import ModelFile

# Types that skops does not trust by default and that were read: they run nothing on loading. TreePredictor
# indexes nodes without bounds checks, so its bytes must be ours: the shelf verifies them before it hands out
# a path. A `partial` is as safe as the function in it, which is audited too.
REVIEWED = (
    "functools.partial",
    "numpy.asarray",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
)
Quick = Callable[[Floats, Sequence[Sequence[str | None]], Floats], Floats]
_say = logging.getLogger("everfit.models")
_SAMPLE = 50  # rows on which a loaded copy must answer as the original did


class FramePredictor:
    """A loaded model together with the frames it takes. `short` answers the same from polars rows."""

    def __init__(
        self, model: Any, meta: Meta, categories: Mapping[str, Sequence[str]], short: Folded | OnnxModel | None = None
    ) -> None:
        self.meta = meta
        self.model = model
        self.short = short
        self._framing = Framing(meta, categories)

    @property
    def quick(self) -> Quick | None:
        """Scores straight from plain values, as `Folded.quick` takes them; None where only frames are taken."""
        return None if self.short is None else self.short.quick

    def score(self, rows: pl.DataFrame) -> Floats:
        """Scores, shape (rows, classes) for classification, (rows, 1) for regression.

        Raises:
            ModelUnusable: the model cannot predict these rows.
        """
        if rows.is_empty():
            return np.zeros((0, len(self.meta.classes) or 1))
        if self.short is None:
            return self.original(rows)
        scores = self.short.score(self._framing.typed(rows))
        # What is not a number here is refused there, with the library's own words.
        return scores if np.isfinite(scores).all() else self.original(rows)

    def original(self, rows: pl.DataFrame) -> Floats:
        """As `score`, by the model as its library has it."""
        if isinstance(self.model, OnnxModel):
            return self.model.score(self._framing.typed(rows))
        return scores_of(self.model, self._framing.build(rows), self.meta)


def write_model(model: Any, folder: Path, meta: Meta, rows: pl.DataFrame, judged: pl.DataFrame | None = None) -> Meta:
    """Write what a trainer returned into a folder of its own; the meta data with the format that it took.

    skops if the model comes back the same without types that nobody reviewed, else cloudpickle. A path is
    taken for an ONNX file if it ends with .onnx, else for the folder of an MLflow model; an `onnx.ModelProto` is
    written as such a file. `rows` are the features it was trained on, the newest last; `judged` those that it will be
    judged on, of which some are kept with its scores to hold a shorter way to ask it against. Without them the newest
    of `rows` are.

    Raises:
        ModelUnusable: it cannot be written in a way that it can be read again, or cannot predict the judged rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    categories = categories_in(rows, meta.features)
    sample = rows.head(1).to_dicts()
    meta = replace(meta, sample={c.name: _plain(sample[0][c.name]) for c in meta.features} if sample else {})
    framing = Framing(meta, categories)
    probe = framing.build(rows.head(_SAMPLE))
    if is_onnx(model):
        write_onnx(model, folder, meta)
        meta = replace(meta, format="onnx", note="an ONNX model that the trainer made")
    elif isinstance(model, str | os.PathLike):
        meta = _copy_mlflow(Path(model), folder, meta)
    elif _is_python_model(model):
        import cloudpickle  # noqa: PLC0415 - only models that need it pay for it

        from everfit.adapters.registry import save_python_model  # noqa: PLC0415 - MLflow takes seconds to import

        with _by_value(cloudpickle):
            save_python_model(model, folder / "mlflow")
        meta = replace(meta, format="mlflow", note="an MLflow PythonModel")
    else:
        why = _write_skops(model, folder / "model.skops", meta, probe)
        meta = replace(meta, format="skops") if why is None else _write_pickle(model, folder, meta, why)
        if is_foldable(model, meta, categories):
            kept = rows.tail(NEWEST) if judged is None or judged.is_empty() else judged
            write_judged(model, folder, meta, framing, kept)
    (folder / "categories.json").write_text(json.dumps(categories, ensure_ascii=False))
    (folder / "model.json").write_text(meta.to_json())
    return meta


def read_meta(folder: Path) -> Meta:
    """Read `model.json` of a model's folder.

    Raises:
        ModelUnusable: it is not there or not ours.
    """
    try:
        return Meta.from_json((folder / "model.json").read_text())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnusable(f"{folder} holds no model that Everfit wrote: {error}") from error


def load(folder: Path) -> FramePredictor:
    """Load a model. Unpickling runs code: hand in only folders that `Shelf.path` gave, or copies of them.

    Raises:
        ModelUnusable: it cannot be loaded.
    """
    meta = read_meta(folder)
    try:
        categories = json.loads((folder / "categories.json").read_text())
        model = _load_object(folder, meta)
        short: Folded | OnnxModel | None
        short, how = folded(model, folder, meta, Framing(meta, categories))
        if isinstance(model, OnnxModel):
            short, how = model, model.form
        answers = "the original" if short is None else "a shorter way"
        _say.info("model loaded", extra={"model": folder.name, "answers": answers, "how": how})
        return FramePredictor(model, meta, categories, short)
    except EverfitError:
        raise
    except Exception as error:  # unpickling runs the user's code, which may raise anything
        raise ModelUnusable(f"the model in {folder} cannot be loaded: {type(error).__name__}: {error}") from error


class Shelf:
    """The shelf of model files, by content: `<root>/<key>/`. Safe from several processes and threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._verified: set[str] = set()

    def keep(self, folder: Path, format: str) -> ModelFile:
        """Copy a model's folder onto the shelf; known content is a no-op.

        Raises:
            DiskFull: there is no space for it; nothing is kept.
        """
        key, size = folder_key(folder)
        file = ModelFile(key, format, size)
        place = self._root / key
        if self._holds(key):
            return file
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".arriving-", dir=self._root) as staging:
                arriving = Path(staging) / key
                _copy(folder, arriving)
                if place.exists() and not self._holds(key):  # damaged: the same content comes in its place
                    shutil.rmtree(place)
                arriving.rename(place)
        except OSError as error:
            if not self._holds(key):  # unless another process was quicker with the same content
                raise _away(error, self._root) from error
        return file

    def path(self, file: ModelFile) -> Path:
        """Where it lies, after its bytes were compared with its key once in this process.

        Raises:
            ModelUnusable: it is gone, or its bytes are not the ones that were judged.
        """
        place = self._root / file.key
        if not place.is_dir():
            raise ModelUnusable(f"the model file {file.key} is gone from {self._root}; restore it or retrain")
        if file.key not in self._verified:
            found = folder_key(place)[0]
            if found != file.key:
                raise ModelUnusable(
                    f"the bytes in {place} are not the ones that were judged (they are {found}); it is not loaded"
                )
            self._verified.add(file.key)
        return place

    def _holds(self, key: str) -> bool:
        place = self._root / key
        return place.is_dir() and folder_key(place)[0] == key

    def drop(self, file: ModelFile) -> None:
        """Remove it; a no-op if it is gone."""
        self._verified.discard(file.key)
        place = self._root / file.key
        if place.exists():
            going = Path(tempfile.mkdtemp(prefix=".leaving-", dir=self._root)) / file.key
            place.rename(going)  # at once gone for others, then removed file by file
            shutil.rmtree(going.parent)


def folder_key(folder: Path) -> tuple[str, int]:
    """Name a folder by the paths and bytes of its files; also their size together."""
    digest, size = blake2b(digest_size=16), 0
    for path in _files(folder):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
        size += len(content)
    return digest.hexdigest(), size


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _copy(source: Path, target: Path) -> None:
    for path in _files(source):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        with place.open("rb") as copied:
            os.fsync(copied.fileno())


def _away(error: OSError, root: Path) -> EverfitError:
    if error.errno == 28:  # ENOSPC
        return DiskFull(f"no space left for a model under {root}: {error}")
    return Unavailable(f"the shelf of models {root} does not answer: {error}")


def _load_object(folder: Path, meta: Meta) -> Any:
    match meta.format:
        case "skops":
            return _read_skops(folder / "model.skops")
        case "cloudpickle":
            import cloudpickle  # noqa: PLC0415 - only models that need it pay for it

            return cloudpickle.loads((folder / "model.pickle").read_bytes())
        case "mlflow":
            from everfit.adapters.registry import load_pyfunc  # noqa: PLC0415 - MLflow takes seconds to import

            return load_pyfunc(folder / "mlflow")
        case "onnx":
            return OnnxModel(folder, meta)
        case _:
            raise ModelUnusable(f"{folder / 'model.json'} names the unknown format {meta.format!r}")


def _write_skops(model: Any, path: Path, meta: Meta, probe: Any) -> str | None:
    """None if the model was written and came back the same; else why not, and nothing is left."""
    import skops.io  # noqa: PLC0415 - a second of imports that only writing and loading skops files needs

    try:
        skops.io.dump(model, path)
        unread = sorted(set(skops.io.get_untrusted_types(file=path)) - set(REVIEWED))
        if unread:
            why = f"skops would have to trust {', '.join(unread[:3])}"
        else:
            _settle(path)
            same = np.array_equal(scores_of(_read_skops(path), probe, meta), scores_of(model, probe, meta))
            why = "" if same else "its copy through skops predicted something else"
    except ModelUnusable:
        path.unlink(missing_ok=True)
        raise
    except Exception as error:  # skops meets any object here and may fail in any way; cloudpickle is tried next
        why = f"skops cannot hold it: {type(error).__name__}: {error}"
    if why:
        path.unlink(missing_ok=True)
    return why or None


def _read_skops(path: Path) -> Any:
    import skops.io  # noqa: PLC0415 - see _write_skops

    unread = sorted(set(skops.io.get_untrusted_types(file=path)) - set(REVIEWED))
    if unread:
        raise ModelUnusable(f"{path} holds types that nobody reviewed: {', '.join(unread[:3])}")
    return skops.io.load(path, trusted=list(REVIEWED))


def _settle(path: Path) -> None:
    """Write a skops file anew so that equal models have equal bytes.

    skops names things by their memory address and the hour: here they are numbered in the order in which they
    come.
    """
    numbers: dict[str, int] = {}
    files: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return f'"__id__": {numbers.setdefault(match[1], len(numbers))}'

    def name(match: re.Match[str]) -> str:
        return f'"file": "{files.setdefault(match[1], f"{len(files)}{Path(match[1]).suffix}")}"'

    with zipfile.ZipFile(path) as old:
        schema = re.sub(r"\n *", "", old.read("schema.json").decode())  # text in JSON has no bare line ends
        schema = re.sub(r'"__id__": (\d+)', number, schema)
        schema = re.sub(r'"file": "([^"]+)"', name, schema)
        entries = [("schema.json", schema.encode()), *((new, old.read(was)) for was, new in files.items())]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new_zip:
        for entry, content in entries:
            new_zip.writestr(zipfile.ZipInfo(entry), content, compress_type=zipfile.ZIP_DEFLATED, compresslevel=1)


def _write_pickle(model: Any, folder: Path, meta: Meta, why: str) -> Meta:
    import cloudpickle  # noqa: PLC0415 - only models that need it pay for it

    try:
        with _by_value(cloudpickle):
            written = cloudpickle.dumps(model)
        cloudpickle.loads(written)
    except Exception as error:  # pickling runs the user's code, which may raise anything
        raise ModelUnusable(
            f"a {type(model).__name__} cannot be saved ({type(error).__name__}: {error}); "
            "return a model that pickles, or the path of an MLflow model"
        ) from error
    (folder / "model.pickle").write_bytes(written)
    return replace(meta, format="cloudpickle", note=why)


@contextmanager
def _by_value(cloudpickle: ModuleType) -> Iterator[None]:
    """Pickle what the project's own modules define with its code: where it serves, they are not there."""
    packages = tuple(str(Path(place).resolve()) for place in sys.path if place.endswith(("-packages", ".zip")))
    here = str(Path.cwd().resolve()) + os.sep
    own = [
        module
        for name, module in list(sys.modules.items())
        if name not in {"__main__", "everfit"}
        and not name.startswith("everfit.")
        and (file := getattr(module, "__file__", None))
        and file.startswith(here)
        and not file.startswith(packages or "\0")
    ]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _copy_mlflow(source: Path, folder: Path, meta: Meta) -> Meta:
    if not (source / "MLmodel").is_file():
        raise ModelUnusable(f"the trainer returned the path {source}, and no MLflow model is there (no MLmodel file)")
    _copy(source, folder / "mlflow")
    return replace(meta, format="mlflow", note="an MLflow model that the trainer wrote")


def _is_python_model(model: Any) -> bool:
    return any(base.__name__ == "PythonModel" and base.__module__.startswith("mlflow.") for base in type(model).__mro__)


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
