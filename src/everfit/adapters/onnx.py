"""Models in ONNX, run by onnxruntime without pandas and without the library that trained them. The one door to it.

Takes a file and what is known of the model; gives scores from polars rows or plain values; never guesses what an input
means: it is one matrix of all numbers, or one input for each feature by its name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from everfit.adapters.frames import Meta, class_text
from everfit.adapters.matrix import plain_values
from everfit.adapters.scores import Floats, scores_of
from everfit.errors import ModelUnusable
from everfit.observe.options import Kind

FILE = "model.onnx"
_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


def is_onnx(model: Any) -> bool:
    """Whether a trainer returned an ONNX model, or the path of one.

    >>> is_onnx("model.onnx"), is_onnx("mlruns/1")
    (True, False)
    """
    if isinstance(model, str | os.PathLike):
        return Path(model).suffix == ".onnx"
    return type(model).__name__ == "ModelProto" and hasattr(model, "SerializeToString")


def write_onnx(model: Any, folder: Path, meta: Meta) -> None:
    """Write an ONNX model into a model's folder, and see that it can be asked.

    Raises:
        ModelUnusable: the file is not there, or its inputs are not our features.
    """
    if isinstance(model, str | os.PathLike):
        if not Path(model).is_file():
            raise ModelUnusable(f"the trainer returned the path {model}, and no file is there")
        (folder / FILE).write_bytes(Path(model).read_bytes())
    else:
        (folder / FILE).write_bytes(model.SerializeToString())
    OnnxModel(folder, meta)


class OnnxModel:
    """One session with one thread. `form`, `score` and `quick` are as those of `matrix.Folded`."""

    form = "ONNX by onnxruntime"

    def __init__(self, folder: Path, meta: Meta) -> None:
        """Open `model.onnx` of a model's folder.

        Raises:
            ModelUnusable: onnxruntime is missing, or the model's inputs are not our features.
        """
        try:
            import onnxruntime  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ModelUnusable(f"an ONNX model needs the extra: pip install 'everfit[onnx]' ({error})") from error
        onnxruntime.disable_telemetry_events()  # the official build for Windows reports by default
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._meta = meta
        self._session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])
        self._inputs = self._session.get_inputs()
        self._whole = self._takes_a_matrix()
        self._plain = _Places(meta)

    def _takes_a_matrix(self) -> bool:
        names = [column.name for column in self._meta.features]
        told = {each.name: each.type for each in self._inputs}
        strange = [f"{name} is {kind}" for name, kind in told.items() if kind not in _DTYPES]
        numbers = {Kind.NUMBER, Kind.FLAG} >= {column.kind for column in self._meta.features}
        if not strange and sorted(told) == sorted(names):
            return False
        if not strange and len(told) == 1 and numbers and self._inputs[0].shape[-1] in (len(names), None):
            return True
        raise ModelUnusable(
            f"the ONNX model takes {', '.join(told)}; it must take one input for each feature, by name "
            f"({', '.join(names[:8])}), or one matrix where all features are numbers"
            + (f"; {strange[0]}, which is not taken" if strange else "")
        )

    def score(self, rows: pl.DataFrame) -> Floats:
        """Scores of rows as `Framing.typed` gives them, shape (rows, classes) or (rows, 1).

        Raises:
            ModelUnusable: it cannot score them.
        """
        return self.quick(*plain_values(rows, self._meta))

    def quick(self, numbers: Floats, texts: Sequence[Sequence[str | None]], moments: Floats) -> Floats:
        """Scores of plain values. Raises as `score`."""
        fed = self._plain.columns(numbers, texts, moments)
        if self._whole:
            only = self._inputs[0]
            whole = np.column_stack([fed[column.name] for column in self._meta.features])
            feed = {only.name: whole.astype(_DTYPES[only.type])}
        else:
            feed = {each.name: _typed(fed[each.name], each) for each in self._inputs}
        return scores_of(_Asked(self._session, feed, self._meta), range(len(numbers)), self._meta)


class _Places:
    # Where each feature is among plain values.
    def __init__(self, meta: Meta) -> None:
        named = {kind: [each.name for each in meta.features if each.kind is kind] for kind in Kind}
        self._numbers = [*named[Kind.NUMBER], *named[Kind.FLAG]]
        self._texts, self._moments = named[Kind.CATEGORY], named[Kind.MOMENT]

    def columns(
        self, numbers: Floats, texts: Sequence[Sequence[str | None]], moments: Floats
    ) -> dict[str, np.ndarray[Any, Any]]:
        found: dict[str, np.ndarray[Any, Any]] = {name: numbers[:, at] for at, name in enumerate(self._numbers)}
        found |= {name: moments[:, at] for at, name in enumerate(self._moments)}
        # ONNX has no missing text: a missing category is the empty one, as for exporters of scikit-learn.
        found |= {
            name: np.array([text or "" for text in texts[at]], dtype=object) for at, name in enumerate(self._texts)
        }
        return found


class _Asked:
    """The answer to one question, as `scores_of` asks models."""

    def __init__(self, session: Any, feed: Mapping[str, Any], meta: Meta) -> None:
        self._session, self._feed, self._meta = session, feed, meta

    def predict(self, _: Any) -> Any:
        """The first output: values, or classes."""
        return self._session.run(None, self._feed)[0]

    def predict_proba(self, _: Any) -> Any:
        """The output with a chance for each class, if there is one; else the classes."""
        told = self._session.run(None, self._feed)
        for output in told:
            if isinstance(output, list) and output and isinstance(output[0], dict):
                return pl.DataFrame([{class_text(name): chance for name, chance in row.items()} for row in output])
            if getattr(output, "ndim", 0) == 2 and output.dtype.kind == "f" and output.shape[1] > 1:
                return output
        return told[0]


def _typed(column: np.ndarray[Any, Any], told: Any) -> np.ndarray[Any, Any]:
    dtype = _DTYPES[told.type]
    made = column.reshape(-1, 1) if len(told.shape) == 2 else column
    if np.issubdtype(dtype, np.integer) and np.isnan(made).any():
        raise ModelUnusable(f"feature {told.name!r} is missing, and the model takes whole numbers")
    return made.astype(dtype)
