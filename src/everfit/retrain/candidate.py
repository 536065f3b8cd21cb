"""A trained model that nobody trusts yet.

Takes nothing; gives the record; never loads a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from everfit.ids import content_key
from everfit.observe.schema import Schema


@dataclass(frozen=True, slots=True)
class ModelFile:
    """Where the bytes of a model are, and that they are the ones that were judged."""

    key: str  # content key of the folder
    format: str  # "skops", "cloudpickle", "onnx" or "mlflow"
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained model with all that is needed to serve it and to say where it came from."""

    recipe: str
    file: ModelFile
    task: str
    schema: Schema  # the features it takes, in order
    classes: tuple[str, ...]  # the order of its scores; empty for regression
    positive: str | None  # the class whose score is shown for binary tasks
    trained_until: datetime
    train_rows: int

    @property
    def id(self) -> str:
        """The candidate's name: its content."""
        return content_key("candidate", self.recipe, self.file.key)
