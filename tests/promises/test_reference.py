"""The reference says what the code does: nothing is missing from it, and nothing in it is made up."""

from __future__ import annotations

import re

import pytest

import everfit
from everfit.detect.performance import METRICS
from everfit.facts import FACTS
from everfit.lifecycle import MOVES, diagram
from tests.promises.pages import DOCS, ROOT, generator

REFERENCE = DOCS / "reference"


def first_cells(page: str) -> set[str]:
    """What stands as code in the first column of a page's tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", (REFERENCE / page).read_text(encoding="utf-8"), re.MULTILINE))


def headings(page: str) -> set[str]:
    return set(re.findall(r"^## (.+)$", (REFERENCE / page).read_text(encoding="utf-8"), re.MULTILINE))


def test_pages_are_fresh() -> None:
    assert generator().stale() == [], "run `make docs`"


def test_exported_names_can_be_imported_and_nothing_else_is_promised() -> None:
    for name in everfit.__all__:
        assert getattr(everfit, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = everfit.nothing_like_this


def test_every_key_of_the_spec_is_there_and_no_other() -> None:
    keys = {row[0] for row in generator().spec_rows()}
    assert {"model", "triggers[].performance.drop", "judge.limits.latency_p99", "train.with"} <= keys
    assert first_cells("spec.md") == keys


def test_every_command_is_there_and_no_other() -> None:
    assert headings("cli.md") == {f"everfit {name}" for name in generator().commands()}


def test_every_fact_is_there_and_no_other() -> None:
    assert headings("ledger.md") == set(FACTS)


def test_every_setting_is_there_and_no_other() -> None:
    source = (ROOT / "src/everfit/settings.py").read_text(encoding="utf-8")
    read = {name if name != "EVERFIT_LAKE_" else "EVERFIT_LAKE_*" for name in re.findall(r'"(EVERFIT_\w+)"', source)}
    assert first_cells("settings.md") == read


def test_every_metric_is_there_and_no_other() -> None:
    assert first_cells("metrics.md") == set(METRICS)


def test_every_address_is_there_with_its_meaning_and_no_other() -> None:
    assert set(generator().ROUTES) == set(generator().routes())


def test_every_counter_is_there_and_no_other() -> None:
    counters = {name for name, _ in generator().counters()}
    assert counters
    assert {name for name in first_cells("http.md") if " " not in name} == counters


def test_the_diagram_is_the_table() -> None:
    page = (REFERENCE / "lifecycle.md").read_text(encoding="utf-8")
    assert diagram() in page
    drawn = set(re.findall(r"^    (\w+) --> (\w+): (\w+)$", page, re.MULTILINE))
    assert drawn == {(str(state), str(to), str(move)) for (state, move), to in MOVES.items()}
