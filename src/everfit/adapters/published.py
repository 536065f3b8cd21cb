"""What a server elsewhere must know of a published model beside its files: whose it is, and how its events are named.

Takes a model's name, rules and candidate; gives `published.json` in the model's folder; never holds anything else of
the spec, which may name channels with secrets.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from everfit.errors import ModelUnusable
from everfit.ids import issued_id
from everfit.observe.intake import Rules

FILE = "published.json"


@dataclass(frozen=True, slots=True)
class Published:
    """A published model as its server knows it."""

    model: str
    rules: Rules  # how events name their id and time
    key: str | None = None  # the column whose values stay with one model, for whoever shares out the traffic
    candidate: str = ""  # whose answers these are
    version: int = 0

    def of(self, candidate: str, version: int) -> Published:
        """The same model's other candidate."""
        return replace(self, candidate=candidate, version=version)


def write_published(folder: Path, told: Published) -> None:
    """Write it into a published folder, at once or not at all."""
    rules = asdict(told.rules) | {"ahead_at_most": told.rules.ahead_at_most.total_seconds()}
    fresh = folder / f".{FILE}.{issued_id()}"
    fresh.write_text(json.dumps({**asdict(told), "rules": rules}, indent=1, sort_keys=True) + "\n")
    fresh.replace(folder / FILE)


def read_published(folder: Path) -> Published:
    """Read what `write_published` wrote.

    >>> import tempfile
    >>> told = Published("delay", Rules("binary", "late", "at", "flight"), None, "c1", 3)
    >>> with tempfile.TemporaryDirectory() as name:
    ...     write_published(Path(name), told)
    ...     read_published(Path(name)) == told
    True

    Raises:
        ModelUnusable: the file is not there, or not one of ours.
    """
    try:
        told: dict[str, Any] = json.loads((folder / FILE).read_bytes())
        rules = told.pop("rules")
        ahead, classes = timedelta(seconds=rules.pop("ahead_at_most")), tuple(rules.pop("classes"))
        return Published(rules=Rules(**rules, ahead_at_most=ahead, classes=classes), **told)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnusable(
            f"{folder / FILE} cannot be read ({error}); give the folder that Everfit published to the gateway"
        ) from error
